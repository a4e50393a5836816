//! Which shards a replica should take or give up: fair within one, by as few moves as possible. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::router::ShardId;

/// What a replica knows of all replicas and shards. Views may differ for a moment; leases decide then.
pub(crate) struct View<'a> {
    /// Every shard.
    pub(crate) shards: Vec<ShardId>,
    /// The replicas that live.
    pub(crate) members: BTreeSet<&'a str>,
    /// Who owns what.
    pub(crate) owners: BTreeMap<ShardId, &'a str>,
}

/// What to do next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Shards nobody owns that fall to this replica.
    pub(crate) take: Vec<ShardId>,
    /// A shard to hand over, because this replica owns two more than another.
    pub(crate) give: Option<ShardId>,
}

impl<'a> View<'a> {
    /// Decides for `me`. Replicas with the same view never want the same shard.
    pub(crate) fn moves(&self, me: &'a str) -> Moves {
        let mut counts = self.counts(me);
        let free: Vec<ShardId> =
            self.shards.iter().copied().filter(|shard| !self.owners.contains_key(shard)).collect();
        if free.is_empty() {
            return Moves { take: Vec::new(), give: self.surplus(me, &counts) };
        }
        let mut take = Vec::new();
        for shard in free {
            let Some(member) = poorest(&counts) else { break };
            *counts.entry(member).or_default() += 1;
            if member == me {
                take.push(shard);
            }
        }
        Moves { take, give: None }
    }

    fn counts(&self, me: &'a str) -> BTreeMap<&'a str, usize> {
        let members = self.members.iter().copied().chain([me]);
        let mut counts: BTreeMap<&str, usize> = members.map(|member| (member, 0)).collect();
        // An owner that is no member any more is on its way out: what it still owns is nobody's share.
        for owner in self.owners.values() {
            counts.entry(*owner).and_modify(|count| *count += 1);
        }
        counts
    }

    /// Only the first of the richest gives, and only what evens out: so nothing moves to and fro.
    fn surplus(&self, me: &str, counts: &BTreeMap<&str, usize>) -> Option<ShardId> {
        let most = counts.values().copied().max()?;
        let least = counts.values().copied().min()?;
        let first = counts.iter().find(|(_, count)| **count == most).map(|(member, _)| *member)?;
        if most < least + 2 || first != me {
            return None;
        }
        self.owners.iter().rev().find(|(_, owner)| **owner == me).map(|(shard, _)| *shard)
    }
}

fn poorest<'a>(counts: &BTreeMap<&'a str, usize>) -> Option<&'a str> {
    counts.iter().min_by_key(|(member, count)| (**count, **member)).map(|(member, _)| *member)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shards(count: u16) -> Vec<ShardId> {
        (0..count).map(ShardId::of).collect()
    }

    /// Lets every replica act once on the same view, as in one round of looks.
    fn round(
        count: u16,
        members: &BTreeSet<&'static str>,
        owners: &mut BTreeMap<ShardId, &'static str>,
    ) -> usize {
        let mut moved = 0;
        let decided: Vec<_> = members
            .iter()
            .map(|me| {
                let view = View { shards: shards(count), members: members.clone(), owners: owners.clone() };
                (*me, view.moves(me))
            })
            .collect();
        for (me, moves) in decided {
            for shard in moves.take {
                assert_eq!(owners.insert(shard, me), None, "two replicas want {shard}");
                moved += 1;
            }
            if let Some(shard) = moves.give {
                assert_eq!(owners.remove(&shard), Some(me), "only what is owned is given");
            }
        }
        moved
    }

    fn spread(members: &BTreeSet<&'static str>, owners: &BTreeMap<ShardId, &'static str>) -> (usize, usize) {
        let count = |member: &&str| owners.values().filter(|owner| *owner == member).count();
        let counts: Vec<usize> = members.iter().map(count).collect();
        (counts.iter().copied().min().unwrap_or(0), counts.iter().copied().max().unwrap_or(0))
    }

    #[test]
    fn the_first_replica_takes_all_and_gives_half_to_the_second() {
        let mut owners = BTreeMap::new();
        assert_eq!(round(4, &["a"].into(), &mut owners), 4);
        let both = ["a", "b"].into();
        let moved: usize = (0..8).map(|_| round(4, &both, &mut owners)).sum();
        assert_eq!((moved, spread(&both, &owners)), (2, (2, 2)));
    }

    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

    proptest! {
        #[test]
        fn any_spread_becomes_fair_by_the_fewest_moves_and_then_rests(
            count in 1_u16..24,
            living in proptest::collection::btree_set(0_usize..5, 1..5),
            before in proptest::collection::vec(proptest::option::of(0_usize..5), 24),
        ) {
            let members: BTreeSet<&'static str> = living.iter().map(|at| NAMES[*at]).collect();
            let held = shards(count).into_iter().zip(&before);
            // The dead own nothing any more: their leases have expired.
            let mut owners: BTreeMap<ShardId, &'static str> = held
                .filter_map(|(shard, owner)| Some((shard, NAMES[(*owner)?])))
                .filter(|(_, owner)| members.contains(owner))
                .collect();
            let stay = owners.clone();
            for _ in 0..100 {
                round(count, &members, &mut owners);
            }
            prop_assert_eq!(owners.len(), usize::from(count), "every shard has an owner");
            let (least, most) = spread(&members, &owners);
            prop_assert!(most - least <= 1, "{:?}", owners);
            prop_assert_eq!(round(count, &members, &mut owners), 0, "what is fair stays as it is");
            let moved = stay.iter().filter(|(shard, owner)| owners.get(shard) != Some(owner)).count();
            let fair = usize::from(count).div_ceil(members.len());
            let over: usize = members
                .iter()
                .map(|member| stay.values().filter(|owner| *owner == member).count().saturating_sub(fair))
                .sum();
            prop_assert!(moved <= over + members.len(), "{moved} moves where {over} shards were too many");
        }
    }
}

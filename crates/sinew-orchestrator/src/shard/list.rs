//! Lists of instances. What lives is shown from memory, what is parked is read back: only as much of it as is listed.

use std::{cmp::Reverse, collections::BTreeMap};

use futures::{StreamExt, stream};
use sinew::workflow::WorkflowInstance;
use sinew_workflow::{State, Status, Timestamp};

use super::{
    Answer, Reply, Shard, World,
    wake::{Fetched, fetch},
};
use crate::{id::Id, journal::Journal, record, view};

/// Candidates for a list that are kept beside those it has room for.
const SOME: usize = 1_024;
/// Records read at once for one list.
const READS: usize = 8;

/// A list being drawn.
pub(super) struct Listing {
    found: Vec<WorkflowInstance>,
    limit: usize,
    reply: Reply,
}

/// Where something to be listed is.
enum Found<'a> {
    Live(&'a State),
    Parked(&'a Id, u64),
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Lists what is asked for, the newest first; only what is listed is drawn.
    pub(super) fn list(&mut self, name: &str, status: Option<&str>, limit: usize, reply: Reply) {
        let status = match status.map(view::status) {
            None => None,
            Some(Some(status)) => Some(status),
            Some(None) => return self.answer(reply, Ok(Answer::List(Vec::new()))),
        };
        let wanted = self.wanted(name, status, limit);
        let word = status.map(|status| status.to_string());
        let ended = self.recent.shown().filter(|ended| {
            (name.is_empty() || ended.name == name) && word.as_ref().is_none_or(|word| ended.status == *word)
        });
        // The newest come first, and no more of them than are asked for are read.
        let ended = ended.take(limit).filter_map(|ended| ended.instance());
        let mut found: Vec<_> = ended.map(view::summary).collect();
        let mut parked: BTreeMap<u64, Vec<Id>> = BTreeMap::new();
        for (_, one) in wanted {
            match one {
                Found::Live(state) => found.push(view::outline(state)),
                Found::Parked(id, sequence) => parked.entry(sequence).or_default().push(id.clone()),
            }
        }
        let listing = Listing { found, limit, reply };
        if parked.is_empty() {
            return self.answer_list(listing);
        }
        let journal = self.journal.clone();
        self.waking
            .read(Box::pin(async move { Fetched::List(Box::new(listing.with(&journal, parked).await)) }));
    }

    pub(super) fn answer_list(&mut self, listing: Listing) {
        let Listing { mut found, limit, reply } = listing;
        found.sort_by_key(|instance| Reverse(instance.started_ms));
        found.truncate(limit);
        self.answer(reply, Ok(Answer::List(found)));
    }

    /// Finds the newest of those that are wanted, in no order.
    fn wanted(
        &self,
        name: &str,
        status: Option<Status>,
        limit: usize,
    ) -> Vec<(Option<Timestamp>, Found<'_>)> {
        let is_wanted = |workflow: &str, is: Status| {
            (name.is_empty() || workflow == name) && status.is_none_or(|status| is == status)
        };
        let live = self.live.values().map(|live| &live.state);
        let live = live.filter(|state| is_wanted(&state.workflow().name, state.status()));
        let parked = self.parked.iter();
        let parked = parked.filter(|(_, spot)| is_wanted(self.parked.workflow(spot), spot.status));
        let live = live.map(|state| (state.started_at(), Found::Live(state)));
        let all = live.chain(parked.map(|(id, spot)| (Some(spot.started), Found::Parked(id, spot.sequence))));
        let mut newest = Vec::new();
        for one in all {
            newest.push(one);
            // There may be a million, of which few are listed.
            if newest.len() >= 2 * limit + SOME {
                keep_newest(&mut newest, limit);
            }
        }
        keep_newest(&mut newest, limit);
        newest
    }
}

fn keep_newest(found: &mut Vec<(Option<Timestamp>, Found<'_>)>, limit: usize) {
    if found.len() > limit && limit > 0 {
        found.select_nth_unstable_by_key(limit - 1, |(started, _)| Reverse(*started));
    }
    found.truncate(limit);
}

impl Listing {
    /// Reads those who are parked. One that has gone on meanwhile is listed as it was, unless that is gone.
    async fn with<J: Journal>(mut self, journal: &J, parked: BTreeMap<u64, Vec<Id>>) -> Self {
        let reads = parked.into_iter().map(async |(sequence, ids)| (fetch(journal, sequence).await, ids));
        let mut reads = stream::iter(reads).buffer_unordered(READS);
        while let Some((record, ids)) = reads.next().await {
            let items = record.and_then(|record| record::parked_in(&record).ok()).unwrap_or_default();
            let wanted = items.iter().filter(|item| ids.contains(&Id::of(&item.id)));
            let states = wanted.filter_map(|item| item.parked().and_then(|parked| parked.state()).ok());
            self.found.extend(states.map(|state| view::outline(&state)));
        }
        self
    }
}

//! Who listens for what: from an event to the tasks it may concern, without looking at the others. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::Value;
use sinew::wire::Subject;
use sinew_workflow::{TaskId, Wanted};

use super::Listener;
use crate::calls::unversioned;

/// Subjects beyond which everything is read.
const MAX_SUBJECTS: usize = 64;
/// All events.
const ALL: &str = "evt.>";

/// A task of an instance.
pub(super) type Key = (Arc<str>, TaskId);

/// A task that listens, and from where on.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) attempt: u32,
    pub(super) wanted: Vec<Wanted>,
    /// Events up to this sequence do not count.
    pub(super) after: u64,
    /// Nor do those stored before this moment.
    pub(super) from_ms: i64,
}

/// All that listen, found by the most telling thing they want of an event.
#[derive(Debug, Default)]
pub(super) struct Index {
    ears: BTreeMap<Key, Ear>,
    /// The name of what is looked at, its value, and who wants that.
    by: BTreeMap<String, HashMap<String, BTreeSet<Key>>>,
    /// Those who say nothing that could be looked up.
    any: BTreeSet<Key>,
    subjects: BTreeMap<String, usize>,
}

impl Index {
    pub(super) fn insert(&mut self, listener: Listener, (after, from_ms): (u64, i64)) -> Key {
        let Listener { id, task, attempt, wanted, .. } = listener;
        let key: Key = (id.into(), task);
        self.remove(&key);
        for wanted in &wanted {
            match telling(wanted) {
                Some((name, value)) => {
                    let values = self.by.entry(name.to_owned()).or_default();
                    values.entry(value.to_owned()).or_default().insert(key.clone());
                }
                None => drop(self.any.insert(key.clone())),
            }
        }
        if wanted.is_empty() {
            self.any.insert(key.clone());
        }
        for subject in subjects(&wanted) {
            *self.subjects.entry(subject).or_default() += 1;
        }
        self.ears.insert(key.clone(), Ear { attempt, wanted, after, from_ms });
        key
    }

    pub(super) fn remove(&mut self, key: &Key) {
        let Some(ear) = self.ears.remove(key) else { return };
        self.any.remove(key);
        for (name, value) in ear.wanted.iter().filter_map(telling) {
            let Some(values) = self.by.get_mut(name) else { continue };
            if let Some(keys) = values.get_mut(value) {
                keys.remove(key);
                if keys.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.by.remove(name);
            }
        }
        for subject in subjects(&ear.wanted) {
            if let Some(count) = self.subjects.get_mut(&subject) {
                *count -= 1;
                if *count == 0 {
                    self.subjects.remove(&subject);
                }
            }
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Ear> {
        self.ears.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Ear> {
        self.ears.get_mut(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ears.is_empty()
    }

    /// Finds the tasks an event may concern.
    pub(super) fn interested(&self, event: &Value) -> BTreeSet<&Key> {
        let mut keys: BTreeSet<&Key> = self.any.iter().collect();
        for (name, values) in &self.by {
            let found = Wanted::found(name, event);
            keys.extend(found.and_then(|found| values.get(&*found)).into_iter().flatten());
        }
        keys.retain(|key| self.ears.get(*key).is_some_and(|ear| ear.fits(event)));
        keys
    }

    /// Returns the subjects to read, none of which overlaps another.
    pub(super) fn subjects(&self) -> BTreeSet<String> {
        if self.subjects.contains_key(ALL) || self.subjects.len() > MAX_SUBJECTS {
            return BTreeSet::from([ALL.to_owned()]);
        }
        self.subjects.keys().cloned().collect()
    }
}

impl Ear {
    fn fits(&self, event: &Value) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted.fits(event))
    }
}

/// Returns the subjects on which events may stand that have what is wanted.
///
/// Version 1 of `orders.placed` is published on `evt.orders.placed`: a fixed type names one subject, anything else all.
pub(crate) fn subjects(wanted: &[Wanted]) -> BTreeSet<String> {
    let subject = |wanted: &Wanted| {
        let kind = wanted.0.get("type")?;
        Subject::event(unversioned(kind)).ok().map(|subject| subject.as_str().to_owned())
    };
    let named: Option<BTreeSet<String>> = wanted.iter().map(subject).collect();
    match named {
        Some(named) if !named.is_empty() => named,
        _ => BTreeSet::from([ALL.to_owned()]),
    }
}

/// Returns what tells most about an event: a correlation key, what it is about, where it comes from, its type.
fn telling(wanted: &Wanted) -> Option<(&str, &str)> {
    let rank = |name: &str| match name {
        _ if name.starts_with('.') => 0,
        "id" => 1,
        "subject" => 2,
        "type" => 4,
        "source" => 5,
        _ => 3,
    };
    let best = wanted.0.iter().min_by_key(|(name, _)| rank(name))?;
    Some((best.0, best.1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;
    use sinew_workflow::Since;

    use super::*;

    fn listener(id: usize, wanted: &[&[(&str, &str)]]) -> Listener {
        let wanted = wanted.iter().map(|fields| {
            Wanted(fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
        });
        let (id, wanted) = (format!("i-{id}"), wanted.collect());
        Listener { id, task: TaskId::WORKFLOW, attempt: 1, wanted, since: Since::default(), last: None }
    }

    #[test]
    fn a_correlated_event_finds_one_among_a_thousand() {
        let mut index = Index::default();
        for number in 0..1_000 {
            let order = format!("o-{number}");
            let wanted: &[(&str, &str)] = &[("type", "paid.v1"), (".data.order", &order)];
            index.insert(listener(number, &[wanted]), (0, 0));
        }
        let event = json!({ "type": "paid.v1", "data": { "order": "o-77" } });
        let found: Vec<_> = index.interested(&event).into_iter().map(|key| key.0.to_string()).collect();
        assert_eq!(found, ["i-77"]);
        assert_eq!(index.subjects(), BTreeSet::from(["evt.paid".to_owned()]));
        assert_eq!(index.by.len(), 1, "nobody is looked up by the type all of them share");
    }

    #[test]
    fn what_is_not_fixed_is_read_from_everywhere() {
        let mut index = Index::default();
        index.insert(listener(0, &[&[("type", "a")]]), (0, 0));
        let key = index.insert(listener(1, &[&[("source", "/x")]]), (0, 0));
        assert_eq!(index.subjects(), BTreeSet::from([ALL.to_owned()]));
        index.remove(&key);
        assert_eq!(index.subjects(), BTreeSet::from(["evt.a".to_owned()]));
        assert!(index.by.len() == 1 && index.any.is_empty());
    }

    proptest! {
        #[test]
        fn the_index_finds_whom_looking_at_all_would_find(
            listeners in proptest::collection::vec(
                proptest::collection::vec(
                    proptest::collection::btree_map("[ts]|\\.d\\.[ab]", "[xy]", 0..3), 0..3), 0..12),
            gone in proptest::collection::vec(any::<bool>(), 12),
            event in proptest::collection::btree_map("[ts]", "[xyz]", 0..3),
            data in proptest::collection::btree_map("[ab]", "[xyz]", 0..3),
        ) {
            let mut index = Index::default();
            let mut plain = BTreeMap::new();
            for (number, wanted) in listeners.iter().enumerate() {
                let wanted: Vec<Wanted> = wanted.iter().cloned().map(Wanted).collect();
                let one = Listener { wanted: wanted.clone(), ..listener(number, &[]) };
                let key = index.insert(one, (0, 0));
                if gone[number] { index.remove(&key) } else { drop(plain.insert(key, wanted)) }
            }
            let mut event = json!(event);
            event["d"] = json!(data);
            let found: Vec<_> = index.interested(&event).into_iter().cloned().collect();
            let fits = |wanted: &Vec<Wanted>| wanted.is_empty() || wanted.iter().any(|one| one.fits(&event));
            let expected: Vec<_> = plain.into_iter().filter(|(_, wanted)| fits(wanted)).map(|(key, _)| key).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(index.is_empty(), index.by.is_empty() && index.any.is_empty());
        }
    }
}

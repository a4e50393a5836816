//! Who listens for what: from an event to the tasks it may concern, without looking at the others. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::Value;
use sinew::wire::Subject;
use sinew_workflow::{TaskId, Wanted};

use super::Listener;
use crate::{calls::unversioned, id::Id};

/// Subjects beyond which everything is read.
const MAX_SUBJECTS: usize = 64;
/// Shared values beyond which it is looked which of them are still wanted.
const SHARED: usize = 64;
/// All events.
const ALL: &str = "evt.>";

/// A task of an instance.
pub(crate) type Key = (Id, TaskId);

/// A task that listens, and from where on. There may be a million of them.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) attempt: u32,
    /// What is wanted; empty where that is anything.
    wants: Box<[Want]>,
    /// Events up to this sequence do not count.
    pub(super) after: u64,
    /// Nor do those stored before this moment.
    pub(super) from_ms: i64,
}

/// One thing that is wanted of an event.
#[derive(Debug)]
struct Want {
    /// What is looked at, by its number.
    name: u32,
    /// Which alternative it is a part of: all of one must be there. In ascending order.
    part_of: u32,
    value: Arc<str>,
}

/// All that listen, found by the most telling thing they want of an event.
#[derive(Debug, Default)]
pub(super) struct Index {
    ears: HashMap<Key, Ear>,
    names: Names,
    /// The number of what is looked at, its value, and who wants that.
    by: BTreeMap<u32, HashMap<Arc<str>, Who>>,
    /// Those who say nothing that could be looked up.
    any: BTreeSet<Key>,
    subjects: BTreeMap<String, usize>,
}

/// What is looked at in events. Those are few: they come from the texts of workflows.
#[derive(Debug, Default)]
struct Names {
    names: Vec<Arc<str>>,
    /// Values that many want.
    shared: BTreeSet<Arc<str>>,
    /// How many of them were in use when it was last looked.
    used: usize,
}

/// Those who want the same: mostly it is one.
#[derive(Debug)]
enum Who {
    One(Key),
    Many(BTreeSet<Key>),
}

impl Index {
    pub(super) fn insert(&mut self, listener: Listener, (after, from_ms): (u64, i64)) -> Key {
        let Listener { id, task, attempt, wanted, .. } = listener;
        let key: Key = (Id::of(&id), task);
        self.remove(&key);
        let wants = self.names.wants(&wanted);
        for telling in self.names.telling(&wants) {
            let values = self.by.entry(telling.name).or_default();
            match values.get_mut(&telling.value) {
                Some(who) => who.insert(key.clone()),
                None => drop(values.insert(telling.value.clone(), Who::One(key.clone()))),
            }
        }
        if wants.is_empty() {
            self.any.insert(key.clone());
        }
        for subject in self.names.subjects(&wants) {
            *self.subjects.entry(subject).or_default() += 1;
        }
        self.ears.insert(key.clone(), Ear { attempt, wants, after, from_ms });
        key
    }

    pub(super) fn remove(&mut self, key: &Key) {
        let Some(ear) = self.ears.remove(key) else { return };
        self.any.remove(key);
        for telling in self.names.telling(&ear.wants) {
            let Some(values) = self.by.get_mut(&telling.name) else { continue };
            if values.get_mut(&telling.value).is_some_and(|who| who.remove(key)) {
                values.remove(&telling.value);
            }
            if values.is_empty() {
                self.by.remove(&telling.name);
            }
        }
        for subject in self.names.subjects(&ear.wants) {
            if let Some(count) = self.subjects.get_mut(&subject) {
                *count -= 1;
                if *count == 0 {
                    self.subjects.remove(&subject);
                }
            }
        }
        if self.ears.is_empty() {
            *self = Self::default();
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
            let found = Wanted::found(self.names.get(*name), event);
            match found.and_then(|found| values.get(&*found)) {
                Some(Who::One(key)) => drop(keys.insert(key)),
                Some(Who::Many(many)) => keys.extend(many.iter()),
                None => {}
            }
        }
        keys.retain(|key| self.ears.get(*key).is_some_and(|ear| self.names.fit(&ear.wants, event)));
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

impl Names {
    fn get(&self, name: u32) -> &str {
        usize::try_from(name).ok().and_then(|at| self.names.get(at)).map_or("", |name| name)
    }

    /// Puts down what is wanted in little room.
    fn wants(&mut self, wanted: &[Wanted]) -> Box<[Want]> {
        if wanted.iter().any(|one| one.0.is_empty()) {
            return Box::default();
        }
        let mut wants = Vec::with_capacity(wanted.iter().map(|one| one.0.len()).sum());
        for (part_of, one) in (0..).zip(wanted) {
            for (name, value) in &one.0 {
                let value = self.value(name, value);
                wants.push(Want { name: self.number(name), part_of, value });
            }
        }
        wants.into()
    }

    fn number(&mut self, name: &str) -> u32 {
        let known = self.names.iter().position(|known| **known == *name);
        let at = known.unwrap_or_else(|| {
            self.names.push(name.into());
            self.names.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// Keeps types and sources once, however many want them.
    fn value(&mut self, name: &str, value: &str) -> Arc<str> {
        if rank(name) < 4 {
            return value.into();
        }
        if let Some(known) = self.shared.get(value) {
            return known.clone();
        }
        if self.shared.len() >= SHARED.max(2 * self.used) {
            self.shared.retain(|value| Arc::strong_count(value) > 1);
            self.used = self.shared.len();
        }
        let new: Arc<str> = value.into();
        self.shared.insert(new.clone());
        new
    }

    /// Returns what tells most about each alternative: a correlation key, what it is about, where it comes from, its type.
    fn telling<'a>(&self, wants: &'a [Want]) -> impl Iterator<Item = &'a Want> {
        let parts = wants.chunk_by(|a, b| a.part_of == b.part_of);
        parts.filter_map(|part| part.iter().min_by_key(|want| rank(self.get(want.name))))
    }

    /// Says whether an event has all of an alternative.
    fn fit(&self, wants: &[Want], event: &Value) -> bool {
        let has =
            |want: &Want| Wanted::found(self.get(want.name), event).is_some_and(|found| found == *want.value);
        wants.is_empty() || wants.chunk_by(|a, b| a.part_of == b.part_of).any(|part| part.iter().all(has))
    }

    fn subjects(&self, wants: &[Want]) -> BTreeSet<String> {
        let parts = wants.chunk_by(|a, b| a.part_of == b.part_of);
        subjects_of(
            parts.map(|part| part.iter().find(|want| self.get(want.name) == "type").map(|want| &*want.value)),
        )
    }
}

impl Who {
    fn insert(&mut self, key: Key) {
        match self {
            Self::One(one) => *self = Self::Many(BTreeSet::from([one.clone(), key])),
            Self::Many(many) => drop(many.insert(key)),
        }
    }

    /// Removes one; says whether nobody is left.
    fn remove(&mut self, key: &Key) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Many(many) => {
                many.remove(key);
                many.is_empty()
            }
        }
    }
}

/// Returns the subjects on which events may stand that have what is wanted.
///
/// Version 1 of `orders.placed` is published on `evt.orders.placed`: a fixed type names one subject, anything else all.
pub(crate) fn subjects(wanted: &[Wanted]) -> BTreeSet<String> {
    subjects_of(wanted.iter().map(|wanted| wanted.0.get("type").map(String::as_str)))
}

/// Returns the subjects of the types that alternatives fix.
fn subjects_of<'a>(types: impl Iterator<Item = Option<&'a str>>) -> BTreeSet<String> {
    let subject = |kind: Option<&str>| {
        Subject::event(unversioned(kind?)).ok().map(|subject| subject.as_str().to_owned())
    };
    let named: Option<BTreeSet<String>> = types.map(subject).collect();
    match named {
        Some(named) if !named.is_empty() => named,
        _ => BTreeSet::from([ALL.to_owned()]),
    }
}

/// Orders what can be looked at in an event by how much it tells.
fn rank(name: &str) -> u8 {
    match name {
        _ if name.starts_with('.') => 0,
        "id" => 1,
        "subject" => 2,
        "type" => 4,
        "source" => 5,
        _ => 3,
    }
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

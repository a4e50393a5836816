//! A bucket as a watcher knows it: what stands, what went, and in which order that was learned. Pure.
//!
//! A reader names the newest version it has seen and gets what came after, so any number of them share one view, and a
//! slow one skips values that were overwritten meanwhile instead of piling them up.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::KvChange;

/// Keys that are gone and still remembered. Whoever falls behind by more compares what it was told.
const GONE: usize = 4_096;

/// What is known of a bucket.
#[derive(Debug, Default)]
pub(in crate::bus) struct View {
    keys: HashMap<String, Known>,
    /// Every key by the version of its newest change.
    order: BTreeMap<u64, String>,
    /// The same for keys that are gone.
    gone: BTreeSet<u64>,
    newest: u64,
    /// Up to this version keys that are gone may have been forgotten.
    forgotten: u64,
}

/// What is known of a key.
#[derive(Debug)]
struct Known {
    version: u64,
    /// Its sequence in the stream.
    revision: u64,
    /// `None` once it is gone.
    value: Option<Bytes>,
}

impl View {
    /// Learns what a key's newest revision is; `None` says that it is gone. Learning the same again changes nothing.
    pub(super) fn learn(&mut self, key: &str, revision: u64, value: Option<Bytes>) {
        if let Some(known) = self.keys.get(key) {
            if known.revision == revision && known.value == value {
                return;
            }
            self.order.remove(&known.version);
            self.gone.remove(&known.version);
        }
        self.newest += 1;
        let version = self.newest;
        if value.is_none() {
            self.gone.insert(version);
        }
        self.order.insert(version, key.to_owned());
        self.keys.insert(key.to_owned(), Known { version, revision, value });
        if self.gone.len() > GONE {
            self.forget();
        }
    }

    /// Learns that these keys, and no others, stand or are known to be gone.
    pub(super) fn only(&mut self, seen: &BTreeSet<String>) {
        let lost = self.keys.iter().filter(|(key, known)| known.value.is_some() && !seen.contains(*key));
        let lost: Vec<(String, u64)> = lost.map(|(key, known)| (key.clone(), known.revision)).collect();
        for (key, revision) in lost {
            self.learn(&key, revision, None);
        }
    }

    /// Returns the first change after version `seen`, and its version.
    pub(super) fn after(&self, seen: u64) -> Option<(u64, KvChange)> {
        let (version, key) = self.order.range(seen.checked_add(1)?..).next()?;
        let value = self.keys.get(key).and_then(|known| known.value.clone());
        let change = match value {
            Some(value) => KvChange::Put(key.clone(), value),
            None => KvChange::Gone(key.clone()),
        };
        Some((*version, change))
    }

    /// Returns those of `told` that are gone and forgotten, for a reader that has fallen behind.
    pub(super) fn missed(&self, seen: u64, told: &BTreeSet<String>) -> Vec<String> {
        if seen >= self.forgotten {
            return Vec::new();
        }
        told.iter().filter(|key| !self.keys.contains_key(*key)).cloned().collect()
    }

    fn forget(&mut self) {
        let Some(version) = self.gone.pop_first() else { return };
        self.forgotten = version;
        if let Some(key) = self.order.remove(&version) {
            self.keys.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A reader as `KvWatch` is one.
    #[derive(Default)]
    struct Reader {
        seen: u64,
        told: BTreeMap<String, Bytes>,
    }

    impl Reader {
        fn read(&mut self, view: &View, steps: usize) {
            for _ in 0..steps {
                let told = self.told.keys().cloned().collect();
                for key in view.missed(self.seen, &told) {
                    self.told.remove(&key);
                }
                let Some((version, change)) = view.after(self.seen) else { return };
                self.seen = version;
                match change {
                    KvChange::Put(key, value) => drop(self.told.insert(key, value)),
                    KvChange::Gone(key) => drop(self.told.remove(&key)),
                }
            }
        }
    }

    #[test]
    fn a_late_reader_gets_what_stands_and_what_is_said_twice_is_told_once() {
        let mut view = View::default();
        view.learn("a", 1, Some("1".into()));
        view.learn("b", 2, Some("2".into()));
        view.learn("a", 1, Some("1".into()));
        view.learn("b", 3, Some("3".into()));
        assert_eq!(view.after(0), Some((1, KvChange::Put("a".into(), "1".into()))));
        assert_eq!(view.after(1), Some((3, KvChange::Put("b".into(), "3".into()))));
        assert_eq!(view.after(3), None);
        view.only(&BTreeSet::from(["b".to_owned()]));
        assert_eq!(view.after(3), Some((4, KvChange::Gone("a".into()))));
    }

    #[test]
    fn keys_that_went_long_ago_are_forgotten_and_told_all_the_same() {
        let mut view = View::default();
        let mut reader = Reader::default();
        view.learn("first", 1, Some("1".into()));
        view.learn("stays", 2, Some("2".into()));
        reader.read(&view, 9);
        view.learn("first", 3, None);
        for revision in 4..10_000 {
            view.learn(&format!("k{revision}"), revision, None);
        }
        assert!(view.keys.len() <= GONE + 2 && view.order.len() == view.keys.len());
        reader.read(&view, usize::MAX);
        assert_eq!(reader.told.keys().collect::<Vec<_>>(), ["stays"]);
    }

    proptest! {
        #[test]
        fn every_reader_ends_with_what_stands(
            steps in prop::collection::vec((0usize..6, prop::option::of(0u8..3), 0usize..4, 0usize..3), 0..200),
        ) {
            let (mut view, mut stands) = (View::default(), BTreeMap::new());
            let mut readers: [Reader; 3] = Default::default();
            for (revision, (key, value, reads, reader)) in (1u64..).zip(steps) {
                let key = format!("k{key}");
                let value = value.map(|value| Bytes::from(vec![value]));
                view.learn(&key, revision, value.clone());
                match value {
                    Some(value) => drop(stands.insert(key, value)),
                    None => drop(stands.remove(&key)),
                }
                readers[reader].read(&view, reads);
            }
            for mut reader in readers {
                reader.read(&view, usize::MAX);
                prop_assert_eq!(&reader.told, &stands);
            }
        }
    }
}

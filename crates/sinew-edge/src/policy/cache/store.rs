//! Where responses are kept: found by key, let go by path or tag, and no more bytes of them than there may be.
//!
//! What was not used for longest makes room. One owner, no clock: the order of use is a number that is counted on.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use http::HeaderMap;

use super::entry::Entry;
use crate::policy::key::Digest;

/// Responses to one request that differ by the fields they vary by. The one that was put in first goes.
const VARIANTS: usize = 16;
/// So many times back is known what was let go of. What was asked for before that is not kept.
const REMEMBERED: usize = 4_096;

/// Responses, bounded by their bytes.
#[derive(Debug, Default)]
pub(super) struct Store {
    slots: HashMap<Digest, Slot>,
    /// Keys by when they were used last.
    order: BTreeMap<u64, Digest>,
    by_path: HashMap<Digest, HashSet<Digest>>,
    by_tag: HashMap<String, HashSet<Digest>>,
    used: u64,
    bytes: usize,
    limit: usize,
    /// How often something was let go of, and of what the last times.
    swept: u64,
    sweeps: VecDeque<Sweep>,
}

/// What is let go of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    All,
    Path(Digest),
    Tag(String),
}

/// What is kept for one key.
#[derive(Debug)]
struct Slot {
    path: Digest,
    used: u64,
    variants: Vec<Arc<Entry>>,
}

impl Store {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Returns the response such a request chooses, the newest of several.
    pub(super) fn find(&mut self, key: &Digest, asked: &HeaderMap) -> Option<Arc<Entry>> {
        let slot = self.slots.get_mut(key)?;
        let found = slot.variants.iter().rev().find(|entry| entry.selection.matches(asked))?.clone();
        self.order.remove(&slot.used);
        self.used += 1;
        slot.used = self.used;
        self.order.insert(self.used, *key);
        Some(found)
    }

    /// Keeps a response in the place of the one the same requests choose. One that is too large is not kept, nor one that may
    /// be what was let go of since: `since` is what [`Store::swept`] was when it was asked for.
    pub(super) fn put(&mut self, key: Digest, path: Digest, entry: Entry, since: u64) -> bool {
        let size = entry.size();
        if size > self.limit || self.is_swept(&path, &entry, since) {
            self.remove(&key);
            return false;
        }
        let mut slot = self.take(&key).unwrap_or_else(|| Slot { path, used: 0, variants: Vec::new() });
        slot.variants.retain(|kept| kept.selection != entry.selection);
        if slot.variants.len() >= VARIANTS {
            slot.variants.remove(0);
        }
        slot.variants.push(Arc::new(entry));
        self.used += 1;
        slot.used = self.used;
        self.give(key, slot);
        while self.bytes > self.limit {
            let Some(oldest) = self.order.first_key_value().map(|(_, key)| *key) else { break };
            self.remove(&oldest);
        }
        true
    }

    /// Lets go of what such a request chooses.
    pub(super) fn drop_chosen(&mut self, key: &Digest, asked: &HeaderMap) {
        let Some(mut slot) = self.take(key) else { return };
        slot.variants.retain(|entry| !entry.selection.matches(asked));
        if !slot.variants.is_empty() {
            self.give(*key, slot);
        }
    }

    /// Lets go of what is meant, also of what is being asked for; returns how many keys that were.
    pub(super) fn sweep(&mut self, sweep: Sweep) -> usize {
        let keys: Vec<Digest> = match &sweep {
            Sweep::All => self.slots.keys().copied().collect(),
            Sweep::Path(path) => self.by_path.get(path).into_iter().flatten().copied().collect(),
            Sweep::Tag(tag) => self.by_tag.get(tag).into_iter().flatten().copied().collect(),
        };
        keys.iter().for_each(|key| self.remove(key));
        self.swept += 1;
        if self.sweeps.len() >= REMEMBERED {
            self.sweeps.pop_front();
        }
        self.sweeps.push_back(sweep);
        keys.len()
    }

    /// Returns how often something was let go of.
    pub(super) fn swept(&self) -> u64 {
        self.swept
    }

    fn is_swept(&self, path: &Digest, entry: &Entry, since: u64) -> bool {
        let count = usize::try_from(self.swept - since).unwrap_or(usize::MAX);
        let concerns = |sweep: &Sweep| match sweep {
            Sweep::All => true,
            Sweep::Path(own) => own == path,
            Sweep::Tag(own) => entry.tags.contains(own),
        };
        count > self.sweeps.len() || self.sweeps.iter().rev().take(count).any(concerns)
    }

    fn remove(&mut self, key: &Digest) {
        self.take(key);
    }

    /// Takes a slot out, and everything that leads to it.
    fn take(&mut self, key: &Digest) -> Option<Slot> {
        let slot = self.slots.remove(key)?;
        self.order.remove(&slot.used);
        self.bytes -= slot.size();
        forget(&mut self.by_path, &slot.path, key);
        for tag in slot.variants.iter().flat_map(|entry| &entry.tags) {
            forget(&mut self.by_tag, tag, key);
        }
        Some(slot)
    }

    fn give(&mut self, key: Digest, slot: Slot) {
        self.bytes += slot.size();
        self.order.insert(slot.used, key);
        self.by_path.entry(slot.path).or_default().insert(key);
        for tag in slot.variants.iter().flat_map(|entry| &entry.tags) {
            self.by_tag.entry(tag.clone()).or_default().insert(key);
        }
        self.slots.insert(key, slot);
    }
}

impl Slot {
    fn size(&self) -> usize {
        self.variants.iter().map(|entry| entry.size()).sum()
    }
}

fn forget<K: Eq + std::hash::Hash>(index: &mut HashMap<K, HashSet<Digest>>, name: &K, key: &Digest) {
    if let Some(keys) = index.get_mut(name) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::policy::cache::{
        freshness::{Came, Life, Rules},
        vary::Selection,
    };

    fn entry(bytes: usize, tag: &str) -> Entry {
        let came = Came { at: jiff::Timestamp::UNIX_EPOCH, now: 0, delay: 0 };
        let rules = Rules { fresh: Some(1_000), ..Rules::default() };
        let (headers, none) = (HeaderMap::new(), HeaderMap::new());
        Entry {
            status: StatusCode::OK,
            life: Life::of(StatusCode::OK, &headers, &none, came, &rules).unwrap(),
            selection: Selection::default(),
            headers,
            body: Bytes::from(vec![0; bytes]),
            tags: vec![tag.to_owned()],
        }
    }

    fn key(number: u8) -> Digest {
        Digest::of(&[number])
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let none = HeaderMap::new();
        let mut store = Store::new(3 * entry(100, "t").size());
        for number in 0..3 {
            assert!(store.put(key(number), key(9), entry(100, "t"), 0));
        }
        assert!(store.find(&key(0), &none).is_some());
        store.put(key(3), key(9), entry(100, "t"), 0);
        let left: Vec<bool> = (0..4).map(|number| store.find(&key(number), &none).is_some()).collect();
        assert_eq!(left, [true, false, true, true]);
        assert!(!store.put(key(5), key(9), entry(10_000, "t"), 0), "one that is larger than all is not kept");
    }

    #[test]
    fn what_was_asked_for_before_something_was_let_go_of_is_not_kept_as_that() {
        let mut store = Store::new(100_000);
        let since = store.swept();
        store.sweep(Sweep::Tag("news".to_owned()));
        store.sweep(Sweep::Path(key(8)));
        assert!(!store.put(key(1), key(9), entry(1, "news"), since));
        assert!(!store.put(key(1), key(8), entry(1, "other"), since));
        assert!(store.put(key(1), key(9), entry(1, "other"), since));
        assert!(store.put(key(1), key(9), entry(1, "news"), store.swept()));
        for _ in 0..REMEMBERED {
            store.sweep(Sweep::Tag("x".to_owned()));
        }
        assert!(!store.put(key(1), key(9), entry(1, "other"), since), "too long ago to tell");
        let now = store.swept();
        store.sweep(Sweep::All);
        assert!(!store.put(key(1), key(9), entry(1, "other"), now));
    }

    proptest! {
        #[test]
        fn bytes_are_bounded_and_what_is_let_go_is_gone(
            steps in prop::collection::vec((0_u8..4, 0_u8..8, 0_usize..2_000), 0..80),
        ) {
            let mut store = Store::new(8_000);
            for (step, number, bytes) in steps {
                let tag = format!("t{}", number % 3);
                match step {
                    0 | 1 => drop(store.put(key(number), key(100 + number % 2), entry(bytes, &tag), store.swept())),
                    2 => {
                        store.sweep(Sweep::Tag(tag.clone()));
                        prop_assert!(!store.by_tag.contains_key(&tag));
                    }
                    _ => {
                        store.sweep(Sweep::Path(key(100 + number % 2)));
                        prop_assert!(!store.by_path.contains_key(&key(100 + number % 2)));
                    }
                }
                prop_assert!(store.bytes <= store.limit);
                prop_assert_eq!(store.bytes, store.slots.values().map(Slot::size).sum::<usize>());
                prop_assert_eq!(store.order.len(), store.slots.len());
            }
            store.sweep(Sweep::All);
            prop_assert!(store.slots.is_empty() && store.by_tag.is_empty() && store.order.is_empty());
        }
    }
}

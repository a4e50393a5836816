//! A short memory of what ended, so that a start that is repeated at that very moment is recognised.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use serde_json::Value;

use crate::{history::Finished, view};

/// Ended instances that are listed and shown without asking the history.
const SHOWN: usize = 1_000;
/// Ended instances whose repeated start is recognised. A start looks into the history before it comes here; between the
/// two an instance can end, and with it as many others as end in that time.
const RECOGNISED: usize = 100_000;

/// What ended lately.
#[derive(Default)]
pub(super) struct Recent {
    shown: HashMap<Arc<str>, Arc<Finished>>,
    order: VecDeque<Arc<str>>,
    /// How each was started, by the mark of its id: sixteen bytes for one, where there are many.
    started: HashMap<u64, u64>,
    marks: VecDeque<u64>,
    /// Keyed by chance, so that nobody can choose ids that have the same mark.
    mark: RandomState,
}

impl Recent {
    pub(super) fn push(&mut self, record: Arc<Finished>) {
        let (id, mark): (Arc<str>, _) = (record.id.as_str().into(), self.mark.hash_one(&*record.id));
        let start = start_digest(&record.name, record.input_digest);
        if self.started.insert(mark, start).is_none() {
            self.marks.push_back(mark);
        }
        if self.shown.insert(id.clone(), record).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > SHOWN {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.shown.remove(&oldest));
        }
        if self.marks.len() > RECOGNISED {
            let oldest = self.marks.pop_front();
            oldest.and_then(|oldest| self.started.remove(&oldest));
        }
    }

    /// Says whether an instance ended lately.
    pub(super) fn has(&self, id: &str) -> bool {
        self.started.contains_key(&self.mark.hash_one(id))
    }

    /// Says whether starting an instance that ended lately again, with `input`, is a repetition; `None` for any other.
    pub(super) fn is_same(&self, id: &str, workflow: &str, input: &Value) -> Option<bool> {
        let start = self.started.get(&self.mark.hash_one(id))?;
        Some(*start == start_digest(workflow, view::digest_of(input)))
    }

    /// Returns how an instance ended; of older ones only the history knows.
    pub(super) fn get(&self, id: &str) -> Option<&Arc<Finished>> {
        self.shown.get(id)
    }

    /// Returns those that can be shown, the newest first.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Arc<Finished>> {
        self.order.iter().rev().filter_map(|id| self.shown.get(id))
    }
}

fn start_digest(workflow: &str, input: u64) -> u64 {
    view::digest_of_text(workflow).rotate_left(1) ^ input
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(id: &str) -> Arc<Finished> {
        let instance = json!({
            "id": id, "name": "ship", "version": "1", "status": "completed", "saga": "none", "started_ms": 0
        });
        Arc::new(Finished::of(serde_json::from_value(instance).unwrap(), &json!({ "order": id }), "d"))
    }

    #[test]
    fn many_are_recognised_and_the_newest_of_them_shown() {
        let mut recent = Recent::default();
        for number in 0..=SHOWN {
            recent.push(ended(&format!("i-{number}")));
        }
        assert!(recent.get("i-0").is_none() && recent.get("i-1").is_some());
        assert_eq!((recent.shown().count(), recent.shown().next().unwrap().id.as_str()), (SHOWN, "i-1000"));
        assert_eq!(recent.is_same("i-0", "ship", &json!({ "order": "i-0" })), Some(true));
        assert_eq!(recent.is_same("i-0", "ship", &json!({ "order": "other" })), Some(false));
        assert_eq!(recent.is_same("i-0", "return", &json!({ "order": "i-0" })), Some(false));
        assert_eq!(recent.is_same("i-x", "ship", &json!({ "order": "i-x" })), None);
        for number in SHOWN..=RECOGNISED {
            recent.push(ended(&format!("i-{number}")));
        }
        assert!(!recent.has("i-0") && recent.has("i-1"));
        assert_eq!(recent.order.len(), recent.shown.len());
    }
}

//! A short memory of what ended, so that a start that is repeated at that very moment is recognised.

use std::{
    collections::{HashMap, VecDeque},
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
    ended: HashMap<Arc<str>, Ended>,
    order: VecDeque<Arc<str>>,
}

/// An ended instance.
pub(super) struct Ended {
    start: u64,
    /// How it ended; of older ones only the history knows.
    pub(super) record: Option<Arc<Finished>>,
}

impl Ended {
    /// Says whether starting this again with `input` is a repetition.
    pub(super) fn is_same(&self, workflow: &str, input: &Value) -> bool {
        self.start == start_digest(workflow, view::digest_of(input))
    }
}

impl Recent {
    pub(super) fn push(&mut self, record: Arc<Finished>) {
        let id: Arc<str> = record.id.as_str().into();
        let start = start_digest(&record.name, record.input_digest);
        if self.ended.insert(id.clone(), Ended { start, record: Some(record) }).is_none() {
            self.order.push_back(id);
        }
        if let Some(older) = self.order.len().checked_sub(SHOWN + 1) {
            let older = self.ended.get_mut(&self.order[older]);
            older.into_iter().for_each(|ended| ended.record = None);
        }
        if self.order.len() > RECOGNISED {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.ended.remove(&oldest));
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Ended> {
        self.ended.get(id)
    }

    /// Returns those that can be shown, the newest first.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Arc<Finished>> {
        let newest = self.order.iter().rev().take(SHOWN);
        newest.filter_map(|id| self.ended.get(id)?.record.as_ref())
    }
}

fn start_digest(workflow: &str, input: u64) -> u64 {
    view::digest_of_text(workflow).rotate_left(1) ^ input
}

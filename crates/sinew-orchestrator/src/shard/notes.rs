//! What a shard itself must not forget, beside its instances: small values by name, in its own log.
//!
//! A note stands in the log under an id no instance can have, and is written again by the cleaner like a state.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;
use sinew_workflow::Timestamp;
use tokio::sync::oneshot;

use super::{Release, Shard, World, graves};
use crate::{
    journal::Journal,
    lifecycle::Told,
    record::{Item, split},
};

/// What the id of a note begins with.
const SIGN: char = '#';

/// A note to be taken.
pub(crate) struct Note {
    pub(crate) name: String,
    /// Null forgets it.
    pub(crate) value: Value,
    /// Told once it is stored; dropped when the shard stops before.
    pub(crate) stored: Option<oneshot::Sender<()>>,
}

/// The notes of a shard, and from which record on each is needed.
#[derive(Default)]
pub(super) struct Notes {
    notes: BTreeMap<String, (Value, u64)>,
}

/// What becomes of a note once its record is acknowledged.
pub(super) struct Noted {
    name: String,
    /// It stands from this record on, or later.
    from: u64,
    stored: Option<oneshot::Sender<()>>,
    /// Whether the cleaner wrote it again.
    moved: bool,
}

impl Note {
    pub(crate) fn new(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value, stored: None }
    }
}

impl Notes {
    /// Says whether something is noted under a name, or on its way to the log.
    pub(super) fn has(&self, name: &str) -> bool {
        self.notes.get(name).is_some_and(|(value, _)| !value.is_null())
    }

    /// Folds an item of the log that is one; says whether it was.
    pub(super) fn fold(&mut self, item: &Item, sequence: u64) -> bool {
        let (Some(name), Some(value)) = (name_of(&item.id), &item.note) else { return false };
        match value {
            Value::Null => drop(self.notes.remove(name)),
            value => drop(self.notes.insert(name.to_owned(), (value.clone(), sequence))),
        }
        true
    }
}

/// Returns the name of a note by the id it stands under in the log.
pub(super) fn name_of(id: &str) -> Option<&str> {
    id.strip_prefix(SIGN)
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Returns what was noted.
    pub(crate) fn notes(&self) -> BTreeMap<String, Value> {
        self.notes.notes.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
    }

    /// Returns what the owner before did not tell the bus, and up to which record this one has the log.
    pub(crate) fn unpublished(&mut self) -> (u64, VecDeque<Told>) {
        (self.last, self.unpublished.take())
    }

    /// Takes over the notes that were found.
    pub(super) fn adopt_notes(&mut self, notes: Notes) {
        for (name, (_, since)) in &notes.notes {
            self.cleaner.keep(*since, &id_of(name));
        }
        self.notes = notes;
    }

    pub(super) fn take_note(&mut self, note: Note) {
        let Note { name, value, stored } = note;
        self.write_note(&name, value, stored, false);
    }

    /// Writes a note to where the cleaner wants it; says whether it could.
    pub(super) fn note_again(&mut self, since: u64, name: &str) -> bool {
        let Some((value, _)) = self.notes.notes.get(name) else { return false };
        let old = graves::is_old(name, value, self.clock.now());
        let value = if old { Value::Null } else { value.clone() };
        self.cleaner.moves(since, &id_of(name));
        self.write_note(name, value, None, true)
    }

    pub(super) fn write_note(
        &mut self,
        name: &str,
        value: Value,
        stored: Option<oneshot::Sender<()>>,
        moved: bool,
    ) -> bool {
        let id = id_of(name);
        let item = Item { note: Some(value.clone()), ..Item::new(&id) };
        let pieces = item.encode().and_then(|item| split(&id, item, self.config.max_record_bytes));
        let mut pieces = match pieces {
            Ok(pieces) => pieces,
            Err(error) => {
                tracing::error!(note = name, %error, "a note of a shard cannot be written");
                return false;
            }
        };
        // Whichever record it gets into stands behind all there are.
        let noted = Noted { name: name.to_owned(), from: self.last + 1, stored, moved };
        let since = self.notes.notes.get(name).map_or(0, |(_, since)| *since);
        self.notes.notes.insert(name.to_owned(), (value, since));
        let last = pieces.pop();
        pieces.into_iter().for_each(|piece| self.push(piece, Vec::new()));
        if let Some(piece) = last {
            self.push(piece, vec![Release::Noted(Box::new(noted))]);
        }
        true
    }

    /// A note is stored: what stood before is not needed any more.
    pub(super) fn noted(&mut self, noted: Noted) {
        let Noted { name, from, stored, moved } = noted;
        if moved {
            self.cleaner.moved();
        }
        if let Some((value, since)) = self.notes.notes.get_mut(&name) {
            let id = id_of(&name);
            self.cleaner.release(*since, &id);
            if value.is_null() {
                self.notes.notes.remove(&name);
            } else {
                *since = from;
                self.cleaner.keep(from, &id);
            }
        }
        // Whoever waited may be gone.
        stored.into_iter().for_each(|stored| stored.send(()).unwrap_or_default());
    }

    pub(super) fn recall(&self, name: &str, told: oneshot::Sender<Option<Value>>) {
        let noted = self.notes.notes.get(name).map(|(value, _)| value.clone());
        // Whoever asked may be gone.
        drop(told.send(noted.filter(|value| !value.is_null())));
    }

    /// Tells the time once everything decided so far is acknowledged, behind all it releases.
    pub(super) fn mark(&mut self, told: oneshot::Sender<Timestamp>) {
        let release = Release::Mark { told, at: self.clock.now() };
        if !self.batch.is_empty() {
            self.batch.attach(release);
        } else if let Some(flying) = &mut self.flying {
            flying.push(release);
        } else {
            self.release(release, self.last);
        }
    }
}

fn id_of(name: &str) -> String {
    format!("{SIGN}{name}")
}

//! A participant's side of a saga: do once, undo once, in whatever order the two arrive. Knows keys, not orders.
//!
//! The workflow repeats what it is not sure about, so every request comes with an idempotency key that stays the same,
//! and every undo names the key of what it undoes. An undo may overtake the slow request it belongs to: it then leaves
//! a tombstone, and the request, when it comes at last, is refused. A real service keeps these entries in the database
//! that holds its effects, in the same transaction.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sinew::{Ctx, wire::header};

use crate::{Effect, Ledger};

/// What one operation did, by idempotency key; clones share it.
#[derive(Clone, Debug)]
pub struct Participant<T> {
    does: &'static str,
    undoes: &'static str,
    ledger: Ledger,
    // A plain mutex: deciding and writing down must be one step, and neither awaits.
    entries: Arc<Mutex<HashMap<String, Entry<T>>>>,
}

/// Says that the undo came first: the request it belongs to must not take effect any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undone;

#[derive(Clone, Debug)]
enum Entry<T> {
    Done(T),
    Undone,
}

impl<T: Clone> Participant<T> {
    /// Creates a participant that has done nothing; the names are those of its two operations in the ledger.
    pub fn new(does: &'static str, undoes: &'static str, ledger: Ledger) -> Self {
        Self { does, undoes, ledger, entries: Arc::default() }
    }

    /// Lets `effect` happen unless it happened under this key before; then the same answer is given again.
    ///
    /// # Errors
    /// What `effect` refuses, which leaves no trace, and [`Undone`] when its undo was here first.
    pub fn once<E: From<Undone>>(
        &self,
        key: &str,
        order: &str,
        effect: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(key) {
            Some(Entry::Done(answer)) => return Ok(answer.clone()),
            Some(Entry::Undone) => return Err(Undone.into()),
            None => {}
        }
        let answer = effect()?;
        entries.insert(key.to_owned(), Entry::Done(answer.clone()));
        self.note(self.does, key, order);
        Ok(answer)
    }

    /// Undoes what happened under `key` and returns it; `None` when nothing is left to undo, or nothing ever was.
    pub fn undo(&self, key: &str, order: &str) -> Option<T> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.insert(key.to_owned(), Entry::Undone) {
            Some(Entry::Done(answer)) => {
                self.note(self.undoes, key, order);
                Some(answer)
            }
            Some(Entry::Undone) | None => None,
        }
    }

    fn note(&self, operation: &'static str, key: &str, order: &str) {
        self.ledger.write(Effect { operation, key: key.to_owned(), order: order.to_owned() });
    }
}

/// Returns the key of the request in hand. Somebody who sends none, by hand perhaps, gets one effect per order.
pub fn forward_key<'a>(ctx: &'a Ctx, order: &'a str) -> &'a str {
    ctx.idempotency_key().unwrap_or(order)
}

/// Returns the key of the request that the undo in hand is for.
pub fn undo_key<'a>(ctx: &'a Ctx, order: &'a str) -> &'a str {
    ctx.header(header::FORWARD_KEY).unwrap_or(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Refusal {
        Undone,
        Broke,
    }

    impl From<Undone> for Refusal {
        fn from(_: Undone) -> Self {
            Self::Undone
        }
    }

    fn participant() -> (Participant<u32>, Ledger) {
        let ledger = Ledger::default();
        (Participant::new("a.do", "a.undo", ledger.clone()), ledger)
    }

    #[test]
    fn a_repetition_gets_the_first_answer_and_has_no_effect() {
        let (participant, ledger) = participant();
        assert_eq!(participant.once("k", "o", || Ok::<_, Refusal>(1)), Ok(1));
        assert_eq!(participant.once("k", "o", || Ok::<_, Refusal>(2)), Ok(1));
        assert_eq!(ledger.of_order("o"), ["a.do"]);
    }

    #[test]
    fn a_refusal_leaves_no_trace() {
        let (participant, ledger) = participant();
        assert_eq!(participant.once("k", "o", || Err(Refusal::Broke)), Err(Refusal::Broke));
        assert_eq!(participant.undo("k", "o"), None);
        assert_eq!(ledger.effects(), []);
    }

    #[test]
    fn an_undo_takes_effect_once() {
        let (participant, ledger) = participant();
        assert_eq!(participant.once("k", "o", || Ok::<_, Refusal>(1)), Ok(1));
        assert_eq!(participant.undo("k", "o"), Some(1));
        assert_eq!(participant.undo("k", "o"), None);
        assert_eq!(ledger.of_order("o"), ["a.do", "a.undo"]);
    }

    #[test]
    fn an_undo_that_comes_first_keeps_the_late_request_out() {
        let (participant, ledger) = participant();
        assert_eq!(participant.undo("k", "o"), None);
        assert_eq!(participant.once("k", "o", || Ok::<_, Refusal>(1)), Err(Refusal::Undone));
        assert_eq!(ledger.effects(), []);
    }
}

//! The ledger: what really took effect, in the order it did. Stands for the world outside; decides nothing.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// Something that really happened, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// `<service>.<operation>`.
    pub operation: &'static str,
    /// The idempotency key it happened under; an undo bears the key of what it undid.
    pub key: String,
    /// The order it was for.
    pub order: String,
}

/// A list of effects that several services write to; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    // A plain mutex: it is held for a push or a copy, never across an await.
    effects: Arc<Mutex<Vec<Effect>>>,
}

impl Ledger {
    /// Returns everything that happened so far.
    pub fn effects(&self) -> Vec<Effect> {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the operations that took effect for one order, in order.
    pub fn of_order(&self, order: &str) -> Vec<&'static str> {
        let effects = self.effects.lock().unwrap_or_else(PoisonError::into_inner);
        effects.iter().filter(|effect| effect.order == order).map(|effect| effect.operation).collect()
    }

    pub(crate) fn write(&self, effect: Effect) {
        self.effects.lock().unwrap_or_else(PoisonError::into_inner).push(effect);
    }
}

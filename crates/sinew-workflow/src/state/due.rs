//! The effects an instance is waiting for, read off its state.
use crate::{Effect, Entry, State};

impl State {
    /// Returns every outstanding effect, in the order of their tasks: what to do again after a recovery.
    #[must_use]
    pub fn due(&self) -> Vec<Effect> {
        Vec::new()
    }

    /// Returns the effects which these freshly applied entries made due, in order; the same values as in
    /// [`due`](Self::due).
    #[must_use]
    pub fn effects(&self, _entries: &[Entry]) -> Vec<Effect> {
        Vec::new()
    }
}

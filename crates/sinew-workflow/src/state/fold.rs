//! `apply`: folds one entry into the state. It never evaluates and never chooses.
use crate::{Entry, Error, State};

/// Folds an entry into the state.
///
/// # Errors
/// [`Error::Illegal`] when the entry does not follow from the state; the state may then be half changed.
pub fn apply(_state: &mut State, _entry: &Entry) -> Result<(), Error> {
    Ok(())
}

//! `decide` and `run`: from an input to the entries it causes.
use crate::{Definition, Entry, Error, Input, State};

/// Decides what follows from an input, without changing the state.
///
/// # Errors
/// See [`Error`].
pub fn decide(_definition: &Definition, _state: &State, _input: &Input) -> Result<Vec<Entry>, Error> {
    Ok(Vec::new())
}

/// Decides what follows from an input and applies it. Leaves the state untouched on an error.
///
/// # Errors
/// See [`Error`].
pub fn run(definition: &Definition, state: &mut State, input: Input) -> Result<Vec<Entry>, Error> {
    decide(definition, state, &input)
}

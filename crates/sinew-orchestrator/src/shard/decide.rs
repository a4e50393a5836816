//! Deciding within bounds: entries that would outgrow a record never get as far as the log.

use bytes::Bytes;
use sinew_workflow::{Definition, Entry, Error, Fault, Input as Event, Outcome, State};

use crate::record::Item;

/// What follows from an input, and how it stands in the log.
pub(super) struct Decided {
    pub(super) entries: Vec<Entry>,
    pub(super) item: Bytes,
}

/// Decides what follows from an input.
///
/// Where that is larger than `limit` bytes, the workflow has to do without it: a reply becomes one whose outcome is
/// unknown, so that what it stood for is undone; whatever else it was cancels the instance. These may take twice as
/// much, which a record still holds.
///
/// # Errors
/// When the engine refuses the input.
pub(super) fn within(
    limit: usize,
    definition: &Definition,
    state: &State,
    id: &str,
    event: Event,
) -> Result<Decided, Error> {
    let mut decided = decide(definition, state, id, &event)?;
    if fits(decided.as_ref(), limit) {
        return Ok(decided.unwrap_or_else(Decided::nothing));
    }
    for lesser in lesser(&event, limit) {
        let size = decided.as_ref().map_or(0, |decided| decided.item.len());
        tracing::warn!(instance = id, size, limit, "an instance outgrows the log");
        decided = decide(definition, state, id, &lesser)?;
        if decided.as_ref().is_some_and(|decided| !decided.entries.is_empty())
            && fits(decided.as_ref(), hard(limit))
        {
            return Ok(decided.unwrap_or_else(Decided::nothing));
        }
    }
    tracing::error!(instance = id, limit, "an instance stands still: what follows does not fit into the log");
    Ok(Decided::nothing())
}

/// Decides; `None` when the outcome cannot even be written.
fn decide(definition: &Definition, state: &State, id: &str, event: &Event) -> Result<Option<Decided>, Error> {
    let entries = sinew_workflow::decide(definition, state, event)?;
    if entries.is_empty() {
        return Ok(Some(Decided::nothing()));
    }
    let item = Item { entries, ..Item::new(id) };
    Ok(item.encode().ok().map(|bytes| Decided { entries: item.entries, item: bytes }))
}

impl Decided {
    fn nothing() -> Self {
        Self { entries: Vec::new(), item: Bytes::new() }
    }
}

fn fits(decided: Option<&Decided>, limit: usize) -> bool {
    decided.is_some_and(|decided| decided.item.len() <= limit)
}

/// What a record holds beyond the configured limit, which is at most half of the server's.
fn hard(limit: usize) -> usize {
    limit.saturating_mul(2).saturating_sub(4 * 1024)
}

/// What is decided instead of an input whose consequences are too large, the mildest first.
fn lesser(event: &Event, limit: usize) -> Vec<Event> {
    let text = format!(
        "what follows from this takes more than {limit} bytes in the log: pass a reference instead of the data"
    );
    let at = event.at();
    let cancel = Event::Cancel { reason: Some(text.clone()), at };
    match event {
        Event::Reply { task, attempt, outcome, .. } => {
            let fault = match outcome {
                Outcome::Completed(_) => too_large(&text),
                // Its own text may be what is too large.
                Outcome::Refused(fault) | Outcome::NotSent(fault) | Outcome::Unknown(fault) => {
                    too_large(&text).with_status(fault.status)
                }
            };
            let outcome = match outcome {
                Outcome::Refused(_) => Outcome::Refused(fault),
                Outcome::NotSent(_) => Outcome::NotSent(fault),
                Outcome::Completed(_) | Outcome::Unknown(_) => Outcome::Unknown(fault),
            };
            vec![Event::Reply { task: *task, attempt: *attempt, outcome, at }, cancel]
        }
        Event::Event { .. } | Event::Timer { .. } | Event::Operator { .. } | Event::Resume { .. } => {
            vec![cancel]
        }
        // These get in whole up to the most a record holds, or not at all.
        Event::Cancel { .. }
        | Event::Start { .. }
        | Event::StartChild { .. }
        | Event::Undo { .. }
        | Event::Release { .. }
        | Event::Terminate { .. }
        | Event::Pause { .. } => vec![event.clone()],
    }
}

fn too_large(text: &str) -> Fault {
    let mut fault = Fault::communication(text).with_status(502).with_code("too-large");
    fault.title = Some("the reply is too large to be kept".to_owned());
    fault
}

//! Deciding within bounds: entries that would outgrow a record never get as far as the log.

use bytes::Bytes;
use sinew_workflow::{Definition, Entry, Error, Fault, Input as Event, Outcome, State};

use crate::record::Item;

/// What follows from an input, and how it stands in the log.
pub(super) struct Decided {
    pub(super) entries: Vec<Entry>,
    pub(super) item: Bytes,
}

/// Decides what follows from an input, and brings the state there.
///
/// Where that is larger than `limit` bytes, the workflow has to do without it: a reply becomes one whose outcome is
/// unknown, so that what it stood for is undone; whatever else it was cancels the instance. These may take twice as
/// much, which a record still holds.
///
/// # Errors
/// When the engine refuses the input; the state is as it was.
pub(super) fn within(
    limit: usize,
    definition: &Definition,
    state: &mut State,
    id: &str,
    event: Event,
) -> Result<Decided, Error> {
    let outline = outline(&event);
    let mut size = match decide(definition, state, id, event, limit)? {
        Attempt::Fits(decided) => return Ok(decided),
        Attempt::TooLarge(size) => size,
    };
    for lesser in lesser(&outline, limit) {
        tracing::warn!(instance = id, size, limit, "an instance outgrows the log");
        match decide(definition, state, id, lesser, hard(limit))? {
            Attempt::Fits(decided) if !decided.entries.is_empty() => return Ok(decided),
            Attempt::Fits(_) => {}
            Attempt::TooLarge(too_large) => size = too_large,
        }
    }
    tracing::error!(instance = id, limit, "an instance stands still: what follows does not fit into the log");
    Ok(Decided::nothing())
}

/// What deciding came to: the state is where it leads, or still where it was.
enum Attempt {
    Fits(Decided),
    /// So many bytes; zero when it cannot even be written.
    TooLarge(usize),
}

fn decide(
    definition: &Definition,
    state: &mut State,
    id: &str,
    event: Event,
    limit: usize,
) -> Result<Attempt, Error> {
    // What does not fit must leave no trace, so what is brought forward is a copy.
    let mut next = state.clone();
    let entries = sinew_workflow::run(definition, &mut next, event)?;
    if entries.is_empty() {
        return Ok(Attempt::Fits(Decided::nothing()));
    }
    let item = Item { entries, ..Item::new(id) };
    Ok(match item.encode() {
        Ok(bytes) if bytes.len() <= limit => {
            *state = next;
            Attempt::Fits(Decided { entries: item.entries, item: bytes })
        }
        Ok(bytes) => Attempt::TooLarge(bytes.len()),
        Err(_) => Attempt::TooLarge(0),
    })
}

/// What must be known of an input to find a lesser one: not the reply itself, which may be large.
fn outline(event: &Event) -> Event {
    match event {
        Event::Reply { task, attempt, outcome: Outcome::Completed(_), at } => Event::Reply {
            task: *task,
            attempt: *attempt,
            outcome: Outcome::Completed(serde_json::Value::Null),
            at: *at,
        },
        other => other.clone(),
    }
}

impl Decided {
    fn nothing() -> Self {
        Self { entries: Vec::new(), item: Bytes::new() }
    }
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
        Event::Event { .. }
        | Event::Timer { .. }
        | Event::Operator { .. }
        | Event::Resume { .. }
        | Event::Decision { .. } => {
            vec![cancel]
        }
        // These get in whole up to the most a record holds, or not at all.
        Event::Cancel { .. }
        | Event::Start { .. }
        | Event::StartChild { .. }
        | Event::Undo { .. }
        | Event::Release { .. }
        | Event::Terminate { .. }
        | Event::Accepted { .. }
        | Event::Heartbeat { .. }
        | Event::Claim { .. }
        | Event::Pause { .. } => vec![event.clone()],
    }
}

fn too_large(text: &str) -> Fault {
    let mut fault = Fault::communication(text).with_status(502).with_code("too-large");
    fault.title = Some("the reply is too large to be kept".to_owned());
    fault
}

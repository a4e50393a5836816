//! A parked instance in the log: its whole state, and apart from it the little a shard must know to leave it alone.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use sinew::wire::{ContentType, encode};
use sinew_workflow::{Effect, Since, Source, State, Status, TaskId, Timestamp, Wanted};

use super::{Header, binary, foreign, next};
use crate::{Error, listen::Listener};

/// A parked instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Parked {
    pub(crate) workflow: String,
    pub(crate) status: Status,
    pub(crate) started: Timestamp,
    /// When the first of its timers is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wake: Option<Timestamp>,
    /// The tasks that listen, encoded, because a new owner keeps all of them for a moment.
    #[serde(default, skip_serializing_if = "Bytes::is_empty", with = "binary")]
    ears: Bytes,
    /// The encoded state, which a new owner does not read.
    #[serde(with = "binary")]
    state: Bytes,
}

/// A task that listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ear {
    task: TaskId,
    attempt: u32,
    wanted: Vec<Wanted>,
    opened: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<String>,
}

/// An item of a record that holds a parked instance, unread.
pub(crate) struct ParkedItem {
    pub(crate) id: String,
    /// The item as it stands there.
    pub(crate) item: Bytes,
}

impl ParkedItem {
    /// Reads the instance.
    pub(crate) fn parked(&self) -> Result<Parked, Error> {
        #[derive(Deserialize)]
        struct Held {
            parked: Parked,
        }
        next::<Held>(&mut &*self.item).map(|held| held.parked)
    }
}

impl Parked {
    /// Sums an instance up that waits for nothing but timers and events; `None` when there is more to it.
    pub(crate) fn of(state: &State) -> Option<Result<Self, Error>> {
        let (wake, ears) = waits(state)?;
        Some(Self::encoded(state, wake, &ears))
    }

    fn encoded(state: &State, wake: Option<Timestamp>, ears: &Vec<Ear>) -> Result<Self, Error> {
        let ears = if ears.is_empty() { Bytes::new() } else { packed(ears)? };
        Ok(Self {
            workflow: state.workflow().name.clone(),
            status: state.status(),
            started: state.started_at().unwrap_or_default(),
            wake,
            ears,
            state: packed(state)?,
        })
    }

    /// Reads the state.
    pub(crate) fn state(&self) -> Result<State, Error> {
        next(&mut &*self.state)
    }

    /// Takes the tasks that listen, to be read by [`listeners`].
    pub(crate) fn take_ears(&mut self) -> Box<[u8]> {
        std::mem::take(&mut self.ears).as_ref().into()
    }
}

/// Reads the tasks of an instance that listen.
pub(crate) fn listeners(id: &str, started: Timestamp, ears: &[u8]) -> Result<Vec<Listener>, Error> {
    let ears: Vec<Ear> = next(&mut &*ears)?;
    let listener = |ear: Ear| {
        let Ear { task, attempt, wanted, opened, last } = ear;
        Listener { id: id.to_owned(), task, attempt, wanted, since: Since { opened, started }, last }
    };
    Ok(ears.into_iter().map(listener).collect())
}

/// Returns when the first timer of an instance is due, if it waits for nothing but timers and events.
pub(crate) fn wake(state: &State) -> Option<Option<Timestamp>> {
    waits(state).map(|(wake, _)| wake)
}

fn packed<T: Serialize>(value: &T) -> Result<Bytes, Error> {
    encode(ContentType::MessagePack, value).map_err(|error| foreign(&error.to_string()))
}

fn waits(state: &State) -> Option<(Option<Timestamp>, Vec<Ear>)> {
    let (mut wake, mut ears): (Option<Timestamp>, _) = (None, Vec::new());
    for effect in state.due() {
        match effect {
            // Who must be heard from time to time is given time anew by every owner, who must know of it.
            Effect::Timer { task, timer, at } if state.silence(task, timer).is_none() => {
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
            }
            Effect::Listen { task, attempt, source: Source::Bus(wanted), since } => {
                let last = state.last_heard(task).map(str::to_owned);
                ears.push(Ear { task, attempt, wanted, opened: since.opened, last });
            }
            _ => return None,
        }
    }
    Some((wake, ears))
}

/// Finds the parked instances of a record. A record may hold hundreds of which one is wanted, so none is read.
pub(crate) fn parked_in(record: &Bytes) -> Result<Vec<ParkedItem>, Error> {
    /// What is looked at of an item.
    #[derive(Deserialize)]
    struct Glance {
        id: String,
        parked: Option<IgnoredAny>,
    }
    let mut rest: &[u8] = record;
    next::<Header>(&mut rest)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let from = record.len() - rest.len();
        let glance: Glance = next(&mut rest)?;
        let item = record.slice(from..record.len() - rest.len());
        found.extend(glance.parked.map(|_| ParkedItem { id: glance.id, item }));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use sinew_workflow::{Definition, Input};

    use super::*;
    use crate::record::{Item, join, read};

    fn state() -> State {
        let text = "document: { dsl: '1.0.3', namespace: test, name: flow, version: '1.0.0' }\ndo:\n  - hear: { listen: { to: { one: { with: { type: paid } } } }, timeout: { after: PT5S } }\n";
        let definition = Definition::parse(text, "test.yaml").unwrap();
        let (mut state, at) = (State::default(), Timestamp::from_millis(1_000));
        let start = Input::Start { id: "i-1".to_owned(), input: serde_json::json!({}), at, trace: None };
        sinew_workflow::run(&definition, &mut state, start).unwrap();
        state
    }

    #[test]
    fn a_parked_instance_is_found_among_others_and_copied_as_it_stands() {
        let state = state();
        let parked = Some(Box::new(Parked::of(&state).unwrap().unwrap()));
        let other = Item { snapshot: Some(Box::new(state.clone())), ..Item::new("i-2") }.encode().unwrap();
        let item = Item { definition: Some("d".to_owned()), parked, ..Item::new("i-1") }.encode().unwrap();
        let record = join(Header::new(1, 1, 0), &[other.clone(), item.clone(), other]).unwrap();
        let mut found = parked_in(&record).unwrap();
        assert_eq!(found.len(), 1);
        let one = found.remove(0);
        let mut parked = one.parked().unwrap();
        assert_eq!((one.id.as_str(), &one.item, parked.state().unwrap()), ("i-1", &item, state));
        assert_eq!(parked.wake, Some(Timestamp::from_millis(6_000)));
        let listener = listeners("i-1", parked.started, &parked.take_ears()).unwrap().remove(0);
        assert_eq!(listener.wanted[0].0["type"], "paid");
        assert_eq!(listener.since.opened, Timestamp::from_millis(1_000));
    }

    #[test]
    fn a_record_from_before_there_was_parking_is_read() {
        let header = Header { v: 1, ..Header::new(3, 7, 4) };
        let record = join(header, &[Item::new("i-1").encode().unwrap()]).unwrap();
        assert_eq!((read(&record).unwrap().1.len(), parked_in(&record).unwrap().len()), (1, 0));
    }
}

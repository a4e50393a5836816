//! Waking: what is parked is read back from the log when something happens to it, and until then that waits.
//!
//! *Invariant*: a note and a mark speak of everything that came before them; so they wait for those who were being woken
//! for it.

use std::collections::{BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use sinew_workflow::{Effect, Timestamp};

use super::{
    Input, RETRY, Shard, World,
    list::Listing,
    live::{Live, Place},
};
use crate::{
    id::Id,
    journal::{Journal, JournalError},
    record::{self, ParkedItem},
    spans::Exported,
};

/// Records read at once.
const READS: usize = 64;
/// Instances being woken beyond which timers wait.
const WAKING: usize = 4_096;
/// Inputs that wait for instances to wake beyond which no more are taken.
const WAITING: usize = 8_192;
/// Bytes that wait for the log beyond which no timer wakes anybody.
const BACKLOG: usize = 8 * 1024 * 1024;

/// Who is being woken.
#[derive(Default)]
pub(super) struct Waking {
    instances: HashMap<Id, Wake>,
    /// The tickets of those for whom something waits.
    tickets: BTreeSet<u64>,
    /// The next ticket.
    ticket: u64,
    /// How many inputs wait.
    waiting: usize,
    /// Notes and marks, and the tickets they wait for: all before this one.
    held: VecDeque<(u64, Input)>,
    /// Records under way or waiting for their turn, and what each is read for.
    wanted: HashMap<u64, Wanted>,
    queue: VecDeque<u64>,
    reads: FuturesUnordered<BoxFuture<'static, Fetched>>,
}

/// Somebody being woken.
struct Wake {
    ticket: u64,
    /// What happened to it meanwhile.
    inputs: Vec<Input>,
}

/// What a record is read for.
#[derive(Default)]
struct Wanted {
    wake: Vec<Id>,
    /// Whether the cleaner wants it.
    clean: bool,
}

/// What was read.
pub(super) enum Fetched {
    /// A record; `None` where it is gone.
    Record { sequence: u64, record: Option<Bytes> },
    /// A list, with those who are parked.
    List(Box<Listing>),
}

impl Input {
    /// Returns the instance it is about, if it is about one.
    fn instance(&self) -> Option<&str> {
        match self {
            Self::Start { start, .. } => Some(&start.id),
            Self::Ask { ask, .. } => ask.instance(),
            Self::Reply { id, .. }
            | Self::Accepted { id, .. }
            | Self::Event { id, .. }
            | Self::Archived { id } => Some(id),
            Self::Note(_) | Self::Recall { .. } | Self::Mark { .. } => None,
        }
    }

    /// Says whether it speaks of everything before it.
    fn is_of_all(&self) -> bool {
        matches!(self, Self::Note(_) | Self::Recall { .. } | Self::Mark { .. })
    }
}

impl Waking {
    /// Says whether nobody is being woken and nothing waits for that.
    fn is_idle(&self) -> bool {
        self.tickets.is_empty() && self.held.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.waiting < WAITING
    }

    /// Waits for the next record; for ever when none is read.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn fetched(&mut self) -> Fetched {
        match self.reads.next().await {
            Some(fetched) => fetched,
            None => std::future::pending().await,
        }
    }

    #[cfg(test)]
    pub(super) fn is_reading(&self) -> bool {
        !self.reads.is_empty()
    }

    pub(super) fn read(&mut self, read: BoxFuture<'static, Fetched>) {
        self.reads.push(read);
    }
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Returns when the next parked instance is to be woken, if there is room for it.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.parked.next_wake().filter(|_| self.may_wake())
    }

    fn may_wake(&self) -> bool {
        self.waking.instances.len() < WAKING && self.batch.bytes() < BACKLOG && !self.ending
    }

    /// Wakes those whose time has come.
    pub(super) fn wake_due(&mut self, now: Timestamp) {
        while self.may_wake() {
            let Some(id) = self.parked.due(now) else { return };
            self.wake(id, None);
        }
    }

    /// Gives an input back that can be taken now. Any other is taken when those have woken whom it concerns.
    pub(super) fn awake(&mut self, input: Input) -> Option<Input> {
        if self.parked.is_empty() && self.waking.is_idle() {
            return Some(input);
        }
        match input.instance() {
            Some(id) if !self.live.contains_key(id) => {
                let id = Id::of(id);
                if self.parked.get(&id).is_none() {
                    return Some(input);
                }
                self.wake(id, Some(input));
                None
            }
            None if input.is_of_all() && !self.waking.is_idle() => {
                self.waking.held.push_back((self.waking.ticket, input));
                None
            }
            _ => Some(input),
        }
    }

    fn wake(&mut self, id: Id, input: Option<Input>) {
        let Some(spot) = self.parked.get(&id) else { return };
        let sequence = spot.sequence;
        let waking = &mut self.waking;
        let known = waking.instances.contains_key(&id);
        let wake = waking.instances.entry(id.clone()).or_insert(Wake { ticket: 0, inputs: Vec::new() });
        if let Some(input) = input {
            if wake.inputs.is_empty() {
                wake.ticket = waking.ticket;
                waking.tickets.insert(waking.ticket);
                waking.ticket += 1;
            }
            wake.inputs.push(input);
            waking.waiting += 1;
        }
        if !known {
            self.want(sequence, |wanted| wanted.wake.push(id));
        }
    }

    /// Reads a record for the cleaner.
    pub(super) fn want_shelf(&mut self, sequence: u64) {
        self.want(sequence, |wanted| wanted.clean = true);
    }

    fn want(&mut self, sequence: u64, note: impl FnOnce(&mut Wanted)) {
        let known = self.waking.wanted.contains_key(&sequence);
        note(self.waking.wanted.entry(sequence).or_default());
        if !known {
            self.waking.queue.push_back(sequence);
            self.read_next();
        }
    }

    fn read_next(&mut self) {
        while self.waking.reads.len() < READS {
            let Some(sequence) = self.waking.queue.pop_front() else { return };
            let journal = self.journal.clone();
            let read = async move { Fetched::Record { sequence, record: fetch(&journal, sequence).await } };
            self.waking.read(Box::pin(read));
        }
    }

    /// Goes on with what was read.
    pub(super) fn took(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Record { sequence, record } => self.took_record(sequence, record),
            Fetched::List(listing) => self.answer_list(*listing),
        }
        self.read_next();
    }

    fn took_record(&mut self, sequence: u64, record: Option<Bytes>) {
        let Wanted { wake, clean } = self.waking.wanted.remove(&sequence).unwrap_or_default();
        let found = record.map(|record| record::parked_in(&record)).transpose();
        let mut items = HashMap::new();
        match found {
            // The last one counts, should there be several of one instance.
            Ok(found) => items.extend(found.into_iter().flatten().map(|item| (Id::of(&item.id), item))),
            Err(error) => tracing::error!(sequence, %error, "a record of parked instances cannot be read"),
        }
        if clean {
            self.shelve_again(sequence, &items);
        }
        for id in wake {
            match items.remove(&id) {
                Some(item) => self.unpark(&id, &item),
                None => self.missed(id, sequence),
            }
        }
        self.let_go_on();
    }

    /// Somebody is not where it was looked for: the cleaner has moved it meanwhile, or the log has lost it.
    fn missed(&mut self, id: Id, sequence: u64) {
        match self.parked.get(&id).map(|spot| spot.sequence) {
            Some(now) if now != sequence => self.want(now, |wanted| wanted.wake.push(id)),
            _ => {
                tracing::error!(instance = %id, sequence, "a parked instance is missing in the log: it stands still");
                drop(self.woken(&id));
            }
        }
    }

    /// Takes an instance back and gives it what waited for it.
    fn unpark(&mut self, id: &Id, item: &ParkedItem) {
        let state = match item.parked().and_then(|parked| parked.state()) {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(instance = %id, %error, "a parked instance cannot be read: it stands still");
                return drop(self.woken(id));
            }
        };
        let inputs = self.woken(id);
        let Some((spot, kind)) = self.parked.remove(id) else { return };
        let text = id.to_string();
        let mut live = Live::new(&text, state, kind.definition, kind.digest);
        live.place = Place::Parked(spot.sequence);
        if spot.drawn {
            live.spans = Exported::all(&live.state);
        }
        let due = if live.definition.is_some() { live.state.due() } else { Vec::new() };
        for effect in due {
            if let Effect::Timer { task, timer, at } = effect {
                self.timers.set(&live.id, &mut live.timers, &live.state, (at, task, timer));
            }
        }
        self.live.insert(text.clone(), live);
        self.cleaner.unshelve(spot.sequence);
        self.stands(&text, spot.sequence);
        let now = self.clock.now();
        self.touch(&text, now);
        inputs.into_iter().for_each(|input| self.take(input));
    }

    /// Takes what waited for somebody.
    fn woken(&mut self, id: &Id) -> Vec<Input> {
        let Some(wake) = self.waking.instances.remove(id) else { return Vec::new() };
        if !wake.inputs.is_empty() {
            self.waking.tickets.remove(&wake.ticket);
            self.waking.waiting -= wake.inputs.len();
        }
        wake.inputs
    }

    /// Takes the notes and marks that waited for nobody else.
    fn let_go_on(&mut self) {
        let first = self.waking.tickets.first().copied().unwrap_or(u64::MAX);
        while self.waking.held.front().is_some_and(|(ticket, _)| *ticket <= first) {
            let Some((_, input)) = self.waking.held.pop_front() else { return };
            self.take_now(input);
        }
    }
}

/// Reads a record until it is known what stands there.
pub(super) async fn fetch<J: Journal>(journal: &J, sequence: u64) -> Option<Bytes> {
    loop {
        match journal.at(sequence).await {
            Ok(found) => return found,
            Err(JournalError::Unavailable | JournalError::Refused | JournalError::Fenced) => {
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

//! A shard: one task, one log, all its instances. Everything that can happen to it is one [`Input`].
//!
//! *Invariant*: no effect, reply or answer leaves before the entry that caused it is acknowledged. What is to leave
//! waits as a [`Release`] beside the item it belongs to, and shows what was so when it was put there.

mod batch;
mod claims;
mod clean;
mod clock;
mod command;
mod decide;
mod ended;
mod ending;
mod graves;
mod idle;
mod list;
mod live;
mod notes;
mod open;
mod park;
mod parked;
mod people;
mod recent;
mod repeated;
mod settle;
#[cfg(test)]
mod tests;
mod timers;
mod wake;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::Value;
use sinew::workflow::CallLimit;
use sinew_workflow::{Effect, Input as Event, Outcome, Saga, Source, State, TaskId, Terms, Timestamp};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config,
    history::Finished,
    id::Id,
    journal::{Journal, JournalError},
    lifecycle::{Happened, Lifecycle, Unpublished},
    listen::Listener,
    record::{Header, join},
    spans::{Exported, Origin},
};

use batch::Batch;
use clean::Cleaner;
use clock::Clock;
use idle::Idle;
use live::{Live, Place};
use notes::{Noted, Notes};
use parked::Parked;
use recent::Recent;
use repeated::Repeated;
use timers::Timers;
use wake::Waking;

pub(crate) use command::{Answer, Ask, Command, Handle, Reply, Start, channel};
pub(crate) use notes::Note;
pub(crate) use open::Opening;
pub(crate) use people::{Said, task_of};
pub(crate) use settle::Word;

/// Inputs, and due timers, taken before the loop looks at the log again.
const TAKE: usize = 256;
/// Pause before an append is tried again, and the longest it grows to while the log refuses.
const RETRY: Duration = Duration::from_millis(50);
const LONG_RETRY: Duration = Duration::from_secs(2);

/// Everything that can happen to a shard.
pub(crate) enum Input {
    /// Somebody wants an instance to begin.
    Start { start: Start, definition: Compiled, reply: Reply },
    /// Somebody asks for something else.
    Ask { ask: Ask, reply: Reply },
    /// A call or an event of an instance came to an end.
    Reply { id: String, task: TaskId, attempt: u32, outcome: Outcome },
    /// The work of a call was taken on: its answer is brought later.
    Accepted { id: String, task: TaskId, attempt: u32, terms: Terms },
    /// An event came that an instance listens for.
    Event { id: String, task: TaskId, attempt: u32, event: Arc<Value>, origin: Option<String> },
    /// The history of an ended instance is stored.
    Archived { id: String },
    /// Something beside the instances is to be kept in the log.
    Note(Note),
    /// Somebody wants to know what was noted under a name.
    Recall { name: String, told: oneshot::Sender<Option<Value>> },
    /// Somebody wants to know the time, once everything decided before is acknowledged and released.
    Mark { told: oneshot::Sender<Timestamp> },
}

/// What a shard needs around it, other than its log.
pub(crate) trait World: Send + Sync + 'static {
    /// Begins a call or an event of an instance, which returns as an [`Input::Reply`]; or stops it, or listening.
    fn begin(&mut self, id: String, origin: Origin, effect: Effect);

    /// Listens for events of the bus on behalf of an instance: each comes as an [`Input::Event`].
    fn listen(&mut self, listener: Listener);

    /// Tells the bus what happened to an instance, as the record with this sequence says.
    fn tell(&mut self, _sequence: u64, _happened: Happened) {}

    /// Says whether so much waits to be told that nothing new is to begin.
    fn is_behind(&self) -> bool {
        false
    }

    /// Ends once everything told so far has arrived; false when that is left to the next owner.
    fn told(&self) -> impl Future<Output = bool> + Send + 'static {
        std::future::ready(true)
    }

    /// Lets the children of an ended instance go and stores its history; returns as an [`Input::Archived`].
    fn archive(&mut self, record: Arc<Finished>, children: Vec<String>);

    /// Cancels children nobody waits for.
    fn cancel(&mut self, children: Vec<String>);

    /// Tells the limits of calls, and what waits for its turn.
    fn limits(&self) -> Vec<CallLimit> {
        Vec::new()
    }

    /// Draws what has ended and was not drawn yet.
    fn draw(&self, state: &State, exported: &mut Exported);

    /// Loads a definition; `None` when it is not stored or cannot be read any more.
    ///
    /// # Errors
    /// When it is unknown whether it is stored.
    fn definition(&self, digest: &str)
    -> impl Future<Output = Result<Option<Compiled>, sinew::Error>> + Send;

    /// Ends once everything begun has come to an end by itself. Nothing may be begun afterwards.
    fn settled(&self) -> impl Future<Output = ()> + Send + 'static;

    /// Lets go of everything begun: whoever owns the shard next begins it again.
    fn stop(&self) -> impl Future<Output = ()> + Send;
}

/// A definition, ready to run.
pub(crate) type Compiled = Arc<sinew_workflow::Definition>;

/// What leaves once the record it waits beside is acknowledged.
enum Release {
    /// The instance stands in the log from this record on.
    Began { id: String },
    /// The state of an instance is being written again from this record on.
    Moving { id: String },
    /// It is written, and what stood before is not needed any more.
    Moved { id: String },
    /// It is parked in this record, unless something happened to it since.
    Parked { id: String, number: u64 },
    /// A parked instance stands in this record now; the last one of its old record.
    Shelved { id: Id, from: u64, last: bool },
    /// What happened to an instance, for the bus.
    Happened(Box<Happened>),
    /// Calls, events and timers that became due.
    Effects { id: String, effects: Vec<Effect> },
    /// An answer to what was decided up to this record.
    Answer { reply: Reply, answer: command::Answered },
    /// A child has done its work, and waits for its parent to close.
    Rested { id: String },
    /// The instance has ended.
    Closed { id: String },
    /// The instance is owed nothing more.
    Forgotten { id: String },
    /// A note is stored.
    Noted(Box<Noted>),
    /// Somebody wanted to know when this was.
    Mark { told: oneshot::Sender<Timestamp>, at: Timestamp },
}

type Appending = BoxFuture<'static, Result<u64, JournalError>>;

/// The state of a shard and the way to its log.
pub(crate) struct Shard<J, W> {
    config: Config,
    journal: J,
    world: W,
    /// Until when nobody else can own the shard.
    lease: watch::Receiver<Instant>,
    epoch: u64,
    owner: u64,
    number: u64,
    last: u64,
    live: HashMap<String, Live>,
    /// Those who wait, and are kept in the log alone.
    parked: Parked,
    /// Who of those listened when they were found in the log, until it is asked for.
    ears: HashMap<Id, Box<[u8]>>,
    waking: Waking,
    idle: Idle,
    /// How many were ever parked by this owner, and the bytes of those in the batch.
    parkings: u64,
    parking: usize,
    recent: Recent,
    repeated: Repeated,
    notes: Notes,
    /// What the owner before did not tell the bus.
    unpublished: Unpublished,
    timers: Timers,
    cleaner: Cleaner,
    batch: Batch,
    /// What leaves when the append in flight is acknowledged; `None` when there is none.
    flying: Option<Vec<Release>>,
    inbox: mpsc::Receiver<Input>,
    clock: Clock,
    /// Set when it stops: nothing new is begun.
    ending: bool,
    work: TaskTracker,
    /// Lets effects out before their entries are acknowledged: the tests prove that they would notice.
    #[cfg(test)]
    leaks: bool,
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Returns how many instances live here, parked ones included.
    pub(crate) fn live(&self) -> usize {
        self.live.len() + self.parked.len()
    }

    /// Returns how many of them are parked.
    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Runs until `stop` or until another owner is found to have appended.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut appending: Option<Appending> = None;
        let mut inputs = Vec::with_capacity(TAKE);
        loop {
            if appending.is_none() && !self.batch.is_empty() {
                appending = Some(self.append());
            }
            let wake = [self.timers.next(), self.next_wake(), self.next_idle()].into_iter().flatten().min();
            let now = self.clock.now();
            let room = self.waking.has_room();
            tokio::select! {
                outcome = until(&mut appending) => match outcome {
                    Ok(sequence) => self.acknowledged(sequence),
                    Err(error) => return self.abandon(error).await,
                },
                fetched = self.waking.fetched() => self.took(fetched),
                _ = self.inbox.recv_many(&mut inputs, TAKE), if room => inputs.drain(..).for_each(|input| self.take(input)),
                () = sleep_until(wake, now) => self.fire(),
                () = stop.cancelled() => break,
            }
        }
        self.finish(appending).await;
    }

    fn take(&mut self, input: Input) {
        if let Some(input) = self.awake(input) {
            self.take_now(input);
        }
    }

    /// As [`Shard::take`], for an input that concerns nobody who is parked.
    fn take_now(&mut self, input: Input) {
        match input {
            Input::Start { start, definition, reply } => self.start(start, definition, reply),
            Input::Ask { ask, reply } => self.ask(ask, reply),
            Input::Reply { id, task, attempt, outcome } => {
                let outcome = self.repeated.judge(&id, (task, attempt), outcome);
                let at = self.clock.now();
                self.advance_alone(&id, Event::Reply { task, attempt, outcome, at });
            }
            Input::Accepted { id, task, attempt, terms } => {
                let at = self.clock.now();
                self.advance_alone(&id, Event::Accepted { task, attempt, terms, at });
            }
            Input::Event { id, task, attempt, event, origin } => {
                let at = self.clock.now();
                self.advance_alone(&id, Event::Event { task, attempt, event, origin, at });
            }
            Input::Archived { id } => self.archived(id),
            Input::Note(note) => self.take_note(note),
            Input::Recall { name, told } => self.recall(&name, told),
            Input::Mark { told } => self.mark(told),
        }
    }

    /// Gives an instance what happened to it; its entries join the batch.
    ///
    /// # Errors
    /// When the engine refuses the input; nothing happened then.
    fn advance(&mut self, id: &str, event: Event) -> Result<(), sinew_workflow::Error> {
        let Some(live) = self.live.get_mut(id) else { return Ok(()) };
        let Some(definition) = live.definition.clone() else {
            tracing::error!(instance = id, "an instance cannot go on: its definition is missing");
            return Ok(());
        };
        let (limit, level) = (self.config.max_value_bytes, self.config.lifecycle);
        let parked = match live.place {
            Place::Log => None,
            // What follows in the log must not need what is parked.
            Place::Parking(_) | Place::Parked(_) => {
                match clean::pieces(live, id, self.config.max_record_bytes) {
                    Ok(pieces) => Some((live.since, pieces)),
                    Err(error) => {
                        tracing::error!(instance = id, %error, "an instance cannot go on: its state cannot be written");
                        return Ok(());
                    }
                }
            }
        };
        let (at, after) = (event.at(), self.config.park_after_ms());
        let before = (level != Lifecycle::None).then(|| live.state.clone());
        let decided = decide::within(limit, &definition, &mut live.state, id, event)?;
        if decided.entries.is_empty() {
            return Ok(());
        }
        live.touched = at;
        if !std::mem::replace(&mut live.queued, true) {
            self.idle.push(at, after, live.id.clone());
        }
        let effects = live.state.effects(&decided.entries);
        let (closed, rested) = (live.state.is_closed(), live.state.saga() == Saga::Pending);
        let mut releases = Vec::with_capacity(2);
        let happened = level.of(before.as_ref(), &decided.entries, &live.state);
        releases.extend(happened.map(|happened| Release::Happened(Box::new(happened))));
        if !effects.is_empty() {
            releases.push(Release::Effects { id: id.to_owned(), effects });
        }
        if rested {
            releases.push(Release::Rested { id: id.to_owned() });
        }
        if closed {
            // A closed instance decides nothing more, so this happens once.
            releases.push(Release::Closed { id: id.to_owned() });
        }
        if let Some((since, pieces)) = parked {
            self.write_state(since, id, pieces);
        }
        self.push(decided.item, releases);
        Ok(())
    }

    /// As [`Shard::advance`], where nobody waits to hear of a refusal.
    fn advance_alone(&mut self, id: &str, event: Event) {
        if let Err(error) = self.advance(id, event) {
            tracing::error!(instance = id, %error, "the engine refused an input");
        }
    }

    fn push(&mut self, item: Bytes, releases: Vec<Release>) {
        #[cfg(test)]
        let releases = self.leak(releases);
        self.cleaner.earn(item.len(), self.config.max_record_bytes);
        self.batch.push(item, releases);
    }

    fn append(&mut self) -> Appending {
        let limit = self.config.max_record_bytes;
        let (items, releases) = self.batch.take(limit);
        (self.number, self.parking) = (self.number + 1, 0);
        self.flying = Some(releases);
        let header = Header::new(self.epoch, self.owner, self.number);
        if items.iter().any(|item| item.len() > limit) {
            return self.append_aside(header, items);
        }
        match join(header, &items) {
            Ok(record) => Box::pin(append_until(self.journal.clone(), self.last, record)),
            Err(error) => {
                tracing::error!(%error, "a record cannot be written");
                Box::pin(std::future::ready(Err(JournalError::Refused)))
            }
        }
    }

    fn acknowledged(&mut self, sequence: u64) {
        self.last = sequence;
        self.cleaner.appended(sequence, self.batch.taken());
        for release in self.flying.take().unwrap_or_default() {
            self.release(release, sequence);
        }
        if !self.ending {
            self.park();
            self.clean();
        }
    }

    fn release(&mut self, release: Release, sequence: u64) {
        match release {
            Release::Began { id } => self.stands(&id, sequence),
            Release::Moving { id } => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.moving = sequence;
                }
            }
            Release::Moved { id } => {
                self.cleaner.moved();
                let since = self.live.get(&id).map_or(0, |live| live.moving);
                if let Some(live) = self.live.get_mut(&id) {
                    live.moves -= 1;
                    let obsolete = std::mem::take(&mut live.obsolete);
                    self.discard(obsolete);
                }
                self.stands(&id, since);
            }
            Release::Parked { id, number } => self.was_parked(&id, number, sequence),
            Release::Shelved { id, from, last } => self.shelved(&id, from, sequence, last),
            Release::Effects { id, effects } => self.begin(&id, effects),
            Release::Happened(happened) => self.world.tell(sequence, *happened),
            Release::Answer { reply, answer } => reply.send(answer),
            Release::Rested { id } => self.rested(&id),
            Release::Closed { id } => self.closed(&id),
            Release::Forgotten { id } => self.forgotten(&id),
            Release::Noted(noted) => self.noted(*noted),
            // Whoever asked may be gone.
            Release::Mark { told, at } => drop(told.send(at)),
        }
    }

    fn stands(&mut self, id: &str, since: u64) {
        if let Some(live) = self.live.get_mut(id) {
            if live.since > 0 {
                self.cleaner.release(live.since, id);
            }
            live.since = since;
            self.cleaner.keep(since, id);
        }
    }

    /// Begins what an instance wants done in the world.
    fn begin(&mut self, id: &str, effects: Vec<Effect>) {
        let Some(live) = self.live.get_mut(id).filter(|_| !self.ending) else { return };
        self.world.draw(&live.state, &mut live.spans);
        for effect in effects {
            match effect {
                Effect::Timer { task, timer, at } => {
                    self.timers.set(&live.id, &mut live.timers, &live.state, (at, task, timer));
                }
                Effect::Listen { task, attempt, source: Source::Bus(wanted), since } => {
                    let last = live.state.last_heard(task).map(str::to_owned);
                    let id = id.to_owned();
                    self.world.listen(Listener { id, task, attempt, wanted, since, last });
                }
                other => self.world.begin(id.to_owned(), live.origin(), other),
            }
        }
    }

    fn fire(&mut self) {
        let now = self.clock.now();
        self.wake_due(now);
        for _ in 0..TAKE {
            let Some((id, task, timer)) = self.timers.due(now) else { break };
            self.advance_alone(&id, Event::Timer { task, timer, at: now });
        }
        self.park();
    }
}

/// Appends until it is known whether it succeeded. Repeating is harmless: the fence lets one of the repetitions in, and
/// the journal recognises it.
async fn append_until<J: Journal>(journal: J, expected: u64, record: Bytes) -> Result<u64, JournalError> {
    let mut pause = RETRY;
    loop {
        match journal.append(expected, record.clone()).await {
            Err(JournalError::Unavailable) => tokio::time::sleep(RETRY).await,
            Err(JournalError::Refused) => {
                tokio::time::sleep(pause).await;
                pause = LONG_RETRY.min(pause * 2);
            }
            decided => return decided,
        }
    }
}

/// Waits for the append in flight; for ever when there is none.
async fn until(appending: &mut Option<Appending>) -> Result<u64, JournalError> {
    match appending {
        Some(future) => {
            let outcome = future.await;
            *appending = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Timestamp>, now: Timestamp) {
    match wake {
        Some(at) => tokio::time::sleep(Duration::from_millis(at.since(now))).await,
        None => std::future::pending().await,
    }
}

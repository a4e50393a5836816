//! The task that reads the stream of events for one shard.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use sinew::{
    Bus, EVENTS, Timestamp,
    bus::{Follow, Followed, admin::Place},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior},
};

use super::{
    Listener, Position, event,
    index::{Index, Key},
};
use crate::shard::{Handle, Input, Note};

/// The note in the shard's log that says how far it has read.
const NOTE: &str = "events";
/// How often that is noted, where anything changed.
const REMEMBER: Duration = Duration::from_secs(2);
/// Events given to instances after which it is noted at once. Who heard more than the engine remembers (1,024) must not be
/// given the first of them again.
const OFFERED: usize = 256;
/// How long the stream is followed when nobody listens any more.
const IDLE: Duration = Duration::from_secs(30);
/// Listeners noted before others get a turn.
const TURN: usize = 256;
/// Pause before the stream is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// What changes about who listens.
#[derive(Debug)]
pub(crate) enum Told {
    /// A task listens from now on.
    Listens(Listener),
    /// A task does not any more.
    Stopped(Key),
}

/// Reads for one shard.
pub(crate) struct Ears {
    bus: Bus,
    shard: Handle,
    window: Duration,
    told: mpsc::UnboundedReceiver<Told>,
    index: Index,
    /// Those who began to listen and for whom it was not looked yet whether the stream must be read again.
    joining: Vec<Key>,
    /// Those who are behind: events up to `read` are for them alone.
    behind: BTreeSet<Key>,
    /// Everybody else was offered everything up to this sequence.
    read: u64,
    feed: Option<Feed>,
    position: Position,
    /// A moment such that everybody who began to listen before it is known here.
    known_at: Option<i64>,
    offered: usize,
    changed: bool,
    idle_since: Instant,
    /// Those who listened before this owner came.
    before: Box<dyn Iterator<Item = Listener> + Send + Sync>,
}

/// What is read of the stream.
struct Feed {
    follow: Follow,
    subjects: BTreeSet<String>,
}

impl Ears {
    pub(crate) fn new(
        bus: Bus,
        shard: Handle,
        window: Duration,
        told: mpsc::UnboundedReceiver<Told>,
        notes: &BTreeMap<String, serde_json::Value>,
    ) -> Self {
        let noted = notes.get(NOTE).cloned();
        let position = noted.and_then(|note| serde_json::from_value(note).ok()).unwrap_or_default();
        Self {
            bus,
            shard,
            window,
            told,
            index: Index::default(),
            joining: Vec::new(),
            behind: BTreeSet::new(),
            read: 0,
            feed: None,
            position,
            known_at: None,
            offered: 0,
            changed: false,
            idle_since: Instant::now(),
            before: Box::new(std::iter::empty()),
        }
    }

    /// Begins with those who listened before this owner came.
    pub(crate) fn with(self, before: impl Iterator<Item = Listener> + Send + Sync + 'static) -> Self {
        Self { before: Box::new(before), ..self }
    }

    /// Reads until the shard is gone.
    pub(crate) async fn run(mut self) {
        let mut look = tokio::time::interval(REMEMBER);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = std::mem::replace(&mut self.before, Box::new(std::iter::empty()));
        while self.note_some(&mut before) {
            tokio::task::yield_now().await;
        }
        drop(before);
        loop {
            while let Ok(told) = self.told.try_recv() {
                self.note(told);
            }
            self.join().await;
            let due = self.offered >= OFFERED;
            tokio::select! {
                biased;
                told = self.told.recv() => match told {
                    Some(told) => self.note(told),
                    None => return,
                },
                () = std::future::ready(()), if due => {
                    if !self.remember().await {
                        return;
                    }
                }
                _ = look.tick() => {
                    if self.changed && !self.index.is_empty() && !self.remember().await {
                        return;
                    }
                    self.rest();
                }
                followed = next(&mut self.feed) => self.hear(followed).await,
            }
        }
    }

    /// Notes a few of many; says whether there are more.
    fn note_some(&mut self, many: &mut (dyn Iterator<Item = Listener> + Send + Sync)) -> bool {
        let some: Vec<Listener> = many.take(TURN).collect();
        let more = some.len() == TURN;
        some.into_iter().for_each(|listener| self.note(Told::Listens(listener)));
        more
    }

    fn note(&mut self, told: Told) {
        self.changed = true;
        match told {
            Told::Listens(listener) => {
                let start = listener.start(self.position, self.window);
                let key = self.index.insert(listener, start);
                self.joining.push(key);
            }
            Told::Stopped(key) => {
                self.index.remove(&key);
                self.behind.remove(&key);
            }
        }
    }

    /// Reads the stream from where those who just began to listen want it.
    async fn join(&mut self) {
        self.joining.retain(|key| self.index.get(key).is_some());
        if self.joining.is_empty() {
            return;
        }
        let at = self.feed.as_ref().map_or(0, |feed| feed.follow.reached());
        for key in &self.behind {
            // They were offered what was read again so far.
            if let Some(ear) = self.index.get_mut(key) {
                ear.after = ear.after.max(at.min(self.read));
            }
        }
        // Taken whole: a million of them are not kept room for.
        self.behind.extend(std::mem::take(&mut self.joining));
        let from = self.start_of_those_behind().await;
        let mut subjects = self.index.subjects();
        if let Some(feed) = &self.feed {
            // Nobody stopped reading what was read; a type of workflow that comes and goes costs one consumer.
            let both: BTreeSet<String> = subjects.union(&feed.subjects).cloned().collect();
            if feed.subjects.is_superset(&subjects) && from > self.read {
                self.behind.clear();
                return;
            }
            subjects = if both.iter().any(|subject| subject.ends_with('>')) { subjects } else { both };
        }
        // Whoever is not behind goes on where the reading was.
        let from = if self.feed.is_some() { from.min(self.read.saturating_add(1)) } else { from };
        let list = subjects.iter().cloned().collect();
        let follow = self.bus.follow(EVENTS, list, Place::Sequence(from));
        self.feed = Some(Feed { follow, subjects });
    }

    /// Returns the sequence from which on those behind must be offered what there is.
    async fn start_of_those_behind(&self) -> u64 {
        let starts = self.behind.iter().filter_map(|key| self.index.get(key));
        let (mut first, mut earliest) = (u64::MAX, i64::MAX);
        for ear in starts {
            if ear.from_ms == 0 {
                first = first.min(ear.after + 1);
            } else {
                earliest = earliest.min(ear.from_ms);
            }
        }
        if earliest == i64::MAX {
            return first;
        }
        first.min(self.sequence_at(earliest).await)
    }

    /// Returns the sequence of the first event stored at a moment or after it; that of the next one to come if there is none.
    async fn sequence_at(&self, moment: i64) -> u64 {
        let Ok(time) = Timestamp::from_millisecond(moment) else { return 1 };
        let place = Place::Time(time.to_string());
        loop {
            let found = async {
                let head = self.bus.stream_state(EVENTS).await?.last_sequence;
                let found = self.bus.next_message(EVENTS, ">", &place).await?;
                Ok::<_, sinew::Error>(found.map_or(head + 1, |found| found.message.sequence))
            };
            match found.await {
                Ok(sequence) => return sequence,
                Err(error) => tracing::debug!(%error, "the stream of events cannot be asked yet"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Hands an event to those it may concern.
    async fn hear(&mut self, followed: Option<Followed>) {
        if let Some(Followed { message, sequence, .. }) = &followed
            && !self.index.is_empty()
        {
            let stored = followed.as_ref().map_or(0, Followed::stored_ms);
            let event = event::read(message.subject(), *sequence, &message.headers(), message.payload());
            self.hand_out(Arc::new(event), *sequence, stored).await;
        }
        let reached = self.feed.as_ref().map_or(0, |feed| feed.follow.reached());
        if reached >= self.read {
            self.behind.clear();
            self.changed |= reached > self.read;
            self.read = reached;
            self.note_position().await;
        }
    }

    async fn hand_out(&mut self, event: Arc<serde_json::Value>, sequence: u64, stored: i64) {
        let again = sequence <= self.read;
        let mut told = Vec::new();
        for key in self.index.interested(&event) {
            let Some(ear) = self.index.get(key) else { continue };
            if sequence > ear.after && stored >= ear.from_ms && (!again || self.behind.contains(key)) {
                let (id, task) = (key.0.to_string(), key.1);
                let (event, origin) = (event.clone(), Some(event::origin_of(sequence)));
                told.push(Input::Event { id, task, attempt: ear.attempt, event, origin });
            }
        }
        self.offered += told.len();
        for input in told {
            self.shard.tell(input).await;
        }
    }

    /// Asks the shard up to when everybody who began to listen is known here; `false` when it is gone.
    async fn remember(&mut self) -> bool {
        (self.offered, self.changed) = (0, false);
        let (told, at) = oneshot::channel();
        self.shard.tell(Input::Mark { told }).await;
        // It is told behind the effects of what was decided before.
        let Ok(at) = at.await else { return false };
        self.known_at = Some(at.as_millis());
        while let Ok(told) = self.told.try_recv() {
            self.note(told);
        }
        self.note_position().await;
        true
    }

    /// Notes how far everybody is, once nobody is behind.
    async fn note_position(&mut self) {
        if !self.behind.is_empty() || !self.joining.is_empty() || self.read == 0 {
            return;
        }
        let Some(at) = self.known_at.take() else { return };
        self.position = Position { sequence: self.read, at };
        let value = serde_json::to_value(self.position).unwrap_or_default();
        self.shard.tell(Input::Note(Note::new(NOTE, value))).await;
    }

    /// Stops reading when nobody has listened for a while.
    fn rest(&mut self) {
        if !self.index.is_empty() {
            self.idle_since = Instant::now();
        } else if self.idle_since.elapsed() > IDLE {
            self.feed = None;
        }
    }
}

/// Returns what comes next of the stream; `None` when there is nothing more for now. For ever where it is not read.
async fn next(feed: &mut Option<Feed>) -> Option<Followed> {
    match feed {
        Some(feed) => feed.follow.next().await,
        None => std::future::pending().await,
    }
}

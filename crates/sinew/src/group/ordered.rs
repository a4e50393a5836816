//! The active member of an ordered group at work: lanes by key, one event of each at a time.
//!
//! All members join one pinned consumer, so one is active and the rest stand by. The alternatives were weighed: a
//! consumer per partition spreads keys over members but has to move them, with the same question of what is still in
//! somebody's hands at every move; a lock of our own would be a second authority beside the consumer.
//!
//! A failed event is not handed back, it waits here, and its lane with it: handed back it would come again *behind*
//! newer events of its key. What waits is kept alive at the server by signs of life. When it is not sure that this
//! member holds all that is out (it has just become the active one, the connection broke, a delivery is missing), the
//! lanes freeze until [`verify`] has found out what else is. A member that stops hands back what it has not begun and
//! gives up its pin at once: what it still runs is out, so its successor holds back just those keys.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{
    StreamExt as _,
    future::{BoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Interval, MissedTickBehavior},
};
use tokio_util::task::TaskTracker;

use super::{
    Failure,
    inlet::Arrival,
    lanes::{self, Key, Lanes, Place, Start, Taken},
    settle::Verdict,
    spill::{self, Appended, Loaded, Shelf},
    verify::{self, Finding},
    worker::{Health, Member},
};
use crate::{
    Error,
    bus::{Clock, Delivery, Heard, PinConfig, Pinned, Pull, PullConfig},
};

/// Pause before an event is tried again that could not be kept as a dead letter.
const UNSETTLED: Duration = Duration::from_secs(1);
/// Longest delay of an event that failed in a member which is not the active one any more.
const LONGEST_HAND_OVER: Duration = Duration::from_secs(1);

/// Reads the key of an event from its content type and payload.
pub(super) type KeyOf = Arc<dyn Fn(Option<&str>, &[u8]) -> Result<Key, String> + Send + Sync>;

/// How the events of a group are ordered.
#[derive(Clone)]
pub struct Order {
    pub(super) key: KeyOf,
    pub(super) hold: Duration,
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// Joins the group's consumers and begins to work.
pub(super) async fn start(member: Arc<Member>, order: Order, tasks: &TaskTracker) -> Result<Health, Error> {
    let max_ack_pending = i64::try_from(order.events).unwrap_or(i64::MAX);
    let consumer = PullConfig { max_ack_pending, ..member.consumer() };
    let pull = member.bus.pinned(&PinConfig { consumer, hold: order.hold }).await?;
    let own = member.join_inlet(tasks).await?;
    let health = Health([pull.life(), own.life()]);
    tasks.spawn(run(Work::new(member, order, pull, own)));
    Ok(health)
}

/// Works until the group is stopped or the bus closed.
async fn run(mut work: Work) {
    loop {
        match work.input().await {
            Input::Heard(Some(heard)) => work.heard(heard).await,
            Input::Own(Some(delivery)) => work.own(delivery).await,
            Input::Heard(None) | Input::Own(None) | Input::Stop => break,
            Input::Finished(id, outcome) => work.finished(id, outcome).await,
            Input::Found(finding) => work.found(finding).await,
            Input::Appended(appended) => work.appended(appended).await,
            Input::Loaded(loaded) => work.loaded(loaded).await,
            Input::Beat => work.show_life().await,
            Input::Due => work.lanes.due(work.clock.elapsed()),
        }
        work.begin();
        work.spill().await;
    }
    work.close().await;
}

/// Everything that can happen.
enum Input {
    Heard(Option<Heard>),
    /// Something came by the group's own inlet.
    Own(Option<Delivery>),
    Finished(Id, Outcome),
    Found(Finding),
    /// A batch of what waits was spilled.
    Appended(Appended),
    /// The next of a spilled lane came back.
    Loaded(Loaded),
    Beat,
    Due,
    Stop,
}

/// What became of an event that was begun.
#[derive(Debug)]
enum Outcome {
    Settled,
    HandedBack,
    Again(Duration),
}

pub(super) struct Held {
    pub(super) arrival: Arrival,
    /// Why it has no key.
    pub(super) refused: Option<String>,
    pub(super) running: bool,
}

pub(super) struct Work {
    pub(super) member: Arc<Member>,
    pub(super) order: Order,
    pub(super) pull: Pinned,
    /// The group's own inlet. Any member may read there, so only the active one asks.
    own: Pull,
    pub(super) lanes: Lanes,
    pub(super) held: HashMap<Place, Held>,
    pub(super) bytes: usize,
    pub(super) shelf: Shelf,
    /// What is being spilled.
    pub(super) appending: Option<BoxFuture<'static, Appended>>,
    /// What is being read back.
    pub(super) loading: FuturesUnordered<BoxFuture<'static, Loaded>>,
    /// The spilled event that is left out at the server.
    pub(super) anchor: Option<Delivery>,
    tasks: JoinSet<Outcome>,
    begun: HashMap<Id, Place>,
    /// What is being found out.
    pub(super) doubt: Option<BoxFuture<'static, Finding>>,
    beat: Interval,
    /// What the lanes' times count by.
    clock: Clock,
    full: bool,
}

impl Work {
    fn new(member: Arc<Member>, order: Order, pull: Pinned, own: Pull) -> Self {
        let mut beat = tokio::time::interval(member.spec.group.ack_wait / 3);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            lanes: Lanes::new(member.spec.group.concurrency),
            shelf: Shelf::new(&member.bus, &member.service, &member.spec.group.name),
            clock: member.bus.clock(),
            member,
            order,
            pull,
            own,
            held: HashMap::new(),
            bytes: 0,
            appending: None,
            loading: FuturesUnordered::new(),
            anchor: None,
            tasks: JoinSet::new(),
            begun: HashMap::new(),
            doubt: None,
            beat,
            full: false,
        }
    }

    async fn input(&mut self) -> Input {
        let (events, bytes) = self.room();
        let due = self.lanes.next_due().map(|due| (due, self.parked()));
        let clock = &self.clock;
        tokio::select! {
            biased;
            () = self.member.halt.stop.cancelled() => Input::Stop,
            Some(joined) = self.tasks.join_next_with_id() => {
                let (id, outcome) = joined.unwrap_or_else(|error| broken(&error));
                Input::Finished(id, outcome)
            }
            Some(finding) = OptionFuture::from(self.doubt.as_mut()) => Input::Found(finding),
            Some(appended) = OptionFuture::from(self.appending.as_mut()) => Input::Appended(appended),
            Some(loaded) = self.loading.next() => Input::Loaded(loaded),
            _ = self.beat.tick() => Input::Beat,
            Some(()) = OptionFuture::from(due.map(|(due, parked)| clock.sleep_until(due, parked))) => Input::Due,
            delivery = self.own.next(events), if events > 0 && self.pull.is_active() => Input::Own(delivery),
            heard = self.pull.next(events, bytes) => Input::Heard(heard),
        }
    }

    /// Returns what waits for time to pass and for nothing else, by the reply subjects of the deliveries. Only a test
    /// wants to know.
    fn parked(&self) -> Vec<String> {
        let busy = !self.tasks.is_empty()
            || self.doubt.is_some()
            || self.appending.is_some()
            || !self.loading.is_empty()
            || self.lanes.ready() > 0;
        if busy || !self.clock.is_virtual() {
            return Vec::new();
        }
        let held = self.held.values().map(|held| &held.arrival.delivery);
        held.chain(&self.anchor)
            .filter_map(|delivery| delivery.message.reply_to())
            .map(str::to_owned)
            .collect()
    }

    async fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Delivery { delivery, follows } => {
                if !follows {
                    self.doubt();
                }
                self.take(Place::Stream(delivery.sequence), Arrival::direct(delivery)).await;
            }
            Heard::Reconnected if self.pull.is_pinned() => self.doubt(),
            Heard::Reconnected | Heard::Renewed => {}
            Heard::Released => {
                self.doubt = None;
                self.give_up().await;
            }
        }
    }

    async fn own(&mut self, delivery: Delivery) {
        if self.pull.is_active() {
            self.take(Place::Inlet(delivery.sequence), Arrival::redelivered(delivery)).await;
        } else {
            // It was asked for before another member became the active one.
            self.hand_back(&delivery, Duration::ZERO).await;
        }
    }

    async fn take(&mut self, place: Place, arrival: Arrival) {
        let message = &arrival.delivery.message;
        let key = self.order.key_of(message.media_type().as_deref(), message.payload());
        // What has no key is in nobody's way, and in a lane of its own it becomes a dead letter.
        let lane = key.clone().unwrap_or_else(|_| lanes::key(&format!("\u{0}{place:?}")));
        match self.lanes.arrived(place, &lane, arrival.delivery.attempt > 1) {
            Taken::Held => {
                self.bytes += message.len();
                self.held.insert(place, Held { arrival, refused: key.err(), running: false });
            }
            Taken::Again => {
                if let Some(held) = self.held.get_mut(&place) {
                    held.arrival = arrival;
                }
            }
            Taken::Settled => acknowledge(&arrival.delivery).await,
            Taken::Anchor => self.anchor = Some(arrival.delivery),
        }
    }

    /// Begins what may begin.
    fn begin(&mut self) {
        while self.pull.is_active()
            && let Some(Start { place, attempt }) = self.lanes.start()
        {
            let Some(held) = self.held.get_mut(&place) else { continue };
            held.running = true;
            let (arrival, refused) = (held.arrival.clone(), held.refused.clone());
            let task = self.tasks.spawn(attend(self.member.clone(), arrival, attempt, refused));
            self.begun.insert(task.id(), place);
        }
    }

    async fn finished(&mut self, id: Id, outcome: Outcome) {
        let Some(place) = self.begun.remove(&id) else { return };
        match outcome {
            Outcome::Settled => {
                self.lanes.done(place);
                self.let_go(place);
            }
            Outcome::Again(delay) if self.pull.is_pinned() => {
                self.lanes.failed(place, self.clock.elapsed() + delay);
                if let Some(held) = self.held.get_mut(&place) {
                    held.running = false;
                }
            }
            // Another member is the active one by now, and waits for this very event.
            Outcome::Again(delay) => {
                self.lanes.handed_back(place);
                if let Some(held) = self.let_go(place) {
                    self.hand_back(&held.arrival.delivery, delay).await;
                }
            }
            Outcome::HandedBack => {
                self.lanes.handed_back(place);
                self.let_go(place);
            }
        }
    }

    async fn found(&mut self, finding: Finding) {
        if let Finding::Standing(_, pin, _) = &finding
            && !self.pull.is_confirmed(pin)
        {
            // Two members that both take themselves for the active one would wait for each other.
            self.doubt = None;
            return self.give_up().await;
        }
        if let Finding::Standing(_, _, spilled) = &finding
            && let Some(unknown) = self.lanes.unknown(spilled)
        {
            self.doubt = Some(self.shelf.ranges(unknown));
            return;
        }
        let (bus, config) = (&self.member.bus, &self.pull.config().consumer);
        self.doubt = match finding {
            Finding::Spilled(ranges) => {
                self.restore(ranges).await;
                Some(self.ask(false))
            }
            Finding::Standing(standing, ..) if self.lanes.is_certain(&standing) => {
                self.lanes.clear_suspects();
                self.lanes.thaw();
                None
            }
            // The suspects are named; how many of them are real is only seen by asking again.
            Finding::Standing(..) if !self.lanes.is_frozen() => Some(self.ask(true)),
            Finding::Standing(standing, ..) => Some(verify::suspects(bus, config, &self.order, standing)),
            Finding::Suspects(suspects) => {
                for (sequence, key) in suspects {
                    self.lanes.suspect(Place::Stream(sequence), &key);
                }
                let (group, suspects) = (&self.member.spec.group.name, self.lanes.suspects());
                tracing::info!(
                    group,
                    suspects,
                    "waiting for what another member, or nobody, has in its hands"
                );
                self.lanes.thaw();
                Some(self.ask(true))
            }
        };
    }

    /// It is not known any more whether this member holds all that is out.
    fn doubt(&mut self) {
        self.lanes.freeze();
        self.doubt = Some(self.ask(false));
    }

    fn ask(&self, after_a_while: bool) -> BoxFuture<'static, Finding> {
        verify::ask(&self.member.bus, &self.pull.config().consumer, &self.shelf, after_a_while)
    }

    /// Tells the server that what waits here is not lost; what runs does so by itself.
    async fn show_life(&mut self) {
        let waiting = self.held.values().filter(|held| !held.running).map(|held| &held.arrival.delivery);
        for delivery in waiting.chain(&self.anchor) {
            if !self.member.bus.is_connected() {
                return;
            }
            if let Err(error) = delivery.progress().await {
                tracing::debug!(%error, "a sign of life could not be sent");
            }
        }
    }

    /// Hands back what was not begun, for the next active member.
    async fn give_up(&mut self) {
        self.appending = None;
        self.loading.clear();
        if let Some(anchor) = self.anchor.take() {
            self.hand_back(&anchor, Duration::ZERO).await;
        }
        for place in self.lanes.give_up() {
            if let Some(held) = self.let_go(place) {
                self.hand_back(&held.arrival.delivery, Duration::ZERO).await;
            }
        }
    }

    /// Gives an event to the next active member. What cannot be said now is found out by the server's patience.
    async fn hand_back(&mut self, delivery: &Delivery, delay: Duration) {
        if !self.member.bus.is_connected() {
            return;
        }
        // The attempts begin anew there, and until it is there it is a suspect: that must not take long.
        if let Err(error) = delivery.nak(delay.min(LONGEST_HAND_OVER)).await {
            tracing::debug!(%error, "an event could not be handed back and comes later");
        }
    }

    /// Returns how many events, and bytes, there is room for.
    fn room(&mut self) -> (usize, usize) {
        let events = self.order.events.saturating_sub(self.lanes.len());
        let bytes = self.order.bytes.saturating_sub(self.bytes);
        let full = events == 0 || bytes == 0;
        if full && !self.full {
            let (group, held) = (&self.member.spec.group.name, self.lanes.len());
            tracing::warn!(
                group,
                held,
                bytes = self.bytes,
                "the window of the ordered group is full of events that wait and could not be spilled: nothing more is \
                 taken until one is settled; see what fails, or enlarge the window"
            );
        }
        self.full = full;
        if full {
            return (0, 0);
        }
        // Taken ahead is what keeps every hand busy, whatever waits behind others.
        let ahead = (2 * self.member.spec.group.concurrency).saturating_sub(self.lanes.ready());
        (events.min(ahead), bytes)
    }

    pub(super) fn let_go(&mut self, place: Place) -> Option<Held> {
        let held = self.held.remove(&place)?;
        self.bytes -= held.arrival.delivery.message.len();
        Some(held)
    }

    async fn close(mut self) {
        self.pull.stop().await;
        self.own.stop().await;
        while let Some(unstarted) = self.pull.left().await {
            self.hand_back(&unstarted, Duration::ZERO).await;
        }
        while let Some(unstarted) = self.own.left().await {
            self.hand_back(&unstarted, Duration::ZERO).await;
        }
        self.give_up().await;
        self.pull.release().await;
        while let Some(joined) = self.tasks.join_next_with_id().await {
            let (id, outcome) = joined.unwrap_or_else(|error| broken(&error));
            self.finished(id, outcome).await;
        }
    }
}

impl Order {
    /// Returns the key, or why there is none.
    pub(super) fn key_of(&self, content_type: Option<&str>, payload: &Bytes) -> Result<Key, String> {
        catch_unwind(AssertUnwindSafe(|| (self.key)(content_type, payload)))
            .unwrap_or_else(|_| Err("the function that reads the key panicked".to_owned()))
    }
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order")
            .field("hold", &self.hold)
            .field("events", &self.events)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// Tries an event once, and settles it unless it has to be tried again.
async fn attend(member: Arc<Member>, mut arrival: Arrival, attempt: u32, refused: Option<String>) -> Outcome {
    // How often the server handed it out says whether its process survives it. The attempts are counted here: what
    // only waits for others of its key is handed out anew at each change of the active member.
    let refused = refused.map(Failure::Poison).or_else(|| member.crashed(&arrival));
    arrival.delivery.attempt = attempt;
    let (outcome, trace) = member.react(&arrival, refused).await;
    let settled = match member.judge(arrival.attempt(), outcome) {
        Verdict::Retry(delay) => return Outcome::Again(delay),
        Verdict::HandBack => return Outcome::HandedBack,
        // It was handled: should the word be lost, it is said again when the event comes again.
        Verdict::Done => arrival.delivery.ack().await.or(Ok(())),
        Verdict::Bury(problem) => member.bury(&arrival, &problem, trace).await,
    };
    match settled {
        Ok(()) => {
            if let Some(place) = arrival.spilled {
                spill::forget(&member.bus, place).await;
            }
            Outcome::Settled
        }
        Err(error) => {
            let group = &member.spec.group.name;
            tracing::warn!(group, %error, "an event could not be kept as a dead letter yet");
            Outcome::Again(UNSETTLED)
        }
    }
}

/// Says that an event is settled. Should the word be lost, it is said again when the event comes again.
pub(super) async fn acknowledge(delivery: &Delivery) {
    if let Err(error) = delivery.ack().await {
        tracing::debug!(%error, "an event that was handled will come once more");
    }
}

/// A task of ours ended without a word, which it never should: the event begins anew.
fn broken(error: &JoinError) -> (Id, Outcome) {
    tracing::error!(%error, "handling an event ended unexpectedly");
    (error.id(), Outcome::Again(UNSETTLED))
}

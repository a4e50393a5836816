//! Spilling: what waits behind a parked event goes to the stream of lanes, and comes back when its turn has come.
//!
//! What goes there, and when, is decided in [`super::lanes`]. An event is stored there, with the server's word for it,
//! before its original is acknowledged, and is deleted after it was handled or kept as a dead letter: a crash in
//! between leaves a copy, which is known by its sequence.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use sinew_wire::{Headers, header};

use super::{
    inlet::{Arrival, Origin},
    lanes::{Key, Place, Taken},
    ordered::{Held, Work, acknowledge},
    settle::STORE_TIMEOUT,
    verify::Finding,
};
use crate::{
    Bus, Error,
    bus::{Delivery, Message, Stored, admin::Place as From},
    streams::LANES,
};

/// Events that are appended before the lanes are looked at again.
const BATCH: usize = 64;
/// Pause after the server could not be asked.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause before the next attempt to append what could not be.
const REFUSED: Duration = Duration::from_secs(1);
/// When the event was published.
const TIME: &str = "Sinew-Origin-Time";

/// The part of the stream of lanes that belongs to a group.
#[derive(Clone)]
pub(super) struct Shelf {
    bus: Bus,
    /// What the subjects of its lanes begin with.
    prefix: Arc<str>,
}

/// What became of a batch.
pub(super) struct Appended {
    key: Key,
    /// What is stored, in order.
    places: Vec<Place>,
}

/// What came back.
pub(super) struct Loaded {
    key: Key,
    arrival: Option<Arrival>,
}

/// Deletes what is settled. Where that fails, it is done when the event comes back.
pub(super) async fn forget(bus: &Bus, place: u64) {
    if let Err(error) = bus.delete_message(LANES, place).await {
        tracing::debug!(%error, "a spilled event that was handled still stands in its lane");
    }
}

impl Shelf {
    pub(super) fn new(bus: &Bus, service: &str, group: &str) -> Self {
        Self { bus: bus.clone(), prefix: format!("lane.{service}.{group}.").into() }
    }

    /// Lists the lanes of which something is stored.
    pub(super) async fn lanes(&self) -> Result<Vec<Key>, Error> {
        let counts = self.bus.subject_counts(LANES, &format!("{}*", self.prefix)).await?;
        let key = |subject: &str| Key::from_str_radix(subject.strip_prefix(&*self.prefix)?, 16).ok();
        Ok(counts.iter().filter_map(|(subject, _)| key(subject)).collect())
    }

    /// Finds out what is stored of these lanes, until that succeeds.
    pub(super) fn ranges(&self, keys: Vec<Key>) -> BoxFuture<'static, Finding> {
        let shelf = self.clone();
        Box::pin(async move {
            let mut ranges = Vec::new();
            for key in keys {
                let range = patiently(|| shelf.range(key)).await;
                ranges.extend(range.map(|(first, last)| (key, first, last)));
            }
            Finding::Spilled(ranges)
        })
    }

    async fn range(&self, key: Key) -> Result<Option<(u64, u64)>, Error> {
        let subject = self.subject(key);
        let first = self.bus.next_message(LANES, &subject, &From::Sequence(1)).await?;
        let last = self.bus.last_message(LANES, &subject).await?;
        Ok(first.zip(last).map(|(first, last)| (origin(&first.message), origin(&last))))
    }

    /// Appends what is given, until one cannot be.
    fn append(&self, key: Key, batch: Vec<(Place, Arrival)>) -> BoxFuture<'static, Appended> {
        let shelf = self.clone();
        Box::pin(async move {
            let mut places = Vec::with_capacity(batch.len());
            for (place, arrival) in batch {
                if let Err(error) = shelf.put(key, &arrival).await {
                    let lane = shelf.subject(key);
                    tracing::warn!(lane, %error, "what waits in a lane cannot be spilled yet and is held in memory");
                    tokio::time::sleep(REFUSED).await;
                    break;
                }
                places.push(place);
            }
            Appended { key, places }
        })
    }

    async fn put(&self, key: Key, arrival: &Arrival) -> Result<(), Error> {
        let Arrival { delivery, origin, .. } = arrival;
        let stored = Timestamp::try_from(delivery.stored).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut headers = arrival.headers();
        origin.write(&mut headers, arrival.subject())?;
        headers.set(TIME, stored.to_string())?;
        // The same event of the same stream, whichever member appends it.
        let id = format!("{}{}-{}", self.prefix, origin.sequence, stored.as_nanosecond());
        headers.set(header::MESSAGE_ID, id)?;
        let payload = delivery.message.payload().clone();
        self.bus.publish_acked(&self.subject(key), &headers, payload, STORE_TIMEOUT).await.map(|_| ())
    }

    /// Reads what comes next in a lane, after it has deleted what is `settled`.
    fn load(&self, key: Key, settled: Option<u64>) -> BoxFuture<'static, Loaded> {
        let shelf = self.clone();
        Box::pin(async move {
            let arrival = patiently(|| shelf.next(key, settled)).await;
            Loaded { key, arrival }
        })
    }

    async fn next(&self, key: Key, settled: Option<u64>) -> Result<Option<Arrival>, Error> {
        if let Some(settled) = settled {
            self.bus.delete_message(LANES, settled).await?;
        }
        let found = self.bus.next_message(LANES, &self.subject(key), &From::Sequence(1)).await?;
        Ok(found.map(|found| self.read(&found.message)))
    }

    /// Makes of what is stored what it was when it came from its publisher.
    fn read(&self, stored: &Stored) -> Arrival {
        let told = |name| stored.headers.get(name);
        let subject = told(header::ORIGIN_SUBJECT).unwrap_or_default();
        let time = told(TIME).and_then(|time| time.parse::<Timestamp>().ok());
        let mut headers = Headers::new();
        for (name, value) in super::inlet::published(&stored.headers).iter().filter(|(name, _)| *name != TIME)
        {
            let _ = headers.set(name, value);
        }
        let message = Message::from_parts(subject, None, None, &headers, stored.payload.clone());
        let time = time.map_or_else(SystemTime::now, SystemTime::from);
        let delivery = Delivery::unasked(&self.bus, message, origin(stored), time);
        Arrival::spilled(delivery, stored.sequence)
    }

    fn subject(&self, key: Key) -> String {
        format!("{}{key:016x}", self.prefix)
    }
}

impl Work {
    /// Spills what has to be, and reads back what may go on.
    pub(super) async fn spill(&mut self) {
        if !self.pull.is_active() {
            return;
        }
        while let Some(key) = self.lanes.begin_load(self.loading.len()) {
            self.loading.push(self.shelf.load(key, None));
        }
        if self.appending.is_none() {
            self.append();
        }
        if self.lanes.weigh_anchor()
            && let Some(anchor) = self.anchor.take()
        {
            acknowledge(&anchor).await;
        }
    }

    fn append(&mut self) {
        let mut next = self.lanes.begin_append(BATCH);
        if next.is_none()
            && self.is_strained()
            && let Some(waiting) = self.lanes.spill_widest()
        {
            let group = &self.member.spec.group.name;
            tracing::info!(group, waiting, "a lane in which many wait for a failing event is spilled");
            next = self.lanes.begin_append(BATCH);
        }
        let Some((key, places)) = next else { return };
        let arrival = |place| Some((place, self.held.get(&place)?.arrival.clone()));
        let batch = places.into_iter().map_while(arrival).collect();
        self.appending = Some(self.shelf.append(key, batch));
    }

    /// Says whether half of the window is full because of parked lanes.
    fn is_strained(&self) -> bool {
        let events = 2 * self.lanes.len() >= self.order.events;
        let bytes = self.bytes.saturating_mul(2) >= self.order.bytes;
        bytes || events && 2 * self.lanes.stalled() >= self.order.events
    }

    pub(super) async fn appended(&mut self, Appended { key, places }: Appended) {
        self.appending = None;
        self.lanes.appended(key, &places);
        for place in places {
            self.anchor_at(place).await;
        }
    }

    /// Leaves this event out at the server, in place of another.
    async fn anchor_at(&mut self, place: Place) {
        let Some(held) = self.let_go(place) else { return };
        if let Some(before) = self.anchor.replace(held.arrival.delivery) {
            acknowledge(&before).await;
        }
    }

    pub(super) async fn loaded(&mut self, Loaded { key, arrival }: Loaded) {
        let Some(arrival) = arrival else {
            self.lanes.loaded(key, None);
            return;
        };
        let place = Place::Stream(arrival.origin.sequence);
        match self.lanes.loaded(key, Some(arrival.origin.sequence)) {
            Taken::Held => {}
            Taken::Again => {
                if let Some(copy) = self.let_go(place) {
                    acknowledge(&copy.arrival.delivery).await;
                }
            }
            Taken::Settled | Taken::Anchor => {
                self.loading.push(self.shelf.load(key, arrival.spilled));
                return;
            }
        }
        self.bytes += arrival.delivery.message.len();
        self.held.insert(place, Held { arrival, refused: None, running: false });
    }

    /// Takes over what another member has spilled.
    pub(super) async fn restore(&mut self, ranges: Vec<(Key, u64, u64)>) {
        for (key, first, last) in ranges {
            for copy in self.lanes.restore(key, first, last) {
                if let Some(copy) = self.let_go(copy) {
                    acknowledge(&copy.arrival.delivery).await;
                }
            }
        }
    }
}

fn origin(stored: &Stored) -> u64 {
    Origin::read(|name| stored.headers.get(name), stored.sequence).sequence
}

/// Asks until there is an answer.
async fn patiently<T, F>(ask: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => tracing::debug!(%error, "a spilled lane cannot be read yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

//! Replay: a range of the past, given to one group once more.
//!
//! ```no_run
//! # use sinew::{Bulk, Bus, replay::Replay};
//! # async fn demo(bus: Bus) -> Result<(), sinew::Error> {
//! let since = "2026-11-20T00:00:00Z".parse().unwrap();
//! let replay = Replay::new("mail", "mailer").from_time(since);
//! let done = replay.run(&bus, Bulk::default().rate(200.0), |progress| {
//!     println!("{} of {}", progress.copied, progress.last - progress.first + 1);
//! });
//! println!("{} events", done.await?.copied);
//! # Ok(()) }
//! ```
//!
//! The events are copied into the inlet of that group; no other group sees them. They keep their logical ids, and
//! handlers can tell: [`Ctx::is_replay`](crate::Ctx::is_replay).

use std::time::Duration;

use futures::{StreamExt, stream::FuturesOrdered};
use jiff::Timestamp;
use sinew_wire::{Headers, header};

use crate::{
    Bulk, Bus, Error, Kind, Redelivery,
    bulk::pace,
    bus::{
        Stored,
        admin::{Dated, Place},
    },
    group::inlet::{self, Origin},
    schedule,
    streams::EVENTS,
};

/// Copies that may be on their way at once.
const WINDOW: usize = 64;
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// Which events a group is given once more; everything it listens to unless something narrows it down.
#[derive(Clone, Debug)]
pub struct Replay {
    service: String,
    group: String,
    from: Place,
    to: Option<End>,
    header: Option<(String, String)>,
    id: String,
}

/// How far a replay has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Sequence of the first event in the range.
    pub first: u64,
    /// Sequence at which the range ends.
    pub last: u64,
    /// Events copied, or in a dry run found.
    pub copied: u64,
    /// Events left out because they are too near to the server's limit to carry what a copy says.
    pub skipped: u64,
    /// Where to go on: every event before this sequence is copied.
    pub next: u64,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Sequence(u64),
    Time(Timestamp),
}

/// The events of a range, oldest first.
struct Walk<'a> {
    replay: &'a Replay,
    bus: &'a Bus,
    subject: String,
    place: Place,
    last: u64,
}

struct Copied {
    sequence: u64,
    fits: bool,
}

impl Replay {
    /// Prepares a replay of everything the group listens to, up to what stands there when it begins.
    pub fn new(service: impl Into<String>, group: impl Into<String>) -> Self {
        Self {
            service: service.into(),
            group: group.into(),
            from: Place::Sequence(1),
            to: None,
            header: None,
            id: crate::new_id(),
        }
    }

    /// Begins with this sequence of the stream of events.
    #[must_use]
    pub fn from_sequence(mut self, sequence: u64) -> Self {
        self.from = Place::Sequence(sequence.max(1));
        self
    }

    /// Begins with what was stored at or after this moment.
    #[must_use]
    pub fn from_time(mut self, time: Timestamp) -> Self {
        self.from = Place::Time(time.to_string());
        self
    }

    /// Ends with this sequence.
    #[must_use]
    pub fn to_sequence(mut self, sequence: u64) -> Self {
        self.to = Some(End::Sequence(sequence));
        self
    }

    /// Ends before what was stored after this moment.
    #[must_use]
    pub fn to_time(mut self, time: Timestamp) -> Self {
        self.to = Some(End::Time(time));
        self
    }

    /// Takes only events whose header says this, for example `ce-subject` and an order's id.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.header = Some((name.into(), value.into()));
        self
    }

    /// Names the replay. Going on with a broken one under its old name does not copy twice what was copied in the last
    /// two minutes.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Copies the events, and says after each how far it has come.
    ///
    /// # Errors
    /// [`Kind::Config`] when the group does not stand; otherwise what the bus reports. The last progress says where to
    /// go on.
    ///
    /// # Cancel safety
    /// Dropping the future ends the replay; up to 64 events behind the last progress may have been copied.
    pub async fn run(
        self,
        bus: &Bus,
        bulk: Bulk,
        mut report: impl FnMut(Progress),
    ) -> Result<Progress, Error> {
        let mut walk = self.walk(bus).await?;
        let mut progress = Progress { last: walk.last, ..Progress::default() };
        let (mut clock, mut copies, mut found) = (bulk.clock(), FuturesOrdered::new(), 0);
        while !bulk.is_over(found) {
            let Some(event) = walk.next().await? else { break };
            if found == 0 {
                progress.first = event.sequence;
            }
            found += 1;
            pace(&mut clock).await;
            copies.push_back(self.copy(bus, event, bulk.is_dry()));
            if copies.len() >= WINDOW
                && let Some(copied) = copies.next().await
            {
                progress.count(copied?);
                report(progress);
            }
        }
        while let Some(copied) = copies.next().await {
            progress.count(copied?);
            report(progress);
        }
        if !bulk.is_over(found) {
            progress.next = progress.last + 1;
        }
        Ok(progress)
    }

    async fn walk<'a>(&'a self, bus: &'a Bus) -> Result<Walk<'a>, Error> {
        let durable = format!("{}+{}", self.service, self.group);
        let Some(group) = bus.consumer_state(EVENTS, &durable).await? else {
            let Self { service, group, .. } = self;
            let reason =
                format!("group {group} of service {service} does not stand: start the service first");
            return Err(Error::new(Kind::Config, reason));
        };
        let end = bus.stream_state(EVENTS).await?.last_sequence;
        let last = match self.to {
            Some(End::Sequence(last)) => last.min(end),
            _ => end,
        };
        Ok(Walk { replay: self, bus, subject: group.filter().to_owned(), place: self.from.clone(), last })
    }

    /// Copies one event into the group's inlet.
    async fn copy(&self, bus: &Bus, event: Stored, dry: bool) -> Result<Copied, Error> {
        let sequence = event.sequence;
        if dry {
            return Ok(Copied { sequence, fits: true });
        }
        let mut headers = inlet::published(&event.headers);
        if let Some(id) = event.headers.get("ce-id") {
            headers.set("ce-id", schedule::logical_id(id, event.headers.get(schedule::FIRED), sequence))?;
        }
        let why = Some(Redelivery::Replay);
        Origin { sequence, attempts: 0, why }.write(&mut headers, &event.subject)?;
        headers.set(header::MESSAGE_ID, format!("replay/{}/{sequence}", self.id))?;
        let inlet = inlet::subject(&self.service, &self.group);
        match bus.publish_acked(&inlet, &headers, event.payload, STORE_TIMEOUT).await {
            Ok(_) => Ok(Copied { sequence, fits: true }),
            Err(error) if error.kind() == Kind::TooLarge => {
                tracing::warn!(sequence, "an event is too near to the server's limit to be replayed");
                Ok(Copied { sequence, fits: false })
            }
            Err(error) => Err(error),
        }
    }

    fn is_meant(&self, headers: &Headers) -> bool {
        self.header.as_ref().is_none_or(|(name, value)| headers.get(name) == Some(value))
    }
}

impl Walk<'_> {
    /// Returns the next event of the range. Read wrapped, one by one: what is in the past may be bytes that would cost
    /// a connection.
    async fn next(&mut self) -> Result<Option<Stored>, Error> {
        while let Some(Dated { message, time }) =
            self.bus.next_message(EVENTS, &self.subject, &self.place).await?
        {
            let late = match self.replay.to {
                Some(End::Time(end)) => time.parse().is_ok_and(|time: Timestamp| time > end),
                _ => false,
            };
            if message.sequence > self.last || late {
                return Ok(None);
            }
            self.place = Place::Sequence(message.sequence + 1);
            if self.replay.is_meant(&message.headers) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }
}

impl Progress {
    fn count(&mut self, copied: Copied) {
        self.copied += u64::from(copied.fits);
        self.skipped += u64::from(!copied.fits);
        self.next = copied.sequence + 1;
    }
}

//! Where messages come from: past a subscription, or out of a stream from some point on, and on as it grows.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use sinew::{
    Bus,
    bus::{Reader, Stored, Subscription, admin::Place},
    wire::Headers,
};

use crate::{
    error::{Error, code},
    moment::Moment,
    subjects,
};

/// A stream is looked at this often even where nothing seems to come: a subscription may have missed what did.
const LOOK: Duration = Duration::from_secs(2);

/// A message.
pub(super) struct Arrived {
    pub(super) subject: String,
    pub(super) sequence: Option<u64>,
    pub(super) headers: Headers,
    pub(super) payload: Bytes,
}

/// Messages on a subject.
pub(super) enum Source {
    /// As they pass.
    Live(Subscription),
    /// As they are stored.
    Stored(Box<Shelf>),
}

/// A stream that is read to its end and on from there.
pub(super) struct Shelf {
    reader: Reader,
    ready: VecDeque<Stored>,
    /// Tells that it is worth looking again.
    bell: Subscription,
}

impl Source {
    /// Opens a source of what is published on `subject`.
    pub(super) async fn open(bus: &Bus, subject: &str, since: Option<&Moment>) -> Result<Self, Error> {
        let Some(since) = since else {
            let live = bus.subscribe(subject, None).await?;
            bus.barrier().await?;
            return Ok(Self::Live(live));
        };
        let stream = stream_of(bus, subject).await?;
        let from = match since.resolve() {
            Ok(sequence) => sequence,
            Err(time) => sequence_at(bus, &stream, &time.to_string()).await?,
        };
        Self::stored(bus, &stream, subject, from).await
    }

    /// Opens a source of what `stream` holds on `subject` from a sequence on.
    pub(super) async fn stored(bus: &Bus, stream: &str, subject: &str, from: u64) -> Result<Self, Error> {
        let bell = bus.subscribe(subject, None).await?;
        bus.barrier().await?;
        let reader = bus.read_stream(stream, subject, from).await?;
        Ok(Self::Stored(Box::new(Shelf { reader, ready: VecDeque::new(), bell })))
    }

    /// Says whether nothing is lost by waiting.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_))
    }

    /// Returns the next message; `None` once the bus is closed.
    pub(super) async fn next(&mut self) -> Result<Option<Arrived>, Error> {
        match self {
            Self::Live(subscription) => Ok(subscription.next().await.map(|message| Arrived {
                subject: message.subject().to_owned(),
                sequence: None,
                headers: message.headers(),
                payload: message.payload().clone(),
            })),
            Self::Stored(shelf) => shelf.next().await,
        }
    }
}

impl Shelf {
    async fn next(&mut self) -> Result<Option<Arrived>, Error> {
        loop {
            if let Some(stored) = self.ready.pop_front() {
                return Ok(Some(arrived(stored)));
            }
            self.ready.extend(self.reader.batch().await?);
            if self.ready.is_empty() && !self.ring().await {
                return Ok(None);
            }
        }
    }

    /// Waits until there may be more; `false` once the bus is closed.
    async fn ring(&mut self) -> bool {
        match tokio::time::timeout(LOOK, self.bell.next()).await {
            Ok(heard) => heard.is_some(),
            Err(_) => true,
        }
    }
}

/// What the server adds when it reads a message back is no header of the message.
fn arrived(stored: Stored) -> Arrived {
    let mut headers = stored.headers;
    for name in [
        "Nats-Stream",
        "Nats-Subject",
        "Nats-Sequence",
        "Nats-Time-Stamp",
        "Nats-Num-Pending",
        "Nats-Last-Sequence",
    ] {
        headers.remove(name);
    }
    Arrived { subject: stored.subject, sequence: Some(stored.sequence), headers, payload: stored.payload }
}

/// Finds the stream that keeps what is published on `subject`.
async fn stream_of(bus: &Bus, subject: &str) -> Result<String, Error> {
    let streams = bus.streams().await?;
    let keeps = |captured: &String| subjects::covers(captured, subject);
    let found = streams.into_iter().find(|stream| stream.subjects.iter().any(keeps));
    found.map(|stream| stream.name).ok_or_else(|| {
        Error::failed(code::NOT_STORED, format!("no stream keeps what is published on {subject}"))
            .hint("leave --since out to see what passes from now on; events (evt.>) and dead letters (dlq.>) are kept")
    })
}

/// Returns the sequence of the first message stored at a time or after it; that of the next one to come if there is none.
async fn sequence_at(bus: &Bus, stream: &str, time: &str) -> Result<u64, Error> {
    let found = bus.next_message(stream, ">", &Place::Time(time.to_owned())).await?;
    Ok(match found {
        Some(found) => found.message.sequence,
        None => bus.stream_state(stream).await?.last_sequence + 1,
    })
}

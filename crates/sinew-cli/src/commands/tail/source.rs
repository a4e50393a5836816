//! Where messages come from: past a subscription, or out of a stream from some point on, and on as it grows.

use std::{collections::VecDeque, str::FromStr, time::Duration};

use bytes::Bytes;
use sinew::{
    Bus,
    bus::{Reader, Stored, Subscription},
    wire::Headers,
};

use crate::{
    error::{Error, code},
    operation::duration,
    subjects,
};

/// A stream is looked at this often even where nothing seems to come: a subscription may have missed what did.
const LOOK: Duration = Duration::from_secs(2);

/// A point in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Sequence(u64),
    /// RFC 3339.
    Time(String),
    /// So long ago.
    Ago(Duration),
}

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
    pub(super) async fn open(bus: &Bus, subject: &str, since: Option<&Since>) -> Result<Self, Error> {
        let Some(since) = since else {
            let live = bus.subscribe(subject, None).await?;
            bus.barrier().await?;
            return Ok(Self::Live(live));
        };
        let stream = stream_of(bus, subject).await?;
        let from = match since {
            Since::Sequence(sequence) => *sequence,
            Since::Time(time) => sequence_at(bus, &stream, time).await?,
            Since::Ago(ago) => {
                let ago = jiff::SignedDuration::try_from(*ago).unwrap_or(jiff::SignedDuration::ZERO);
                let time = jiff::Timestamp::now().checked_sub(ago).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
                sequence_at(bus, &stream, &time.to_string()).await?
            }
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

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(sequence) = text.parse() {
            return Ok(Self::Sequence(sequence));
        }
        if let Ok(ago) = duration(text) {
            return Ok(Self::Ago(ago));
        }
        let time = text.parse::<jiff::Timestamp>().map(|time| Self::Time(time.to_string()));
        time.map_err(|_| {
            "write how long ago (10m, 2h, 1d), a time (2030-01-31T12:00:00Z) or a sequence (4711)".to_owned()
        })
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

/// Returns the first sequence stored at a time or after it.
async fn sequence_at(bus: &Bus, stream: &str, time: &str) -> Result<u64, Error> {
    Ok(bus.sequence_at(stream, time).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_sequence_a_duration_or_a_time() {
        let since = |text: &str| text.parse::<Since>().ok();
        assert_eq!(since("4711"), Some(Since::Sequence(4711)));
        assert_eq!(since("10m"), Some(Since::Ago(Duration::from_secs(600))));
        assert_eq!(since("2030-01-31T12:00:00Z"), Some(Since::Time("2030-01-31T12:00:00Z".into())));
        assert_eq!([since("yesterday"), since("-1"), since("")], [None, None, None]);
    }
}

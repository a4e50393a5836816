//! Streams: creating them, appending with an acknowledgement, reading single messages from the leader.

use std::time::Duration;

use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use serde::Deserialize;
use sinew_wire::Headers;

use super::Bus;
use crate::{Error, Kind};

/// What the server's error codes mean to us (JetStream API, `err_code`).
const WRONG_LAST_SEQUENCE: [u64; 2] = [10_071, 10_164];

/// Where a stream keeps its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// On disk, synced as the server is configured.
    #[default]
    File,
    /// On disk, flushed in the background: acknowledged before it is durable. For records that can be made again.
    FileAsync,
    /// In the server's memory.
    Memory,
}

/// What a stream keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// Everything within the limits.
    #[default]
    Limits,
    /// What no consumer has acknowledged yet.
    WorkQueue,
}

/// The settings of a stream that Sinew uses.
#[derive(Clone, Debug, Default)]
pub struct StreamConfig {
    /// The stream's name.
    pub name: String,
    /// What it captures.
    pub subjects: Vec<String>,
    /// Where it keeps it.
    pub storage: Storage,
    /// What it keeps.
    pub retention: Retention,
    /// Oldest message kept; zero keeps all.
    pub max_age: Duration,
    /// Messages kept of each subject; zero keeps all.
    pub max_per_subject: u64,
    /// Copies in a cluster; zero means one.
    pub replicas: usize,
}

/// The server's word that a message is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubAck {
    /// The stream that took it.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// Whether it had been stored before, under the same message id.
    pub duplicate: bool,
}

/// A message read back from a stream.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    pub sequence: u64,
    /// Its headers.
    pub headers: Headers,
    /// Its payload.
    pub payload: Bytes,
}

/// How full a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// Messages.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
    /// Sequence of the oldest message.
    pub first_sequence: u64,
    /// Sequence of the newest message.
    pub last_sequence: u64,
}

#[derive(Deserialize)]
struct RawAck {
    error: Option<RawError>,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

#[derive(Deserialize)]
struct RawError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

impl Bus {
    /// Publishes into the stream that captures `subject` and waits until it is stored.
    ///
    /// # Errors
    /// [`Kind::NoResponders`] when no stream captures the subject, [`Kind::Conflict`] when an expected sequence did
    /// not match, [`Kind::TimedOut`] when it is unknown whether the message was stored.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it unknown whether the message was stored.
    pub async fn publish_acked(
        &self,
        subject: &str,
        headers: &Headers,
        payload: Bytes,
        limit: Duration,
    ) -> Result<PubAck, Error> {
        let reply =
            self.request(subject, headers, payload, limit).await.map_err(|error| match error.kind() {
                Kind::NoResponders => Error::new(
                    Kind::NoResponders,
                    format!("no stream captures {subject}: is jetstream enabled and the stream created?"),
                ),
                _ => error,
            })?;
        let ack: RawAck = serde_json::from_slice(reply.payload()).map_err(|error| {
            Error::new(Kind::JetStream, "the stream's answer cannot be read").because(error)
        })?;
        match ack.error {
            None => Ok(PubAck { stream: ack.stream, sequence: ack.seq, duplicate: ack.duplicate }),
            Some(error) if WRONG_LAST_SEQUENCE.contains(&error.err_code) => {
                Err(Error::new(Kind::Conflict, error.description))
            }
            Some(error) => {
                Err(Error::new(Kind::JetStream, format!("the stream refused it: {}", error.description)))
            }
        }
    }

    /// Creates the stream unless it stands already; an existing one is left as it is.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the server refuses, for example because subjects overlap.
    pub async fn ensure_stream(&self, config: &StreamConfig) -> Result<(), Error> {
        let wanted = stream::Config {
            name: config.name.clone(),
            subjects: config.subjects.clone(),
            storage: match config.storage {
                Storage::Memory => stream::StorageType::Memory,
                Storage::File | Storage::FileAsync => stream::StorageType::File,
            },
            persist_mode: (config.storage == Storage::FileAsync).then_some(stream::PersistenceMode::Async),
            retention: match config.retention {
                Retention::Limits => stream::RetentionPolicy::Limits,
                Retention::WorkQueue => stream::RetentionPolicy::WorkQueue,
            },
            max_age: config.max_age,
            max_messages_per_subject: i64::try_from(config.max_per_subject).unwrap_or(i64::MAX),
            num_replicas: config.replicas.max(1),
            allow_direct: true,
            ..stream::Config::default()
        };
        let made = self.jetstream().get_or_create_stream(wanted).await;
        made.map(|_| ()).map_err(|error| refused(&format!("cannot create stream {}", config.name), error))
    }

    /// Reads the newest message on `subject` from the stream's leader.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the stream cannot be asked.
    pub async fn last_message(&self, stream: &str, subject: &str) -> Result<Option<Stored>, Error> {
        let failed = |error: async_nats::Error| refused(&format!("cannot read stream {stream}"), error);
        let handle =
            self.jetstream().get_stream_no_info(stream).await.map_err(|e| failed(Box::new(e) as _))?;
        match handle.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(Stored {
                subject: message.subject.to_string(),
                sequence: message.sequence,
                headers: super::message::checked(&message.headers),
                payload: message.payload,
            })),
            Err(error) if error.kind() == stream::LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(Box::new(error) as _)),
        }
    }

    /// Returns how full a stream is.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when there is no such stream.
    pub async fn stream_state(&self, stream: &str) -> Result<StreamState, Error> {
        let info = async { Ok(self.jetstream().get_stream(stream).await?.get_info().await?.state) };
        let state: Result<_, async_nats::Error> = info.await;
        let state = state.map_err(|error| refused(&format!("cannot ask about stream {stream}"), error))?;
        Ok(StreamState {
            messages: state.messages,
            bytes: state.bytes,
            first_sequence: state.first_sequence,
            last_sequence: state.last_sequence,
        })
    }

    /// Removes the messages on `subject` that stand before `sequence`.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the stream cannot be asked.
    pub async fn purge_stream(&self, stream: &str, subject: &str, sequence: u64) -> Result<(), Error> {
        let purge = async {
            let handle = self.jetstream().get_stream_no_info(stream).await?;
            handle.purge().filter(subject).sequence(sequence).await?;
            Ok(())
        };
        let purged: Result<(), async_nats::Error> = purge.await;
        purged.map_err(|error| refused(&format!("cannot purge stream {stream}"), error))
    }

    pub(super) fn jetstream(&self) -> jetstream::Context {
        let client = self.shared.client.load_full();
        jetstream::new((*client).clone())
    }
}

pub(super) fn refused(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let source = source.into();
    Error::new(Kind::JetStream, format!("{what}: {source}")).because(source)
}

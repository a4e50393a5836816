//! Streams: creating them, appending with an acknowledgement, reading single messages from the leader.

use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json};
use sinew_wire::Headers;
use tokio::time::Instant;

use super::message::sendable;
use super::{
    Bus,
    api::{self, ApiError, code},
};
use crate::{Error, Kind};

/// Pauses before a message is offered again that nobody listened to.
const ELECTING: [Duration; 4] = [
    Duration::from_millis(25),
    Duration::from_millis(75),
    Duration::from_millis(200),
    Duration::from_millis(500),
];

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
    /// Whether messages may be held back by a schedule; an existing stream learns it by [`Bus::provide_stream`].
    pub schedules: bool,
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
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

#[derive(Deserialize)]
struct RawInfo {
    state: RawState,
}

/// The settings of a stream that stands, all of them, so that an update changes nothing else.
#[derive(Deserialize)]
pub(super) struct Standing {
    pub(super) config: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawState {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
pub(super) struct RawFound {
    pub(super) message: RawStored,
}

#[derive(Deserialize)]
pub(super) struct RawStored {
    subject: String,
    seq: u64,
    /// Base64, as is `data`; both are missing where they are empty.
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    /// When it was stored, RFC 3339.
    #[serde(default)]
    pub(super) time: String,
}

impl Bus {
    /// Publishes into the stream that captures `subject` and waits until it is stored. Where nobody listens it is offered
    /// again a few times within `limit`, for most of a second: in a cluster a stream is deaf while it gets a new leader.
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
        let began = Instant::now();
        for pause in ELECTING {
            let left = limit.saturating_sub(began.elapsed());
            match self.publish_once(subject, headers, payload.clone(), left).await {
                // Nobody has it, so offering it again cannot store it twice.
                Err(error)
                    if error.kind() == Kind::NoResponders
                        && pause < limit.saturating_sub(began.elapsed()) =>
                {
                    tokio::time::sleep(pause).await;
                }
                settled => return settled,
            }
        }
        self.publish_once(subject, headers, payload, limit.saturating_sub(began.elapsed())).await
    }

    /// As [`Bus::publish_acked`], offered once.
    pub(crate) async fn publish_once(
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
        match api::read::<RawAck>(reply.payload()) {
            Ok(ack) => Ok(PubAck { stream: ack.stream, sequence: ack.seq, duplicate: ack.duplicate }),
            Err(ApiError::Refused(refusal)) if code::WRONG_LAST_SEQUENCE.contains(&refusal.err_code) => {
                Err(Error::new(Kind::Conflict, refusal.description))
            }
            Err(error) => Err(error.during("the stream refused it")),
        }
    }

    /// Creates the stream unless it stands already; an existing one is left as it is, but for copies it has too few of.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the server refuses, for example because subjects overlap.
    pub async fn ensure_stream(&self, config: &StreamConfig) -> Result<(), Error> {
        let made = self.ensure_raw_stream(&config.name, &config.to_json()).await;
        made.map_err(|error| error.during(&format!("cannot create stream {}", config.name)))
    }

    /// Reads the newest message on `subject` from the stream's leader.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the server refuses; otherwise why it could not be asked.
    pub async fn last_message(&self, stream: &str, subject: &str) -> Result<Option<Stored>, Error> {
        let body = json!({ "last_by_subj": subject });
        match self.api::<RawFound>(&format!("STREAM.MSG.GET.{stream}"), &body).await {
            Ok(found) => found.message.read().map(Some),
            Err(error) if error.is(code::NO_MESSAGE) => Ok(None),
            Err(error) => Err(error.during(&format!("cannot read stream {stream}"))),
        }
    }

    /// Returns how full a stream is.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when there is no such stream; otherwise why it could not be asked.
    pub async fn stream_state(&self, stream: &str) -> Result<StreamState, Error> {
        let info = self.api::<RawInfo>(&format!("STREAM.INFO.{stream}"), &Value::Null).await;
        let state = info.map_err(|error| error.during(&format!("cannot ask about stream {stream}")))?.state;
        Ok(StreamState {
            messages: state.messages,
            bytes: state.bytes,
            first_sequence: state.first_seq,
            last_sequence: state.last_seq,
        })
    }

    /// Removes the messages on `subject` that stand before `sequence`.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the server refuses; otherwise why it could not be asked.
    pub async fn purge_stream(&self, stream: &str, subject: &str, sequence: u64) -> Result<(), Error> {
        let body = json!({ "filter": subject, "seq": sequence });
        let purged = self.api::<IgnoredAny>(&format!("STREAM.PURGE.{stream}"), &body).await;
        purged.map(|_| ()).map_err(|error| error.during(&format!("cannot purge stream {stream}")))
    }

    /// Creates a stream from its settings as the server reads them, unless one of that name stands, which gets more copies
    /// where it has too few.
    pub(super) async fn ensure_raw_stream(&self, name: &str, config: &Value) -> Result<(), ApiError> {
        let wanted = self.replicated(config);
        match self.api::<Standing>(&format!("STREAM.INFO.{name}"), &Value::Null).await {
            Ok(Standing { config }) => {
                self.raise(name, config, &wanted).await;
                return Ok(());
            }
            Err(error) if error.is(code::STREAM_NOT_FOUND) => {}
            Err(error) => return Err(error),
        }
        match self.api::<IgnoredAny>(&format!("STREAM.CREATE.{name}"), &wanted).await {
            // Somebody else was faster, with settings of their own.
            Err(error) if error.is(code::STREAM_STANDS) => Ok(()),
            made => made.map(|_| ()),
        }
    }

    /// Has a stream that stands keep as many copies as `wanted` asks for. It is never given fewer: somebody may have asked
    /// for them. Where that fails it serves as it did, so it is only said.
    pub(super) async fn raise(&self, name: &str, mut standing: Map<String, Value>, wanted: &Value) {
        let copies = |value: Option<&Value>| value.and_then(Value::as_u64).unwrap_or(1);
        let (stands, asked) = (copies(standing.get("num_replicas")), copies(wanted.get("num_replicas")));
        if stands >= asked {
            return;
        }
        standing.insert("num_replicas".to_owned(), asked.into());
        match self.api::<IgnoredAny>(&format!("STREAM.UPDATE.{name}"), &Value::Object(standing)).await {
            Ok(_) => {
                tracing::info!(stream = name, copies = asked, before = stands, "a stream keeps more copies")
            }
            Err(error) => {
                let error = error.during("cannot update it");
                tracing::warn!(
                    stream = name, copies = stands, asked, %error,
                    "a stream keeps fewer copies than asked for: `nats stream edit {name} --replicas={asked}` gives it more"
                );
            }
        }
    }

    /// Returns a stream's settings with as many copies as this handle keeps of what it creates.
    pub(super) fn replicated(&self, config: &Value) -> Value {
        let mut config = config.clone();
        if config["num_replicas"].as_u64().is_none_or(|copies| copies < self.replicas as u64) {
            config["num_replicas"] = self.replicas.into();
            // The server takes no copies of a stream that it writes in the background.
            if self.replicas > 1 {
                config.as_object_mut().map(|members| members.remove("persist_mode"));
            }
        }
        config
    }
}

impl StreamConfig {
    /// Returns the settings as the server reads them.
    pub(super) fn to_json(&self) -> Value {
        let mut json = json!({
            "name": self.name,
            "subjects": self.subjects,
            "storage": if self.storage == Storage::Memory { "memory" } else { "file" },
            "retention": match self.retention {
                Retention::Limits => "limits",
                Retention::WorkQueue => "workqueue",
            },
            "max_age": nanos(self.max_age),
            "max_msgs_per_subject": i64::try_from(self.max_per_subject).unwrap_or(i64::MAX),
            "num_replicas": self.replicas.max(1),
            "allow_direct": true,
        });
        if self.storage == Storage::FileAsync {
            json["persist_mode"] = "async".into();
        }
        if self.schedules {
            json["allow_msg_schedules"] = true.into();
        }
        json
    }
}

impl RawStored {
    pub(super) fn read(self) -> Result<Stored, Error> {
        let bytes = |text: &str| {
            BASE64.decode(text.as_bytes()).map_err(|error| {
                Error::new(Kind::JetStream, "a message of the stream cannot be read").because(error)
            })
        };
        let headers = sendable(&bytes(&self.hdrs)?);
        let payload = bytes(&self.data)?.into();
        Ok(Stored { subject: self.subject, sequence: self.seq, headers, payload })
    }
}

/// Returns a duration as the server reads it.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_block_is_read_as_far_as_it_can_be_sent_on() {
        let headers =
            sendable(b"NATS/1.0\r\nNats-TTL: 5s\r\nx:y\r\nx: z\r\nbad\rname: 1\r\nno colon\r\n\r\n");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("Nats-TTL", "5s"), ("x", "y")]);
        assert!(sendable(b"").is_empty());
    }
}

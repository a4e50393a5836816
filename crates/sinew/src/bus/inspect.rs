//! Looking at streams and consumers as they stand. Asks the JetStream API and changes nothing.
//!
//! Source: the JetStream API, `STREAM.LIST`, `STREAM.INFO`, `CONSUMER.LIST` and `CONSUMER.INFO`.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Bus, api::code};
use crate::{Error, Kind};

/// What the server answers about a stream or consumer that does not stand.
const ABSENT: [u64; 2] = [code::STREAM_NOT_FOUND, code::CONSUMER_NOT_FOUND];

/// A stream: its settings and how full it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// What it captures.
    pub subjects: Vec<String>,
    /// Copies of it in the cluster.
    pub replicas: u64,
    /// Whether it is kept in memory only.
    pub in_memory: bool,
    /// Whether a full stream refuses what is new; otherwise it drops what is oldest.
    pub refuses_when_full: bool,
    /// Most messages it keeps; `None` without a limit.
    pub max_messages: Option<u64>,
    /// Most bytes it keeps; `None` without a limit.
    pub max_bytes: Option<u64>,
    /// Most consumers it takes; `None` without a limit.
    pub max_consumers: Option<u64>,
    /// Messages it holds.
    pub messages: u64,
    /// Bytes it holds.
    pub bytes: u64,
    /// Consumers it has.
    pub consumers: u64,
    /// Sequence of the oldest message.
    pub first_sequence: u64,
    /// Sequence of the newest message.
    pub last_sequence: u64,
}

/// A consumer: its settings and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsumerInfo {
    /// The stream it reads.
    pub stream: String,
    /// Its name.
    pub name: String,
    /// Whether it stays when nobody uses it.
    pub durable: bool,
    /// What it takes; empty for everything.
    pub filters: Vec<String>,
    /// Deliveries of one message before the server gives it up; `None` for never.
    pub max_deliver: Option<u64>,
    /// Messages it has not delivered yet.
    pub pending: u64,
    /// Messages that are out and not settled.
    pub unsettled: u64,
    /// Messages that are out for a second time or more.
    pub redelivered: u64,
    /// Requests for messages that wait at the server.
    pub waiting: u64,
    /// Whether somebody takes what a push consumer sends.
    pub bound: bool,
    /// Sequence in the stream of the newest message delivered.
    pub delivered: u64,
    /// Sequence in the stream below which everything is settled.
    pub settled_below: u64,
    /// Messages settled since it stands, in the order of delivery.
    pub settled: u64,
    /// When it last delivered anything, RFC 3339.
    pub last_delivery: Option<String>,
}

impl Bus {
    /// Lists every stream of the account.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the server refuses or JetStream is off.
    pub async fn streams(&self) -> Result<Vec<StreamInfo>, Error> {
        let raw: Vec<RawStream> = self.listed("STREAM.LIST", "streams").await?;
        Ok(raw.into_iter().map(StreamInfo::from).collect())
    }

    /// Looks at one stream; `None` when it does not stand.
    ///
    /// # Errors
    /// As [`Bus::streams`].
    pub async fn stream(&self, stream: &str) -> Result<Option<StreamInfo>, Error> {
        let found: Option<RawStream> = self.looked_up(&format!("STREAM.INFO.{stream}"), &json!({})).await?;
        Ok(found.map(StreamInfo::from))
    }

    /// Counts what a stream holds on each subject under `filter`, wildcards allowed; nothing for a stream that does not
    /// stand. The server names at most 100,000 subjects.
    ///
    /// # Errors
    /// As [`Bus::streams`].
    pub async fn subject_counts(&self, stream: &str, filter: &str) -> Result<Vec<(String, u64)>, Error> {
        let asked = json!({ "subjects_filter": filter });
        let found: Option<Value> = self.looked_up(&format!("STREAM.INFO.{stream}"), &asked).await?;
        let counts = found.and_then(|mut info| info.pointer_mut("/state/subjects").map(Value::take));
        let Some(Value::Object(counts)) = counts else { return Ok(Vec::new()) };
        Ok(counts.into_iter().filter_map(|(subject, count)| Some((subject, count.as_u64()?))).collect())
    }

    /// Lists the consumers of a stream; none for a stream that does not stand.
    ///
    /// # Errors
    /// As [`Bus::streams`].
    pub async fn consumers(&self, stream: &str) -> Result<Vec<ConsumerInfo>, Error> {
        let raw: Vec<RawConsumer> = self.listed(&format!("CONSUMER.LIST.{stream}"), "consumers").await?;
        Ok(raw.into_iter().map(ConsumerInfo::from).collect())
    }

    /// Looks at one consumer; `None` when it does not stand.
    ///
    /// # Errors
    /// As [`Bus::streams`].
    pub async fn consumer(&self, stream: &str, name: &str) -> Result<Option<ConsumerInfo>, Error> {
        let found: Option<RawConsumer> =
            self.looked_up(&format!("CONSUMER.INFO.{stream}.{name}"), &json!({})).await?;
        Ok(found.map(ConsumerInfo::from))
    }

    /// Reads a list page by page.
    async fn listed<T: DeserializeOwned>(&self, verb: &str, member: &str) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        loop {
            let asked = json!({ "offset": all.len() });
            let Some(mut page) = self.looked_up::<Value>(verb, &asked).await? else { return Ok(all) };
            let total = page.get("total").and_then(Value::as_u64).unwrap_or(0);
            let entries = page.get_mut(member).map(Value::take).unwrap_or_default();
            let entries: Option<Vec<T>> = serde_json::from_value(entries).map_err(unreadable)?;
            let entries = entries.unwrap_or_default();
            let empty = entries.is_empty();
            all.extend(entries);
            if empty || u64::try_from(all.len()).unwrap_or(u64::MAX) >= total {
                return Ok(all);
            }
        }
    }

    /// Asks one question of the JetStream API; `None` where what it is about does not stand.
    async fn looked_up<T: DeserializeOwned>(&self, verb: &str, asked: &Value) -> Result<Option<T>, Error> {
        match self.api(verb, asked).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if ABSENT.into_iter().any(|code| error.is(code)) => Ok(None),
            Err(error) => Err(error.during(&format!("cannot ask for {verb}"))),
        }
    }
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::new(Kind::JetStream, "the answer of jetstream cannot be read").because(error)
}

#[derive(Deserialize)]
struct RawStream {
    config: RawStreamConfig,
    state: RawState,
}

#[derive(Deserialize)]
#[serde(default)]
struct RawStreamConfig {
    name: String,
    subjects: Vec<String>,
    num_replicas: u64,
    storage: String,
    discard: String,
    max_msgs: i64,
    max_bytes: i64,
    max_consumers: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawState {
    messages: u64,
    bytes: u64,
    consumer_count: u64,
    first_seq: u64,
    last_seq: u64,
}

#[derive(Deserialize)]
struct RawConsumer {
    stream_name: String,
    name: String,
    #[serde(default)]
    config: RawConsumerConfig,
    #[serde(default)]
    delivered: RawPosition,
    #[serde(default)]
    ack_floor: RawPosition,
    #[serde(default)]
    num_pending: u64,
    #[serde(default)]
    num_ack_pending: u64,
    #[serde(default)]
    num_redelivered: u64,
    #[serde(default)]
    num_waiting: u64,
    #[serde(default)]
    push_bound: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawConsumerConfig {
    durable_name: String,
    filter_subject: String,
    filter_subjects: Vec<String>,
    max_deliver: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPosition {
    consumer_seq: u64,
    stream_seq: u64,
    last_active: Option<String>,
}

impl Default for RawStreamConfig {
    fn default() -> Self {
        let (name, storage, discard) = Default::default();
        Self {
            name,
            subjects: Vec::new(),
            num_replicas: 1,
            storage,
            discard,
            max_msgs: -1,
            max_bytes: -1,
            max_consumers: -1,
        }
    }
}

impl From<RawStream> for StreamInfo {
    fn from(RawStream { config, state }: RawStream) -> Self {
        Self {
            name: config.name,
            subjects: config.subjects,
            replicas: config.num_replicas,
            in_memory: config.storage == "memory",
            refuses_when_full: config.discard == "new",
            max_messages: limit(config.max_msgs),
            max_bytes: limit(config.max_bytes),
            max_consumers: limit(config.max_consumers),
            messages: state.messages,
            bytes: state.bytes,
            consumers: state.consumer_count,
            first_sequence: state.first_seq,
            last_sequence: state.last_seq,
        }
    }
}

impl From<RawConsumer> for ConsumerInfo {
    fn from(raw: RawConsumer) -> Self {
        let mut filters = raw.config.filter_subjects;
        if !raw.config.filter_subject.is_empty() {
            filters.push(raw.config.filter_subject);
        }
        Self {
            stream: raw.stream_name,
            name: raw.name,
            durable: !raw.config.durable_name.is_empty(),
            filters,
            max_deliver: limit(raw.config.max_deliver),
            pending: raw.num_pending,
            unsettled: raw.num_ack_pending,
            redelivered: raw.num_redelivered,
            waiting: raw.num_waiting,
            bound: raw.push_bound,
            delivered: raw.delivered.stream_seq,
            settled_below: raw.ack_floor.stream_seq,
            settled: raw.ack_floor.consumer_seq,
            last_delivery: raw.delivered.last_active,
        }
    }
}

/// The server writes "no limit" as -1, and as 0 where it is older.
fn limit(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|&limit| limit > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_one_is_no_limit() {
        assert_eq!([limit(-1), limit(0), limit(7)], [None, None, Some(7)]);
    }

    #[test]
    fn a_consumer_is_read_with_little_said_of_it() {
        let raw =
            json!({ "stream_name": "EVENTS", "name": "a+b", "config": { "filter_subject": "evt.a.b" } });
        let info = ConsumerInfo::from(serde_json::from_value::<RawConsumer>(raw).unwrap());
        assert_eq!((info.filters, info.max_deliver, info.durable), (vec!["evt.a.b".to_owned()], None, false));
    }
}

//! Administration of streams and consumers: what reading and appending do not cover.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value, json};

use super::{
    Bus, Stored, StreamConfig,
    api::{ApiError, code},
    jetstream::{RawFound, Standing},
};
use crate::Error;

/// What the server tells of a durable consumer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ConsumerState {
    /// Messages it has not delivered yet.
    #[serde(rename = "num_pending")]
    pub waiting: u64,
    /// Messages delivered and not yet answered.
    #[serde(rename = "num_ack_pending")]
    pub unanswered: u64,
    config: ConsumerSettings,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct ConsumerSettings {
    #[serde(default)]
    filter_subject: String,
}

/// Where reading a single message begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this sequence.
    Sequence(u64),
    /// At the first message stored at or after this moment, RFC 3339.
    Time(String),
}

/// A message with the moment it was stored.
#[derive(Clone, Debug)]
pub struct Dated {
    /// The message.
    pub message: Stored,
    /// When it was stored, RFC 3339.
    pub time: String,
}

impl ConsumerState {
    /// Returns the subject it takes; empty where it takes everything.
    pub fn filter(&self) -> &str {
        &self.config.filter_subject
    }
}

impl Bus {
    /// Creates the stream, or gives one that stands what it lacks: subjects, message schedules and copies. Nothing an operator
    /// has set is taken away, and nothing is changed where nothing lacks.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when the server refuses, for example because subjects overlap with another stream's.
    pub async fn provide_stream(&self, config: &StreamConfig) -> Result<(), Error> {
        let (name, wanted) = (&config.name, self.replicated(&config.to_json()));
        // Asked first, so that where everything stands nobody needs the permission to create or change it.
        let info = match self.api::<Standing>(&format!("STREAM.INFO.{name}"), &Value::Null).await {
            Err(error) if error.is(code::STREAM_NOT_FOUND) => {
                match self.api::<Standing>(&format!("STREAM.CREATE.{name}"), &wanted).await {
                    // Somebody else was faster, perhaps with settings of an older version.
                    Err(error) if error.is(code::STREAM_STANDS) => {
                        self.api::<Standing>(&format!("STREAM.INFO.{name}"), &Value::Null).await
                    }
                    made => made,
                }
            }
            stands => stands,
        };
        let mut standing =
            info.map_err(|error| error.during(&format!("cannot provide stream {name}")))?.config;
        if !upgrade(&mut standing, &wanted) {
            self.raise(name, standing, &wanted).await;
            return Ok(());
        }
        let update =
            self.api::<IgnoredAny>(&format!("STREAM.UPDATE.{name}"), &Value::Object(standing.clone())).await;
        update.map_err(|error| error.during(&format!("cannot update stream {name}")))?;
        self.raise(name, standing, &wanted).await;
        Ok(())
    }

    /// Reads the first message from `place` on that is on `subject` (wildcards allowed), from the stream's leader.
    ///
    /// The server sends it wrapped, so that bytes which would cost a connection can be read too: headers that cannot
    /// be sent on are left out.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when there is no such stream.
    pub async fn next_message(
        &self,
        stream: &str,
        subject: &str,
        place: &Place,
    ) -> Result<Option<Dated>, Error> {
        let body = match place {
            Place::Sequence(sequence) => json!({ "seq": sequence, "next_by_subj": subject }),
            Place::Time(time) => json!({ "start_time": time, "next_by_subj": subject }),
        };
        self.get(stream, &body).await
    }

    /// Reads one message by its sequence, from the stream's leader; as [`Bus::next_message`].
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when there is no such stream.
    pub async fn message_at(&self, stream: &str, sequence: u64) -> Result<Option<Dated>, Error> {
        self.get(stream, &json!({ "seq": sequence })).await
    }

    /// Deletes one message, and says whether it was still there.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when the server refuses, [`crate::Kind::TimedOut`] when it is unknown whether it was
    /// deleted.
    pub async fn delete_message(&self, stream: &str, sequence: u64) -> Result<bool, Error> {
        let body = json!({ "seq": sequence, "no_erase": true });
        match self.api::<IgnoredAny>(&format!("STREAM.MSG.DELETE.{stream}"), &body).await {
            Ok(_) => Ok(true),
            Err(error) if error.is(code::NO_SEQUENCE) || error.is(code::NO_MESSAGE) => Ok(false),
            Err(error) => Err(error.during(&format!("cannot delete from stream {stream}"))),
        }
    }

    /// Removes every message on `subject`, and returns how many there were.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when the server refuses, [`crate::Kind::TimedOut`] when it is unknown whether they were
    /// removed.
    pub async fn purge_subject(&self, stream: &str, subject: &str) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct Purged {
            purged: u64,
        }
        let answer = self.api(&format!("STREAM.PURGE.{stream}"), &json!({ "filter": subject })).await;
        answer
            .map(|Purged { purged }| purged)
            .map_err(|error| error.during(&format!("cannot purge stream {stream}")))
    }

    /// Asks about a durable consumer; `None` where it does not stand.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when there is no such stream.
    pub async fn consumer_state(&self, stream: &str, durable: &str) -> Result<Option<ConsumerState>, Error> {
        let info = self.api(&format!("CONSUMER.INFO.{stream}.{durable}"), &Value::Null).await;
        found(info, code::CONSUMER_NOT_FOUND, &format!("cannot ask about consumer {durable}"))
    }

    async fn get(&self, stream: &str, body: &Value) -> Result<Option<Dated>, Error> {
        let read = self.api::<RawFound>(&format!("STREAM.MSG.GET.{stream}"), body).await;
        let Some(RawFound { message }) =
            found(read, code::NO_MESSAGE, &format!("cannot read stream {stream}"))?
        else {
            return Ok(None);
        };
        let time = message.time.clone();
        Ok(Some(Dated { message: message.read()?, time }))
    }
}

/// Tells "it is not there" from "it cannot be asked".
fn found<T>(answer: Result<T, ApiError>, missing: u64, what: &str) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is(missing) => Ok(None),
        Err(error) => Err(error.during(what)),
    }
}

/// Adds what `standing` lacks of `wanted`; says whether it lacked anything.
fn upgrade(standing: &mut Map<String, Value>, wanted: &Value) -> bool {
    let mut changed = false;
    if let Some(Value::Array(subjects)) = standing.get_mut("subjects") {
        for subject in wanted["subjects"].as_array().into_iter().flatten() {
            if !subjects.contains(subject) {
                subjects.push(subject.clone());
                changed = true;
            }
        }
    }
    for switch in ["allow_direct", "allow_msg_schedules"] {
        let on = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or_default();
        if on(wanted.get(switch)) && !on(standing.get(switch)) {
            standing.insert(switch.to_owned(), Value::Bool(true));
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_given_what_it_lacks_and_keeps_what_it_has() {
        let wanted = StreamConfig {
            name: "EVENTS".into(),
            subjects: vec!["evt.>".into(), "evt-at.>".into()],
            schedules: true,
            ..StreamConfig::default()
        };
        let wanted = wanted.to_json();
        let Value::Object(mut standing) = json!({ "subjects": ["evt.>", "own.>"], "num_replicas": 3 }) else {
            unreachable!()
        };
        assert!(upgrade(&mut standing, &wanted));
        assert_eq!(standing["subjects"], json!(["evt.>", "own.>", "evt-at.>"]));
        assert_eq!((&standing["num_replicas"], &standing["allow_msg_schedules"]), (&json!(3), &json!(true)));
        assert!(!upgrade(&mut standing, &wanted), "nothing lacks any more");
    }
}

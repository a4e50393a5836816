//! What is left of an instance when it has ended: one message per instance, kept for a limited time.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew::{
    Bus,
    bus::{Storage, StreamConfig},
    wire::{ContentType, Headers, Subject, decode, encode, header},
    workflow::WorkflowInstance,
};

use crate::{Config, Error, view};

const STREAM: &str = "WORKFLOW_HISTORY";
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
const VERSION: u8 = 1;
/// Steps kept of a history that is too large.
const STEPS: usize = 1_000;

/// The record of an ended instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HistoryRecord<'a> {
    v: u8,
    /// How it ended, with every step.
    pub(crate) instance: WorkflowInstance,
    /// What it was started with.
    input: Cow<'a, Value>,
    /// Recognises a repeated start.
    pub(crate) input_digest: u64,
    /// The definition it ran.
    definition: Cow<'a, str>,
}

/// An ended instance as its shard keeps it: the record, encoded once, and what is looked for without reading it.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) input_digest: u64,
    record: Bytes,
}

/// Creates the stream where it does not stand.
///
/// On one server it is flushed in the background: a record can be made again from the log, which forgets an instance
/// only after its record was acknowledged and later records followed.
pub(crate) async fn ensure_stream(bus: &Bus, config: &Config) -> Result<(), Error> {
    let stream = StreamConfig {
        name: STREAM.to_owned(),
        subjects: vec!["wf.history.>".to_owned()],
        storage: if config.replicas > 1 { Storage::File } else { Storage::FileAsync },
        max_age: Duration::from_secs(config.history_days * 24 * 3_600),
        max_per_subject: 1,
        replicas: config.replicas,
        ..StreamConfig::default()
    };
    Ok(bus.ensure_stream(&stream).await?)
}

/// Reads the record of an ended instance.
pub(crate) async fn read(
    bus: &Bus,
    workflow: &str,
    id: &str,
) -> Result<Option<HistoryRecord<'static>>, sinew::Error> {
    let Ok(subject) = subject(workflow, id) else { return Ok(None) };
    let Some(stored) = bus.last_message(STREAM, subject.as_str()).await? else { return Ok(None) };
    Ok(Some(decode(ContentType::MessagePack, &stored.payload)?))
}

impl Finished {
    /// Makes the record of an instance that ended.
    pub(crate) fn of(instance: WorkflowInstance, input: &Value, definition: &str) -> Self {
        let (id, name, status) = (instance.id.clone(), instance.name.clone(), instance.status.clone());
        let input_digest = view::digest_of(input);
        let (input, definition) = (Cow::Borrowed(input), Cow::Borrowed(definition));
        let record = HistoryRecord { v: VERSION, instance, input, input_digest, definition };
        let record = encode(ContentType::MessagePack, &record).unwrap_or_else(|error| {
            tracing::error!(instance = id, %error, "a history cannot be written: its data are left out");
            // Nothing is left in it that could not be.
            encode(ContentType::MessagePack, &record.without_data()).unwrap_or_default()
        });
        Self { id, name, status, input_digest, record }
    }

    /// Reads how it ended.
    pub(crate) fn instance(&self) -> Option<WorkflowInstance> {
        decode::<HistoryRecord<'_>>(ContentType::MessagePack, &self.record).ok().map(|record| record.instance)
    }

    /// Stores the record. One that no message can hold is stored without its input, and then without all data.
    pub(crate) async fn store(&self, bus: &Bus) -> Result<(), sinew::Error> {
        let too_large = |outcome: &Result<(), sinew::Error>| {
            outcome.as_ref().is_err_and(|error| error.kind() == sinew::Kind::TooLarge)
        };
        let mut outcome = self.publish(bus, self.record.clone()).await;
        if too_large(&outcome) {
            let mut record: HistoryRecord<'_> = decode(ContentType::MessagePack, &self.record)?;
            record.input = Cow::Owned(Value::Null);
            outcome = self.publish(bus, encode(ContentType::MessagePack, &record)?).await;
            if too_large(&outcome) {
                tracing::warn!(instance = self.id, "a history is too large: its data are left out");
                let short = encode(ContentType::MessagePack, &record.without_data())?;
                outcome = self.publish(bus, short).await;
            }
        }
        outcome
    }

    async fn publish(&self, bus: &Bus, record: Bytes) -> Result<(), sinew::Error> {
        let invalid =
            |error: sinew::wire::InvalidSubject| sinew::Error::new(sinew::Kind::Config, error.to_string());
        let subject = subject(&self.name, &self.id).map_err(invalid)?;
        let mut headers = Headers::new();
        headers.set(header::CONTENT_TYPE, ContentType::MessagePack.as_str())?;
        bus.publish_acked(subject.as_str(), &headers, record, STORE_TIMEOUT).await.map(|_| ())
    }
}

impl HistoryRecord<'_> {
    /// Keeps how it ended and the first steps: a loop can have made more of them than a message holds.
    fn without_data(&self) -> Self {
        let mut short = Self { input: Cow::Owned(Value::Null), ..self.clone() };
        short.instance.output = None;
        short.instance.steps.truncate(STEPS);
        for step in &mut short.instance.steps {
            if let Some(fault) = &mut step.error {
                fault.detail = None;
            }
        }
        short
    }
}

fn subject(workflow: &str, id: &str) -> Result<Subject, sinew::wire::InvalidSubject> {
    Subject::parse(format!("wf.history.{}.{id}", workflow.replace('.', "_")))
}

//! What is left of an instance when it has ended: one message per instance, kept for a limited time.

use std::time::Duration;

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
pub(crate) struct HistoryRecord {
    v: u8,
    /// How it ended, with every step.
    pub(crate) instance: WorkflowInstance,
    /// What it was started with.
    input: Value,
    /// Recognises a repeated start.
    pub(crate) input_digest: u64,
    /// The definition it ran.
    definition: String,
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
pub(crate) async fn read(bus: &Bus, workflow: &str, id: &str) -> Result<Option<HistoryRecord>, sinew::Error> {
    let Ok(subject) = subject(workflow, id) else { return Ok(None) };
    let Some(stored) = bus.last_message(STREAM, subject.as_str()).await? else { return Ok(None) };
    Ok(Some(decode(ContentType::MessagePack, &stored.payload)?))
}

impl HistoryRecord {
    pub(crate) fn new(instance: WorkflowInstance, input: &Value, definition: &str) -> Self {
        let (input_digest, input) = (view::digest_of(input), input.clone());
        Self { v: VERSION, instance, input, input_digest, definition: definition.to_owned() }
    }

    pub(crate) fn id(&self) -> &str {
        &self.instance.id
    }

    /// Stores the record. One that no message can hold is stored without what the workflow worked on.
    pub(crate) async fn store(&self, bus: &Bus) -> Result<(), sinew::Error> {
        match self.publish(bus).await {
            Err(error) if error.kind() == sinew::Kind::TooLarge => {
                tracing::warn!(instance = self.id(), "a history is too large: its data are left out");
                self.without_data().publish(bus).await
            }
            outcome => outcome,
        }
    }

    async fn publish(&self, bus: &Bus) -> Result<(), sinew::Error> {
        let invalid =
            |error: sinew::wire::InvalidSubject| sinew::Error::new(sinew::Kind::Config, error.to_string());
        let subject = subject(&self.instance.name, &self.instance.id).map_err(invalid)?;
        let mut headers = Headers::new();
        headers.set(header::CONTENT_TYPE, ContentType::MessagePack.as_str())?;
        let payload = encode(ContentType::MessagePack, self)?;
        bus.publish_acked(subject.as_str(), &headers, payload, STORE_TIMEOUT).await.map(|_| ())
    }

    /// Keeps how it ended and the first steps: a loop can have made more of them than a message holds.
    fn without_data(&self) -> Self {
        let mut short = Self { input: Value::Null, ..self.clone() };
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

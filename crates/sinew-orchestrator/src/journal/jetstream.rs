//! The log on JetStream: subject `wf.log.<shard>`, fenced by the expected last sequence of the subject.

use std::time::Duration;

use bytes::Bytes;
use sinew::{
    Bus, Kind,
    bus::{Object, Objects, StreamConfig},
    wire::Headers,
    workflow::INPUTS,
};

use super::{Appended, Journal, JournalError};
use crate::{Config, Error, record};

const STREAM: &str = "WORKFLOW_LOG";
/// What is too large for a record.
const PAYLOADS: &str = "WORKFLOW_PAYLOADS";
/// How long inputs are kept that callers put beside a start and did not take away.
const INPUTS_KEPT: Duration = Duration::from_secs(24 * 3_600);
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct JetStreamJournal {
    bus: Bus,
    subject: String,
    payloads: Objects,
    /// What the names of this log's values begin with.
    own: String,
}

/// Creates the stream of all shard logs where it does not stand.
pub(crate) async fn ensure_stream(bus: &Bus, config: &Config) -> Result<(), Error> {
    let stream = StreamConfig {
        name: STREAM.to_owned(),
        subjects: vec!["wf.log.>".to_owned()],
        replicas: config.replicas,
        ..StreamConfig::default()
    };
    bus.objects(PAYLOADS, config.replicas).await?;
    bus.objects_for(INPUTS, config.replicas, INPUTS_KEPT).await?;
    Ok(bus.ensure_stream(&stream).await?)
}

impl JetStreamJournal {
    pub(crate) fn new(bus: &Bus, shard: u16) -> Self {
        let (payloads, own) = (bus.known_objects(PAYLOADS), format!("s{shard}-"));
        Self { bus: bus.clone(), subject: format!("wf.log.{shard}"), payloads, own }
    }

    /// Tells apart whether the record that beat ours is another owner's or our own, whose acknowledgement was lost.
    async fn beaten(&self, ours: &[u8]) -> Result<u64, JournalError> {
        let Some(last) = self.last().await? else { return Err(JournalError::Fenced) };
        let same =
            record::header(&last.record).ok().zip(record::header(ours).ok()).is_some_and(|(a, b)| a == b);
        if same { Ok(last.sequence) } else { Err(JournalError::Fenced) }
    }
}

impl Journal for JetStreamJournal {
    fn append(
        &self,
        expected: u64,
        record: Bytes,
    ) -> impl Future<Output = Result<u64, JournalError>> + Send + 'static {
        let journal = self.clone();
        async move {
            let mut headers = Headers::new();
            let fence = headers.set("Nats-Expected-Last-Subject-Sequence", expected.to_string());
            fence.map_err(|_| JournalError::Refused)?;
            match journal.bus.publish_acked(&journal.subject, &headers, record.clone(), APPEND_TIMEOUT).await
            {
                Ok(ack) => Ok(ack.sequence),
                Err(error) => match error.kind() {
                    Kind::Conflict => journal.beaten(&record).await,
                    Kind::TimedOut | Kind::Disconnected | Kind::NoResponders => {
                        Err(JournalError::Unavailable)
                    }
                    Kind::Closed => Err(JournalError::Fenced),
                    _ => {
                        tracing::error!(subject = journal.subject, %error, "the workflow log refused a record");
                        Err(JournalError::Refused)
                    }
                },
            }
        }
    }

    async fn last(&self) -> Result<Option<Appended>, JournalError> {
        let stored =
            self.bus.last_message(STREAM, &self.subject).await.map_err(|error| unavailable(&error))?;
        Ok(stored.map(|stored| Appended { sequence: stored.sequence, record: stored.payload }))
    }

    async fn read(&self, sequence: u64) -> Result<Vec<Appended>, JournalError> {
        let read = async { self.bus.read_stream(STREAM, &self.subject, sequence).await?.batch().await };
        let batch = read.await.map_err(|error| unavailable(&error))?;
        Ok(batch.into_iter().map(|one| Appended { sequence: one.sequence, record: one.payload }).collect())
    }

    async fn at(&self, sequence: u64) -> Result<Option<Bytes>, JournalError> {
        let read = async {
            match self.bus.stored_at(STREAM, sequence).await? {
                Some(stored) => Ok(Some(stored)),
                // The replica that answered may lag.
                None => Ok(self.bus.message_at(STREAM, sequence).await?.map(|found| found.message)),
            }
        };
        let found = read.await.map_err(|error| unavailable(&error))?;
        Ok(found.map(|stored| stored.payload))
    }

    fn forget(&self, sequence: u64) -> impl Future<Output = Result<(), JournalError>> + Send + 'static {
        let journal = self.clone();
        async move {
            let purged = journal.bus.purge_stream(STREAM, &journal.subject, sequence).await;
            purged.map_err(|error| unavailable(&error))
        }
    }

    fn claim(&self, name: &str, value: &Bytes) -> Object {
        Object::of(format!("{}{name}", self.own), value)
    }

    async fn keep(&self, claim: &Object, value: Bytes) -> Result<(), JournalError> {
        self.payloads.put(claim, &value).await.map_err(|error| unavailable(&error))
    }

    async fn kept(&self, claim: &Object) -> Result<Option<Bytes>, JournalError> {
        self.payloads.get(claim).await.map_err(|error| unavailable(&error))
    }

    async fn discard(&self, claim: &Object) -> Result<(), JournalError> {
        self.payloads.delete(claim).await.map_err(|error| unavailable(&error))
    }

    async fn standing(&self) -> Result<Vec<Object>, JournalError> {
        let mut standing = self.payloads.list().await.map_err(|error| unavailable(&error))?;
        standing.retain(|object| object.id.starts_with(&self.own));
        Ok(standing)
    }
}

fn unavailable(error: &sinew::Error) -> JournalError {
    tracing::debug!(%error, "the workflow log cannot be reached");
    JournalError::Unavailable
}

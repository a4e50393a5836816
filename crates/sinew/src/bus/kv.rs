//! Key-value buckets: compare-and-set with time to live, and one watcher for all who watch, which outlives reconnects.
//!
//! Entries are written as what they are, messages on `$KV.<bucket>.<key>` (ADR-8): client libraries lose the time to
//! live of an entry over a tombstone, or on an update. How a bucket is watched is in [`watch`].

mod view;
mod watch;
mod watcher;

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use sinew_wire::Headers;

use super::{Bus, Stored};
use crate::Error;

pub(super) use watch::Watchers;
pub use watch::{KvChange, KvWatch};

const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a deleted or expired key's marker stands.
const MARKER_AGE: Duration = Duration::from_secs(60);

/// Headers of a message that says a key is gone: deleted by somebody, or removed by the server.
const MARKS: [&str; 2] = ["KV-Operation", "Nats-Marker-Reason"];

/// A bucket.
#[derive(Clone)]
pub struct Kv {
    bus: Bus,
    bucket: String,
}

/// A value and the revision that a compare-and-set names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    /// The value; `None` where it was deleted or has expired.
    pub value: Option<Bytes>,
    /// Its revision.
    pub revision: u64,
}

impl Bus {
    /// Opens a bucket, creating it where it does not stand.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when the server refuses.
    pub async fn kv(&self, bucket: &str) -> Result<Kv, Error> {
        let stream = format!("KV_{bucket}");
        let config = json!({
            "name": stream,
            "subjects": [format!("$KV.{bucket}.>")],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "num_replicas": 1,
            "allow_direct": true,
            "allow_rollup_hdrs": true,
            "deny_delete": true,
            "allow_msg_ttl": true,
            "subject_delete_marker_ttl": super::jetstream::nanos(MARKER_AGE),
        });
        let made = self.ensure_raw_stream(&stream, &config).await;
        made.map_err(|error| error.during(&format!("cannot create bucket {bucket}")))?;
        Ok(Kv { bus: self.clone(), bucket: bucket.to_owned() })
    }
}

impl Kv {
    /// Reads a key from the bucket's leader.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when the bucket cannot be asked.
    pub async fn get(&self, key: &str) -> Result<Option<KvEntry>, Error> {
        let stored = self.bus.last_message(&format!("KV_{}", self.bucket), &self.subject(key)).await?;
        Ok(stored.map(|stored| KvEntry { revision: stored.sequence, value: value(stored) }))
    }

    /// Reads every key under `filter` that has a value; `>` reads all, `*` stands for one token.
    ///
    /// # Errors
    /// [`crate::Kind::TimedOut`] when the server stops answering.
    pub async fn entries(&self, filter: &str) -> Result<Vec<(String, Bytes)>, Error> {
        let prefix = self.subject("");
        let mut reader =
            self.bus.read_stream(&format!("KV_{}", self.bucket), &self.subject(filter), 1).await?;
        let mut entries = Vec::new();
        loop {
            let batch = reader.batch().await?;
            if batch.is_empty() {
                return Ok(entries);
            }
            for stored in batch {
                let key = stored.subject.strip_prefix(&prefix).unwrap_or_default().to_owned();
                entries.extend(value(stored).map(|value| (key, value)));
            }
        }
    }

    /// Writes a key and returns its revision.
    ///
    /// # Errors
    /// [`crate::Kind::TimedOut`] when it is unknown whether it was written.
    pub async fn put(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.write(key, value, None, None).await
    }

    /// Writes a key if its revision is still `revision` (0: it never stood); it expires after `ttl`, which counts in
    /// whole seconds and is rounded up.
    ///
    /// # Errors
    /// [`crate::Kind::Conflict`] when somebody else wrote first.
    pub async fn swap(
        &self,
        key: &str,
        value: Bytes,
        revision: u64,
        ttl: Option<Duration>,
    ) -> Result<u64, Error> {
        self.write(key, value, Some(revision), ttl).await
    }

    /// Deletes a key if its revision is still `revision`.
    ///
    /// # Errors
    /// [`crate::Kind::Conflict`] when somebody else wrote first.
    pub async fn delete(&self, key: &str, revision: u64) -> Result<(), Error> {
        let mut headers = Headers::new();
        headers.set("KV-Operation", "DEL")?;
        headers.set("Nats-Expected-Last-Subject-Sequence", revision.to_string())?;
        self.bus.publish_acked(&self.subject(key), &headers, Bytes::new(), WRITE_TIMEOUT).await.map(|_| ())
    }

    /// Watches the whole bucket: first what stands, then every change.
    ///
    /// All watches of a bucket in this process, of whatever handle, share one consumer at the server, which
    /// forgets it within half a minute once the last has gone.
    pub fn watch(&self) -> KvWatch {
        KvWatch::new(self.clone())
    }

    async fn write(
        &self,
        key: &str,
        value: Bytes,
        revision: Option<u64>,
        ttl: Option<Duration>,
    ) -> Result<u64, Error> {
        let mut headers = Headers::new();
        if let Some(revision) = revision {
            headers.set("Nats-Expected-Last-Subject-Sequence", revision.to_string())?;
        }
        if let Some(ttl) = ttl {
            headers.set("Nats-TTL", format!("{}s", ttl.as_millis().div_ceil(1_000).max(1)))?;
        }
        let ack = self.bus.publish_acked(&self.subject(key), &headers, value, WRITE_TIMEOUT).await?;
        Ok(ack.sequence)
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket)
    }
}

fn value(stored: Stored) -> Option<Bytes> {
    let removed = MARKS.iter().any(|mark| stored.headers.get(mark).is_some());
    (!removed).then_some(stored.payload)
}

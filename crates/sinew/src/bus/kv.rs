//! Key-value buckets: compare-and-set with time to live, and one watcher that outlives reconnects.
//!
//! The library's own `create_with_ttl` loses the time to live where a tombstone stands, and its `update` always does;
//! so entries are written as what they are, messages on `$KV.<bucket>.<key>`.

use std::{collections::BTreeSet, time::Duration};

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures::StreamExt;
use sinew_wire::Headers;
use tokio::sync::watch;

use super::{Bus, Stored, disconnected, jetstream::refused};
use crate::Error;

const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a broken watch is opened again.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);

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

/// What a watcher sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvChange {
    /// A key has this value now.
    Put(String, Bytes),
    /// A key is gone.
    Gone(String),
}

/// A watch over a bucket. After a lost connection it starts again and tells the difference.
pub struct KvWatch {
    kv: Kv,
    connects: watch::Receiver<u64>,
    inner: Option<kv::Watch>,
    told: BTreeSet<String>,
    seen: BTreeSet<String>,
    gone: Vec<String>,
    current: bool,
}

impl Bus {
    /// Opens a bucket, creating it where it does not stand.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when the server refuses.
    pub async fn kv(&self, bucket: &str) -> Result<Kv, Error> {
        let js = self.jetstream();
        if js.get_key_value(bucket).await.is_err() {
            let config = kv::Config {
                bucket: bucket.to_owned(),
                history: 1,
                limit_markers: Some(Duration::from_secs(60)),
                ..kv::Config::default()
            };
            let made = js.create_key_value(config).await;
            made.map_err(|error| refused(&format!("cannot create bucket {bucket}"), error))?;
        }
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
    pub fn watch(&self) -> KvWatch {
        KvWatch {
            kv: self.clone(),
            connects: self.bus.shared.signals.connects.subscribe(),
            inner: None,
            told: BTreeSet::new(),
            seen: BTreeSet::new(),
            gone: Vec::new(),
            current: false,
        }
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

impl KvWatch {
    /// Returns the next change; `None` once the bus is closed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<KvChange> {
        let stop = self.kv.bus.shared.stop.clone();
        loop {
            if let Some(key) = self.gone.pop() {
                self.told.remove(&key);
                return Some(KvChange::Gone(key));
            }
            let step = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                step = self.step() => step,
            };
            if let Some(change) = step {
                return Some(change);
            }
        }
    }

    async fn step(&mut self) -> Option<KvChange> {
        let Some(watch) = &mut self.inner else {
            if let Err(error) = self.open().await {
                tracing::debug!(bucket = self.kv.bucket, %error, "cannot watch yet");
                tokio::time::sleep(REOPEN_PAUSE).await;
            }
            return None;
        };
        let heard = tokio::select! {
            biased;
            heard = watch.next() => heard,
            Ok(()) = self.connects.changed() => {
                // The library finds out by silence that its consumer is gone; this is sooner.
                self.inner = None;
                return None;
            }
        };
        match heard {
            Some(Ok(entry)) => {
                let current = entry.seen_current && !self.current;
                let change = self.note(entry);
                if current {
                    self.caught_up();
                }
                Some(change)
            }
            Some(Err(error)) => {
                tracing::debug!(bucket = self.kv.bucket, %error, "the watch broke and is opened again");
                self.inner = None;
                None
            }
            None => {
                self.inner = None;
                tokio::time::sleep(REOPEN_PAUSE).await;
                None
            }
        }
    }

    fn note(&mut self, entry: kv::Entry) -> KvChange {
        self.seen.insert(entry.key.clone());
        if entry.operation == kv::Operation::Put {
            self.told.insert(entry.key.clone());
            return KvChange::Put(entry.key, entry.value);
        }
        self.told.remove(&entry.key);
        KvChange::Gone(entry.key)
    }

    /// What was told before a break and is not there any more has gone meanwhile.
    fn caught_up(&mut self) {
        self.current = true;
        self.gone = self.told.difference(&self.seen).cloned().collect();
    }

    async fn open(&mut self) -> Result<(), Error> {
        self.connects.mark_unchanged();
        if !self.kv.bus.is_connected() {
            return Err(disconnected());
        }
        let failed = |error: async_nats::Error| refused("cannot watch the bucket", error);
        let opened = async {
            let store = self.kv.bus.jetstream().get_key_value(&self.kv.bucket).await?;
            let empty = store.status().await?.values() == 0;
            Ok((store.watch_with_history(">").await?, empty))
        };
        let (watch, empty) = opened.await.map_err(failed)?;
        self.inner = Some(watch);
        self.seen.clear();
        self.current = false;
        if empty {
            // No entry will come to say that it was the last.
            self.caught_up();
        }
        Ok(())
    }
}

fn value(stored: Stored) -> Option<Bytes> {
    let removed =
        stored.headers.get("KV-Operation").is_some() || stored.headers.get("Nats-Marker-Reason").is_some();
    (!removed).then_some(stored.payload)
}

//! Quotas of a route: requests per day or month, counted here and written to a bucket a moment later.
//!
//! The bucket is read when a key comes first, so that a restart forgets nothing; after that every replica decides alone
//! and writes what it counted with a compare-and-set, at which it learns what the others counted.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures::{StreamExt, stream};
use http::{HeaderValue, StatusCode};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;
use sinew::{Bus, Error, Kind, bus::Kv};
use tokio::sync::OnceCell;

use super::{
    State,
    calendar::Stretch,
    key::{Digest, Key},
    rate::Standing,
};
use crate::{
    Edge,
    config::{Calendar, Quota, Versions},
    exchange::Asked,
    observe::{Tally, tally::QUOTA},
    problem::Refusal,
};

/// Where counts are kept.
const BUCKET: &str = "EDGE_QUOTAS";
/// Longest time a request waits to learn what was counted before; then it counts from nothing, and learns it later.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a count is kept when its time is over: a clock that goes after needs it still.
const AFTERWARDS: Duration = Duration::from_secs(24 * 3_600);
/// Writes under way at once.
const WRITES: usize = 32;
/// How often a write is tried that others came before.
const TRIES: usize = 4;

/// The quotas of one route.
#[derive(Debug)]
pub(crate) struct Quotas(Vec<Limit>);

#[derive(Debug)]
struct Limit {
    quota: Quota,
    id: String,
    key: Key,
    ledger: OnceLock<Arc<Ledger>>,
    tally: Tally,
}

/// What was counted for one quota, by key.
#[derive(Debug)]
pub(super) struct Ledger {
    id: String,
    name: String,
    per: Calendar,
    zone: TimeZone,
    /// Keys with accounts of their own.
    room: usize,
    stretch: ArcSwapOption<Stretch>,
    /// When room was looked for last, in seconds: that looks at every account.
    searched: AtomicI64,
    /// Held to look an account up, never across an await.
    accounts: Mutex<HashMap<Digest, Arc<Account>>>,
}

/// What was counted for one key in one stretch.
#[derive(Debug)]
struct Account {
    key: String,
    stretch: Arc<Stretch>,
    /// Set once the bucket was read.
    read: OnceCell<()>,
    /// What the bucket has.
    written: AtomicU64,
    revision: AtomicU64,
    /// What it does not have yet.
    unwritten: AtomicU64,
    /// Whether it was asked since room was looked for.
    used: AtomicBool,
}

/// Writes what quotas count as long as the edge runs.
pub(crate) async fn run(edge: Arc<Edge>) {
    let pause = Duration::from_millis(edge.config.quota_write_ms);
    let write = async {
        loop {
            // Who has no quotas is not woken for them.
            while edge.policies.ledgers().is_empty() {
                edge.policies.accounted.notified().await;
            }
            tokio::time::sleep(pause).await;
            edge.policies.write_quotas(&edge.bus).await;
        }
    };
    edge.closing.run_until_cancelled(write).await;
}

impl Quotas {
    pub(super) fn new(quotas: &[Quota], route: &str, versions: &Versions, version: Option<&str>) -> Self {
        let limit = |quota: &Quota| Limit {
            quota: quota.clone(),
            id: quota.id(route),
            key: Key::new(&quota.key, versions, version),
            ledger: OnceLock::new(),
            tally: Tally::new(&QUOTA, quota.id(route)),
        };
        Self(quotas.iter().map(limit).collect())
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|limit| format!("quota {}", limit.quota))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// 429 when one of the quotas is used up; then it counts for none of them. `standing` is told either way.
    pub(crate) async fn pass(
        &self,
        edge: &Edge,
        asked: &Asked<'_>,
        standing: &mut Standing,
    ) -> Result<(), Refusal> {
        let now = edge.bus.now();
        let client = edge.policies.proxies.client(asked.peer, &asked.head.headers);
        let mut counted = Vec::with_capacity(self.0.len());
        for limit in &self.0 {
            let ledger = limit.ledger(&edge.policies);
            let crowd = Digest::from((u64::MAX, client.crowd()));
            let account = ledger.account(limit.key.of(asked.head, &client), crowd, now);
            account.read(edge).await;
            let left = account.take(limit.quota.requests);
            standing
                .add(limit.policy(&account.stretch), limit.field(left.unwrap_or(0), &account.stretch, now));
            limit.tally.add(&edge.policies.tallies, usize::from(left.is_none()));
            if left.is_none() {
                counted.iter().for_each(|account: &Arc<Account>| account.give_back());
                return Err(limit.refuse(&account.stretch, now));
            }
            counted.push(account);
        }
        Ok(())
    }
}

impl Limit {
    fn ledger(&self, state: &State) -> &Ledger {
        self.ledger.get_or_init(|| {
            let new = || {
                state.accounted.notify_one();
                Arc::new(Ledger {
                    id: self.id.clone(),
                    name: self.quota.name.clone(),
                    per: self.quota.per,
                    zone: self.quota.time_zone().unwrap_or(TimeZone::UTC),
                    room: state.keys,
                    stretch: ArcSwapOption::empty(),
                    searched: AtomicI64::new(0),
                    accounts: Mutex::default(),
                })
            };
            state.ledgers().entry(self.id.clone()).or_insert_with(new).clone()
        })
    }

    fn policy(&self, stretch: &Stretch) -> Option<HeaderValue> {
        let Quota { name, requests, .. } = &self.quota;
        HeaderValue::try_from(format!("\"{name}\";q={requests};w={}", stretch.seconds())).ok()
    }

    fn field(&self, left: u64, stretch: &Stretch, now: Timestamp) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("\"{}\";r={left};t={}", self.quota.name, until(stretch, now))).ok()
    }

    fn refuse(&self, stretch: &Stretch, now: Timestamp) -> Refusal {
        let Quota { name, per, .. } = &self.quota;
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "quota-exceeded", "the quota is used up")
            .detail(format!("{name} is used up for this {per}: it starts anew at {}", stretch.ends))
            .with("policy", name.as_str())
            .with("violated-policies", json!([name]))
            .with("resets", stretch.ends.to_string())
            .after(until(stretch, now))
    }
}

impl Ledger {
    /// Returns the account of a key; where there is no room, that of its network.
    fn account(&self, key: Digest, crowd: Digest, now: Timestamp) -> Arc<Account> {
        let stretch = self.stretch(now);
        let mut accounts = self.accounts();
        if accounts.len() >= self.room && self.searched.swap(now.as_second(), Relaxed) != now.as_second() {
            // Who comes back after a while finds what is written in the bucket.
            accounts.retain(|_, account| account.used.swap(false, Relaxed) || account.is_unwritten());
        }
        let full = accounts.len() >= self.room && !accounts.contains_key(&key);
        let key = if full { crowd.folded() } else { key };
        let account = accounts.entry(key).or_insert_with(|| Account::new(self, key, &stretch));
        if account.stretch.begins != stretch.begins {
            *account = Account::new(self, key, &stretch);
        }
        account.clone()
    }

    fn stretch(&self, now: Timestamp) -> Arc<Stretch> {
        if let Some(stretch) = self.stretch.load_full().filter(|stretch| stretch.holds(now)) {
            return stretch;
        }
        let stretch = Arc::new(Stretch::of(self.per, &self.zone, now));
        self.stretch.store(Some(stretch.clone()));
        stretch
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Account>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns accounts with something to write, and forgets those of times that are over.
    fn unwritten(&self, now: Timestamp) -> Vec<Arc<Account>> {
        let mut accounts = self.accounts();
        let unwritten = accounts.values().filter(|account| account.is_unwritten()).cloned().collect();
        accounts.retain(|_, account| account.stretch.holds(now));
        unwritten
    }
}

impl Account {
    fn new(ledger: &Ledger, key: Digest, stretch: &Arc<Stretch>) -> Arc<Self> {
        // Names are readable in the bucket; who is counted is not.
        let whole = Digest::joined(ledger.id.as_bytes(), &key);
        Arc::new(Self {
            key: format!("{}.{}.{}", ledger.name.replace('.', "_"), stretch.name, HEXLOWER.encode(&whole.0)),
            stretch: stretch.clone(),
            read: OnceCell::new(),
            written: AtomicU64::new(0),
            revision: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
            used: AtomicBool::new(true),
        })
    }

    /// Learns what was counted before, once.
    async fn read(&self, edge: &Edge) {
        if self.read.initialized() || !edge.bus.is_connected() {
            return;
        }
        let read = self.read.get_or_try_init(|| async {
            let bucket = edge.policies.bucket(&edge.bus).await?;
            self.look(bucket).await
        });
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, key = self.key, "a quota counts alone for now"),
            Err(_) => {
                tracing::debug!(key = self.key, "a quota counts alone for now: its bucket takes too long")
            }
        }
    }

    async fn look(&self, bucket: &Kv) -> Result<(), Error> {
        let Some(entry) = bucket.get(&self.key).await? else { return Ok(()) };
        let count = entry.value.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok());
        self.written.store(count.unwrap_or(0), Relaxed);
        self.revision.store(entry.revision, Relaxed);
        Ok(())
    }

    fn is_unwritten(&self) -> bool {
        self.unwritten.load(Relaxed) > 0
    }

    /// Counts one request and returns how many are left; `None` where there are none.
    fn take(&self, limit: u64) -> Option<u64> {
        self.used.store(true, Relaxed);
        let counted = self.unwritten.fetch_add(1, Relaxed) + 1 + self.written.load(Relaxed);
        if counted > limit {
            self.give_back();
            return None;
        }
        Some(limit - counted)
    }

    fn give_back(&self) {
        let _ = self.unwritten.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1));
    }

    /// Writes what was counted since the last time.
    async fn write(&self, bucket: &Kv, now: Timestamp) -> Result<(), Error> {
        if !self.read.initialized() {
            self.look(bucket).await?;
            let _ = self.read.set(());
        }
        let left = Duration::from_secs(until(&self.stretch, now)) + AFTERWARDS;
        for _ in 0..TRIES {
            let (more, written) = (self.unwritten.load(Relaxed), self.written.load(Relaxed));
            let value = Bytes::from((written + more).to_string());
            match bucket.swap(&self.key, value, self.revision.load(Relaxed), Some(left)).await {
                Ok(revision) => {
                    // Counted twice for a moment rather than not at all.
                    self.written.fetch_add(more, Relaxed);
                    let _ =
                        self.unwritten.fetch_update(Relaxed, Relaxed, |all| Some(all.saturating_sub(more)));
                    self.revision.store(revision, Relaxed);
                    return Ok(());
                }
                Err(error) if error.kind() == Kind::Conflict => self.look(bucket).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl State {
    pub(super) fn ledgers(&self) -> MutexGuard<'_, HashMap<String, Arc<Ledger>>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn bucket(&self, bus: &Bus) -> Result<&Kv, Error> {
        self.bucket.get_or_try_init(|| bus.kv(BUCKET)).await
    }

    /// Writes what quotas counted. What cannot be written is kept for the next time.
    pub(crate) async fn write_quotas(&self, bus: &Bus) {
        let now = bus.now();
        let ledgers: Vec<Arc<Ledger>> = self.ledgers().values().cloned().collect();
        let unwritten: Vec<Arc<Account>> = ledgers.iter().flat_map(|ledger| ledger.unwritten(now)).collect();
        if unwritten.is_empty() || !bus.is_connected() {
            return;
        }
        let bucket = match self.bucket(bus).await {
            Ok(bucket) => bucket,
            Err(error) => return tracing::warn!(%error, "quotas cannot be written"),
        };
        let write = |account: Arc<Account>| async move {
            if let Err(error) = account.write(bucket, now).await {
                tracing::debug!(%error, key = account.key, "a quota was not written: it will be");
            }
        };
        stream::iter(unwritten).for_each_concurrent(WRITES, write).await;
    }
}

/// Returns the seconds until the next stretch begins.
fn until(stretch: &Stretch, now: Timestamp) -> u64 {
    u64::try_from(stretch.ends.as_second() - now.as_second()).unwrap_or(0).max(1)
}

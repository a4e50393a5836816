//! The barrier of a participant: keeps the two halves of a saga's step apart.
//!
//! A saga that gives a request up undoes it, and the undo may arrive before the request does, or while it runs. So a
//! participant remembers, under the request's key, how far it got: a request that was done is answered as before, an undo
//! that comes first leaves a tombstone, and the request behind it is refused.
//!
//! ```no_run
//! use serde::{Deserialize, Serialize};
//! use sinew::{Barrier, Ctx, Problem, State};
//! # #[derive(Serialize, Deserialize)] struct ReserveStock { sku: String }
//! # #[derive(Serialize, Deserialize)] struct ReleaseStock {}
//! # #[derive(Serialize, Deserialize)] struct Reserved { id: String }
//! # #[derive(Debug, Problem)] enum StockError { /// another problem
//! # #[problem(transparent)] Other(Problem) }
//! # async fn take(_: &str) -> Result<Reserved, StockError> { Ok(Reserved { id: "r-1".into() }) }
//! # async fn give_back(_: Option<Reserved>) -> Result<(), StockError> { Ok(()) }
//!
//! async fn reserve(cmd: ReserveStock, State(barrier): State<Barrier>, ctx: Ctx) -> Result<Reserved, StockError> {
//!     barrier.forward(&ctx, take(&cmd.sku)).await
//! }
//!
//! async fn release(_: ReleaseStock, State(barrier): State<Barrier>, ctx: Ctx) -> Result<(), StockError> {
//!     barrier.undo(&ctx, give_back).await.map(|_| ())
//! }
//! ```
//!
//! What is remembered stands in a bucket, not in the participant's database: a process that dies between its work and the
//! word that it is done leaves a request that *may* have been done. Repeating such a request runs it again, and undoing it
//! gets no reply to go by. Work that cannot bear that writes its own key beside its rows.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sinew_wire::header;

use crate::{
    Bus, Ctx, Error, Kind, Problem,
    bus::{Kv, KvEntry},
};

/// How long work may take where neither the caller nor the participant says it.
const HOLD: Duration = Duration::from_secs(60);
/// How long the barrier remembers: longer than a saga is undone for where nothing is said.
const KEEP: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// When at the latest to come again where the same request is at work: it may be over long before it must be.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a key that others change at the same moment is read again.
const TRIES: u32 = 8;

/// Runs the halves of saga steps so that each happens once, and never the request after its undo.
///
/// Cheap to clone; put it into the state of a service. Costs two writes to a bucket per request and per undo.
#[derive(Clone)]
pub struct Barrier {
    kv: Kv,
    hold: Duration,
    keep: Duration,
}

/// How far a request got.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
enum Mark {
    /// Work runs, at the latest until then; later it may have been done.
    Begun {
        until_ms: i64,
    },
    Done {
        reply: Value,
    },
    /// It is being undone, at the latest until then; `done` is its reply, where it is known.
    Undoing {
        until_ms: i64,
        done: Option<Value>,
    },
    /// It is undone, or must not be done any more.
    Undone {
        reply: Option<Value>,
    },
}

/// A key of the barrier, as it was read.
struct Place {
    key: String,
    revision: u64,
    mark: Option<Mark>,
}

impl Barrier {
    /// Opens the barrier of a service, creating its bucket where it does not stand.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the server refuses.
    pub async fn open(bus: &Bus, service: &str) -> Result<Self, Error> {
        Ok(Self { kv: bus.kv(&format!("BARRIER_{service}")).await?, hold: HOLD, keep: KEEP })
    }

    /// Sets how long one run of the work may take at most; a caller's deadline may be shorter. 60 seconds where nothing is
    /// said.
    #[must_use]
    pub fn hold(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }

    /// Sets how long requests are remembered: longer than any saga may take to undo them. 7 days where nothing is said.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        Self { keep, ..self }
    }

    /// Does the work of a request once: a repetition gets the reply of the first, and a request that was undone already is
    /// refused. Work that fails did nothing, and a repetition runs it again.
    ///
    /// # Errors
    /// What the work fails with; 400 `key-missing`; 409 `undone-before`; 503 `in-progress`, to be tried again; 504
    /// `took-too-long`.
    ///
    /// # Cancel safety
    /// A dropped future leaves a request that may have been done, as a crash does.
    pub async fn forward<T, E>(&self, ctx: &Ctx, work: impl Future<Output = Result<T, E>>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Problem>,
    {
        let key = ctx.idempotency_key().ok_or_else(|| missing(header::IDEMPOTENCY_KEY))?;
        let (until, limit) = self.until(ctx);
        let begin = |mark: &Option<Mark>| match mark {
            Some(Mark::Done { reply }) => Ok(Err(reply.clone())),
            Some(Mark::Undone { .. } | Mark::Undoing { .. }) => Err(undone_before()),
            Some(Mark::Begun { until_ms }) if *until_ms > now(ctx) => Err(in_progress(*until_ms - now(ctx))),
            Some(Mark::Begun { .. }) | None => Ok(Ok(Mark::Begun { until_ms: until })),
        };
        let (place, _) = match self.change(key, begin).await? {
            Ok(changed) => changed,
            Err(reply) => return read(reply).map_err(E::from),
        };
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(done)) => {
                self.mark(&place, &Mark::Done { reply: write(&done)? }).await?;
                Ok(done)
            }
            Ok(Err(refused)) => {
                // What was refused leaves nothing; where that cannot be said, it counts as something that may be done.
                if let Err(error) = self.kv.delete(&place.key, place.revision).await {
                    tracing::warn!(%error, "a refused request could not be forgotten: its undo will run");
                }
                Err(refused)
            }
            Err(_) => Err(took_too_long().into()),
        }
    }

    /// Undoes a request once. `work` gets its reply, or `None` where it may have been done and nobody knows; it does not
    /// run at all for a request that never came, which is refused from now on. Returns `None` in that case.
    ///
    /// # Errors
    /// As [`forward`](Self::forward): an undo that meets its request at work is told to come again.
    ///
    /// # Cancel safety
    /// A dropped future leaves an undo that may have been done: the next one runs it again.
    pub async fn undo<T, U, E, F>(&self, ctx: &Ctx, work: impl FnOnce(Option<T>) -> F) -> Result<Option<U>, E>
    where
        T: DeserializeOwned,
        U: Serialize + DeserializeOwned,
        E: From<Problem>,
        F: Future<Output = Result<U, E>>,
    {
        let key = ctx.header(header::FORWARD_KEY).ok_or_else(|| missing(header::FORWARD_KEY))?;
        let (until_ms, limit) = self.until(ctx);
        let begin = |mark: &Option<Mark>| match mark {
            None => Ok(Ok(Mark::Undone { reply: None })),
            Some(Mark::Undone { reply }) => Ok(Err(reply.clone())),
            Some(Mark::Begun { until_ms } | Mark::Undoing { until_ms, .. }) if *until_ms > now(ctx) => {
                Err(in_progress(*until_ms - now(ctx)))
            }
            Some(Mark::Done { reply }) => Ok(Ok(Mark::Undoing { until_ms, done: Some(reply.clone()) })),
            Some(Mark::Undoing { done, .. }) => Ok(Ok(Mark::Undoing { until_ms, done: done.clone() })),
            Some(Mark::Begun { .. }) => Ok(Ok(Mark::Undoing { until_ms, done: None })),
        };
        let (place, mark) = match self.change(key, begin).await? {
            Ok(changed) => changed,
            Err(reply) => return reply.map(read).transpose().map_err(E::from),
        };
        let Mark::Undoing { done, .. } = mark else { return Ok(None) };
        match tokio::time::timeout(limit, work(done.clone().map(read).transpose()?)).await {
            Ok(Ok(undone)) => {
                self.mark(&place, &Mark::Undone { reply: Some(write(&undone)?) }).await?;
                Ok(Some(undone))
            }
            Ok(Err(refused)) => {
                // It still stands, and the next undo need not wait.
                self.mark(&place, &Mark::Undoing { until_ms: 0, done }).await?;
                Err(refused)
            }
            Err(_) => Err(took_too_long().into()),
        }
    }

    /// Changes the mark of a key as `decide` says of the one that stands, or returns what it found instead.
    async fn change<R>(
        &self,
        key: &str,
        decide: impl Fn(&Option<Mark>) -> Result<Result<Mark, R>, Problem>,
    ) -> Result<Result<(Place, Mark), R>, Problem> {
        let key = escaped(key);
        for _ in 0..TRIES {
            let place = self.read(&key).await?;
            let next = match decide(&place.mark)? {
                Ok(next) => next,
                Err(found) => return Ok(Err(found)),
            };
            match self.swap(&place, &next).await {
                Ok(revision) => return Ok(Ok((Place { revision, ..place }, next))),
                Err(error) if error.kind() == Kind::Conflict => {}
                Err(error) => return Err(error.to_problem()),
            }
        }
        Err(in_progress(0))
    }

    async fn read(&self, key: &str) -> Result<Place, Problem> {
        let entry = self.kv.get(key).await.map_err(|error| error.to_problem())?;
        let (revision, value) = match entry {
            Some(KvEntry { value, revision }) => (revision, value),
            None => (0, None),
        };
        let mark = value.map(|bytes| serde_json::from_slice(&bytes)).transpose().map_err(|error| {
            tracing::error!(%error, key, "a mark of the barrier cannot be read");
            Problem::new(500, "internal", "internal error")
        })?;
        Ok(Place { key: key.to_owned(), revision, mark })
    }

    async fn mark(&self, place: &Place, mark: &Mark) -> Result<(), Problem> {
        match self.swap(place, mark).await {
            Ok(_) => Ok(()),
            // It took longer than it may, and somebody else went on: what was done here is theirs to judge.
            Err(error) if error.kind() == Kind::Conflict => Err(took_too_long()),
            Err(error) => Err(error.to_problem()),
        }
    }

    async fn swap(&self, place: &Place, mark: &Mark) -> Result<u64, Error> {
        let bytes = serde_json::to_vec(mark).unwrap_or_default();
        self.kv.swap(&place.key, Bytes::from(bytes), place.revision, Some(self.keep)).await
    }

    /// Returns until when work that begins now may run, and how long that is.
    fn until(&self, ctx: &Ctx) -> (i64, Duration) {
        let limit = ctx.deadline().within(self.hold);
        (now(ctx).saturating_add(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)), limit)
    }
}

fn now(ctx: &Ctx) -> i64 {
    ctx.now().as_millisecond()
}

/// Writes a key as one that a bucket takes; different keys stay different.
fn escaped(key: &str) -> String {
    key.bytes().fold(String::with_capacity(key.len()), |mut escaped, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("={byte:02x}")),
        }
        escaped
    })
}

fn write<T: Serialize>(value: &T) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|error| {
        tracing::error!(%error, "a reply cannot be remembered by the barrier");
        Problem::new(500, "internal", "internal error")
    })
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_json::from_value(value).map_err(|error| {
        tracing::error!(%error, "a reply remembered by the barrier cannot be read");
        Problem::new(500, "internal", "internal error")
    })
}

fn missing(name: &str) -> Problem {
    Problem::new(400, "key-missing", "the request carries no key").detail(format!("send {name}"))
}

fn undone_before() -> Problem {
    Problem::new(409, "undone-before", "the request was undone before it arrived")
}

fn in_progress(left_ms: i64) -> Problem {
    let left = Duration::from_millis(u64::try_from(left_ms.max(1)).unwrap_or(1));
    Problem::new(503, "in-progress", "the same request is at work").retry_after(left.min(AGAIN))
}

fn took_too_long() -> Problem {
    Problem::new(504, "took-too-long", "the work took longer than it may")
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn keys_stay_different_and_fit_a_bucket() {
        assert_eq!(escaped("i-1/do/0/pay#2~1.3"), "i-1/do/0/pay=232=7e1=2e3");
        assert_ne!(escaped("a=2e"), escaped("a."));
    }
}

//! Dead letters: events a group could not handle, with all it takes to find out why, mend it, and try again.
//!
//! ```no_run
//! # use std::time::Duration;
//! # use sinew::{Bulk, Bus, dead_letters::{By, DeadLetters, Filter}};
//! # async fn demo(bus: Bus) -> Result<(), sinew::Error> {
//! let letters = DeadLetters::new(&bus);
//! let busy = Filter::default().group("mail", "mailer").code("busy");
//! for letter in letters.page(&busy, 0, 20).await?.letters {
//!     println!("{} {} {}", letter.sequence, letter.event, letter.reason);
//! }
//! // The mail server is back: fifty a second, so that it stays.
//! let by = By::new("ada").because("mail server restarted");
//! letters.retry_all(&busy, &by, Bulk::default().rate(50.0)).await?;
//! # Ok(()) }
//! ```
//!
//! A retried letter goes to the inlet of its own group and to nobody else, with a fresh budget of attempts and the
//! logical id it always had. Every change is told as an event ([`Retried`], [`Edited`], [`Dropped`]) with who and why,
//! before the letter is removed: nothing leaves without a trace.

mod actions;
mod audit;
mod bulk;
mod filter;
mod letter;

use sinew_wire::Subject;

use crate::{Bus, Ctx, Error, Kind, streams::DEAD_LETTERS};

pub use audit::{Change, Dropped, Edited, Retried};
pub use bulk::Summary;
pub use filter::Filter;
pub use letter::{Letter, Payload};

/// Access to the dead letters of all groups.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    ctx: Ctx,
}

/// Some letters, and where to go on.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The letters, oldest first.
    pub letters: Vec<Letter>,
    /// What to pass as `after` to get the next ones; `None` when there are no more.
    pub next: Option<u64>,
}

/// Who changes something, and why. It is kept with the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    who: String,
    why: String,
}

impl By {
    /// Names who acts, for example `ada@ops-3`.
    pub fn new(who: impl Into<String>) -> Self {
        Self { who: who.into(), why: String::new() }
    }

    /// Says why.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }
}

impl DeadLetters {
    /// Opens the dead letters behind `bus`.
    pub fn new(bus: &Bus) -> Self {
        Self { ctx: Ctx::detached(bus, bus.name()) }
    }

    /// Returns up to `limit` letters that match, from behind sequence `after` on; 0 begins with the oldest.
    ///
    /// What was left in the stream is not fetched: [`DeadLetters::get`] does that.
    ///
    /// # Errors
    /// [`Kind::Config`] for a name that cannot be one, [`Kind::TimedOut`] when the server stops answering.
    pub async fn page(&self, filter: &Filter, after: u64, limit: usize) -> Result<Page, Error> {
        let subject = filter.subject()?;
        let now = jiff::Timestamp::now();
        let mut reader = self.bus().read_stream(DEAD_LETTERS, &subject, after + 1).await?;
        let mut letters = Vec::new();
        loop {
            let batch = match reader.batch().await {
                Ok(batch) => batch,
                // No service has ever run here, so nothing has died.
                Err(error) if error.kind() == Kind::NoResponders => return Ok(Page::default()),
                Err(error) => return Err(error),
            };
            if batch.is_empty() {
                return Ok(Page { letters, next: None });
            }
            let found = batch.iter().filter_map(Letter::read);
            for letter in found.filter(|letter| filter.matches(letter, now)) {
                letters.push(letter);
                if letters.len() >= limit.max(1) {
                    let next = letters.last().map(|letter| letter.sequence);
                    return Ok(Page { letters, next });
                }
            }
        }
    }

    /// Returns one letter by its sequence, with the payload wherever it stands; `None` where there is no such letter.
    ///
    /// # Errors
    /// [`Kind::JetStream`] when the streams do not stand.
    pub async fn get(&self, sequence: u64) -> Result<Option<Letter>, Error> {
        let stored = self.bus().message_at(DEAD_LETTERS, sequence).await?;
        let Some(mut letter) = stored.and_then(|dated| Letter::read(&dated.message)) else { return Ok(None) };
        if letter.payload == Payload::Left {
            let left = self.bus().message_at(&letter.stream, letter.origin).await?;
            letter.resolve(left.map(|dated| dated.message));
        }
        Ok(Some(letter))
    }

    fn bus(&self) -> &Bus {
        self.ctx.bus()
    }
}

/// Returns `name` if it can be one token of a subject.
fn token(name: &str) -> Result<&str, Error> {
    let single = !name.contains('.') && Subject::parse(name).is_ok();
    single.then_some(name).ok_or_else(|| {
        Error::new(
            Kind::Config,
            format!("{name:?} is not the name of a service or group: see `sinew describe`"),
        )
    })
}

/// The headers of a dead letter.
pub(crate) mod field {
    /// Why, in words.
    pub(crate) const REASON: &str = "Sinew-Dead-Reason";
    /// Why, as the problem's code.
    pub(crate) const CODE: &str = "Sinew-Dead-Code";
    /// How often the group had the event in hand.
    pub(crate) const ATTEMPTS: &str = "Sinew-Dead-Attempts";
    /// The subject it was published on.
    pub(crate) const SUBJECT: &str = "Sinew-Dead-Subject";
    /// The stream it stands or stood in.
    pub(crate) const STREAM: &str = "Sinew-Dead-Stream";
    /// Its sequence there.
    pub(crate) const SEQUENCE: &str = "Sinew-Dead-Sequence";
    /// When the group gave up.
    pub(crate) const TIME: &str = "Sinew-Dead-Time";
    /// Trace context of the attempt that failed last.
    pub(crate) const TRACE: &str = "Sinew-Dead-Trace";
    /// Where the payload is, when it is not here.
    pub(crate) const PAYLOAD: &str = "Sinew-Dead-Payload";
    /// It still stands where it was published.
    pub(crate) const LEFT: &str = "left in the stream";
    /// On an edited letter: the sequence under which the first version is kept.
    pub(crate) const ORIGINAL: &str = "Sinew-Dead-Original";
}

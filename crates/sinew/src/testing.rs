//! The testing kit: services as they run in production, without a broker, in a time that only the test moves.
//!
//! Comes with the feature `testing`; put it under `[dev-dependencies]`.
//!
//! ```
//! use std::time::Duration;
//!
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//! use sinew::{Ctx, Event, Problem, Request, Retry, Service, testing::Stub};
//!
//! #[derive(Debug, PartialEq, Request, Serialize, Deserialize, JsonSchema)]
//! #[sinew(subject = "inventory.reserve", reply = u32)]
//! struct Reserve { order: u32 }
//!
//! #[derive(Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
//! #[sinew(subject = "orders.placed", version = 1)]
//! struct Placed { order: u32 }
//!
//! #[derive(Debug, PartialEq, Event, Serialize, Deserialize, JsonSchema)]
//! #[sinew(subject = "orders.reserved", version = 1)]
//! struct Reserved { order: u32 }
//!
//! async fn reserve(event: Placed, ctx: Ctx) -> Result<(), Problem> {
//!     let reserved = ctx.call(Reserve { order: event.order }).await;
//!     let order = reserved.map_err(|error| error.to_problem())?;
//!     ctx.publish(Reserved { order }).await.map_err(|error| error.to_problem())?;
//!     Ok(())
//! }
//!
//! fn orders() -> Service<()> {
//!     let retry = Retry::exponential(Duration::from_millis(200), Duration::from_secs(10));
//!     Service::new("orders", ()).on("reserving", reserve, |group| group.retry(retry))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // The inventory is away for the first call, and answers the second.
//! let app = orders().test().in_turn::<Reserve>([Stub::Absent, Stub::Replies(7)]).await;
//!
//! app.publish(Placed { order: 7 }).await;
//! assert_eq!(app.calls::<Reserve>().len(), 1);
//! assert_eq!(app.published::<Reserved>(), []);
//!
//! app.advance(Duration::from_millis(200)).await;
//! assert_eq!(app.published::<Reserved>(), [Reserved { order: 7 }]);
//! assert_eq!(app.consumed::<Placed>("reserving"), [Placed { order: 7 }]);
//! assert!(app.dead_letters("reserving").is_empty());
//! # }
//! ```
//!
//! # How it works
//!
//! In the place of the connection to a nats-server stands a broker inside the test, which answers the very same
//! messages; everything above it is what runs in production, discovery, catalogue, dead letters and schedules included.
//! [`App::publish`] and [`App::call`] return when everything has *settled*: no group has an event in hand, and none to
//! reach for. What waits for a later time does not count, in an ordered group neither what waits behind it: [`App::advance`]
//! makes it come. Nothing sleeps, and there is
//! nothing to wait for.
//!
//! # Time
//!
//! The test's time begins at [`Kit::starting_at`] and stands still. It rules whatever the broker keeps time of: delays of
//! retries, schedules, times to live, the window of message ids, and [`Ctx::now`](crate::Ctx::now), which handlers
//! should ask instead of the machine's clock. Jitter is off: a retry comes after the longest delay its policy allows.
//!
//! Deadlines ([`Call::within`](crate::Call::within), [`Deadline`](crate::Deadline)), the pause before an idempotent call is
//! repeated, layers such as tower's timeout and whatever else a program waits for run on tokio's clock instead: they
//! measure work, which takes real time in a test as well.
//! To see a deadline pass without waiting for it, stub the dependency with [`Stub::TimesOut`], or begin the test with
//! `#[tokio::test(start_paused = true)]`: tokio's own virtual clock works beside this one.
//!
//! # Where it differs from a server
//!
//! One suite of behaviours runs on the kit, on a nats-server and on a cluster of three. Where the kit knows less:
//!
//! - Time stands still, so nothing expires, comes again or comes due until [`App::advance`].
//! - Delivery is immediate and in order, and a queue group takes turns; a server spreads at random, and a cluster may
//!   show an older message to a direct read for a moment.
//! - Nothing breaks: there are no reconnects, no slow consumers, no lost acknowledgements and no leader elections. Those
//!   are tested against servers.
//! - A consumer's priority groups are ignored: every member may take a message.
//! - Time zones of cron expressions are taken for UTC.
//! - Permissions, accounts, replicas, placement, storage limits in bytes, mirrors and sources are taken and ignored.
//! - A recurring schedule and an expiry come to the nanosecond; a server may be a second late.

mod app;
mod kit;
mod network;
mod seen;
mod server;
mod stub;

pub use app::App;
pub use jiff::Timestamp;
pub use kit::Kit;
pub use seen::DeadLetter;
pub use stub::Stub;

/// The name under which a test itself calls and publishes.
const TEST: &str = "test";

/// Ends a test.
#[track_caller]
#[expect(clippy::panic, reason = "this is how a test fails")]
fn fail(text: &str) -> ! {
    panic!("{text}")
}

impl<S: Clone + Send + Sync + 'static> crate::Service<S> {
    /// Begins a test of this service alone; its dependencies are stubbed or absent. See [`testing`](self).
    pub fn test(self) -> Kit {
        Kit::new().service(self)
    }
}

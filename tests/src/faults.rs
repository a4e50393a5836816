//! P8 under faults: whatever is killed, stopped, cut off or starved, an accepted start ends completed, compensated or
//! visibly stuck, and no effect is without its record.
//!
//! Every run is the same story: processes as in production, starters that insist, one kind of fault at moments drawn
//! from a seed, a rest in which nothing is broken, and the [`checker`], which believes nobody alone.
//! `SINEW_FAULT_SECONDS` makes the runs longer than CI has patience for; `SINEW_FAULT_SEED` repeats one.

pub(crate) mod checker;
mod load;
mod participant;
mod relay;
mod system;

mod broker;
mod clock;
mod cluster;
mod disk;
mod kills;
mod liar;
mod replies;
mod sleeper;

use std::time::Duration;

/// Returns how long faults happen in a run that takes `usual` where nobody asks for more.
fn span(usual: u64) -> Duration {
    let asked = std::env::var("SINEW_FAULT_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(usual))
}

/// Waits for a moment that nobody could have chosen.
async fn some_moment(millis: std::ops::Range<u64>) {
    // why: a fault at a moment that depends on what happens would never be a surprise.
    tokio::time::sleep(Duration::from_millis(fastrand::u64(millis))).await;
}

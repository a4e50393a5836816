//! What the SDK costs: requests, events, tracing, memory; against raw async-nats with the same bytes and headers.

mod costs;
mod events;
mod requests;

use std::time::Duration;

use super::Error;

/// Rounds of each measurement; ours and the baseline take turns, and the median counts.
const ROUNDS: usize = 5;

pub(super) async fn run(time: Duration) -> Result<(), Error> {
    requests::run(time).await?;
    events::run(time).await?;
    costs::run(time).await
}

//! What clients notice of an edge that takes over other routes all the time: the slowest of their requests, beside those of
//! an edge that is left alone.

use std::time::Duration;

use bytes::Bytes;
use sinew::broker::Broker;

use super::{
    CONNECTIONS, Edge, Error, ROUNDS,
    cost::{MANY, routes},
    post_to, sample,
};
use crate::bench::{load::Figures, messages::Echo};

pub(super) async fn run(broker: &Broker, time: Duration) -> Result<(), Error> {
    println!("\nedge: {MANY} routes, one of which changes every second, {CONNECTIONS} connections");
    let body = Bytes::from(serde_json::to_vec(&Echo { sample: sample() })?);
    let steady = Edge::start(broker, &routes(MANY))?;
    let reloading = Edge::start_as("reloading-edge", broker, &routes(MANY))?;
    let (mut before, mut under) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (edge, figures) in [(&steady, &mut before), (&reloading, &mut under)] {
            figures.push(post_to(edge.address, "/r/7/echo", body.clone(), CONNECTIONS, time).await?);
        }
    }
    let (before, under) = (slowest(&before), slowest(&under));
    let ratio = under / before;
    println!(
        "{:>24}  {under:.0} µs, left alone {before:.0} µs, ratio {ratio:.2} (asked 1.0)",
        "p99 under reload"
    );
    Ok(())
}

/// Returns the median of the 99th percentiles, in microseconds.
fn slowest(rounds: &[Figures]) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(|round| round.p99.as_secs_f64() * 1e6).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

//! Closed-loop load: so many workers, each with one request in flight, for so long.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::Error;

/// What a load saw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub(super) per_second: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    /// How many were done; 0 where nobody told.
    pub(super) count: usize,
}

/// Runs `concurrency` workers for `time`; `make` gives each worker its own state.
pub(super) async fn run<W, M, F, Fut>(
    concurrency: usize,
    time: Duration,
    make: M,
    step: F,
) -> Result<Figures, Error>
where
    W: Send + 'static,
    M: AsyncFn() -> Result<W, Error>,
    F: Fn(W) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<W, Error>> + Send,
{
    let mut workers = Vec::new();
    for _ in 0..concurrency {
        workers.push(make().await?);
    }
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for mut worker in workers {
        let step = step.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while begin.elapsed() < time {
                let sent = Instant::now();
                worker = step(worker).await?;
                latencies.push(sent.elapsed());
            }
            Ok::<_, Error>(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    let elapsed = begin.elapsed().as_secs_f64();
    all.sort_unstable();
    let at = |share: f64| all.get(((all.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default();
    Ok(Figures { per_second: all.len() as f64 / elapsed, p50: at(0.5), p99: at(0.99), count: all.len() })
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        write!(f, "{:>8.0}/s  p50 {:>7.0} µs  p99 {:>7.0} µs", self.per_second, us(self.p50), us(self.p99))
    }
}

/// Returns the run with the median throughput.
pub(super) fn median(mut rounds: Vec<Figures>) -> Figures {
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    rounds[rounds.len() / 2]
}

/// Prints what one median rate is of the other.
pub(super) fn compare_rates(what: &str, ours: &mut [f64], baseline: &mut [f64]) {
    ours.sort_by(f64::total_cmp);
    baseline.sort_by(f64::total_cmp);
    let (ours, baseline) = (ours[ours.len() / 2], baseline[baseline.len() / 2]);
    let ratio = ours / baseline;
    println!("{what:>24}  ours {ours:.0}/s, baseline {baseline:.0}/s, ratio {ratio:.3}");
}

/// Prints the median rounds of ours and of the baseline, and what one is of the other: the median over the rounds, each
/// compared with the one that took its turn beside it, so that what else the machine does meanwhile hits both.
pub(super) fn compare(what: &str, ours: &[Figures], baseline: &[Figures]) {
    println!("{what:>24}  ours     {}", median(ours.to_vec()));
    println!("{:>24}  baseline {}", "", median(baseline.to_vec()));
    let middle = |of: fn(&Figures) -> f64| {
        let mut ratios: Vec<f64> =
            ours.iter().zip(baseline).map(|(ours, base)| of(ours) / of(base)).collect();
        ratios.sort_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    };
    let (throughput, p50) = (middle(|round| round.per_second), middle(|round| round.p50.as_secs_f64()));
    println!("{:>24}  ratio    {throughput:.3} of its throughput, p50 {p50:.2} x", "");
}

//! Processor time, instructions and allocations per operation. A figure is that of the fastest round: what makes the others
//! slower is the machine, which has other things to do.

use std::hint::black_box;
use std::time::Duration;

use perf_event::{Builder, Counter, events::Hardware};
use rustix::time::{ClockId, clock_gettime};

pub(super) const ROUNDS: usize = 15;
/// How many operations are prepared at once where each needs something of its own.
const BATCH: usize = 128;

/// What one operation costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) nanoseconds: f64,
    instructions: Option<f64>,
    allocations: f64,
}

/// Measures operations, each for about the same time.
pub(super) struct Meter {
    round: Duration,
    counter: Option<Counter>,
}

impl Meter {
    /// Makes one that spends about `time` over all that is measured.
    pub(super) fn new(time: Duration) -> Self {
        Self { round: time / 400, counter: Builder::new(Hardware::INSTRUCTIONS).build().ok() }
    }

    pub(super) fn counts_instructions(&self) -> bool {
        self.counter.is_some()
    }

    /// Measures an operation that needs nothing prepared.
    pub(super) fn cost(&mut self, mut operation: impl FnMut()) -> Cost {
        self.cost_of(|| (), |()| operation())
    }

    /// Measures an operation on something made for it, whose making and dropping are not counted.
    pub(super) fn cost_of<S, T>(
        &mut self,
        mut prepare: impl FnMut() -> S,
        mut operation: impl FnMut(S) -> T,
    ) -> Cost {
        let mut times = Vec::with_capacity(ROUNDS);
        let mut counts = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let (mut spent, mut done, mut instructions) = (Duration::ZERO, 0_u32, 0_u64);
            while spent < self.round {
                let prepared: Vec<S> = (0..BATCH).map(|_| prepare()).collect();
                let mut results = Vec::with_capacity(BATCH);
                let before = self.instructions();
                let begin = processor_time();
                for each in prepared {
                    results.push(black_box(operation(black_box(each))));
                }
                spent += processor_time().saturating_sub(begin);
                instructions += self.instructions().saturating_sub(before);
                done += results.len() as u32;
            }
            times.push(spent.as_nanos() as f64 / f64::from(done));
            counts.push(instructions as f64 / f64::from(done));
        }
        let mut allocated = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let prepared = prepare();
            let mut result = None;
            let counted = allocation_counter::measure(|| result = Some(operation(prepared)));
            allocated.push(counted.count_total as f64);
        }
        Cost {
            nanoseconds: least(times),
            instructions: self.counter.is_some().then(|| least(counts)),
            allocations: least(allocated),
        }
    }

    pub(super) fn print(&self, what: &str, cost: &Cost) {
        let time = match cost.nanoseconds {
            ns if ns < 10_000.0 => format!("{ns:>8.0} ns"),
            ns if ns < 1e6 => format!("{:>8.1} µs", ns / 1e3),
            ns => format!("{:>8.2} ms", ns / 1e6),
        };
        let count =
            cost.instructions.map_or_else(String::new, |count| format!("  {count:>9.0} instructions"));
        println!("{what:>34}  {time}{count}  {:>6} allocations", cost.allocations);
    }

    fn instructions(&mut self) -> u64 {
        let Some(counter) = &mut self.counter else { return 0 };
        // Enabling twice is harmless; a counter that fails reads as nothing.
        let _ = counter.enable();
        counter.read().unwrap_or_default()
    }
}

impl Cost {
    /// Returns what one of so many operations measured together costs.
    pub(super) fn of(self, count: usize) -> Self {
        let nothing = Self { nanoseconds: 0.0, instructions: Some(0.0), allocations: 0.0 };
        self.each(nothing, count as f64)
    }

    /// Returns what one operation costs when so many of them were measured together, beyond what they cost anyway.
    pub(super) fn each(self, beyond: Self, count: f64) -> Self {
        Self {
            nanoseconds: (self.nanoseconds - beyond.nanoseconds) / count,
            instructions: self.instructions.zip(beyond.instructions).map(|(all, base)| (all - base) / count),
            // What is measured beyond may allocate once more than what it is part of: a table grows at its own pace.
            allocations: ((self.allocations - beyond.allocations) / count * 10.0).round().max(0.0) / 10.0,
        }
    }
}

/// Returns how long this thread has been running, which does not go on while others do.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn least(values: Vec<f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

//! Shedding load: when the edge has too much to do, requests of low priority are turned away first, at once and for
//! nearly nothing, so that the others are served in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::StatusCode;

use crate::{
    Edge,
    config::{Priority, Shedding},
    observe::{family, sample},
    problem::Refusal,
};

/// How often the lag is measured.
const PACE: Duration = Duration::from_millis(20);

/// How much there is to do.
#[derive(Debug)]
pub(crate) struct Pressure {
    settings: Shedding,
    in_flight: Arc<AtomicUsize>,
    /// How late tasks get their turn, in microseconds: the longest of the last moments, fading.
    lag: AtomicU64,
    /// Requests turned away, by priority.
    shed: [AtomicU64; 3],
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Pressure {
    pub(super) fn new(settings: &Shedding) -> Self {
        Self {
            settings: settings.clone(),
            in_flight: Arc::default(),
            lag: AtomicU64::new(0),
            shed: Default::default(),
        }
    }

    /// Says whether requests are ever turned away.
    pub(crate) fn is_watched(&self) -> bool {
        !self.settings.is_off()
    }

    /// Takes a request on; `None` where nobody counts.
    ///
    /// # Errors
    /// 503 when there is too much to do for one of this priority.
    pub(crate) fn admit(&self, priority: Priority) -> Result<Option<Place>, Refusal> {
        if self.settings.is_off() {
            return Ok(None);
        }
        let place = Place(self.in_flight.clone());
        let before = place.0.fetch_add(1, Relaxed);
        let lag = Duration::from_micros(self.lag.load(Relaxed));
        if sheds(&self.settings, priority, before, lag) {
            tracing::debug!(%priority, in_flight = before, ?lag, "a request was turned away: there is too much to do");
            self.shed[priority as usize].fetch_add(1, Relaxed);
            let title = "the edge has too much to do";
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "shedding", title);
            return Err(refusal.with("priority", priority.to_string()).after(1));
        }
        Ok(Some(place))
    }

    /// Writes what was turned away, for readers of metrics.
    pub(super) fn describe(&self, text: &mut String) {
        let name = "sinew_edge_shed_total";
        family(text, name, "counter", "Requests turned away because there was too much to do.");
        for priority in [Priority::Low, Priority::Normal, Priority::High] {
            let count = self.shed[priority as usize].load(Relaxed);
            sample(text, name, &[("priority", &priority.to_string())], count);
        }
    }

    /// Takes a measured lag: more counts at once, less fades.
    fn measured(&self, late: Duration) {
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.lag.store(late.max(self.lag.load(Relaxed) / 2), Relaxed);
    }
}

/// Measures how late tasks get their turn as long as the edge runs, where somebody wants to know.
pub(crate) async fn measure(edge: Arc<Edge>) {
    if edge.config.shedding.max_lag_ms.is_none() {
        return;
    }
    let measure = async {
        loop {
            let began = Instant::now();
            tokio::time::sleep(PACE).await;
            // The timer itself counts whole milliseconds.
            let late = began.elapsed().saturating_sub(PACE + Duration::from_millis(1));
            edge.policies.pressure.measured(late);
        }
    };
    edge.closing.run_until_cancelled(measure).await;
}

/// Says whether a request is turned away when so many are under way and tasks are so late.
fn sheds(settings: &Shedding, priority: Priority, in_flight: usize, lag: Duration) -> bool {
    let (share, times) = match priority {
        Priority::Low => (70, 1),
        Priority::Normal => (90, 2),
        Priority::High => (100, 4),
    };
    let full = settings.max_in_flight.is_some_and(|most| in_flight as u64 * 100 >= u64::from(most) * share);
    let late = settings.max_lag_ms.is_some_and(|most| lag > Duration::from_millis(most) * times);
    full || late
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Who is turned away would be turned away with a lower priority, too, and with more to do.
        #[test]
        fn low_goes_before_normal_and_normal_before_high(
            most in 1u32..1_000, lag_most in 1u64..1_000, in_flight in 0usize..1_200, lag in 0u64..5_000,
        ) {
            let settings = Shedding { max_in_flight: Some(most), max_lag_ms: Some(lag_most) };
            let sheds = |priority, in_flight| sheds(&settings, priority, in_flight, Duration::from_millis(lag));
            let all = [Priority::High, Priority::Normal, Priority::Low].map(|one| sheds(one, in_flight));
            prop_assert!(all[0] <= all[1] && all[1] <= all[2], "{all:?}");
            prop_assert!(sheds(Priority::High, in_flight) <= sheds(Priority::High, in_flight + 1));
            prop_assert!(sheds(Priority::High, most as usize), "never more than there may be");
        }
    }

    #[test]
    fn a_lag_counts_at_once_and_fades() {
        let pressure = Pressure::new(&Shedding { max_in_flight: None, max_lag_ms: Some(10) });
        assert!(pressure.admit(Priority::Low).is_ok());
        pressure.measured(Duration::from_millis(30));
        assert!(pressure.admit(Priority::Low).is_err() && pressure.admit(Priority::Normal).is_err());
        let place = pressure.admit(Priority::High).unwrap();
        assert_eq!(pressure.in_flight.load(Relaxed), 1);
        drop(place);
        (0..3).for_each(|_| pressure.measured(Duration::ZERO));
        assert!(pressure.admit(Priority::Low).is_ok());
        assert_eq!(pressure.in_flight.load(Relaxed), 0, "who was turned away is not under way");
    }
}

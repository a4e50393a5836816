//! A clock that measures and waits: the machine's, or in a test the one that the test moves.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{Bus, link::Carrier};

/// Counts from when it was made.
pub(crate) struct Clock(Source);

enum Source {
    Machine(Instant),
    Test { carrier: Arc<dyn Carrier>, began: Timestamp },
}

impl Bus {
    /// Starts a clock.
    pub(crate) fn clock(&self) -> Clock {
        Clock(match self.shared.link.carrier() {
            None => Source::Machine(Instant::now()),
            Some(carrier) => Source::Test { carrier: carrier.clone(), began: carrier.now() },
        })
    }
}

impl Clock {
    /// Returns the time since it was made.
    pub(crate) fn elapsed(&self) -> Duration {
        match &self.0 {
            Source::Machine(began) => began.elapsed(),
            Source::Test { carrier, began } => {
                carrier.now().duration_since(*began).try_into().unwrap_or_default()
            }
        }
    }

    /// Says whether a test moves it.
    pub(crate) fn is_virtual(&self) -> bool {
        matches!(self.0, Source::Test { .. })
    }

    /// Waits until so much time has passed since it was made. `parked` are the reply subjects of deliveries that wait
    /// for nothing else meanwhile: a test need not wait for them either. Of the machine's clock they are not asked for.
    pub(crate) async fn sleep_until(&self, due: Duration, parked: Vec<String>) {
        match &self.0 {
            Source::Machine(began) => tokio::time::sleep_until(*began + due).await,
            Source::Test { carrier, began } => {
                let due = SignedDuration::try_from(due).unwrap_or(SignedDuration::MAX);
                carrier.park(began.checked_add(due).unwrap_or(Timestamp::MAX), parked).await;
            }
        }
    }
}

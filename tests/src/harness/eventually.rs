//! Waiting for a condition that no event announces, without guessing how long it takes.

use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What a condition may return: `false`, `None` and `Err` mean "not yet".
pub(crate) trait Outcome {
    /// What is known once the condition holds.
    type Value;

    /// Returns the value if the condition holds.
    fn reached(self) -> Option<Self::Value>;
}

/// Asks again and again, and returns as soon as the condition holds.
///
/// # Panics
///
/// Panics, naming the caller's line, when it does not hold within `limit`. The limit says when to give up on a
/// broken system, so make it generous: a passing test never waits for it.
#[track_caller]
pub(crate) fn eventually<O: Outcome, F: Future<Output = O>>(
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> impl Future<Output = O::Value> {
    let caller = Location::caller();
    async move {
        let give_up = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(value) = ask().await.reached() {
                return value;
            }
            assert!(Instant::now() < give_up, "{caller}: the condition did not come true within {limit:?}");
            // why: this is the one place that polls, so that tests need not.
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

impl Outcome for bool {
    type Value = ();

    fn reached(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn reached(self) -> Option<T> {
        self
    }
}

impl<T, E> Outcome for Result<T, E> {
    type Value = T;

    fn reached(self) -> Option<T> {
        self.ok()
    }
}

#[tokio::test]
async fn a_condition_is_asked_until_it_holds() {
    let mut asked = 0;
    let value = eventually(super::SOON, || {
        asked += 1;
        std::future::ready((asked == 3).then_some("third"))
    });
    assert_eq!(value.await, "third");
    assert_eq!(asked, 3);
}

#[tokio::test]
#[should_panic(expected = "eventually.rs")]
async fn a_condition_that_never_holds_names_the_caller() {
    eventually(Duration::ZERO, || std::future::ready(false)).await;
}

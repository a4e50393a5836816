//! Many events in one go, each with an outcome of its own.
//!
//! ```no_run
//! # use sinew::{Batch, Event, Outcomes, Problem};
//! # use serde::{Serialize, Deserialize};
//! # use schemars::JsonSchema;
//! # #[derive(Event, Serialize, Deserialize, JsonSchema)]
//! # #[sinew(subject = "orders.placed")]
//! # struct OrderPlaced { id: String }
//! # #[derive(Debug, Problem)]
//! # enum IndexError {
//! #     /// an order without an id
//! #     #[problem(status = 400, code = "no-id")]
//! #     NoId,
//! #     /// the index is down
//! #     #[problem(status = 503, code = "index-down", retry)]
//! #     Down,
//! # }
//! # async fn write(rows: &[&str]) -> Result<(), IndexError> { Ok(()) }
//! async fn index(batch: Batch<OrderPlaced>) -> Result<Outcomes, IndexError> {
//!     let mut outcomes = batch.outcomes();
//!     let mut rows = Vec::new();
//!     for item in &batch {
//!         if item.event.id.is_empty() {
//!             outcomes.fail(item, IndexError::NoId);   // this one becomes a dead letter
//!         } else {
//!             rows.push(item.event.id.as_str());
//!         }
//!     }
//!     write(&rows).await?;                             // fails: all of them are tried again
//!     Ok(outcomes)
//! }
//!
//! # fn demo() {
//! # use std::time::Duration;
//! sinew::Service::new("search", ())
//!     .on_batch("indexer", index, |group| group.max(500).linger(Duration::from_millis(50)));
//! # }
//! ```

use sinew_wire::{Event, Problem, ServiceError};

use crate::{Ctx, FromMessage};

/// Some events of one kind, in the order they were published as far as the server keeps it.
#[derive(Debug)]
pub struct Batch<E> {
    items: Vec<Item<E>>,
}

/// One event of a batch.
#[derive(Debug)]
pub struct Item<E> {
    /// The event.
    pub event: E,
    place: usize,
    ctx: Ctx,
}

/// What became of each event of a batch: handled, unless [`Outcomes::fail`] says otherwise.
#[derive(Debug)]
#[must_use = "outcomes that are not returned count for nothing"]
pub struct Outcomes(Vec<Result<(), Problem>>);

/// What a handler of batches may return: an [`Outcomes`], or one `Result` for all events, or a `Vec` with one for each
/// in their order.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what became of the events of a batch",
    note = "return Result<(), E>, Result<Outcomes, E>, Outcomes or Vec<Result<(), E>>, with a derived Problem as E"
)]
pub trait IntoOutcomes: Send {
    /// Returns an outcome for each of `count` events, or the problem of all of them.
    ///
    /// # Errors
    /// The problem of the batch as a whole.
    fn into_outcomes(self, count: usize) -> Result<Outcomes, Problem>;
}

/// A function that reacts to many events of one kind at once.
#[diagnostic::on_unimplemented(
    message = "this function cannot react to batches of `{E}`",
    label = "not a handler of batches of `{E}`",
    note = "write it as: async fn(batch: Batch<{E}>, ..extractors) -> Result<Outcomes, Error>, with a derived Problem as Error"
)]
pub trait BatchHandler<E: Event, S, M>: Clone + Send + Sync + 'static {
    /// Reacts to `batch`.
    fn react(
        self,
        batch: Batch<E>,
        ctx: Ctx,
        state: S,
    ) -> impl Future<Output = Result<Outcomes, Problem>> + Send;
}

impl<E> Batch<E> {
    pub(crate) fn new(events: impl IntoIterator<Item = (E, Ctx)>) -> Self {
        let item = |(place, (event, ctx))| Item { event, place, ctx };
        Self { items: events.into_iter().enumerate().map(item).collect() }
    }

    /// Returns how many events there are, at least one.
    #[expect(clippy::len_without_is_empty, reason = "no handler ever sees an empty batch")]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Goes through the events.
    pub fn iter(&self) -> std::slice::Iter<'_, Item<E>> {
        self.items.iter()
    }

    /// Returns outcomes that say "handled" for every event.
    pub fn outcomes(&self) -> Outcomes {
        Outcomes::handled(self.len())
    }
}

impl<E> Item<E> {
    /// Returns how often this event was delivered, this time included.
    pub fn attempt(&self) -> u32 {
        self.ctx.attempt()
    }

    /// Returns the event's logical id; see [`Ctx::event_id`].
    pub fn event_id(&self) -> Option<String> {
        self.ctx.event_id()
    }

    /// Returns a header of this event.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.ctx.header(name)
    }

    /// Returns what a handler of single events would be given; what is published through it is in this batch's trace.
    pub fn ctx(&self) -> &Ctx {
        &self.ctx
    }
}

impl Outcomes {
    fn handled(count: usize) -> Self {
        Self((0..count).map(|_| Ok(())).collect())
    }

    /// Says that an event was not handled. Whether it is tried again is the error's word, as for single events.
    pub fn fail<E>(&mut self, item: &Item<E>, error: impl ServiceError) {
        if let Some(outcome) = self.0.get_mut(item.place) {
            *outcome = Err(error.to_problem());
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Result<(), Problem>> {
        self.0
    }
}

impl<'a, E> IntoIterator for &'a Batch<E> {
    type Item = &'a Item<E>;
    type IntoIter = std::slice::Iter<'a, Item<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<E> IntoIterator for Batch<E> {
    type Item = Item<E>;
    type IntoIter = std::vec::IntoIter<Item<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl IntoOutcomes for Outcomes {
    fn into_outcomes(self, count: usize) -> Result<Outcomes, Problem> {
        Ok(full(self.0, count))
    }
}

impl<P: ServiceError> IntoOutcomes for Result<(), P> {
    fn into_outcomes(self, count: usize) -> Result<Outcomes, Problem> {
        self.map(|()| Outcomes::handled(count)).map_err(|error| error.to_problem())
    }
}

impl<P: ServiceError> IntoOutcomes for Result<Outcomes, P> {
    fn into_outcomes(self, count: usize) -> Result<Outcomes, Problem> {
        self.map(|outcomes| full(outcomes.0, count)).map_err(|error| error.to_problem())
    }
}

impl<P: ServiceError> IntoOutcomes for Vec<Result<(), P>> {
    fn into_outcomes(self, count: usize) -> Result<Outcomes, Problem> {
        let told = self.into_iter().map(|outcome| outcome.map_err(|error| error.to_problem()));
        Ok(full(told.collect(), count))
    }
}

/// An event nobody said anything about was not handled.
fn full(mut told: Vec<Result<(), Problem>>, count: usize) -> Outcomes {
    let silent =
        || Err(Problem::new(500, "no-outcome", "the handler did not say what became of it").retriable());
    told.resize_with(count, silent);
    Outcomes(told)
}

macro_rules! handlers {
    ($($arg:ident),*) => {
        #[allow(non_snake_case, unused_variables, reason = "type parameters name the arguments of each arity")]
        impl<F, Fut, E, O, S, $($arg,)*> BatchHandler<E, S, (E, O, $($arg,)*)> for F
        where
            F: Fn(Batch<E>, $($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = O> + Send,
            O: IntoOutcomes,
            E: Event,
            S: Send + Sync,
            $($arg: FromMessage<S>,)*
        {
            async fn react(self, batch: Batch<E>, ctx: Ctx, state: S) -> Result<Outcomes, Problem> {
                let count = batch.len();
                $(let $arg = $arg::from_message(&ctx, &state).await?;)*
                self(batch, $($arg),*).await.into_outcomes(count)
            }
        }
    };
}

handlers!();
handlers!(A1);
handlers!(A1, A2);
handlers!(A1, A2, A3);
handlers!(A1, A2, A3, A4);
handlers!(A1, A2, A3, A4, A5);
handlers!(A1, A2, A3, A4, A5, A6);

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Problem {
        Problem::new(503, "busy", "busy").retriable()
    }

    #[test]
    fn a_vector_too_short_leaves_the_rest_unhandled_and_one_too_long_is_cut() {
        let codes = |told: Vec<Result<(), Problem>>, count| {
            let outcomes = told.into_outcomes(count).unwrap().into_vec().into_iter();
            outcomes.map(|outcome| outcome.err().map(|problem| problem.code)).collect::<Vec<_>>()
        };
        assert_eq!(codes(vec![Ok(())], 2), [None, Some("no-outcome".into())]);
        assert_eq!(codes(vec![Ok(()), Err(busy())], 1), [None]);
    }

    #[test]
    fn one_word_holds_for_all() {
        assert_eq!(Ok::<(), Problem>(()).into_outcomes(3).unwrap().into_vec(), [Ok(()), Ok(()), Ok(())]);
        assert_eq!(Err::<(), _>(busy()).into_outcomes(3).unwrap_err(), busy());
        assert_eq!(Err::<Outcomes, _>(busy()).into_outcomes(3).unwrap_err(), busy());
    }
}

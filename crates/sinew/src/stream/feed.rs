//! The items of one stream on their way from the task that receives them to whoever asked.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Pace,
    receive::{Item, Received, Reception},
};
use crate::{Bus, CallError, Error, bus::Subscription, telemetry::Span};

/// How a stream is asked for.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// Items that may be under way or wait to be taken.
    pub(super) credit: u32,
    pub(super) idle: Duration,
    /// Longest time from the request to the last item.
    pub(super) limit: Option<Duration>,
}

pub(super) struct Feed<R: Received> {
    items: mpsc::Receiver<Item<R>>,
    /// Tells the receiving task how many items were taken; its end tells that nobody wants more.
    taken_to: mpsc::UnboundedSender<u64>,
    taken: u64,
    told: u64,
    /// Items taken before more are asked for.
    step: u64,
}

impl<R: Received> Feed<R> {
    /// Starts to receive, and waits until the stream is open.
    pub(super) async fn open(
        bus: &Bus,
        inbox: (Subscription, String),
        terms: Terms,
        span: Span,
    ) -> Result<Self, CallError<R::Error>> {
        let credit = u64::from(terms.credit);
        // One place more than the credit: for the error that may end the stream.
        let (items_to, items) = mpsc::channel(terms.credit as usize + 1);
        let (taken_to, taken) = mpsc::unbounded_channel();
        let (opened_to, opened) = oneshot::channel();
        let deadline = terms.limit.and_then(|limit| Instant::now().checked_add(limit));
        let ends = (opened_to, items_to, taken);
        let pace = Pace::new(terms.idle);
        let reception = Reception::<R>::new(bus.clone(), inbox, ends, credit, pace, deadline);
        // Ends with the handle returned here, with the stream, or with the bus, whichever is first. It is a task because
        // life has to be shown while the caller is busy with an item.
        bus.spawn(reception.run(span));
        let feed = Self { items, taken_to, taken: 0, told: 0, step: credit.div_ceil(2) };
        opened.await.unwrap_or_else(|_| Err(CallError::NotSent(Error::closed()))).map(|()| feed)
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item<R>>> {
        let polled = self.items.poll_recv(cx);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            self.count();
        }
        polled
    }

    /// Returns how many items were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    fn count(&mut self) {
        self.taken += 1;
        if self.taken - self.told >= self.step {
            self.told = self.taken;
            // The task is gone once the stream has ended; then nothing more is asked for.
            let _ = self.taken_to.send(self.taken);
        }
    }
}

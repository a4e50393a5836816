//! Settings of a group whose events are handled in order, key by key.

use std::{fmt::Display, marker::PhantomData, sync::Arc, time::Duration};

use sinew_wire::{ContentType, Event};

use super::{
    Group, Retry, lanes,
    ordered::{KeyOf, Order},
};

/// How long a silent member stays the active one.
const HOLD: Duration = Duration::from_secs(5);
/// Events an active member holds, at most.
const EVENTS: usize = 10_000;
/// Bytes it holds, at most.
const BYTES: usize = 64 << 20;

/// Settings of a group that takes the event `E`: what the closure given to [`Service::on`](crate::Service::on) returns.
#[diagnostic::on_unimplemented(
    message = "these are not settings of a group that takes `{E}`",
    label = "not for `{E}`",
    note = "the key of an ordered group is read from the event its handler takes: .ordered_by(|event: &{E}| ..)"
)]
pub trait GroupOf<E> {
    #[doc(hidden)]
    fn into_parts(self) -> (Group, Option<Order>);
}

/// The settings of a group that handles the events of one key one after the other, in the order they were stored.
///
/// Made by [`Group::ordered_by`], which says what is promised.
pub struct Ordered<E> {
    group: Group,
    order: Order,
    event: PhantomData<fn(E)>,
}

impl Group {
    /// Handles the events of one key one after the other, in the order they were stored; keys go on side by side, up to
    /// [`Ordered::concurrency`] of them. Two keys are the same when they read the same.
    ///
    /// ```
    /// # use serde::{Serialize, Deserialize};
    /// # use schemars::JsonSchema;
    /// use sinew::{Event, Problem, Service};
    ///
    /// #[derive(Event, Serialize, Deserialize, JsonSchema)]
    /// #[sinew(subject = "orders.changed", version = 1)]
    /// pub struct OrderChanged { order: String, status: String }
    ///
    /// async fn show(event: OrderChanged) -> Result<(), Problem> {
    ///     Ok(())
    /// }
    ///
    /// let service = Service::new("board", ())
    ///     .on("screen", show, |group| group.ordered_by(|event: &OrderChanged| event.order.clone()).concurrency(32));
    /// assert!(service.describe().groups[0].ordered);
    /// ```
    ///
    /// # What holds
    /// - A key's next event begins when the one before it was handled or became a dead letter: over retries, restarts
    ///   and replicas.
    /// - An event that failed keeps its key waiting until its next attempt. Other keys go on: once half of
    ///   [`Ordered::window`] waits behind failed events, what waits goes to the stream [`LANES`](crate::LANES), and
    ///   comes back one by one when its turn has come.
    /// - One member of the group is active, the others stand by. One that stops hands over at once; one that dies is
    ///   replaced after [`Ordered::takeover_after`], and what was in its hands begins anew after
    ///   [`Ordered::ack_wait`].
    /// - An event may be handled twice, as in every group: a member that was taken for dead may still finish what it
    ///   had begun. Attempts are counted by the member that makes them, so another member begins with the first.
    ///
    /// A group may become ordered, or stop being so, under its name: what is still in somebody's hands is waited for.
    /// Order holds once no member of the other kind is left.
    #[must_use]
    pub fn ordered_by<E, K>(self, key: impl Fn(&E) -> K + Send + Sync + 'static) -> Ordered<E>
    where
        E: Event,
        K: Display,
    {
        let read = move |content_type: Option<&str>, payload: &[u8]| {
            let codec = ContentType::of(content_type).map_err(|error| error.to_string())?;
            let event = sinew_wire::decode::<E>(codec, payload).map_err(|error| error.to_string())?;
            Ok(lanes::key(&key(&event).to_string()))
        };
        let order = Order::by(Arc::new(read));
        Ordered { group: self, order, event: PhantomData }
    }
}

impl Order {
    /// Orders by a key, with the usual room.
    pub(super) fn by(key: KeyOf) -> Self {
        Self { key, hold: HOLD, events: EVENTS, bytes: BYTES }
    }
}

impl<E> Ordered<E> {
    /// Handles up to `limit` keys at once. Default: 16.
    #[must_use]
    pub fn concurrency(self, limit: usize) -> Self {
        Self { group: self.group.concurrency(limit), ..self }
    }

    /// Sets how a failed event is tried again before it becomes a dead letter. Its key waits as long.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        Self { group: self.group.retry(retry), ..self }
    }

    /// Sets how long the server waits for a sign of life of an event before it hands it out again. Signs are sent by
    /// themselves at a third of it, also for events that wait. Default: 30 seconds.
    #[must_use]
    pub fn ack_wait(self, wait: Duration) -> Self {
        Self { group: self.group.ack_wait(wait), ..self }
    }

    /// Sets how long the active member may be silent before another takes its place; it shows itself three times as
    /// often. At least 300 milliseconds. Default: 5 seconds.
    #[must_use]
    pub fn takeover_after(mut self, silence: Duration) -> Self {
        self.order.hold = silence.max(Duration::from_millis(300));
        self
    }

    /// Limits how many events, and how many bytes of them, the active member holds: those in work and those that wait
    /// for one of their key. At half of it, what waits behind failed events is spilled to the stream
    /// [`LANES`](crate::LANES); failed events themselves, redeliveries, and what waits behind one that only runs for
    /// long are held. At the limit nothing more is taken, of any key, and a warning is logged. Default: 10,000 events,
    /// 64 MiB.
    #[must_use]
    pub fn window(mut self, events: usize, bytes: usize) -> Self {
        (self.order.events, self.order.bytes) = (events.max(1), bytes.max(1));
        self
    }
}

impl<E> GroupOf<E> for Group {
    fn into_parts(self) -> (Group, Option<Order>) {
        (self, None)
    }
}

impl<E> GroupOf<E> for Ordered<E> {
    fn into_parts(self) -> (Group, Option<Order>) {
        (self.group, Some(self.order))
    }
}

impl<E> Clone for Ordered<E> {
    fn clone(&self) -> Self {
        Self { group: self.group.clone(), order: self.order.clone(), event: PhantomData }
    }
}

impl<E> std::fmt::Debug for Ordered<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ordered").field("group", &self.group).field("order", &self.order).finish()
    }
}

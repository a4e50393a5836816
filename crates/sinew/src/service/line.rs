//! The service's line to one caller while items go between them: where the caller's messages come in, and when either side
//! was heard. What is said on it is the business of whoever holds it.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use sinew_wire::{Headers, header};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::operation::{Operation, Shop};
use crate::{
    Error,
    bus::{Message, Subscription},
    stream::DEFAULT_IDLE,
};

/// A line that is open until it is dropped.
pub(super) struct Line<'a> {
    pub(super) operation: &'a Operation,
    pub(super) messages: Subscription,
    pub(super) heard: Instant,
    pub(super) spoke: Instant,
    /// Due at the earliest of what has to be done at a certain time, and once at the beginning; rather too early than
    /// moved for every item.
    pub(super) tick: Pin<Box<Sleep>>,
    /// The service stops, and waits no longer.
    pub(super) abandoned: Pin<Box<WaitForCancellationFutureOwned>>,
    shop: &'a Shop,
    to: &'a str,
    /// Where the caller's messages are expected; travels with everything said.
    inbox: String,
}

impl<'a> Line<'a> {
    /// Opens a line to the caller that hears what is said on `to`.
    pub(super) async fn open(shop: &'a Shop, operation: &'a Operation, to: &'a str) -> Result<Self, Error> {
        let inbox = shop.bus.new_inbox();
        let now = Instant::now();
        Ok(Self {
            operation,
            messages: shop.bus.subscribe(&inbox, None).await?,
            heard: now,
            spoke: now,
            tick: Box::pin(tokio::time::sleep(Duration::ZERO)),
            abandoned: Box::pin(shop.abandon.clone().cancelled_owned()),
            shop,
            to,
            inbox,
        })
    }

    /// Says something to the caller.
    pub(super) async fn say(&mut self, headers: &Headers, payload: Bytes) -> Result<(), Error> {
        self.spoke = Instant::now();
        self.shop.bus.post(self.to, Some(&self.inbox), headers, &payload).await
    }

    /// Returns the largest item the bus takes.
    pub(super) fn largest_item(&self) -> usize {
        self.shop.bus.max_payload().saturating_sub(256)
    }
}

/// Returns how long the caller bears silence.
pub(super) fn idle(request: &Message) -> Duration {
    let said = request.header(header::IDLE).and_then(|text| text.parse().ok());
    said.map_or(DEFAULT_IDLE, Duration::from_millis)
}

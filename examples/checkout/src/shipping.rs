//! Shipping: books a carrier, and cancels.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Ctx, Problem, Request, Service, State, contract};

use crate::{
    Item, Ledger,
    participant::{Participant, Undone, forward_key, undo_key},
};

/// The carrier for this address books at once and answers much later than the workflow waits.
const SLOW: &str = "slow";
const SLOW_ANSWER: Duration = Duration::from_secs(3);

contract! {
    /// Books carriers.
    pub Contract = "shipping" @ "1.0.0" { book: Book, cancel: Cancel }
}

/// Books a carrier for an order.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shipping.book", reply = Shipment, error = BookError, idempotent)]
pub struct Book {
    /// The order.
    pub order: String,
    /// Where to.
    pub address: String,
    /// What to carry.
    pub items: Vec<Item>,
}

/// A booked carrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shipment {
    /// Where the parcel can be followed.
    pub tracking: String,
}

/// Why no carrier was booked.
#[derive(Debug, Problem)]
pub enum BookError {
    /// the booking was cancelled before it was made
    #[problem(status = 409)]
    AlreadyCancelled,
}

/// Cancels what was booked for an order; also where nothing was.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "shipping.cancel", reply = Cancelled, idempotent)]
pub struct Cancel {
    /// The order.
    pub order: String,
}

/// What cancelling did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    /// Whether there was something to cancel.
    pub cancelled: bool,
}

/// The state of shipping; it outlives the service, as a database would.
#[derive(Clone, Debug)]
pub struct Shipping {
    bookings: Participant<Shipment>,
}

impl Shipping {
    /// Creates a dispatch office with nothing booked.
    pub fn new(ledger: Ledger) -> Self {
        Self { bookings: Participant::new("shipping.book", "shipping.cancel", ledger) }
    }
}

/// Builds the service.
pub fn service(shipping: Shipping) -> Service<Shipping> {
    Service::new("shipping", shipping).serve(Contract, |routes| routes.book(book).cancel(cancel))
}

async fn book(request: Book, State(shipping): State<Shipping>, ctx: Ctx) -> Result<Shipment, BookError> {
    let Book { order, address, .. } = request;
    let booked = shipping.bookings.once(forward_key(&ctx, &order), &order, || {
        Ok::<_, BookError>(Shipment { tracking: format!("parcel-{order}") })
    })?;
    if address == SLOW {
        // The booking stands, but its answer comes too late: to the caller the outcome is unknown.
        tokio::time::sleep(SLOW_ANSWER).await;
    }
    Ok(booked)
}

async fn cancel(request: Cancel, State(shipping): State<Shipping>, ctx: Ctx) -> Result<Cancelled, Problem> {
    let undone = shipping.bookings.undo(undo_key(&ctx, &request.order), &request.order);
    Ok(Cancelled { cancelled: undone.is_some() })
}

impl From<Undone> for BookError {
    fn from(_: Undone) -> Self {
        Self::AlreadyCancelled
    }
}

//! The inventory: sets items aside for an order, and gives them back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Ctx, Problem, Request, Service, State, contract};

use crate::{
    Item, Ledger,
    participant::{Participant, Undone, forward_key, undo_key},
};

/// Of this there is never any left.
const SOLD_OUT: &str = "sold-out";

contract! {
    /// Sets items aside.
    pub Contract = "inventory" @ "1.0.0" { reserve: Reserve, release: Release }
}

/// Sets items aside for an order.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "inventory.reserve", reply = Reservation, error = ReserveError, idempotent)]
pub struct Reserve {
    /// The order.
    pub order: String,
    /// What to set aside.
    pub items: Vec<Item>,
}

/// Items that are set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reservation {
    /// Its number.
    pub id: String,
    /// How many pieces.
    pub pieces: u64,
}

/// Why nothing was set aside.
#[derive(Debug, Problem)]
pub enum ReserveError {
    /// out of stock
    #[problem(status = 409)]
    OutOfStock {
        /// Of which there is not enough.
        sku: String,
    },
    /// the reservation was released before it was made
    #[problem(status = 409)]
    AlreadyReleased,
}

/// Gives back what was set aside for an order; also where nothing was.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "inventory.release", reply = Released, idempotent)]
pub struct Release {
    /// The order.
    pub order: String,
}

/// What releasing did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// Whether there was something to give back.
    pub released: bool,
}

/// The state of the inventory; it outlives the service, as a database would.
#[derive(Clone, Debug)]
pub struct Inventory {
    reservations: Participant<Reservation>,
}

impl Inventory {
    /// Creates an inventory with nothing set aside.
    pub fn new(ledger: Ledger) -> Self {
        Self { reservations: Participant::new("inventory.reserve", "inventory.release", ledger) }
    }
}

/// Builds the service.
pub fn service(inventory: Inventory) -> Service<Inventory> {
    Service::new("inventory", inventory).serve(Contract, |routes| routes.reserve(reserve).release(release))
}

async fn reserve(
    request: Reserve,
    State(inventory): State<Inventory>,
    ctx: Ctx,
) -> Result<Reservation, ReserveError> {
    let Reserve { order, items } = request;
    inventory.reservations.once(forward_key(&ctx, &order), &order, || {
        if let Some(item) = items.iter().find(|item| item.sku == SOLD_OUT) {
            return Err(ReserveError::OutOfStock { sku: item.sku.clone() });
        }
        let pieces = items.iter().map(|item| u64::from(item.quantity)).sum();
        Ok(Reservation { id: format!("reservation-{order}"), pieces })
    })
}

async fn release(
    request: Release,
    State(inventory): State<Inventory>,
    ctx: Ctx,
) -> Result<Released, Problem> {
    let undone = inventory.reservations.undo(undo_key(&ctx, &request.order), &request.order);
    Ok(Released { released: undone.is_some() })
}

impl From<Undone> for ReserveError {
    fn from(_: Undone) -> Self {
        Self::AlreadyReleased
    }
}

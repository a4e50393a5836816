//! Payments: charges a card, and pays back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Ctx, Problem, Request, Service, State, contract};

use crate::{
    Ledger,
    participant::{Participant, Undone, forward_key, undo_key},
};

/// The card that is always refused.
const DECLINED: &str = "4000-declined";

contract! {
    /// Charges cards.
    pub Contract = "payments" @ "1.0.0" { charge: Charge, refund: Refund }
}

/// Charges a card for an order.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "payments.charge", reply = Payment, error = ChargeError, idempotent)]
pub struct Charge {
    /// The order.
    pub order: String,
    /// The card.
    pub card: String,
    /// How much, in cents.
    pub amount: u64,
}

/// Money that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Payment {
    /// Its number.
    pub id: String,
    /// How much, in cents.
    pub amount: u64,
}

/// Why nothing was charged.
#[derive(Debug, Problem)]
pub enum ChargeError {
    /// the card was declined
    #[problem(status = 402)]
    CardDeclined,
    /// the payment was refunded before it was made
    #[problem(status = 409)]
    AlreadyRefunded,
}

/// Pays back what was charged for an order; also where nothing was.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "payments.refund", reply = Refunded, idempotent)]
pub struct Refund {
    /// The order.
    pub order: String,
}

/// What refunding did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refunded {
    /// How much was paid back, in cents.
    pub amount: u64,
}

/// The state of payments; it outlives the service, as a database would.
#[derive(Clone, Debug)]
pub struct Payments {
    charges: Participant<Payment>,
}

impl Payments {
    /// Creates a till with nothing in it.
    pub fn new(ledger: Ledger) -> Self {
        Self { charges: Participant::new("payments.charge", "payments.refund", ledger) }
    }
}

/// Builds the service.
pub fn service(payments: Payments) -> Service<Payments> {
    Service::new("payments", payments).serve(Contract, |routes| routes.charge(charge).refund(refund))
}

async fn charge(request: Charge, State(payments): State<Payments>, ctx: Ctx) -> Result<Payment, ChargeError> {
    let Charge { order, card, amount } = request;
    payments.charges.once(forward_key(&ctx, &order), &order, || {
        if card == DECLINED {
            return Err(ChargeError::CardDeclined);
        }
        Ok(Payment { id: format!("payment-{order}"), amount })
    })
}

async fn refund(request: Refund, State(payments): State<Payments>, ctx: Ctx) -> Result<Refunded, Problem> {
    let undone = payments.charges.undo(undo_key(&ctx, &request.order), &request.order);
    Ok(Refunded { amount: undone.map_or(0, |payment| payment.amount) })
}

impl From<Undone> for ChargeError {
    fn from(_: Undone) -> Self {
        Self::AlreadyRefunded
    }
}

//! The four orders, and how each is expected to end.

use serde_json::{Value, json};

/// An order to place.
pub(crate) struct Order {
    pub(crate) title: &'static str,
    card: &'static str,
    address: &'static str,
    /// Whether the inventory is drained before the order is placed.
    pub(crate) inventory_away: bool,
    /// The HTTP status that is expected.
    pub(crate) status: u16,
    /// How the saga is expected to end.
    pub(crate) outcome: &'static str,
}

pub(crate) const ORDERS: [Order; 4] = [
    Order {
        title: "an order that goes through",
        card: "4000-ada",
        address: "12 Analytical Row",
        inventory_away: false,
        status: 201,
        outcome: "completed",
    },
    Order {
        title: "the bank refuses the card: the stock is released",
        card: "4000-declined",
        address: "12 Analytical Row",
        inventory_away: false,
        status: 402,
        outcome: "compensated",
    },
    Order {
        title: "the carrier answers too late: shipping cancelled, payment refunded, stock released",
        card: "4000-ada",
        address: "slow",
        inventory_away: false,
        status: 504,
        outcome: "compensated",
    },
    Order {
        title: "the inventory is away for two seconds: the order waits and goes through",
        card: "4000-ada",
        address: "12 Analytical Row",
        inventory_away: true,
        status: 201,
        outcome: "completed",
    },
];

impl Order {
    /// Returns the body of `POST /orders`.
    pub(crate) fn request(&self, id: &str) -> Value {
        let items = json!([{ "sku": "tea", "quantity": 2 }]);
        json!({ "id": id, "items": items, "card": self.card, "address": self.address })
    }
}

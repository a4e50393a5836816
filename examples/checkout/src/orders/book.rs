//! The order book: every order and how it stands. Knows no workflow and no bus.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Order, OrderStatus};
use crate::{
    Effect, Item, Ledger,
    participant::{Participant, Undone},
};

/// The state of orders; it outlives the service, as a database would.
#[derive(Clone, Debug)]
pub struct Orders {
    // A plain mutex: held to look up or change one order, never across an await.
    book: Arc<Mutex<HashMap<String, Order>>>,
    mails: Participant<()>,
    ledger: Ledger,
}

impl Orders {
    /// Creates an empty book.
    pub fn new(ledger: Ledger) -> Self {
        let mails = Participant::new("orders.mail", "orders.unmail", ledger.clone());
        Self { book: Arc::default(), mails, ledger }
    }

    /// Returns one order.
    pub fn find(&self, id: &str) -> Option<Order> {
        self.book().get(id).cloned()
    }

    /// Puts an order in unless it stands there.
    pub(super) fn accept(&self, id: &str, items: Vec<Item>, total: u64) {
        let order = Order { id: id.to_owned(), status: OrderStatus::Pending, items, total, tracking: None };
        self.book().entry(id.to_owned()).or_insert(order);
    }

    /// Closes an order whose workflow was undone.
    pub(super) fn reject(&self, id: &str) {
        if let Some(order) = self.book().get_mut(id) {
            order.status = OrderStatus::Rejected;
        }
    }

    /// Confirms an order, once; `None` when there is no such order.
    pub(super) fn confirm(&self, id: &str, tracking: &str) -> Option<Order> {
        let mut book = self.book();
        let order = book.get_mut(id)?;
        if order.status != OrderStatus::Confirmed {
            order.status = OrderStatus::Confirmed;
            order.tracking = Some(tracking.to_owned());
            let (key, order) = (id.to_owned(), id.to_owned());
            self.ledger.write(Effect { operation: "orders.confirm", key, order });
        }
        Some(order.clone())
    }

    /// Notes that the customer was written to; `false` when that had been done before.
    pub(super) fn mail(&self, id: &str) -> bool {
        let mut first = false;
        let noted = self.mails.once::<Undone>(id, id, || {
            first = true;
            Ok(())
        });
        noted.is_ok() && first
    }

    fn book(&self) -> MutexGuard<'_, HashMap<String, Order>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Orders: takes them over HTTP, lets the workflow do the work, and tells the customer how it ended.

mod book;
mod refusal;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sinew::{
    Ctx, Event, Problem, Request, Service, State, contract,
    wire::{InstanceId, InvalidName},
    workflow::StartWorkflow,
};

use crate::Item;

pub use book::Orders;
pub use refusal::PlaceError;

/// The workflow that places an order.
const WORKFLOW: &str = "place-order";
/// The shop has one price for everything, in cents.
const PRICE: u64 = 500;

contract! {
    /// Takes orders and knows what became of them.
    pub Contract = "orders" @ "1.0.0" { place: PlaceOrder, get: GetOrder, confirm: ConfirmOrder }
}

/// Places an order, and answers when it is confirmed or everything done for it is undone.
///
/// Sent again with the same id, or without one but with the same idempotency key, it is the same order.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.place", reply = Order, error = PlaceError, http = "POST /orders", status = 201)]
pub struct PlaceOrder {
    /// The order's id: letters, digits, `-` and `_`. Made from the idempotency key, or generated, where left out.
    #[serde(default)]
    pub id: Option<String>,
    /// What is ordered.
    pub items: Vec<Item>,
    /// Who pays.
    pub card: String,
    /// Where to.
    pub address: String,
}

/// Reads an order.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.get", reply = Order, error = OrderError, idempotent, http = "GET /orders/{id}")]
pub struct GetOrder {
    /// Which order.
    pub id: String,
}

/// Confirms an order: the point from which nothing is undone any more. The workflow asks for it.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.confirm", reply = Order, error = OrderError, idempotent)]
pub struct ConfirmOrder {
    /// Which order.
    pub order: String,
    /// Where its parcel can be followed.
    pub tracking: String,
}

/// An order was confirmed.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.confirmed", version = 1)]
pub struct OrderConfirmed {
    /// Which order.
    pub order: String,
    /// Where its parcel can be followed.
    pub tracking: String,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// Its id, and that of the workflow instance that placed it.
    pub id: String,
    /// How it stands.
    pub status: OrderStatus,
    /// What is ordered.
    pub items: Vec<Item>,
    /// What it costs, in cents.
    pub total: u64,
    /// Where the parcel can be followed, once it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<String>,
}

/// How an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// The workflow is at it.
    Pending,
    /// Everything worked out.
    Confirmed,
    /// Something did not, and everything done for it was undone.
    Rejected,
}

/// Why an order cannot be shown or confirmed.
#[derive(Debug, Problem)]
pub enum OrderError {
    /// there is no such order
    #[problem(status = 404)]
    UnknownOrder,
    /// What the bus answered.
    #[problem(transparent)]
    Other(Problem),
}

/// Builds the service. Its consumer group `mailer` writes to the customer of every confirmed order.
pub fn service(orders: Orders) -> Service<Orders> {
    Service::new("orders", orders)
        .serve(Contract, |routes| routes.place(place).get(get).confirm(confirm))
        .on("mailer", mail, |group| group.concurrency(4))
        .publishes::<OrderConfirmed>()
        .requires::<StartWorkflow>()
}

async fn place(request: PlaceOrder, State(orders): State<Orders>, ctx: Ctx) -> Result<Order, PlaceError> {
    let PlaceOrder { id, items, card, address } = request;
    let id = order_id(id, &ctx).map_err(|error| PlaceError::InvalidId(error.to_string()))?;
    let total = items.iter().map(|item| u64::from(item.quantity) * PRICE).sum();
    let input = json!({ "order": id, "items": items, "total": total, "card": card, "address": address });
    orders.accept(&id, items, total);
    match ctx.call(StartWorkflow::new(WORKFLOW, input).id(id.as_str())).await {
        Ok(instance) => {
            if instance.status == "running" {
                // The workflow goes on longer than the customer waits: 202, and where to ask.
                ctx.reply_status(202);
            }
            ctx.reply_location(format!("/orders/{id}"));
            orders.find(&id).ok_or_else(|| PlaceError::forgotten(&id))
        }
        Err(error) => {
            let problem = error.to_problem();
            if refusal::is_final(&problem) {
                orders.reject(&id);
            }
            Err(PlaceError::from_workflow(&id, problem))
        }
    }
}

async fn get(request: GetOrder, State(orders): State<Orders>) -> Result<Order, OrderError> {
    orders.find(&request.id).ok_or(OrderError::UnknownOrder)
}

async fn confirm(request: ConfirmOrder, State(orders): State<Orders>, ctx: Ctx) -> Result<Order, OrderError> {
    let ConfirmOrder { order: id, tracking } = request;
    let order = orders.confirm(&id, &tracking).ok_or(OrderError::UnknownOrder)?;
    // Stored before the workflow hears of success; repeated under the same id, it is stored once.
    let event = OrderConfirmed { order: id.clone(), tracking };
    let published = ctx.publish(event).id(format!("{id}-confirmed")).about(id).await;
    published.map_err(|error| OrderError::Other(error.to_problem()))?;
    Ok(order)
}

async fn mail(event: OrderConfirmed, State(orders): State<Orders>) -> Result<(), Problem> {
    if orders.mail(&event.order) {
        tracing::info!(order = event.order, tracking = event.tracking, "the customer has mail");
    }
    Ok(())
}

/// Chooses the id: the client's, else its idempotency key, so that a repeated request finds its order, else a new one.
fn order_id(given: Option<String>, ctx: &Ctx) -> Result<String, InvalidName> {
    let wanted = given.or_else(|| ctx.idempotency_key().map(str::to_owned));
    wanted.unwrap_or_else(sinew::new_id).parse::<InstanceId>().map(String::from)
}

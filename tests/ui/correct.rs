//! Everything used rightly: what the other cases get wrong compiles here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Ctx, Event, Problem, Request, Service, contract};

#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    id: u32,
}

/// Changes an order.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.change", reply = Order, error = OrderError, idempotent)]
#[sinew(http = "PUT /orders/{orderId}", body = "changes", status = 202)]
#[serde(rename_all = "camelCase")]
struct ChangeOrder {
    order_id: u32,
    changes: Vec<String>,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.get", reply = Option<Order>)]
struct GetOrder {
    id: u32,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.changed", version = 2)]
enum OrderChanged {
    Completed { id: u32 },
    Withdrawn,
}

#[derive(Debug, Problem)]
enum OrderError {
    /// Out of stock.
    #[problem(status = 409)]
    OutOfStock { sku: String },
    #[problem(status = 503, code = "busy", title = "too busy", retry)]
    Busy(String),
    #[problem(transparent)]
    Other(sinew::Problem),
}

contract! {
    /// Takes orders.
    Orders = "orders" @ "1.2.0-rc.1" {
        change: ChangeOrder,
        get: GetOrder
    }
}

async fn change(request: ChangeOrder, ctx: Ctx) -> Result<Order, OrderError> {
    match request.changes.first() {
        Some(sku) => Err(OrderError::OutOfStock { sku: sku.clone() }),
        None => Ok(ctx.call(GetOrder { id: request.order_id }).await?.unwrap_or(Order { id: 0 })),
    }
}

fn main() {
    let _gradual = Service::new("orders", ()).serve(Orders, |orders| orders.change(change).unimplemented());
    let _ = [OrderChanged::Withdrawn, OrderChanged::Completed { id: 1 }];
    let _ = OrderError::Busy("later".to_owned());
}

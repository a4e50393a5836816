//! Everything used rightly: what the other cases get wrong compiles here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use futures::{Stream, StreamExt, stream};
use sinew::{
    Caller, Ctx, Event, FromHeader, Header, Problem, Request, Service, State, Upload, contract,
};

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

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.all", stream = Order, error = OrderError, idempotent)]
struct AllOrders {
    from: u32,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.ids", stream = u32)]
struct OrderIds {}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.import", upload = Order, reply = u32, error = OrderError)]
struct ImportOrders {}

struct Tenant(String);

impl FromHeader for Tenant {
    const NAME: &'static str = "x-tenant";

    fn from_header(value: &str) -> Result<Self, Problem> {
        Ok(Self(value.to_owned()))
    }
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
        get: GetOrder,
        /// Goes through all of them.
        all: stream AllOrders,
        ids: stream OrderIds,
        import: upload ImportOrders,
    }
}

async fn change(request: ChangeOrder, ctx: Ctx) -> Result<Order, OrderError> {
    match request.changes.first() {
        Some(sku) => Err(OrderError::OutOfStock { sku: sku.clone() }),
        None => Ok(ctx.call(GetOrder { id: request.order_id }).await?.unwrap_or(Order { id: 0 })),
    }
}

async fn all(
    request: AllOrders,
    tenant: Option<Header<Tenant>>,
    _caller: Result<Caller, Problem>,
) -> Result<impl Stream<Item = Result<Order, OrderError>>, OrderError> {
    if tenant.is_some_and(|Header(tenant)| tenant.0.is_empty()) {
        return Err(OrderError::Busy("nobody".to_owned()));
    }
    Ok(stream::iter(request.from..).map(|id| Ok(Order { id })))
}

fn ids(_: OrderIds, State(first): State<u32>) -> impl Stream<Item = Result<u32, Problem>> {
    stream::iter(first..).map(Ok)
}

async fn import(_: ImportOrders, mut orders: Upload<Order>, _ctx: Ctx) -> Result<u32, OrderError> {
    let mut count = 0;
    while let Some(order) = orders.next().await {
        count += order.map(|_| 1)?;
    }
    Ok(count)
}

async fn send(ctx: Ctx) -> Option<u32> {
    let orders = Orders::client(&ctx);
    let items = stream::iter(1..9).map(|id| Order { id });
    let doubtful = stream::iter(1..9).map(|id| Err::<Order, _>(OrderError::Busy(format!("{id}"))));
    orders.import(ImportOrders {}, items).await.ok()?;
    ctx.upload(ImportOrders {}, doubtful).await.ok()
}

async fn last(ctx: Ctx) -> Option<u32> {
    let orders = Orders::client(&ctx);
    let mut all = orders.all(AllOrders { from: 1 }).credit(8).await.ok()?;
    let mut last = None;
    while let Some(order) = all.next().await {
        last = Some(order.ok()?.id);
    }
    last.or(orders.get(GetOrder { id: 1 }).await.ok()?.map(|order| order.id))
}

fn main() {
    let _ = (last, send);
    let _whole = Service::new("orders", 1u32).serve(Orders, |orders| orders.all(all).ids(ids).import(import).unimplemented());
    let _gradual = Service::new("orders", ()).serve(Orders, |orders| orders.change(change).unimplemented());
    let _ = [OrderChanged::Withdrawn, OrderChanged::Completed { id: 1 }];
    let _ = OrderError::Busy("later".to_owned());
}

//! What the derives generate, used as a service uses it. What they refuse is in the compile-fail cases.
#![allow(missing_docs, unreachable_pub, reason = "the types of these tests are nobody's interface")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sinew::{
    CallError, Complete, Contract, Event, Problem, Request, ServiceError, contract,
    wire::{HttpBinding, ProblemDescriptor},
};

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    id: u32,
}

/// Changes
/// an order.
///
/// Not in the catalogue.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.change", reply = Order, error = OrderError, idempotent)]
#[sinew(http = "PUT /orders/{id}", body = "in", status = 202)]
pub struct ChangeOrder {
    id: u32,
    #[serde(rename = "in")]
    input: String,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.list", reply = Vec<Order>)]
pub struct ListOrders;

/// An order was changed.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.changed", version = 2)]
pub enum OrderChanged {
    Completed { id: u32 },
    Withdrawn,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "orders.listed")]
struct OrdersListed;

#[derive(Debug, Clone, PartialEq, Problem)]
pub enum OrderError {
    #[problem(status = 409)]
    OutOfStock,
    #[problem(status = 503, code = "busy", title = "too busy", retry)]
    Busy(String),
    /// Too many of them.
    #[problem(status = 400)]
    TooMany { limit: u32, r#move: Option<String>, detail: String },
    #[problem(status = 404)]
    Gone { ids: Vec<u32> },
    #[problem(transparent)]
    Other(Box<Problem>),
}

#[derive(Debug, Clone, PartialEq, Problem)]
enum AnyError {
    #[problem(transparent)]
    Any(Problem),
}

#[derive(Debug, Clone, PartialEq, Problem)]
enum StockError {
    #[problem(status = 423)]
    Locked,
    #[problem(status = 400)]
    TooMany { limit: u8 },
}

contract! {
    /// Takes orders.
    ///
    /// Not in the catalogue.
    pub Orders = "orders" @ "1.2.0" {
        change: ChangeOrder,
        /// Lists them.
        list_all: ListOrders,
    }
}

mod elsewhere {
    sinew::contract! { pub(crate) Quiet = "quiet" @ "0.1.0-rc.1" {} }
}

/// Only calls: nothing here may be reported as unused.
mod caller {
    use super::*;

    #[derive(Request, Serialize, Deserialize, JsonSchema)]
    #[sinew(subject = "reports.rows", stream = Order)]
    pub(super) struct Rows {}

    sinew::contract! { Reports = "reports" @ "1.0.0" { rows: stream Rows, r#final: Final } }

    #[derive(Request, Serialize, Deserialize, JsonSchema)]
    #[sinew(subject = "reports.final", reply = Order)]
    pub(super) struct Final {}

    pub(super) fn ask(ctx: &sinew::Ctx) -> (sinew::StreamCall<Rows>, sinew::Call<Final>) {
        let reports = Reports::client(ctx);
        (reports.rows(Rows {}), reports.r#final(Final {}))
    }
}

#[test]
fn a_request_knows_where_it_goes() {
    assert_eq!((ChangeOrder::SERVICE, ChangeOrder::OPERATION), ("orders", "change"));
    assert_eq!(ChangeOrder::SUBJECT, "svc.orders.change");
    assert_eq!([ChangeOrder::IDEMPOTENT, ListOrders::IDEMPOTENT], [true, false]);
}

#[test]
fn a_request_describes_its_operation() {
    let descriptor = ChangeOrder::descriptor();
    assert_eq!((descriptor.name.as_str(), descriptor.subject.as_str()), ("change", "svc.orders.change"));
    assert_eq!(descriptor.description, "Changes an order.");
    let (method, path) = ("PUT".to_owned(), "/orders/{id}".to_owned());
    assert_eq!(
        descriptor.http,
        Some(HttpBinding { method, path, body: Some("in".into()), status: Some(202) })
    );
    assert_eq!(descriptor.request["required"], json!(["id", "in"]));
    assert_eq!(descriptor.reply["title"], "Order");
    assert_eq!(descriptor.errors, OrderError::declared());

    let bare = ListOrders::descriptor();
    assert_eq!((bare.description.as_str(), bare.http, bare.errors), ("", None, vec![]));
}

#[test]
fn an_event_carries_its_version_in_its_type() {
    assert_eq!((OrderChanged::NAME, OrderChanged::SUBJECT), ("orders.changed", "evt.orders.changed"));
    assert_eq!((OrderChanged::VERSION, OrderChanged::TYPE), (2, "orders.changed.v2"));
    assert_eq!(OrdersListed::TYPE, "orders.listed.v1");
    let descriptor = OrderChanged::descriptor();
    assert_eq!((descriptor.version, descriptor.description.as_str()), (2, "An order was changed."));
    assert_eq!(descriptor.schema["title"], "OrderChanged");
}

#[test]
fn every_declared_error_comes_back_as_it_was() {
    let too_many = |r#move: Option<&str>| OrderError::TooMany {
        limit: 3,
        r#move: r#move.map(str::to_owned),
        detail: "at most 3".into(),
    };
    for error in [
        OrderError::OutOfStock,
        OrderError::Busy("until noon".into()),
        too_many(None),
        too_many(Some("left")),
        OrderError::Gone { ids: vec![1, 2] },
        other(teapot().with("size", 1)),
    ] {
        let body = serde_json::to_string(&error.to_problem()).unwrap();
        let received: Problem = serde_json::from_str(&body).unwrap();
        assert_eq!(OrderError::from_problem(&received), Some(error));
    }
}

#[test]
fn a_problem_says_what_was_declared() {
    let problem = OrderError::TooMany { limit: 3, r#move: None, detail: "at most 3".into() }.to_problem();
    let expected = Problem::new(400, "too-many", "Too many of them").detail("at most 3").with("limit", 3);
    assert_eq!(problem, expected.with("move", serde_json::Value::Null));
    let busy = OrderError::Busy("until noon".into()).to_problem();
    assert_eq!(busy, Problem::new(503, "busy", "too busy").detail("until noon").retriable());
    let locked =
        ProblemDescriptor { status: 423, code: "locked".into(), title: "locked".into(), retry: false };
    assert_eq!(StockError::declared()[0], locked);
}

#[test]
fn a_problem_of_another_shape_is_not_recognised() {
    let far = OrderError::TooMany { limit: 300, r#move: None, detail: String::new() }.to_problem();
    assert_eq!(StockError::from_problem(&far), None, "300 does not fit the field");
    assert_eq!(
        OrderError::from_problem(&Problem::new(400, "too-many", "")),
        Some(other(Problem::new(400, "too-many", "")))
    );
    assert_eq!(StockError::from_problem(&OrderError::OutOfStock.to_problem()), None);
    assert_eq!(AnyError::from_problem(&teapot()), Some(AnyError::Any(teapot())));
}

#[test]
fn a_reader_takes_a_problem_that_lacks_what_is_optional() {
    let old = Problem::new(400, "too-many", "too many").with("limit", 3);
    let read = OrderError::from_problem(&old);
    assert_eq!(read, Some(OrderError::TooMany { limit: 3, r#move: None, detail: String::new() }));
}

#[test]
fn errors_read_well() {
    assert_eq!(OrderError::OutOfStock.to_string(), "out of stock");
    assert_eq!(OrderError::Busy("until noon".into()).to_string(), "too busy: until noon");
    let too_many = OrderError::TooMany { limit: 3, r#move: None, detail: "at most 3".into() };
    assert_eq!(too_many.to_string(), "Too many of them: at most 3");
    assert_eq!(OrderError::Gone { ids: vec![] }.to_string(), "gone");
    assert_eq!(other(teapot()).to_string(), "a teapot (418 teapot)");
}

#[test]
fn the_question_mark_hands_on_what_a_call_answered() {
    fn reserve() -> Result<(), OrderError> {
        Err(CallError::Refused(StockError::Locked))?
    }
    fn pour() -> Result<(), OrderError> {
        Err(CallError::<AnyError>::Undeclared(teapot()))?
    }
    assert_eq!(reserve(), Err(other(StockError::Locked.to_problem())));
    assert_eq!(pour(), Err(other(teapot())));
}

#[test]
fn a_contract_lists_its_operations_by_their_own_names() {
    let descriptor = Orders::descriptor();
    assert_eq!((Orders::NAME, Orders::VERSION), ("orders", "1.2.0"));
    assert_eq!((descriptor.name.as_str(), descriptor.version.as_str()), ("orders", "1.2.0"));
    assert_eq!(descriptor.description, "Takes orders.");
    assert_eq!(descriptor.operations, [ChangeOrder::descriptor(), ListOrders::descriptor()]);
    assert!(elsewhere::Quiet::descriptor().operations.is_empty());
}

#[test]
fn a_contract_serves_callers_that_have_no_handlers() {
    let _prepares_both: fn(&sinew::Ctx) -> _ = caller::ask;
    let described = <caller::Rows as sinew::StreamRequest>::descriptor();
    assert!(described.stream && !caller::Final::descriptor().stream);
    assert_eq!(described.reply, caller::Final::descriptor().reply, "an item is described as a reply is");
}

#[test]
fn routes_are_complete_with_all_handlers_or_a_word_about_the_rest() {
    async fn change(request: ChangeOrder) -> Result<Order, OrderError> {
        Ok(Order { id: request.id })
    }
    async fn list(_: ListOrders) -> Result<Vec<Order>, Problem> {
        Ok(Vec::new())
    }
    fn is_complete(_: impl Complete<()>) {}

    is_complete(Orders::routes::<()>().list_all(list).change(change));
    is_complete(Orders::routes::<()>().change(change).unimplemented());
    is_complete(Orders::routes::<()>().unimplemented());
    is_complete(elsewhere::Quiet::routes::<()>());
}

fn teapot() -> Problem {
    Problem::new(418, "teapot", "a teapot")
}

fn other(problem: Problem) -> OrderError {
    OrderError::from(problem)
}

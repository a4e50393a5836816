//! The service alone, without broker and workflow: a stub does what the workflow does to it.

use std::time::Duration;

use sinew::{
    CallError,
    testing::{App, Stub},
    workflow::{FAULTED, WorkflowInstance},
};

use super::*;
use crate::Ledger;

fn order(id: &str) -> PlaceOrder {
    let items = vec![Item { sku: "tea".to_owned(), quantity: 2 }];
    let (card, address) = ("4000".to_owned(), "1 Main St".to_owned());
    PlaceOrder { id: Some(id.to_owned()), items, card, address }
}

fn completed(start: StartWorkflow) -> WorkflowInstance {
    let id = start.id.unwrap_or_default();
    serde_json::from_value(json!({
        "id": id, "name": start.name, "version": "1", "status": "completed", "saga": "committed", "started_ms": 0,
    }))
    .unwrap()
}

/// Starts the service beside a workflow that works out: it confirms, and completes.
async fn beside_a_workflow(ledger: &Ledger) -> App {
    let kit = service(Orders::new(ledger.clone())).test();
    let workflow = |start: StartWorkflow, ctx: Ctx| async move {
        let order = start.id.clone().unwrap_or_default();
        ctx.call(ConfirmOrder { order, tracking: "T-1".to_owned() }).await.unwrap();
        Ok(completed(start))
    };
    kit.stub_async(workflow).await
}

#[tokio::test]
async fn a_placed_order_is_confirmed_and_its_customer_has_mail() {
    let ledger = Ledger::default();
    let app = beside_a_workflow(&ledger).await;
    let placed = app.call(order("o-1")).await.unwrap();
    assert_eq!((placed.status, placed.total), (OrderStatus::Confirmed, 2 * PRICE));
    assert_eq!(app.calls::<StartWorkflow>()[0].input["total"], 2 * PRICE);
    assert_eq!(app.published::<OrderConfirmed>()[0].tracking, "T-1");
    assert_eq!(app.consumed::<OrderConfirmed>("mailer").len(), 1);
    assert_eq!(ledger.of_order("o-1"), ["orders.confirm", "orders.mail"]);
}

#[tokio::test]
async fn an_order_confirmed_twice_is_one_event_and_one_mail() {
    let ledger = Ledger::default();
    let app = beside_a_workflow(&ledger).await;
    app.call(order("o-1")).await.unwrap();
    app.call(ConfirmOrder { order: "o-1".to_owned(), tracking: "T-1".to_owned() }).await.unwrap();
    assert_eq!(app.published::<OrderConfirmed>().len(), 1, "its id makes it the same event");
    // Much later the broker has forgotten the id; then the mailer has not.
    app.advance(Duration::from_secs(600)).await;
    app.call(ConfirmOrder { order: "o-1".to_owned(), tracking: "T-1".to_owned() }).await.unwrap();
    assert_eq!(app.published::<OrderConfirmed>().len(), 2);
    assert_eq!(ledger.of_order("o-1"), ["orders.confirm", "orders.mail"]);
}

#[tokio::test]
async fn an_order_whose_workflow_faulted_is_rejected() {
    let fault = json!({ "code": "card-declined", "status": 402 });
    let faulted = Problem::new(422, FAULTED, "the workflow faulted").with("fault", fault);
    let kit = service(Orders::new(Ledger::default())).test();
    let app = kit.in_turn::<StartWorkflow>([Stub::Fails(faulted)]).await;
    let refused = app.call(order("o-1")).await;
    assert!(matches!(refused, Err(CallError::Refused(PlaceError::PaymentRefused { .. }))), "{refused:?}");
    assert_eq!(app.call(GetOrder { id: "o-1".to_owned() }).await.unwrap().status, OrderStatus::Rejected);
}

#[tokio::test]
async fn an_order_whose_workflow_is_silent_stays_pending() {
    let app = service(Orders::new(Ledger::default())).test().times_out::<StartWorkflow>().await;
    assert!(app.call(order("o-1")).await.is_err());
    assert_eq!(app.call(GetOrder { id: "o-1".to_owned() }).await.unwrap().status, OrderStatus::Pending);
    assert!(app.published::<OrderConfirmed>().is_empty());
}

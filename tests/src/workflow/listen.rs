//! Events into workflows: each reaches the task that listens for it once, early or late, whoever is killed meanwhile.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{Event, wire::Headers};

use super::{
    faults::Orchestrator,
    lab::{Lab, timeline},
};
use crate::harness::{Harness, SOON, eventually};

/// An order was paid.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "lab.paid")]
pub(crate) struct Paid {
    /// Which order.
    pub(crate) order: String,
    /// How much.
    pub(crate) amount: u32,
}

const PAYMENT: &str = "\
document: { dsl: '1.0.3', namespace: test, name: payment, version: '1.0.0' }
do:
  - wait:
      listen:
        to:
          one:
            with: { type: lab.paid.v1 }
            correlate: { order: { from: .data.order, expect: '${ .order }' } }
";

const EARLY: &str = "\
document: { dsl: '1.0.3', namespace: test, name: early, version: '1.0.0' }
do:
  - ask: { call: lab.act, with: { step: ask, behave: held }, output: { as: '${ $workflow.input }' } }
  - first: { listen: { to: { one: { with: { type: lab.paid.v1 } } } } }
  - second: { listen: { to: { one: { with: { type: lab.paid.v1 } } } }, output: { as: '${ [ .[].amount ] }' } }
";

const COUNT: &str = "\
document: { dsl: '1.0.3', namespace: test, name: count, version: '1.0.0' }
do:
  - hear:
      listen:
        to: { any: [ { with: { type: lab.paid.v1 } } ], until: '${ length >= 400 }' }
      foreach: { item: paid, do: [ { act: { call: lab.act, with: { step: '${ $paid.amount | tostring }' } } } ] }
      output: { as: '${ [ .[].amount ] }' }
";

pub(crate) async fn pay(lab: &Lab, order: &str, amount: u32) {
    lab.ctx.publish(Paid { order: order.to_owned(), amount }).await.unwrap();
}

/// Waits until an instance waits at a step.
async fn waits(lab: &Lab, name: &str, id: &str, step: &str) {
    eventually(SOON, || async {
        let instance = lab.get(name, id).await.ok()?;
        instance.steps.iter().any(|one| one.name == step && one.outcome == "waiting").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn among_a_thousand_listeners_an_event_reaches_the_one_it_correlates_with() {
    let lab = Lab::start().await;
    lab.apply(PAYMENT).await;
    for number in 0..1_000 {
        lab.begin("payment", &format!("p-{number}"), json!({ "order": format!("o-{number}") })).await;
    }
    for number in [7, 500, 999] {
        pay(&lab, &format!("o-{number}"), number).await;
        let ended = lab.closed("payment", &format!("p-{number}")).await;
        assert_eq!(ended.output, Some(json!([{ "order": format!("o-{number}"), "amount": number }])));
    }
    // Stored first, so that it would have been heard before the one that is.
    pay(&lab, "nobody", 0).await;
    pay(&lab, "o-1", 1).await;
    lab.closed("payment", "p-1").await;
    for number in [0, 2, 998] {
        assert_eq!(lab.get("payment", &format!("p-{number}")).await.unwrap().status, "running");
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_came_before_the_listener_counts_from_the_start_of_the_instance_on() {
    let lab = Lab::start().await;
    lab.apply(EARLY).await;
    pay(&lab, "before the instance", 0).await;
    lab.begin("early", "e-1", json!({})).await;
    eventually(SOON, || async { !lab.ledger.lines().is_empty() }).await;
    // The step still runs: nobody listens yet.
    pay(&lab, "early", 1).await;
    pay(&lab, "early too", 2).await;
    lab.ledger.release();
    let ended = lab.closed("early", "e-1").await;
    assert_eq!(ended.output, Some(json!([2])), "{}: each task has one of the two", timeline(&ended));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_window_only_what_comes_after_the_listener_counts() {
    let mut lab = Lab::on(Harness::start().await).await;
    lab.config.listen.early_window_seconds = 0;
    lab.start_orchestrator().await;
    lab.apply(EARLY).await;
    lab.begin("early", "e-1", json!({})).await;
    eventually(SOON, || async { !lab.ledger.lines().is_empty() }).await;
    pay(&lab, "too early", 1).await;
    // why: moments are told apart by the millisecond, and the listener must not begin in that of the event.
    tokio::time::sleep(Duration::from_millis(5)).await;
    lab.ledger.release();
    waits(&lab, "early", "e-1", "first").await;
    pay(&lab, "in time", 2).await;
    // The next one begins to listen when the first has heard, and what is published meanwhile is too early for it.
    waits(&lab, "early", "e-1", "second").await;
    pay(&lab, "in time", 3).await;
    assert_eq!(lab.closed("early", "e-1").await.output, Some(json!([3])));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_while_no_orchestrator_ran_is_heard_afterwards() {
    let mut lab = Lab::start().await;
    lab.apply(PAYMENT).await;
    lab.begin("payment", "p-1", json!({ "order": "o-1" })).await;
    waits(&lab, "payment", "p-1", "wait").await;
    lab.stop_orchestrator().await;
    pay(&lab, "o-1", 5).await;
    lab.start_orchestrator().await;
    assert_eq!(lab.closed("payment", "p-1").await.output, Some(json!([{ "order": "o-1", "amount": 5 }])));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_each_event_is_heard_once_and_in_order_while_orchestrators_are_killed() {
    let lab = Lab::on(Harness::start().await).await;
    let mut orchestrator = Orchestrator::start(lab.harness.url());
    eventually(SOON, || async { lab.ctx.call(sinew::workflow::ListDefinitions {}).await.is_ok() }).await;
    lab.apply(COUNT).await;
    let start = sinew::workflow::StartWorkflow::new("count", json!({})).id("c-1").without_waiting();
    eventually(SOON, || async { lab.ctx.call(start.clone()).await.is_ok() }).await;
    for number in 0..400 {
        pay(&lab, "any", number).await;
        if number % 100 == 60 {
            // Killed in the middle: some of what came was heard, some was not.
            let so_far = usize::try_from(number).unwrap() - 20;
            eventually(SOON, || async { lab.ledger.effects("c-1").len() > so_far }).await;
            orchestrator.kill();
            orchestrator = Orchestrator::start(lab.harness.url());
        }
    }
    let ended = lab.closed("count", "c-1").await;
    assert_eq!(ended.output, Some((0..400).collect::<Value>()));
    let acted: Vec<String> = (0..400).map(|number| format!("act {number}")).collect();
    assert_eq!(lab.ledger.effects("c-1"), acted, "each is acted upon under one key");
    orchestrator.kill();
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_hears_an_event_on_each_branch_and_messages_of_others_are_events_too() {
    let lab = Lab::start().await;
    let listen = "{ listen: { to: { one: { with: { type: sensors.heat } } } } }";
    let source = format!(
        "document: {{ dsl: '1.0.3', namespace: test, name: both, version: '1.0.0' }}\ndo:\n  - two:\n      fork: {{ branches: [ {{ a: {listen} }}, {{ b: {listen} }} ] }}\n"
    );
    lab.apply(&source).await;
    lab.begin("both", "b-1", json!({})).await;
    waits(&lab, "both", "b-1", "b").await;
    let mut headers = Headers::new();
    headers.set("content-type", "application/json").unwrap();
    let sent = lab.bus.publish_acked("evt.sensors.heat", &headers, "{\"degrees\":20}".into(), SOON).await;
    sent.unwrap();
    let heard = json!([{ "degrees": 20 }]);
    assert_eq!(lab.closed("both", "b-1").await.output, Some(json!([heard, heard])));
    lab.stop().await;
}

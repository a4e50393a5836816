//! The whole system as separate processes, as in production: the roles, four services, HTTP in front of them.

mod system;

use serde_json::{Value, json};

use self::system::System;
use crate::harness::{SOON, eventually};

/// An instance that holds a reservation for as long as it is told.
const HOLD: &str = "document: { dsl: '1.0.3', namespace: shop, name: hold, version: '1.0.0' }
do:
  - reserve:
      call: inventory.reserve
      with: { order: '${ .order }', items: [ { sku: tea, quantity: 1 } ] }
      output: { as: '${ $input }' }
      compensate:
        call: inventory.release
        with: { order: '${ $input.order }' }
  - keep:
      if: ${ .keep }
      wait: { minutes: 10 }
";

#[tokio::test]
async fn an_order_over_http_completes_and_a_refused_one_is_compensated() {
    let system = System::start().await;
    let placed = system.place("o-good", "4000-ada", "12 Analytical Row").await;
    assert_eq!((placed.status, placed.json()["status"].as_str()), (201, Some("confirmed")));
    assert_eq!(system.client.get("/orders/o-good").await.json()["tracking"], "parcel-o-good");
    let refused = system.place("o-bad", "4000-declined", "12 Analytical Row").await;
    let problem = refused.problem(402, "payment-refused");
    assert_eq!((&problem["order"], &problem["saga"]), (&json!("o-bad"), &json!("compensated")));
    let history = system.sinew(&["workflow", "get", "place-order", "o-bad"]).await.succeeded().json();
    assert_eq!((&history["status"], &history["saga"]), (&json!("faulted"), &json!("compensated")));
    assert_eq!(undone(&history), ["reserve"]);
    let services = system.sinew(&["services"]).await.succeeded().json();
    let serving: Vec<&str> =
        services.as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(serving, ["inventory", "orders", "payments", "shipping", "workflow"]);
    assert!(services.as_array().unwrap().iter().all(|one| one["instances"] == 1), "{services}");
    system.stop().await;
}

#[tokio::test]
async fn workflows_are_started_read_listed_and_cancelled_from_the_command_line() {
    let system = System::start().await;
    system.apply("hold.yaml", HOLD).await;
    let start = |id: &'static str, input: &'static str, flag: Option<&'static str>| {
        let arguments = ["workflow", "start", "hold", "--id", id, "--input", input];
        let arguments: Vec<&str> = arguments.into_iter().chain(flag).collect();
        let system = &system;
        async move { system.sinew(&arguments).await.succeeded().json() }
    };
    let short = start("h-1", r#"{"order":"h-1","keep":false}"#, None).await;
    assert_eq!((&short["id"], &short["status"]), (&json!("h-1"), &json!("completed")));
    let again = start("h-1", r#"{"order":"h-1","keep":false}"#, None).await;
    assert_eq!(again["started_ms"], short["started_ms"], "the same id is the same instance");
    let long = start("h-2", r#"{"order":"h-2","keep":true}"#, Some("--no-wait")).await;
    assert_eq!((&long["id"], &long["status"]), (&json!("h-2"), &json!("running")));

    let list = |status: &'static str| {
        let system = &system;
        async move {
            let listed =
                system.sinew(&["workflow", "list", "hold", "--status", status]).await.succeeded().json();
            listed
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["id"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        }
    };
    assert_eq!((list("running").await, list("completed").await), (vec!["h-2".into()], vec!["h-1".into()]));
    system.reached("hold", "h-2", "keep").await;
    let cancelled = ["workflow", "cancel", "hold", "h-2", "--reason", "changed my mind"];
    system.sinew(&cancelled).await.succeeded();
    let ended = eventually(SOON, || async {
        let history = system.sinew(&["workflow", "get", "hold", "h-2"]).await.succeeded().json();
        (history["saga"] == "compensated").then_some(history)
    })
    .await;
    assert_eq!((&ended["status"], undone(&ended)), (&json!("cancelled"), vec!["reserve".to_owned()]));
    let unknown = system.sinew(&["workflow", "get", "hold", "h-3"]).await;
    assert_eq!((unknown.code, unknown.error_code()), (1, "unknown-instance".into()), "{unknown:?}");
    system.stop().await;
}

#[tokio::test]
async fn p5_sigterm_ends_every_process_in_order_and_an_order_in_flight_is_not_lost() {
    let mut system = System::start().await;
    let order = system.place_in_background("o-term", "4000-ada", "slow");
    system.reached("place-order", "o-term", "ship").await;
    system.terminate_all().await;
    // What the customer heard depends on who was first; the order itself may not.
    order.abort();
    system.start_orchestrator().await;
    system.start_services();
    assert_eq!(undone(&system.compensated("o-term").await), ["charge", "reserve", "ship"]);
    system.stop().await;
}

#[tokio::test]
async fn p8_an_order_in_flight_is_compensated_though_the_orchestrator_is_killed() {
    let mut system = System::start().await;
    let order = system.place_in_background("o-kill", "4000-ada", "slow");
    system.reached("place-order", "o-kill", "ship").await;
    system.kill_orchestrator().await;
    system.start_orchestrator().await;
    assert_eq!(undone(&system.compensated("o-kill").await), ["charge", "reserve", "ship"]);
    order.abort();
    // Placed again, it is the same order, and the customer hears how it ended.
    let told = system.place("o-kill", "4000-ada", "slow").await.problem(504, "shipping-failed");
    assert_eq!(told["saga"], "compensated");
    system.stop().await;
}

/// Returns the steps that were compensated, by name.
fn undone(history: &Value) -> Vec<String> {
    let steps = history["steps"].as_array().expect("steps are listed").iter();
    let undone = steps.filter(|step| step["compensation"]["outcome"] == "compensated");
    let mut names: Vec<String> = undone.map(|step| step["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

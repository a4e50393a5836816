//! `sinew top` over a service that is used meanwhile.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{Bus, Config, Ctx, Event, Problem, Request, Retry, Service, contract};

use super::program::{self, sinew};
use crate::harness::{Harness, SOON};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "toll.pass", reply = u32)]
struct Pass {
    axles: u32,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "toll.passed")]
struct Passed {
    axles: u32,
}

contract! { Toll = "toll" @ "1.0.0" { pass: Pass } }

async fn pass(request: Pass) -> Result<u32, Problem> {
    if request.axles == 0 { Err(Problem::new(422, "no-axles", "it cannot roll")) } else { Ok(request.axles) }
}

async fn count(_: Passed) -> Result<(), Problem> {
    Err(Problem::new(422, "uncountable", "no"))
}

#[tokio::test]
async fn rates_errors_and_groups_are_shown_while_things_happen() {
    let harness = Harness::start().await;
    let bus = Bus::connect(Config::new(harness.url(), "toll")).await.unwrap();
    let service =
        Service::new("toll", ())
            .serve(Toll, |routes| routes.pass(pass))
            .on("counter", count, |group| group.retry(Retry::never()));
    let running = service.start(&bus).await.unwrap();
    let ctx = Ctx::detached(&bus, "driver");
    let traffic = async {
        loop {
            let _ = ctx.call(Pass { axles: 2 }).await;
            let _ = ctx.call(Pass { axles: 0 }).await;
            let _ = ctx.publish(Passed { axles: 2 }).await;
            tokio::task::yield_now().await;
        }
    };
    let arguments = ["--json", "--nats-url", harness.url(), "top", "--once", "--interval", "1s"];
    let shown: Value = tokio::select! {
        shown = sinew(&arguments) => shown.succeeded().json(),
        () = traffic => unreachable!("traffic has no end"),
    };
    let row = &shown["operations"][0];
    assert_eq!(
        (&row["service"], &row["operation"], &row["instances"]),
        (&json!("toll"), &json!("pass"), &json!(1))
    );
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&row["requests"]) > 0.0 && number(&row["latencyMs"]) > 0.0, "{row}");
    let errors = number(&row["errors"]) / number(&row["requests"]);
    assert!((0.4..0.6).contains(&errors), "every second one is refused: {row}");
    let group = &shown["groups"][0];
    assert_eq!((&group["service"], &group["group"]), (&json!("toll"), &json!("counter")));
    assert!(number(&group["settled"]) > 0.0 && number(&group["deadLetters"]) > 0.0, "{group}");
    let none =
        sinew(&["--json", "--nats-url", harness.url(), "top", "other", "--once", "--interval", "1s"]).await;
    assert_eq!(none.succeeded().json()["operations"], json!([]));
    running.drain().await;
    bus.close().await;
}

#[tokio::test]
async fn it_goes_on_until_ctrl_c() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    let harness = Harness::start().await;
    let mut top = program::start(&["--json", "--nats-url", harness.url(), "top", "--interval", "600ms"]);
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.unwrap().unwrap().unwrap();
        let table: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(table["operations"], json!([]));
        assert!(table["seconds"].as_f64().unwrap() >= Duration::from_millis(500).as_secs_f64(), "{table}");
    }
    program::interrupt(&top);
    assert_eq!(program::ended(&mut top).await, Some(0));
}

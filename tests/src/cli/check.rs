//! What `sinew check` finds on a bus where things are wrong.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{Bus, Config, Ctx, Event, Problem, Retry, Service, wire::Headers};
use tempfile::TempDir;

use super::program::sinew;
use crate::harness::{Harness, SOON, eventually};

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "garden.rained")]
struct Rained {
    litres: u32,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "meadow.mown")]
struct Mown {}

async fn refuse(_: Rained) -> Result<(), Problem> {
    Err(Problem::new(422, "flooded", "too much"))
}

#[tokio::test]
async fn what_is_wrong_has_a_code_and_a_next_step() {
    let harness = Harness::start().await;
    let bus = Bus::connect(Config::new(harness.url(), "garden")).await.unwrap();
    let service = Service::new("garden", ())
        .on("gardener", refuse, |group| group.retry(Retry::never()))
        .publishes::<Mown>();
    let running = service.start(&bus).await.unwrap();
    ask(&bus, "CONSUMER.CREATE.EVENTS.forever", json!({
        "stream_name": "EVENTS", "config": { "durable_name": "forever", "name": "forever", "ack_policy": "explicit" },
    }))
    .await;
    ask(
        &bus,
        "STREAM.CREATE.BARREL",
        json!({ "name": "BARREL", "subjects": ["barrel"], "max_msgs": 10, "storage": "memory" }),
    )
    .await;
    for _ in 0..9 {
        bus.publish_acked("barrel", &Headers::new(), "".into(), SOON).await.unwrap();
    }
    // Somebody narrows the stream of events, and forgets the meadow.
    let mut narrow = ask(&bus, "STREAM.INFO.EVENTS", json!({})).await["config"].take();
    narrow["subjects"] = json!(["evt.garden.>", "evt-at.>", "evt-every.>"]);
    ask(&bus, "STREAM.UPDATE.EVENTS", narrow).await;
    Ctx::detached(&bus, "cloud").publish(Rained { litres: 9 }).await.unwrap();
    eventually(SOON, || async {
        bus.stream("DEAD_LETTERS").await.unwrap().is_some_and(|dead| dead.messages == 1)
    })
    .await;

    let check = async |more: &[&str]| {
        sinew(&[&["--json", "--nats-url", harness.url(), "check"], more].concat()).await
    };
    let found = about(&check(&[]).await.succeeded().json());
    for wrong in [
        ("SNW-5014", "forever"),
        ("SNW-5016", "forever"),
        ("SNW-5017", "evt.meadow.mown"),
        ("SNW-5018", "BARREL"),
        ("SNW-5019", "garden/gardener"),
    ] {
        assert!(
            found.contains(&(wrong.0.to_owned(), wrong.1.to_owned())),
            "{wrong:?} is missing in {found:?}"
        );
    }
    assert!(!found.contains(&("SNW-5016".into(), "garden/gardener".into())), "it is served: {found:?}");
    let strict = check(&["--strict"]).await;
    assert_eq!((strict.code, strict.error_code()), (1, "SNW-5020".into()), "{strict:?}");

    running.drain().await;
    let found = about(&check(&[]).await.succeeded().json());
    assert!(
        found.contains(&("SNW-5016".into(), "garden/gardener".into())),
        "nobody serves it now: {found:?}"
    );
    let text = sinew(&["--nats-url", harness.url(), "check"]).await.succeeded().stdout;
    assert!(text.contains("warning[SNW-5019]: 1 dead letter of garden/gardener"), "{text}");
    assert!(text.contains("next: `sinew dlq ls garden/gardener`"), "{text}");
    bus.close().await;
}

#[tokio::test]
async fn sync_is_known_only_from_the_servers_own_file() {
    let harness = Harness::start().await;
    let bus = Bus::connect(Config::new(harness.url(), "garden")).await.unwrap();
    sinew::ensure_streams(&bus).await.unwrap();
    let dir = TempDir::with_prefix("sinew-test-").unwrap();
    let file = dir.path().join("nats.conf");
    let check = async |more: &[&str]| {
        let arguments = [&["--json", "--nats-url", harness.url(), "check"], more].concat();
        let report = sinew(&arguments).await.succeeded().json();
        let lazy = report["bus"]["findings"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["code"] == "SNW-5015")
            .cloned();
        (report["bus"]["sync"].as_str().unwrap().to_owned(), lazy.map(|lazy| lazy["severity"].clone()))
    };
    assert_eq!(check(&[]).await, ("unknown".into(), Some(json!("note"))));
    for (text, sync, severity) in
        [("sync_interval: always", "always", None), ("jetstream {}", "2m", Some(json!("warning")))]
    {
        std::fs::write(&file, text).unwrap();
        assert_eq!(check(&["--server-config", file.to_str().unwrap()]).await, (sync.into(), severity));
    }
    bus.close().await;
}

fn about(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = report["bus"]["findings"].as_array().unwrap().iter();
    findings.map(|one| (text(&one["code"]), text(&one["about"]))).collect()
}

async fn ask(bus: &Bus, verb: &str, body: Value) -> Value {
    let subject = format!("$JS.API.{verb}");
    let answer = bus.request(&subject, &Headers::new(), body.to_string().into(), SOON).await.unwrap();
    let answer: Value = serde_json::from_slice(answer.payload()).unwrap();
    assert_eq!(answer["error"], Value::Null, "{answer}");
    answer
}

//! Commands that talk to a bus, with a service of ours on the other end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Bus, Config, Ctx, Event, Problem, Request, Running, Service, State, contract};
use tokio::sync::mpsc;

use super::program::{self, sinew};
use crate::harness::{Harness, SOON, eventually};

/// Brews tea.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "kitchen.brew", reply = Cup, error = KitchenError, idempotent, http = "POST /cups")]
struct Brew {
    tea: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Cup {
    tea: String,
    key: Option<String>,
}

#[derive(Debug, Problem)]
enum KitchenError {
    /// out of tea
    #[problem(status = 409, code = "out-of-tea")]
    OutOfTea,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "kitchen.opened")]
struct Opened {
    at: String,
}

contract! {
    /// Makes hot drinks.
    Kitchen = "kitchen" @ "1.2.3" { brew: Brew }
}

type Seen = mpsc::UnboundedSender<String>;

async fn brew(request: Brew, ctx: Ctx) -> Result<Cup, KitchenError> {
    if request.tea == "none" {
        return Err(KitchenError::OutOfTea);
    }
    Ok(Cup { tea: request.tea, key: ctx.idempotency_key().map(str::to_owned) })
}

async fn opened(event: Opened, State(seen): State<Seen>) -> Result<(), Problem> {
    seen.send(event.at).map_err(|_| Problem::new(500, "internal", "nobody looks"))
}

#[tokio::test]
async fn an_operation_is_called_and_its_refusals_are_errors() {
    let harness = Harness::start().await;
    let (bus, running, _) = kitchen(&harness).await;
    let call = |request: &'static str| {
        let url = harness.url().to_owned();
        async move {
            sinew(&["--json", "--nats-url", &url, "call", "kitchen.brew", request, "--key", "k-1"]).await
        }
    };
    let cup = call(r#"{"tea":"earl grey"}"#).await.succeeded().json();
    assert_eq!(cup, serde_json::json!({ "tea": "earl grey", "key": "k-1" }));
    let refused = call(r#"{"tea":"none"}"#).await;
    assert_eq!((refused.code, refused.error_code()), (1, "out-of-tea".into()), "{refused:?}");
    assert_eq!(refused.error()["problem"]["status"], 409);
    let malformed = call(r#"{"coffee":1}"#).await;
    assert_eq!((malformed.code, malformed.error_code()), (1, "malformed-request".into()), "{malformed:?}");
    stop(bus, running).await;
}

#[tokio::test]
async fn an_unknown_operation_is_answered_with_the_nearest_name() {
    let harness = Harness::start().await;
    let (bus, running, _) = kitchen(&harness).await;
    let ran = sinew(&["--json", "--nats-url", harness.url(), "call", "kitchen.brow"]).await;
    assert_eq!((ran.code, ran.error_code()), (1, "SNW-5005".into()), "{ran:?}");
    assert_eq!(ran.error()["hint"], "did you mean kitchen.brew?");
    stop(bus, running).await;
    let ran = sinew(&["--json", "--nats-url", harness.url(), "call", "kitchen.brew"]).await;
    assert_eq!((ran.code, ran.error_code()), (1, "no-responders".into()), "{ran:?}");
}

#[tokio::test]
async fn services_are_listed_with_what_they_serve_and_whether_they_are_there() {
    let harness = Harness::start().await;
    let services =
        || async { sinew(&["--json", "--nats-url", harness.url(), "services"]).await.succeeded().json() };
    assert_eq!(services().await, serde_json::json!([]));
    let (bus, running, _) = kitchen(&harness).await;
    let listed = services().await;
    assert_eq!((listed[0]["name"].as_str(), listed[0]["serving"].as_bool()), (Some("kitchen"), Some(true)));
    assert_eq!((listed[0]["instances"].as_u64(), listed[0]["catalogued"].as_bool()), (Some(1), Some(true)));
    assert_eq!(listed[0]["operations"][0]["http"]["path"], "/cups");
    assert_eq!(listed[0]["groups"][0]["event"]["name"], "kitchen.opened");
    let text = sinew(&["--nats-url", harness.url(), "services"]).await.succeeded().stdout;
    assert!(text.contains("kitchen.brew") && text.contains("Brews tea."), "{text}");
    let (second_bus, second, _) = kitchen(&harness).await;
    assert_eq!(services().await[0]["instances"], 2);
    stop(second_bus, second).await;
    stop(bus, running).await;
    assert_eq!(services().await[0]["serving"], false);
    let text = sinew(&["--nats-url", harness.url(), "services"]).await.succeeded().stdout;
    assert!(text.contains("nobody there, known from the catalogue"), "{text}");
    let report = sinew(&["--json", "--nats-url", harness.url(), "check"]).await.succeeded().json();
    assert_eq!(report["bus"]["absent"], serde_json::json!(["kitchen"]));
    assert!(report["bus"]["jetstream"]["streams"].as_u64().unwrap() >= 1, "{report}");
}

#[tokio::test]
async fn a_published_event_reaches_its_group() {
    let harness = Harness::start().await;
    let (bus, running, mut seen) = kitchen(&harness).await;
    let publish = || async {
        let arguments = ["publish", "kitchen.opened", r#"{"at":"noon"}"#, "--id", "today"];
        sinew(&[&["--json", "--nats-url", harness.url()], &arguments[..]].concat()).await.succeeded().json()
    };
    let first = publish().await;
    assert_eq!((first["id"].as_str(), first["stream"].as_str()), (Some("today"), Some("EVENTS")));
    let event = tokio::time::timeout(SOON, seen.recv()).await.expect("the event comes");
    assert_eq!(event.as_deref(), Some("noon"));
    assert_eq!(publish().await["duplicate"], true);
    assert_eq!(first["verdict"], "known");
    // What no group could read is not let in; what nobody describes is, with a word.
    let other =
        async |event, data| sinew(&["--json", "--nats-url", harness.url(), "publish", event, data]).await;
    let unfit = other("kitchen.opened", r#"{"at":7}"#).await;
    assert_eq!((unfit.code, unfit.error_code()), (1, "SNW-5023".into()), "{unfit:?}");
    assert_eq!(other("kitchen.opnd", "{}").await.succeeded().json()["verdict"], "unknown");
    stop(bus, running).await;
}

#[tokio::test]
async fn the_example_of_thirty_lines_greets() {
    let harness = Harness::start().await;
    let mut hello = program::start_example("hello", harness.url());
    let greeting = eventually(SOON, || async {
        let ran =
            sinew(&["--json", "--nats-url", harness.url(), "call", "greeter.hello", r#"{"name":"Ada"}"#])
                .await;
        (ran.code == 0).then(|| ran.json())
    });
    assert_eq!(greeting.await, serde_json::json!({ "text": "hello, Ada" }));
    // It waits for the word to stop once it has announced itself.
    eventually(SOON, || async {
        let listed = sinew(&["--json", "--nats-url", harness.url(), "services"]).await.succeeded().json();
        listed[0]["catalogued"] == true
    })
    .await;
    program::terminate(&hello);
    assert_eq!(program::ended(&mut hello).await, Some(0));
}

#[tokio::test]
async fn without_an_orchestrator_workflow_commands_say_so() {
    let harness = Harness::start().await;
    let ran = sinew(&["--json", "--nats-url", harness.url(), "workflow", "get", "a", "b"]).await;
    assert_eq!((ran.code, ran.error_code()), (1, "no-responders".into()), "{ran:?}");
    assert!(ran.error()["hint"].as_str().unwrap().contains("sinew orchestrator"), "{ran:?}");
}

async fn kitchen(harness: &Harness) -> (Bus, Running, mpsc::UnboundedReceiver<String>) {
    let (seen, told) = mpsc::unbounded_channel();
    let bus = Bus::connect(Config::new(harness.url(), "kitchen")).await.expect("the server is there");
    let service =
        Service::new("kitchen", seen).serve(Kitchen, |routes| routes.brew(brew)).on("doors", opened, |g| g);
    let running = service.start(&bus).await.expect("the service starts");
    (bus, running, told)
}

async fn stop(bus: Bus, running: Running) {
    running.drain().await;
    bus.close().await;
}

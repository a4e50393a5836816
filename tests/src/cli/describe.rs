//! `sinew describe`: programs, files and the catalogue, and permissions that are exact on a real server.

use std::{path::Path, time::Duration};

use futures::{Stream, StreamExt, future::ready, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{
    Accepted, Batch, Bus, Completion, Config, Ctx, Event, Problem, Request, Retry, Service, Upload,
    bus::Bus as Connection, contract, wire::Headers,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::Notify,
};

use super::program::{self, sinew};
use crate::harness::{Harness, SOON, eventually, server};

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bakery.bake", reply = u32, idempotent)]
struct Bake {
    loaves: u32,
}

#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "mill.grind", reply = u32, idempotent)]
struct Grind {
    sacks: u32,
}

/// What comes out of the oven, one by one.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bakery.watch", stream = u32)]
struct Watch {
    until: u32,
}

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bakery.baked")]
struct Baked {
    loaves: u32,
}

contract! {
    /// Bakes bread.
    Bakery = "bakery" @ "2.0.0" { bake: Bake, watch: stream Watch, knead: upload Knead, prove: Prove }
}

contract! { Mill = "mill" @ "1.0.0" { grind: Grind, turn: stream Turn, fill: upload Fill } }

async fn bake(request: Bake, ctx: Ctx) -> Result<u32, Problem> {
    let turns = ctx.stream(Turn { times: 200 }).await.map_err(|error| error.to_problem())?;
    if turns.filter(|turn| ready(turn.is_ok())).count().await != 200 {
        return Err(Problem::new(503, "calm", "the mill stands still"));
    }
    let sacks = ctx.upload(Fill {}, stream::iter(0..300)).await.map_err(|error| error.to_problem())?;
    assert_eq!(sacks, 300);
    let flour = ctx.call(Grind { sacks: request.loaves }).await.map_err(|error| error.to_problem())?;
    let later = ctx.publish(Baked { loaves: 1_000 }).after(Duration::from_secs(3_600));
    later.await.map_err(|error| error.to_problem())?;
    ctx.publish(Baked { loaves: flour }).await.map_err(|error| error.to_problem())?;
    Ok(flour)
}

/// Turns so often, one after the other.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "mill.turn", stream = u32)]
struct Turn {
    times: u32,
}

/// Takes the numbers of sacks.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "mill.fill", upload = u32, reply = u32)]
struct Fill {}

/// Takes ingredients, one by one.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bakery.knead", upload = u32, reply = u32)]
struct Knead {}

/// Lets dough rise overnight.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "bakery.prove", reply = u32, idempotent)]
struct Prove {}

async fn prove(_: Prove, dough: Completion<u32>) -> Result<Accepted<u32>, Problem> {
    Ok(dough.later())
}

async fn fill(_: Fill, sacks: Upload<u32>) -> Result<u32, Problem> {
    Ok(sacks.filter(|sack| ready(sack.is_ok())).count().await as u32)
}

async fn knead(_: Knead, ingredients: Upload<u32>) -> Result<u32, Problem> {
    Ok(ingredients.filter(|one| ready(one.is_ok())).count().await as u32)
}

async fn turn(request: Turn) -> Result<impl Stream<Item = Result<u32, Problem>> + Send + 'static, Problem> {
    Ok(stream::iter((0..request.times).map(Ok)))
}

async fn watch(request: Watch) -> Result<impl Stream<Item = Result<u32, Problem>> + Send + 'static, Problem> {
    Ok(stream::iter((0..request.until).map(Ok)))
}

async fn grind(request: Grind) -> Result<u32, Problem> {
    Ok(request.sacks)
}

/// Refuses a dozen, so that it becomes a dead letter.
async fn deliver(event: Baked) -> Result<(), Problem> {
    if event.loaves == 12 { Err(Problem::new(422, "too-many", "the van is small")) } else { Ok(()) }
}

/// Is tried again so much later that the event leaves the consumer meanwhile.
async fn bill(_: Baked) -> Result<(), Problem> {
    Err(Problem::new(503, "closed", "the office opens tomorrow").retriable())
}

/// Takes its time with seven, so that another member takes over while it counts.
async fn count(event: Baked) -> Result<(), Problem> {
    if event.loaves == 7 {
        COUNTING.notify_one();
        // why: what takes long is the work here.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

static COUNTING: Notify = Notify::const_new();

async fn store(loaves: Batch<Baked>) -> Result<(), Problem> {
    drop(loaves);
    Ok(())
}

fn bakery() -> Service<()> {
    let days = Duration::from_secs(10 * 24 * 3_600);
    Service::new("bakery", ())
        .serve(Bakery, |routes| routes.bake(bake).watch(watch).knead(knead).prove(prove))
        .on("van", deliver, |group| {
            group.retry(Retry::exponential(Duration::from_millis(100), Duration::from_secs(5)).attempts(3))
        })
        .on("office", bill, |group| group.retry(Retry::exponential(days, days)))
        .on("till", count, |group| group.ordered_by(|event: &Baked| event.loaves))
        .on_batch("cellar", store, |group| group.max(20).linger(Duration::from_millis(50)))
        .publishes::<Baked>()
        .requires::<Grind>()
        .requires_stream::<Turn>()
        .requires_upload::<Fill>()
}

#[tokio::test]
async fn a_program_is_described_without_a_broker() {
    let orders = program::path("orders");
    let described = sinew(&["--json", "describe", "--", &orders]).await.succeeded().json();
    assert_eq!((&described[0]["name"], &described[0]["version"]), (&json!("orders"), &json!("1.0.0")));
    assert_eq!(described[0]["publishes"][0]["name"], "orders.confirmed");
    assert_eq!(described[0]["requires"][0]["subject"], "svc.workflow.start");
    assert_eq!(described[0]["limits"]["concurrency"], 1024);
    let text = sinew(&["describe", "--", &orders]).await.succeeded().stdout;
    for part in
        ["orders.place", "POST /orders", "evt.orders.confirmed", "8 attempts, at most", "dlq.orders.mailer"]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[tokio::test]
async fn a_description_survives_a_file() {
    let dir = TempDir::with_prefix("sinew-test-").unwrap();
    let file = dir.path().join("hello.json");
    let hello = program::path("hello");
    let described = sinew(&["--json", "describe", "--", &hello]).await.succeeded();
    std::fs::write(&file, &described.stdout).unwrap();
    let again = sinew(&["--json", "describe", "--file", file.to_str().unwrap()]).await.succeeded();
    assert_eq!(again.json(), described.json());
    std::fs::write(&file, "{}").unwrap();
    let refused = sinew(&["--json", "describe", "--file", file.to_str().unwrap()]).await;
    assert_eq!((refused.code, refused.error_code()), (3, "SNW-5010".into()), "{refused:?}");
}

#[tokio::test]
async fn a_program_that_is_no_service_is_told_apart() {
    let none = sinew(&["--json", "describe", "--", "true"]).await;
    assert_eq!((none.code, none.error_code()), (1, "SNW-5010".into()), "{none:?}");
    assert!(none.error()["message"].as_str().unwrap().contains("ended without describing"), "{none:?}");
    let failed = sinew(&["--json", "describe", "--", "false"]).await;
    assert!(failed.error()["message"].as_str().unwrap().contains("failed before"), "{failed:?}");
    let slow = sinew(&["--json", "describe", "--timeout", "200ms", "--", "sleep", "60"]).await;
    assert!(slow.error()["message"].as_str().unwrap().contains("within 200 ms"), "{slow:?}");
    let absent = sinew(&["--json", "describe", "--", "/no/such/program"]).await;
    assert!(absent.error()["message"].as_str().unwrap().contains("cannot run"), "{absent:?}");
}

#[tokio::test]
async fn the_catalogue_knows_services_that_are_not_running() {
    let harness = Harness::start().await;
    let bus = connect(harness.url(), "bakery").await;
    bakery().start(&bus).await.unwrap().drain().await;
    bus.close().await;
    let describe = async |name: &str| sinew(&["--json", "--nats-url", harness.url(), "describe", name]).await;
    let described = describe("bakery").await.succeeded().json();
    assert_eq!(described[0]["groups"][0]["retry_budget_ms"], 300);
    assert_eq!(described[0]["requires"][0]["service"], "mill");
    let text = sinew(&["--nats-url", harness.url(), "describe", "bakery"]).await.succeeded().stdout;
    for part in ["keys at once, each in order", "at once, in batches of 20 within 50 ms"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let knead = text.lines().find(|line| line.contains("bakery.knead")).unwrap_or(&text);
    assert!(knead.contains(" upload "), "{knead}");
    let wrong = describe("bakerry").await;
    assert_eq!((wrong.code, wrong.error_code()), (1, "SNW-5011".into()), "{wrong:?}");
    assert_eq!(wrong.error()["hint"], "did you mean bakery?");
}

/// The printed permissions are all that the service is given: it works, and the server refuses it nothing.
#[tokio::test]
async fn the_printed_permissions_are_enough_and_nothing_more_is_granted() {
    let dir = TempDir::with_prefix("sinew-test-").unwrap();
    let file = dir.path().join("bakery.json");
    std::fs::write(&file, serde_json::to_vec(&bakery().describe()).unwrap()).unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["describe", "--inbox", "_INBOX_bakery", "--permissions", "--file", file];
    let permissions = sinew(&arguments).await.succeeded().stdout;
    let guarded = Guarded::start(dir.path(), &permissions).await;

    let everybody = connect(&guarded.url("admin"), "admin").await;
    let mill = Service::new("mill", ())
        .serve(Mill, |routes| routes.grind(grind).turn(turn).fill(fill))
        .start(&everybody)
        .await
        .unwrap();
    let own = Config { inbox_prefix: "_INBOX_bakery".into(), ..Config::new(guarded.url("bakery"), "bakery") };
    let bus = Bus::connect(own).await.unwrap();
    let running = bakery().start(&bus).await.unwrap();
    let caller = Ctx::detached(&everybody, "caller");
    for loaves in [3, 12] {
        assert_eq!(caller.call(Bake { loaves }).within(SOON).await.unwrap(), loaves);
    }
    let items: Vec<u32> =
        caller.stream(Watch { until: 300 }).await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(items, (0..300).collect::<Vec<_>>());
    assert_eq!(caller.upload(Knead {}, stream::iter(0..300)).await.unwrap(), 300);
    // Work that was taken on is finished through the workflow service, here only its ear.
    let mut finished = everybody.subscribe("svc.workflow.complete", None).await.unwrap();
    everybody.barrier().await.unwrap();
    let dough = Completion::<u32>::resume(&bus, "order-17.3.1.c2VhbA");
    let heard = async {
        let word = finished.next().await.unwrap();
        let (reply, done) = (word.reply_to().unwrap(), "null".into());
        everybody.publish(reply, &Headers::new(), done).await.unwrap();
    };
    let (completed, ()) = tokio::join!(dough.complete(&7), heard);
    completed.unwrap();
    // The second event was refused for good: it is a dead letter, and the first is settled.
    eventually(SOON, || async { counts(&everybody, "DEAD_LETTERS").await == 1 }).await;
    eventually(SOON, || async {
        let van = everybody.consumer("EVENTS", "bakery+van").await.unwrap().unwrap();
        let office = everybody.consumer("EVENTS", "bakery+office").await.unwrap().unwrap();
        [van, office].iter().all(|group| group.unsettled == 0 && group.settled == 2)
    })
    .await;
    let listed = sinew(&["--json", "--nats-url", &guarded.url("admin"), "describe", "bakery"]).await;
    assert_eq!(listed.succeeded().json()[0]["version"], "2.0.0");
    // An ordered group changes hands while one event is in work: the successor has to find out which.
    let successor = bakery().start(&bus).await.unwrap();
    caller.publish(Baked { loaves: 7 }).await.unwrap();
    COUNTING.notified().await;
    running.drain().await;
    eventually(SOON, || async {
        let till = everybody.consumer("EVENTS", "bakery+till").await.unwrap().unwrap();
        till.unsettled == 0 && till.settled == 3
    })
    .await;
    assert_eq!(guarded.refusals(), Vec::<String>::new());

    bus.publish("evt.bakery.burnt", &Headers::new(), "".into()).await.unwrap();
    eventually(SOON, || async { guarded.refusals().iter().any(|line| line.contains("evt.bakery.burnt")) })
        .await;
    successor.drain().await;
    mill.drain().await;
    bus.close().await;
    everybody.close().await;
}

async fn counts(bus: &Connection, stream: &str) -> u64 {
    bus.stream(stream).await.unwrap().map_or(0, |stream| stream.messages)
}

async fn connect(url: &str, name: &str) -> Bus {
    Bus::connect(Config::new(url, name)).await.expect("the server is there")
}

/// A server with two users: `admin` may do everything, `bakery` what is written down.
struct Guarded {
    address: String,
    log: std::path::PathBuf,
    _server: Child,
}

impl Guarded {
    async fn start(dir: &Path, permissions: &str) -> Self {
        let (config, log) = (dir.join("server.conf"), dir.join("server.log"));
        let text = format!(
            "listen: \"127.0.0.1:-1\"\nports_file_dir: {dir:?}\nlog_file: {log:?}\njetstream {{ store_dir: {:?} }}\n\
             authorization {{ users: [\n  {{ user: admin, password: x }}\n  {{ user: bakery, password: x, {permissions} }}\n] }}\n",
            dir.join("store"),
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(server().await).arg("-c").arg(&config).kill_on_drop(true).spawn().unwrap();
        let ports = dir.join(format!("nats-server_{}.ports", child.id().unwrap()));
        let address = eventually(SOON, || async {
            let ports: Value = serde_json::from_slice(&std::fs::read(&ports).ok()?).ok()?;
            Some(ports["nats"][0].as_str()?.trim_start_matches("nats://").to_owned())
        })
        .await;
        Self { address, log, _server: child }
    }

    fn url(&self, user: &str) -> String {
        format!("nats://{user}:x@{}", self.address)
    }

    /// Returns what the server refused somebody.
    fn refusals(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains("Violation")).map(str::to_owned).collect()
    }
}

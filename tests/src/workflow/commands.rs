//! Calls with `delivery: command`: work that waits for a service that is away, and goes to somebody else when one dies.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{
    Accepted, Bus, COMMANDS, Completion, Ctx, Problem, Request, Running, Service, State, contract,
    workflow::CancelWorkflow,
};
use tokio::sync::Notify;

use super::lab::{Lab, timeline};
use crate::harness::{SOON, eventually};

/// Prints a book.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "press.print", reply = Value, idempotent)]
struct Print {
    /// How the press behaves: ok, jam, burn, slow.
    #[serde(default)]
    behave: String,
}

/// Has a book bound elsewhere.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "press.bind", reply = Value, idempotent)]
struct Bind {}

/// Pulps a book.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "press.pulp", reply = Value, idempotent)]
struct Pulp {}

contract! {
    /// Prints books.
    PressContract = "press" @ "1.0.0" { print: Print, bind: Bind, pulp: Pulp }
}

/// What the press did, and a bell for work that began.
#[derive(Clone, Default)]
struct Floor {
    lines: Arc<Mutex<Vec<String>>>,
    began: Arc<Notify>,
    dropped: Arc<AtomicUsize>,
    tokens: Arc<Mutex<Vec<String>>>,
}

/// Counts when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Floor {
    fn note(&self, what: &str, ctx: &Ctx) {
        let key = ctx.idempotency_key().unwrap_or_default();
        self.lines.lock().unwrap().push(format!("{what} {key}"));
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

async fn print(request: Print, State(floor): State<Floor>, ctx: Ctx) -> Result<Value, Problem> {
    floor.note("print", &ctx);
    match request.behave.as_str() {
        "jam" => return Err(Problem::new(409, "jammed", "the press is jammed")),
        "burn" => panic!("the press burns"),
        "slow" => {
            let _dropped = Dropped(floor.dropped.clone());
            floor.began.notify_one();
            std::future::pending::<()>().await;
        }
        _ => {}
    }
    Ok(json!({ "copies": 7 }))
}

async fn bind(
    _: Bind,
    book: Completion<Value>,
    State(floor): State<Floor>,
) -> Result<Accepted<Value>, Problem> {
    floor.tokens.lock().unwrap().push(book.token().to_owned());
    Ok(book.later().within(Duration::from_secs(60)))
}

async fn pulp(_: Pulp, State(floor): State<Floor>, ctx: Ctx) -> Result<Value, Problem> {
    floor.note("pulp", &ctx);
    Ok(json!({}))
}

fn press(floor: &Floor) -> Service<Floor> {
    Service::new("press", floor.clone()).serve(PressContract, |s| s.print(print).bind(bind).pulp(pulp))
}

async fn open(bus: &Bus, floor: &Floor) -> Running {
    press(floor).commands(4).start(bus).await.unwrap()
}

/// A book that is printed and bound by whoever is there; both are undone by commands too.
const BOOK: &str = "\
document: { dsl: '1.0.3', namespace: test, name: book, version: '1.0.0' }
do:
  - print:
      call: nats
      with: { service: press, endpoint: print, body: { behave: '${ .behave // \"ok\" }' }, delivery: command }
      output: { as: '${ $workflow.input }' }
      compensate: { call: nats, with: { service: press, endpoint: pulp, body: {}, delivery: command } }
  - check:
      call: lab.act
      with: { step: check, behave: '${ .check // \"ok\" }' }
      compensate: false
";

/// A lab that knows a press which is away.
async fn lab() -> (Lab, Floor) {
    let (lab, floor) = (Lab::start().await, Floor::default());
    open(&lab.bus, &floor).await.drain().await;
    lab.apply(BOOK).await;
    (lab, floor)
}

async fn waiting(lab: &Lab) -> u64 {
    lab.bus.stream_state(COMMANDS).await.unwrap().messages
}

/// Waits until exactly one command is stored.
async fn left(lab: &Lab) {
    eventually(SOON, || async { waiting(lab).await == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_waits_for_a_service_that_is_away_and_survives_the_orchestrator() {
    let (mut lab, floor) = lab().await;
    lab.begin("book", "b-1", json!({})).await;
    left(&lab).await;
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    assert_eq!(waiting(&lab).await, 1, "it is not left twice");
    let service = open(&lab.bus, &floor).await;
    let instance = lab.closed("book", "b-1").await;
    assert_eq!(timeline(&instance), "print completed | check completed → completed/committed");
    assert_eq!(floor.lines(), ["print b-1/do/0/print"]);
    eventually(SOON, || async { waiting(&lab).await == 0 }).await;
    service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_undone_by_a_command() {
    let (lab, floor) = lab().await;
    let service = open(&lab.bus, &floor).await;
    let problem = lab.run("book", "b-2", json!({ "check": "refuse" })).await.unwrap_err();
    assert_eq!(problem.code, "workflow-faulted");
    let instance = lab.closed("book", "b-2").await;
    assert_eq!(timeline(&instance), "print completed ↶compensated | check refused → faulted/compensated");
    assert_eq!(floor.lines(), ["print b-2/do/0/print", "pulp b-2/do/0/print/undo"]);
    service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_did_nothing_and_a_panic_is_undone() {
    let (lab, floor) = lab().await;
    let service = open(&lab.bus, &floor).await;
    lab.run("book", "b-3", json!({ "behave": "jam" })).await.unwrap_err();
    let refused = lab.closed("book", "b-3").await;
    assert_eq!(timeline(&refused), "print refused → faulted/none");
    assert_eq!(refused.error.unwrap().code.as_deref(), Some("jammed"));
    lab.run("book", "b-4", json!({ "behave": "burn" })).await.unwrap_err();
    let burnt = lab.closed("book", "b-4").await;
    assert_eq!(timeline(&burnt), "print unknown ↶compensated → faulted/compensated");
    service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_the_hands_of_a_service_that_stops_goes_to_another() {
    let (lab, floor) = lab().await;
    let first =
        press(&floor).commands(4).drain_within(Duration::from_millis(50)).start(&lab.bus).await.unwrap();
    lab.begin("book", "b-5", json!({ "behave": "slow" })).await;
    tokio::time::timeout(SOON, floor.began.notified()).await.unwrap();
    first.drain().await;
    let second = open(&lab.bus, &floor).await;
    tokio::time::timeout(SOON, floor.began.notified()).await.unwrap();
    assert_eq!(floor.lines(), ["print b-5/do/0/print"; 2], "the key tells that it is the same");
    let cancel = CancelWorkflow { name: "book".into(), id: "b-5".into(), reason: None };
    lab.ctx.call(cancel).await.unwrap();
    // Twice: the first was dropped when its service stopped.
    eventually(SOON, || async { floor.dropped.load(Ordering::Relaxed) == 2 }).await;
    let instance = lab.closed("book", "b-5").await;
    assert_eq!(timeline(&instance), "print unknown ↶compensated → cancelled/compensated");
    second.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_command_that_waits_is_taken_back() {
    let (lab, floor) = lab().await;
    lab.begin("book", "b-6", json!({})).await;
    left(&lab).await;
    let cancel = CancelWorkflow { name: "book".into(), id: "b-6".into(), reason: None };
    lab.ctx.call(cancel).await.unwrap();
    // What is left is the command that undoes it: nobody knows here that nobody had it.
    let subject = "cmd.press.print.>";
    eventually(SOON, || async { lab.bus.last_message(COMMANDS, subject).await.unwrap().is_none() }).await;
    let service = open(&lab.bus, &floor).await;
    let instance = lab.closed("book", "b-6").await;
    assert_eq!(timeline(&instance), "print unknown ↶compensated → cancelled/compensated");
    assert_eq!(floor.lines(), ["pulp b-6/do/0/print/undo"]);
    service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_nobody_takes_in_time_is_given_up() {
    let (lab, floor) = lab().await;
    let hurried = "\
document: { dsl: '1.0.3', namespace: test, name: hurried, version: '1.0.0' }
do:
  - print:
      call: nats
      with: { service: press, endpoint: print, body: {}, delivery: command, timeout: PT1S }
      compensate: false
";
    lab.apply(hurried).await;
    let problem = lab.run("hurried", "h-1", json!({})).await.unwrap_err();
    assert_eq!(problem.extensions["fault"]["code"], "deadline-exceeded");
    eventually(SOON, || async { waiting(&lab).await == 0 }).await;
    assert_eq!(floor.lines(), Vec::<String>::new());
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_may_be_taken_on_and_finished_later() {
    let (lab, floor) = lab().await;
    let bound = "\
document: { dsl: '1.0.3', namespace: test, name: bound, version: '1.0.0' }
do:
  - bind: { call: nats, with: { service: press, endpoint: bind, body: {}, delivery: command }, compensate: false }
";
    lab.apply(bound).await;
    let service = open(&lab.bus, &floor).await;
    lab.begin("bound", "l-1", json!({})).await;
    // Acknowledged: the press is done with it although the book is not.
    eventually(SOON, || async { !floor.tokens.lock().unwrap().is_empty() && waiting(&lab).await == 0 }).await;
    service.drain().await;
    let token = floor.tokens.lock().unwrap()[0].clone();
    Completion::resume(&lab.bus, token).complete(&json!("bound")).await.unwrap();
    assert_eq!(lab.closed("bound", "l-1").await.output, Some(json!("bound")));
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_takes_no_commands_is_not_left_any() {
    let lab = Lab::start().await;
    let service = press(&Floor::default()).start(&lab.bus).await.unwrap();
    lab.apply(BOOK).await;
    let problem = lab.run("book", "n-1", json!({})).await.unwrap_err();
    assert_eq!(problem.extensions["fault"]["code"], "no-commands");
    assert_eq!(waiting(&lab).await, 0);
    service.drain().await;
    lab.stop().await;
}

//! Work that a service takes on and somebody brings the result of later: by token, after whatever died in between.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{
    Accepted, Bus, CallError, Completion, Config, Ctx, Problem, Request, Running, Service, State, contract,
    workflow::{CancelWorkflow, WorkflowError, WorkflowInstance},
};
use tokio::sync::{Mutex, mpsc};

use super::{
    Orchestrator,
    lab::{Lab, timeline},
};
use crate::harness::{Harness, SOON, eventually};

/// Renders a film, which takes its time.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "studio.render", reply = Value, idempotent)]
struct Render {
    /// The silence promised, in milliseconds.
    #[serde(default)]
    heartbeat_ms: Option<u64>,
    /// How long it takes at most, in milliseconds.
    #[serde(default)]
    within_ms: Option<u64>,
}

/// Throws a film away.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "studio.scrap", reply = Value, idempotent)]
struct Scrap {
    /// The key of the request that made it.
    key: String,
}

contract! {
    /// Makes films.
    StudioContract = "studio" @ "1.0.0" { render: Render, scrap: Scrap }
}

/// What the studio wrote down: tokens of films to make, and keys of those that were thrown away.
#[derive(Clone)]
struct Desk {
    tokens: mpsc::UnboundedSender<String>,
    scrapped: Arc<Mutex<Vec<String>>>,
}

struct Studio {
    tokens: mpsc::UnboundedReceiver<String>,
    scrapped: Arc<Mutex<Vec<String>>>,
    service: Running,
}

/// A step that takes work on, and one before it; both can be undone.
const FILM: &str = "\
document: { dsl: '1.0.3', namespace: test, name: film, version: '1.0.0' }
do:
  - a:
      call: lab.act
      with: { step: a }
      output: { as: '${ $workflow.input }' }
      compensate: { call: lab.undo, with: { step: a } }
  - render:
      call: studio.render
      with: ${ . }
      compensate: { call: studio.scrap, with: { key: '${ $task.idempotencyKey }' } }
";

impl Studio {
    async fn open(bus: &Bus) -> Self {
        let (sender, tokens) = mpsc::unbounded_channel();
        let desk = Desk { tokens: sender, scrapped: Arc::default() };
        let scrapped = desk.scrapped.clone();
        let service = Service::new("studio", desk).serve(StudioContract, |s| s.render(render).scrap(scrap));
        Self { tokens, scrapped, service: service.start(bus).await.unwrap() }
    }

    /// Returns the token of the next film.
    async fn token(&mut self) -> String {
        tokio::time::timeout(SOON, self.tokens.recv()).await.unwrap().unwrap()
    }
}

async fn render(
    request: Render,
    film: Completion<Value>,
    State(desk): State<Desk>,
) -> Result<Accepted<Value>, Problem> {
    desk.tokens.send(film.token().to_owned()).unwrap();
    let mut accepted = film.later();
    if let Some(silence) = request.heartbeat_ms {
        accepted = accepted.heartbeat(Duration::from_millis(silence));
    }
    if let Some(limit) = request.within_ms {
        accepted = accepted.within(Duration::from_millis(limit));
    }
    Ok(accepted)
}

async fn scrap(request: Scrap, State(desk): State<Desk>) -> Result<Value, Problem> {
    desk.scrapped.lock().await.push(request.key.clone());
    Ok(json!(request.key))
}

fn refusal(outcome: Result<(), CallError<WorkflowError>>) -> WorkflowError {
    match outcome {
        Err(CallError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// A lab with a studio.
async fn set() -> (Lab, Studio) {
    let lab = Lab::start().await;
    let studio = Studio::open(&lab.bus).await;
    lab.apply(FILM).await;
    (lab, studio)
}

async fn ended(lab: &Lab, id: &str) -> WorkflowInstance {
    lab.closed("film", id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn work_taken_on_by_one_process_is_finished_by_another() {
    let (lab, mut studio) = set().await;
    lab.begin("film", "f-1", json!({})).await;
    let token = studio.token().await;
    studio.service.drain().await;
    // Somebody else, who knows nothing but the token.
    let other = Bus::connect(Config::new(lab.harness.url(), "cutter")).await.unwrap();
    Completion::resume(&other, token.clone()).complete(&json!({ "url": "film.mp4" })).await.unwrap();
    let instance = ended(&lab, "f-1").await;
    assert_eq!(timeline(&instance), "a completed | render completed → completed/committed");
    assert_eq!(instance.output, Some(json!({ "url": "film.mp4" })));
    let again = Completion::<Value>::resume(&other, token).complete(&json!("another")).await;
    assert!(matches!(refusal(again), WorkflowError::NotWaitedFor(_)), "the instance has ended");
    other.close().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_counts_once_and_forged_tokens_count_for_nothing() {
    let (lab, mut studio) = set().await;
    let two = format!("{FILM}  - again: {{ call: studio.render, with: {{}} }}\n")
        .replace("name: film", "name: two");
    lab.apply(&two).await;
    lab.begin("two", "f-2", json!({})).await;
    let token = studio.token().await;
    let film = Completion::<Value>::resume(&lab.bus, token.clone());
    let forged = token.replace("f-2", "f-3");
    let forged = Completion::<Value>::resume(&lab.bus, forged).complete(&json!("stolen")).await;
    assert_eq!(refusal(forged), WorkflowError::InvalidToken);
    let garbage = Completion::<Value>::resume(&lab.bus, "no token at all").heartbeat().await;
    assert_eq!(refusal(garbage), WorkflowError::InvalidToken);
    film.complete(&json!("first")).await.unwrap();
    assert_eq!(refusal(film.complete(&json!("second")).await), WorkflowError::AlreadyAnswered);
    let failed = film.fail(Problem::new(409, "too-late", "too late")).await;
    assert_eq!(refusal(failed), WorkflowError::AlreadyAnswered);
    assert_eq!(refusal(film.heartbeat().await), WorkflowError::AlreadyAnswered);
    let next = Completion::<Value>::resume(&lab.bus, studio.token().await);
    assert_ne!(next.token(), film.token(), "each step has a token of its own");
    next.complete(&json!("third")).await.unwrap();
    assert_eq!(lab.closed("two", "f-2").await.output, Some(json!("third")));
    studio.service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_an_orchestrator_killed_between_acceptance_and_result_takes_the_result() {
    let lab = Lab::on(Harness::start_synced().await).await;
    let mut studio = Studio::open(&lab.bus).await;
    let first = Orchestrator::start(lab.harness.url());
    eventually(SOON, || async { lab.try_apply(FILM).await }).await;
    lab.begin("film", "k-1", json!({})).await;
    let token = studio.token().await;
    first.kill();
    let completing = tokio::spawn({
        let film = Completion::<Value>::resume(&lab.bus, token);
        async move { film.complete(&json!("kept")).await }
    });
    let second = Orchestrator::start(lab.harness.url());
    completing.await.unwrap().unwrap();
    let instance = ended(&lab, "k-1").await;
    assert_eq!((instance.status.as_str(), instance.output), ("completed", Some(json!("kept"))));
    second.kill();
    studio.service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_work_is_not_asked_for_again_by_the_next_owner() {
    let (mut lab, mut studio) = set().await;
    lab.begin("film", "n-1", json!({ "heartbeat_ms": 60_000 })).await;
    let film = Completion::<Value>::resume(&lab.bus, studio.token().await);
    // The acceptance is stored once a heartbeat behind it was.
    film.heartbeat().await.unwrap();
    eventually(SOON, || async { lab.get("film", "n-1").await.unwrap().steps.len() == 2 }).await;
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    film.heartbeat().await.unwrap();
    assert!(studio.tokens.try_recv().is_err(), "it is at work, and was not asked for twice");
    film.complete(&json!("once")).await.unwrap();
    assert_eq!(ended(&lab, "n-1").await.status, "completed");
    studio.service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_falls_silent_is_a_timeout_and_its_work_is_undone() {
    let (lab, mut studio) = set().await;
    lab.begin("film", "s-1", json!({ "heartbeat_ms": 1_000 })).await;
    let film = Completion::<Value>::resume(&lab.bus, studio.token().await);
    let instance = ended(&lab, "s-1").await;
    let fault = instance.error.clone().unwrap();
    assert_eq!(fault.code.as_deref(), Some("heartbeat-missed"), "{fault:?}");
    assert_eq!(
        timeline(&instance),
        "a completed ↶compensated | render unknown ↶compensated → faulted/compensated"
    );
    assert_eq!(*studio.scrapped.lock().await, ["s-1/do/1/render"]);
    assert!(matches!(refusal(film.complete(&json!("late")).await), WorkflowError::NotWaitedFor(_)));
    studio.service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_work_alive_until_its_time_is_over() {
    let (lab, mut studio) = set().await;
    lab.begin("film", "h-1", json!({ "heartbeat_ms": 1_000, "within_ms": 3_000 })).await;
    let film = Completion::<Value>::resume(&lab.bus, studio.token().await);
    let began = std::time::Instant::now();
    let ended_by = film.during(Duration::from_millis(200), std::future::pending::<()>()).await;
    assert!(matches!(ended_by, Err(CallError::Refused(WorkflowError::NotWaitedFor(_)))), "{ended_by:?}");
    assert!(
        began.elapsed() > Duration::from_secs(2),
        "three silences would have passed: {:?}",
        began.elapsed()
    );
    let instance = ended(&lab, "h-1").await;
    assert_eq!(instance.error.unwrap().code.as_deref(), Some("deadline-exceeded"));
    studio.service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_accepted_work_hears_of_a_cancel_at_once_in_whatever_process() {
    let (mut lab, mut studio) = set().await;
    lab.begin("film", "c-2", json!({})).await;
    let token = studio.token().await;
    // An owner that has only read of it in the log tells as well.
    eventually(SOON, || async { lab.get("film", "c-2").await.unwrap().steps.len() == 2 }).await;
    let mine = Completion::<Value>::resume(&lab.bus, token.clone());
    mine.heartbeat().await.unwrap();
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    let other = Bus::connect(Config::new(lab.harness.url(), "cutter")).await.unwrap();
    let film = Completion::<Value>::resume(&other, token);
    let mut asked = lab.bus.subscribe("svc.workflow.heartbeat", None).await.unwrap();
    lab.bus.barrier().await.unwrap();
    let hearing = tokio::spawn(async move { film.cancelled().await });
    // Once it has asked, only word from the workflow helps: the next time it asks by itself is a minute away.
    asked.next().await.unwrap();
    mine.heartbeat().await.unwrap();
    let cancel = CancelWorkflow { name: "film".into(), id: "c-2".into(), reason: None };
    lab.ctx.call(cancel).await.unwrap();
    let refusal = tokio::time::timeout(SOON, hearing).await.unwrap().unwrap();
    assert!(matches!(refusal, CallError::Refused(WorkflowError::NotWaitedFor(_))), "{refusal:?}");
    assert_eq!(ended(&lab, "c-2").await.status, "cancelled");
    other.close().await;
    studio.service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_instance_stops_the_work_at_its_next_heartbeat() {
    let (lab, mut studio) = set().await;
    lab.begin("film", "c-1", json!({ "heartbeat_ms": 10_000 })).await;
    let film = Completion::<Value>::resume(&lab.bus, studio.token().await);
    film.heartbeat().await.unwrap();
    let cancel = CancelWorkflow { name: "film".into(), id: "c-1".into(), reason: None };
    lab.ctx.call(cancel).await.unwrap();
    let stopped = film.during(Duration::from_millis(100), std::future::pending::<()>()).await;
    assert!(matches!(stopped, Err(CallError::Refused(WorkflowError::NotWaitedFor(_)))), "{stopped:?}");
    let instance = ended(&lab, "c-1").await;
    assert_eq!(
        timeline(&instance),
        "a completed ↶compensated | render unknown ↶compensated → cancelled/compensated"
    );
    studio.service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_failed_is_refused_or_undone_as_its_problem_says() {
    let (lab, mut studio) = set().await;
    lab.begin("film", "x-1", json!({})).await;
    let film = Completion::<Value>::resume(&lab.bus, studio.token().await);
    film.fail(Problem::new(422, "no-script", "there is no script")).await.unwrap();
    let refused = ended(&lab, "x-1").await;
    assert_eq!(timeline(&refused), "a completed ↶compensated | render refused → faulted/compensated");
    assert_eq!(refused.error.unwrap().code.as_deref(), Some("no-script"));
    lab.begin("film", "x-2", json!({})).await;
    let film = Completion::<Value>::resume(&lab.bus, studio.token().await);
    film.fail(Problem::new(500, "camera-broke", "the camera broke")).await.unwrap();
    let unknown = ended(&lab, "x-2").await;
    assert_eq!(
        timeline(&unknown),
        "a completed ↶compensated | render unknown ↶compensated → faulted/compensated"
    );
    studio.service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_wants_a_reply_is_told_that_there_will_be_none() {
    let (lab, studio) = set().await;
    let ctx = Ctx::detached(&lab.bus, "test");
    let problem = ctx.call(Render { heartbeat_ms: None, within_ms: None }).await.unwrap_err().to_problem();
    assert_eq!((problem.status, problem.code.as_str()), (400, "no-completion"));
    studio.service.drain().await;
    lab.stop().await;
}

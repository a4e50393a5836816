//! The participant's barrier: each half of a saga's step once, and never the request after its undo.

use std::time::Duration;

use sinew::{Barrier, CallRetry, State, wire::header};
use tokio::sync::mpsc;

use super::*;
use crate::harness::{SOON, eventually};

/// Reserves something.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "halves.forward", reply = String, error = HalfError, idempotent)]
struct Forward {
    /// How to behave: ok, refuse, hang.
    behave: String,
}

/// Gives it back.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "halves.undo", reply = Option<String>, error = HalfError, idempotent)]
struct Undo {
    /// Whether to refuse.
    refuse: bool,
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Problem)]
enum HalfError {
    /// it was told to refuse
    #[problem(status = 422, code = "told-to")]
    Told,
    /// another problem
    #[problem(transparent)]
    Other(Problem),
}

contract! {
    /// Both halves of a step.
    Halves = "halves" @ "1.0.0" { forward: Forward, undo: Undo }
}

#[derive(Clone)]
struct Desk {
    barrier: Barrier,
    worked: mpsc::UnboundedSender<String>,
}

async fn forward(cmd: Forward, State(desk): State<Desk>, ctx: Ctx) -> Result<String, HalfError> {
    let work = async {
        desk.worked.send(format!("forward {}", cmd.behave)).unwrap();
        match cmd.behave.as_str() {
            "refuse" => Err(HalfError::Told),
            "hang" => std::future::pending().await,
            _ => Ok("r-1".to_owned()),
        }
    };
    desk.barrier.forward(&ctx, work).await
}

async fn undo(cmd: Undo, State(desk): State<Desk>, ctx: Ctx) -> Result<Option<String>, HalfError> {
    let work = |reply: Option<String>| async move {
        desk.worked.send(format!("undo {reply:?}")).unwrap();
        if cmd.refuse { Err(HalfError::Told) } else { Ok(format!("undone {reply:?}")) }
    };
    desk.barrier.undo(&ctx, work).await
}

struct Scene {
    _harness: Harness,
    ctx: Ctx,
    worked: mpsc::UnboundedReceiver<String>,
    service: Running,
}

impl Scene {
    async fn start() -> Self {
        let harness = Harness::start().await;
        let bus = Bus::connect(Config::new(harness.url(), "halves")).await.unwrap();
        let (worked, seen) = mpsc::unbounded_channel();
        let barrier = Barrier::open(&bus, "halves").await.unwrap().hold(Duration::from_secs(2));
        let service = Service::new("halves", Desk { barrier, worked })
            .serve(Halves, |s| s.forward(forward).undo(undo))
            .start(&bus)
            .await
            .unwrap();
        let caller = Bus::connect(Config::new(harness.url(), "caller")).await.unwrap();
        let ctx = Ctx::detached(&caller, "test");
        Self { _harness: harness, ctx, worked: seen, service }
    }

    async fn forward(&self, key: &str, behave: &str) -> Result<String, Problem> {
        let call = self.ctx.call(Forward { behave: behave.to_owned() }).idempotency_key(key);
        call.retry(CallRetry::never()).await.map_err(|error| error.to_problem())
    }

    async fn undo(&self, key: &str, refuse: bool) -> Result<Option<String>, Problem> {
        let call = self.ctx.call(Undo { refuse }).idempotency_key(format!("{key}/undo"));
        let call = call.header(header::FORWARD_KEY, key).retry(CallRetry::never());
        call.await.map_err(|error| error.to_problem())
    }

    /// Returns what was really worked on since it was last asked.
    fn worked(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.worked.try_recv().ok()).collect()
    }

    async fn end(self) {
        self.service.drain().await;
    }
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Problem>) -> (u16, String) {
    let problem = outcome.unwrap_err();
    (problem.status, problem.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_half_is_done_once_however_often_it_is_asked_for() {
    let mut scene = Scene::start().await;
    for _ in 0..3 {
        assert_eq!(scene.forward("i-1/do/0/a#1", "ok").await.unwrap(), "r-1");
    }
    assert_eq!(scene.worked(), ["forward ok"]);
    for _ in 0..3 {
        let undone = scene.undo("i-1/do/0/a#1", false).await.unwrap();
        assert_eq!(undone.as_deref(), Some("undone Some(\"r-1\")"));
    }
    assert_eq!(scene.worked(), ["undo Some(\"r-1\")"]);
    assert_eq!(code(scene.forward("i-1/do/0/a#1", "ok").await), (409, "undone-before".to_owned()));
    assert_eq!(scene.worked(), [""; 0]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_after_its_undo_is_refused_and_does_nothing() {
    let mut scene = Scene::start().await;
    assert_eq!(scene.undo("late", false).await.unwrap(), None);
    assert_eq!(code(scene.forward("late", "ok").await), (409, "undone-before".to_owned()));
    assert_eq!(scene.undo("late", false).await.unwrap(), None);
    assert_eq!(scene.worked(), [""; 0]);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_did_nothing_and_may_be_tried_again() {
    let mut scene = Scene::start().await;
    assert_eq!(code(scene.forward("r", "refuse").await), (422, "told-to".to_owned()));
    assert_eq!(scene.forward("r", "ok").await.unwrap(), "r-1");
    assert_eq!(code(scene.undo("r", true).await), (422, "told-to".to_owned()));
    assert!(scene.undo("r", false).await.unwrap().is_some(), "an undo that failed is run again");
    assert_eq!(scene.worked(), ["forward refuse", "forward ok", "undo Some(\"r-1\")", "undo Some(\"r-1\")"]);
    assert_eq!(code(scene.forward("q", "refuse").await).0, 422);
    assert_eq!(scene.undo("q", false).await.unwrap(), None, "there is nothing to undo");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_waits_for_its_request_and_then_knows_nothing_of_it() {
    let mut scene = Scene::start().await;
    let hung = tokio::spawn({
        let ctx = scene.ctx.clone();
        async move {
            let call = ctx.call(Forward { behave: "hang".to_owned() }).idempotency_key("h");
            call.retry(CallRetry::never()).await.map_err(|error| error.to_problem())
        }
    });
    assert_eq!(scene.worked.recv().await.unwrap(), "forward hang");
    assert_eq!(code(scene.undo("h", false).await), (503, "in-progress".to_owned()));
    assert_eq!(code(scene.forward("h", "ok").await), (503, "in-progress".to_owned()));
    assert_eq!(code(hung.await.unwrap()), (504, "took-too-long".to_owned()));
    eventually(SOON, || async { scene.undo("h", false).await.is_ok() }).await;
    assert_eq!(scene.worked(), ["undo None"]);
    scene.end().await;
}

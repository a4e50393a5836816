//! A service whose steps behave as they are told, a ledger of what it really did, and an orchestrator beside it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{
    Bus, CallError, Config, Ctx, Problem, Request, Running, Service, State, contract,
    workflow::{ApplyWorkflow, GetWorkflow, StartWorkflow, WorkflowError, WorkflowInstance},
};
use tokio::sync::Notify;

use crate::harness::{Harness, SOON, eventually};

/// Does one step.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "lab.act", reply = Value, error = LabError, idempotent)]
pub(crate) struct Act {
    /// Which step.
    pub(crate) step: String,
    /// How to behave: ok, refuse, broken, slow, patient, held, panic, large; ok where nothing is said.
    #[serde(default)]
    pub(crate) behave: Option<String>,
}

/// Undoes one step.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "lab.undo", reply = Value, error = LabError, idempotent)]
pub(crate) struct Undo {
    /// Which step.
    pub(crate) step: String,
    /// How to behave: ok, refuse.
    #[serde(default)]
    pub(crate) behave: Option<String>,
}

/// What the lab refuses with.
#[derive(Clone, Debug, PartialEq, Problem)]
pub(crate) enum LabError {
    /// the lab was told to refuse
    #[problem(status = 409, code = "told-to-refuse")]
    Told,
    /// the lab is broken for a while
    #[problem(status = 503, code = "broken", retry)]
    Broken,
}

contract! {
    /// Does as it is told.
    pub(crate) LabContract = "lab" @ "1.0.0" { act: Act, undo: Undo }
}

/// What really happened, in order: `act a`, `undo a`. Each effect under its key once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    entries: Arc<Mutex<Vec<Line>>>,
    /// A step that is held goes on when this is notified.
    go: Arc<Notify>,
}

/// One request as the service saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The verb and the step.
    pub(crate) what: String,
    /// The idempotency key.
    pub(crate) key: String,
    /// On an undo, the key of what is undone.
    pub(crate) forward: Option<String>,
    /// The trace it came in.
    pub(crate) trace: String,
}

/// Everything a workflow test needs.
pub(crate) struct Lab {
    pub(crate) harness: Harness,
    pub(crate) bus: Bus,
    pub(crate) ctx: Ctx,
    pub(crate) ledger: Ledger,
    /// Settings of the orchestrators to come.
    pub(crate) config: sinew_orchestrator::Config,
    service: Option<Running>,
    orchestrator: Option<sinew_orchestrator::Running>,
}

impl Ledger {
    fn note(&self, verb: &str, step: &str, ctx: &Ctx) {
        let line = Line {
            what: format!("{verb} {step}"),
            key: ctx.idempotency_key().unwrap_or("none").to_owned(),
            forward: ctx.header("Sinew-Forward-Key").map(str::to_owned),
            trace: ctx.trace().map(|trace| trace.trace.to_string()).unwrap_or_default(),
        };
        self.entries.lock().unwrap().push(line);
    }

    /// Lets a step that is held go on, or the next one to be.
    pub(crate) fn release(&self) {
        self.go.notify_one();
    }

    /// Returns every request seen, repetitions included.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.entries.lock().unwrap().clone()
    }

    /// Returns what took effect on behalf of an instance, repetitions of a key left out.
    pub(crate) fn effects(&self, instance: &str) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        let own = |line: &Line| line.key.starts_with(&format!("{instance}/"));
        self.lines()
            .into_iter()
            .filter(|line| own(line) && seen.insert(line.key.clone()))
            .map(|l| l.what)
            .collect()
    }
}

impl Lab {
    /// Starts a server, the service and an orchestrator.
    pub(crate) async fn start() -> Self {
        Self::on(Harness::start().await).await.with_orchestrator().await
    }

    /// Starts the service alone on a server.
    pub(crate) async fn on(harness: Harness) -> Self {
        let bus = Bus::connect(Config::new(harness.url(), "lab")).await.unwrap();
        let ledger = Ledger::default();
        let ctx = Ctx::detached(&bus, "test");
        let service = Some(service(&ledger).start(&bus).await.unwrap());
        let config = sinew_orchestrator::Config::default();
        Self { harness, bus, ctx, ledger, config, service, orchestrator: None }
    }

    /// Starts an orchestrator in this process and waits until it owns its shard.
    pub(crate) async fn with_orchestrator(mut self) -> Self {
        self.start_orchestrator().await;
        self
    }

    pub(crate) async fn start_orchestrator(&mut self) {
        self.start_orchestrator_within(SOON).await;
    }

    /// Starts one that has much to read before it is ready.
    pub(crate) async fn start_orchestrator_within(&mut self, limit: Duration) {
        let orchestrator = sinew_orchestrator::start(self.config.clone(), self.bus.clone()).await.unwrap();
        eventually(limit, || async { orchestrator.is_ready() }).await;
        self.orchestrator = Some(orchestrator);
    }

    pub(crate) async fn stop_orchestrator(&mut self) {
        self.orchestrator.take().unwrap().drain().await;
    }

    pub(crate) async fn stop_service(&mut self) {
        self.service.take().unwrap().drain().await;
    }

    pub(crate) async fn start_service(&mut self) {
        self.service = Some(service(&self.ledger).start(&self.bus).await.unwrap());
    }

    pub(crate) async fn apply(&self, source: &str) {
        let request = ApplyWorkflow { source: source.to_owned(), file: "test.yaml".to_owned() };
        self.ctx.call(request).await.unwrap();
    }

    /// Applies a workflow to an orchestrator that may not be there yet; says whether it took it.
    pub(crate) async fn try_apply(&self, source: &str) -> bool {
        let request = ApplyWorkflow { source: source.to_owned(), file: "test.yaml".to_owned() };
        self.ctx.call(request).within(Duration::from_secs(2)).await.is_ok()
    }

    /// Starts an instance and waits for its end.
    pub(crate) async fn run(&self, name: &str, id: &str, input: Value) -> Result<WorkflowInstance, Problem> {
        let started = self.ctx.call(StartWorkflow::new(name, input).id(id)).await;
        started.map_err(|error| error.to_problem())
    }

    /// Starts an instance without waiting.
    pub(crate) async fn begin(&self, name: &str, id: &str, input: Value) -> WorkflowInstance {
        self.ctx.call(StartWorkflow::new(name, input).id(id).without_waiting()).await.unwrap()
    }

    pub(crate) async fn get(
        &self,
        name: &str,
        id: &str,
    ) -> Result<WorkflowInstance, CallError<WorkflowError>> {
        self.ctx.call(GetWorkflow { name: name.to_owned(), id: id.to_owned() }).await
    }

    /// Waits until nothing more will happen to an instance: longer than a call whose reply was lost is waited for.
    pub(crate) async fn closed(&self, name: &str, id: &str) -> WorkflowInstance {
        eventually(Duration::from_secs(60), || async {
            self.get(name, id).await.ok().filter(|instance| instance.ended_ms.is_some())
        })
        .await
    }

    pub(crate) async fn stop(mut self) {
        if let Some(orchestrator) = self.orchestrator.take() {
            orchestrator.drain().await;
        }
        if let Some(service) = self.service.take() {
            service.drain().await;
        }
        self.bus.close().await;
    }
}

/// Draws the steps of an instance on one line: `a ✓ ↶compensated | b refused`.
pub(crate) fn timeline(instance: &WorkflowInstance) -> String {
    let step = |step: &sinew::workflow::WorkflowStep| match &step.compensation {
        Some(undo) => format!("{} {} ↶{}", step.name, step.outcome, undo.outcome),
        None => format!("{} {}", step.name, step.outcome),
    };
    let steps: Vec<String> = instance.steps.iter().map(step).collect();
    format!("{} → {}/{}", steps.join(" | "), instance.status, instance.saga)
}

/// A saga of three steps, each undone by the lab; the input says how step `c` behaves.
pub(crate) const THREE: &str = "\
document: { dsl: '1.0.3', namespace: test, name: three, version: '1.0.0' }
do:
  - a:
      call: lab.act
      with: { step: a }
      output: { as: '${ $workflow.input }' }
      compensate: { call: lab.undo, with: { step: a } }
  - b:
      call: lab.act
      with: { step: b }
      output: { as: '${ $workflow.input }' }
      compensate: { call: lab.undo, with: { step: b } }
  - c:
      call: nats
      with: { service: lab, endpoint: act, body: { step: c, behave: '${ .c }' }, timeout: PT1S }
      compensate: { call: lab.undo, with: { step: c } }
";

pub(crate) fn service(ledger: &Ledger) -> Service<Ledger> {
    Service::new("lab", ledger.clone()).serve(LabContract, |s| s.act(act).undo(undo))
}

async fn act(request: Act, State(ledger): State<Ledger>, ctx: Ctx) -> Result<Value, LabError> {
    match request.behave.as_deref() {
        Some("refuse") => return Err(LabError::Told),
        Some("broken") => return Err(LabError::Broken),
        Some("panic") => panic!("the lab was told to panic"),
        Some("slow") => {
            ledger.note("act", &request.step, &ctx);
            // why: slowness itself is what is tested; the caller's deadline ends it.
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        Some("patient") => {
            ledger.note("act", &request.step, &ctx);
            // why: the work takes a while, and somebody else is drained meanwhile.
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        Some("held") => {
            ledger.note("act", &request.step, &ctx);
            ledger.go.notified().await;
        }
        Some("large") => {
            ledger.note("act", &request.step, &ctx);
            return Ok(json!("x".repeat(600_000)));
        }
        _ => ledger.note("act", &request.step, &ctx),
    }
    Ok(json!({ "done": request.step }))
}

async fn undo(request: Undo, State(ledger): State<Ledger>, ctx: Ctx) -> Result<Value, LabError> {
    if request.behave.as_deref() == Some("refuse") {
        return Err(LabError::Told);
    }
    ledger.note("undo", &request.step, &ctx);
    Ok(json!({ "undone": request.step }))
}

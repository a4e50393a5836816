//! Starters: many at once, over the bus and over HTTP, each repeating a start under its id until it is told something.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use sinew::{
    Bus, Ctx,
    workflow::{FAULTED, StartWorkflow, WorkflowInstance},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::checker::Told;
use crate::edge::client::Client;

/// How long a starter waits for one answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A saga of three steps; `name`, then what is said about undoing. The input says how each step behaves.
const SAGA: &str = "document: { dsl: '1.0.3', namespace: faults, name: NAME, version: '1.0.0' }
saga: { retry: RETRY }
do:
";

const STEP: &str = "  - NAME:
      call: nats
      with:
        service: participant
        endpoint: perform
        body: { saga: '${ $workflow.id }', step: NAME, behave: '${ .NAME }' }
        timeout: PT2S
      output: { as: '${ $workflow.input }' }
      compensate:
        call: nats
        with:
          service: participant
          endpoint: revoke
          body: { saga: '${ $workflow.id }', step: NAME, behave: '${ $input.undo }' }
          timeout: PT2S
";

/// The workflows of these runs. An undo of `trip` is tried again until it succeeds, one of `brittle` only once more.
pub(super) fn workflows() -> [String; 2] {
    let of = |name: &str, retry: &str| {
        let head = SAGA.replace("NAME", name).replace("RETRY", retry);
        ["flight", "hotel", "car"].iter().fold(head, |text, step| text + &STEP.replace("NAME", step))
    };
    [
        of("trip", "{ delay: { milliseconds: 300 }, backoff: { constant: {} } }"),
        of("brittle", "{ delay: { milliseconds: 100 }, limit: { attempt: { count: 1 } } }"),
    ]
}

/// What starters were told, by instance.
pub(super) type Answers = BTreeMap<String, Vec<Told>>;

/// Starters at work.
pub(super) struct Load {
    stop: CancellationToken,
    lanes: JoinSet<()>,
    heard: mpsc::UnboundedReceiver<(String, Told)>,
    answers: Answers,
}

/// The way of one starter to the orchestrator.
#[derive(Clone)]
pub(super) enum Way {
    Bus(Bus),
    Edge(SocketAddr),
}

/// One start.
struct Order {
    workflow: &'static str,
    id: String,
    input: Value,
    waits: bool,
}

impl Load {
    /// Sets `lanes` starters to work on each way, one start after another each.
    pub(super) fn start(prefix: &str, ways: &[Way], lanes: usize) -> Self {
        let (teller, heard) = mpsc::unbounded_channel();
        let (stop, mut started) = (CancellationToken::new(), JoinSet::new());
        for (number, way) in ways.iter().cycle().take(ways.len() * lanes).enumerate() {
            started.spawn(work(format!("{prefix}-{number}"), way.clone(), teller.clone(), stop.clone()));
        }
        Self { stop, lanes: started, heard, answers: Answers::new() }
    }

    /// Returns what starters were told up to now.
    pub(super) fn told(&mut self) -> Answers {
        while let Ok((id, told)) = self.heard.try_recv() {
            self.answers.entry(id).or_default().push(told);
        }
        self.answers.clone()
    }

    /// Lets every starter bring its last start to an answer, and returns what all of them were told.
    pub(super) async fn finish(mut self) -> Answers {
        self.stop.cancel();
        while let Some(ended) = self.lanes.join_next().await {
            ended.expect("a starter is turned away for reasons that faults excuse");
        }
        self.told()
    }

    /// Ends every starter where it is.
    pub(super) async fn abandon(mut self) {
        self.lanes.shutdown().await;
    }
}

async fn work(
    prefix: String,
    way: Way,
    teller: mpsc::UnboundedSender<(String, Told)>,
    stop: CancellationToken,
) {
    for number in 0.. {
        if stop.is_cancelled() {
            return;
        }
        let order = Order::new(format!("{prefix}-{number}"));
        let told = order.place(&way).await;
        // Whoever abandoned the run does not listen.
        let _ = teller.send((order.id, told));
    }
}

impl Order {
    /// Two of three complete; the others are refused at one of their steps, and some of those cannot be undone.
    fn new(id: String) -> Self {
        // Drawn from the id: a run that is repeated has the same sagas.
        let seed = id.bytes().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let mut drawn = fastrand::Rng::with_seed(seed);
        let (kind, waits) = (drawn.u8(0..12), drawn.bool());
        let (workflow, input) = match kind {
            0 => ("trip", json!({ "flight": "refuse" })),
            1 => ("trip", json!({ "hotel": "refuse" })),
            2 => ("trip", json!({ "car": "refuse", "flight": "slow" })),
            3 => ("brittle", json!({ "car": "refuse", "undo": "refuse" })),
            4 | 5 => ("trip", json!({ "hotel": "slow" })),
            _ => ("trip", json!({})),
        };
        Self { workflow, id, input, waits: waits && workflow != "brittle" }
    }

    /// Repeats the start until it is answered; what is not an answer is one more fault to survive.
    async fn place(&self, way: &Way) -> Told {
        loop {
            let told = match way {
                Way::Bus(bus) => self.over(bus).await,
                Way::Edge(address) => self.over_http(*address).await,
            };
            if let Some(told) = told {
                return told;
            }
            // why: a starter that is turned away waits a little, whatever the reason.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn over(&self, bus: &Bus) -> Option<Told> {
        let start = StartWorkflow::new(self.workflow, self.input.clone()).id(self.id.clone());
        let start = if self.waits { start } else { start.without_waiting() };
        match Ctx::detached(bus, "starter").call(start).within(PATIENCE).await {
            Ok(instance) => Some(told(&instance)),
            Err(error) => {
                let problem = error.to_problem();
                let saga = problem.extensions.get("saga").cloned().unwrap_or_default();
                self.refused(problem.status, &problem.code, &saga)
            }
        }
    }

    async fn over_http(&self, address: SocketAddr) -> Option<Told> {
        let client = Client::new(address);
        let path = format!("/workflows/{}", self.workflow);
        let mut headers = vec![("content-type", "application/json"), ("idempotency-key", self.id.as_str())];
        if !self.waits {
            headers.push(("prefer", "respond-async"));
        }
        let asked = client.try_send("POST", &path, &headers, self.input.to_string());
        // Who was asked may be dead; an edge holds on for as long as its own limit says.
        let reply = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
        let body: Value = serde_json::from_slice(&reply.body).ok()?;
        match reply.status {
            200 | 202 => Some(told(&serde_json::from_value(body).expect("an instance"))),
            status => self.refused(status, body["code"].as_str().unwrap_or_default(), &body["saga"]),
        }
    }

    /// Reads a refusal; one that no fault excuses is a violation by itself.
    fn refused(&self, status: u16, code: &str, saga: &Value) -> Option<Told> {
        if code == FAULTED {
            return Some(Told::Faulted(saga.as_str().unwrap_or_default().to_owned()));
        }
        // Before its catalogue came, an edge knows no routes, and an orchestrator no definitions.
        let excused = status >= 500 || status == 404;
        assert!(excused, "the start of {} was refused with {status} {code}", self.id);
        None
    }
}

fn told(instance: &WorkflowInstance) -> Told {
    match instance.status.as_str() {
        "completed" => Told::Completed(instance.output.clone()),
        _ => Told::Accepted,
    }
}

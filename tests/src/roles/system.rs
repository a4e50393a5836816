//! The processes of a system, and a hand on each of them.

use serde_json::{Value, json};
use sinew::{Bus, Config, Ctx, workflow::GetWorkflow};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
    task::JoinHandle,
};

use crate::{
    cli::program::{self, Ran},
    edge::client::{Client, Reply},
    harness::{Harness, SOON, eventually},
};

const SERVICES: [&str; 4] = ["orders", "inventory", "payments", "shipping"];

/// An orchestrator, an edge and the four services of the checkout, each a process, on a server that syncs every write.
pub(super) struct System {
    harness: Harness,
    /// Speaks HTTP with the edge.
    pub(super) client: Client,
    /// Looks at instances without starting a process, for when that would take too long.
    bus: Bus,
    orchestrator: Process,
    edge: Process,
    services: Vec<Process>,
}

/// A process that runs until it is told to stop.
struct Process {
    name: String,
    child: Child,
    /// What it says; kept, so that it never writes to nobody.
    told: Lines<BufReader<ChildStdout>>,
}

impl System {
    /// Starts everything, applies the checkout's workflow, and waits until an order can be placed.
    pub(super) async fn start() -> Self {
        let harness = Harness::start_synced().await;
        let url = harness.url();
        let orchestrator = start_orchestrator(url).await;
        let services = start_services(url);
        let mut edge = Process::role(url, &["edge", "--listen", "127.0.0.1:0"]);
        let told = edge.line().await;
        let address = told["edge"]["url"].as_str().and_then(|url| url.strip_prefix("http://"));
        let client =
            Client::new(address.expect("the edge says where it listens").parse().expect("an address"));
        let bus = Bus::connect(Config::new(url, "test")).await.expect("the server is there");
        let system = Self { client, bus, orchestrator, edge, services, harness };
        system.apply("place-order.yaml", checkout::PLACE_ORDER).await;
        system.wait_until_open().await;
        system
    }

    /// Runs `sinew --json` on this system's bus.
    pub(super) async fn sinew(&self, arguments: &[&str]) -> Ran {
        program::sinew(&[&["--json", "--nats-url", self.harness.url()], arguments].concat()).await
    }

    /// Stores a workflow, from a file as a user would.
    pub(super) async fn apply(&self, name: &str, source: &str) {
        let dir = tempfile::tempdir().expect("a directory for the workflow");
        let file = dir.path().join(name);
        std::fs::write(&file, source).expect("write the workflow");
        let applied = self.sinew(&["workflow", "apply", file.to_str().expect("a path in UTF-8")]).await;
        assert_eq!(applied.succeeded().json()[0]["changed"], true);
    }

    /// Places an order over HTTP, and waits for the answer.
    pub(super) async fn place(&self, id: &str, card: &str, address: &str) -> Reply {
        self.client.post("/orders", &order(id, card, address)).await
    }

    /// Places an order over HTTP; the answer may never come.
    pub(super) fn place_in_background(&self, id: &str, card: &str, address: &str) -> JoinHandle<Reply> {
        let (client, order) = (self.client.clone(), order(id, card, address));
        tokio::spawn(async move { client.post("/orders", &order).await })
    }

    /// Waits until an instance is at a step.
    pub(super) async fn reached(&self, workflow: &str, id: &str, step: &str) {
        let there = || async {
            let history = self.history(workflow, id).await?;
            let steps = history["steps"].as_array()?;
            steps.iter().any(|one| one["name"] == step && one["ended_ms"].is_null()).then_some(())
        };
        eventually(SOON, there).await;
    }

    /// Waits until an order is undone, and returns its history.
    pub(super) async fn compensated(&self, id: &str) -> Value {
        let undone = || async {
            let history = self.history("place-order", id).await?;
            (history["status"] == "faulted" && history["saga"] == "compensated").then_some(history)
        };
        eventually(SOON, undone).await
    }

    /// Kills the orchestrator with SIGKILL, and returns when it is gone.
    pub(super) async fn kill_orchestrator(&mut self) {
        self.orchestrator.child.kill().await.expect("kill the orchestrator");
    }

    /// Starts an orchestrator in the place of the one that ended.
    pub(super) async fn start_orchestrator(&mut self) {
        self.orchestrator = start_orchestrator(self.harness.url()).await;
    }

    /// Starts the services anew, without what they had in memory.
    pub(super) fn start_services(&mut self) {
        self.services = start_services(self.harness.url());
    }

    /// Sends SIGTERM to every process at once, and expects each to end with 0 in bounded time.
    pub(super) async fn terminate_all(&mut self) {
        let Self { orchestrator, edge, services, .. } = self;
        let running = |process: &&mut Process| process.child.id().is_some();
        let all: Vec<&mut Process> =
            [orchestrator, edge].into_iter().chain(services).filter(running).collect();
        for process in &all {
            program::terminate(&process.child);
        }
        for process in all {
            assert_eq!(program::ended(&mut process.child).await, Some(0), "{}", process.name);
        }
    }

    /// Ends the system in order.
    pub(super) async fn stop(mut self) {
        self.bus.close().await;
        self.terminate_all().await;
    }

    async fn history(&self, workflow: &str, id: &str) -> Option<Value> {
        let request = GetWorkflow { name: workflow.to_owned(), id: id.to_owned() };
        let instance = Ctx::detached(&self.bus, "test").call(request).await.ok()?;
        Some(serde_json::to_value(instance).expect("an instance is JSON"))
    }

    /// A service is in the catalogue once it serves, and the edge follows the catalogue.
    async fn wait_until_open(&self) {
        let contracts = || async {
            let services = self.sinew(&["services"]).await.succeeded().json();
            let listed = services.as_array()?;
            let open = |name: &&str| listed.iter().any(|one| one["name"] == **name && one["serving"] == true);
            SERVICES.iter().all(open).then_some(())
        };
        eventually(SOON, contracts).await;
        eventually(SOON, || async { self.client.get("/healthz/ready").await.status == 200 }).await;
        let routed = || async {
            let answer: Value = serde_json::from_slice(&self.client.get("/orders/none").await.body).ok()?;
            (answer["code"] == "unknown-order").then_some(())
        };
        eventually(SOON, routed).await;
    }
}

impl Process {
    fn role(url: &str, arguments: &[&str]) -> Self {
        let child = program::start(&[&["--json", "--nats-url", url], arguments].concat());
        Self::new(arguments[0], child)
    }

    fn new(name: &str, mut child: Child) -> Self {
        let told = BufReader::new(child.stdout.take().expect("its output is read")).lines();
        Self { name: name.to_owned(), child, told }
    }

    /// Returns the next line it says, which is JSON.
    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(SOON, self.told.next_line()).await.expect("it says something");
        let line = line.expect("it writes UTF-8").unwrap_or_else(|| panic!("{} ended", self.name));
        serde_json::from_str(&line).expect("a line of JSON")
    }
}

/// Starts an orchestrator, and returns when it says that it runs.
async fn start_orchestrator(url: &str) -> Process {
    let mut process = Process::role(url, &["orchestrator"]);
    assert_eq!(process.line().await, json!({ "orchestrator": { "shards": 1 } }));
    process
}

fn start_services(url: &str) -> Vec<Process> {
    SERVICES.iter().map(|name| Process::new(name, program::start_example(name, url))).collect()
}

fn order(id: &str, card: &str, address: &str) -> Value {
    json!({ "id": id, "items": [{ "sku": "tea", "quantity": 2 }], "card": card, "address": address })
}

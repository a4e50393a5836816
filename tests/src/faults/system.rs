//! A whole system in processes, each of which can be killed, stopped and started again; and what is left of it.

use std::{
    fs::{File, OpenOptions},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use futures::StreamExt as _;
use sinew::{
    Bus, Config, Ctx,
    workflow::{ApplyWorkflow, GetWorkflow, WorkflowInstance},
};
use tempfile::TempDir;
use tokio::{process::Child, time::Instant};

use super::{
    checker::{Evidence, Verb, check},
    load::{Answers, Load, Way, workflows},
    participant::{self, Journal},
};
use crate::{
    cli::program,
    harness::{SOON, eventually, free_ports},
    workflow::timeline,
};

/// How long everything may take to come to its end once nothing is broken any more.
const REST: Duration = Duration::from_secs(90);
/// How many instances are read at once.
const READERS: usize = 16;

/// The roles and services on a bus that somebody else runs.
pub(super) struct System {
    bus: Bus,
    dir: TempDir,
    journal: Journal,
    pub(super) orchestrators: Vec<Process>,
    pub(super) participants: Vec<Process>,
    pub(super) edge: Process,
    address: SocketAddr,
    seed: u64,
    began: Instant,
}

/// A process that is started again whenever it is missing, as a supervisor would.
pub(super) struct Process {
    start: Box<dyn Fn() -> Child + Send + Sync>,
    child: Child,
}

/// How a system is made up.
pub(super) struct Plan<'a> {
    /// Where participants and starters find the bus.
    pub(super) url: &'a str,
    /// Where orchestrators find it: one each; one where they find it as everybody else, when there is nothing here.
    pub(super) orchestrators: &'a [&'a str],
    pub(super) participants: usize,
    /// Settings of the orchestrators, in YAML, and variables of their environment.
    pub(super) config: &'a str,
    pub(super) environment: &'a [(String, String)],
    /// Where participants refuse forward work that was undone before: copies of what they remember.
    pub(super) barrier: Option<usize>,
}

impl<'a> Plan<'a> {
    /// One orchestrator and two participants on a bus.
    pub(super) fn new(url: &'a str) -> Self {
        Self { url, orchestrators: &[], participants: 2, config: "", environment: &[], barrier: None }
    }
}

impl System {
    /// Starts everything, and waits until sagas can be started.
    pub(super) async fn start(plan: Plan<'_>) -> Self {
        let seed = seed();
        println!("seed {seed}: run it again with SINEW_FAULT_SEED={seed}");
        let dir = TempDir::with_prefix("sinew-faults-").expect("create a directory for the run");
        let journal = Journal::at(dir.path().join("effects"));
        let config = dir.path().join("orchestrator.yaml");
        std::fs::write(&config, plan.config).expect("write the settings");
        let alone = [plan.url];
        let roles = if plan.orchestrators.is_empty() { &alone } else { plan.orchestrators };
        let roles = roles.iter().enumerate();
        let orchestrators = roles.map(|(number, url)| {
            let config = config.to_str().expect("a path in UTF-8");
            let arguments = ["--nats-url", url, "orchestrator", "--config", config];
            let log = dir.path().join(format!("orchestrator-{number}.log"));
            Process::role(&arguments, plan.environment, &log)
        });
        let orchestrators = orchestrators.collect();
        let services = (0..plan.participants).map(|number| {
            let (url, journal) = (plan.url.to_owned(), journal.clone());
            let log = dir.path().join(format!("participant-{number}.log"));
            Process::new(move || participant::start(&url, &journal, plan.barrier, append(&log)))
        });
        let participants = services.collect();
        let [port] = free_ports();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listen = address.to_string();
        let arguments = ["--nats-url", plan.url, "edge", "--listen", &listen];
        let edge = Process::role(&arguments, &[], &dir.path().join("edge.log"));
        let bus = Bus::connect(Config::new(plan.url, "test")).await.expect("the server is there");
        let system = Self {
            bus,
            dir,
            journal,
            orchestrators,
            participants,
            edge,
            address,
            seed,
            began: Instant::now(),
        };
        system.apply().await;
        system
    }

    async fn apply(&self) {
        for source in workflows() {
            let request = ApplyWorkflow { source, file: "faults.yaml".to_owned() };
            let ctx = Ctx::detached(&self.bus, "test");
            let apply = || async { ctx.call(request.clone()).within(Duration::from_secs(2)).await };
            eventually(SOON, apply).await;
        }
        eventually(SOON, || async { tokio::net::TcpStream::connect(self.address).await.is_ok() }).await;
    }

    /// Sets starters to work over the bus and over the edge, `lanes` on each.
    pub(super) fn load(&self, prefix: &str, lanes: usize) -> Load {
        Load::start(prefix, &[Way::Bus(self.bus.clone()), Way::Edge(self.address)], lanes)
    }

    /// Sets starters to work over the bus alone.
    pub(super) fn load_over_bus(&self, prefix: &str, lanes: usize) -> Load {
        Load::start(prefix, &[Way::Bus(self.bus.clone())], lanes)
    }

    pub(super) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Returns how many effects there were so far.
    pub(super) fn effects(&self) -> usize {
        self.journal.read().len()
    }

    /// Starts again whatever is missing.
    pub(super) fn tend(&mut self) {
        let Self { orchestrators, participants, edge, .. } = self;
        orchestrators.iter_mut().chain(participants).chain([edge]).for_each(Process::tend);
    }

    /// Waits until every instance has ended or is stuck, and returns what there is to judge by.
    pub(super) async fn evidence(&self, told: Answers) -> Evidence {
        println!("{:?} after the start, nothing is broken any more", self.began.elapsed());
        let until = Instant::now() + REST;
        loop {
            let mut ids: Vec<String> = told.keys().cloned().collect();
            ids.extend(self.journal.read().into_iter().map(|effect| effect.saga));
            ids.sort_unstable();
            ids.dedup();
            let reads = ids.iter().map(|id| self.settled(id.clone(), until));
            let read: Vec<_> = futures::stream::iter(reads).buffer_unordered(READERS).collect().await;
            let instances = read.into_iter().flatten().map(|one| (one.id.clone(), one)).collect();
            let evidence = Evidence { told: told.clone(), instances, effects: self.journal.read() };
            // An instance whose start was never answered may show itself late.
            if evidence.effects.iter().all(|effect| ids.binary_search(&effect.saga).is_ok()) {
                return evidence;
            }
        }
    }

    /// Reads an instance once nothing more happens to it, or as it is when there is no more time to wait.
    async fn settled(&self, id: String, until: Instant) -> Option<WorkflowInstance> {
        let ctx = Ctx::detached(&self.bus, "test");
        let mut patience = Some(Instant::now() + SOON / 2);
        loop {
            let mut unknown = 0;
            for name in ["trip", "brittle"] {
                let get = GetWorkflow { name: name.to_owned(), id: id.clone() };
                match ctx.call(get).within(Duration::from_secs(3)).await {
                    Ok(instance) if is_settled(&instance) || Instant::now() > until => return Some(instance),
                    Ok(instance) => {
                        if patience.take_if(|end| *end < Instant::now()).is_some() {
                            println!("still waiting for {}", timeline(&instance));
                        }
                        break;
                    }
                    Err(error) => unknown += usize::from(error.to_problem().code == "unknown-instance"),
                }
            }
            if unknown == 2 || Instant::now() > until {
                return None;
            }
            // why: only the instance's own timers are waited for, and nothing announces its end.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asserts that nothing is violated; otherwise leaves the logs of all processes where they are.
    pub(super) fn assert_kept(self, evidence: &Evidence) {
        println!("{:?} after the start: {}", self.began.elapsed(), summary(evidence));
        let found = check(evidence);
        if !found.is_empty() {
            let lines: Vec<String> = found.iter().take(20).map(ToString::to_string).collect();
            let place = self.dir.keep();
            panic!(
                "seed {}: {} violations, logs in {}:\n{}",
                self.seed,
                found.len(),
                place.display(),
                lines.join("\n")
            );
        }
    }
}

impl Process {
    pub(super) fn new(start: impl Fn() -> Child + Send + Sync + 'static) -> Self {
        Self { child: start(), start: Box::new(start) }
    }

    /// A role of the program, whose log goes to a file.
    fn role(arguments: &[&str], environment: &[(String, String)], log: &Path) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let (environment, log) = (environment.to_vec(), log.to_owned());
        Self::new(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            program::start_logging(&arguments, &environment, append(&log))
        })
    }

    /// Kills it with SIGKILL, and returns when it is gone.
    pub(super) async fn kill(&mut self) {
        self.child.kill().await.expect("kill a process");
    }

    /// Sends it a signal, such as `-STOP`.
    pub(super) fn signal(&self, name: &str) {
        program::signal(&self.child, name);
    }

    /// Starts it again if it is gone.
    pub(super) fn tend(&mut self) {
        if self.child.try_wait().expect("look at a process").is_some() {
            self.child = (self.start)();
        }
    }
}

fn is_settled(instance: &WorkflowInstance) -> bool {
    instance.ended_ms.is_some() || instance.saga == "stuck"
}

/// Counts what happened, so that nobody takes an idle run for a passed one.
fn summary(evidence: &Evidence) -> String {
    let ended = |status: &str, saga: &str| {
        let of = |one: &&WorkflowInstance| one.status == status && (saga.is_empty() || one.saga == saga);
        evidence.instances.values().filter(of).count()
    };
    let done = |verb| evidence.effects.iter().filter(|effect| effect.verb == verb).count();
    let keys: std::collections::HashSet<&str> =
        evidence.effects.iter().map(|effect| effect.key.as_str()).collect();
    format!(
        "{} accepted: {} completed, {} compensated, {} stuck; {} effects, {} undos, {} repeated",
        evidence.told.len(),
        ended("completed", ""),
        ended("faulted", "compensated"),
        ended("faulted", "stuck"),
        done(Verb::Perform),
        done(Verb::Revoke),
        evidence.effects.len() - keys.len(),
    )
}

/// Returns the seed of this run: a new one unless somebody wants an old one again.
fn seed() -> u64 {
    let asked = std::env::var("SINEW_FAULT_SEED").ok().and_then(|text| text.parse().ok());
    let seed = asked.unwrap_or_else(|| fastrand::u64(..));
    fastrand::seed(seed);
    seed
}

fn append(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("open a log")
}

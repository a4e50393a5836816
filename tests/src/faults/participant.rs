//! The services of these runs, each a process of its own: every effect is noted in a file before it is answered.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sinew::{Barrier, Bus, Config, Ctx, Problem, Request, Service, State, contract};
use tokio::process::{Child, Command};

use super::checker::{Effect, Verb};

/// Set for the process that plays a participant: the server, and the file of effects.
const NATS: &str = "SINEW_TEST_PARTICIPANT";
const JOURNAL: &str = "SINEW_TEST_EFFECTS";
/// Set where it refuses forward work that was undone before: to how many copies there are of what it remembers.
const BARRIER: &str = "SINEW_TEST_BARRIER";

/// Does a step.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "participant.perform", reply = Value, error = Refusal, idempotent)]
struct Perform {
    saga: String,
    step: String,
    /// ok, refuse, or slow.
    behave: Option<String>,
}

/// Undoes a step.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "participant.revoke", reply = Value, error = Refusal, idempotent)]
struct Revoke {
    saga: String,
    step: String,
    /// ok or refuse.
    behave: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Problem)]
enum Refusal {
    /// the participant was told to refuse
    #[problem(status = 409, code = "told-to-refuse")]
    Told,
    /// the barrier refuses
    #[problem(transparent)]
    Barrier(Problem),
}

contract! {
    /// Does as it is told, and notes it.
    Participant = "participant" @ "1.0.0" { perform: Perform, revoke: Revoke }
}

/// What a participant has at hand.
#[derive(Clone)]
struct Desk {
    journal: Journal,
    barrier: Option<Barrier>,
}

/// The file of effects: all services append to it, so the order of its lines is the order of what was done, and it
/// survives whoever is killed.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    path: PathBuf,
}

impl Journal {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns every effect, the oldest first.
    pub(super) fn read(&self) -> Vec<Effect> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line is written at once")).collect()
    }

    fn open(&self) -> File {
        OpenOptions::new().create(true).append(true).open(&self.path).expect("open the file of effects")
    }

    fn note(&self, verb: Verb, (saga, step): (String, String), ctx: &Ctx) {
        let effect = Effect {
            verb,
            saga,
            step,
            key: ctx.idempotency_key().unwrap_or("none").to_owned(),
            forward: ctx.header("Sinew-Forward-Key").map(str::to_owned),
            at_us: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros(),
            pid: std::process::id(),
        };
        let line = format!("{}\n", serde_json::to_string(&effect).unwrap());
        // One write of one line: whoever is killed has done it or not.
        self.open().write_all(line.as_bytes()).expect("note an effect");
    }
}

/// Starts a participant; it is killed when the child is dropped.
pub(super) fn start(url: &str, journal: &Journal, barrier: Option<usize>, log: File) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "faults::participant::plays_a_participant", "--ignored", "--nocapture"]);
    command.env(NATS, url).env(JOURNAL, &journal.path).kill_on_drop(true);
    command.envs(barrier.map(|copies| (BARRIER, copies.to_string())));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("start a participant")
}

#[tokio::test]
#[ignore = "the part of another process in the runs of `faults`"]
async fn plays_a_participant() {
    let (Ok(nats), Some(path)) = (std::env::var(NATS), std::env::var_os(JOURNAL)) else { return };
    let bus = Bus::connect(Config::new(nats, "participant")).await.unwrap();
    let journal = Journal::at(Path::new(&path).to_owned());
    let barrier = match std::env::var(BARRIER) {
        Ok(copies) => {
            let bus = bus.with_replicas(copies.parse().unwrap());
            Some(Barrier::open(&bus, "participant").await.unwrap())
        }
        Err(_) => None,
    };
    let desk = Desk { journal, barrier };
    let service = Service::new("participant", desk).serve(Participant, |s| s.perform(perform).revoke(revoke));
    let running = service.start(&bus).await.unwrap();
    sinew::shutdown::requested().await;
    running.drain().await;
    bus.close().await;
}

async fn perform(request: Perform, State(desk): State<Desk>, ctx: Ctx) -> Result<Value, Refusal> {
    let work = async {
        match request.behave.as_deref() {
            Some("refuse") => return Err(Refusal::Told),
            // why: work that takes a while is what a kill finds half done, before or after its effect.
            Some("slow") => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => {}
        }
        let done = json!({ "done": request.step });
        desk.journal.note(Verb::Perform, (request.saga, request.step), &ctx);
        Ok(done)
    };
    match &desk.barrier {
        Some(barrier) => barrier.forward(&ctx, work).await,
        None => work.await,
    }
}

async fn revoke(request: Revoke, State(desk): State<Desk>, ctx: Ctx) -> Result<Value, Refusal> {
    let work = async |_: Option<Value>| {
        if request.behave.as_deref() == Some("refuse") {
            return Err(Refusal::Told);
        }
        desk.journal.note(Verb::Revoke, (request.saga, request.step), &ctx);
        Ok(json!({}))
    };
    match &desk.barrier {
        Some(barrier) => Ok(barrier.undo(&ctx, work).await?.unwrap_or_default()),
        None => work(None).await,
    }
}

//! Finding the owner of an instance: in this process by channel, elsewhere by a subject only the owner listens on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sinew::{
    Bus, Kind, Problem, ServiceError,
    bus::Message,
    wire::{ContentType, Headers, decode, encode},
    workflow::{InputReference, WorkflowError},
};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    shard::{Answer, Command, Handle},
};

/// Pause before a subscription is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How long the last answers to other processes may take.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// One of the fixed number of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShardId(u16);

/// Knows which shards are owned here, and which by somebody else.
pub(crate) struct Router {
    bus: Bus,
    shards: u16,
    places: Mutex<Places>,
}

/// The lock on this guards two small maps and is never held across an await.
#[derive(Default)]
struct Places {
    here: BTreeMap<ShardId, Handle>,
    elsewhere: BTreeSet<ShardId>,
}

/// Keeps a shard reachable while it is owned here.
pub(crate) struct Served<'a> {
    router: &'a Router,
    id: ShardId,
    stop: CancellationToken,
    remote: JoinHandle<()>,
}

impl ShardId {
    /// Names the shard with this number.
    pub(crate) const fn of(number: u16) -> Self {
        Self(number)
    }

    pub(crate) fn get(self) -> u16 {
        self.0
    }

    fn subject(self) -> String {
        format!("wf.shard.{}", self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Router {
    pub(crate) fn new(bus: Bus, config: &Config) -> Self {
        Self { bus, shards: config.shards, places: Mutex::default() }
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.shards).map(ShardId)
    }

    /// Places an instance. FNV-1a, because the placement must be the same in every release.
    pub(crate) fn shard_of(&self, id: &str) -> ShardId {
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        ShardId(u16::try_from(hash % u64::from(self.shards)).unwrap_or(0))
    }

    /// Says whether each shard has an owner, here or elsewhere.
    pub(crate) fn is_ready(&self) -> bool {
        let places = self.places();
        self.shards().all(|shard| places.here.contains_key(&shard) || places.elsewhere.contains(&shard))
    }

    /// Notes whether somebody else owns a shard.
    pub(crate) fn elsewhere(&self, shard: ShardId, owned: bool) {
        let mut places = self.places();
        let _ = if owned { places.elsewhere.insert(shard) } else { places.elsewhere.remove(&shard) };
    }

    /// Makes a shard reachable, here and from other processes, until the guard is dropped.
    pub(crate) fn serve(&self, id: ShardId, handle: Handle) -> Served<'_> {
        let stop = CancellationToken::new();
        let remote = tokio::spawn(listen(self.bus.clone(), id, handle.clone(), stop.clone()));
        self.places().here.insert(id, handle);
        Served { router: self, id, stop, remote }
    }

    /// Sends a command to the owner of `shard` and waits for its answer, at most `limit`.
    pub(crate) async fn send(
        &self,
        shard: ShardId,
        command: Command,
        limit: Duration,
    ) -> Result<Answer, WorkflowError> {
        let local = self.places().here.get(&shard).cloned();
        match local {
            Some(handle) => handle.ask(whole(&self.bus, command).await?).await,
            None => self.forward(shard, &command, limit).await,
        }
    }

    async fn forward(
        &self,
        shard: ShardId,
        command: &Command,
        limit: Duration,
    ) -> Result<Answer, WorkflowError> {
        let payload =
            encode(ContentType::MessagePack, command).map_err(|error| internal(&error.to_string()))?;
        match self.bus.request(&shard.subject(), &Headers::new(), payload, limit).await {
            Ok(reply) => {
                let answer: Result<Answer, Problem> = decode(ContentType::MessagePack, reply.payload())
                    .map_err(|error| internal(&error.to_string()))?;
                answer.map_err(|problem| {
                    WorkflowError::from_problem(&problem).unwrap_or(WorkflowError::Other(problem))
                })
            }
            Err(error) if error.kind() == Kind::NoResponders => Err(WorkflowError::ShardUnavailable),
            Err(error) => Err(WorkflowError::Other(error.to_problem())),
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Served<'_> {
    /// Ends once the answers have left that the shard gave as it stopped.
    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(LAST_ANSWERS, &mut self.remote).await.is_err() {
            tracing::warn!(shard = %self.id, "the last answers to other orchestrators may not have left");
        }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.router.places().here.remove(&self.id);
        self.remote.abort();
    }
}

/// Answers commands from other processes until `stop`. Each waits in a task of its own, as a start may wait for the
/// saga's end.
async fn listen(bus: Bus, id: ShardId, handle: Handle, stop: CancellationToken) {
    let mut waiting = JoinSet::new();
    let listening = async {
        let mut commands = loop {
            match bus.subscribe(&id.subject(), None).await {
                Ok(commands) => break commands,
                Err(error) => {
                    tracing::warn!(shard = %id, %error, "other processes cannot reach a shard yet");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        while let Some(message) = commands.next().await {
            waiting.spawn(answer(bus.clone(), handle.clone(), message));
            while waiting.try_join_next().is_some() {}
        }
    };
    stop.run_until_cancelled(listening).await;
    // The shard has stopped: each of them is told so, and tells its asker.
    while waiting.join_next().await.is_some() {}
}

async fn answer(bus: Bus, handle: Handle, message: Message) {
    let command = decode::<Command>(ContentType::MessagePack, message.payload());
    let outcome =
        match command {
            Ok(command) => {
                let answer = async { handle.ask(whole(&bus, command).await?).await };
                answer.await.map_err(|error| error.to_problem())
            }
            Err(error) => Err(Problem::new(400, "malformed-request", "the command cannot be read")
                .detail(error.to_string())),
        };
    let Some(to) = message.reply_to() else { return };
    let send = async |outcome: &Result<Answer, Problem>| {
        let payload = encode(ContentType::MessagePack, outcome)?;
        bus.publish(to, &Headers::new(), payload).await
    };
    let mut sent = send(&outcome).await;
    if sent.as_ref().is_err_and(|error| error.kind() == Kind::TooLarge) {
        let problem = Problem::new(502, "reply-too-large", "the reply is larger than the bus takes");
        sent = send(&Err(problem)).await;
    }
    if let Err(error) = sent {
        tracing::warn!(%error, "an answer to another orchestrator could not be sent");
    }
}

/// Fetches what was put beside a start, in the process that owns the shard: from one to the other it would not get either.
async fn whole(bus: &Bus, command: Command) -> Result<Command, WorkflowError> {
    let Command::Start(mut start) = command else { return Ok(command) };
    if let Some(at) = start.input_at.take() {
        start.input = input(bus, &at).await?;
    }
    Ok(Command::Start(start))
}

/// Reads an input that a caller put beside its start.
pub(crate) async fn input(bus: &Bus, at: &InputReference) -> Result<serde_json::Value, WorkflowError> {
    let read = at.read(bus).await.map_err(|error| WorkflowError::Other(error.to_problem()))?;
    read.ok_or_else(|| {
        let text = format!("the input {} is not in the object bucket, or not whole: store it again", at.id);
        WorkflowError::InvalidStart(text)
    })
}

fn internal(reason: &str) -> WorkflowError {
    tracing::error!(reason, "a command between orchestrators failed");
    WorkflowError::Other(Problem::new(500, "internal", "internal error"))
}

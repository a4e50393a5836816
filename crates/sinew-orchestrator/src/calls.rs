//! What leaves the orchestrator: calls, events, history. Each effect is a task of its own that tells the shard what came
//! of it; what has to be stopped is found again by instance and task.

mod bus;
mod child;
mod command;
mod gate;
mod in_flight;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use sinew::{Error, workflow::CallLimit};
use sinew_protocols::{Call, Heard as Overheard, Protocols};
use sinew_workflow::{Effect, Fault, Outcome, Protocol, Source, State, Target, TaskId};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    history::Finished,
    id::Id,
    library::Library,
    lifecycle::{Happened, Teller},
    listen::{Listener, Told},
    owner::Parts,
    shard::{Compiled, Handle, Input, World},
    spans::{self, Exported, Origin},
};
pub(crate) use bus::Line;
use bus::{Heard, Outgoing, fault, timeout};
pub(crate) use bus::{refused, terms_of, unversioned};
pub(crate) use child::{Children, Owners, id_of};
pub(crate) use gate::Gates;
use in_flight::{Begun, InFlight};

/// Pause before something is asked for again.
const AGAIN: Duration = Duration::from_millis(500);
/// What a protocol may take beyond its limit to say that it was too slow.
const GRACE: Duration = Duration::from_secs(2);

/// How long a subscription may take to begin.
const SUBSCRIBE: Duration = Duration::from_secs(30);

/// The world of a shard on the bus.
pub(crate) struct Caller {
    hands: Hands,
    line: Line,
    library: Library,
    /// Not bounded: an instance listens at most as often as it has tasks, and those are bounded.
    listening: mpsc::UnboundedSender<Told>,
    teller: Teller,
}

/// The ends of the ways to what works beside the shard.
pub(crate) struct Beside {
    pub(crate) listening: mpsc::UnboundedSender<Told>,
    pub(crate) teller: Teller,
}

/// Tasks that carry effects out, and what each is for.
pub(crate) struct Hands {
    means: Arc<Means>,
    handle: Handle,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// The gates, which end with `stop` only.
    own: TaskTracker,
    in_flight: InFlight,
}

/// What it takes to carry an effect out.
pub(crate) struct Means {
    /// The bus; `None` in a process that runs workflows without one.
    pub(crate) line: Option<Line>,
    pub(crate) protocols: Protocols,
    pub(crate) children: Children,
    pub(crate) gates: Gates,
}

/// Where the answer to an effect belongs.
type Answered = (TaskId, u32, Heard);

impl Caller {
    /// Makes the world of shard `place.0` of `place.1`.
    pub(crate) fn new(
        parts: Parts,
        place: (u16, u16),
        lease: watch::Receiver<Instant>,
        handle: Handle,
        beside: Beside,
    ) -> Self {
        let Parts { config, line, protocols, children } = parts;
        let line = Line { lease: Some(lease), ..line };
        let Beside { listening, teller } = beside;
        let (stop, own) = (CancellationToken::new(), TaskTracker::new());
        let gates = Gates::open(&config.calls.limits, place, &own, &stop);
        let library = children.library().clone();
        let means = Means { line: Some(line.clone()), protocols, children, gates };
        let hands = Hands { stop, own, ..Hands::new(means, handle) };
        Self { hands, line, library, listening, teller }
    }
}

impl World for Caller {
    fn begin(&mut self, id: String, origin: Origin, effect: Effect) {
        if let Effect::Stop { task, .. } = &effect {
            // When the other end is gone, the shard is about to go too.
            let _ = self.listening.send(Told::Stopped((Id::of(&id), *task)));
        }
        self.hands.begin(id, origin, effect);
    }

    fn listen(&mut self, listener: Listener) {
        // As above.
        let _ = self.listening.send(Told::Listens(listener));
    }

    fn tell(&mut self, sequence: u64, happened: Happened) {
        self.teller.tell((sequence, happened));
    }

    fn archive(&mut self, record: Arc<Finished>, children: Vec<String>) {
        let (line, released) = (self.line.clone(), self.hands.release(children));
        let (handle, published) = (self.hands.handle.clone(), self.teller.published());
        self.hands.spawn(async move {
            // The log forgets an instance once this is told: by then its children must know, and whoever listens.
            released.await;
            store(&line, &record).await;
            if published.await {
                handle.tell(Input::Archived { id: record.id.clone() }).await;
            }
        });
    }

    fn is_behind(&self) -> bool {
        self.teller.is_behind()
    }

    fn told(&self) -> impl Future<Output = bool> + Send + 'static {
        let published = self.hands.stop.clone().run_until_cancelled_owned(self.teller.published());
        published.map(|told| told.unwrap_or(false))
    }

    fn cancel(&mut self, children: Vec<String>) {
        self.hands.cancel(children);
    }

    fn limits(&self) -> Vec<CallLimit> {
        self.hands.means.gates.standing().collect()
    }

    fn draw(&self, state: &State, exported: &mut Exported) {
        let tracer = self.line.bus.tracer();
        if tracer.is_on() {
            spans::export(tracer, state, exported);
        }
    }

    async fn definition(&self, digest: &str) -> Result<Option<Compiled>, Error> {
        self.library.compiled(digest).await
    }

    fn settled(&self) -> impl Future<Output = ()> + Send + 'static {
        self.hands.settled()
    }

    async fn stop(&self) {
        self.hands.stop().await;
    }
}

impl Hands {
    pub(crate) fn new(means: Means, handle: Handle) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (means, own) = (Arc::new(means), TaskTracker::new());
        Self { means, handle, stop, tasks, own, in_flight: InFlight::default() }
    }

    /// Ends once everything begun has come to an end by itself.
    pub(crate) fn settled(&self) -> impl Future<Output = ()> + Send + 'static {
        let tasks = self.tasks.clone();
        async move {
            tasks.close();
            tasks.wait().await;
        }
    }

    /// Begins a call or an event, or stops one that is not needed any more.
    pub(crate) fn begin(&mut self, id: String, origin: Origin, effect: Effect) {
        if let Effect::Stop { task, attempt } = effect {
            return self.end(&id, task, attempt);
        }
        if let Effect::Recall { task, attempt, command } = effect {
            return self.recall(id, (task, attempt), command);
        }
        let Some(begun) = Begun::of(&effect) else { return };
        let (means, handle, instance) = (self.means.clone(), self.handle.clone(), id.clone());
        let work = self.spawn(async move {
            if let Effect::Listen { task, attempt, source, .. } = effect {
                let outcome = Box::pin(means.listen(&handle, (&id, task, attempt), &source)).await;
                return handle.tell(Input::Reply { id, task, attempt, outcome }).await;
            }
            // Held until there is an answer, or word that it comes later.
            let _pass = match means.gates.enter(&id, &effect) {
                Some(turn) => Box::pin(turn).await,
                None => None,
            };
            match means.carry_out(&origin, effect).await {
                Some((task, attempt, Heard::Answer(outcome))) => {
                    handle.tell(Input::Reply { id, task, attempt, outcome }).await;
                }
                Some((task, attempt, Heard::Accepted(terms))) => {
                    handle.tell(Input::Accepted { id, task, attempt, terms }).await;
                }
                None => {}
            }
        });
        self.in_flight.note(instance, begun, work);
    }

    /// Runs `work` and tells the shard what it yields, unless everything stops before.
    pub(crate) fn spawn_told(&self, work: impl Future<Output = Input> + Send + 'static) {
        let handle = self.handle.clone();
        self.spawn(work.then(async move |told| handle.tell(told).await));
    }

    /// Runs `work`, unless everything stops before.
    ///
    /// Boxed, because every layer around a future moves it; and not through a block that awaits it, which would have room
    /// for it twice.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(Box::pin(work))).abort_handle()
    }

    /// Lets go of everything begun and returns when nothing runs any more.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        for tasks in [&self.tasks, &self.own] {
            tasks.close();
            tasks.wait().await;
        }
    }

    /// Drops a call, which tells the other side where the protocol can; a child is cancelled.
    fn end(&mut self, id: &str, task: TaskId, attempt: u32) {
        let Some(child) = self.in_flight.stop(id, task, attempt) else { return };
        let means = self.means.clone();
        self.spawn(async move { means.children.cancel(&child).await });
    }

    /// Tells whoever took work on that nobody waits for it, and takes a command back that nobody took.
    fn recall(&self, id: String, attempt: (TaskId, u32), command: bool) {
        let means = self.means.clone();
        self.spawn(async move {
            let Some(line) = &means.line else { return };
            line.withdraw(&id, attempt).await;
            if command {
                line.recall(&id, attempt).await;
            }
        });
    }

    /// Cancels children that nobody waits for.
    pub(crate) fn cancel(&self, children: Vec<String>) {
        let means = self.means.clone();
        self.spawn(async move {
            for child in children {
                means.children.cancel(&child).await;
            }
        });
    }

    /// Lets the children of an ended instance go.
    pub(crate) fn release(&self, children: Vec<String>) -> impl Future<Output = ()> + Send + use<> {
        let means = self.means.clone();
        async move {
            for child in children {
                // Boxed: most instances have none, and their ends need no room for it.
                Box::pin(means.children.release(&child)).await;
            }
        }
    }
}

impl Means {
    /// Carries out one effect; `None` for those that are somebody else's.
    ///
    /// Everything but a call to an operation is boxed: each effect in flight would have to carry the room for it.
    async fn carry_out(&self, origin: &Origin, effect: Effect) -> Option<Answered> {
        match effect {
            Effect::Call { task, attempt, ref target, .. } => {
                let heard = match target {
                    Target::Operation(_) => self.ask(origin, &effect).await,
                    Target::Protocol(protocol) => {
                        self.held().await;
                        Heard::Answer(Box::pin(self.reach(origin, *protocol, &effect)).await)
                    }
                    Target::Workflow(child) => {
                        self.held().await;
                        Heard::Answer(Box::pin(self.children.ask(origin, child, &effect)).await)
                    }
                };
                Some((task, attempt, heard))
            }
            Effect::Emit { task, attempt, id, event } => {
                let outcome = match &self.line {
                    Some(line) => Box::pin(line.emit(origin, &id, &event)).await,
                    None => Outcome::Completed(serde_json::Value::Null),
                };
                Some((task, attempt, Heard::Answer(outcome)))
            }
            Effect::Timer { .. } | Effect::Listen { .. } | Effect::Stop { .. } | Effect::Recall { .. } => {
                None
            }
        }
    }

    async fn held(&self) {
        if let Some(line) = &self.line {
            line.held().await;
        }
    }

    /// Hands in what a protocol has to say until it has no more.
    async fn listen(
        &self,
        handle: &Handle,
        (id, task, attempt): (&str, TaskId, u32),
        source: &Source,
    ) -> Outcome {
        let Source::Protocol { protocol, arguments } = source else {
            return Outcome::NotSent(Fault::configuration("this is no subscription"));
        };
        let mut messages = match self.protocols.subscribe(*protocol, arguments, SUBSCRIBE).await {
            Ok(messages) => messages,
            Err(fault) => return Outcome::NotSent(*fault),
        };
        while let Some(message) = messages.next().await {
            match message {
                Ok(Overheard { message, identity }) => {
                    let (id, event) = (id.to_owned(), Arc::new(message));
                    handle.tell(Input::Event { id, task, attempt, event, origin: identity }).await;
                }
                Err(fault) => return Outcome::Unknown(*fault),
            }
        }
        Outcome::Completed(serde_json::Value::Null)
    }

    async fn ask(&self, origin: &Origin, effect: &Effect) -> Heard {
        let Effect::Call {
            task,
            target: Target::Operation(target),
            key,
            forward_key,
            body,
            headers,
            command,
            ..
        } = effect
        else {
            return Heard::Answer(Outcome::NotSent(Fault::configuration("this is no operation")));
        };
        let Some(line) = &self.line else { return Heard::Answer(Outcome::NotSent(no_bus(target))) };
        let (limit, attempt) = limits(effect);
        let forward_key = forward_key.as_deref();
        let call = Outgoing { task: *task, key, forward_key, target, body, headers, limit, attempt };
        if *command { Box::pin(line.command(origin, call)).await } else { line.call(origin, call).await }
    }

    async fn reach(&self, origin: &Origin, protocol: Protocol, effect: &Effect) -> Outcome {
        let Effect::Call { key, body, .. } = effect else {
            return Outcome::NotSent(Fault::configuration("this is no call"));
        };
        let (limit, attempt) = limits(effect);
        let tracer = self.line.as_ref().map(|line| line.bus.tracer());
        let context = origin.context(tracer, key, attempt).map(|context| context.to_string());
        let call = Call { protocol, arguments: body, key, attempt, limit, traceparent: context.as_deref() };
        match tokio::time::timeout(limit.saturating_add(GRACE), self.protocols.call(call)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unknown(timeout(&format!("`{protocol}` did not answer in {limit:?}"))),
        }
    }
}

/// Stores the history of an ended instance, however long it takes.
async fn store(line: &Line, record: &Finished) {
    while let Err(error) = record.store(&line.bus).await {
        tracing::debug!(%error, instance = record.id, "the history is not stored yet");
        tokio::time::sleep(AGAIN).await;
    }
}

fn limits(effect: &Effect) -> (Duration, u32) {
    match effect {
        Effect::Call { timeout_ms, attempt, .. } => (Duration::from_millis(*timeout_ms), *attempt),
        _ => (Duration::ZERO, 0),
    }
}

fn no_bus(target: &sinew_workflow::Operation) -> Fault {
    let detail = format!(
        "{target} is an operation on the bus, and there is none here: name one with --nats-url, such as that \
         of `sinew dev`"
    );
    fault(503, "there is no bus", "bus-down", &detail)
}

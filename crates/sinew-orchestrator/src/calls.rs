//! What leaves the orchestrator: calls, events, history. Of each effect the shard is told what came of it; what has to be
//! stopped is found again by instance and task.

mod bus;
mod child;
mod command;
mod crew;
mod gate;
mod under_way;

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use sinew::{Error, workflow::CallLimit};
use sinew_protocols::{Call, Heard as Overheard, Protocols};
use sinew_workflow::{Effect, Fault, Outcome, Protocol, Source, State, Target, TaskId};
use tokio::{
    sync::{mpsc, watch},
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
use crew::Crew;
pub(crate) use gate::Gates;
use under_way::Name;

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

/// What carries effects out.
pub(crate) struct Hands {
    means: Arc<Means>,
    handle: Handle,
    crew: Crew,
    stop: CancellationToken,
    tasks: TaskTracker,
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
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let gates = Gates::open(&config.calls.limits, place, &tasks, &stop);
        let library = children.library().clone();
        let means = Means { line: Some(line.clone()), protocols, children, gates };
        let hands = Hands::with(means, handle, stop, tasks);
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
        let published = self.teller.published();
        self.hands.aside(async move {
            // The log forgets an instance once this is told: by then its children must know, and whoever listens.
            released.await;
            store(&line, &record).await;
            published.await.then(|| Input::Archived { id: record.id.clone() })
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
        Self::with(means, handle, CancellationToken::new(), TaskTracker::new())
    }

    fn with(means: Means, handle: Handle, stop: CancellationToken, tasks: TaskTracker) -> Self {
        let means = Arc::new(means);
        let crew = Crew::start(means.clone(), handle.clone(), &tasks, &stop);
        Self { means, handle, crew, stop, tasks }
    }

    /// Ends once everything begun has come to an end by itself.
    pub(crate) fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        self.crew.settled()
    }

    /// Begins a call or an event, or stops one that is not needed any more.
    pub(crate) fn begin(&mut self, id: String, origin: Origin, effect: Effect) {
        if let Effect::Stop { task, attempt } = effect {
            return self.crew.stop(id, task, attempt);
        }
        if let Effect::Recall { task, attempt, command } = effect {
            return self.recall(id, (task, attempt), command);
        }
        let Some(name) = Name::of(&id, &effect) else { return };
        let (means, handle) = (self.means.clone(), self.handle.clone());
        let work = match effect {
            Effect::Listen { task, attempt, source, .. } => self.crew.task(Box::pin(async move {
                let outcome = means.listen(&handle, (&id, task, attempt), &source).await;
                Some(Input::Reply { id, task, attempt, outcome })
            })),
            Effect::Call { target: Target::Protocol(_), .. } => {
                self.crew.task(Box::pin(means.answer(id, origin, effect)))
            }
            effect => Box::pin(means.answer(id, origin, effect)),
        };
        self.crew.begin(name, work);
    }

    /// Does `work`, and tells the shard what it yields, unless everything stops before.
    pub(crate) fn aside(&self, work: impl Future<Output = Option<Input>> + Send + 'static) {
        self.crew.aside(Box::pin(work));
    }

    /// Lets go of everything begun and returns when nothing runs any more.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Tells whoever took work on that nobody waits for it, and takes a command back that nobody took.
    fn recall(&self, id: String, attempt: (TaskId, u32), command: bool) {
        let means = self.means.clone();
        self.aside(async move {
            let line = means.line.as_ref()?;
            line.withdraw(&id, attempt).await;
            if command {
                line.recall(&id, attempt).await;
            }
            None
        });
    }

    /// Cancels children that nobody waits for.
    pub(crate) fn cancel(&self, children: Vec<String>) {
        let means = self.means.clone();
        self.aside(async move {
            for child in children {
                means.children.cancel(&child).await;
            }
            None
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
    /// Carries an effect out, and says what the shard is to be told.
    async fn answer(self: Arc<Self>, id: String, origin: Origin, effect: Effect) -> Option<Input> {
        // Held until there is an answer, or word that it comes later.
        let _pass = match self.gates.enter(&id, &effect) {
            Some(turn) => Box::pin(turn).await,
            None => None,
        };
        Some(match self.carry_out(&origin, effect).await? {
            (task, attempt, Heard::Answer(outcome)) => Input::Reply { id, task, attempt, outcome },
            (task, attempt, Heard::Accepted(terms)) => Input::Accepted { id, task, attempt, terms },
        })
    }

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

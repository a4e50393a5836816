//! What instances of this process want done: the same calls as on the bus, events without one, no history.

use std::sync::Arc;

use serde_json::Value;
use sinew_workflow::{Effect, Outcome, Source, State};
use tokio::sync::mpsc;

use super::events::{Listener, Listening};
use crate::{
    calls::{Hands, Means},
    history::HistoryRecord,
    library::Library,
    shard::{Compiled, Handle, Input, World},
    spans::{Exported, Origin},
};

/// The world of a shard that has no bus of its own.
pub(super) struct InProcess {
    hands: Hands,
    library: Library,
    events: mpsc::Sender<Arc<Value>>,
    /// Not bounded: an instance listens at most as often as it has tasks, and those are bounded.
    listening: mpsc::UnboundedSender<Listening>,
    on_bus: bool,
}

impl InProcess {
    pub(super) fn new(
        means: Means,
        handle: Handle,
        events: mpsc::Sender<Arc<Value>>,
        listening: mpsc::UnboundedSender<Listening>,
    ) -> Self {
        let (library, on_bus) = (means.children.library().clone(), means.line.is_some());
        Self { hands: Hands::new(means, handle), library, events, listening, on_bus }
    }

    /// Hands an event to those who listen here; without a bus it then counts as published.
    fn emit(&mut self, id: String, origin: Origin, effect: Effect) {
        let Effect::Emit { task, attempt, event, .. } = &effect else { return };
        let (events, event, task, attempt) = (self.events.clone(), event.clone(), *task, *attempt);
        if self.on_bus {
            self.hands.spawn(async move { drop(events.send(event).await) });
            return self.hands.begin(id, origin, effect);
        }
        self.hands.spawn_told(async move {
            // The other end goes only when all of this does.
            let _ = events.send(event).await;
            Input::Reply { id, task, attempt, outcome: Outcome::Completed(Value::Null) }
        });
    }

    fn tell_listening(&self, told: Listening) {
        // As above.
        let _ = self.listening.send(told);
    }
}

impl World for InProcess {
    fn begin(&mut self, id: String, origin: Origin, effect: Effect) {
        match effect {
            Effect::Listen { task, attempt, source: Source::Bus(wanted) } => {
                self.tell_listening(Listening::Begins(Listener { id, task, attempt, wanted }));
            }
            Effect::Listen { source: Source::Protocol { .. }, .. } => self.hands.begin(id, origin, effect),
            Effect::Timer { .. } | Effect::Recall { .. } => {}
            Effect::Emit { .. } => self.emit(id, origin, effect),
            Effect::Stop { task, attempt } => {
                self.tell_listening(Listening::Ends { id: id.clone(), task });
                self.hands.begin(id, origin, Effect::Stop { task, attempt });
            }
            Effect::Call { .. } => self.hands.begin(id, origin, effect),
        }
    }

    fn archive(&mut self, record: Arc<HistoryRecord>, children: Vec<String>) {
        let (id, released) = (record.id().to_owned(), self.hands.release(children));
        self.tell_listening(Listening::Closed { id: id.clone() });
        self.hands.spawn_told(async move {
            released.await;
            Input::Archived { id }
        });
    }

    fn cancel(&mut self, children: Vec<String>) {
        self.hands.cancel(children);
    }

    fn draw(&self, _: &State, _: &mut Exported) {}

    async fn definition(&self, digest: &str) -> Result<Option<Compiled>, sinew::Error> {
        self.library.compiled(digest).await
    }

    fn settled(&self) -> impl Future<Output = ()> + Send + 'static {
        // Nobody takes over, so nothing is worth waiting for.
        std::future::ready(())
    }

    async fn stop(&self) {
        self.hands.stop().await;
    }
}

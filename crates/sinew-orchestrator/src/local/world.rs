//! What instances of this process want done: the same calls as on the bus, events without one, no history.

use std::sync::Arc;

use serde_json::Value;
use sinew_workflow::{Effect, Fault, Outcome, Protocol, State, Target, TaskId};
use tokio::sync::mpsc;

use super::{events::Listening, people::Question};
use crate::{
    calls::{Hands, Means},
    history::Finished,
    library::Library,
    listen::Listener,
    shard::{Compiled, Handle, Input, World},
    spans::{Exported, Origin},
};

/// The world of a shard that has no bus of its own.
pub(super) struct InProcess {
    hands: Hands,
    library: Library,
    tells: Tells,
    on_bus: bool,
}

/// Who is told what happens here. What is not bounded grows with the tasks that wait, and those are bounded.
pub(super) struct Tells {
    pub(super) events: mpsc::Sender<Arc<Value>>,
    pub(super) listening: mpsc::UnboundedSender<Listening>,
    pub(super) people: Option<mpsc::UnboundedSender<Question>>,
}

impl InProcess {
    pub(super) fn new(means: Means, handle: Handle, tells: Tells) -> Self {
        let (library, on_bus) = (means.children.library().clone(), means.line.is_some());
        Self { hands: Hands::new(means, handle), library, tells, on_bus }
    }

    /// Asks people, or says that there are none.
    fn ask(&self, id: String, (task, attempt): (TaskId, u32), key: &str, arguments: Value) {
        // A key is the instance, the task's pointer, and which iteration it is.
        let pointer = key.strip_prefix(&id).unwrap_or(key).split('#').next().unwrap_or_default().to_owned();
        let name = pointer.rsplit('/').next().unwrap_or_default().to_owned();
        let question = Question { instance: id.clone(), name, pointer, arguments, task, attempt };
        if self.tells.people.as_ref().is_some_and(|people| people.send(question).is_ok()) {
            return;
        }
        let fault = Fault::configuration("nobody is here to be asked: run it where somebody is");
        let outcome = Outcome::NotSent(fault);
        self.hands.aside(async move { Some(Input::Reply { id, task, attempt, outcome }) });
    }

    /// Hands an event to those who listen here; without a bus it then counts as published.
    fn emit(&mut self, id: String, origin: Origin, effect: Effect) {
        let Effect::Emit { task, attempt, event, .. } = &effect else { return };
        let (events, event, task, attempt) = (self.tells.events.clone(), event.clone(), *task, *attempt);
        if self.on_bus {
            self.hands.aside(async move { events.send(event).await.ok().and(None) });
            return self.hands.begin(id, origin, effect);
        }
        self.hands.aside(async move {
            // The other end goes only when all of this does.
            let _ = events.send(event).await;
            Some(Input::Reply { id, task, attempt, outcome: Outcome::Completed(Value::Null) })
        });
    }

    fn tell_listening(&self, told: Listening) {
        // As above.
        let _ = self.tells.listening.send(told);
    }
}

impl World for InProcess {
    fn begin(&mut self, id: String, origin: Origin, effect: Effect) {
        match effect {
            Effect::Timer { .. } | Effect::Recall { .. } => {}
            Effect::Emit { .. } => self.emit(id, origin, effect),
            Effect::Stop { task, attempt } => {
                self.tell_listening(Listening::Ends { id: id.clone(), task });
                self.hands.begin(id, origin, Effect::Stop { task, attempt });
            }
            Effect::Call {
                task,
                attempt,
                ref key,
                ref body,
                target: Target::Protocol(Protocol::Human),
                ..
            } => {
                self.ask(id, (task, attempt), key, Value::clone(body));
            }
            Effect::Call { .. } | Effect::Listen { .. } => self.hands.begin(id, origin, effect),
        }
    }

    fn listen(&mut self, listener: Listener) {
        self.tell_listening(Listening::Begins(listener));
    }

    fn archive(&mut self, record: Arc<Finished>, children: Vec<String>) {
        let (id, released) = (record.id.clone(), self.hands.release(children));
        self.tell_listening(Listening::Closed { id: id.clone() });
        self.hands.aside(async move {
            released.await;
            Some(Input::Archived { id })
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

//! A definition ready to run: tasks with their expressions compiled and their names resolved.

mod events;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::jq::Expression;
use super::schema::Schema;
use super::template::Template;
use crate::{Schedule, Target};
pub(crate) use events::{
    Correlate, EventFilter, Events, Foreach, From, Listen, Mode, Read, Subscription, Until, Wants,
};

/// All tasks of a definition. A function is planned once per call, so that every task has a pointer of its own.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) tasks: Vec<Task>,
    pub(crate) by_pointer: HashMap<Arc<str>, Id>,
    pub(crate) body: Vec<Id>,
    pub(crate) input: Filter,
    pub(crate) output: Filter,
    pub(crate) timeout: Option<Length>,
    pub(crate) saga: SagaPolicy,
    /// The events that start instances, and what of them becomes the input.
    pub(crate) trigger: Option<(Events, Read)>,
    pub(crate) schedule: Option<Schedule>,
}

/// A task of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub(crate) u32);

#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) name: Arc<str>,
    pub(crate) pointer: Arc<str>,
    /// What it does, in the word of the language.
    pub(crate) keyword: Arc<str>,
    pub(crate) definition: Arc<Value>,
    pub(crate) condition: Option<Expression>,
    pub(crate) input: Filter,
    pub(crate) output: Filter,
    pub(crate) export: Filter,
    pub(crate) timeout: Option<Length>,
    pub(crate) then: Then,
    pub(crate) compensate: Option<Id>,
    pub(crate) pivot: bool,
    pub(crate) key: Option<Expression>,
    /// Which task this is woven around, if it belongs to an extension.
    pub(crate) extends: Option<Extends>,
    pub(crate) kind: Kind,
}

/// What a task of an extension knows of the task it extends.
#[derive(Clone, Debug)]
pub(crate) struct Extends {
    pub(crate) task: Id,
    /// The pointer of the two together.
    pub(crate) around: Arc<str>,
    pub(crate) after: bool,
}

/// What data passes on its way into or out of something.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) schema: Option<Schema>,
    pub(crate) transform: Option<Template>,
}

/// What happens after a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Then {
    #[default]
    Continue,
    Exit,
    End,
    /// Go to this position of the same list.
    To(usize),
}

#[derive(Debug)]
pub(crate) enum Kind {
    Do(Vec<Id>),
    Call(Box<Call>),
    /// `call: human`, and what the decision must look like.
    Human(Box<Call>, Option<Schema>),
    Listen(Box<Listen>),
    Function {
        arguments: Option<Template>,
        body: Id,
    },
    /// `call: saga.compensate`: undo what was done so far, and end.
    Compensate,
    Set(Template),
    Switch(Vec<Case>),
    Try(Box<Try>),
    Raise(Box<Raise>),
    Wait(Length),
    Emit(Template),
    For(Box<For>),
    Fork {
        branches: Vec<Id>,
        compete: bool,
    },
    Extended(Box<Extended>),
    Extension(Extension),
    /// Part of the language, but not of this engine yet.
    Foreign,
}

/// A task with extensions around it.
#[derive(Debug)]
pub(crate) struct Extended {
    /// The extensions before it, the task, and the extensions after it.
    pub(crate) parts: Vec<Id>,
    pub(crate) body: Id,
    /// Where the task leads when it does not decide that itself.
    pub(crate) then: Then,
}

/// The tasks of one extension, before or after a task.
#[derive(Debug)]
pub(crate) struct Extension {
    pub(crate) body: Vec<Id>,
}

/// A call of an operation on the bus, or of somebody outside.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) target: Target,
    pub(crate) subject: Option<Template>,
    pub(crate) body: Option<Template>,
    pub(crate) headers: Option<Template>,
    pub(crate) timeout: Option<Length>,
    /// How long it may take when nothing says otherwise, in milliseconds.
    pub(crate) limit: u64,
    pub(crate) command: bool,
    /// Whether the reply is the output; otherwise that is the input.
    pub(crate) wait: bool,
    /// The scheme the request is authorized by, if any.
    pub(crate) authorization: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: Arc<str>,
    pub(crate) when: Option<Expression>,
    pub(crate) then: Then,
}

#[derive(Debug)]
pub(crate) struct Try {
    pub(crate) body: Vec<Id>,
    pub(crate) errors: ErrorFilter,
    /// The variable the error is bound to.
    pub(crate) bind: String,
    pub(crate) when: Option<Expression>,
    pub(crate) except_when: Option<Expression>,
    pub(crate) retry: Option<Retry>,
    pub(crate) handler: Option<Vec<Id>>,
    pub(crate) then: Option<Then>,
}

/// Which errors a `catch` is for. What is absent matches anything.
#[derive(Debug, Default)]
pub(crate) struct ErrorFilter {
    pub(crate) r#type: Option<String>,
    pub(crate) status: Option<i64>,
    pub(crate) instance: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) detail: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Retry {
    pub(crate) when: Option<Expression>,
    pub(crate) except_when: Option<Expression>,
    pub(crate) delay: Length,
    pub(crate) backoff: Backoff,
    /// The longest delay.
    pub(crate) max: Option<Length>,
    pub(crate) jitter: Option<(Length, Length)>,
    /// How often to try again.
    pub(crate) count: Option<u32>,
    /// How long to try again, from the first failure's start.
    pub(crate) duration: Option<Length>,
    /// How long one attempt may take.
    pub(crate) attempt: Option<Length>,
}

#[derive(Clone, Debug)]
pub(crate) enum Backoff {
    Constant,
    /// The delay grows by this each time; by itself when absent.
    Linear(Option<Length>),
    Exponential(f64),
}

#[derive(Debug)]
pub(crate) struct Raise {
    pub(crate) r#type: Template,
    pub(crate) status: Template,
    pub(crate) title: Option<Template>,
    pub(crate) detail: Option<Template>,
    pub(crate) instance: Option<Template>,
}

#[derive(Debug)]
pub(crate) struct For {
    pub(crate) each: String,
    pub(crate) at: String,
    pub(crate) items: Template,
    pub(crate) condition: Option<Expression>,
    pub(crate) body: Vec<Id>,
}

/// A length of time in milliseconds, known or computed.
#[derive(Clone, Debug)]
pub(crate) enum Length {
    Fixed(u64),
    Computed(Expression),
}

/// How a saga is undone.
#[derive(Debug)]
pub(crate) struct SagaPolicy {
    pub(crate) on_fault: bool,
    pub(crate) on_timeout: bool,
    pub(crate) on_cancel: bool,
    pub(crate) parallel: bool,
    pub(crate) park: bool,
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<Length>,
}

impl Plan {
    pub(crate) fn task(&self, id: Id) -> Option<&Task> {
        self.tasks.get(usize::try_from(id.0).ok()?)
    }

    pub(crate) fn find(&self, pointer: &str) -> Option<(Id, &Task)> {
        let id = *self.by_pointer.get(pointer)?;
        Some((id, self.task(id)?))
    }

    /// Says whether anything in it is undone or commits.
    pub(crate) fn is_saga(&self) -> bool {
        self.tasks.iter().any(|task| task.compensate.is_some() || task.pivot)
    }
}

impl Task {
    /// Makes a task of which only the kind matters.
    pub(crate) fn plain(name: Arc<str>, pointer: Arc<str>, keyword: &str, kind: Kind) -> Self {
        Self {
            name,
            pointer,
            keyword: keyword.into(),
            definition: Arc::default(),
            condition: None,
            input: Filter::default(),
            output: Filter::default(),
            export: Filter::default(),
            timeout: None,
            then: Then::Continue,
            compensate: None,
            pivot: false,
            key: None,
            extends: None,
            kind,
        }
    }
}

impl Call {
    /// How long an operation may take when nothing says otherwise, in milliseconds.
    const LIMIT: u64 = 30_000;
    /// The same for a command, which waits until somebody is there.
    pub(crate) const COMMAND_LIMIT: u64 = 24 * 3_600 * 1_000;

    pub(crate) fn to(target: Target) -> Self {
        Self {
            target,
            subject: None,
            body: None,
            headers: None,
            timeout: None,
            limit: Self::LIMIT,
            command: false,
            wait: true,
            authorization: None,
        }
    }
}

impl Default for SagaPolicy {
    fn default() -> Self {
        let (on_fault, on_timeout, on_cancel) = (true, true, true);
        Self {
            on_fault,
            on_timeout,
            on_cancel,
            parallel: false,
            park: true,
            retry: Retry::of_compensations(),
            timeout: None,
        }
    }
}

impl Retry {
    /// The policy of compensations that name none: from a second to five minutes apart, for a day.
    pub(crate) fn of_compensations() -> Self {
        Self {
            when: None,
            except_when: None,
            delay: Length::Fixed(1_000),
            backoff: Backoff::Exponential(2.0),
            max: Some(Length::Fixed(5 * 60 * 1_000)),
            jitter: None,
            count: None,
            duration: Some(Length::Fixed(24 * 60 * 60 * 1_000)),
            attempt: None,
        }
    }
}

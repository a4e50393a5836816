//! What an instance wants done in the world. Derived from the state, so recovery asks for the same things.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{TaskId, Timestamp};

/// Something to do on behalf of an instance, once the entries that caused it are durable.
///
/// Doing one twice must be harmless: a call repeats its key and attempt, an event its id.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Call an operation and answer with [`Input::Reply`](crate::Input::Reply).
    Call {
        /// The task to answer.
        task: TaskId,
        /// The attempt to answer, from 1.
        attempt: u32,
        /// The idempotency key.
        key: Arc<str>,
        /// On an undo, the key of the call it undoes.
        forward_key: Option<Arc<str>>,
        /// Who is asked to do what.
        target: Target,
        /// The request. For a [`Target::Protocol`] the arguments of the task as the specification writes them, with
        /// their expressions computed.
        body: Arc<Value>,
        /// Headers to send along.
        headers: BTreeMap<String, String>,
        /// How long to wait, in milliseconds, before answering that the outcome is unknown; `u64::MAX` when nothing but
        /// a [`Stop`](Self::Stop) ends it, as with people and children.
        timeout_ms: u64,
        /// Whether to deliver through a durable work stream instead of request and reply.
        command: bool,
        /// The name of the step, for people.
        name: Arc<str>,
        /// Whether this undoes an earlier call.
        undo: bool,
    },
    /// Publish an event and answer with [`Input::Reply`](crate::Input::Reply) once it is stored.
    Emit {
        /// The task to answer.
        task: TaskId,
        /// The attempt to answer, from 1.
        attempt: u32,
        /// The event id, the same each time.
        id: String,
        /// The CloudEvent: its attributes and its `data`.
        event: Arc<Value>,
    },
    /// Hand in each matching event as [`Input::Event`](crate::Input::Event), until a [`Stop`](Self::Stop) for the task.
    ///
    /// A source that cannot be listened to is answered by a [`Reply`](crate::Input::Reply) with a fault, one that came to
    /// its end by a completed one: the task then goes on with what it heard.
    Listen {
        /// The task to answer.
        task: TaskId,
        /// The attempt to answer, from 1.
        attempt: u32,
        /// Where the events come from.
        source: Source,
        /// From where on they count.
        since: Since,
    },
    /// What was begun for this attempt is not needed any more. Ignoring it wastes work and harms nothing, except for a
    /// child, which is to be cancelled.
    ///
    /// Not part of [`State::due`](crate::State::due): after a recovery nothing is left that could be stopped. A host whose
    /// children outlive it asks [`State::awaits`](crate::State::awaits) of their parents instead.
    Stop {
        /// The task whose effect it was.
        task: TaskId,
        /// Its attempt.
        attempt: u32,
    },
    /// Tell whoever took the work of this attempt on, to be finished later, that nobody waits for it any more; and take
    /// back the command that was left for it, unless somebody has taken that. Comes behind a [`Stop`](Self::Stop), and
    /// like that is no part of [`State::due`](crate::State::due).
    Recall {
        /// The task whose effect it was.
        task: TaskId,
        /// Its attempt.
        attempt: u32,
        /// Whether it was left as a command.
        command: bool,
    },
    /// Answer with [`Input::Timer`](crate::Input::Timer) at the given moment, or as soon as possible after it.
    Timer {
        /// The task to answer.
        task: TaskId,
        /// The timer to answer, unique in the instance.
        timer: u32,
        /// When.
        at: Timestamp,
    },
}

/// What a call is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// An operation on the bus.
    Operation(Operation),
    /// Something the specification has a protocol for.
    Protocol(Protocol),
    /// A workflow to run as a child, or one that ran to undo: see [`Child`].
    Workflow(Child),
}

/// An operation on the bus.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Operation {
    /// The service, such as `inventory`.
    pub service: Arc<str>,
    /// The operation, such as `reserve`.
    pub operation: Arc<str>,
    /// A subject that replaces the one the catalogue knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
}

/// What the specification calls or runs, other than workflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// `call: http`
    Http,
    /// `call: openapi`
    OpenApi,
    /// `call: grpc`
    Grpc,
    /// `call: asyncapi`, to publish; its subscriptions are a [`Source`].
    AsyncApi,
    /// `call: mcp`
    Mcp,
    /// `call: a2a`
    A2a,
    /// `call: human`: a person decides.
    Human,
    /// `run: shell`
    Shell,
    /// `run: script`
    Script,
    /// `run: container`
    Container,
}

/// A workflow that runs as a child of this one.
///
/// What host and engine exchange about it:
///
/// - [`Verb::Run`]: start the child under an id derived from the call's `key`, with the `body` as its input, once however
///   often it is asked. With `wait` it starts by [`Input::StartChild`](crate::Input::StartChild), so that what it did can
///   still be undone when it has completed, and [`State::reply`](crate::State::reply) of the child is the answer. Without,
///   it is an instance like any other: it starts by [`Input::Start`](crate::Input::Start), being accepted is the answer,
///   and neither [`Effect::Stop`] nor undoing reach it.
/// - [`Effect::Stop`]: give the child [`Input::Cancel`](crate::Input::Cancel).
/// - [`Verb::Undo`]: give the child that ran under the call's `forward_key` [`Input::Undo`](crate::Input::Undo), and answer
///   with [`State::undone`](crate::State::undone) of it. A child that never started is undone, and must not start later.
/// - When the parent closes: give each of its [`State::children`](crate::State::children)
///   [`Input::Release`](crate::Input::Release). A host that finds a child waiting for that in a recovery asks its
///   [`State::parent`](crate::State::parent).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Child {
    /// The namespace of its definition.
    pub namespace: String,
    /// The name of its definition.
    pub name: String,
    /// The version of its definition; `latest` for the newest when the child starts.
    pub version: String,
    /// Whether the reply waits for its end; otherwise it is given once the start is accepted.
    pub wait: bool,
    /// What is asked of it.
    #[serde(default)]
    pub verb: Verb,
}

/// What is asked of a [`Child`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// To run.
    #[default]
    Run,
    /// To undo what it did, or to stop and undo it.
    Undo,
}

/// Where the events of an [`Effect::Listen`] come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The bus. An event that passes none of these need not be handed in; the engine has the last word on each.
    Bus(Vec<Wanted>),
    /// A subscription of a protocol, with its arguments computed.
    Protocol {
        /// Which.
        protocol: Protocol,
        /// The arguments of the task.
        arguments: Arc<Value>,
    },
}

/// What an event must have to be of interest: attributes the definition fixes, and correlation keys whose value was known
/// when the listening began. Nothing means any event.
///
/// A name that begins with a dot is a path into the event, such as `.data.order.id`, whose value is compared as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted(pub BTreeMap<String, String>);

/// Since when a task listens. A host may hand in what came before, back to the start of the instance; what the instance
/// has heard already, by its origin, is ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// When it began to listen.
    pub opened: Timestamp,
    /// When the instance started.
    pub started: Timestamp,
}

impl Wanted {
    /// Says whether an event has all of it.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    ///
    /// use serde_json::json;
    /// use sinew_workflow::Wanted;
    ///
    /// let wanted = [("type", "paid"), (".data.order", "7")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    /// let wanted = Wanted(BTreeMap::from(wanted));
    /// assert!(wanted.fits(&json!({ "type": "paid", "data": { "order": 7 } })));
    /// assert!(!wanted.fits(&json!({ "type": "paid", "data": { "order": 8 } })));
    /// ```
    #[must_use]
    pub fn fits(&self, event: &Value) -> bool {
        self.0.iter().all(|(name, wanted)| Self::found(name, event).is_some_and(|found| found == *wanted))
    }

    /// Returns what an event has under one of these names, as text: what hosts look interested tasks up by.
    #[must_use]
    pub fn found<'e>(name: &str, event: &'e Value) -> Option<Cow<'e, str>> {
        let found = match name.strip_prefix('.') {
            Some(path) => path.split('.').try_fold(event, |value, member| value.get(member))?,
            None => event.get(name)?,
        };
        match found {
            Value::Null => None,
            Value::String(text) => Some(Cow::Borrowed(text)),
            other => Some(Cow::Owned(other.to_string())),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.operation)
    }
}

impl Protocol {
    /// Returns the word of the language for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::OpenApi => "openapi",
            Self::Grpc => "grpc",
            Self::AsyncApi => "asyncapi",
            Self::Mcp => "mcp",
            Self::A2a => "a2a",
            Self::Human => "human",
            Self::Shell => "shell",
            Self::Script => "script",
            Self::Container => "container",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.verb == Verb::Undo { "undo " } else { "" };
        write!(f, "{verb}{}/{}@{}", self.namespace, self.name, self.version)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation(operation) => operation.fmt(f),
            Self::Protocol(protocol) => protocol.fmt(f),
            Self::Workflow(child) => child.fmt(f),
        }
    }
}

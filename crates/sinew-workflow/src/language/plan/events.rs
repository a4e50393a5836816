//! What a task or a schedule listens for.

use super::{Filter, Id, Length};
use crate::Protocol;
use crate::language::jq::Expression;
use crate::language::template::Template;

/// A task that listens, for events of the bus or for messages of a protocol.
#[derive(Debug)]
pub(crate) struct Listen {
    pub(crate) from: From,
    pub(crate) read: Read,
    pub(crate) each: Option<Foreach>,
}

#[derive(Debug)]
pub(crate) enum From {
    Bus(Events),
    Protocol(Box<Subscription>),
}

/// Which events are listened for, and until when.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) mode: Mode,
    /// None means any event.
    pub(crate) filters: Vec<EventFilter>,
    pub(crate) until: Until,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One event for each filter.
    All,
    /// Events that pass any of the filters.
    Any,
}

/// When listening to any events ends.
#[derive(Debug)]
pub(crate) enum Until {
    /// With the first.
    First,
    Never,
    /// When this holds for what was heard.
    Holds(Expression),
    /// When these were heard.
    Heard(Box<Events>),
}

/// What an event must be like. All of it must fit.
#[derive(Debug, Default)]
pub(crate) struct EventFilter {
    pub(crate) attributes: Vec<(String, Wants)>,
    pub(crate) correlate: Vec<Correlate>,
}

/// What a filter wants of an attribute.
#[derive(Debug)]
pub(crate) enum Wants {
    /// This text.
    Text(String),
    /// This text, or one that this expression says is like it.
    Pattern(String, Expression),
    /// What a variable holds when the listening begins.
    Variable(Expression),
    /// What this value says, with the attribute as `.`.
    Value(Template),
}

/// What events have in common.
#[derive(Debug)]
pub(crate) struct Correlate {
    pub(crate) key: String,
    pub(crate) from: Expression,
    /// Where it stands, when the expression is a path.
    pub(crate) path: Option<String>,
    /// Absent, the first event says.
    pub(crate) expect: Option<Template>,
}

/// How much of an event is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Read {
    #[default]
    Data,
    Envelope,
    Raw,
}

/// Tasks that run for each event.
#[derive(Debug)]
pub(crate) struct Foreach {
    pub(crate) item: String,
    pub(crate) at: String,
    pub(crate) body: Vec<Id>,
    pub(crate) output: Filter,
    pub(crate) export: Filter,
}

/// A subscription of a protocol, and how long it lasts.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) protocol: Protocol,
    pub(crate) arguments: Template,
    /// The scheme the subscription is authorized by, if any.
    pub(crate) authorization: Option<&'static str>,
    pub(crate) filter: Option<Expression>,
    pub(crate) amount: Option<u32>,
    pub(crate) lasts: Option<Length>,
    pub(crate) goes_on: Option<Expression>,
    pub(crate) until: Option<Expression>,
}

impl Events {
    /// Returns all filters in their numbering: those that end the listening after the others.
    pub(crate) fn all_filters(&self) -> impl Iterator<Item = &EventFilter> {
        let until = if let Until::Heard(events) = &self.until { &events.filters[..] } else { &[] };
        self.filters.iter().chain(until)
    }
}

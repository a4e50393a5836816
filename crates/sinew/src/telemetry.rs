//! Spans: recorded by whoever does the work, exported in batches by one task. Off costs one branch.
//!
//! Spans are values, not scopes: a workflow's spans are drawn from its log, with ids and times that were fixed long
//! before the span is sent, and a crashed replica's successor sends the very same span. That is why this is a recorder
//! and not a bridge from thread-local scopes.
//!
//! A span that ends is written into the bytes of the next export right there: no second representation, no queue of
//! objects, no task woken for each. That is what lets every call of a busy service be recorded.

mod export;
mod otlp;
mod post;
mod settings;

use std::{borrow::Cow, time::SystemTime};

use sinew_wire::{SpanId, TraceContext, TraceId};

pub use export::Tracer;

/// Attributes most spans have at most.
const ATTRIBUTES: usize = 4;

/// Which side of an exchange a span shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Answers a request.
    Server,
    /// Waits for an answer.
    Client,
    /// Publishes an event.
    Producer,
    /// Takes an event.
    Consumer,
    /// Neither.
    Internal,
}

/// A finished piece of work.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanRecord {
    /// Its own position: trace, span and flags.
    pub context: TraceContext,
    /// The span it is part of.
    pub parent: Option<SpanId>,
    /// Operation or step, never an id.
    pub name: Cow<'static, str>,
    /// Which side it shows.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What it was about.
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans it belongs with although they are no parents.
    pub links: Vec<TraceContext>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

/// A piece of work in progress.
#[derive(Debug)]
pub struct Span {
    record: Option<Box<SpanRecord>>,
    context: Option<TraceContext>,
    tracer: Tracer,
}

impl Tracer {
    /// Begins a span below `parent`, or a new trace. Without an exporter the parent's context is handed on as it is.
    /// The name is made only when the span is recorded.
    pub fn span<N: Into<Cow<'static, str>>>(
        &self,
        name: impl FnOnce() -> N,
        kind: SpanKind,
        parent: Option<TraceContext>,
    ) -> Span {
        if !self.is_on() {
            return Span { record: None, context: parent, tracer: self.clone() };
        }
        let context = match parent {
            Some(parent) => parent.with_span(new_span_id()),
            None => new_root(true),
        };
        if !context.is_sampled() {
            return Span { record: None, context: Some(context), tracer: self.clone() };
        }
        let now = SystemTime::now();
        let record = SpanRecord {
            context,
            parent: parent.map(|parent| parent.span),
            name: name().into(),
            kind,
            start: now,
            end: now,
            attributes: Vec::with_capacity(ATTRIBUTES),
            links: Vec::new(),
            error: None,
        };
        Span { record: Some(Box::new(record)), context: Some(context), tracer: self.clone() }
    }
}

impl Span {
    /// Returns the position that messages sent within this span carry.
    pub fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// Adds an attribute; the value is made only when the span is recorded.
    #[must_use]
    pub fn with<V: Into<Value>>(mut self, name: &'static str, value: impl FnOnce() -> V) -> Self {
        self.set(name, value);
        self
    }

    /// Adds an attribute; the value is made only when the span is recorded.
    pub fn set<V: Into<Value>>(&mut self, name: &'static str, value: impl FnOnce() -> V) {
        if let Some(record) = &mut self.record {
            record.attributes.push((name, value().into()));
        }
    }

    /// Adds a link to a span that belongs with this one although it is no parent.
    pub fn link(&mut self, to: TraceContext) {
        if let Some(record) = &mut self.record {
            record.links.push(to);
        }
    }

    /// Ends the span as failed.
    pub fn fail(mut self, error: impl Into<String>) {
        if let Some(record) = &mut self.record {
            record.error = Some(error.into());
        }
    }
}

/// A dropped span has ended: work that is cancelled still shows up.
impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.end = SystemTime::now();
            self.tracer.append(&record);
        }
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// Creates the context of a new trace. The span id is that of a caller nobody recorded.
pub fn new_root(sampled: bool) -> TraceContext {
    let trace = loop {
        let id = fastrand::u128(..);
        if id != 0 {
            break TraceId(id.to_be_bytes());
        }
    };
    TraceContext { trace, span: new_span_id(), flags: u8::from(sampled) }
}

/// Creates a span id.
pub fn new_span_id() -> SpanId {
    SpanId(fastrand::u64(1..).to_be_bytes())
}

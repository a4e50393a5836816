//! Spans: recorded by whoever does the work, exported in batches by one task. Off costs one branch.
//!
//! # How a span travels
//!
//! Spans are values, not scopes: a workflow's spans are drawn from its log, with ids and times that were fixed long
//! before the span is sent, and a crashed replica's successor sends the very same span. That is why this is a recorder
//! and not a bridge from thread-local scopes.
//!
//! 1. [`Tracer::span`] decides once: without an exporter, or in a trace that its root does not record, the [`Span`] is
//!    nothing but its caller's position, handed on as it came. Otherwise it gets an id and a small piece of memory, in
//!    which it is written from its first field on in the form in which it leaves (`otlp.rs`).
//! 2. What is said of it meanwhile is appended there: no second representation, no object per attribute.
//! 3. When it is dropped its end is written, and the piece is copied to the others that wait: one lock for as long as
//!    that takes, no task woken, unless it is the first or there are now enough for an export (`export.rs`).
//! 4. One task takes all that wait, puts before them who sends, and posts both as they are over a connection that stays
//!    open (`post.rs`). What does not fit into the 4 MiB that may wait is counted and lost, and the count is logged.

mod export;
mod otlp;
mod post;
mod settings;
mod span;

use std::{borrow::Cow, time::SystemTime};

use sinew_wire::{SpanId, TraceContext, TraceId};

pub use export::Tracer;
pub(crate) use span::Attributes;
pub use span::Span;

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
    pub attributes: Vec<(&'static str, Value<'static>)>,
    /// Spans it belongs with although they are no parents.
    pub links: Vec<TraceContext>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A number.
    Number(i64),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u32> for Value<'_> {
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

//! A span under way: written as it happens, in the form in which it leaves.

use std::{sync::LazyLock, time::SystemTime};

use sinew_wire::TraceContext;

use super::{SpanKind, Tracer, Value, new_root, new_span_id, otlp};

/// Room for what most spans have to say.
const ROOM: usize = 256;

/// What the span of every call says.
static CALL: LazyLock<Attributes> =
    LazyLock::new(|| [("rpc.system", "sinew"), ("messaging.system", "nats")].into_iter().collect());

/// A piece of work in progress.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span {
    context: Option<TraceContext>,
    record: Option<Record>,
}

/// What is written of a span so far, and where it goes.
#[derive(Debug)]
struct Record {
    text: Vec<u8>,
    start: SystemTime,
    tracer: Tracer,
}

/// Attributes that all spans of an operation have: written once, not for each.
#[derive(Debug)]
pub(crate) struct Attributes(Vec<u8>);

impl Tracer {
    /// Begins a span below `parent`, or a new trace. Without an exporter, or where the parent's trace is not recorded,
    /// the parent's context is handed on as it is. The name is made only when the span is recorded.
    pub fn span<N: AsRef<str>>(
        &self,
        name: impl FnOnce() -> N,
        kind: SpanKind,
        parent: Option<TraceContext>,
    ) -> Span {
        match self.records(parent) {
            true => self.begin(&[name().as_ref()], kind, parent),
            false => Span::unrecorded(parent),
        }
    }

    /// Begins the span of a call.
    pub(crate) fn call(&self, service: &str, operation: &str, parent: Option<TraceContext>) -> Span {
        self.operation(service, operation, SpanKind::Client, parent).with_all(&CALL)
    }

    /// As [`Tracer::span`], named after an operation.
    pub(crate) fn operation(
        &self,
        service: &str,
        operation: &str,
        kind: SpanKind,
        parent: Option<TraceContext>,
    ) -> Span {
        match self.records(parent) {
            true => self.begin(&[service, "/", operation], kind, parent),
            false => Span::unrecorded(parent),
        }
    }

    fn records(&self, parent: Option<TraceContext>) -> bool {
        self.is_on() && parent.is_none_or(|parent| parent.is_sampled())
    }

    fn begin(&self, name: &[&str], kind: SpanKind, parent: Option<TraceContext>) -> Span {
        let context = match parent {
            Some(parent) => parent.with_span(new_span_id()),
            None => new_root(true),
        };
        let (start, mut text) = (SystemTime::now(), Vec::with_capacity(ROOM));
        otlp::begin(&mut text, context, parent.map(|parent| parent.span), name, kind, start);
        Span { context: Some(context), record: Some(Record { text, start, tracer: self.clone() }) }
    }
}

impl Span {
    fn unrecorded(context: Option<TraceContext>) -> Self {
        Self { context, record: None }
    }

    /// Returns the position that messages sent within this span carry.
    pub fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// Adds an attribute; the value is made only when the span is recorded.
    pub fn with<'a, V: Into<Value<'a>>>(mut self, name: &'static str, value: impl FnOnce() -> V) -> Self {
        self.set(name, value);
        self
    }

    /// Adds attributes that were written before.
    pub(crate) fn with_all(mut self, attributes: &Attributes) -> Self {
        if let Some(record) = &mut self.record {
            record.text.extend_from_slice(&attributes.0);
        }
        self
    }

    /// Adds an attribute; the value is made only when the span is recorded.
    pub fn set<'a, V: Into<Value<'a>>>(&mut self, name: &'static str, value: impl FnOnce() -> V) {
        if let Some(record) = &mut self.record {
            otlp::attribute(&mut record.text, name, &value().into());
        }
    }

    /// Adds a link to a span that belongs with this one although it is no parent.
    pub fn link(&mut self, to: TraceContext) {
        if let Some(record) = &mut self.record {
            otlp::link(&mut record.text, &to);
        }
    }

    /// Ends the span as failed.
    pub fn fail(mut self, error: impl AsRef<str>) {
        if let Some(record) = &mut self.record {
            otlp::failure(&mut record.text, error.as_ref());
        }
    }
}

/// A dropped span has ended: work that is cancelled still shows up.
impl Drop for Span {
    fn drop(&mut self) {
        if let Some(Record { mut text, start, tracer }) = self.record.take() {
            otlp::end(&mut text, start, SystemTime::now());
            tracer.append(&text);
        }
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(attributes: I) -> Self {
        let mut text = Vec::new();
        for (name, value) in attributes {
            otlp::attribute(&mut text, name, &value.into());
        }
        Self(text)
    }
}

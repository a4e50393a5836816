//! Spans as the bytes of an OTLP export. Pure; knows the messages it writes and nothing of the rest of protobuf.
//!
//! Source: opentelemetry-proto 1.x, `trace.proto`, `common.proto`, `resource.proto`, and the protobuf encoding.
//! A span is written while it is under way: what is known at its beginning, then what is learnt, and at last its end;
//! protobuf takes the fields of a message in any order. What stands around the spans of one export has a length that is
//! only known then, so it is a preface of its own.

use std::time::{SystemTime, UNIX_EPOCH};

use sinew_wire::{SpanId, TraceContext};

use super::{SpanKind, SpanRecord, Value};

/// On a span and a link: it is known whether the other side is in another process, and it is.
const REMOTE: u32 = 0x300;
/// On a span: it is known, and it is not.
const LOCAL: u32 = 0x100;
const STATUS_ERROR: u64 = 2;

/// Writes what is known of a span when it begins; its name comes in parts.
pub(super) fn begin(
    out: &mut Vec<u8>,
    context: TraceContext,
    parent: Option<SpanId>,
    name: &[&str],
    kind: SpanKind,
    start: SystemTime,
) {
    head(out, 1, context.trace.0.len());
    out.extend_from_slice(&context.trace.0);
    head(out, 2, context.span.0.len());
    out.extend_from_slice(&context.span.0);
    if let Some(parent) = parent {
        head(out, 4, parent.0.len());
        out.extend_from_slice(&parent.0);
    }
    head(out, 5, name.iter().map(|part| part.len()).sum());
    for part in name {
        out.extend_from_slice(part.as_bytes());
    }
    number(out, 6, of_kind(kind));
    fixed64(out, 7, nanos(start));
    let above = if matches!(kind, SpanKind::Server | SpanKind::Consumer) { REMOTE } else { LOCAL };
    fixed32(out, 16, u32::from(context.flags) | above);
}

/// Writes an attribute of a span that has begun.
pub(super) fn attribute(out: &mut Vec<u8>, name: &str, value: &Value<'_>) {
    pair(out, 9, name, value);
}

/// Writes a link of a span that has begun.
pub(super) fn link(out: &mut Vec<u8>, to: &TraceContext) {
    head(out, 13, sized(to.trace.0.len()) + sized(to.span.0.len()) + 5);
    bytes(out, 1, &to.trace.0);
    bytes(out, 2, &to.span.0);
    fixed32(out, 6, u32::from(to.flags) | REMOTE);
}

/// Writes why a span that has begun failed.
pub(super) fn failure(out: &mut Vec<u8>, error: &str) {
    head(out, 15, sized(error.len()) + 2);
    bytes(out, 2, error.as_bytes());
    number(out, 3, STATUS_ERROR);
}

/// Writes when a span ended: not before it began, even if the clock was set back meanwhile.
pub(super) fn end(out: &mut Vec<u8>, start: SystemTime, end: SystemTime) {
    fixed64(out, 8, nanos(end.max(start)));
}

/// Writes a whole span.
pub(super) fn span(out: &mut Vec<u8>, span: &SpanRecord) {
    begin(out, span.context, span.parent, &[&span.name], span.kind, span.start);
    for (name, value) in &span.attributes {
        attribute(out, name, value);
    }
    for to in &span.links {
        link(out, to);
    }
    if let Some(error) = &span.error {
        failure(out, error);
    }
    end(out, span.start, span.end);
}

/// Puts a span that was written into the list an export holds.
pub(super) fn element(out: &mut Vec<u8>, span: &[u8]) {
    bytes(out, 2, span);
}

/// Writes who sends: a list of attributes, in the place it has in every export.
pub(super) fn resource<'a>(attributes: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut list = Vec::new();
    for (name, text) in attributes {
        pair(&mut list, 1, name, &Value::from(text));
    }
    let mut out = Vec::new();
    bytes(&mut out, 1, &list);
    out
}

/// Returns what stands before the spans in an export of so many bytes of them.
pub(super) fn preface(resource: &[u8], spans: usize) -> Vec<u8> {
    let mut scope = Vec::new();
    bytes(&mut scope, 1, b"sinew");
    bytes(&mut scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
    let scope_spans = sized(scope.len()) + spans;
    let mut out = Vec::new();
    head(&mut out, 1, resource.len() + sized(scope_spans));
    out.extend_from_slice(resource);
    head(&mut out, 2, scope_spans);
    bytes(&mut out, 1, &scope);
    out
}

fn of_kind(kind: SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Writes a name and what it says.
#[inline]
fn pair(out: &mut Vec<u8>, field: u32, name: &str, value: &Value<'_>) {
    let length = match value {
        Value::Text(text) => sized(text.len()),
        // Two's complement, as protobuf has it.
        Value::Number(number) => 1 + varint_len(*number as u64),
    };
    head(out, field, sized(name.len()) + sized(length));
    bytes(out, 1, name.as_bytes());
    head(out, 2, length);
    match value {
        Value::Text(text) => bytes(out, 1, text.as_bytes()),
        Value::Number(value) => number(out, 3, *value as u64),
    }
}

#[inline]
fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Returns how many bytes [`bytes`] writes, in one of the first 15 fields.
#[inline]
fn sized(length: usize) -> usize {
    1 + varint_len(length as u64) + length
}

/// Writes what stands before so many bytes. Nearly always that is two bytes, written as one.
#[inline]
fn head(out: &mut Vec<u8>, field: u32, length: usize) {
    match (field, length) {
        (..16, ..0x80) => out.extend_from_slice(&[(field << 3 | 2) as u8, length as u8]),
        _ => {
            varint(out, u64::from(field) << 3 | 2);
            varint(out, length as u64);
        }
    }
}

#[inline]
fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field) << 3);
    varint(out, value);
}

#[inline]
fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    varint(out, u64::from(field) << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
fn varint_len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        common::v1::{KeyValue, any_value},
        trace::v1::Span,
    };
    use proptest::prelude::*;
    use prost::Message as _;
    use sinew_wire::TraceId;

    use super::*;

    fn values() -> impl Strategy<Value = Value<'static>> {
        prop_oneof![".{0,200}".prop_map(Value::from), any::<i64>().prop_map(Value::Number)]
    }

    fn contexts() -> impl Strategy<Value = TraceContext> {
        any::<(u128, u64, u8)>().prop_map(|(trace, span, flags)| TraceContext {
            trace: TraceId(trace.to_be_bytes()),
            span: SpanId(span.to_be_bytes()),
            flags,
        })
    }

    fn spans() -> impl Strategy<Value = SpanRecord> {
        let kinds =
            [SpanKind::Server, SpanKind::Client, SpanKind::Producer, SpanKind::Consumer, SpanKind::Internal];
        let attributes =
            prop::collection::vec((prop::sample::select(vec!["a", "rpc.system"]), values()), 0..5);
        let times = (any::<u32>(), any::<u32>());
        let rest = (attributes, prop::collection::vec(contexts(), 0..3), prop::option::of(".{0,300}"));
        let parent = prop::option::of(any::<u64>().prop_map(|id| SpanId(id.to_be_bytes())));
        (contexts(), parent, ".{0,150}", prop::sample::select(kinds.to_vec()), times, rest).prop_map(
            |(context, parent, name, kind, (start, length), (attributes, links, error))| {
                let start = UNIX_EPOCH + Duration::from_nanos(u64::from(start));
                let end = start + Duration::from_nanos(u64::from(length));
                SpanRecord { context, parent, name: name.into(), kind, start, end, attributes, links, error }
            },
        )
    }

    fn read(resource: &[u8], written: &[SpanRecord]) -> ExportTraceServiceRequest {
        let mut list = Vec::new();
        for record in written {
            let mut one = Vec::new();
            span(&mut one, record);
            element(&mut list, &one);
        }
        let export = [preface(resource, list.len()), list].concat();
        ExportTraceServiceRequest::decode(export.as_slice()).unwrap()
    }

    fn attribute_read(pair: &KeyValue) -> (&str, Value<'_>) {
        let value = match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => Value::from(text.as_str()),
            Some(any_value::Value::IntValue(number)) => Value::Number(*number),
            other => panic!("{other:?}"),
        };
        (&pair.key, value)
    }

    fn assert_same(read: &Span, written: &SpanRecord) {
        assert_eq!(
            (&read.trace_id[..], &read.span_id[..]),
            (&written.context.trace.0[..], &written.context.span.0[..])
        );
        assert_eq!(read.parent_span_id, written.parent.map_or(Vec::new(), |id| id.0.to_vec()));
        assert_eq!((read.name.as_str(), read.kind), (written.name.as_ref(), of_kind(written.kind) as i32));
        assert_eq!(
            (read.start_time_unix_nano, read.end_time_unix_nano),
            (nanos(written.start), nanos(written.end))
        );
        let attributes: Vec<_> = read.attributes.iter().map(attribute_read).collect();
        assert_eq!(attributes, written.attributes);
        let links: Vec<_> =
            read.links.iter().map(|link| (link.trace_id.clone(), link.span_id.clone())).collect();
        let expected: Vec<_> =
            written.links.iter().map(|link| (link.trace.0.to_vec(), link.span.0.to_vec())).collect();
        assert_eq!(links, expected);
        let status = read.status.as_ref().map(|status| (status.message.as_str(), status.code));
        assert_eq!(status, written.error.as_deref().map(|error| (error, STATUS_ERROR as i32)));
        assert_eq!(read.flags & 0xff, u32::from(written.context.flags));
    }

    proptest! {
        /// Whatever is written, the generated reader of the protocol reads the same.
        #[test]
        fn an_export_is_read_as_it_was_written(written in prop::collection::vec(spans(), 0..6)) {
            let resource = resource([("service.name", "desk"), ("long", &"x".repeat(300))].into_iter());
            let read = read(&resource, &written);
            let [of_resource] = &read.resource_spans[..] else { panic!("{read:?}") };
            let named: Vec<_> = of_resource.resource.iter().flat_map(|resource| &resource.attributes).collect();
            prop_assert_eq!(attribute_read(named[0]), ("service.name", Value::from("desk")));
            prop_assert_eq!(named.len(), 2);
            let [of_scope] = &of_resource.scope_spans[..] else { panic!("{of_resource:?}") };
            prop_assert_eq!(of_scope.scope.as_ref().map(|scope| scope.name.as_str()), Some("sinew"));
            prop_assert_eq!(of_scope.spans.len(), written.len());
            of_scope.spans.iter().zip(&written).for_each(|(read, written)| assert_same(read, written));
        }
    }

    #[test]
    fn a_clock_that_was_set_back_ends_no_span_before_it_began() {
        let at = UNIX_EPOCH + Duration::from_secs(5);
        let context = TraceContext { trace: TraceId([1; 16]), span: SpanId([1; 8]), flags: 1 };
        let record = SpanRecord {
            context,
            parent: None,
            name: "a".into(),
            kind: SpanKind::Internal,
            start: at,
            end: UNIX_EPOCH,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        };
        let read = read(&[], &[record]);
        let span = &read.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(span.start_time_unix_nano, span.end_time_unix_nano);
    }
}

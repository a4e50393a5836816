//! Spans as the bytes of an OTLP export. Pure; knows the messages it writes and nothing of the rest of protobuf.
//!
//! Source: opentelemetry-proto 1.x, `trace.proto`, `common.proto`, `resource.proto`, and the protobuf encoding.
//! A span is written once, by whoever ends it. What stands around the spans of one export has a length that is only
//! known then, so it is put before them.

use std::time::{SystemTime, UNIX_EPOCH};

use sinew_wire::TraceContext;

use super::{SpanKind, SpanRecord, Value};

/// On a span and a link: it is known whether the other side is in another process, and it is.
const REMOTE: u32 = 0x300;
/// On a span: it is known, and it is not.
const LOCAL: u32 = 0x100;
const STATUS_ERROR: u64 = 2;

/// Writes one span, as an element of the list an export holds.
pub(super) fn span(out: &mut Vec<u8>, span: &SpanRecord) {
    nested(out, 2, |out| {
        bytes(out, 1, &span.context.trace.0);
        bytes(out, 2, &span.context.span.0);
        if let Some(parent) = &span.parent {
            bytes(out, 4, &parent.0);
        }
        bytes(out, 5, span.name.as_bytes());
        number(out, 6, kind(span.kind));
        fixed64(out, 7, nanos(span.start));
        fixed64(out, 8, nanos(span.end.max(span.start)));
        for (name, value) in &span.attributes {
            nested(out, 9, |out| attribute(out, name, value));
        }
        for to in &span.links {
            nested(out, 13, |out| link(out, to));
        }
        if let Some(error) = &span.error {
            nested(out, 15, |out| {
                bytes(out, 2, error.as_bytes());
                number(out, 3, STATUS_ERROR);
            });
        }
        let above = if matches!(span.kind, SpanKind::Server | SpanKind::Consumer) { REMOTE } else { LOCAL };
        fixed32(out, 16, u32::from(span.context.flags) | above);
    });
}

/// Writes who sends: a list of attributes, in the place it has in every export.
pub(super) fn resource<'a>(attributes: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    nested(&mut out, 1, |out| {
        for (name, text) in attributes {
            nested(out, 1, |out| {
                bytes(out, 1, name.as_bytes());
                nested(out, 2, |out| bytes(out, 1, text.as_bytes()));
            });
        }
    });
    out
}

/// Puts spans that were written together, and who sends them, into one export.
pub(super) fn export(resource: &[u8], spans: &[u8]) -> Vec<u8> {
    let mut scope = Vec::new();
    nested(&mut scope, 1, |out| {
        bytes(out, 1, b"sinew");
        bytes(out, 2, env!("CARGO_PKG_VERSION").as_bytes());
    });
    let scope_spans = scope.len() + spans.len();
    let resource_spans = resource.len() + 1 + varint_len(scope_spans) + scope_spans;
    let mut out = Vec::with_capacity(resource_spans + 16);
    head(&mut out, 1, resource_spans);
    out.extend_from_slice(resource);
    head(&mut out, 2, scope_spans);
    out.extend_from_slice(&scope);
    out.extend_from_slice(spans);
    out
}

fn attribute(out: &mut Vec<u8>, name: &str, value: &Value) {
    bytes(out, 1, name.as_bytes());
    nested(out, 2, |out| match value {
        Value::Text(text) => bytes(out, 1, text.as_bytes()),
        // Two's complement, as protobuf has it.
        Value::Number(value) => number(out, 3, *value as u64),
    });
}

fn link(out: &mut Vec<u8>, to: &TraceContext) {
    bytes(out, 1, &to.trace.0);
    bytes(out, 2, &to.span.0);
    fixed32(out, 6, u32::from(to.flags) | REMOTE);
}

fn kind(kind: SpanKind) -> u64 {
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

/// Writes a message within a message: its length is known behind it, and most fit the one byte kept for that.
fn nested(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    varint(out, u64::from(field) << 3 | 2);
    let at = out.len();
    out.push(0);
    write(out);
    let (end, length) = (out.len(), out.len() - at - 1);
    let more = varint_len(length) - 1;
    if more > 0 {
        out.resize(end + more, 0);
        out.copy_within(at + 1..end, at + 1 + more);
    }
    for (index, slot) in out[at..=at + more].iter_mut().enumerate() {
        let rest = if index < more { 0x80 } else { 0 };
        *slot = (length >> (7 * index)) as u8 & 0x7f | rest;
    }
}

fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

fn head(out: &mut Vec<u8>, field: u32, length: usize) {
    varint(out, u64::from(field) << 3 | 2);
    varint(out, length as u64);
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field) << 3);
    varint(out, value);
}

fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    varint(out, u64::from(field) << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
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
    use sinew_wire::{SpanId, TraceId};

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
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

    fn attribute_read(pair: &KeyValue) -> (&str, Value) {
        let value = match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(any_value::Value::StringValue(text)) => Value::from(text.clone()),
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
        assert_eq!((read.name.as_str(), read.kind), (written.name.as_ref(), kind(written.kind) as i32));
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
            let mut list = Vec::new();
            written.iter().for_each(|record| span(&mut list, record));
            let resource = resource([("service.name", "desk"), ("long", &"x".repeat(300))].into_iter());
            let read = ExportTraceServiceRequest::decode(export(&resource, &list).as_slice()).unwrap();
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
        let mut list = Vec::new();
        span(&mut list, &record);
        let read = ExportTraceServiceRequest::decode(export(&[], &list).as_slice()).unwrap();
        let span = &read.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!(span.start_time_unix_nano, span.end_time_unix_nano);
    }
}

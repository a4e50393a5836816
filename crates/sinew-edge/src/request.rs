//! From an HTTP request to an operation's payload: path, query and body become one MessagePack map.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use sinew::wire::{CodecError, ContentType, Headers, TraceContext, decode, encode, header, transcode};

use crate::{body::Payload, operation::Operation, problem::Refusal};

/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 256;
/// A MessagePack map of no entries.
const EMPTY_MAP: &[u8] = &[0x80];
/// A MessagePack nil.
const NIL: &[u8] = &[0xc0];

/// Puts the operation's payload together. `values` are those of the path, in the order of the template's fields.
///
/// A body that is the whole request is rewritten as a stream; only what has to be merged is taken apart.
///
/// # Errors
/// 400 for a body that cannot be read or is none of the operation's business, and for a field that does not exist,
/// does not fit its type or is given twice.
pub(crate) fn payload(
    operation: &Operation,
    values: &[&str],
    query: &str,
    body: &Payload,
) -> Result<Bytes, Refusal> {
    if !operation.takes_body() && !body.bytes.is_empty() {
        return Err(Refusal::malformed("this method takes no body: give the fields in path and query"));
    }
    if values.is_empty() && query.is_empty() && operation.body.is_none() {
        return whole(operation, body);
    }
    let mut fields = Map::new();
    for (name, value) in operation.template.fields().zip(values) {
        let value = operation.fields.read(name, &[value]);
        fields.insert(
            name.to_owned(),
            value.map_err(|reason| Refusal::malformed(format!("in the path, {reason}")))?,
        );
    }
    for (name, texts) in pairs(query)? {
        if fields.contains_key(name.as_ref()) || operation.body.as_deref() == Some(&name) {
            return Err(Refusal::malformed(format!("`{name}` does not belong into the query")));
        }
        let value = operation.fields.read(&name, &texts);
        fields.insert(
            name.into_owned(),
            value.map_err(|reason| Refusal::malformed(format!("in the query, {reason}")))?,
        );
    }
    merge(operation, &mut fields, body)?;
    encode(ContentType::MessagePack, &fields).map_err(unreadable)
}

/// Writes the headers of the message that carries the request.
///
/// # Errors
/// 400 when the idempotency key cannot be sent.
pub(crate) fn headers(
    from: &HeaderMap,
    trace: Option<TraceContext>,
    budget: Duration,
) -> Result<Headers, Refusal> {
    let mut headers = Headers::new();
    propagate(from, trace, &mut headers);
    let mut set = |name: &'static str, value: &str| {
        headers.set(name, value).map_err(|error| Refusal::malformed(error.to_string()))
    };
    set(header::CONTENT_TYPE, ContentType::MessagePack.as_str())?;
    set(header::ACCEPT, ContentType::MessagePack.as_str())?;
    set(header::TIMEOUT, &budget.as_millis().max(1).to_string())?;
    if let Some(key) = idempotency_key(from)? {
        set(header::IDEMPOTENCY_KEY, key)?;
    }
    if let Some(prefer) = joined(from, HeaderName::from_static(header::PREFER)) {
        set(header::PREFER, &prefer)?;
    }
    Ok(headers)
}

/// Writes the trace headers. What cannot be sent is left out: a trace is not worth a request.
pub(crate) fn propagate(from: &HeaderMap, trace: Option<TraceContext>, to: &mut Headers) {
    if let Some(trace) = trace {
        let _ = to.set(header::TRACEPARENT, trace.to_string());
    }
    // Vendor data belongs to the trace it came with; without a valid one it means nothing.
    let continued = crate::trace::of_client(from).is_some();
    for (name, wanted) in [(header::TRACESTATE, continued), (header::BAGGAGE, true)] {
        if let Some(value) = joined(from, HeaderName::from_static(name)).filter(|_| wanted) {
            let _ = to.set(name, value);
        }
    }
}

/// Returns the client's idempotency key.
///
/// # Errors
/// 400 when it is given twice, empty, too long or not ASCII.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let usable = |key: &&str| !key.is_empty() && key.len() <= MAX_KEY;
    match key.to_str().ok().filter(usable) {
        Some(key) if keys.next().is_none() => Ok(Some(key)),
        _ => Err(Refusal::malformed(format!("send one idempotency-key of 1 to {MAX_KEY} ascii characters"))),
    }
}

/// Returns how long the client wants to wait.
///
/// # Errors
/// 400 when `Request-Timeout` is no positive number of seconds.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get("request-timeout") else { return Ok(None) };
    let seconds: Option<f64> = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let limit = seconds.filter(|seconds| *seconds > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok());
    limit.map(Some).ok_or_else(|| Refusal::malformed("request-timeout takes a positive number of seconds"))
}

/// Says why a payload could not be read.
pub(crate) fn unreadable(error: CodecError) -> Refusal {
    Refusal::malformed(error.to_string())
}

fn whole(operation: &Operation, body: &Payload) -> Result<Bytes, Refusal> {
    if body.bytes.is_empty() {
        return Ok(Bytes::from_static(if operation.fields.is_null() { NIL } else { EMPTY_MAP }));
    }
    transcode(body.codec, ContentType::MessagePack, &body.bytes).map_err(unreadable)
}

/// Adds the body: as the one field that takes it, or member by member.
fn merge(operation: &Operation, fields: &mut Map<String, Value>, body: &Payload) -> Result<(), Refusal> {
    if body.bytes.is_empty() {
        return Ok(());
    }
    let value = decode(body.codec, &body.bytes).map_err(unreadable)?;
    if let Some(name) = &operation.body {
        fields.insert(name.clone(), value);
        return Ok(());
    }
    let Value::Object(members) = value else {
        return Err(Refusal::malformed("the body has to be an object"));
    };
    for (name, value) in members {
        // A client may send a whole resource with the id that stands in its path, but not with another one.
        if fields.get(&name).is_some_and(|given| *given != value) {
            return Err(Refusal::malformed(format!(
                "`{name}` differs between the body and the path or query"
            )));
        }
        fields.insert(name, value);
    }
    Ok(())
}

type Pairs<'q> = Vec<(Cow<'q, str>, Vec<Cow<'q, str>>)>;

/// Splits a query into names and all values of each, in the order they came.
fn pairs(query: &str) -> Result<Pairs<'_>, Refusal> {
    let mut pairs: Pairs<'_> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (text(name)?, text(value)?);
        match pairs.iter_mut().find(|(own, _)| *own == name) {
            Some((_, values)) => values.push(value),
            None => pairs.push((name, vec![value])),
        }
    }
    Ok(pairs)
}

fn text(encoded: &str) -> Result<Cow<'_, str>, Refusal> {
    let not_utf8 = |_| Refusal::malformed("the query is not valid utf-8");
    if !encoded.contains('+') {
        return percent_decode_str(encoded).decode_utf8().map_err(not_utf8);
    }
    let spaced = encoded.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(not_utf8)?;
    Ok(Cow::Owned(decoded.into_owned()))
}

/// Returns all values of a header as one list.
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::operation::tests::operation;

    fn json_body(text: &str) -> Payload {
        Payload { codec: ContentType::Json, bytes: Bytes::copy_from_slice(text.as_bytes()) }
    }

    fn built(operation: &Operation, values: &[&str], query: &str, body: &str) -> Result<Value, u16> {
        let payload = payload(operation, values, query, &json_body(body));
        let payload = payload.map_err(|refusal| refusal.problem().status)?;
        Ok(decode(ContentType::MessagePack, &payload).unwrap())
    }

    #[test]
    fn path_query_and_body_become_one_request() {
        let put = operation("PUT /things/{id}");
        let all = built(&put, &["7"], "count=3&tags=a&tags=b+c%26", r#"{"note":"x"}"#);
        assert_eq!(all, Ok(json!({ "id": "7", "count": 3, "tags": ["a", "b c&"], "note": "x" })));
        assert_eq!(built(&put, &["7"], "", ""), Ok(json!({ "id": "7" })));
        assert_eq!(built(&operation("POST /things"), &[], "", ""), Ok(json!({})));
        assert_eq!(built(&operation("POST /things"), &[], "", "[1]"), Ok(json!([1])));
    }

    #[test]
    fn a_body_may_repeat_what_the_path_says_but_not_contradict_it() {
        let put = operation("PUT /things/{id}");
        assert_eq!(built(&put, &["7"], "", r#"{"id":"7"}"#), Ok(json!({ "id": "7" })));
        assert_eq!(built(&put, &["7"], "", r#"{"id":"8"}"#), Err(400));
        assert_eq!(built(&put, &["7"], "id=7", ""), Err(400));
        assert_eq!(built(&put, &["7"], "", "[]"), Err(400));
    }

    #[test]
    fn a_field_may_take_the_whole_body() {
        let mut start = operation("POST /things/{id}");
        start.body = Some("tags".to_owned());
        assert_eq!(
            built(&start, &["7"], "count=1", "[1]"),
            Ok(json!({ "id": "7", "count": 1, "tags": [1] }))
        );
        assert_eq!(built(&start, &["7"], "", ""), Ok(json!({ "id": "7" })));
        assert_eq!(built(&start, &["7"], "tags=1", ""), Err(400));
    }

    #[test]
    fn what_cannot_be_read_is_the_clients_mistake() {
        let post = operation("POST /things");
        for (query, body) in
            [("", "{"), ("", "{} x"), ("count=x", ""), ("nope=1", ""), ("a=%ff", ""), ("count=1&count=2", "")]
        {
            assert_eq!(built(&post, &[], query, body), Err(400), "{query:?} {body:?}");
        }
        assert_eq!(built(&operation("GET /things"), &[], "", "{}"), Err(400));
        assert_eq!(built(&operation("DELETE /things"), &[], "", "{}"), Err(400));
    }

    #[test]
    fn headers_carry_time_key_preference_and_trace() {
        let mut from = HeaderMap::new();
        for (name, value) in [
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "a=1"),
            ("baggage", "k=v"),
            ("idempotency-key", "key-1"),
            ("prefer", "respond-async"),
        ] {
            from.append(name, value.parse().unwrap());
        }
        from.append("tracestate", "b=2".parse().unwrap());
        let headers = headers(&from, crate::trace::of_client(&from), Duration::from_millis(250)).unwrap();
        let get = |name| headers.get(name).unwrap();
        assert_eq!((get("tracestate"), get("baggage")), ("a=1,b=2", "k=v"));
        assert_eq!((get("sinew-timeout"), get("sinew-idempotency-key")), ("250", "key-1"));
        assert_eq!((get("prefer"), get("accept")), ("respond-async", "application/msgpack"));
        from.insert("traceparent", "nonsense".parse().unwrap());
        assert_eq!(super::headers(&from, None, Duration::ZERO).unwrap().get("tracestate"), None);
    }

    #[test]
    fn keys_and_timeouts_are_checked() {
        let with = |name: &'static str, values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(name, value.parse().unwrap());
            }
            headers
        };
        for bad in [&[""][..], &["a", "a"], &["ä"], &["k".repeat(257).as_str()]] {
            assert!(idempotency_key(&with("idempotency-key", bad)).is_err(), "{bad:?}");
        }
        let asked = |text| timeout(&with("request-timeout", &[text]));
        assert_eq!(asked("1.5").unwrap(), Some(Duration::from_millis(1500)));
        for bad in ["0", "-1", "x", "NaN", "1e300", ""] {
            assert!(asked(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_queries_and_bodies_never_panic(query in "[a-z=&%+0-9]{0,40}", body in any::<Vec<u8>>()) {
            let operation = operation("PUT /things/{id}");
            for codec in [ContentType::Json, ContentType::MessagePack] {
                let _ = payload(&operation, &["7"], &query, &Payload { codec, bytes: body.clone().into() });
            }
        }
    }
}

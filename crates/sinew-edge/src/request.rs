//! From an HTTP request to an operation's payload: path, query, header fields, cookies and body become one message.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use sinew::wire::{CodecError, ContentType, Headers, TraceContext, decode, encode, header, transcode};

use crate::{
    body::Payload,
    form::Form,
    mapping::{Mapping, Source, cookie},
    problem::Refusal,
    schema::{Schema, Violation},
};

/// Longest idempotency key, in bytes.
pub(crate) const MAX_KEY: usize = 256;
/// A MessagePack map of no entries.
const EMPTY_MAP: &[u8] = &[0x80];

/// A request as far as it was read.
pub(crate) struct Given<'r> {
    pub(crate) head: &'r Parts,
    /// What stands in the path for each field of the template, in order.
    pub(crate) values: &'r [Cow<'r, str>],
    pub(crate) body: &'r Payload,
}

/// A request that is put together field by field.
struct Building<'s> {
    schema: &'s Schema,
    fields: Map<String, Value>,
    violations: Vec<Violation>,
}

/// Puts a payload together, in the codec `to`.
///
/// A body that is the whole request is rewritten as a stream; only what has to be merged is taken apart.
///
/// # Errors
/// 400 for a body or a query that cannot be read, 422 with every violation for a request that is not as its schema says.
pub(crate) fn payload(
    schema: &Schema,
    mapping: &Mapping,
    given: &Given<'_>,
    to: ContentType,
) -> Result<Bytes, Refusal> {
    let query = given.head.uri.query().unwrap_or_default();
    if mapping.is_plain() && query.is_empty() && given.body.form.is_none() {
        return whole(schema, given.body, to);
    }
    let mut building = Building { schema, fields: Map::new(), violations: Vec::new() };
    let pairs = pairs(query)?;
    building.sources(mapping, given, &pairs);
    if mapping.open {
        building.query(mapping, pairs);
        building.body(mapping, given.body)?;
    }
    let Building { fields, mut violations, .. } = building;
    let mut request = Value::Object(fields);
    let told: Vec<String> = violations.iter().map(|own| own.pointer.clone()).collect();
    // What could not be read is not there, which need not be told as well.
    let further = schema.violations(&request).into_iter().filter(|other| !told.contains(&other.pointer));
    violations.extend(further);
    if !violations.is_empty() {
        return Err(Refusal::invalid(&violations, |field| origin(mapping, field)));
    }
    schema.settle(&mut request);
    encode(to, &request).map_err(unreadable)
}

/// Writes the headers of the message that carries the request.
///
/// # Errors
/// 400 when the idempotency key cannot be sent.
pub(crate) fn headers(
    from: &HeaderMap,
    trace: Option<TraceContext>,
    budget: Duration,
    codec: ContentType,
) -> Result<Headers, Refusal> {
    let mut headers = Headers::new();
    propagate(from, trace, &mut headers);
    // A number can always be sent.
    let _ = headers.set_display(header::TIMEOUT, budget.as_millis().max(1));
    let mut set = |name: &'static str, value: &str| {
        headers.set(name, value).map_err(|error| Refusal::malformed(error.to_string()))
    };
    set(header::CONTENT_TYPE, codec.as_str())?;
    set(header::ACCEPT, codec.as_str())?;
    if let Some(key) = idempotency_key(from)? {
        set(header::IDEMPOTENCY_KEY, &key)?;
    }
    if let Some(prefer) = joined(from, HeaderName::from_static(header::PREFER)) {
        set(header::PREFER, &prefer)?;
    }
    Ok(headers)
}

/// Writes the trace headers. What cannot be sent is left out: a trace is not worth a request.
pub(crate) fn propagate(from: &HeaderMap, trace: Option<TraceContext>, to: &mut Headers) {
    if let Some(trace) = trace {
        to.set_trace(&trace);
    }
    // Vendor data belongs to the trace it came with; without a valid one it means nothing.
    let continued = crate::trace::of_client(from).is_some();
    for (name, wanted) in [(header::TRACESTATE, continued), (header::BAGGAGE, true)] {
        if let Some(value) = joined(from, HeaderName::from_static(name)).filter(|_| wanted) {
            let _ = to.set(name, value);
        }
    }
}

/// Returns the client's idempotency key: a string as RFC 9651 writes it, or, as many clients send it, one without quotes.
///
/// # Errors
/// 400 when it is given twice, empty, too long, not ASCII, or a string that does not end.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, Refusal> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let usable = |key: &Cow<'_, str>| !key.is_empty() && key.len() <= MAX_KEY;
    match key.to_str().ok().and_then(unquoted).filter(usable) {
        Some(key) if keys.next().is_none() => Ok(Some(key)),
        _ => Err(Refusal::malformed(format!("send one idempotency-key of 1 to {MAX_KEY} ascii characters"))),
    }
}

/// Takes the quotes off a string. What stands behind it is a parameter, which no key has.
fn unquoted(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim();
    let Some(rest) = text.strip_prefix('"') else { return Some(Cow::Borrowed(text)) };
    let rest = rest.strip_suffix('"')?;
    let (mut key, mut escaped) = (String::with_capacity(rest.len()), false);
    for one in rest.chars() {
        match (escaped, one) {
            (false, '\\') => escaped = true,
            (true, '"' | '\\') | (false, _) if escaped || one != '"' => {
                key.push(one);
                escaped = false;
            }
            _ => return None,
        }
    }
    (!escaped).then_some(Cow::Owned(key))
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

/// Returns the preference of a client that would rather be told where the answer will be than wait for it, or than wait
/// longer (RFC 7240).
pub(crate) fn deferral(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = headers.get_all(header::PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut waits = None;
    for preference in lines.flat_map(|line| line.split(',')) {
        let preference = preference.split(';').next().unwrap_or_default().trim();
        if preference.eq_ignore_ascii_case("respond-async") {
            return Some(HeaderValue::from_static("respond-async"));
        }
        let wait = preference.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("wait"));
        waits = waits.or_else(|| wait?.1.trim().parse::<u32>().ok());
    }
    HeaderValue::try_from(format!("wait={}", waits?)).ok()
}

/// Says why a payload could not be read.
pub(crate) fn unreadable(error: CodecError) -> Refusal {
    Refusal::malformed(error.to_string())
}

fn whole(schema: &Schema, body: &Payload, to: ContentType) -> Result<Bytes, Refusal> {
    if body.bytes.is_empty() {
        let (empty, bytes) = match (schema.fields().is_null(), to) {
            (true, _) => (Value::Null, encode(to, &Value::Null).map_err(unreadable)?),
            (false, ContentType::MessagePack) => (Value::Object(Map::new()), Bytes::from_static(EMPTY_MAP)),
            (false, ContentType::Json) => (Value::Object(Map::new()), Bytes::from_static(b"{}")),
        };
        return fitting(schema, &empty).map(|()| bytes);
    }
    if !schema.surely_fits(body.codec, &body.bytes) {
        match decode(body.codec, &body.bytes) {
            Ok(mut request) => {
                fitting(schema, &request)?;
                if schema.settle(&mut request) {
                    return encode(to, &request).map_err(unreadable);
                }
            }
            // MessagePack holds more than JSON: the service judges what only it can read.
            Err(_) if body.codec == ContentType::MessagePack => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    transcode(body.codec, to, &body.bytes).map_err(unreadable)
}

fn fitting(schema: &Schema, request: &Value) -> Result<(), Refusal> {
    let violations = schema.violations(request);
    if violations.is_empty() { Ok(()) } else { Err(Refusal::invalid(&violations, |_| "body".to_owned())) }
}

/// Says where the client has to look for a field.
fn origin(mapping: &Mapping, field: &str) -> String {
    if let Some((_, source)) = mapping.fields.iter().find(|(own, _)| own == field) {
        return source.describe();
    }
    let in_path = mapping.path.iter().any(|(_, own)| own == field);
    if in_path { "path".to_owned() } else { "query or body".to_owned() }
}

impl Building<'_> {
    /// Takes what has a source of its own, then what the path names.
    fn sources(&mut self, mapping: &Mapping, given: &Given<'_>, pairs: &Pairs<'_>) {
        for (field, source) in &mapping.fields {
            match source {
                Source::Constant(value) => {
                    self.fields.insert(field.clone(), value.clone());
                }
                Source::Path(place) => self.text(field, given.values.get(*place).map(std::slice::from_ref)),
                Source::Query(name) => {
                    let values =
                        pairs.iter().find(|(own, _)| own == name).map(|(_, values)| values.as_slice());
                    self.text(field, values);
                }
                Source::Header(name) => {
                    let values = given.head.headers.get_all(name).iter();
                    let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
                    self.text(field, (!texts.is_empty()).then_some(texts.as_slice()));
                }
                Source::Cookie(name) => {
                    let value = cookie(&given.head.headers, name);
                    self.text(field, value.as_ref().map(std::slice::from_ref));
                }
            }
        }
        for (place, field) in &mapping.path {
            self.text(field, given.values.get(*place).map(std::slice::from_ref));
        }
    }

    fn query(&mut self, mapping: &Mapping, pairs: Pairs<'_>) {
        for (name, texts) in pairs {
            let chose = mapping.choosing.iter().any(|own| *own == name) && !self.schema.fields().names(&name);
            if chose || mapping.takes_parameter(&name) {
                continue;
            }
            if mapping.sets(&name) {
                self.violations.push(violation(&name, "does not belong into the query"));
            } else {
                self.text(&name, Some(&texts));
            }
        }
    }

    /// Adds the body: as the one field that takes it, or member by member.
    fn body(&mut self, mapping: &Mapping, body: &Payload) -> Result<(), Refusal> {
        if let Some(form) = &body.form {
            self.form(mapping, form);
            return Ok(());
        }
        if body.bytes.is_empty() {
            return Ok(());
        }
        let value = decode(body.codec, &body.bytes).map_err(unreadable)?;
        if let Some(name) = &mapping.body {
            self.fields.insert(name.clone(), value);
            return Ok(());
        }
        let Value::Object(members) = value else {
            self.violations.push(Violation {
                pointer: String::new(),
                detail: "the body has to be an object".to_owned(),
            });
            return Ok(());
        };
        for (name, value) in members {
            // A client may send a whole resource with the id that stands in its path, but not with another one.
            if self.fields.get(&name).is_some_and(|given| *given != value) {
                self.violations.push(violation(&name, "differs between the body and the path or query"));
            } else {
                self.fields.insert(name, value);
            }
        }
        Ok(())
    }

    /// Adds the fields of a form, and where its files are.
    fn form(&mut self, mapping: &Mapping, form: &Form) {
        for (name, texts) in &form.texts {
            if mapping.sets(name) || self.fields.contains_key(name) {
                self.violations.push(violation(name, "does not belong into the form"));
            } else if *texts != [""] || !self.schema.fields().may_be_empty(name) {
                self.text(name, Some(texts));
            }
        }
        for (name, mut files) in form.described() {
            if mapping.sets(name) || self.fields.contains_key(name) {
                self.violations.push(violation(name, "does not belong into the form"));
                continue;
            }
            let list = self.schema.fields().is_list(name) || files.len() > 1;
            let value = if list { Value::Array(files) } else { files.pop().unwrap_or_default() };
            self.fields.insert(name.to_owned(), value);
        }
    }

    /// Reads the texts given for a field, as the schema has it.
    fn text(&mut self, field: &str, texts: Option<&[impl AsRef<str>]>) {
        let Some(texts) = texts else { return };
        match self.schema.fields().read(field, texts) {
            Ok(value) => {
                self.fields.insert(field.to_owned(), value);
            }
            Err(reason) => self.violations.push(violation(field, &reason)),
        }
    }
}

fn violation(field: &str, detail: &str) -> Violation {
    Violation { pointer: crate::config::below("", field), detail: detail.to_owned() }
}

pub(crate) type Pairs<'q> = Vec<(Cow<'q, str>, Vec<Cow<'q, str>>)>;

/// Splits a query into names and all values of each, in the order they came.
pub(crate) fn pairs(query: &str) -> Result<Pairs<'_>, Refusal> {
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

//! From an operation's reply to an HTTP response.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use sinew::{
    bus::Message,
    problem_of,
    wire::{ContentType, header as wire_header, transcode},
};

use crate::{
    Body, Response,
    operation::{Operation, success},
    problem::{self, Refusal},
    shape::Shape,
};

/// Rewrites a reply in the codec the client wants, and as the route has it. `repeatable` says that asking again does no
/// harm.
///
/// # Errors
/// The problem the service answered, or 502 when its reply cannot be read.
pub(crate) fn translate(
    message: &Message,
    operation: &Operation,
    shape: &Shape,
    wanted: ContentType,
    repeatable: bool,
) -> Result<Response, Refusal> {
    let bytes = body(message, operation, wanted, repeatable)?;
    let status = message.header(wire_header::STATUS).and_then(|text| success(text.parse().ok()?));
    let location = message.header(wire_header::LOCATION).and_then(|text| HeaderValue::try_from(text).ok());
    let status = status.unwrap_or(operation.status);
    if shape.is_plain() {
        return Ok(response(status, location, wanted, bytes));
    }
    shape.apply(response(shape.status.unwrap_or(status), location, wanted, bytes.clone()), &bytes, wanted)
}

/// Returns what a service answered, in the codec the client wants.
///
/// # Errors
/// As [`translate`].
pub(crate) fn body(
    message: &Message,
    operation: &Operation,
    wanted: ContentType,
    repeatable: bool,
) -> Result<Bytes, Refusal> {
    if let Some(problem) = problem_of(message) {
        return Err(problem::of_service(problem, operation, repeatable).into());
    }
    let unreadable = |error: sinew::wire::CodecError| {
        tracing::warn!(operation = operation.name, %error, "a reply cannot be read");
        Refusal::from(problem::malformed_reply())
    };
    let from = message.content_type().map_err(unreadable)?;
    transcode(from, wanted, message.payload()).map_err(unreadable)
}

/// Returns a body in its codec.
pub(crate) fn response(
    status: StatusCode,
    location: Option<HeaderValue>,
    codec: ContentType,
    bytes: Bytes,
) -> Response {
    let has_body =
        !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    let mut response = Response::new(Body::from(if has_body { bytes } else { Bytes::new() }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if has_body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(codec.as_str()));
    }
    if let Some(location) = location {
        headers.insert(header::LOCATION, location);
    }
    response
}

/// Returns a small JSON document of the edge's own.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    let mut response = response(status, None, ContentType::Json, value.to_string().into());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_without_content_has_no_body() {
        let empty = response(StatusCode::NO_CONTENT, None, ContentType::Json, Bytes::from_static(b"null"));
        assert!(hyper::body::Body::is_end_stream(empty.body()));
        assert!(!empty.headers().contains_key(header::CONTENT_TYPE));
    }
}

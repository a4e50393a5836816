//! Handing a whole request to an operation that speaks HTTP: method, target, header fields and body go there, and status,
//! header fields and body come back.
//!
//! For services that decide these themselves, such as one in front of something else that speaks HTTP. Fields of the
//! connection stay where they belong; what the edge is asked to check of a request it does not check here.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::body::Incoming;
use sinew::{
    HttpReply, HttpRequest, problem_of,
    wire::{decode, encode},
};

use crate::{
    Body, Edge, Response, body, call,
    exchange::Asked,
    policy::cache,
    problem::{self, Refusal},
    request,
    served::{Callee, Served},
};

/// Hands a request on.
///
/// # Errors
/// Why there is no answer, or 502 where it is none of HTTP.
pub(crate) async fn one(
    edge: &Arc<Edge>,
    _served: &Served,
    callee: &Callee,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    let operation = call::known(callee)?;
    let head = asked.head;
    let bytes = body::raw(&head.headers, body, asked.reading(edge)).await?;
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let given = HttpRequest::new(head.method.as_str(), target, fields(&head.headers), bytes);
    let payload = encode(operation.codec, &given).map_err(request::unreadable)?;
    let (span, sent) = call::send(edge, operation, &asked, payload).await?;
    let answer = sent.map_err(|error| Refusal::from(problem::of_bus(&error, false))).and_then(|message| {
        if let Some(problem) = problem_of(&message) {
            return Err(problem::of_service(problem, operation, false).into());
        }
        let unreadable = || Refusal::from(problem::malformed_reply());
        let codec = message.content_type().map_err(|_| unreadable())?;
        let reply: HttpReply = decode(codec, message.payload()).map_err(|_| unreadable())?;
        response(reply).ok_or_else(unreadable)
    });
    call::end(span, answer)
}

/// Returns what is handed on of a head.
fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut headers = headers.clone();
    cache::strip(&mut headers);
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// Makes a response of a reply; `None` where it is none.
fn response(reply: HttpReply) -> Option<Response> {
    let status = StatusCode::from_u16(reply.status).ok().filter(|status| status.as_u16() >= 200)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &reply.headers {
        headers
            .append(HeaderName::try_from(name.as_str()).ok()?, HeaderValue::try_from(value.as_str()).ok()?);
    }
    cache::strip(&mut headers);
    let body = reply.into_body()?;
    // How long the body is, is known better here.
    headers.remove(header::CONTENT_LENGTH);
    let empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let mut response = Response::new(Body::from(if empty { Bytes::new() } else { body }));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    Some(response)
}

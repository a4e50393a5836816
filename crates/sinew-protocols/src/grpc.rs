//! `call: grpc`: a method described by a protobuf file, without generated code.
//!
//! Arguments and results are protobuf's own JSON. A method that streams its replies results in a list of them.

use ::http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue, TE};
use ::http::{HeaderMap, Method};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use prost_reflect::{DynamicMessage, MethodDescriptor, SerializeOptions, prost::Message as _};
use serde_json::Value;
use sinew_workflow::Fault;
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::authentication;
use crate::call::Scope;
use crate::failure::Failure;
use crate::http;

mod frame;
mod schema;
mod status;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Looks whether the files have the method.
pub(crate) async fn examine(scope: Scope<'_>, arguments: &Value) -> Result<(), Failure> {
    schema::examine(scope, arguments).await
}

/// Carries out `call: grpc`.
pub(crate) async fn call(scope: Scope<'_>, arguments: &Value) -> Result<Value, Failure> {
    let service = arguments.get("service").unwrap_or(&Value::Null);
    let method = schema::method(scope, arguments, service).await?;
    if method.is_client_streaming() {
        let detail = format!("`{}` takes a stream of requests, and a task has one", method.name());
        return Err(Failure::configuration(detail));
    }
    let revealed = arguments.get("arguments").map(|given| scope.revealer().value(given));
    let given = revealed.transpose().map_err(Failure::refused)?.unwrap_or_else(|| serde_json::json!({}));
    let request = DynamicMessage::deserialize(method.input(), given).map_err(|error| {
        Failure::configuration(format!("the arguments are no `{}`: {error}", method.input().full_name()))
    })?;
    let url = url(scope, service, &method)?;
    let (body, trailers) = exchange(scope, service, &url, frame::encode(&request.encode_to_vec())).await?;
    status::check(&trailers)?;
    output(&method, &body)
}

/// Sends the request, and returns the frames that came and what came after them.
async fn exchange(
    scope: Scope<'_>,
    service: &Value,
    url: &Url,
    body: Bytes,
) -> Result<(Bytes, HeaderMap), Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(ACCEPT, GRPC);
    headers.insert(TE, TRAILERS);
    let left = scope.deadline.saturating_duration_since(Instant::now()).as_millis().min(99_999_999);
    if let Ok(left) = HeaderValue::try_from(format!("{left}m")) {
        headers.insert(TIMEOUT, left);
    }
    http::add_context(scope, &Method::POST, &mut headers);
    let policy = service.get("authentication").filter(|policy| !policy.is_null());
    let authorization = authentication::resolve(scope, policy).await?;
    let request = http::signed(http::plain(Method::POST, url, headers, body)?, authorization.as_ref())?;
    let response = scope.core.client.open_h2(request, scope.deadline).await?;
    let (head, body) = response.into_parts();
    let limit = scope.core.client.max_body();
    let body = match timeout_at(scope.deadline, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the reply is larger than {limit} bytes: ask for less, or raise `max_body`");
            return Err(Failure::unknown(Fault::communication(detail)));
        }
        Ok(Err(error)) => {
            return Err(Failure::unknown(Fault::communication(format!("the reply broke off: {error}"))));
        }
        Err(_) => return Err(Failure::unknown(Fault::timeout("the reply did not end in time"))),
    };
    // A reply without messages has its status at its head.
    let trailers = body.trailers().cloned().unwrap_or_else(|| head.headers.clone());
    if !head.status.is_success() {
        let reply =
            crate::client::Reply { status: head.status, headers: head.headers, body: body.to_bytes() };
        return Err(http::refusal(&Method::POST, &reply, false)
            .unwrap_or_else(|| Failure::unknown(Fault::communication("the reply is none of gRPC"))));
    }
    Ok((body.to_bytes(), trailers))
}

fn output(method: &MethodDescriptor, body: &[u8]) -> Result<Value, Failure> {
    let unreadable = |error: String| Failure::unknown(Fault::communication(error));
    let mut messages = Vec::new();
    for frame in frame::decode(body).map_err(|error| unreadable(error.to_owned()))? {
        let message = DynamicMessage::decode(method.output(), frame).map_err(|error| {
            unreadable(format!("the reply is no `{}`: {error}", method.output().full_name()))
        })?;
        // With their defaults, so that an expression finds a 0 rather than nothing.
        let options = SerializeOptions::new().skip_default_fields(false);
        let message = message.serialize_with_options(serde_json::value::Serializer, &options);
        messages
            .push(message.map_err(|error| unreadable(format!("the reply has no form in JSON: {error}")))?);
    }
    if method.is_server_streaming() {
        return Ok(Value::Array(messages));
    }
    messages.pop().ok_or_else(|| unreadable("the reply has no message".to_owned()))
}

fn url(scope: Scope<'_>, service: &Value, method: &MethodDescriptor) -> Result<Url, Failure> {
    let service = scope.revealer().value(service).map_err(Failure::refused)?;
    let host = service.get("host").and_then(Value::as_str).unwrap_or_default();
    let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
    let scheme = if port == 443 { "https" } else { "http" };
    let path = format!("{}/{}", method.parent_service().full_name(), method.name());
    Url::parse(&format!("{scheme}://{host}:{port}/{path}"))
        .map_err(|error| Failure::configuration(format!("`{host}` is not a host: {error}")))
}

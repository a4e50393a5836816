//! Subscriptions over HTTP: server-sent events.

use std::collections::VecDeque;

use ::http::header::{ACCEPT, HeaderValue};
use ::http::{HeaderMap, Method};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Map;
use sinew_workflow::Fault;

use super::Messages;
use super::channel::Channel;
use crate::call::Scope;
use crate::failure::Failure;
use crate::http;
use crate::sse::Events;

struct Stream {
    channel: Channel,
    body: Incoming,
    events: Events,
    /// What came with others.
    ready: VecDeque<String>,
    /// The most bytes of an event.
    limit: usize,
}

pub(super) async fn subscribe(scope: Scope<'_>, channel: Channel) -> Result<Messages, Failure> {
    let endpoint = channel.endpoint(scope)?.http()?;
    let response = http::opened(scope, endpoint.authentication.as_ref(), |_| {
        let headers: HeaderMap =
            [(ACCEPT, HeaderValue::from_static("text/event-stream"))].into_iter().collect();
        http::plain(Method::GET, &endpoint.url, headers, Bytes::new())
    });
    let response = response.await?;
    if !response.status().is_success() {
        let reply = scope.core.client.read(response, scope.deadline).await?;
        let refused = http::refusal(&Method::GET, &reply, false);
        return Err(refused.unwrap_or_else(|| Failure::not_sent(Fault::communication("there are no events"))));
    }
    let limit = scope.core.settings.max_body;
    let (body, events) = (response.into_body(), Events::default());
    let stream = Stream { channel, body, events, ready: VecDeque::new(), limit };
    Ok(futures::stream::try_unfold(stream, next).boxed())
}

async fn next(mut stream: Stream) -> Result<Option<(serde_json::Value, Stream)>, Failure> {
    loop {
        if let Some(event) = stream.ready.pop_front() {
            return Ok(Some((stream.channel.received(event.as_bytes(), Map::new()), stream)));
        }
        match stream.body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    stream.ready.extend(stream.events.feed(&bytes));
                    if stream.events.waiting() > stream.limit {
                        let detail =
                            format!("an event is longer than {} bytes: raise `max_body`", stream.limit);
                        return Err(Failure::not_sent(Fault::communication(detail)));
                    }
                }
            }
            Some(Err(error)) => {
                return Err(Failure::not_sent(Fault::communication(format!(
                    "the events broke off: {error}"
                ))));
            }
            None => return Ok(None),
        }
    }
}

//! Subscriptions over HTTP: server-sent events, from the last one that is known on.

use std::collections::VecDeque;

use ::http::header::{ACCEPT, HeaderName, HeaderValue};
use ::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Map;
use sinew_workflow::Fault;

use super::channel::Channel;
use super::resume::Place;
use super::{Heard, Messages};
use crate::call::Scope;
use crate::failure::Failure;
use crate::http;
use crate::sse::{Event, Events};

const LAST: HeaderName = HeaderName::from_static("last-event-id");

struct Stream {
    channel: Channel,
    body: Incoming,
    events: Events,
    /// What came with others.
    ready: VecDeque<Event>,
    place: Place,
    /// The most bytes of an event.
    limit: usize,
}

pub(super) async fn subscribe(
    scope: Scope<'_>,
    channel: Channel,
    place: &Place,
) -> Result<Messages, Failure> {
    let endpoint = channel.endpoint(scope)?.http()?;
    let last = place.last.as_ref().and_then(|last| HeaderValue::from_bytes(last.as_bytes()).ok());
    let response = http::opened(scope, endpoint.authentication.as_ref(), |_| {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.extend(last.iter().map(|last| (LAST, last.clone())));
        http::plain(Method::GET, &endpoint.url, headers, Bytes::new())
    });
    let response = response.await?;
    if !response.status().is_success() {
        let reply = scope.core.client.read(response, scope.deadline).await?;
        let refused = http::refusal(&Method::GET, &reply, false);
        return Err(refused.unwrap_or_else(|| Failure::not_sent(Fault::communication("there are no events"))));
    }
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(futures::stream::empty().boxed());
    }
    let limit = scope.core.settings.max_body;
    let (body, events) = (response.into_body(), Events::default());
    let stream = Stream { channel, body, events, ready: VecDeque::new(), place: place.clone(), limit };
    Ok(futures::stream::try_unfold(stream, next).boxed())
}

async fn next(mut stream: Stream) -> Result<Option<((Heard, Place), Stream)>, Failure> {
    let lost = |detail: String| Failure::not_sent(Fault::communication(detail));
    loop {
        if let Some(event) = stream.ready.pop_front() {
            return Ok(Some((stream.heard(event), stream)));
        }
        match stream.body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    stream.ready.extend(stream.events.feed(&bytes));
                    if stream.events.waiting() > stream.limit {
                        let detail =
                            format!("an event is longer than {} bytes: raise `max_body`", stream.limit);
                        return Err(Failure::refused(Fault::communication(detail)));
                    }
                }
            }
            Some(Err(error)) => return Err(lost(format!("the events broke off: {error}"))),
            None => return Err(lost("the events came to an end".to_owned())),
        }
    }
}

impl Stream {
    fn heard(&mut self, event: Event) -> (Heard, Place) {
        let message = self.channel.received(event.data.as_bytes(), Map::new());
        let identity = event.id.clone().filter(|id| !id.is_empty());
        // An empty id takes the last one back.
        self.place.last = event.id.or(self.place.last.take()).filter(|id| !id.is_empty());
        self.place.retry = self.events.retry().or(self.place.retry);
        (Heard { message, identity }, self.place.clone())
    }
}

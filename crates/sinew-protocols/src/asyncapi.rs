//! `call: asyncapi`: publishes a message to a described channel, or subscribes to one.
//!
//! Documents of AsyncAPI 2.x and 3.x; channels on servers that speak HTTP, WebSocket or NATS. A subscription outlives its
//! connections (`resume.rs`).

use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use futures::stream::BoxStream;
use serde_json::{Map, Value};

use self::channel::{Channel, Transport};
use self::resume::Place;
use crate::call::{Core, Scope};
use crate::document::endpoint_of;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http::{self, Output, Template};

mod channel;
mod nats;
mod resume;
mod sse;
mod web_socket;

/// A message of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The message: `payload`, `headers`, and `correlationId` where the document says what it is.
    pub message: Value,
    /// What tells it from others, where the other side says so: the same message, told again, has the same identity.
    pub identity: Option<String>,
}

/// Messages of one connection as they come, each with the place to go on from.
type Messages = BoxStream<'static, Result<(Heard, Place), Failure>>;

/// What goes to a channel, with its secrets revealed.
#[derive(Debug)]
struct Message {
    payload: Value,
    headers: Map<String, Value>,
}

/// Looks whether the document has the channel, on a server that can be spoken to.
pub(crate) async fn examine(scope: Scope<'_>, arguments: &Value) -> Result<(), Failure> {
    let described = Endpoint::read(endpoint_of(arguments, "document")?, None, scope.revealer())?;
    let document = scope.core.documents.at(scope, &described).await?;
    let names = ["/operation", "/channel", "/protocol", "/server", "/server/name", "/server/variables"];
    let is_known = |name: &&str| arguments.pointer(name).is_none_or(|value| !value.is_null());
    if names.iter().all(is_known) { Channel::find(&document, arguments).map(drop) } else { Ok(()) }
}

/// Carries out `call: asyncapi` with a `message`.
pub(crate) async fn publish(scope: Scope<'_>, arguments: &Value) -> Result<Value, Failure> {
    if arguments.get("message").is_none() {
        return Err(Failure::configuration(
            "there is no `message` to publish: subscriptions are listened to",
        ));
    }
    let channel = find(scope, arguments).await?;
    let message = Message::read(scope, &arguments["message"])?;
    match channel.transport {
        Transport::Http => publish_http(scope, &channel, arguments, message).await?,
        Transport::WebSocket => web_socket::publish(scope, &channel, &message).await?,
        Transport::Nats => nats::publish(scope, &channel, &message).await?,
    }
    Ok(Value::Null)
}

/// Subscribes to the channel of a `subscription`; it takes no longer than `limit` to begin.
pub(crate) async fn subscribe(
    core: &Arc<Core>,
    arguments: &Value,
    limit: Duration,
) -> Result<BoxStream<'static, Result<Heard, Failure>>, Failure> {
    let channel = find(Scope::nobodys(core, limit), arguments).await?;
    resume::begin(core, channel, limit).await
}

async fn find(scope: Scope<'_>, arguments: &Value) -> Result<Channel, Failure> {
    let described = Endpoint::read(endpoint_of(arguments, "document")?, None, scope.revealer())?;
    let document = scope.core.documents.at(scope, &described).await?;
    Channel::find(&document, arguments)
}

async fn publish_http(
    scope: Scope<'_>,
    channel: &Channel,
    arguments: &Value,
    message: Message,
) -> Result<(), Failure> {
    let template = Template {
        method: Method::from_bytes(channel.method.as_bytes())
            .map_err(|_| Failure::configuration(format!("`{}` is not an HTTP method", channel.method)))?,
        endpoint: channel.endpoint(scope)?,
        query: Vec::new(),
        // Written again, because what a template holds is what the task may be shown.
        headers: http::members(&arguments["message"], "headers")?,
        body: message.payload,
        output: Output::Raw,
        redirect: false,
    };
    template.perform(scope).await.map(drop)
}

impl Heard {
    /// A message that nothing tells from others.
    fn new(message: Value) -> Self {
        Self { message, identity: None }
    }
}

impl Message {
    fn read(scope: Scope<'_>, message: &Value) -> Result<Self, Failure> {
        let mut message = scope.revealer().value(message).map_err(Failure::refused)?;
        let payload = message.get_mut("payload").map(Value::take).unwrap_or_default();
        let headers = match message.get_mut("headers").map(Value::take) {
            Some(Value::Object(headers)) => headers,
            _ => Map::new(),
        };
        Ok(Self { payload, headers })
    }
}

//! Channels over WebSocket: a message is a text.

use ::http::header::AUTHORIZATION;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::Map;
use sinew_workflow::Fault;
use tokio::time::timeout_at;
use tokio_websockets::{ClientBuilder, CloseCode, Error, Limits, Message as Frame, WebSocketStream};

use super::channel::Channel;
use super::resume::Place;
use super::{Heard, Message, Messages};
use crate::authentication::{self, Authorization};
use crate::call::Scope;
use crate::client::Stream;
use crate::failure::Failure;
use crate::http;

pub(super) async fn publish(scope: Scope<'_>, channel: &Channel, message: &Message) -> Result<(), Failure> {
    if !message.headers.is_empty() {
        return Err(Failure::configuration(
            "messages of WebSocket have no headers: put what they say into the `payload`",
        ));
    }
    let mut socket = connect(scope, channel).await?;
    let sent = timeout_at(scope.deadline, async {
        socket.send(Frame::text(message.payload.to_string())).await?;
        socket.close().await
    });
    match sent.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            Err(Failure::unknown(Fault::communication(format!("the connection was lost: {error}"))))
        }
        Err(_) => Err(Failure::unknown(Fault::timeout("the message was not taken in time"))),
    }
}

pub(super) async fn subscribe(scope: Scope<'_>, channel: Channel) -> Result<Messages, Failure> {
    let socket = connect(scope, &channel).await?;
    Ok(futures::stream::try_unfold((socket, channel), next).boxed())
}

async fn next(
    (mut socket, channel): (WebSocketStream<Stream>, Channel),
) -> Result<Option<((Heard, Place), (WebSocketStream<Stream>, Channel))>, Failure> {
    let lost = |detail: String| Failure::not_sent(Fault::communication(detail));
    loop {
        match socket.next().await {
            Some(Ok(frame)) if frame.is_text() || frame.is_binary() => {
                let heard = Heard::new(channel.received(frame.as_payload(), Map::new()));
                return Ok(Some(((heard, Place::default()), (socket, channel))));
            }
            Some(Ok(frame)) => match frame.as_close() {
                Some((CloseCode::NORMAL_CLOSURE | CloseCode::NO_STATUS_RECEIVED, _)) => return Ok(None),
                Some((code, reason)) => {
                    return Err(lost(format!(
                        "the server closed the connection: {} {reason}",
                        u16::from(code)
                    )));
                }
                None => {}
            },
            Some(Err(Error::PayloadTooLong { .. })) => {
                let detail = "a message is longer than is allowed: raise `max_body`";
                return Err(Failure::refused(Fault::communication(detail)));
            }
            Some(Err(error)) => return Err(lost(format!("the connection was lost: {error}"))),
            None => return Err(lost("the connection was lost".to_owned())),
        }
    }
}

async fn connect(scope: Scope<'_>, channel: &Channel) -> Result<WebSocketStream<Stream>, Failure> {
    let endpoint = channel.endpoint(scope)?;
    let (host, encrypted) = (endpoint.url.host_str().unwrap_or_default(), endpoint.url.scheme() == "wss");
    let port = endpoint.url.port_or_known_default().unwrap_or(80);
    let limits = Limits::default().max_payload_len(Some(scope.core.settings.max_body));
    let mut builder = ClientBuilder::from_uri(http::uri(&endpoint.url)?).limits(limits);
    match authentication::resolve(scope, endpoint.authentication.as_ref()).await? {
        Some(Authorization::Header { scheme, parameter, .. }) => {
            let value = http::sensitive(&format!("{scheme} {parameter}"))?;
            let unusable = |_| Failure::configuration("the credentials cannot be sent over WebSocket");
            builder = builder.add_header(AUTHORIZATION, value).map_err(unusable)?;
        }
        Some(Authorization::Digest(_)) => {
            return Err(Failure::configuration("`digest` cannot be used over WebSocket: use another policy"));
        }
        None => {}
    }
    let unreachable = |error: String| {
        Failure::not_sent(Fault::communication(format!("`{host}:{port}` cannot be reached: {error}")))
    };
    let connecting = async {
        let stream = scope.core.client.connector().open_raw(host, port, encrypted).await;
        let stream = stream.map_err(|error| unreachable(error.to_string()))?;
        let (socket, _) = builder.connect_on(stream).await.map_err(|error| unreachable(error.to_string()))?;
        Ok(socket)
    };
    let late = |_| Failure::not_sent(Fault::timeout(format!("no connection to `{host}:{port}` in time")));
    timeout_at(scope.deadline, connecting).await.map_err(late)?
}

//! A stream as WebSocket messages: one text message an item, and a close frame that says how it ended.
//!
//! Source: RFC 6455. What the client says is not listened to, but for its pings and its close.

use std::{io, time::Duration};

use bytes::Bytes;
use data_encoding::BASE64;
use futures::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tokio_websockets::{CloseCode, Error, Limits, Message, ServerBuilder, WebSocketStream};

use crate::{Body, Response, problem::Refusal};

/// What a key is hashed with (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest message a client may send: it has nothing to say.
const MAX_MESSAGE: usize = 4 * 1024;
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Longest time for the client to agree that this is the end.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pings and other messages a client may send between two of ours: each may cost an answer it does not read.
pub(crate) const FRAMES: u32 = 64;
/// Why a client is left that sends more.
const TALKATIVE: (CloseCode, &str) = (CloseCode::POLICY_VIOLATION, "too many messages");
/// Why a client is left whose text is none.
pub(crate) const NO_TEXT: (CloseCode, &str) =
    (CloseCode::INVALID_FRAME_PAYLOAD_DATA, "the text is not valid utf-8");
/// Why a client is left whose message has too many parts to fit.
pub(crate) const TOO_LONG: (CloseCode, &str) = (CloseCode::MESSAGE_TOO_BIG, "the message is too long");

/// A connection that has become a WebSocket.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Says whether a request asks to go on as a WebSocket.
pub(crate) fn asks(head: &Parts) -> bool {
    let upgrade = head.headers.get(header::UPGRADE);
    head.version == Version::HTTP_11
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Answers the handshake.
///
/// # Errors
/// 400 for a handshake that is none, 426 for another version of the protocol.
pub(crate) fn handshake(head: &Parts) -> Result<Response, Refusal> {
    let key = key(&head.headers).filter(|_| head.method == Method::GET && connects(&head.headers));
    let key = key.ok_or_else(|| Refusal::malformed("the websocket handshake is not complete"))?;
    if head.headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let status = StatusCode::UPGRADE_REQUIRED;
        let refusal = Refusal::new(status, "unsupported-websocket-version", "unsupported websocket version");
        return Err(refusal.detail("send sec-websocket-version: 13"));
    }
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(accept) = HeaderValue::try_from(accept(key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(response)
}

/// Carries pieces to the client until they end, the client leaves, breaks the rules, or takes nothing for `limit`.
pub(super) async fn carry(
    upgrade: OnUpgrade,
    mut pieces: mpsc::Receiver<io::Result<Bytes>>,
    closing: CancellationToken,
    limit: Duration,
) {
    let Some(mut socket) = open(upgrade).await else { return };
    let (mut frames, mut silent) = (FRAMES, Instant::now());
    let farewell = loop {
        let message = tokio::select! {
            biased;
            piece = pieces.recv() => match piece {
                Some(Ok(piece)) => text(piece),
                Some(Err(_)) if closing.is_cancelled() => {
                    break Some((CloseCode::GOING_AWAY, "the edge is ending"));
                }
                Some(Err(_)) => break Some((CloseCode::INTERNAL_SERVER_ERROR, "the stream is not whole")),
                None => break Some((CloseCode::NORMAL_CLOSURE, "")),
            },
            heard = socket.next() => match heard {
                // Pings are answered by the protocol itself.
                Some(Ok(message)) if !is_sound(&message) => break Some(NO_TEXT),
                Some(Ok(message)) if !message.is_close() => {
                    frames -= 1;
                    if frames == 0 {
                        break Some(TALKATIVE);
                    }
                    continue;
                }
                Some(Err(Error::PayloadTooLong { .. })) => break Some(TOO_LONG),
                _ => break None,
            },
            () = sleep_until(silent + HEARTBEAT) => Message::ping(""),
        };
        if !matches!(tokio::time::timeout(limit, socket.send(message)).await, Ok(Ok(()))) {
            return;
        }
        (frames, silent) = (FRAMES, Instant::now());
    };
    close(socket, farewell, limit).await;
}

/// Takes the connection over; `None` where it was lost.
pub(crate) async fn open(upgrade: OnUpgrade) -> Option<Socket> {
    let upgraded =
        upgrade.await.map_err(|error| tracing::debug!(%error, "a connection did not become a websocket"));
    let limits = Limits::default().max_payload_len(Some(MAX_MESSAGE));
    Some(ServerBuilder::new().limits(limits).serve(TokioIo::new(upgraded.ok()?)))
}

/// Says why there is no more, where the client has not been told so by the protocol itself, and waits a moment for it to
/// agree. What it still sends is taken: a connection closed over unread bytes is reset, and what was said last may be lost.
pub(crate) async fn close(mut socket: Socket, why: Option<(CloseCode, &str)>, limit: Duration) {
    let farewell = async {
        if let Some((code, reason)) = why {
            // Refused where the connection is closing already, which is said below.
            let _ = socket.send(Message::close(Some(code), reason)).await;
        }
        while socket.next().await.is_some() {}
        let mut bare = socket.into_inner();
        if bare.shutdown().await.is_ok() {
            let _ = tokio::io::copy(&mut bare, &mut tokio::io::sink()).await;
        }
    };
    let _ = tokio::time::timeout(limit.min(PATIENCE), farewell).await;
}

/// Says whether a text is one. The library checks each fragment, but overlooks a text that ends within a character when its
/// last fragment is empty.
pub(crate) fn is_sound(message: &Message) -> bool {
    !message.is_text() || std::str::from_utf8(message.as_payload()).is_ok()
}

/// An item is JSON, which is text.
pub(crate) fn text(piece: Bytes) -> Message {
    match String::from_utf8(piece.into()) {
        Ok(text) => Message::text(text),
        Err(error) => Message::binary(error.into_bytes()),
    }
}

fn connects(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
}

/// Returns the client's key: 16 bytes in base64.
fn key(headers: &HeaderMap) -> Option<&str> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.to_str().ok()?;
    BASE64.decode(key.as_bytes()).ok().filter(|bytes| bytes.len() == 16).map(|_| key)
}

fn accept(key: &str) -> String {
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_standard() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_a_whole_handshake_is_answered() {
        let ask = |fields: &[(&str, &str)]| {
            let mut request = Request::get("/");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            (
                asks(&head),
                handshake(&head)
                    .map_or_else(|refusal| refusal.problem().status, |answer| answer.status().as_u16()),
            )
        };
        let (upgrade, connection) = (("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade"));
        let (key, version) =
            (("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-version", "13"));
        assert_eq!(ask(&[upgrade, connection, key, version]), (true, 101));
        assert_eq!(ask(&[upgrade, connection, key]), (true, 426));
        assert_eq!(ask(&[upgrade, connection, version, ("sec-websocket-key", "short")]), (true, 400));
        assert_eq!(ask(&[upgrade, key, version]), (true, 400));
        assert!(!ask(&[("upgrade", "h2c")]).0);
    }
}

//! Objects on their way out: whole, a part, or several; no more of a large one is in memory than is under way.

use std::{io, ops::Range, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sinew::bus::{Named, Objects};
use tokio::sync::mpsc;

use super::{ObjectPlan, changed, range, range::Wanted, unanswered};
use crate::{
    Body, Edge, Response,
    exchange::Asked,
    policy::{
        Held,
        conditional::{self, Verdict},
    },
    problem::Refusal,
};

/// What is not larger goes out as one piece, so that it can be compressed and kept.
const SMALL: u64 = 256 * 1024;
/// Pieces that wait for the client.
const AHEAD: usize = 2;

/// What a response is made of.
struct Parts {
    /// Text, and the bytes of the object that follow it.
    parts: Vec<(Bytes, Range<u64>)>,
    end: Bytes,
}

/// Carries an object to a client.
struct Pump {
    objects: Objects,
    object: Named,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    slow: Duration,
    /// It is under way until its last byte is.
    _held: Option<Arc<Held>>,
}

/// Answers with an object, or what was asked for of it.
///
/// # Errors
/// 412 and 416; what the bus reports.
pub(super) async fn get(
    edge: &Arc<Edge>,
    plan: &ObjectPlan,
    asked: &Asked<'_>,
    objects: &Objects,
    object: &Named,
) -> Result<Response, Refusal> {
    let head = asked.head;
    let mut headers = plan.headers(object);
    match conditional::verdict(&head.headers, &headers) {
        Verdict::Send => {}
        Verdict::Failed => return Err(changed()),
        Verdict::NotModified => {
            headers.remove(header::CONTENT_TYPE);
            headers.remove(header::CONTENT_DISPOSITION);
            return Ok(response(StatusCode::NOT_MODIFIED, headers, Body::default()));
        }
    }
    let field = head.headers.get(header::RANGE).and_then(|field| field.to_str().ok());
    let field = field.filter(|_| head.method == Method::GET && applies(&head.headers, &headers));
    let (status, parts) = match field.map_or(Wanted::All, |field| range::wanted(field, object.size)) {
        Wanted::All => (StatusCode::OK, Parts::one(0..object.size)),
        Wanted::One(range) => {
            headers.insert(header::CONTENT_RANGE, told(&range, object.size));
            (StatusCode::PARTIAL_CONTENT, Parts::one(range))
        }
        Wanted::Many(ranges) => {
            (StatusCode::PARTIAL_CONTENT, Parts::many(&ranges, &mut headers, object.size))
        }
        Wanted::Nothing => return Err(unsatisfiable(object.size)),
    };
    headers.insert(header::CONTENT_LENGTH, parts.length().into());
    let body = match head.method == Method::HEAD {
        true => Body::Unknown,
        false => body(edge, asked, objects, object, parts).await?,
    };
    Ok(response(status, headers, body))
}

/// Says whether parts are asked for of what stands here (RFC 9110, section 13.1.5).
fn applies(asked: &HeaderMap, found: &HeaderMap) -> bool {
    let Some(condition) = asked.get(header::IF_RANGE) else { return true };
    let condition = condition.as_bytes();
    // A weak tag and a date that is another one, if only an older one, say nothing of the bytes.
    [header::ETAG, header::LAST_MODIFIED]
        .into_iter()
        .any(|name| found.get(name).is_some_and(|own| own.as_bytes() == condition))
}

async fn body(
    edge: &Arc<Edge>,
    asked: &Asked<'_>,
    objects: &Objects,
    object: &Named,
    parts: Parts,
) -> Result<Body, Refusal> {
    if parts.length() <= SMALL {
        let mut whole = BytesMut::new();
        for (text, range) in parts.parts {
            whole.extend_from_slice(&text);
            let mut pieces = objects.read(object, range).await.map_err(unanswered)?;
            while let Some(piece) = pieces.next().await.map_err(unanswered)? {
                whole.extend_from_slice(&piece);
            }
        }
        whole.extend_from_slice(&parts.end);
        return Ok(Body::from(whole.freeze()));
    }
    let (pieces, taken) = mpsc::channel(AHEAD);
    let slow = Duration::from_millis(edge.config.slow_client_ms);
    let (objects, object, _held) = (objects.clone(), object.clone(), asked.held.clone());
    edge.tasks.spawn(Pump { objects, object, pieces, slow, _held }.run(parts));
    Ok(Body::Pieces(taken))
}

impl Parts {
    fn one(range: Range<u64>) -> Self {
        Self { parts: vec![(Bytes::new(), range)], end: Bytes::new() }
    }

    /// Several parts, each with fields of its own; the response's type is that of such a list.
    fn many(ranges: &[Range<u64>], headers: &mut HeaderMap, size: u64) -> Self {
        let boundary = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let typed = headers.remove(header::CONTENT_TYPE);
        let typed =
            typed.as_ref().and_then(|typed| typed.to_str().ok()).unwrap_or("application/octet-stream");
        let part = |(at, range): (usize, &Range<u64>)| {
            let lead = if at == 0 { "" } else { "\r\n" };
            let told = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            let text =
                format!("{lead}--{boundary}\r\nContent-Type: {typed}\r\nContent-Range: {told}\r\n\r\n");
            (Bytes::from(text), range.clone())
        };
        let parts = ranges.iter().enumerate().map(part).collect();
        if let Ok(value) = HeaderValue::try_from(format!("multipart/byteranges; boundary={boundary}")) {
            headers.insert(header::CONTENT_TYPE, value);
        }
        Self { parts, end: Bytes::from(format!("\r\n--{boundary}--\r\n")) }
    }

    fn length(&self) -> u64 {
        let parts = self.parts.iter().map(|(text, range)| text.len() as u64 + (range.end - range.start));
        parts.sum::<u64>() + self.end.len() as u64
    }
}

impl Pump {
    /// Sends everything. Where the object goes away meanwhile the body breaks off: nobody takes the part for the whole.
    async fn run(self, parts: Parts) {
        for (text, range) in parts.parts {
            if !self.send(Ok(text)).await {
                return;
            }
            if let Err(error) = self.part(range).await {
                tracing::warn!(object = self.object.name, %error, "an object breaks off");
                self.send(Err(io::Error::other(error))).await;
                return;
            }
        }
        self.send(Ok(parts.end)).await;
    }

    async fn part(&self, range: Range<u64>) -> Result<(), sinew::Error> {
        let mut pieces = self.objects.read(&self.object, range).await?;
        while let Some(piece) = pieces.next().await? {
            if !self.send(Ok(piece)).await {
                break;
            }
        }
        Ok(())
    }

    /// Hands a piece over; says no once nobody takes it. A body that ends before its length breaks its connection.
    async fn send(&self, piece: io::Result<Bytes>) -> bool {
        if piece.as_ref().is_ok_and(Bytes::is_empty) {
            return !self.pieces.is_closed();
        }
        matches!(tokio::time::timeout(self.slow, self.pieces.send(piece)).await, Ok(Ok(())))
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}

fn told(range: &Range<u64>, size: u64) -> HeaderValue {
    let text = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

fn unsatisfiable(size: u64) -> Refusal {
    let status = StatusCode::RANGE_NOT_SATISFIABLE;
    let refusal = Refusal::new(status, "range-not-satisfiable", "the object has no such part");
    refusal.detail(format!("it has {size} bytes")).headers(|headers| {
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
            headers.insert(header::CONTENT_RANGE, value);
        }
    })
}

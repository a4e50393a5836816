//! Reading a request's body: counted, so that a length that is missing or wrong changes nothing, and timed.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use sinew::{Deadline, wire::ContentType};

use crate::{
    form::{Encoding, Form},
    problem::Refusal,
};

/// Longest time to go on reading a body that is refused already.
const LINGER: Duration = Duration::from_millis(500);

/// A body as it came, and how to read it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Payload {
    /// The codec it is in.
    pub(crate) codec: ContentType,
    /// All of it; of a form nothing is left here.
    pub(crate) bytes: Bytes,
    /// What it holds, where it is a form.
    pub(crate) form: Option<Box<Form>>,
}

/// How a body is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// Most bytes.
    pub(crate) limit: usize,
    /// When it comes too late.
    pub(crate) deadline: Deadline,
    /// How many bytes have to come in each second, where that matters.
    pub(crate) pace: Option<u32>,
}

impl Payload {
    /// Returns a body in a codec.
    pub(crate) fn plain(codec: ContentType, bytes: Bytes) -> Self {
        Self { codec, bytes, form: None }
    }

    /// Says whether nothing was sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.form.is_none()
    }
}

/// Reads all of a body.
///
/// # Errors
/// 415 for a media type or content encoding that is not read, 413 for more than `limit` bytes, 408 when it does not
/// come before the deadline, 400 when it breaks off.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    Reading { limit, deadline, pace }: Reading,
) -> Result<Payload, Refusal> {
    if body.is_end_stream() {
        return Ok(Payload::plain(ContentType::Json, Bytes::new()));
    }
    let form = Encoding::of(headers);
    let codec = codec(headers, form.is_some())?;
    let reading = async {
        if body.size_hint().lower() > limit as u64 {
            return Err(Refusal::too_large(limit));
        }
        paced(&mut body, limit, pace).await
    };
    let read = match deadline.remaining() {
        Some(left) => tokio::time::timeout(left, reading).await.unwrap_or_else(|_| Err(late())),
        None => reading.await,
    };
    // A client that asked first has not sent anything yet.
    if read.as_ref().is_err_and(|refusal| refusal.problem().status == 413)
        && !headers.contains_key(header::EXPECT)
    {
        linger(&mut body, limit).await;
    }
    let bytes = read?;
    match form {
        None => Ok(Payload::plain(codec, bytes)),
        Some(encoding) => {
            let form = Some(Box::new(Form::read(&encoding, &bytes)?));
            Ok(Payload { codec, bytes: Bytes::new(), form })
        }
    }
}

/// Reads the media type of a body; absent means JSON. A form is read apart from that.
fn codec(headers: &HeaderMap, form: bool) -> Result<ContentType, Refusal> {
    let identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(identity) {
        return Err(Refusal::unsupported_media(
            "content encodings are not supported: send the body as it is",
        ));
    }
    if form {
        return Ok(ContentType::Json);
    }
    let media_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("not ascii"));
    ContentType::of(media_type).map_err(|error| Refusal::unsupported_media(error.to_string()))
}

/// Collects a body that has to come at a pace, from its first second on.
async fn paced(body: &mut Incoming, limit: usize, pace: Option<u32>) -> Result<Bytes, Refusal> {
    let came = AtomicUsize::new(0);
    let Some(pace) = pace else { return collect(body, limit, &came).await };
    let watch = async {
        let mut due = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            due += pace as usize;
            if came.load(Relaxed) < due {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        collected = collect(body, limit, &came) => collected,
        () = watch => Err(late().detail(format!("send at least {pace} bytes a second"))),
    }
}

async fn collect(body: &mut Incoming, limit: usize, came: &AtomicUsize) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let broken = |error| {
            tracing::debug!(%error, "a request's body broke off");
            Refusal::malformed("the body breaks off or is framed wrongly")
        };
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        came.fetch_add(data.len(), Relaxed);
        if data.len() > limit - first.len() - all.len() {
            return Err(Refusal::too_large(limit));
        }
        // Most bodies come in one piece, which then needs no copy.
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Takes some more of a refused body: a connection closed over unread bytes is reset, and the answer may be lost.
async fn linger(body: &mut Incoming, limit: usize) {
    let swallow = async {
        let mut left = limit;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, swallow).await;
}

fn late() -> Refusal {
    let title = "the request's body did not come in time";
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", title)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &str)]) -> Option<ContentType> {
        let parse = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        codec(&headers.iter().map(parse).collect(), false).ok()
    }

    #[test]
    fn json_and_messagepack_are_read_and_nothing_else() {
        assert_eq!(of(&[]), Some(ContentType::Json));
        assert_eq!(
            of(&[("content-type", "application/merge-patch+json; charset=utf-8")]),
            Some(ContentType::Json)
        );
        assert_eq!(of(&[("content-type", "application/msgpack")]), Some(ContentType::MessagePack));
        assert_eq!(of(&[("content-type", "text/plain")]), None);
        assert_eq!(of(&[("content-type", "ä")]), None);
    }

    #[test]
    fn a_compressed_body_is_refused_rather_than_misread() {
        assert_eq!(of(&[("content-encoding", "gzip")]), None);
        assert_eq!(of(&[("content-encoding", "identity")]), Some(ContentType::Json));
    }
}

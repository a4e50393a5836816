//! Reading a request's body: counted, so that a length that is missing or wrong changes nothing, and timed.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use sinew::{Deadline, wire::ContentType};

use crate::{
    coding::{Coding, Undecoded},
    form::{Encoding, Form},
    problem::Refusal,
};

/// Longest time to go on reading a body that is refused already.
const LINGER: Duration = Duration::from_millis(500);

/// What a client is told that sent something else.
const READ: &str =
    "application/json, application/msgpack, application/x-www-form-urlencoded, multipart/form-data";
const DECODED: &str = "gzip, br, zstd";

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
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Most bytes.
    pub(crate) limit: usize,
    /// When it comes too late.
    pub(crate) deadline: Deadline,
    /// How many bytes have to come in each second, where that matters.
    pub(crate) pace: Option<u32>,
    /// All of it, where it was read before.
    pub(crate) whole: Option<Bytes>,
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
/// 415 for a media type or content encoding that is not read, 413 for more than `limit` bytes, also once decoded, 408 when it does not
/// come before the deadline, 400 when it breaks off.
pub(crate) async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    reading: Reading,
) -> Result<Payload, Refusal> {
    if reading.whole.as_ref().map_or_else(|| body.is_end_stream(), Bytes::is_empty) {
        return Ok(Payload::plain(ContentType::Json, Bytes::new()));
    }
    let coding = coding(headers)?;
    let form = Encoding::of(headers);
    let codec = codec(headers, form.is_some())?;
    let limit = reading.limit;
    let read = match reading.whole {
        Some(whole) => whole,
        None => whole(headers, &mut body, &reading).await?,
    };
    let bytes = match coding {
        None => read,
        Some(coding) => Box::pin(decoded(coding, read, limit)).await?,
    };
    match form {
        None => Ok(Payload::plain(codec, bytes)),
        Some(encoding) => {
            let form = Some(Box::new(Form::read(&encoding, &bytes)?));
            Ok(Payload { codec, bytes: Bytes::new(), form })
        }
    }
}

/// Reads a body as it is, whatever it is.
///
/// # Errors
/// As [`whole`].
pub(crate) async fn raw(headers: &HeaderMap, mut body: Incoming, reading: Reading) -> Result<Bytes, Refusal> {
    match reading.whole {
        Some(whole) => Ok(whole),
        None if body.is_end_stream() => Ok(Bytes::new()),
        None => whole(headers, &mut body, &reading).await,
    }
}

/// Reads all of a body as it comes, whatever it is.
///
/// # Errors
/// 413 for more than the limit, 408 when it does not come in time, 400 when it breaks off.
pub(crate) async fn whole(
    headers: &HeaderMap,
    body: &mut Incoming,
    reading: &Reading,
) -> Result<Bytes, Refusal> {
    let limit = reading.limit;
    let collecting = async {
        if body.size_hint().lower() > limit as u64 {
            return Err(Refusal::too_large(limit));
        }
        paced(body, limit, reading.pace).await
    };
    let read = match reading.deadline.remaining() {
        Some(left) => tokio::time::timeout(left, collecting).await.unwrap_or_else(|_| Err(late())),
        None => collecting.await,
    };
    // A client that asked first has not sent anything yet.
    if read.as_ref().is_err_and(|refusal| refusal.problem().status == 413)
        && !headers.contains_key(header::EXPECT)
    {
        Box::pin(linger(body, limit)).await;
    }
    read
}

/// Reads the media type of a body; absent means JSON. A form is read apart from that.
fn codec(headers: &HeaderMap, form: bool) -> Result<ContentType, Refusal> {
    if form {
        return Ok(ContentType::Json);
    }
    let media_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("not ascii"));
    ContentType::of(media_type).map_err(|error| {
        let refusal = Refusal::unsupported_media(error.to_string());
        refusal.headers(|headers| drop(headers.insert(header::ACCEPT, HeaderValue::from_static(READ))))
    })
}

/// Reads the coding of a body: one at most.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Refusal> {
    let mut named = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(value) = named.next() else { return Ok(None) };
    let name = value.to_str().map(str::trim).unwrap_or_default();
    if named.next().is_none() {
        if name.eq_ignore_ascii_case("identity") {
            return Ok(None);
        }
        if let Some(coding) = Coding::named(name) {
            return Ok(Some(coding));
        }
    }
    let refusal = Refusal::unsupported_media(format!("send the body as it is, or in one of {DECODED}"));
    Err(refusal.headers(|headers| {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(DECODED));
    }))
}

async fn decoded(coding: Coding, bytes: Bytes, limit: usize) -> Result<Bytes, Refusal> {
    coding.decode(bytes, limit).await.map_err(|error| match error {
        Undecoded::TooLarge => Refusal::too_large(limit),
        Undecoded::Malformed => {
            Refusal::malformed(format!("the body is not in the coding {}", coding.as_str()))
        }
    })
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

/// Says that a body did not come in time.
pub(crate) fn late() -> Refusal {
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
    fn one_coding_is_read_and_a_list_of_them_is_not() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            coding(&headers).map_err(|refusal| refusal.into_response().headers()["accept-encoding"].clone())
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&["identity"]).unwrap(), None);
        assert_eq!(of(&["X-Gzip"]).unwrap(), Some(Coding::Gzip));
        for bad in [&["deflate"][..], &["gzip, br"], &["gzip", "br"], &[""]] {
            assert_eq!(of(bad).unwrap_err(), DECODED, "{bad:?}");
        }
    }
}

//! Objects on their way in: counted, timed and checked while they are stored; to be seen once they are whole.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use data_encoding::BASE64;
use futures::{Stream, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use ring::digest::{Context, SHA256};
use sinew::{
    Kind,
    bus::{Expect, Named, Objects},
};
use tokio::time::{Instant, timeout_at};

use super::{ObjectPlan, changed, tag, unchanged};
use crate::{
    Body, Edge, Response,
    body::{self, Reading},
    exchange::Asked,
    problem::{self, Refusal},
};

/// Why an object is not stored.
#[derive(Debug)]
enum Failed {
    Body(Refusal),
    Bus(sinew::Error),
}

/// A body as it comes.
struct Coming {
    body: Incoming,
    /// All of it, where it was read before.
    whole: Option<Bytes>,
    limit: u64,
    came: u64,
    began: Instant,
    deadline: Option<Instant>,
    pace: Option<u32>,
    /// What its bytes have to come to, and what they came to so far.
    digest: Option<(Vec<u8>, Context)>,
}

/// Stores a body as an object: 201 with its place where there was none, 204 where one was replaced.
///
/// # Errors
/// 412 where the conditions are not met, 413 for too many bytes, 415 for a coding, 400 for a body that breaks off or is
/// not what its digest says, 408 where it does not come in time.
pub(super) async fn put(
    edge: &Arc<Edge>,
    plan: &ObjectPlan,
    asked: &Asked<'_>,
    (objects, name, found): (Objects, String, Option<Named>),
    body: Incoming,
) -> Result<Response, Refusal> {
    let headers = &asked.head.headers;
    unchanged(plan, asked, found.as_ref())?;
    let reading = asked.reading(edge);
    let limit = plan.max_bytes.unwrap_or(reading.limit as u64);
    let coming = Coming::new(headers, body, reading, limit)?;
    if found.is_none() {
        let open = edge.bus.objects(&plan.bucket, plan.replicas).await;
        open.map_err(super::unanswered)?;
    }
    let conditional = [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_UNMODIFIED_SINCE];
    let conditional = conditional.iter().any(|name| headers.contains_key(name));
    let expect = match &found {
        _ if !conditional => Expect::Anything,
        Some(found) => Expect::Revision(found.revision),
        None => Expect::Nothing,
    };
    let typed = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // Goes on where the client is gone: what it began is taken away again.
    let storing = edge.tasks.spawn(async move {
        let bytes = Box::pin(coming.bytes());
        objects.store(&name, typed.as_deref(), expect, bytes).await
    });
    let stored = storing.await.map_err(|_| Refusal::internal())?;
    let (object, replaced) = stored.map_err(|failed| match failed {
        Failed::Body(refusal) => refusal,
        Failed::Bus(error) if error.kind() == Kind::Conflict && conditional => changed(),
        Failed::Bus(error) => problem::of_bus(&error, true).into(),
    })?;
    Ok(answer(asked, &object, replaced))
}

fn answer(asked: &Asked<'_>, object: &Named, replaced: bool) -> Response {
    let mut response = Response::new(Body::default());
    *response.status_mut() = if replaced { StatusCode::NO_CONTENT } else { StatusCode::CREATED };
    let place = (!replaced).then(|| HeaderValue::try_from(asked.head.uri.path()).ok()).flatten();
    let fields = [(header::ETAG, HeaderValue::try_from(tag(object)).ok()), (header::LOCATION, place)];
    response.headers_mut().extend(fields.into_iter().filter_map(|(name, value)| Some((name, value?))));
    response
}

impl Coming {
    fn new(headers: &HeaderMap, body: Incoming, reading: Reading, limit: u64) -> Result<Self, Refusal> {
        let coding = headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
            return Err(Refusal::unsupported_media("send the object as it is, without a coding"));
        }
        if headers.contains_key(header::CONTENT_RANGE) {
            return Err(Refusal::malformed("an object is written whole: send it without Content-Range"));
        }
        if body.size_hint().lower() > limit {
            return Err(too_large(limit));
        }
        let digest = headers.get("content-digest").map(said).transpose()?.flatten();
        let now = Instant::now();
        Ok(Self {
            body,
            whole: reading.whole,
            limit,
            came: 0,
            began: now,
            deadline: reading.deadline.remaining().map(|left| now + left),
            pace: reading.pace,
            digest: digest.map(|digest| (digest, Context::new(&SHA256))),
        })
    }

    fn bytes(self) -> impl Stream<Item = Result<Bytes, Failed>> + Send {
        stream::try_unfold(self, |mut coming| async move {
            let next = coming.next().await.map_err(Failed::Body)?;
            Ok(next.map(|bytes| (bytes, coming)))
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        let bytes = match self.whole.take() {
            Some(whole) if !whole.is_empty() => Some(whole),
            _ => self.frame().await?,
        };
        let Some(bytes) = bytes else {
            return match self.digest.take() {
                Some((said, digest)) if digest.clone().finish().as_ref() != said => {
                    Err(Refusal::malformed("the object is not what Content-Digest says: send it again"))
                }
                _ => Ok(None),
            };
        };
        self.came += bytes.len() as u64;
        if self.came > self.limit {
            return Err(too_large(self.limit));
        }
        if let Some((_, digest)) = &mut self.digest {
            digest.update(&bytes);
        }
        Ok(Some(bytes))
    }

    async fn frame(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            let frame = match self.due() {
                Some(due) => timeout_at(due, self.body.frame()).await.map_err(|_| body::late())?,
                None => self.body.frame().await,
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| Refusal::malformed("the body breaks off or is framed wrongly"))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
    }

    /// Returns when the next bytes come too late.
    fn due(&self) -> Option<Instant> {
        let paced = self
            .pace
            .filter(|pace| *pace > 0)
            .map(|pace| self.began + Duration::from_secs(1 + self.came / u64::from(pace)));
        [paced, self.deadline].into_iter().flatten().min()
    }
}

impl From<sinew::Error> for Failed {
    fn from(error: sinew::Error) -> Self {
        Self::Bus(error)
    }
}

/// Reads the SHA-256 of a `Content-Digest` (RFC 9530); others are not checked.
fn said(value: &HeaderValue) -> Result<Option<Vec<u8>>, Refusal> {
    let unreadable = || Refusal::malformed("Content-Digest is unreadable: write sha-256=:<base64>:");
    let text = value.to_str().map_err(|_| unreadable())?;
    let named = text.split(',').find_map(|one| one.trim().strip_prefix("sha-256="));
    let Some(named) = named else { return Ok(None) };
    let encoded = named.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or_else(unreadable)?;
    BASE64.decode(encoded.as_bytes()).map(Some).map_err(|_| unreadable())
}

fn too_large(limit: u64) -> Refusal {
    Refusal::too_large(usize::try_from(limit).unwrap_or(usize::MAX))
}

//! Idempotency keys: a change is asked for once, and whoever repeats the request gets the reply to the first one.
//!
//! A key is claimed by compare-and-set in a bucket before the operation is asked, so that of several edges one asks. Once
//! claimed, the operation is asked to its end even where the client goes away: it comes back for the reply. A claim whose
//! edge was killed expires when nobody can answer it any more; then the operation is asked again with the same key in its
//! message, by which a service recognises it. Keys of callers with other credentials never meet.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use sinew::{
    Kind,
    bus::Kv,
    wire::{ContentType, decode, encode},
};

use super::{State, key::Digest};
use crate::{
    Body, Edge, Response, body, config, exchange, exchange::Asked, problem::Refusal, request, served::Served,
};

/// Where claims and replies stand, by digests of keys and callers.
const BUCKET: &str = "EDGE_REPLIES";
/// Says that a reply is one that was given before.
const REPLAYED: &str = "idempotency-replayed";
/// How much longer than its request a claim stands: nobody is at it any more then.
const MARGIN: Duration = Duration::from_secs(2);
/// How long a key that is free again is told from one that never stood.
const FREED: Duration = Duration::from_secs(1);
/// How often a claim or a reply is written before it is given up.
const ATTEMPTS: usize = 3;

/// The policy of one route.
#[derive(Debug)]
pub(crate) struct Idempotency {
    asked: config::Idempotency,
}

/// What stands under a key.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Record {
    /// Somebody asks.
    Claimed { of: Digested },
    /// It was answered.
    Answered { of: Digested, status: u16, headers: Vec<(String, String)>, body: String },
    /// It was answered with what is not kept: too much, or a stream.
    NotKept { of: Digested, status: u16 },
    /// Anybody may ask.
    Free,
}

/// The digest of a request, as two numbers.
type Digested = (u64, u64);

/// A key that this edge holds.
struct Claim {
    bucket: Kv,
    key: String,
    of: Digested,
    revision: u64,
}

impl Idempotency {
    pub(super) fn new(asked: &config::Idempotency) -> Self {
        Self { asked: asked.clone() }
    }

    pub(super) fn line(&self) -> String {
        let required = if self.asked.required { "required" } else { "honoured" };
        format!("idempotency keys {required}, replies kept {} s", self.asked.keep().as_secs())
    }

    /// Says whether requests of a method have to have a key.
    pub(crate) fn is_required(&self, method: &Method) -> bool {
        self.asked.required && matches!(*method, Method::POST | Method::PATCH)
    }

    /// Asks once for each key, and repeats the reply.
    ///
    /// # Errors
    /// 400 for a key that is missing or none, 409 while the same request is under way, 422 for a key of another request, 503
    /// when the bucket cannot be asked; then nothing was done.
    pub(crate) async fn ask(
        &self,
        edge: &Arc<Edge>,
        served: &Arc<Served>,
        mut asked: Asked<'_>,
        mut body: Incoming,
    ) -> Result<Response, Refusal> {
        if matches!(asked.head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return exchange::kept(edge, served, asked, body).await;
        }
        let Some(key) = request::idempotency_key(&asked.head.headers)? else {
            if self.is_required(&asked.head.method) {
                return Err(self.missing());
            }
            return exchange::kept(edge, served, asked, body).await;
        };
        let whole = body::whole(&asked.head.headers, &mut body, &asked.reading(edge)).await?;
        let (key, of) = (scope(&asked, &key), fingerprint(&asked, &whole));
        asked.body = Some(whole);
        let lease = asked.deadline.remaining().unwrap_or_else(|| edge.config.request_timeout()) + MARGIN;
        let bucket = edge.policies.replies(edge).await?;
        match claim(bucket, key, of, lease).await? {
            Ok(claim) => settled(self.asked.clone(), claim, edge, served, asked, body).await,
            Err(response) => Ok(response),
        }
    }

    fn missing(&self) -> Refusal {
        let title = "the request needs an idempotency key";
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, "idempotency-key-missing", title);
        let link = match &self.asked.docs {
            Some(href) => format!("<{href}>; rel=\"help\""),
            None => "</openapi.json>; rel=\"service-desc\"".to_owned(),
        };
        refusal
            .detail(
                "send a header field Idempotency-Key, a new one for every change and the same to repeat one",
            )
            .headers(|headers| {
                if let Ok(link) = HeaderValue::try_from(link) {
                    headers.insert(header::LINK, link);
                }
            })
    }
}

impl State {
    async fn replies(&self, edge: &Edge) -> Result<&Kv, Refusal> {
        self.replies.get_or_try_init(|| edge.bus.kv(BUCKET)).await.map_err(|error| unclaimed(&error))
    }
}

impl Record {
    fn read(bytes: &[u8]) -> Option<Self> {
        decode(ContentType::MessagePack, bytes).ok()
    }

    fn write(&self) -> Bytes {
        encode(ContentType::MessagePack, self).unwrap_or_default()
    }

    fn answered(of: Digested, response: &Response, most: usize) -> Self {
        let status = response.status().as_u16();
        let not_kept = Self::NotKept { of, status };
        let Body::Whole(body) = response.body() else { return not_kept };
        let Some(bytes) = body.clone().frame().now_or_never() else { return not_kept };
        let bytes = bytes.and_then(|frame| frame.ok()?.into_data().ok()).unwrap_or_default();
        if bytes.len() > most
            || response.headers().iter().map(|(_, value)| value.len()).sum::<usize>() > 64 * 1024
        {
            return not_kept;
        }
        let headers =
            response.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())));
        Self::Answered { of, status, headers: headers.collect(), body: data_encoding::BASE64.encode(&bytes) }
    }

    /// Says what the record means for a request that comes again; nothing where it may be asked.
    fn answer(self, own: Digested) -> Option<Result<Response, Refusal>> {
        let of = match &self {
            Self::Free => return None,
            Self::Claimed { of } | Self::Answered { of, .. } | Self::NotKept { of, .. } => *of,
        };
        if of != own {
            return Some(Err(reused()));
        }
        Some(match self {
            Self::Free | Self::Claimed { .. } => Err(under_way()),
            Self::NotKept { status, .. } => Err(not_kept(status)),
            Self::Answered { status, headers, body, .. } => {
                replay(status, &headers, &body).ok_or_else(|| not_kept(status))
            }
        })
    }
}

impl Claim {
    /// Writes what became of it. Where that fails the claim expires, and the operation is asked again with the same key.
    async fn settle(self, record: &Record, keep: Duration) {
        for _ in 0..ATTEMPTS {
            match self.bucket.swap(&self.key, record.write(), self.revision, Some(keep)).await {
                Ok(_) => return,
                // It expired and is somebody else's, or an earlier attempt was written after all.
                Err(error) if error.kind() == Kind::Conflict => break,
                Err(error) => tracing::warn!(%error, "the reply to an idempotency key is not kept yet"),
            }
        }
    }
}

/// Claims a key, or returns what it was answered with.
async fn claim(
    bucket: &Kv,
    key: String,
    of: Digested,
    lease: Duration,
) -> Result<Result<Claim, Response>, Refusal> {
    let (record, mut revision) = (Record::Claimed { of }.write(), 0);
    for _ in 0..ATTEMPTS {
        match bucket.swap(&key, record.clone(), revision, Some(lease)).await {
            Ok(revision) => return Ok(Ok(Claim { bucket: bucket.clone(), key, of, revision })),
            Err(error) if error.kind() == Kind::Conflict => {}
            Err(error) => return Err(unclaimed(&error)),
        }
        let entry = bucket.get(&key).await.map_err(|error| unclaimed(&error))?;
        revision = entry.as_ref().map_or(0, |entry| entry.revision);
        let standing = entry.and_then(|entry| entry.value).and_then(|value| Record::read(&value));
        if let Some(answer) = standing.and_then(|record| record.answer(of)) {
            return answer.map(Err);
        }
    }
    // So many want it that somebody has it.
    Err(under_way())
}

/// Asks to the end, whoever still waits for it, and keeps the reply.
async fn settled(
    policy: config::Idempotency,
    claim: Claim,
    edge: &Arc<Edge>,
    served: &Arc<Served>,
    asked: Asked<'_>,
    body: Incoming,
) -> Result<Response, Refusal> {
    let (edge, served, head) = (edge.clone(), served.clone(), asked.head.clone());
    let values: Vec<String> = asked.values.iter().map(|value| value.clone().into_owned()).collect();
    let Asked { trace, deadline, peer, held, body: whole, .. } = asked;
    let tasks = edge.tasks.clone();
    let asking = tasks.spawn(async move {
        let values = values.iter().map(|value| Cow::Borrowed(value.as_str())).collect();
        let policies = &*served.policies;
        let asked = Asked { head: &head, values, trace, deadline, peer, policies, held, body: whole };
        let answer = exchange::kept(&edge, &served, asked, body).await;
        let response = answer.unwrap_or_else(Refusal::into_response);
        if policy.keep_failures || is_final(response.status()) {
            let record = Record::answered(claim.of, &response, policy.max_reply_bytes);
            claim.settle(&record, policy.keep()).await;
        } else {
            claim.settle(&Record::Free, FREED).await;
        }
        response
    });
    asking.await.map_err(|error| {
        tracing::error!(%error, "asking an operation panicked");
        Refusal::internal()
    })
}

/// Says whether asking again would bring the same.
fn is_final(status: StatusCode) -> bool {
    status.as_u16() < 500 && !matches!(status.as_u16(), 401 | 403 | 408 | 425 | 429)
}

/// Returns where a key stands: callers with other credentials, or of other hosts, never meet.
fn scope(asked: &Asked<'_>, key: &str) -> String {
    let headers = &asked.head.headers;
    let mut parts = vec![Some(key.as_bytes())];
    for name in [header::HOST, header::AUTHORIZATION, header::COOKIE] {
        let values = headers.get_all(name).iter();
        parts.extend(values.map(|value| Some(value.as_bytes())).chain([None]));
    }
    data_encoding::HEXLOWER.encode(&Digest::of_parts(parts).0)
}

/// Tells a request from others with its key.
fn fingerprint(asked: &Asked<'_>, body: &[u8]) -> Digested {
    let (head, body) = (asked.head, digest(&SHA256, body));
    let field = |name: HeaderName| head.headers.get(name).map(HeaderValue::as_bytes);
    let target = head.uri.path_and_query().map(|target| target.as_str().as_bytes());
    let parts = [
        Some(head.method.as_str().as_bytes()),
        target,
        field(header::CONTENT_TYPE),
        field(header::CONTENT_ENCODING),
        Some(body.as_ref()),
    ];
    Digest::of_parts(parts).into()
}

fn replay(status: u16, headers: &[(String, String)], body: &str) -> Option<Response> {
    let body = data_encoding::BASE64.decode(body.as_bytes()).ok()?;
    let mut response = Response::new(Body::from(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    let mut fields = HeaderMap::new();
    for (name, value) in headers {
        let bytes: Vec<u8> = value.chars().map(|one| u8::try_from(one).unwrap_or(b'?')).collect();
        fields.append(HeaderName::try_from(name.as_str()).ok()?, HeaderValue::from_bytes(&bytes).ok()?);
    }
    fields.insert(REPLAYED, HeaderValue::from_static("true"));
    *response.headers_mut() = fields;
    Some(response)
}

/// Writes bytes as characters of the same numbers, as header fields may hold more than text.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn unclaimed(error: &sinew::Error) -> Refusal {
    tracing::debug!(%error, "an idempotency key cannot be claimed");
    let refusal =
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "bus-down", "the message bus is not reachable");
    refusal
        .detail("the idempotency key could not be claimed, so nothing was done: send the same again")
        .after(1)
}

fn under_way() -> Refusal {
    let title = "the request with this idempotency key is under way";
    let refusal = Refusal::new(StatusCode::CONFLICT, "request-under-way", title);
    refusal.detail("send the same again a little later to get its reply").after(1)
}

fn reused() -> Refusal {
    let title = "the idempotency key belongs to another request";
    let refusal = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused", title);
    refusal.detail("use a new key for every change")
}

fn not_kept(status: u16) -> Refusal {
    let title = "the request was answered, and its reply is not kept";
    let refusal = Refusal::new(StatusCode::CONFLICT, "reply-not-kept", title);
    refusal.detail("it was a stream or too large; look at what the request changed").with("answered", status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_kept_reply_comes_back_byte_for_byte(
            body in any::<Vec<u8>>(), field in "[\\x20-\\x7e]{0,20}", status in 200u16..500,
        ) {
            let mut response = Response::new(Body::from(Bytes::from(body.clone())));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().append("x-one", HeaderValue::from_bytes(field.as_bytes()).unwrap());
            response.headers_mut().append("x-one", HeaderValue::from_bytes(b"\xe4").unwrap());
            let record = Record::answered((1, 2), &response, 1_000_000);
            let again = Record::read(&record.write()).unwrap().answer((1, 2)).unwrap().unwrap();
            prop_assert_eq!(again.status(), response.status());
            prop_assert_eq!(again.headers()["x-one"].as_bytes(), field.as_bytes());
            prop_assert_eq!(again.headers().get_all("x-one").iter().count(), 2);
            prop_assert_eq!(&again.headers()[REPLAYED], "true");
            let Body::Whole(whole) = again.into_body() else { panic!("a whole body") };
            let bytes = whole.collect().now_or_never().unwrap().unwrap().to_bytes();
            prop_assert_eq!(bytes.as_ref(), body.as_slice());
        }
    }

    #[test]
    fn a_record_answers_its_own_request_only() {
        let status = |record: Record, own| {
            record.answer(own).map(|answer| answer.unwrap_err().problem().code.clone()).unwrap_or_default()
        };
        assert_eq!(status(Record::Free, (1, 2)), "");
        assert_eq!(status(Record::Claimed { of: (1, 2) }, (1, 2)), "request-under-way");
        assert_eq!(status(Record::Claimed { of: (1, 2) }, (1, 3)), "idempotency-key-reused");
        let large = Response::new(Body::from(Bytes::from_static(b"four")));
        let record = Record::answered((1, 2), &large, 3);
        assert_eq!(status(record, (1, 2)), "reply-not-kept");
    }
}

//! Several operations in one response: asked at once, one member each.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use http::StatusCode;
use serde_json::{Map, Value};
use sinew::wire::{ContentType, decode, encode};

use crate::{
    Edge, Response, accept,
    body::Payload,
    call,
    exchange::Asked,
    problem::{self, Refusal},
    reply,
    request::{self, Given},
    served::{Member, Served},
};

/// Asks all members. One that may be missing is `null` where it fails; of the others the first failure is the answer.
///
/// # Errors
/// Why a member that is needed is missing, with its name.
pub(crate) async fn all(
    edge: &Arc<Edge>,
    served: &Served,
    members: &[Member],
    asked: Asked<'_>,
) -> Result<Response, Refusal> {
    let wanted = accept::negotiate(&asked.head.headers)?;
    let answers = join_all(members.iter().map(|member| one(edge, member, &asked))).await;
    let mut whole = Map::new();
    for (member, answer) in members.iter().zip(answers) {
        let value = match answer {
            Ok(value) => value,
            Err(refusal) if member.optional && is_failure(&refusal) => {
                tracing::debug!(route = served.name, member = member.name, problem = %refusal.problem(), "left out");
                Value::Null
            }
            Err(refusal) => return Err(refusal.with("member", member.name.as_str())),
        };
        whole.insert(member.name.clone(), value);
    }
    let bytes = encode(wanted, &whole).map_err(|_| Refusal::internal())?;
    let status = served.shape.status.unwrap_or(StatusCode::OK);
    served.shape.apply(reply::response(status, None, wanted, bytes.clone()), &bytes, wanted)
}

/// A client that asks wrongly is told so, whatever may be missing.
fn is_failure(refusal: &Refusal) -> bool {
    refusal.problem().code != problem::INVALID
}

async fn one(edge: &Arc<Edge>, member: &Member, asked: &Asked<'_>) -> Result<Value, Refusal> {
    let operation = call::known(&member.callee)?;
    let nothing = Payload::plain(ContentType::Json, Bytes::new());
    let given = Given { head: asked.head, values: &asked.values, body: &nothing };
    let payload = request::payload(&operation.request, &member.mapping, &given, operation.codec)?;
    let (span, sent) = call::send(edge, operation, asked, payload).await?;
    let message = sent.map_err(|error| Refusal::from(problem::of_bus(&error, operation.idempotent)));
    let read = message.and_then(|message| {
        let bytes = reply::body(&message, operation, ContentType::Json, operation.idempotent)?;
        decode(ContentType::Json, &bytes).map_err(|_| problem::malformed_reply().into())
    });
    call::end(span, read)
}

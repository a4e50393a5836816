//! `call: a2a`: a method of an agent, by JSON-RPC over HTTP.

use ::http::HeaderMap;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sinew_workflow::Fault;

use crate::call::Scope;
use crate::document::endpoint_of;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::rpc::{self, Peer};

/// The methods that change nothing.
const SAFE: [&str; 6] = [
    "tasks/get",
    "tasks/list",
    "tasks/resubscribe",
    "tasks/pushNotificationConfig/get",
    "tasks/pushNotificationConfig/list",
    "agent/getAuthenticatedExtendedCard",
];
const UNSAFE: [&str; 5] = [
    "message/send",
    "message/stream",
    "tasks/cancel",
    "tasks/pushNotificationConfig/set",
    "tasks/pushNotificationConfig/delete",
];
const ID: u64 = 1;

/// Looks whether the agent's card says where it is.
pub(crate) async fn examine(scope: Scope<'_>, arguments: &Value) -> Result<(), Failure> {
    agent(scope, arguments).await.map(drop)
}

/// Carries out `call: a2a`.
pub(crate) async fn call(scope: Scope<'_>, arguments: &Value) -> Result<Value, Failure> {
    let method = arguments.get("method").and_then(Value::as_str).unwrap_or_default();
    if !SAFE.contains(&method) && !UNSAFE.contains(&method) {
        let all = [&SAFE[..], &UNSAFE[..]].concat().join(", ");
        return Err(Failure::configuration(format!("there is no A2A method `{method}`: write one of {all}")));
    }
    let peer = Peer { scope, endpoint: agent(scope, arguments).await?, headers: HeaderMap::new() };
    let asked = ask(&peer, method, &parameters(scope, method, arguments)?).await;
    if SAFE.contains(&method) { asked.map_err(Failure::of_safe_request) } else { asked }
}

async fn ask(peer: &Peer<'_>, method: &str, parameters: &Value) -> Result<Value, Failure> {
    let streams = matches!(method, "message/stream" | "tasks/resubscribe");
    // A stream ends when the agent ends it; anything else with its answer.
    let enough = |message: &Value| !streams && rpc::answers(message, ID);
    let answered = peer.send(&rpc::request(ID, method, parameters), enough).await?;
    let mut results = answered.messages.into_iter().map(rpc::result);
    if streams {
        return results.collect::<Result<Vec<_>, _>>().map(Value::Array);
    }
    results
        .next_back()
        .unwrap_or_else(|| Err(Failure::unknown(Fault::communication("the agent answered without a result"))))
}

/// Finds out where the agent is: its card says so, or the task.
async fn agent(scope: Scope<'_>, arguments: &Value) -> Result<Endpoint, Failure> {
    if arguments.get("agentCard").is_none() {
        let missing =
            || Failure::configuration("the call names no agent: give it an `agentCard` or a `server`");
        return Endpoint::read(arguments.get("server").ok_or_else(missing)?, None, scope.revealer())?.http();
    }
    let card_at = Endpoint::read(endpoint_of(arguments, "agentCard")?, None, scope.revealer())?;
    let card = scope.core.documents.at(scope, &card_at).await?;
    let missing = || Failure::configuration("the agent card names no JSON-RPC endpoint");
    let url = interface(&card).ok_or_else(missing)?;
    let mut agent =
        Endpoint::read(&Value::String(url.to_owned()), Some(&card_at.url), scope.revealer())?.http()?;
    // Who may see the card may talk to the agent, where both are of the same origin.
    if agent.authentication.is_none() && agent.url.origin() == card_at.url.origin() {
        agent.authentication = card_at.authentication;
    }
    Ok(agent)
}

/// Returns the address of the agent's JSON-RPC interface; versions of A2A differ in where it is.
fn interface(card: &Value) -> Option<&str> {
    let is_rpc = |interface: &&Value, key: &str| {
        interface.get(key).and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("JSONRPC"))
    };
    let among = |list: &str, key: &str| {
        let interfaces = card.get(list).and_then(Value::as_array)?;
        interfaces.iter().find(|interface| is_rpc(interface, key))?.get("url")?.as_str()
    };
    let preferred = card.get("preferredTransport").and_then(Value::as_str).unwrap_or("JSONRPC");
    among("supportedInterfaces", "protocolBinding")
        .or_else(|| {
            card.get("url").and_then(Value::as_str).filter(|_| preferred.eq_ignore_ascii_case("JSONRPC"))
        })
        .or_else(|| among("additionalInterfaces", "transport"))
}

/// Reveals the parameters, and completes a message: it needs an id, and comes from a user.
fn parameters(scope: Scope<'_>, method: &str, arguments: &Value) -> Result<Value, Failure> {
    let given = arguments.get("parameters").unwrap_or(&Value::Null);
    let mut parameters = scope.revealer().value(given).map_err(Failure::refused)?;
    if matches!(method, "message/send" | "message/stream") {
        if !parameters.is_object() {
            parameters = Value::Object(Map::new());
        }
        let message = &mut parameters["message"];
        if !message.is_object() {
            *message = json!({});
        }
        for (name, value) in [("messageId", message_id(scope.key)), ("role", "user".to_owned())] {
            if message[name].is_null() {
                message[name] = Value::String(value);
            }
        }
    }
    Ok(parameters)
}

/// Makes the id of a message from the key of the call, so that a repetition is recognised.
fn message_id(key: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(key).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

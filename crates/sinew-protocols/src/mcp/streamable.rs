//! MCP over streamable HTTP: every message is a request, every answer a message or a stream of them.

use ::http::header::{HeaderName, HeaderValue};
use ::http::{HeaderMap, Method};
use bytes::Bytes;
use serde_json::Value;
use sinew_workflow::Fault;

use super::{ASK, INITIALIZE, Question, agreed, initialized, not_begun};
use crate::call::Scope;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http;
use crate::rpc::{self, Answered, Peer};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Begins a session, asks, and ends it.
pub(super) async fn ask(
    scope: Scope<'_>,
    transport: &Value,
    question: &Question<'_>,
) -> Result<Value, Failure> {
    let endpoint = transport.get("endpoint").unwrap_or(&Value::Null);
    let endpoint = Endpoint::read(endpoint, None, scope.revealer())?.http()?;
    let headers = http::headers(&http::members(transport, "headers")?, scope.revealer())?;
    // The key is that of the question: whoever remembers keys must not take the beginning for it.
    let mut peer = Peer { scope: Scope { key: "", ..scope }, endpoint, headers };
    begin(&mut peer, question).await.map_err(not_begun)?;
    peer.scope = scope;
    let answered = peer.send(&question.ask(), |message| rpc::answers(message, ASK)).await;
    let result = answered.and_then(|answered| answer(answered, ASK));
    end(&peer).await;
    result
}

async fn begin(peer: &mut Peer<'_>, question: &Question<'_>) -> Result<(), Failure> {
    let answered = peer.send(&question.initialize(), |message| rpc::answers(message, INITIALIZE)).await?;
    let session = answered.headers.get(SESSION).cloned();
    let said = answer(answered, INITIALIZE)?;
    if let Some(session) = session {
        peer.headers.insert(SESSION, session);
    }
    if let Ok(version) = HeaderValue::from_str(agreed(&said, question.version)) {
        peer.headers.insert(PROTOCOL, version);
    }
    peer.send(&initialized(), |_| true).await.map(drop)
}

/// Lets the server forget the session. It may refuse to be told, and forgets by itself sooner or later.
async fn end(peer: &Peer<'_>) {
    if !peer.headers.contains_key(SESSION) {
        return;
    }
    let policy = peer.endpoint.authentication.as_ref();
    let told = http::authorized(peer.scope, policy, |_| {
        let headers: HeaderMap = peer.headers.clone();
        http::plain(Method::DELETE, &peer.endpoint.url, headers, Bytes::new())
    });
    let _ = told.await;
}

fn answer(answered: Answered, id: u64) -> Result<Value, Failure> {
    let mut messages = answered.messages.into_iter();
    let unanswered = || Failure::unknown(Fault::communication("the MCP server answered without a result"));
    rpc::result(messages.find(|message| rpc::answers(message, id)).ok_or_else(unanswered)?)
}

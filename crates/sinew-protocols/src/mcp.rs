//! `call: mcp`: a method of a Model Context Protocol server, over streamable HTTP or standard input and output.

use serde_json::{Value, json};
use sinew_workflow::Fault;

use crate::call::{Scope, deadline};
use crate::failure::Failure;
use crate::{duration, rpc};

mod stdio;
mod streamable;

const VERSION: &str = "2025-06-18";
const METHODS: [&str; 7] = [
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/read",
    "resources/templates/list",
];

/// What a session is begun with, and the one question it is begun for.
#[derive(Debug)]
struct Question<'a> {
    initialize: Value,
    version: &'a str,
    method: &'a str,
    parameters: Value,
}

/// The ids of the two requests a session has.
const INITIALIZE: u64 = 1;
const ASK: u64 = 2;

/// Carries out `call: mcp`.
pub(crate) async fn call(scope: Scope<'_>, arguments: &Value) -> Result<Value, Failure> {
    let arguments = &scope.revealer().value(arguments).map_err(Failure::refused)?;
    let scope = within(scope, arguments)?;
    let question = Question::read(arguments)?;
    let transport = arguments.get("transport").unwrap_or(&Value::Null);
    let asked = match (transport.get("http"), transport.get("stdio")) {
        (Some(http), _) => streamable::ask(scope, http, &question).await,
        (None, Some(stdio)) => stdio::ask(scope, stdio, &question).await,
        (None, None) => Err(Failure::configuration("the `transport` is neither `http` nor `stdio`")),
    };
    let asked = asked.and_then(|result| question.check(result));
    if question.method == "tools/call" { asked } else { asked.map_err(Failure::of_safe_request) }
}

/// Applies the call's own timeout, if it is the shorter one.
fn within<'a>(scope: Scope<'a>, arguments: &Value) -> Result<Scope<'a>, Failure> {
    let Some(timeout) = arguments.get("timeout").filter(|timeout| !timeout.is_null()) else {
        return Ok(scope);
    };
    let own = deadline(duration::read(timeout)?);
    Ok(Scope { deadline: own.min(scope.deadline), ..scope })
}

impl<'a> Question<'a> {
    fn read(arguments: &'a Value) -> Result<Self, Failure> {
        let method = arguments.get("method").and_then(Value::as_str).unwrap_or_default();
        if !METHODS.contains(&method) {
            let detail =
                format!("there is no MCP method `{method}` to call: write one of {}", METHODS.join(", "));
            return Err(Failure::configuration(detail));
        }
        let version = arguments.get("protocolVersion").and_then(Value::as_str).unwrap_or(VERSION);
        let client = arguments.get("client").cloned();
        let client =
            client.unwrap_or_else(|| json!({ "name": "sinew", "version": env!("CARGO_PKG_VERSION") }));
        let parameters = arguments.get("parameters").cloned().unwrap_or_else(|| json!({}));
        let initialize = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": client });
        Ok(Self { initialize, version, method, parameters })
    }

    fn initialize(&self) -> Value {
        rpc::request(INITIALIZE, "initialize", &self.initialize)
    }

    fn ask(&self) -> Value {
        rpc::request(ASK, self.method, &self.parameters)
    }

    /// A tool reports its own failures within a result; for a workflow they are failures like others.
    fn check(&self, result: Value) -> Result<Value, Failure> {
        if self.method != "tools/call" || result.get("isError") != Some(&Value::Bool(true)) {
            return Ok(result);
        }
        let content = result.get("content").and_then(Value::as_array).into_iter().flatten();
        let said: Vec<_> = content.filter_map(|part| part.get("text")?.as_str()).collect();
        let tool = self.parameters.get("name").and_then(Value::as_str).unwrap_or_default();
        Err(Failure::unknown(Fault::runtime(format!("the tool `{tool}` failed: {}", said.join(" ")))))
    }
}

/// Tells the server that the session stands.
fn initialized() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

/// Reads the version the server chose, which is the one to go on with.
fn agreed<'a>(initialized: &'a Value, asked: &'a str) -> &'a str {
    initialized.get("protocolVersion").and_then(Value::as_str).unwrap_or(asked)
}

/// The session could not be begun: the question was not asked.
fn not_begun(failure: Failure) -> Failure {
    failure.of_safe_request().during("initializing the MCP session")
}

//! MCP over standard input and output: the server is a process of this machine, one message a line.

use serde_json::{Value, json};
use sinew_workflow::Fault;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout_at;

use super::{ASK, INITIALIZE, Question, initialized, not_begun};
use crate::call::Scope;
use crate::failure::Failure;
use crate::process;
use crate::rpc;

/// A conversation with a process.
#[derive(Debug)]
struct Talk {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    limit: usize,
}

/// Starts the server, asks, and ends it.
pub(super) async fn ask(
    scope: Scope<'_>,
    transport: &Value,
    question: &Question<'_>,
) -> Result<Value, Failure> {
    let mut server = process::server(scope, transport)?;
    let (Some(stdin), Some(stdout), Some(mut stderr)) = server.streams() else {
        return Err(Failure::not_sent(Fault::runtime("the MCP server has no standard streams")));
    };
    let mut talk = Talk { stdin, stdout: BufReader::new(stdout), limit: scope.core.settings.max_body };
    let asked = async {
        talk.begin(question).await.map_err(not_begun)?;
        talk.ask(&question.ask(), ASK).await
    };
    // What it complains is read so that it never waits for a reader, and not kept.
    let complaints = async {
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        std::future::pending::<()>().await;
    };
    let both = async {
        tokio::select! {
            asked = asked => asked,
            () = complaints => Err(ended()),
        }
    };
    let result = timeout_at(scope.deadline, both).await;
    server.kill().await;
    result.unwrap_or_else(|_| Err(Failure::unknown(Fault::timeout("the MCP server did not answer in time"))))
}

impl Talk {
    async fn begin(&mut self, question: &Question<'_>) -> Result<(), Failure> {
        self.ask(&question.initialize(), INITIALIZE).await?;
        self.say(&initialized()).await
    }

    async fn ask(&mut self, request: &Value, id: u64) -> Result<Value, Failure> {
        self.say(request).await?;
        loop {
            let message = self.hear().await?;
            if rpc::answers(&message, id) {
                return rpc::result(message);
            }
            self.answer(&message).await?;
        }
    }

    /// Answers what the server asks in its turn: that we are there, and that we can do nothing for it.
    async fn answer(&mut self, message: &Value) -> Result<(), Failure> {
        let (Some(method), Some(id)) = (message.get("method").and_then(Value::as_str), message.get("id"))
        else {
            return Ok(());
        };
        let answer = match method {
            "ping" => json!({ "jsonrpc": "2.0", "id": id, "result": {} }),
            _ => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32601, "message": "not supported" } })
            }
        };
        self.say(&answer).await
    }

    async fn say(&mut self, message: &Value) -> Result<(), Failure> {
        let said = self.stdin.write_all(format!("{message}\n").as_bytes()).await;
        said.map_err(|_| ended())
    }

    async fn hear(&mut self) -> Result<Value, Failure> {
        let mut line = Vec::new();
        let one_more = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = (&mut self.stdout).take(one_more).read_until(b'\n', &mut line).await;
        if read.unwrap_or_default() == 0 {
            return Err(ended());
        }
        if line.len() > self.limit {
            let detail =
                format!("the MCP server wrote a line longer than {} bytes: raise `max_body`", self.limit);
            return Err(Failure::unknown(Fault::communication(detail)));
        }
        serde_json::from_slice(&line).map_err(|_| {
            Failure::unknown(Fault::communication("the MCP server wrote something that is not JSON"))
        })
    }
}

fn ended() -> Failure {
    Failure::unknown(Fault::communication("the MCP server ended before it answered"))
}

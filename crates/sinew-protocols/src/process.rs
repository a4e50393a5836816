//! `run: shell`, `run: script` and `run: container`: processes on this machine, as far as they are allowed.

use std::collections::BTreeMap;

use serde_json::Value;
use sinew_workflow::{Fault, Protocol};

use self::child::{Ended, Group, Program};
use crate::call::Scope;
use crate::failure::Failure;
use crate::http::scalar;

mod background;
mod child;
mod container;
mod script;
mod shell;
mod words;

pub(crate) use self::background::Background;
pub(crate) use self::container::Swept;

/// The most of what a process complained that a fault repeats, in characters.
const QUOTED: usize = 500;

/// Carries out a `run` object: its arguments, its `await` and its `return`.
pub(crate) async fn run(scope: Scope<'_>, protocol: Protocol, run: &Value) -> Result<Value, Failure> {
    let run = scope.revealer().value(run).map_err(Failure::refused)?;
    let arguments = run.get(protocol.as_str()).unwrap_or(&Value::Null);
    let awaited = run.get("await").and_then(Value::as_bool) != Some(false);
    let program = match protocol {
        Protocol::Shell => shell::program(scope, arguments)?,
        Protocol::Script => script::program(scope, arguments).await?,
        _ => {
            let ended = container::run(scope, arguments, awaited).await?;
            return ended.map_or(Ok(Value::Null), |ended| output(&run, ended));
        }
    };
    if !awaited {
        program.detach(scope)?;
        return Ok(Value::Null);
    }
    output(&run, program.run(scope).await?)
}

/// Looks whether the source of a script is there.
pub(crate) async fn examine(scope: Scope<'_>, run: &Value) -> Result<(), Failure> {
    script::source(scope, run.get("script").unwrap_or(&Value::Null)).await.map(drop)
}

/// Starts a server that is spoken to by its standard streams, such as one of MCP. It is killed when it is dropped.
pub(crate) fn server(scope: Scope<'_>, transport: &Value) -> Result<Group, Failure> {
    shell::server(scope, transport)?.start()
}

/// Turns an end into the output of the task.
///
/// Whoever asks how it ended gets to know; for the others, an exit code other than 0 is an error.
fn output(run: &Value, ended: Ended) -> Result<Value, Failure> {
    let output = match text(run, "return").unwrap_or("stdout") {
        "code" => return Ok(ended.code.into()),
        "stderr" => return Ok(ended.stderr.into()),
        "all" => {
            return Ok(
                serde_json::json!({ "code": ended.code, "stdout": ended.stdout, "stderr": ended.stderr }),
            );
        }
        "stdout" => ended.stdout.into(),
        "none" => Value::Null,
        other => {
            let detail =
                format!("there is no `return: {other}`: write `stdout`, `stderr`, `code`, `all` or `none`");
            return Err(Failure::configuration(detail));
        }
    };
    if ended.code == 0 {
        return Ok(output);
    }
    let complaint: String = ended.stderr.trim().chars().take(QUOTED).collect();
    let detail = format!("the process ended with code {}: {complaint}", ended.code);
    Err(Failure::unknown(Fault::runtime(detail.trim_end_matches([':', ' ']))))
}

/// Says which setting allows what was refused.
fn refused(what: &str, setting: &str) -> Failure {
    Failure::configuration(format!(
        "{what} may not run here: whoever runs this workflow can allow it with `{setting}`"
    ))
}

/// Reads a text of the arguments.
fn text<'a>(arguments: &'a Value, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

/// Reads a list of texts; other scalars are written as texts.
fn list(arguments: &Value, name: &str) -> Vec<String> {
    arguments.get(name).and_then(Value::as_array).into_iter().flatten().map(scalar).collect()
}

/// Reads names and texts, such as an environment.
fn map(arguments: &Value, name: &str) -> BTreeMap<String, String> {
    let members = arguments.get(name).and_then(Value::as_object).into_iter().flatten();
    members.map(|(name, value)| (name.clone(), scalar(value))).collect()
}

/// Reads what the process is given to read.
fn stdin(arguments: &Value) -> Option<String> {
    arguments.get("stdin").filter(|stdin| !stdin.is_null()).map(scalar)
}

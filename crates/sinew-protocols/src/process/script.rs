//! `run: script`: JavaScript by `node`, Python by `python3`.

use serde_json::Value;

use super::{Program, list, map, refused, stdin, text};
use crate::call::Scope;
use crate::document::{self, endpoint_of};
use crate::failure::Failure;

/// Makes the program of a `script` object. The code is a file, so that arguments are where each language has them.
pub(super) async fn program(scope: Scope<'_>, arguments: &Value) -> Result<Program, Failure> {
    let language = text(arguments, "language").unwrap_or_default();
    let (short, interpreter) = match language.to_ascii_lowercase().as_str() {
        "js" | "javascript" => ("js", "node"),
        "py" | "python" => ("python", "python3"),
        _ => {
            let detail = format!(
                "there is no script language `{language}`: write `js` or `python`, or run a container"
            );
            return Err(Failure::configuration(detail));
        }
    };
    let allowed = &scope.core.settings.allow.script;
    if !["*", short, language].iter().any(|name| allowed.contains(*name)) {
        return Err(refused(&format!("a script in `{short}`"), "allow.script"));
    }
    let code = code(scope, arguments).await?;
    let mut program = Program::new(interpreter, Vec::new())?;
    let path = program.directory.path().join(file_name(short, &code));
    tokio::fs::write(&path, &code).await.map_err(|error| {
        Failure::not_sent(sinew_workflow::Fault::runtime(format!(
            "the script cannot be written to a file: {error}"
        )))
    })?;
    program.arguments.push(path.to_string_lossy().into_owned());
    program.arguments.extend(list(arguments, "arguments"));
    program.environment = map(arguments, "environment");
    program.stdin = stdin(arguments);
    Ok(program)
}

async fn code(scope: Scope<'_>, arguments: &Value) -> Result<String, Failure> {
    if let Some(code) = text(arguments, "code") {
        return Ok(code.to_owned());
    }
    source(scope, arguments).await
}

/// Fetches code that stands elsewhere.
pub(super) async fn source(scope: Scope<'_>, arguments: &Value) -> Result<String, Failure> {
    let source = document::fetch(scope, endpoint_of(arguments, "source")?).await?;
    String::from_utf8(source.to_vec())
        .map_err(|_| Failure::configuration("the source of the script is not text"))
}

/// Modules are what the specification's examples write; `require` exists in the older kind only.
fn file_name(short: &str, code: &str) -> &'static str {
    match short {
        "python" => "script.py",
        _ if code.contains("require(") => "script.cjs",
        _ => "script.mjs",
    }
}

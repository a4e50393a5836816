//! `run: shell`.
//!
//! Where everything is allowed, the command is a text for `sh`, and the arguments are its `$1`, `$2` and so on. Where only
//! some commands are, it is started without a shell, because within one, any command can start any other.

use serde_json::Value;

use super::{Program, list, map, refused, stdin, text, words};
use crate::call::Scope;
use crate::failure::Failure;

/// Makes the program of a `shell` object.
pub(super) fn program(scope: Scope<'_>, arguments: &Value) -> Result<Program, Failure> {
    let command = text(arguments, "command").unwrap_or_default();
    let allowed = &scope.core.settings.allow.shell;
    let mut program = if allowed.contains("*") {
        Program::new("sh", vec!["-c".to_owned(), command.to_owned(), "sh".to_owned()])?
    } else {
        let first = command.split_whitespace().next().unwrap_or_default();
        if !allowed.contains(first) {
            return Err(refused(&format!("the command `{first}`"), "allow.shell"));
        }
        let words = words::split(command).ok_or_else(|| {
            Failure::configuration(format!(
                "this command of `{first}` takes a shell, and `allow.shell` names single commands: write plain words, or \
                 allow `*`"
            ))
        })?;
        Program::new(first, words[1..].to_vec())?
    };
    program.arguments.extend(list(arguments, "arguments"));
    program.environment = map(arguments, "environment");
    program.stdin = stdin(arguments);
    Ok(program)
}

/// Makes the program of a server: the command is the name of a program, never a text for a shell.
pub(super) fn server(scope: Scope<'_>, arguments: &Value) -> Result<Program, Failure> {
    let command = text(arguments, "command").unwrap_or_default();
    let allowed = &scope.core.settings.allow.shell;
    if !allowed.contains("*") && !allowed.contains(command) {
        return Err(refused(&format!("the command `{command}`"), "allow.shell"));
    }
    let mut program = Program::new(command, list(arguments, "arguments"))?;
    program.environment = map(arguments, "environment");
    program.stdin = Some(String::new());
    Ok(program)
}

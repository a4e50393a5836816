//! `run: container`, by the command line of docker or podman.
//!
//! Directories of the machine may be mounted where `allow.file` has them; named volumes may be used freely.

use std::path::Path;

use serde_json::Value;
use uuid::Uuid;

use super::child::{After, When};
use super::{Program, list, map, refused, stdin, text, words};
use crate::call::Scope;
use crate::duration;
use crate::failure::Failure;

/// Makes the program of a `container` object.
pub(super) fn program(scope: Scope<'_>, arguments: &Value) -> Result<Program, Failure> {
    let image = text(arguments, "image").unwrap_or_default();
    let allowed = &scope.core.settings.allow.container;
    if !allowed.contains("*") && !allowed.contains(without_tag(image)) {
        return Err(refused(&format!("the image `{}`", without_tag(image)), "allow.container"));
    }
    if image.starts_with('-') || image.is_empty() {
        return Err(Failure::configuration(format!("`{image}` is not an image")));
    }
    let name = text(arguments, "name").map_or_else(|| format!("sinew-{}", Uuid::new_v4()), str::to_owned);
    let mut options =
        vec!["run".to_owned(), format!("--name={name}"), format!("--pull={}", pull(arguments)?)];
    let stdin = stdin(arguments);
    if stdin.is_some() {
        options.push("--interactive".to_owned());
    }
    let mut after = vec![After { when: When::Killed, arguments: vec!["kill".to_owned(), name.clone()] }];
    match text(arguments, "lifetime")
        .or_else(|| arguments.pointer("/lifetime/cleanup").and_then(Value::as_str))
    {
        None | Some("never") => {}
        Some("always") => options.push("--rm".to_owned()),
        Some("eventually") => after.push(After { when: eventually(arguments)?, arguments: removal(&name) }),
        Some(other) => return Err(Failure::configuration(format!("there is no cleanup `{other}`"))),
    }
    options.extend(map(arguments, "ports").iter().map(|(host, inside)| format!("--publish={host}:{inside}")));
    for (host, inside) in map(arguments, "volumes") {
        check_volume(scope, &host)?;
        options.push(format!("--volume={host}:{inside}"));
    }
    let environment = map(arguments, "environment");
    // Named only: what they hold is in the environment, where other users of the machine do not see it.
    options.extend(environment.keys().map(|name| format!("--env={name}")));
    options.extend(started(image, arguments));
    let engine = scope.core.settings.container_engine.clone();
    let mut program = Program::new("docker", options)?;
    program.names =
        engine.map_or_else(|| vec!["docker".into(), "podman".into()], |engine| vec![engine.into()]);
    // The command line finds its engine by variables such as `DOCKER_HOST`; the container sees none of them.
    program.inherits = true;
    program.environment = environment;
    program.stdin = stdin;
    program.after = after;
    Ok(program)
}

/// Returns the image and what it starts: its own command, the given words, or a text for its shell.
fn started(image: &str, arguments: &Value) -> Vec<String> {
    let given = list(arguments, "arguments");
    let Some(command) = text(arguments, "command") else {
        return std::iter::once(image.to_owned()).chain(given).collect();
    };
    let (entry, fixed) = match words::split(command) {
        Some(words) => (words[0].clone(), words[1..].to_vec()),
        None => ("sh".to_owned(), vec!["-c".to_owned(), command.to_owned(), "sh".to_owned()]),
    };
    [format!("--entrypoint={entry}"), image.to_owned()].into_iter().chain(fixed).chain(given).collect()
}

fn pull(arguments: &Value) -> Result<&'static str, Failure> {
    match text(arguments, "pullPolicy") {
        None | Some("ifNotPresent") => Ok("missing"),
        Some("always") => Ok("always"),
        Some("never") => Ok("never"),
        Some(other) => Err(Failure::configuration(format!(
            "there is no pull policy `{other}`: write `ifNotPresent`, `always` or `never`"
        ))),
    }
}

fn eventually(arguments: &Value) -> Result<When, Failure> {
    let after = arguments.pointer("/lifetime/after").unwrap_or(&Value::Null);
    Ok(When::Ended(duration::read(after)?))
}

fn removal(name: &str) -> Vec<String> {
    ["rm", "--force", name].map(str::to_owned).to_vec()
}

fn check_volume(scope: Scope<'_>, host: &str) -> Result<(), Failure> {
    let is_named = !host.contains(['/', '.', ':']);
    let path = Path::new(host);
    let allowed = &scope.core.settings.allow.file;
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    if is_named || !climbs && allowed.iter().any(|directory| path.starts_with(directory)) {
        return Ok(());
    }
    Err(refused(&format!("a container with the volume `{host}`"), "allow.file"))
}

/// Returns the name of an image without its tag and digest.
fn without_tag(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    match image.rsplit_once(':') {
        // A port is followed by a path.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_is_known_by_its_name() {
        for (image, name) in [
            ("alpine", "alpine"),
            ("alpine:3.20", "alpine"),
            ("registry:5000/shop/app", "registry:5000/shop/app"),
            ("registry:5000/shop/app:1@sha256:00", "registry:5000/shop/app"),
        ] {
            assert_eq!(without_tag(image), name);
        }
    }

    #[test]
    fn a_command_is_words_or_a_text_for_the_shell_and_arguments_follow() {
        let started = |value: Value| started("alpine", &value);
        assert_eq!(started(json!({ "arguments": ["a"] })), ["alpine", "a"]);
        assert_eq!(
            started(json!({ "command": "ls -l", "arguments": ["a;b"] })),
            ["--entrypoint=ls", "alpine", "-l", "a;b"]
        );
        let script = started(json!({ "command": "echo $1\n", "arguments": ["a"] }));
        assert_eq!(script, ["--entrypoint=sh", "alpine", "-c", "echo $1\n", "sh", "a"]);
    }
}

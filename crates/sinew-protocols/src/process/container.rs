//! `run: container`, by the command line of docker or podman.
//!
//! A container is created, and then started, so that what went wrong before it ran is told apart from how it ended. Its
//! name is that of the call, and a label says which attempt it belongs to: when a call is repeated because this process
//! was killed, the container it left behind is found, waited for and read, instead of running a second time.
//!
//! Directories of the machine may be mounted where `allow.file` has them; named volumes may be used freely.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::child::Ended;
use super::{list, map, refused, stdin, text, words};
use crate::call::Scope;
use crate::duration;
use crate::failure::Failure;

use self::engine::Engine;

mod engine;
mod life;
mod sweep;

pub(crate) use self::sweep::Swept;

/// The most of a key that is part of a container's name.
const LEGIBLE: usize = 80;

/// A container as a task asks for it.
#[derive(Debug)]
struct Container {
    name: String,
    /// Which attempt of which call it belongs to.
    call: String,
    /// Options of the engine, for whatever else there is to say.
    options: Vec<String>,
    environment: Vec<String>,
    /// The image, and what it starts.
    started: Vec<String>,
    stdin: Option<String>,
    cleanup: Cleanup,
}

/// When a container is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleanup {
    Never,
    Always,
    /// This long after its end.
    Eventually(Duration),
}

/// Runs the container of a `container` object and returns how it ended; `None` when nobody waits for its end.
pub(super) async fn run(
    scope: Scope<'_>,
    arguments: &Value,
    awaited: bool,
) -> Result<Option<Ended>, Failure> {
    let container = Container::read(scope, arguments)?;
    let engine = Engine::of(scope);
    sweep::begin(scope, &engine);
    if awaited {
        return life::awaited(scope, &engine, container).await.map(Some);
    }
    life::detached(scope, &engine, container).await.map(|()| None)
}

impl Container {
    fn read(scope: Scope<'_>, arguments: &Value) -> Result<Self, Failure> {
        let image = text(arguments, "image").unwrap_or_default();
        let allowed = &scope.core.settings.allow.container;
        if !allowed.contains("*") && !allowed.contains(without_tag(image)) {
            return Err(refused(&format!("the image `{}`", without_tag(image)), "allow.container"));
        }
        if image.starts_with('-') || image.is_empty() {
            return Err(Failure::configuration(format!("`{image}` is not an image")));
        }
        let mut options = vec![format!("--pull={}", pull(arguments)?)];
        let ports = map(arguments, "ports");
        options.extend(ports.iter().map(|(host, inside)| format!("--publish={host}:{inside}")));
        for (host, inside) in map(arguments, "volumes") {
            check_volume(scope, &host)?;
            options.push(format!("--volume={host}:{inside}"));
        }
        Ok(Self {
            name: name(scope, arguments)?,
            call: format!("{}@{}", scope.key, scope.attempt),
            options,
            environment: environment(arguments)?,
            started: started(image, arguments),
            stdin: stdin(arguments),
            cleanup: cleanup(arguments)?,
        })
    }
}

/// Returns the name a task gives, or else one that tells instance and task, the same whenever the attempt is repeated.
fn name(scope: Scope<'_>, arguments: &Value) -> Result<String, Failure> {
    let Some(given) = text(arguments, "name") else { return Ok(name_of(scope.key, scope.attempt)) };
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if given.len() > 1 && given.starts_with(|c: char| c.is_ascii_alphanumeric()) && given.chars().all(known) {
        return Ok(given.to_owned());
    }
    let detail = format!(
        "`{given}` is not the name of a container: use letters, digits, `_`, `.` and `-`, a letter or digit first"
    );
    Err(Failure::configuration(detail))
}

fn name_of(key: &str, attempt: u32) -> String {
    let legible = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let legible: String = key.chars().take(LEGIBLE).map(legible).collect();
    // Two keys may look alike once they are legible.
    let digest = Sha256::digest(key);
    let tail: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("sinew-{}-{tail}", legible.trim_matches('-'));
    if attempt > 1 { format!("{name}-{attempt}") } else { name }
}

/// Writes variables as a file of them has it. On the command line other users of the machine would see them, and in the
/// environment of the engine's program they would tell that program what to do.
fn environment(arguments: &Value) -> Result<Vec<String>, Failure> {
    let write = |(name, value): (String, String)| {
        let odd = |c: char| c == '=' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name.starts_with('#') || name.contains(odd) {
            return Err(Failure::configuration(format!("`{name}` is not the name of a variable")));
        }
        if value.contains(['\n', '\r', '\0']) {
            let detail = format!(
                "the variable `{name}` has several lines, which engines do not take: give it as `stdin`, or in base64"
            );
            return Err(Failure::configuration(detail));
        }
        Ok(format!("{name}={value}"))
    };
    map(arguments, "environment").into_iter().map(write).collect()
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

fn cleanup(arguments: &Value) -> Result<Cleanup, Failure> {
    let lifetime = arguments.get("lifetime").unwrap_or(&Value::Null);
    match lifetime.as_str().or_else(|| text(lifetime, "cleanup")) {
        None | Some("never") => Ok(Cleanup::Never),
        Some("always") => Ok(Cleanup::Always),
        Some("eventually") => {
            duration::read(lifetime.get("after").unwrap_or(&Value::Null)).map(Cleanup::Eventually)
        }
        Some(other) => Err(Failure::configuration(format!(
            "there is no cleanup `{other}`: write `always`, `never` or `eventually`"
        ))),
    }
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
    use proptest::prelude::*;
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

    #[test]
    fn a_variable_never_becomes_another_one() {
        let read = |value: Value| environment(&json!({ "environment": value }));
        assert_eq!(read(json!({ "A": "x=y", "N": 1 })).unwrap(), ["A=x=y", "N=1"]);
        for bad in [json!({ "A": "x\nB=y" }), json!({ "A=B": "x" }), json!({ "# A": "x" }), json!({ "": "" })]
        {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_key_makes_a_name_that_engines_take(key in "\\PC{0,120}", attempt in 1u32..9) {
            let name = name_of(&key, attempt);
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            prop_assert!(name.starts_with("sinew-") && name.chars().all(known), "{name}");
            prop_assert_eq!(&name, &name_of(&key, attempt));
            prop_assert_ne!(&name, &name_of(&key, attempt + 1));
            prop_assert_ne!(&name, &name_of(&format!("{key}#"), attempt));
        }
    }
}

//! The command line of a container engine, as far as docker and podman agree about it.

use std::ffi::OsString;
use std::process::Stdio;

use sinew_workflow::Fault;
use tokio::process::Command;

use super::{Cleanup, Container};
use crate::call::Scope;
use crate::failure::Failure;
use crate::process::child::{Ended, Program};

/// Says which attempt of which call a container belongs to.
pub(super) const CALL: &str = "io.sinew.call";
/// Says for how many milliseconds after its end a container is kept.
pub(super) const KEEP: &str = "io.sinew.keep-ms";
/// How long the container of a call that is gone may wait for the call to be repeated.
const ABANDONED_MS: u128 = 3_600_000;

/// The program, under each name it may have.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    names: Vec<OsString>,
}

/// How a container stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was created, and never ran.
    Created,
    /// It runs, or ran.
    Begun,
    /// It belongs to somebody else.
    Foreign,
    /// There is none of this name.
    Missing,
}

impl Engine {
    pub(super) fn of(scope: Scope<'_>) -> Self {
        let Some(engine) = &scope.core.settings.container_engine else {
            return Self { names: vec!["docker".into(), "podman".into()] };
        };
        // Programs start in a directory of their own, where a relative path would lead elsewhere.
        let is_path = engine.components().count() > 1;
        let absolute = is_path.then(|| std::path::absolute(engine).ok()).flatten();
        Self { names: vec![absolute.unwrap_or_else(|| engine.clone()).into()] }
    }

    /// Creates a container. What it says is empty where it worked, and otherwise why not.
    pub(super) async fn create(
        &self,
        scope: Scope<'_>,
        container: &Container,
        removes_itself: bool,
    ) -> Result<Ended, Failure> {
        let mut program = self.program(Vec::new())?;
        let mut arguments = vec![
            "create".to_owned(),
            format!("--name={}", container.name),
            format!("--label={CALL}={}", container.call),
        ];
        match container.cleanup {
            Cleanup::Always if removes_itself => arguments.push("--rm".to_owned()),
            Cleanup::Always => arguments.push(format!("--label={KEEP}={ABANDONED_MS}")),
            Cleanup::Eventually(after) => arguments.push(format!("--label={KEEP}={}", after.as_millis())),
            Cleanup::Never => {}
        }
        if container.stdin.is_some() {
            arguments.push("--interactive".to_owned());
        }
        arguments.extend(container.options.iter().cloned());
        if !container.environment.is_empty() {
            let path = program.directory.path().join("environment");
            tokio::fs::write(&path, container.environment.join("\n")).await.map_err(|error| {
                Failure::not_sent(Fault::runtime(format!("the environment cannot be written: {error}")))
            })?;
            arguments.push(format!("--env-file={}", path.display()));
        }
        arguments.extend(container.started.iter().cloned());
        program.arguments = arguments;
        program.run(scope).await
    }

    /// Starts a container, feeds it, and returns what it says once it ended.
    pub(super) async fn start(
        &self,
        scope: Scope<'_>,
        name: &str,
        stdin: Option<String>,
    ) -> Result<Ended, Failure> {
        let mut program = self.program(attach(name, stdin.is_some()))?;
        program.stdin = stdin;
        program.run(scope).await
    }

    /// Returns what starts a container for nobody who waits for it.
    pub(super) fn starter(&self, name: &str, stdin: Option<String>) -> Result<Program, Failure> {
        let mut program = match &stdin {
            Some(_) => self.program(attach(name, true))?,
            None => self.program(vec!["start".to_owned(), name.to_owned()])?,
        };
        program.stdin = stdin;
        Ok(program)
    }

    /// Waits for the end of a container that was started by somebody before us, and reads what it said.
    pub(super) async fn adopt(&self, scope: Scope<'_>, name: &str) -> Result<Ended, Failure> {
        let waited = self.ask(scope, &["wait", name]).await?;
        let code = waited.stdout.trim().parse();
        let said = self.ask(scope, &["logs", name]).await?;
        match code {
            Ok(code) if said.code == 0 => Ok(Ended { code, ..said }),
            _ => Err(Failure::unknown(Fault::runtime(format!(
                "the container `{name}` of this call was found, and how it ended cannot be read: {}{}",
                waited.stderr.trim(),
                said.stderr.trim()
            )))),
        }
    }

    /// Finds out how the container of a name stands, for a call.
    pub(super) async fn standing(
        &self,
        scope: Scope<'_>,
        name: &str,
        call: &str,
    ) -> Result<Standing, Failure> {
        let format = format!("--format={{{{.State.Status}}}} {{{{index .Config.Labels \"{CALL}\"}}}}");
        let told = self.ask(scope, &["container", "inspect", &format, name]).await?;
        if told.code != 0 {
            return Ok(Standing::Missing);
        }
        let (status, label) = told.stdout.trim_end().split_once(' ').unwrap_or_default();
        Ok(match status {
            _ if label != call => Standing::Foreign,
            // Podman's word for it is the second one.
            "created" | "configured" => Standing::Created,
            _ => Standing::Begun,
        })
    }

    /// Asks the engine something.
    pub(super) async fn ask(&self, scope: Scope<'_>, arguments: &[&str]) -> Result<Ended, Failure> {
        self.program(arguments.iter().map(|&argument| argument.to_owned()).collect())?.run(scope).await
    }

    /// Has the engine do something, where nobody is left to be told that it failed.
    pub(super) async fn tell(&self, arguments: &[&str]) {
        for name in &self.names {
            let mut command = Command::new(name);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.kill_on_drop(true);
            if command.status().await.is_ok() {
                return;
            }
        }
    }

    pub(super) fn program(&self, arguments: Vec<String>) -> Result<Program, Failure> {
        let mut program = Program::new("docker", arguments)?;
        program.names.clone_from(&self.names);
        // It is found by variables such as `DOCKER_HOST`, of which the container sees none.
        program.inherits = true;
        Ok(program)
    }
}

fn attach(name: &str, feeds: bool) -> Vec<String> {
    let words = if feeds {
        vec!["start", "--attach", "--interactive", name]
    } else {
        vec!["start", "--attach", name]
    };
    words.into_iter().map(str::to_owned).collect()
}

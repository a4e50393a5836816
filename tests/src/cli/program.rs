//! Running the program and reading what it said.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
};

use serde_json::Value;
use tokio::process::{Child, Command};

/// Tells the program which server to run.
const SERVER: &str = "SINEW_NATS_SERVER";

/// How a run of the program ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ran {
    /// Asserts that it succeeded.
    #[track_caller]
    pub(super) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Returns the one JSON value on standard output.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the error on standard error.
    #[track_caller]
    pub(super) fn error(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        let value: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        value["error"].clone()
    }

    /// Returns the code of the error on standard error.
    #[track_caller]
    pub(super) fn error_code(&self) -> String {
        self.error()["code"].as_str().expect("an error has a code").to_owned()
    }
}

/// Runs the program to its end.
pub(super) async fn sinew(arguments: &[&str]) -> Ran {
    finish(command(arguments)).await
}

/// Runs the program to its end; where it needs a server of its own, it takes this one.
pub(super) async fn with_server(binary: &Path, arguments: &[&str]) -> Ran {
    let mut command = command(arguments);
    command.env(SERVER, binary);
    finish(command).await
}

/// Runs the program with nobody reading its standard output.
pub(super) async fn sinew_unread(arguments: &[&str]) -> Ran {
    let mut child = command(arguments).spawn().expect("the program starts");
    drop(child.stdout.take());
    read(child.wait_with_output().await.expect("the program runs"))
}

/// Starts the program with a server for it and leaves it running; it is killed when the child is dropped.
pub(super) fn start_with_server(binary: &Path, arguments: &[&str]) -> Child {
    command(arguments).env(SERVER, binary).spawn().expect("the program starts")
}

/// Asks a running program to stop, as a supervisor would.
pub(super) fn terminate(child: &Child) {
    let pid = child.id().expect("the program runs").to_string();
    let status = std::process::Command::new("/bin/sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
    assert!(status.expect("a shell runs").success());
}

async fn finish(mut command: Command) -> Ran {
    read(command.output().await.expect("the program runs"))
}

fn read(ran: std::process::Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
    Ran { code: ran.status.code().unwrap_or(-1), stdout: text(ran.stdout), stderr: text(ran.stderr) }
}

/// Starts the example `hello` on a bus and leaves it running; it is killed when the child is dropped.
pub(super) fn start_hello(url: &str) -> Child {
    let mut command = Command::new(programs().join("hello"));
    command.env("NATS_URL", url).stdin(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("the example starts")
}

/// Describes a run that sees none of this machine's own settings.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(programs().join("sinew"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for variable in ["NATS_URL", "OTEL_EXPORTER_OTLP_ENDPOINT", "RUST_LOG", "NO_COLOR"] {
        command.env_remove(variable);
    }
    command
}

/// Returns the directory of the programs, built from the sources as they are now.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        // This test lies in target/<profile>/deps, programs two levels up. Cargo does nothing when they are fresh, and
        // for the whole workspace it reuses what the tests were built from.
        let test = std::env::current_exe().expect("a test knows where it is");
        let profile = test.ancestors().nth(2).expect("a test lies in the target directory");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = std::process::Command::new(cargo);
        build.args(["build", "--quiet", "--workspace", "--bin", "sinew", "--bin", "hello", "--target-dir"]);
        build.arg(profile.parent().expect("a profile lies in the target directory"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().expect("cargo runs").success(), "the programs could not be built");
        profile.to_owned()
    })
}

//! Running the program and reading what it said.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
};

use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
};

use crate::harness::SOON;

/// Tells the program which server to run.
const SERVER: &str = "SINEW_NATS_SERVER";

/// What is run in processes of its own.
const PROGRAMS: [&str; 7] = ["sinew", "hello", "orders", "inventory", "payments", "shipping", "studio"];

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Asserts that it succeeded.
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Returns the one JSON value on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the error on standard error.
    #[track_caller]
    pub(crate) fn error(&self) -> Value {
        let last = self.stderr.lines().last().unwrap_or_default();
        let value: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        value["error"].clone()
    }

    /// Returns the code of the error on standard error.
    #[track_caller]
    pub(crate) fn error_code(&self) -> String {
        self.error()["code"].as_str().expect("an error has a code").to_owned()
    }
}

/// Returns where a program lies, for commands that run it themselves.
pub(crate) fn path(program: &str) -> String {
    programs().join(program).to_str().expect("the target directory has a plain name").to_owned()
}

/// Runs the program to its end.
pub(crate) async fn sinew(arguments: &[&str]) -> Ran {
    finish(command("sinew", arguments)).await
}

/// Runs the program to its end, where other programs are looked for in a folder first.
pub(crate) async fn sinew_finding(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = command("sinew", arguments);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders).expect("names of folders without colons"));
    finish(command).await
}

/// Runs the program to its end; where it needs a server of its own, it takes this one.
pub(crate) async fn with_server(binary: &Path, arguments: &[&str]) -> Ran {
    let mut command = command("sinew", arguments);
    command.env(SERVER, binary);
    finish(command).await
}

/// Runs the program with nobody reading its standard output.
pub(crate) async fn sinew_unread(arguments: &[&str]) -> Ran {
    let mut child = command("sinew", arguments).spawn().expect("the program starts");
    drop(child.stdout.take());
    read(child.wait_with_output().await.expect("the program runs"))
}

/// Starts the program and leaves it running; what it logs goes to the test's own output.
pub(crate) fn start(arguments: &[&str]) -> Child {
    command("sinew", arguments).stderr(Stdio::inherit()).spawn().expect("the program starts")
}

/// Starts the program and leaves it running; what it says along the way is there to be read.
pub(crate) fn start_told(arguments: &[&str]) -> Child {
    command("sinew", arguments).spawn().expect("the program starts")
}

/// As [`start`], with more in its environment, and what it logs in a file.
pub(crate) fn start_logging(arguments: &[&str], environment: &[(String, String)], log: File) -> Child {
    let mut command = command("sinew", arguments);
    command.envs(environment.iter().cloned());
    command.stdout(Stdio::null()).stderr(log).spawn().expect("the program starts")
}

/// Starts a service from the examples on a bus and leaves it running; it is killed when the child is dropped.
pub(crate) fn start_example(name: &str, url: &str) -> Child {
    watch_example(name, url, Stdio::inherit())
}

/// As [`start_example`], with what it logs written to where the test wants it.
pub(crate) fn watch_example(name: &str, url: &str, log: Stdio) -> Child {
    command(name, &[]).env("NATS_URL", url).stderr(log).spawn().expect("the example starts")
}

/// Starts the program with a server for it and leaves it running; it is killed when the child is dropped.
pub(crate) fn start_with_server(binary: &Path, arguments: &[&str]) -> Child {
    command("sinew", arguments).env(SERVER, binary).spawn().expect("the program starts")
}

/// Returns where an edge that was just started says that it listens. Its output stays open: it never writes to nobody.
pub(crate) async fn listens(edge: &mut Child) -> SocketAddr {
    let stdout = edge.stdout.as_mut().expect("its output is read");
    let mut line = Vec::new();
    let read = async {
        while line.last() != Some(&b'\n') {
            line.push(stdout.read_u8().await.expect("the edge says where it listens"));
        }
    };
    tokio::time::timeout(SOON, read).await.expect("the edge starts in time");
    let told: Value = serde_json::from_slice(&line).expect("a line of JSON");
    let url = told["edge"]["url"].as_str().and_then(|url| url.strip_prefix("http://"));
    url.expect("the edge says where it listens").parse().expect("an address")
}

/// Asks a running program to stop, as a supervisor would.
pub(crate) fn terminate(child: &Child) {
    signal(child, "-TERM");
}

/// Interrupts a running program, as Ctrl-C would.
pub(crate) fn interrupt(child: &Child) {
    signal(child, "-INT");
}

/// Waits until a program that was told to stop has ended, and returns its exit code.
pub(crate) async fn ended(child: &mut Child) -> Option<i32> {
    let status = tokio::time::timeout(SOON, child.wait()).await.expect("it ends in bounded time");
    status.expect("the program runs").code()
}

/// Sends a signal to a running program, such as `-STOP`.
pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().expect("the program runs").to_string();
    let status =
        std::process::Command::new("/bin/sh").args(["-c", "kill \"$0\" \"$1\"", name, &pid]).status();
    assert!(status.expect("a shell runs").success());
}

async fn finish(mut command: Command) -> Ran {
    read(command.output().await.expect("the program runs"))
}

fn read(ran: std::process::Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
    Ran { code: ran.status.code().unwrap_or(-1), stdout: text(ran.stdout), stderr: text(ran.stderr) }
}

/// Describes a run that sees none of this machine's own settings.
fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs().join(program));
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
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // This test lies in target/<profile>/deps, programs two levels up. Cargo does nothing when they are fresh, and
        // for the whole workspace it reuses what the tests were built from.
        let test = std::env::current_exe().expect("a test knows where it is");
        let profile = test.ancestors().nth(2).expect("a test lies in the target directory");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = std::process::Command::new(cargo);
        build.args(["build", "--quiet", "--workspace"]);
        build.args(PROGRAMS.iter().flat_map(|name| ["--bin", name]));
        build.arg("--target-dir").arg(profile.parent().expect("a profile lies in the target directory"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().expect("cargo runs").success(), "the programs could not be built");
        profile.to_owned()
    })
}

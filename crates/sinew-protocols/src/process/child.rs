//! One process: started in a group of its own, fed, listened to within bounds, and never left behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process_group};
use sinew_workflow::Fault;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use crate::call::Scope;
use crate::failure::Failure;

/// A program with all it is given.
#[derive(Debug)]
pub(crate) struct Program {
    /// Tried in turn until one is there.
    pub(crate) names: Vec<OsString>,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Whether it also sees the environment of this process.
    pub(crate) inherits: bool,
    pub(crate) stdin: Option<String>,
    /// Whether what it says is dropped.
    unheard: bool,
    /// Where it works, removed after its end.
    pub(crate) directory: Arc<TempDir>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A process and its descendants; they are killed with it when it is dropped before its end.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    id: Option<Pid>,
    /// Where it works: kept as long as it does.
    _directory: Arc<TempDir>,
}

impl Program {
    /// Makes a program with nothing but a name and arguments, and a directory of its own.
    pub(crate) fn new(name: impl Into<OsString>, arguments: Vec<String>) -> Result<Self, Failure> {
        let directory = TempDir::with_prefix("sinew-run-").map_err(|error| {
            Failure::not_sent(Fault::runtime(format!("no directory can be made for the process: {error}")))
        })?;
        Ok(Self {
            names: vec![name.into()],
            arguments,
            environment: BTreeMap::new(),
            inherits: false,
            stdin: None,
            unheard: false,
            directory: Arc::new(directory),
        })
    }

    /// Starts it and waits for its end, no longer than the call may take.
    pub(crate) async fn run(self, scope: Scope<'_>) -> Result<Ended, Failure> {
        self.within(scope.deadline, scope.core.settings.max_body).await
    }

    /// Starts it and waits for its end, but not after `deadline`.
    pub(crate) async fn within(self, deadline: Instant, limit: usize) -> Result<Ended, Failure> {
        let mut group = self.start()?;
        let ended = timeout_at(deadline, converse(&mut group.child, self.stdin.clone(), limit)).await;
        let killed = match ended {
            Ok(Ok(ended)) => {
                group.ended();
                return Ok(ended);
            }
            Ok(Err(error)) => Fault::runtime(format!("the process was killed: {error}")),
            Err(_) => Fault::timeout("the process did not end in time and was killed"),
        };
        group.kill().await;
        Err(Failure::unknown(killed))
    }

    /// Starts it and lets it go on, until it ends or the calls are closed. Nobody hears what it says.
    pub(crate) fn detach(mut self, scope: Scope<'_>) -> Result<(), Failure> {
        self.unheard = true;
        let mut group = self.start()?;
        scope.core.background.spawn(async move {
            if converse(&mut group.child, self.stdin.clone(), 0).await.is_ok() {
                group.ended();
            }
        });
        Ok(())
    }

    /// Starts it, under the first of its names that is there.
    pub(crate) fn start(&self) -> Result<Group, Failure> {
        for name in &self.names {
            match self.command(name).spawn() {
                Ok(child) => return Ok(Group::new(child, self.directory.clone())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let detail = format!("`{}` cannot be started: {error}", name.display());
                    return Err(Failure::not_sent(Fault::runtime(detail)));
                }
            }
        }
        let names: Vec<_> = self.names.iter().map(|name| format!("`{}`", name.display())).collect();
        Err(Failure::configuration(format!("there is no {} on this machine: install it", names.join(" or "))))
    }

    fn command(&self, name: &OsString) -> Command {
        let mut command = Command::new(name);
        command.args(&self.arguments).current_dir(self.directory.path()).process_group(0).kill_on_drop(true);
        let input = if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        let output = || if self.unheard { Stdio::null() } else { Stdio::piped() };
        command.stdin(input).stdout(output()).stderr(output());
        if !self.inherits {
            command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        }
        command.envs(&self.environment);
        command
    }
}

impl Group {
    fn new(child: Child, directory: Arc<TempDir>) -> Self {
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Self { child, id, _directory: directory }
    }

    /// Takes its standard streams, to speak with it.
    pub(crate) fn streams(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take())
    }

    /// Kills it with its descendants, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.kill_group();
        // It was killed: all that can be wrong is that it is gone already.
        let _ = self.child.wait().await;
    }

    /// The process ended by itself: what it left running is its own affair.
    fn ended(&mut self) {
        self.id = None;
    }

    fn kill_group(&mut self) {
        if let Some(id) = self.id.take() {
            // A group that is gone cannot be killed, which is what was wanted.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill_group();
    }
}

/// Feeds a process and reads all it says.
async fn converse(child: &mut Child, input: Option<String>, limit: usize) -> io::Result<Ended> {
    let stdin = child.stdin.take();
    let feed = async move {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // Whoever does not read to the end does not need it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        Ok(())
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (stdout, stderr, ()) = tokio::try_join!(bounded(stdout, limit), bounded(stderr, limit), feed)?;
    Ok(Ended { code: code(child.wait().await?), stdout, stderr })
}

async fn bounded(stream: Option<impl AsyncRead + Unpin>, limit: usize) -> io::Result<String> {
    let Some(stream) = stream else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(one_more).read_to_end(&mut bytes).await?;
    if bytes.len() > limit {
        return Err(io::Error::other(format!("it wrote more than {limit} bytes: raise `max_body`")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the exit code; for a signal the one a shell reports.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;

    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

//! A nats-server as a child process: started, watched, stopped. Knows nothing about where its program came from.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{self, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use super::data::DataDir;
use super::error::io_error;
use super::settings::Settings;
use super::{Config, Error, Exit, probe};

const WATCHDOG: &str = include_str!("watchdog.sh");
/// Recovering large streams takes seconds; more than this means something is wrong.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time for the server to write out its streams after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// A predecessor whose parent was killed is stopped by its watchdog within about seven seconds.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(10);
/// A single JetStream answer takes a millisecond; an unanswered request is asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// A child broker that is ready.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    endpoint: Endpoint,
}

/// A running watchdog with its server, ready or not. Dropping it stops both.
#[derive(Debug)]
struct Process {
    /// The shell between us and the server; its exit code is the server's.
    watchdog: process::Child,
    /// A line on this pipe is a signal for the server; its end stops the server.
    signals: ChildStdin,
    data: DataDir,
}

/// What the server wrote about itself into its ports file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint {
    pub(super) pid: u32,
    pub(super) port: u16,
}

impl Child {
    /// Runs the program and returns when JetStream answers.
    pub(super) async fn start(binary: &Path, config: &Config) -> Result<Self, Error> {
        let data = DataDir::open(config.data_dir.as_deref())?;
        let log = data.lock_log(PREDECESSOR_LIMIT).await?;
        let ports_dir = data.fresh_ports_dir()?;
        let settings = Settings {
            data_dir: data.path(),
            ports_dir: &ports_dir,
            port: config.port,
            sync_always: config.sync_always,
            max_payload: config.max_payload,
        };
        data.write_settings(&settings.render())?;
        let mut process = Process::spawn(binary, data, log)?;
        let reason = tokio::select! {
            endpoint = ready(&ports_dir) => return Ok(Self { process, endpoint }),
            exit = process.exited() => Exit { logs: Vec::new(), ..exit }.to_string(),
            () = sleep(START_LIMIT) => format!("JetStream did not answer within {} s", START_LIMIT.as_secs()),
        };
        Err(Error::StartFailed { reason, log: process.data.log_tail() })
    }

    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.endpoint.port)
    }

    pub(super) fn port(&self) -> u16 {
        self.endpoint.port
    }

    pub(super) fn pid(&self) -> u32 {
        self.endpoint.pid
    }

    pub(super) fn data_dir(&self) -> &Path {
        self.process.data.path()
    }

    pub(super) fn logs(&self) -> Vec<String> {
        self.process.data.log_tail()
    }

    pub(super) async fn exited(&mut self) -> Exit {
        self.process.exited().await
    }

    pub(super) async fn stop(mut self) -> Result<(), Error> {
        self.process.signal("TERM").await;
        match timeout(STOP_LIMIT, self.process.watchdog.wait()).await {
            Ok(waited) => waited.map(drop).map_err(io_error("wait for nats-server")),
            Err(_elapsed) => self.kill().await,
        }
    }

    pub(super) async fn kill(mut self) -> Result<(), Error> {
        self.process.signal("KILL").await;
        self.process.watchdog.wait().await.map(drop).map_err(io_error("wait for nats-server"))
    }
}

impl Process {
    fn spawn(binary: &Path, data: DataDir, log: File) -> Result<Self, Error> {
        let run = || -> io::Result<_> {
            Command::new("/bin/sh")
                .args(["-c", WATCHDOG, "sinew-broker"])
                .arg(binary)
                .arg(data.settings())
                .arg(data.scratch().unwrap_or(Path::new("")))
                .stdin(Stdio::piped())
                .stdout(log.try_clone()?)
                .stderr(log)
                // Ctrl-C on the terminal reaches our process group only: we drain first, then stop the server.
                .process_group(0)
                .spawn()
        };
        let mut watchdog = run().map_err(io_error("run /bin/sh"))?;
        match watchdog.stdin.take() {
            Some(signals) => Ok(Self { watchdog, signals, data }),
            None => Err(io_error("open a pipe to the watchdog")(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Has the watchdog send a signal. A broken pipe means that watchdog and server are gone, which is no failure.
    async fn signal(&mut self, name: &str) {
        let _ = self.signals.write_all(format!("{name}\n").as_bytes()).await;
    }

    async fn exited(&mut self) -> Exit {
        let status = self.watchdog.wait().await;
        Exit { code: status.ok().and_then(|status| status.code()), logs: self.data.log_tail() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A server that still runs still writes, so the watchdog removes the temporary directory after stopping it.
        if !matches!(self.watchdog.try_wait(), Ok(Some(_))) {
            self.data.leave_to_watchdog();
        }
    }
}

/// Resolves when the server has told its port and answered on it.
async fn ready(ports_dir: &Path) -> Endpoint {
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(endpoint) = super::data::endpoint(ports_dir).await
            && matches!(timeout(ANSWER_LIMIT, probe::jetstream_answers(endpoint.port)).await, Ok(Ok(())))
        {
            return endpoint;
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

//! Where a suite works: its folder, a nats-server, and the roles as processes of the program users run.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use sinew::{
    Bus,
    broker::{self, Broker},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::Error;

/// The place of one suite.
pub(super) struct Site {
    /// Where programs are built.
    target: PathBuf,
    /// For what this suite writes.
    folder: PathBuf,
}

/// A server and what runs on it.
pub(super) struct System {
    broker: Broker,
    sinew: PathBuf,
    folder: PathBuf,
}

/// A role in a process of its own; killed when dropped.
pub(super) struct Role {
    child: Child,
    /// What it said when it was ready.
    said: Value,
    /// Kept, so that it never writes to nobody.
    _told: Lines<BufReader<ChildStdout>>,
}

impl Site {
    /// Builds what runs, and empties the suite's folder.
    pub(super) fn prepare(root: &Path, suite: &str) -> Result<Self, Error> {
        let program = std::env::current_exe()?;
        let target = program.parent().ok_or("this program lies nowhere")?.to_owned();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
        let build = ["build", "--quiet", "--package", "sinew-cli", "--profile", profile];
        let built = std::process::Command::new(cargo).args(build).current_dir(root).status()?;
        if !built.success() {
            return Err("the program to test does not build".into());
        }
        let folder = target.join("conformance").join(suite);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(Self { target, folder })
    }

    /// Returns the suite's own folder: empty at first, and kept for who looks for what went wrong.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns where packages are installed, for all suites.
    pub(super) fn packages(&self) -> PathBuf {
        self.target.join("conformance").join("packages")
    }

    /// Starts a server that nothing else uses.
    pub(super) async fn system(&self) -> Result<System, Error> {
        let config = broker::Config::from_env(|name| std::env::var(name).ok().filter(|_| name != "NATS_URL"));
        let broker = broker::start(config, |step| println!("  {step}")).await?;
        Ok(System { broker, sinew: self.target.join("sinew"), folder: self.folder.clone() })
    }
}

impl System {
    /// Connects to its server.
    pub(super) async fn bus(&self, name: &str) -> Result<Bus, Error> {
        Ok(Bus::connect(sinew::Config::new(self.broker.url(), name)).await?)
    }

    /// Starts an edge with these settings, on a port the system chooses.
    pub(super) async fn edge(&self, config: &Value) -> Result<Role, Error> {
        let file = self.folder.join("edge.yaml");
        // JSON is YAML.
        std::fs::write(&file, format!("{config:#}\n"))?;
        let file = file.to_str().ok_or("the folder's name is not UTF-8: build elsewhere")?;
        self.role("edge", &["edge", "--config", file, "--listen", "127.0.0.1:0"]).await
    }

    /// Starts an orchestrator.
    pub(super) async fn orchestrator(&self) -> Result<Role, Error> {
        self.role("orchestrator", &["orchestrator"]).await
    }

    /// Runs a command of `sinew` to its end.
    pub(super) async fn sinew(&self, arguments: &[&str]) -> Result<(), Error> {
        let status = self.command(arguments).status().await?;
        if status.success() { Ok(()) } else { Err(format!("`sinew {}` failed", arguments.join(" ")).into()) }
    }

    /// Stops the server; roles are to be gone by then.
    pub(super) async fn stop(self) -> Result<(), Error> {
        self.broker.stop().await?;
        Ok(())
    }

    async fn role(&self, name: &str, arguments: &[&str]) -> Result<Role, Error> {
        let log = File::create(self.folder.join(format!("{name}.log")))?;
        let mut child = self.command(arguments).stdout(Stdio::piped()).stderr(log).spawn()?;
        let output = child.stdout.take().ok_or("a process has no output")?;
        let mut told = BufReader::new(output).lines();
        let line = told.next_line().await?;
        let line = line.ok_or_else(|| format!("{name} did not start: see {name}.log in its folder"))?;
        Ok(Role { child, said: serde_json::from_str(&line)?, _told: told })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.sinew);
        command.args(["--json", "--nats-url", self.broker.url()]).args(arguments).kill_on_drop(true);
        command.stdin(Stdio::null());
        command
    }
}

impl Role {
    /// Returns where an edge listens.
    pub(super) fn address(&self) -> Result<SocketAddr, Error> {
        let url = self.said["edge"]["url"].as_str().and_then(|url| url.strip_prefix("http://"));
        Ok(url.ok_or("the role does not say where it listens")?.parse()?)
    }

    /// Says whether it still runs.
    pub(super) fn is_running(&mut self) -> Result<bool, Error> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Returns its resident memory in bytes.
    pub(super) fn resident(&self) -> Result<u64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kilobytes.ok_or("the kernel does not tell the memory of a process")? * 1024)
    }

    /// Returns how many files and sockets it has open.
    pub(super) fn open_files(&self) -> Result<usize, Error> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.pid()?))?.count())
    }

    fn pid(&self) -> Result<u32, Error> {
        self.child.id().ok_or_else(|| "the process has ended".into())
    }
}

//! The other side of each benchmark, in a process of its own, so that client and server do not share a runtime; and in a
//! program of its own (`part.rs`), which does not count its allocations.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::Error;

/// Linux accounts processor time to programs in hundredths of a second, on every architecture.
const TICK_MS: u64 = 10;

/// A running peer; killed when dropped.
pub(super) struct Peer {
    child: Child,
    /// What it said when it was ready, for example its address.
    pub(super) said: String,
}

impl Peer {
    /// Starts this program again in the given part and waits until it is ready.
    pub(super) fn start(part: &str, nats: &str) -> Result<Self, Error> {
        let mut command = Command::new(program()?);
        command.args([part, nats]);
        Self::spawn(command)
    }

    /// As [`Peer::start`], with its spans sent to `collector`.
    pub(super) fn start_traced(part: &str, nats: &str, collector: &str) -> Result<Self, Error> {
        Self::start_with(part, nats, collector)
    }

    /// Returns a figure of the kernel's about its memory (`VmRSS`, `VmHWM`), in megabytes.
    pub(super) fn resident(&self, field: &str) -> Result<f64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kilobytes.ok_or("the kernel does not tell the memory of the peer")? / 1024.0)
    }

    /// Returns the processor time it has used.
    pub(super) fn processor(&self) -> Result<Duration, Error> {
        processor(self.child.id())
    }

    /// As [`Peer::start`], with one more word for the part.
    pub(super) fn start_with(part: &str, nats: &str, word: &str) -> Result<Self, Error> {
        let mut command = Command::new(program()?);
        command.args([part, nats, word]);
        Self::spawn(command)
    }

    /// Asks it to stop in order, and returns when it has.
    pub(super) fn stop(mut self) -> Result<(), Error> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts any program that prints a line when it is ready.
    pub(super) fn spawn(mut command: Command) -> Result<Self, Error> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("the peer has no output")?;
        let mut said = String::new();
        BufReader::new(output).read_line(&mut said)?;
        Ok(Self { child, said: said.trim().to_owned() })
    }
}

/// Finds the program that plays the parts: it is built beside this one.
fn program() -> Result<PathBuf, Error> {
    let program = std::env::current_exe()?.with_file_name("bench-peer");
    if program.exists() {
        Ok(program)
    } else {
        Err("build the peers: cargo build --profile dist -p xtask".into())
    }
}

/// Returns the processor time a process has used, as the kernel accounts it.
pub(super) fn processor(pid: u32) -> Result<Duration, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name, in brackets, may hold blanks; what is wanted are the 12th and 13th fields behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * TICK_MS))
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It holds nothing worth draining.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

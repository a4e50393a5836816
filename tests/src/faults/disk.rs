//! A disk that is slow, and one that is full.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use sinew::{Ctx, workflow::StartWorkflow};

use super::{
    span,
    system::{Plan, System},
};
use crate::harness::{Harness, SOON, eventually};

const CONFIG: &str = "lease_seconds: 2\n";
/// What the disk holds, in MiB.
const DISK: u32 = 64;

/// A disk of its own, in memory; unmounted when it is dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// Mounts it; says why where that is not possible.
    fn mount() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let size = format!("size={DISK}m");
        let path = dir.path().to_str().expect("a path in UTF-8");
        run("mount", &["-t", "tmpfs", "-o", &size, "none", path])?;
        Ok(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes every byte that is left.
    fn fill(&self) {
        let ballast = format!("of={}", self.path().join("ballast").display());
        // It ends when there is no more room, which is no success.
        let _ = run("dd", &["if=/dev/zero", &ballast, "bs=4k"]);
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("ballast")).expect("the disk was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// A server that met a full disk stores nothing more until it is started again, so that is what its operator does here.
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_full_disk_refuses_starts_and_loses_no_accepted_saga() {
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(reason) => return println!("SKIPPED, no disk can be mounted here: {reason}"),
    };
    let mut harness = Harness::start_synced_in(disk.path()).await;
    let url = harness.url().to_owned();
    let system = System::start(Plan { config: CONFIG, ..Plan::new(&url) }).await;
    let load = system.load_over_bus("d", 16);
    eventually(SOON, || async { system.effects() > 200 }).await;
    disk.fill();
    // Whoever starts now is told in time that it did not work, and that it may work later.
    let refused = eventually(SOON, || async {
        let start = StartWorkflow::new("trip", json!({})).without_waiting();
        let answer = Ctx::detached(system.bus(), "test").call(start).within(Duration::from_secs(3)).await;
        answer.err().map(|error| error.to_problem())
    })
    .await;
    assert!(matches!(refused.status, 503 | 504), "{refused:?}");
    disk.free();
    harness.kill().await;
    harness.revive().await;
    let effects = system.effects();
    eventually(SOON, || async { system.effects() > effects + 50 }).await;
    let told = load.finish().await;
    let evidence = system.evidence(told).await;
    system.assert_kept(&evidence);
    harness.kill().await;
}

/// A tracer that lets the server wait at every sync; it lets go of it when it is killed.
struct Tracer(Child);

impl Tracer {
    fn attach(pid: u32, delay: Duration) -> std::io::Result<Self> {
        let inject = format!("inject=fsync,fdatasync:delay_enter={}", delay.as_micros());
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", &inject]);
        command.args(["-p", &pid.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self)
    }

    /// Says whether it is at work.
    fn holds(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Waits until every thread of the process is traced; says whether that came about.
    async fn has_come(&mut self, pid: u32) -> bool {
        let traced = || {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            threads.flatten().all(|thread| is_traced(&thread.path().join("status"))).then_some(())
        };
        while traced().is_none() {
            if !self.holds() {
                return false;
            }
            // why: nothing tells of it but the system's own files.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every sync takes as long as on a disk that is busy with something else: longer, for a while, than a renewal of the
/// lease waits.
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_slow_disk_delays_sagas_and_loses_none() {
    let mut harness = Harness::start_synced().await;
    let url = harness.url().to_owned();
    let plan = Plan { orchestrators: &[&url, &url], config: CONFIG, ..Plan::new(&url) };
    let system = System::start(plan).await;
    let load = system.load_over_bus("f", 16);
    let mut slowest = Duration::ZERO;
    for delay in [40, 400, 1_500] {
        let pid = harness.broker().pid().expect("the server is a child");
        let mut tracer = match Tracer::attach(pid, Duration::from_millis(delay)) {
            Ok(tracer) => tracer,
            Err(reason) => return println!("SKIPPED, `strace` does not run here: {reason}"),
        };
        if !tracer.has_come(pid).await {
            return println!("SKIPPED, `strace` may not trace the server here");
        }
        if delay == 40 {
            let (began, id) = (tokio::time::Instant::now(), "slow-start");
            let start = StartWorkflow::new("trip", json!({})).id(id).without_waiting();
            let ctx = Ctx::detached(system.bus(), "test");
            eventually(SOON, || async { ctx.call(start.clone()).await }).await;
            slowest = began.elapsed();
        }
        // why: the disk is slow for a while, whatever comes of it.
        tokio::time::sleep(span(9) / 3).await;
        assert!(tracer.holds(), "the tracer let go of the server");
    }
    assert!(slowest > Duration::from_millis(40), "a start took {slowest:?}: the disk was not slow");
    let told = load.finish().await;
    let evidence = system.evidence(told).await;
    system.assert_kept(&evidence);
}

/// Says whether a thread has a tracer; one that is gone needs none.
fn is_traced(status: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(status) else { return true };
    let tracer = text.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|pid| pid.trim() != "0")
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let ran =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    match ran.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&ran.stderr))),
    }
}

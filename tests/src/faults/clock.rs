//! Clocks that jump: the orchestrator's wall clock goes an hour ahead, and back.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    some_moment, span,
    system::{Plan, System},
};
use crate::harness::{Harness, SOON, eventually};

/// What stands between the program and the system's clock: the wall clock is as many seconds off as a file says, which
/// is mapped, so that it changes while the program runs. Monotonic time is left alone, as a jump leaves it.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *now) {
    static volatile long *ahead;
    int failed = (int)syscall(SYS_clock_gettime, id, now);
    if (failed || id != CLOCK_REALTIME) return failed;
    if (!ahead) {
        int file = open(getenv("SINEW_TEST_CLOCK"), O_RDONLY);
        void *mapped = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        close(file);
        if (mapped == MAP_FAILED) abort();
        ahead = mapped;
    }
    now->tv_sec += *ahead;
    return 0;
}
"#;

/// A clock that can be set, for the processes that are started with its variables.
struct Clock {
    dir: tempfile::TempDir,
    shim: PathBuf,
}

impl Clock {
    /// Makes it; says why where that is not possible.
    fn make() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (source, shim) = (dir.path().join("clock.c"), dir.path().join("clock.so"));
        std::fs::write(&source, SHIM).map_err(|error| error.to_string())?;
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).output();
        let compiled = compiled.map_err(|error| format!("cc: {error}"))?;
        if !compiled.status.success() {
            return Err(format!("cc: {}", String::from_utf8_lossy(&compiled.stderr)));
        }
        let clock = Self { dir, shim };
        clock.set(0);
        Ok(clock)
    }

    /// Puts it so many seconds ahead of the real one, or behind.
    fn set(&self, ahead: i64) {
        // Never shortened: it is mapped.
        let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(self.file()).unwrap();
        file.write_all(&ahead.to_ne_bytes()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ahead")
    }

    fn variables(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let variables = [("LD_PRELOAD", text(&self.shim)), ("SINEW_TEST_CLOCK", text(&self.file()))];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_clock_that_jumps_an_hour_ahead_and_back_loses_no_accepted_saga() {
    let clock = match Clock::make() {
        Ok(clock) => clock,
        Err(reason) => return println!("SKIPPED, no clock can be made here: {reason}"),
    };
    let harness = Harness::start_synced().await;
    let variables = clock.variables();
    let plan = Plan { environment: &variables, config: "lease_seconds: 2\n", ..Plan::new(harness.url()) };
    let mut system = System::start(plan).await;
    let load = system.load_over_bus("j", 16);
    let until = tokio::time::Instant::now() + span(6);
    for (round, hours) in [1, 0, -1, 0, 1, -1].into_iter().cycle().enumerate() {
        let effects = system.effects();
        eventually(SOON, || async { system.effects() > effects + 40 }).await;
        some_moment(100..700).await;
        if round > 3 && tokio::time::Instant::now() > until {
            break;
        }
        clock.set(hours * 3_600);
        if round % 3 == 2 {
            // The next owner sees a log from the future.
            system.orchestrators[0].kill().await;
            system.tend();
        }
    }
    let told = load.finish().await;
    let evidence = system.evidence(told).await;
    let started = evidence.instances.values().map(|one| one.started_ms);
    let (first, last) = (started.clone().min().unwrap(), started.max().unwrap());
    assert!(last - first > 3_000_000, "the clock did not jump: {first} to {last}");
    system.assert_kept(&evidence);
}

//! `after`: the next instance starts so long after the one before has ended, however it ended. The first starts at once.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sinew_workflow::{Schedule, Timestamp};

use super::{Job, now, sleep_until};

pub(super) const KIND: &str = "after";

/// Which run is next, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Next {
    digest: String,
    /// Counts over all versions, so that no id comes again.
    run: u64,
    at: Timestamp,
}

/// Runs one instance after the other; returns where the schedule asks for none.
pub(super) async fn run(job: &Job, schedule: &Schedule) {
    if schedule.after().is_none() {
        return;
    }
    let digest = job.newest.digest.clone();
    let mut next = match job.recall::<Next>(KIND).await {
        Some(next) if next.digest == digest => next,
        // The instance of another version goes on, and this one does not wait for it.
        Some(other) => Next { digest, run: other.run + 1, at: now() },
        None => Next { digest, run: 1, at: now() },
    };
    job.note(KIND, &next).await;
    loop {
        sleep_until(next.at).await;
        let wanted = job.wanted(&format!("{}-{:04x}", next.run, born(&job.newest.digest)), json!({}));
        // Asking again for one that runs or has ended finds it: so an owner that was away goes on here.
        let ended = job.starter.run(&wanted).await.and_then(|instance| instance.ended_ms);
        let ended = ended.map_or_else(now, Timestamp::from_millis);
        let Some(at) = schedule.again(ended) else { return };
        next = Next { run: next.run + 1, at, ..next };
        job.note(KIND, &next).await;
    }
}

/// Tells runs of a definition apart from those of one that had its name before it was removed.
fn born(digest: &str) -> u64 {
    crate::view::digest_of_text(digest) & 0xffff
}

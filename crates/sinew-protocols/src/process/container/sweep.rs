//! Containers whose time is over, and whose process did not live to remove them.
//!
//! How long one is kept is written on it, so whoever runs a container next on the same machine can clean up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::engine::{Engine, KEEP};
use crate::call::Scope;

/// How long the engine may take to tell what there is.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of it that are read.
const MOST: usize = 1 << 20;

/// Whether it was looked for such containers.
#[derive(Debug, Default)]
pub(crate) struct Swept(AtomicBool);

/// Looks for them, once in the life of the calls, while these go on.
pub(super) fn begin(scope: Scope<'_>, engine: &Engine) {
    if scope.core.swept.0.swap(true, Ordering::Relaxed) {
        return;
    }
    let engine = engine.clone();
    scope.core.background.spawn(async move {
        for (name, left) in due(&engine).await {
            tokio::time::sleep(left).await;
            engine.tell(&["rm", "--force", &name]).await;
        }
    });
}

/// Returns the containers that have ended, with what is left of their time, the least first.
async fn due(engine: &Engine) -> Vec<(String, Duration)> {
    let filter = format!("--filter=label={KEEP}");
    let Some(ids) = said(engine, &["ps", "--all", "--quiet", "--filter=status=exited", &filter]).await else {
        return Vec::new();
    };
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if ids.is_empty() {
        return Vec::new();
    }
    let format = format!(
        "--format={{{{.Id}}}} {{{{index .Config.Labels \"{KEEP}\"}}}} {{{{json .State.FinishedAt}}}}"
    );
    let Some(told) = said(engine, &[&["container", "inspect", format.as_str()], &ids[..]].concat()).await
    else {
        return Vec::new();
    };
    let now = Timestamp::now();
    let mut due: Vec<_> = told.lines().filter_map(|line| left(line, now)).collect();
    due.sort_by_key(|(_, left)| *left);
    due
}

/// Reads one line: a container, for how long it is kept, when it ended.
fn left(line: &str, now: Timestamp) -> Option<(String, Duration)> {
    let mut words = line.split_whitespace();
    let (name, keep, ended) = (words.next()?, words.next()?.parse().ok()?, words.next()?.trim_matches('"'));
    let since = Duration::try_from(now.duration_since(ended.parse().ok()?)).unwrap_or_default();
    Some((name.to_owned(), Duration::from_millis(keep).saturating_sub(since)))
}

async fn said(engine: &Engine, arguments: &[&str]) -> Option<String> {
    let program = engine.program(arguments.iter().map(|&one| one.to_owned()).collect()).ok()?;
    let ended = program.within(Instant::now() + PATIENCE, MOST).await.ok()?;
    (ended.code == 0).then_some(ended.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_counted_from_the_end() {
        let now = "2026-11-22T12:00:10Z".parse().unwrap();
        let left = |line: &str| left(line, now).map(|(_, left)| left.as_millis());
        assert_eq!(left("c 30000 \"2026-11-22T12:00:00.5Z\""), Some(20_500));
        assert_eq!(left("c 3000 \"2026-11-22T12:00:00Z\""), Some(0));
        assert_eq!(left("c 0 \"2026-11-22T13:00:00+01:00\""), Some(0));
        assert_eq!(left("c  \"2026-11-22T12:00:00Z\""), None, "none of ours");
    }
}

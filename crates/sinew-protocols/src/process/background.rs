//! What goes on after its call was answered: processes nobody waits for, and cleaning up later.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the last tasks are waited for.
const LAST: Duration = Duration::from_secs(10);

/// Owns tasks that outlive their calls. Dropping it ends them, and with them their processes.
#[derive(Debug, Default)]
pub(crate) struct Background {
    stop: CancellationToken,
    /// Locked to put a task in or to take all out, never while one is awaited.
    tasks: Mutex<JoinSet<()>>,
}

impl Background {
    /// Runs a task until it ends or everything is stopped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.stop.clone().run_until_cancelled_owned(task);
        self.finish(async move {
            task.await;
        });
    }

    /// Runs a task that is waited for even when everything is stopped, as long as it does not take long.
    pub(crate) fn finish(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime the process is about to end.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &runtime);
    }

    /// Stops everything and waits for its end.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = tokio::time::timeout(LAST, async { while tasks.join_next().await.is_some() {} });
        // What hangs is aborted.
        let _ = ended.await;
    }
}

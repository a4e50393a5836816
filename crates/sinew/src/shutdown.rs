//! Waiting for the word to stop.

/// Waits until the process is asked to stop: SIGTERM or Ctrl-C.
pub async fn requested() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupt = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(error) => {
            tracing::warn!(%error, "cannot listen for SIGTERM: only Ctrl-C stops this process gracefully");
            let _ = interrupt.await;
        }
    }
}

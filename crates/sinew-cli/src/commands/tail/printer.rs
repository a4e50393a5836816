//! The way to a terminal that may be slow, stopped or gone: a thread of its own, so that the bus is never kept waiting.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::output::{Output, Style};

/// Lines that may wait for the terminal.
const WAITING: usize = 1_024;
/// How long the end waits for a terminal that does not take the last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Prints lines in order.
pub(super) struct Printer {
    output: Output,
    lines: mpsc::Sender<String>,
    done: oneshot::Receiver<()>,
    dropped: u64,
}

impl Printer {
    /// Starts the thread.
    pub(super) fn start(output: Output) -> Self {
        let (lines, mut waiting) = mpsc::channel::<String>(WAITING);
        let (end, done) = oneshot::channel();
        // Writing may block for as long as the terminal is stopped; a thread of the runtime must not, and the end of the
        // process must not wait for it. So it is a plain thread, whose end is told rather than joined.
        std::thread::spawn(move || {
            while let Some(line) = waiting.blocking_recv() {
                if output.line(&line).is_err() {
                    break;
                }
            }
            drop(waiting);
            let _ = end.send(());
        });
        Self { output, lines, done, dropped: 0 }
    }

    /// Prints a line as soon as the terminal takes it; `false` when nobody reads any more.
    pub(super) async fn print(&mut self, line: String) -> bool {
        self.lines.send(line).await.is_ok()
    }

    /// Prints a line unless too many wait; then it is counted, and the count is shown as soon as there is room.
    pub(super) fn offer(&mut self, line: String) -> bool {
        let lines = [self.gap(), Some(line)];
        for line in lines.into_iter().flatten() {
            match self.lines.try_send(line) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    self.dropped += 1;
                    return true;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
            }
        }
        true
    }

    /// Waits, in bounds, until everything is written.
    pub(super) async fn finish(mut self) {
        if let Some(gap) = self.gap() {
            let _ = tokio::time::timeout(LAST_WORDS, self.lines.send(gap)).await;
        }
        drop(self.lines);
        let _ = tokio::time::timeout(LAST_WORDS, self.done).await;
    }

    /// Returns the line that says what was left out, where there is room for it and the next one.
    fn gap(&mut self) -> Option<String> {
        if self.dropped == 0 || self.lines.capacity() < 2 {
            return None;
        }
        let dropped = std::mem::take(&mut self.dropped);
        Some(if self.output.is_json() {
            serde_json::json!({ "dropped": dropped }).to_string()
        } else {
            let text = format!("-- {dropped} not shown: they came faster than they could be written --");
            self.output.paint(Style::Bad, &text)
        })
    }
}

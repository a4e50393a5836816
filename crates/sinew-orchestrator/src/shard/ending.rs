//! How an owner ends: what was begun settles, what was decided is stored, who waits is told.

use std::time::Duration;

use sinew::workflow::WorkflowError;

use super::{Appending, Input, Shard, TAKE, World, command, until};
use crate::journal::{Journal, JournalError};

/// How long an owner that stops may take for its last appends.
const FLUSH: Duration = Duration::from_secs(5);
/// How long an owner that hands over waits for the replies of calls in flight, which the next owner would repeat.
const SETTLE: Duration = Duration::from_secs(2);

impl<J: Journal, W: World> Shard<J, W> {
    /// An owner that may not append lets nothing out: whoever waits is told to ask the new owner.
    pub(super) async fn abandon(self, error: JournalError) {
        tracing::warn!(epoch = self.epoch, %error, "an owner of a shard stops at once");
        self.stop().await;
    }

    /// Ends in order: calls in flight, the append in flight, what gathered behind it, then the waiters.
    pub(super) async fn finish(mut self, mut appending: Option<Appending>) {
        self.ending = true;
        if !self.is_in_doubt() {
            // What does not come in time is asked for again by the next owner, under the same key.
            let _ = tokio::time::timeout(SETTLE, self.settle(&mut appending)).await;
        }
        let flushed = tokio::time::timeout(FLUSH, self.flush(appending)).await;
        match flushed {
            Ok(Ok(())) if !self.is_in_doubt() => self.tell_waiters(),
            // What is not acknowledged may never have happened: whoever waits asks the next owner.
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(
                    epoch = self.epoch,
                    "the last entries of a shard were not stored: the next owner goes on"
                );
            }
        }
        self.stop().await;
    }

    /// Takes the replies of what was begun until all are there; an append the log refuses is left to [`Self::flush`].
    async fn settle(&mut self, appending: &mut Option<Appending>) {
        let settled = self.world.settled();
        tokio::pin!(settled);
        let mut inputs = Vec::with_capacity(TAKE);
        loop {
            if appending.is_none() && !self.batch.is_empty() {
                *appending = Some(self.append());
            }
            tokio::select! {
                biased;
                taken = self.inbox.recv_many(&mut inputs, TAKE) => {
                    inputs.drain(..).for_each(|input| self.take_last(input));
                    if taken == 0 {
                        return;
                    }
                }
                outcome = until(appending) => match outcome {
                    Ok(sequence) => self.acknowledged(sequence),
                    Err(error) => {
                        *appending = Some(Box::pin(std::future::ready(Err(error))));
                        return;
                    }
                },
                () = &mut settled => break,
            }
        }
        // The last of them may have come between the two looks.
        while let Ok(input) = self.inbox.try_recv() {
            self.take_last(input);
        }
    }

    /// As [`Shard::take`], for an owner that begins nothing any more.
    fn take_last(&mut self, input: Input) {
        match input {
            Input::Start { reply, .. } | Input::Ask { reply, .. } => {
                reply.send(Err(WorkflowError::ShardUnavailable));
            }
            // Whoever waits for one of these ends with the shard.
            Input::Mark { .. } | Input::Recall { .. } => {}
            input @ (Input::Reply { .. }
            | Input::Accepted { .. }
            | Input::Event { .. }
            | Input::Archived { .. }
            | Input::Note(_)) => self.take(input),
        }
    }

    async fn flush(&mut self, mut appending: Option<Appending>) -> Result<(), JournalError> {
        loop {
            if appending.is_none() && !self.batch.is_empty() {
                appending = Some(self.append());
            }
            if appending.is_none() {
                return Ok(());
            }
            let sequence = until(&mut appending).await?;
            self.acknowledged(sequence);
        }
    }

    /// Tells those who wait for an end that the work goes on elsewhere.
    fn tell_waiters(&mut self) {
        for live in self.live.values_mut() {
            let waiters = live.take_waiters();
            if waiters.is_empty() {
                continue;
            }
            let answer = command::shown(live);
            waiters.into_iter().for_each(|waiter| waiter.send(Ok(answer.clone())));
        }
    }

    async fn stop(self) {
        self.world.stop().await;
        self.work.close();
        self.work.wait().await;
    }
}

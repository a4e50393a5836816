//! Results that are brought later: `complete`, `fail` and `heartbeat`, by token.

use sinew::{
    State,
    workflow::{CompleteTask, FailTask, HeartbeatTask, WorkflowError},
};
use sinew_workflow::Outcome;

use super::{Desk, PROMPT};
use crate::{
    calls::{refused, terms_of},
    shard::{Ask, Word},
};

pub(super) async fn complete(request: CompleteTask, State(desk): State<Desk>) -> Result<(), WorkflowError> {
    desk.settle(&request.token, Word::Ended(Outcome::Completed(request.value))).await
}

pub(super) async fn fail(request: FailTask, State(desk): State<Desk>) -> Result<(), WorkflowError> {
    desk.settle(&request.token, Word::Ended(refused(request.problem))).await
}

pub(super) async fn heartbeat(request: HeartbeatTask, State(desk): State<Desk>) -> Result<(), WorkflowError> {
    desk.settle(&request.token, Word::Alive(request.terms.map(terms_of))).await
}

impl Desk {
    async fn settle(&self, token: &str, word: Word) -> Result<(), WorkflowError> {
        let ticket = self.seal.read(token).ok_or(WorkflowError::InvalidToken)?;
        let shard = self.router.shard_of(&ticket.instance);
        self.router.send(shard, Ask::Settle { ticket, word }.into(), PROMPT).await.map(drop)
    }
}

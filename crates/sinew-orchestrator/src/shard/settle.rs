//! Answers that somebody brings later: by token, from whatever process, at whatever time.

use serde::{Deserialize, Serialize};
use sinew::workflow::WorkflowError;
use sinew_workflow::{Effect, Input as Event, Outcome, Standing, State, Terms, Timestamp};

use super::{Answer, Reply, Shard, World};
use crate::{journal::Journal, token::Ticket};

/// What is said about work that was taken on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// It has ended.
    Ended(Outcome),
    /// It goes on, perhaps on new terms.
    Alive(Option<Terms>),
}

impl<J: Journal, W: World> Shard<J, W> {
    /// Takes somebody's word on an attempt; answered once that is stored.
    pub(super) fn settle_by_token(&mut self, ticket: Ticket, word: Word, reply: Reply) {
        let Ticket { instance: id, task, attempt } = ticket;
        let at = self.clock.now();
        let refusal = match self.live.get(&id) {
            None => Some(not_waited_for(&id)),
            // Nothing can be decided on behalf of an instance that stands still.
            Some(live) if live.definition.is_none() => Some(WorkflowError::ShardUnavailable),
            Some(live) => match live.state.standing(task, attempt) {
                Standing::Open => None,
                Standing::Answered => Some(WorkflowError::AlreadyAnswered),
                Standing::Gone => Some(not_waited_for(&id)),
            },
        };
        if let Some(refusal) = refusal {
            return self.answer(reply, Err(refusal));
        }
        let event = match word {
            Word::Ended(outcome) => Event::Reply { task, attempt, outcome, at },
            Word::Alive(Some(terms)) => Event::Accepted { task, attempt, terms, at },
            Word::Alive(None) => Event::Heartbeat { task, attempt, at },
        };
        let answer = self.advance(&id, event).map(|()| Answer::Done);
        self.answer(reply, answer.map_err(|refusal| WorkflowError::WrongState(refusal.to_string())));
    }
}

/// Lets a silence begin anew where an owner takes over: while nobody owned the shard, nobody could be heard.
pub(super) fn after_silence(state: &State, due: Vec<Effect>, now: Timestamp) -> Vec<Effect> {
    let anew = |effect| match effect {
        Effect::Timer { task, timer, at } => {
            let heard = state.silence(task, timer).map_or(at, |millis| at.max(now.after(millis)));
            Effect::Timer { task, timer, at: heard }
        }
        other => other,
    };
    due.into_iter().map(anew).collect()
}

fn not_waited_for(id: &str) -> WorkflowError {
    WorkflowError::NotWaitedFor(format!(
        "instance {id} has ended, was cancelled, tried again, or waited long enough: stop the work"
    ))
}

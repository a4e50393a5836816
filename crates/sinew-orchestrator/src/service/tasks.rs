//! What people are asked: listed over all shards, answered at the one that owns the instance.

use sinew::{
    State,
    wire::InstanceId,
    workflow::{
        AnswerTask, ClaimTask, DeclineTask, GetTask, ListTasks, ReleaseTask, WorkflowError, WorkflowInstance,
        WorkflowTask, WorkflowTasks,
    },
};
use sinew_workflow::TaskId;

use super::{Desk, PAGE, PROMPT};
use crate::shard::{Answer, Ask, Said, task_of};

/// How long a claim lasts where nothing is said: a working day.
const CLAIM_MS: u64 = 8 * 3_600 * 1_000;

pub(super) async fn tasks(
    request: ListTasks,
    State(desk): State<Desk>,
) -> Result<WorkflowTasks, WorkflowError> {
    let ListTasks { workflow, candidate, limit } = request;
    let limit = usize::try_from(limit.unwrap_or(PAGE).min(1_000)).unwrap_or(0);
    let mut tasks = Vec::new();
    for shard in desk.router.shards() {
        let ask = Ask::Tasks { workflow: workflow.clone(), candidate: candidate.clone(), limit };
        if let Answer::Tasks(page) = desk.router.send(shard, ask.into(), PROMPT).await? {
            tasks.extend(page);
        }
    }
    tasks.sort_by_key(|task| task.asked_ms);
    tasks.truncate(limit);
    Ok(WorkflowTasks { tasks })
}

pub(super) async fn task(request: GetTask, State(desk): State<Desk>) -> Result<WorkflowTask, WorkflowError> {
    desk.show(request.id, |id, task| Ask::Task { id, task }).await
}

pub(super) async fn claim(
    request: ClaimTask,
    State(desk): State<Desk>,
) -> Result<WorkflowTask, WorkflowError> {
    let ClaimTask { id, who, for_ms } = request;
    let for_ms = Some(for_ms.unwrap_or(CLAIM_MS));
    desk.show(id, |id, task| Ask::Claim { id, task, who, for_ms }).await
}

pub(super) async fn release(
    request: ReleaseTask,
    State(desk): State<Desk>,
) -> Result<WorkflowTask, WorkflowError> {
    let ReleaseTask { id, who } = request;
    desk.show(id, |id, task| Ask::Claim { id, task, who, for_ms: None }).await
}

pub(super) async fn answer(
    request: AnswerTask,
    State(desk): State<Desk>,
) -> Result<WorkflowInstance, WorkflowError> {
    let AnswerTask { id, answer, who } = request;
    desk.say(&id, Said::Answer(answer), who).await
}

pub(super) async fn decline(
    request: DeclineTask,
    State(desk): State<Desk>,
) -> Result<WorkflowInstance, WorkflowError> {
    let DeclineTask { id, why, who } = request;
    desk.say(&id, Said::No(why), who).await
}

impl Desk {
    /// Asks something about a task that is answered with how the task stands.
    async fn show(
        &self,
        text: String,
        ask: impl FnOnce(String, TaskId) -> Ask,
    ) -> Result<WorkflowTask, WorkflowError> {
        let (id, task) = named(&text)?;
        let shard = self.router.shard_of(&id);
        let found = match self.router.send(shard, ask(id, task).into(), PROMPT).await? {
            Answer::Tasks(tasks) => tasks.into_iter().next(),
            _ => None,
        };
        found.ok_or(WorkflowError::UnknownTask(text))
    }

    async fn say(&self, text: &str, said: Said, who: String) -> Result<WorkflowInstance, WorkflowError> {
        let (id, task) = named(text)?;
        let ask = Ask::Said { id: id.clone(), task, said, who };
        let answer = self.router.send(self.router.shard_of(&id), ask.into(), PROMPT).await?;
        answer.instance().ok_or_else(|| WorkflowError::UnknownTask(text.to_owned()))
    }
}

fn named(text: &str) -> Result<(String, TaskId), WorkflowError> {
    let named = task_of(text).filter(|(id, _)| id.parse::<InstanceId>().is_ok());
    named.ok_or_else(|| WorkflowError::UnknownTask(text.to_owned()))
}

//! Starting instances on behalf of clocks and events: each id once, however often it is asked for.

use std::{sync::Arc, time::Duration};

use sinew::{
    Bus, Problem,
    telemetry::new_root,
    workflow::{WorkflowError, WorkflowInstance},
};

use crate::{
    history,
    router::Router,
    shard::{Command, Start},
};

/// How long an owner may take to accept a start, or to tell that the instance ended.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an answer may take beyond that.
const WAY_BACK: Duration = Duration::from_secs(5);
/// Pause before a start that was turned away is tried again, and the longest it grows to.
const AGAIN: Duration = Duration::from_millis(100);
const LONG_AGAIN: Duration = Duration::from_secs(5);

/// The way to start instances; a cheap handle.
#[derive(Clone)]
pub(crate) struct Starter {
    pub(crate) bus: Bus,
    pub(crate) router: Arc<Router>,
}

/// An instance to start.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) id: String,
    pub(crate) workflow: String,
    pub(crate) digest: String,
    pub(crate) input: serde_json::Value,
}

impl Starter {
    /// Starts an instance, or finds the one with this id, and returns once the start is stored. `None` where no try
    /// would succeed: that is logged.
    pub(crate) async fn start(&self, wanted: &Wanted) -> Option<WorkflowInstance> {
        self.tried(wanted, false).await
    }

    /// As [`start`](Self::start), and returns when the instance has ended.
    pub(crate) async fn run(&self, wanted: &Wanted) -> Option<WorkflowInstance> {
        loop {
            let instance = self.tried(wanted, true).await?;
            if instance.ended_ms.is_some() {
                return Some(instance);
            }
            // A saga that is being undone, or is stuck, has its result, and yet has not ended.
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn tried(&self, wanted: &Wanted, waits: bool) -> Option<WorkflowInstance> {
        let mut pause = AGAIN;
        loop {
            match self.once(wanted, waits).await {
                Ok(instance) => return Some(instance),
                Err(error) if is_lasting(&error) => {
                    tracing::error!(instance = wanted.id, %error, "a workflow could not be started");
                    return None;
                }
                Err(error) => tracing::debug!(instance = wanted.id, %error, "a start has to wait"),
            }
            tokio::time::sleep(pause).await;
            pause = LONG_AGAIN.min(pause * 2);
        }
    }

    async fn once(&self, wanted: &Wanted, waits: bool) -> Result<WorkflowInstance, WorkflowError> {
        let Wanted { id, workflow, digest, input } = wanted;
        let ended = history::read(&self.bus, workflow, id).await;
        if let Some(record) = ended.map_err(|error| WorkflowError::Other(error.to_problem()))? {
            return Ok(record.instance);
        }
        let start = Start {
            id: id.clone(),
            digest: digest.clone(),
            workflow: workflow.clone(),
            input: input.clone(),
            input_at: None,
            trace: Some(new_root(self.bus.tracer().is_on()).to_string()),
            parent: None,
            wait_ms: waits.then(|| u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX)),
        };
        let shard = self.router.shard_of(id);
        let answer = self.router.send(shard, Command::Start(start), PATIENCE + WAY_BACK).await?;
        answer
            .instance()
            .ok_or_else(|| WorkflowError::Other(Problem::new(500, "internal", "a start was not answered")))
    }
}

/// Says whether trying again would bring the same.
fn is_lasting(error: &WorkflowError) -> bool {
    matches!(
        error,
        WorkflowError::InvalidStart(_)
            | WorkflowError::DuplicateStart(_)
            | WorkflowError::UnknownWorkflow(_)
            | WorkflowError::InvalidDefinition { .. }
    )
}

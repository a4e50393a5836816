//! What waits for its turn, over all shards.

use std::collections::BTreeMap;

use sinew::{
    State,
    workflow::{CallLimit, ListLimits, WorkflowError},
};

use super::{Desk, PROMPT};
use crate::shard::{Answer, Ask};

pub(super) async fn list(_: ListLimits, State(desk): State<Desk>) -> Result<Vec<CallLimit>, WorkflowError> {
    let mut all = BTreeMap::<String, CallLimit>::new();
    for shard in desk.router.shards() {
        if let Answer::Limits(limits) = desk.router.send(shard, Ask::Limits.into(), PROMPT).await? {
            for limit in limits {
                match all.get_mut(&limit.operation) {
                    Some(known) => {
                        known.under_way += limit.under_way;
                        known.waiting += limit.waiting;
                    }
                    None => _ = all.insert(limit.operation.clone(), limit),
                }
            }
        }
    }
    Ok(all.into_values().collect())
}

//! `sinew workflow limits`: the limits of calls, and what waits for its turn.

use sinew::workflow::{CallLimit, ListLimits};

use super::instances::{SHORT, ask};
use crate::{error::Error, output::columns, session::Session};

pub(super) async fn list(session: &Session) -> Result<(), Error> {
    let limits = ask(session, ListLimits {}, SHORT).await?;
    session.output.show(&limits, |limits| {
        if limits.is_empty() {
            return "no limits: set calls.limits in the orchestrator's configuration".to_owned();
        }
        let title = ["OPERATION", "AT ONCE", "RATE", "UNDER WAY", "WAITING"].map(str::to_owned).to_vec();
        columns(&std::iter::once(title).chain(limits.iter().map(row)).collect::<Vec<_>>())
    });
    Ok(())
}

fn row(limit: &CallLimit) -> Vec<String> {
    let any = || "any".to_owned();
    vec![
        limit.operation.clone(),
        limit.concurrency.map_or_else(any, |count| count.to_string()),
        limit.rate.clone().unwrap_or_else(any),
        limit.under_way.to_string(),
        limit.waiting.to_string(),
    ]
}

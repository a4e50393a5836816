//! Schemathesis: requests made of `/openapi.json`, right ones and wrong ones, one by one and along the document's links.
//!
//! Asked is that nothing it makes finds a fault: no status 5xx, no answer that is not as described, no wrong request that is
//! taken, no right one that is refused. What is counted are the operations of the document.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    Error, Outcome, catalogue, client, desk,
    site::{Site, System},
    tools,
};

/// Requests for each operation and phase that tries them by chance.
const EXAMPLES: &str = "120";
/// The same requests every time: what one run finds the next one finds, too.
const SEED: &str = "7";
/// Events, for clients that wait for the end of an answer: so it has one.
const FEED: &str = "/feed";

const HOOKS: &str = include_str!("hooks.py");

const WORKFLOW: &str = "document: { dsl: '1.0.3', namespace: desk, name: approve, version: '1.0.0' }
do:
  - decide:
      set: { approved: true }
";

pub(super) async fn run(site: &Site) -> Result<Outcome, Error> {
    let programs = tools::pip(&site.packages(), catalogue::SCHEMATHESIS).await?;
    let system = site.system().await?;
    let orchestrator = system.orchestrator().await?;
    let bus = system.bus("desk").await?;
    let desk = desk::service().start(&bus).await?;
    apply(site, &system).await?;
    let edge = system.edge(&config()).await?;
    let address = edge.address()?;
    client::described(address, &["/tickets/{id}/history", "/workflows/{name}"]).await?;
    let report = site.folder().join("report.json");
    let mut command = Command::new(programs.join("schemathesis"));
    command.args(["run", &format!("http://{address}/openapi.json")]);
    command.args(["--phases", "examples,coverage,fuzzing,stateful", "--mode", "all"]);
    command.args(["--max-examples", EXAMPLES, "--seed", SEED, "--continue-on-failure"]);
    command.args(["--no-color", "--request-timeout", "20"]);
    let hooks = site.folder().join("hooks.py");
    std::fs::write(&hooks, HOOKS)?;
    command.env("SCHEMATHESIS_HOOKS", &hooks);
    command.args(["--report", "json"]).arg("--report-json-path").arg(&report);
    let ran = command.current_dir(site.folder()).kill_on_drop(true).status().await?;
    desk.drain().await;
    bus.close().await;
    drop((edge, orchestrator));
    system.stop().await?;
    judge(&serde_json::from_slice(&std::fs::read(report)?)?, ran.success())
}

/// Counts the operations of the document that were tried, and those at which something was found.
fn judge(report: &Value, clean: bool) -> Result<Outcome, Error> {
    let of = |pointer: &str| {
        let count =
            report.pointer(pointer).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| format!("the report has no {pointer}"))
    };
    let listed = |name: &str| report[name].as_array().into_iter().flatten();
    let found = listed("failures").chain(listed("errors")).flat_map(|one| one["operations"].as_array());
    let found: BTreeSet<&str> = found.flatten().filter_map(Value::as_str).collect();
    let (asked, tested) = (of("/operations/selected")?, of("/operations/tested")?);
    println!("  {} requests at {tested} operations", of("/test_cases/generated")?);
    // Whatever it holds against the edge as a whole is a fault, too.
    let failed = found.len().max(usize::from(!clean)) + asked.saturating_sub(tested);
    Ok(Outcome { passed: asked.saturating_sub(failed), failed, asked })
}

/// Routes of every kind, beside those of the contracts.
fn config() -> Value {
    json!({ "routes": [
        { "match": { "method": "GET", "path": "/estimates/{urgency}" }, "to": { "operation": "desk.estimate", "fields": {
            "effort": { "header": "x-effort" }, "slack": { "cookie": "slack" }, "hours_a_day": { "query": "hours" },
        } } },
        { "match": { "method": "GET", "path": "/desk/{id}" }, "to": { "aggregate": {
            "ticket": { "operation": "desk.read", "fields": { "id": { "path": "id" } } },
            "others": { "operation": "desk.list", "fields": { "limit": { "value": 3 } }, "optional": true },
        } } },
        { "match": { "method": "POST", "path": "/tickets/{id}/notes" }, "to": { "event": "desk.noted" } },
        { "match": { "method": "GET", "path": FEED },
          "to": { "events": ["desk.noted"], "feed": { "longest_ms": 50, "replay": true } } },
        { "match": { "method": "POST", "path": "/approvals" }, "to": { "workflow": "approve" } },
        { "match": { "method": "GET", "path": "/approvals/{id}" }, "to": { "workflow": "approve", "action": "status" } },
        { "match": { "method": "POST", "path": "/approvals/{id}/cancel" },
          "to": { "workflow": "approve", "action": "cancel" } },
        { "match": { "method": "POST", "path": "/approvals/{id}/word" },
          "to": { "workflow": "approve", "action": "signal", "signal": "desk.approved" } },
    ] })
}

async fn apply(site: &Site, system: &System) -> Result<(), Error> {
    let file = site.folder().join("approve.yaml");
    std::fs::write(&file, WORKFLOW)?;
    let file = file.to_str().ok_or("the folder's name is not UTF-8: build elsewhere")?;
    system.sinew(&["workflow", "apply", file]).await
}

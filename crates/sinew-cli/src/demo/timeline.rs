//! What the demo tells: an opening, each order as it ended, and where to look next.

use serde_json::{Value, json};
use sinew::workflow::WorkflowInstance;

use super::{
    client::{Answer, Client},
    script::Order,
    stage::Stage,
};
use crate::{
    error::Error,
    output::{Output, Style},
    session::Session,
    timeline,
};

/// The workflow every order goes through.
const WORKFLOW: &str = "place-order";

/// An order that has been placed, and what became of it.
pub(crate) struct Told {
    order: &'static Order,
    status: u16,
    trace_id: String,
    instance: WorkflowInstance,
}

impl Told {
    /// Reads over HTTP how the order's saga ended.
    pub(crate) async fn new(
        order: &'static Order,
        id: String,
        client: &Client,
        answer: Answer,
    ) -> Result<Self, Error> {
        let instance = client.ended(WORKFLOW, &id).await?;
        let trace_id = Some(answer.trace_id).filter(|id| !id.is_empty());
        let trace_id = trace_id.unwrap_or_else(|| instance.trace_id.clone());
        Ok(Self { order, status: answer.status, trace_id, instance })
    }

    /// Returns how the saga ended, in one word.
    pub(crate) fn outcome(&self) -> &str {
        match (self.instance.status.as_str(), self.instance.saga.as_str()) {
            ("completed", _) => "completed",
            (_, "compensated") => "compensated",
            (status, "none" | "") => status,
            (_, saga) => saga,
        }
    }

    /// Says what is not as expected, if anything is.
    pub(crate) fn surprise(&self) -> Option<String> {
        let (outcome, status) = (self.outcome(), self.status);
        let as_expected = outcome == self.order.outcome && status == self.order.status;
        let Order { outcome: expected, status: number, title, .. } = self.order;
        (!as_expected)
            .then(|| format!("{title} — {outcome} with {status} instead of {expected} with {number}"))
    }

    pub(crate) fn to_json(&self) -> Value {
        let step = |step: &sinew::workflow::WorkflowStep| {
            let mut told = json!({ "name": step.name, "outcome": timeline::outcome(step) });
            if let Some(undo) = &step.compensation {
                told["compensation"] = undo.outcome.clone().into();
            }
            told
        };
        json!({
            "id": self.instance.id,
            "outcome": self.outcome(),
            "status": self.status,
            "trace_id": self.trace_id,
            "steps": timeline::leaves(&self.instance).map(step).collect::<Vec<_>>(),
            "duration_ms": self.duration(),
        })
    }

    pub(crate) fn to_text(&self, output: &Output) -> String {
        let title = output.paint(Style::Strong, self.order.title);
        let style = if self.surprise().is_some() { Style::Bad } else { Style::Good };
        let outcome = output.paint(style, self.outcome());
        let place = format!("  {}  trace {}", self.instance.id, self.trace_id);
        format!(
            "\n{title}\n  HTTP {}, {outcome} in {} ms\n{}\n{}",
            self.status,
            self.duration(),
            timeline::steps(&self.instance, output),
            output.paint(Style::Quiet, &place),
        )
    }

    fn duration(&self) -> i64 {
        self.instance.ended_ms.map_or(0, |ended| ended - self.instance.started_ms)
    }
}

/// Says what is running before the first order.
pub(crate) fn opening(stage: &Stage, base: &str) -> String {
    let word = |member: &str| stage.broker()[member].as_str().unwrap_or_default().to_owned();
    format!(
        "broker    {}  nats-server {} ({})\nedge      {base}\nservices  orders, inventory, payments, shipping; workflow \
         {WORKFLOW}",
        stage.url(),
        word("version"),
        word("source"),
    )
}

/// Says where to look next.
pub(crate) fn closing(stage: &Stage, session: &Session, base: &str, told: &[Told], once: bool) -> String {
    let good = told.iter().filter(|one| one.surprise().is_none()).count();
    let verdict = format!("\n{good} of {} orders ended as expected.", told.len());
    if once {
        return verdict;
    }
    let id = told.last().map_or("", |one| one.instance.id.as_str());
    let traces = match session.settings.otlp() {
        Some(endpoint) => format!("  traces: search {endpoint}'s collector for the trace ids above\n"),
        None => "  traces: run again with OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318\n".to_owned(),
    };
    format!(
        "{verdict} Everything stays up; look around in another terminal:\n\n  \
           export NATS_URL={}\n  \
           sinew services\n  \
           sinew workflow list {WORKFLOW}\n  \
           sinew workflow get {WORKFLOW} {id}\n  \
           curl {base}/workflows/{WORKFLOW}/{id}\n\
         {traces}\n\
         Ctrl-C stops everything in order.",
        stage.url(),
    )
}

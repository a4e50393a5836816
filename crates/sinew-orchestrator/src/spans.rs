//! Traces of workflows, drawn from the log. A span's id follows from the instance, the key and the attempt, its times
//! are those the log holds: whoever owns the instance after a crash sends the very same spans, and the trace stays one.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use sinew::{
    Tracer,
    telemetry::{SpanKind, SpanRecord},
    wire::{SpanId, TraceContext},
};
use sinew_workflow::{Attempt, State, Step, Timestamp};

use crate::view;

/// Where the spans of an instance hang.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    id: Arc<str>,
    /// The span that started it.
    starter: Option<TraceContext>,
}

/// Which spans were sent already: step, attempt, and whether it is the undo's.
#[derive(Debug, Default)]
pub(crate) struct Exported {
    sent: HashSet<(usize, u32, bool)>,
    root: bool,
}

impl Origin {
    pub(crate) fn of(state: &State) -> Self {
        Self { id: state.shared_id(), starter: state.trace().and_then(|trace| trace.parse().ok()) }
    }

    /// Returns the instance.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the trace as 32 hexadecimal digits.
    pub(crate) fn trace_id(&self) -> String {
        self.starter.map_or_else(String::new, |starter| starter.trace.to_string())
    }

    /// Returns the context an attempt's messages carry.
    pub(crate) fn attempt(&self, tracer: &Tracer, key: &str, attempt: u32) -> Option<TraceContext> {
        let starter = self.starter?;
        // Without an exporter our spans will not exist; the callee then hangs directly below the starter.
        Some(if tracer.is_on() { starter.with_span(self.span(key, attempt)) } else { starter })
    }

    /// As [`Origin::attempt`], in a process that may have no tracer.
    pub(crate) fn context(&self, tracer: Option<&Tracer>, key: &str, attempt: u32) -> Option<TraceContext> {
        tracer.map_or(self.starter, |tracer| self.attempt(tracer, key, attempt))
    }

    fn root(&self) -> SpanId {
        self.span("", 0)
    }

    fn span(&self, key: &str, attempt: u32) -> SpanId {
        let hash = view::digest_of_text(&format!("{}\n{key}\n{attempt}", self.id));
        SpanId(hash.max(1).to_be_bytes())
    }
}

/// Sends the spans of everything that has ended and was not sent yet.
pub(crate) fn export(tracer: &Tracer, state: &State, exported: &mut Exported) {
    let origin = Origin::of(state);
    let Some(starter) = origin.starter.filter(TraceContext::is_sampled) else { return };
    let draw = Draw { origin: &origin, starter, state };
    for (index, step) in state.steps().iter().enumerate() {
        draw.step(step, index, exported, tracer);
    }
    if state.is_closed() && !exported.root {
        exported.root = true;
        tracer.record(draw.root());
    }
}

struct Draw<'a> {
    origin: &'a Origin,
    starter: TraceContext,
    state: &'a State,
}

impl Exported {
    /// Returns what is sent once everything is that has ended.
    pub(crate) fn all(state: &State) -> Self {
        let ended = |(index, step): (usize, &Arc<Step>)| {
            let whole = (step.attempts.is_empty() && step.ended_at.is_some()).then_some((index, 0, false));
            let done = |attempts: &[Attempt], undo| -> Vec<_> {
                let ended = attempts.iter().filter(|attempt| attempt.ended_at.is_some());
                ended.map(|attempt| (index, attempt.number, undo)).collect()
            };
            let undo = step.undo.as_ref().map_or_else(Vec::new, |undo| done(&undo.attempts, true));
            whole.into_iter().chain(done(&step.attempts, false)).chain(undo).collect::<Vec<_>>()
        };
        let sent = state.steps().iter().enumerate().flat_map(ended).collect();
        Self { sent, root: state.is_closed() }
    }
}

impl Draw<'_> {
    fn step(&self, step: &Step, index: usize, exported: &mut Exported, tracer: &Tracer) {
        let mut fresh = |attempt, undo| exported.sent.insert((index, attempt, undo));
        if step.attempts.is_empty()
            && let Some(ended) = step.ended_at
            && fresh(0, false)
        {
            let (name, kind) = (step.name.to_string(), SpanKind::Internal);
            let error = step.fault.as_ref().map(|fault| view::fault(fault).title);
            let span = self.span(name, &step.key, 0, kind, step.started_at, ended);
            tracer.record(SpanRecord { error, ..span });
        }
        for attempt in step.attempts.iter().filter(|attempt| attempt.ended_at.is_some()) {
            if fresh(attempt.number, false) {
                tracer.record(self.attempt(step.name.to_string(), &step.key, attempt));
            }
        }
        let undo = step.undo.iter().flat_map(|undo| &undo.attempts);
        for attempt in undo.filter(|attempt| attempt.ended_at.is_some()) {
            if fresh(attempt.number, true) {
                let key = format!("{}/undo", step.key);
                tracer.record(self.attempt(format!("undo {}", step.name), &key, attempt));
            }
        }
    }

    fn attempt(&self, name: String, key: &str, attempt: &Attempt) -> SpanRecord {
        let ended = attempt.ended_at.unwrap_or(attempt.started_at);
        let span = self.span(name, key, attempt.number, SpanKind::Client, attempt.started_at, ended);
        let error = attempt.fault.as_ref().map(|fault| view::fault(fault).title);
        let mut attributes = span.attributes;
        attributes.push(("sinew.workflow.attempt", attempt.number.into()));
        SpanRecord { attributes, error, ..span }
    }

    fn root(&self) -> SpanRecord {
        let started = self.state.started_at().unwrap_or_else(|| Timestamp::from_millis(0));
        let ended = self.state.ended_at().unwrap_or(started);
        let name = format!("workflow {}", self.state.workflow().name);
        let span = self.span(name, "", 0, SpanKind::Internal, started, ended);
        let instance = view::outline(self.state);
        let mut attributes = span.attributes;
        attributes.push(("sinew.workflow.status", instance.status.into()));
        attributes.push(("sinew.workflow.saga", instance.saga.into()));
        let error = self.state.fault().map(|fault| view::fault(fault).title);
        SpanRecord { parent: Some(self.starter.span), attributes, error, ..span }
    }

    fn span(
        &self,
        name: String,
        key: &str,
        attempt: u32,
        kind: SpanKind,
        start: Timestamp,
        end: Timestamp,
    ) -> SpanRecord {
        SpanRecord {
            context: self.starter.with_span(self.origin.span(key, attempt)),
            parent: Some(self.origin.root()),
            name: name.into(),
            kind,
            start: time(start),
            end: time(end),
            attributes: vec![
                ("sinew.workflow.name", self.state.workflow().name.clone().into()),
                ("sinew.workflow.instance", self.state.id().to_owned().into()),
            ],
            links: Vec::new(),
            error: None,
        }
    }
}

fn time(at: Timestamp) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.as_millis()).unwrap_or(0))
}

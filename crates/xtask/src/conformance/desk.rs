//! The service behind the edge in suites that make requests of a description: a help desk, whose types are as rich as
//! descriptions get.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Ctx, Problem, Request, Service, State, bus::Object, contract};

contract! {
    /// Takes tickets, and keeps them until they are closed.
    pub(super) Contract = "desk" @ "1.0.0" {
        open: Open,
        read: Read,
        list: List,
        change: Change,
        close: Close,
        attach: Attach,
        history: stream History,
        estimate: Estimate,
    }
}

/// Opens a ticket.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "desk.open", reply = Ticket, error = DeskError, http = "POST /tickets", status = 201)]
struct Open {
    #[serde(flatten)]
    draft: Draft,
}

/// Reads a ticket.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "desk.read", reply = Ticket, error = DeskError, idempotent, http = "GET /tickets/{id}")]
struct Read {
    #[schemars(length(min = 1, max = 40))]
    id: String,
}

/// Lists tickets.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "desk.list", reply = Listed, error = DeskError, idempotent, http = "GET /tickets")]
struct List {
    #[serde(default)]
    urgency: Option<Urgency>,
    /// Only with all of these.
    #[serde(default)]
    #[schemars(length(max = 5))]
    labels: Vec<String>,
    #[serde(default = "all")]
    #[schemars(range(min = 1, max = 100))]
    limit: u8,
}

/// Writes a ticket anew.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "desk.change",
    reply = Ticket,
    error = DeskError,
    idempotent,
    http = "PUT /tickets/{id}",
    body = "draft"
)]
struct Change {
    #[schemars(length(min = 1, max = 40))]
    id: String,
    draft: Draft,
}

/// Forgets a ticket.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "desk.close",
    reply = (),
    error = DeskError,
    idempotent,
    http = "DELETE /tickets/{id}",
    status = 204
)]
struct Close {
    #[schemars(length(min = 1, max = 40))]
    id: String,
}

/// Adds a file to a ticket.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "desk.attach",
    reply = Attached,
    error = DeskError,
    http = "POST /tickets/{id}/files",
    status = 201
)]
struct Attach {
    #[schemars(length(min = 1, max = 40))]
    id: String,
    #[schemars(length(max = 80))]
    title: String,
    file: Object,
}

/// Tells what happened to a ticket.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(
    subject = "desk.history",
    stream = Happened,
    error = DeskError,
    idempotent,
    http = "GET /tickets/{id}/history"
)]
struct History {
    #[schemars(length(min = 1, max = 40))]
    id: String,
}

/// Says how long something will take; reached by a route of the configuration only.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "desk.estimate", reply = Estimated, idempotent)]
struct Estimate {
    urgency: Urgency,
    #[schemars(range(min = 1, max = 5))]
    effort: u8,
    #[schemars(range(min = 0.5, max = 8.0))]
    hours_a_day: f64,
    #[serde(default)]
    weekends: bool,
    #[serde(default)]
    #[schemars(range(min = -10, max = 10))]
    slack: Option<i8>,
}

/// What a client says of a ticket.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Draft {
    #[schemars(length(min = 1, max = 80))]
    subject: String,
    reporter: Reporter,
    urgency: Urgency,
    /// The day it has to be done by.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"))]
    due: Option<String>,
    #[serde(default)]
    #[schemars(length(max = 5))]
    labels: BTreeSet<String>,
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1_000.0))]
    hours: f64,
    #[serde(default)]
    counts: BTreeMap<String, i32>,
    #[serde(default)]
    steps: Vec<Step>,
}

/// Who found it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Reporter {
    Person {
        #[schemars(length(min = 1))]
        name: String,
    },
    Device {
        serial: u32,
    },
    Nobody,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Urgency {
    Low,
    Normal,
    High,
}

/// One thing to try.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Step {
    what: String,
    done: bool,
    #[serde(default)]
    note: Option<String>,
}

#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Ticket {
    id: String,
    #[serde(flatten)]
    draft: Draft,
    files: u32,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Listed {
    tickets: Vec<Ticket>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Attached {
    id: String,
    bytes: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Happened {
    number: u32,
    what: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Estimated {
    #[schemars(range(min = 0.0))]
    days: f64,
}

#[derive(Debug, Problem)]
enum DeskError {
    /// there is no such ticket
    #[problem(status = 404)]
    UnknownTicket,
    /// the file is not there
    #[problem(status = 409)]
    UnknownFile,
}

/// All tickets. The lock is held to look up or change one, never across an await.
#[derive(Clone, Default)]
pub(super) struct Tickets(Arc<Mutex<BTreeMap<String, Ticket>>>);

/// Builds the service.
pub(super) fn service() -> Service<Tickets> {
    Service::new("desk", Tickets::default()).serve(Contract, |desk| {
        desk.open(open)
            .read(read)
            .list(list)
            .change(change)
            .close(close)
            .attach(attach)
            .history(history)
            .estimate(estimate)
    })
}

impl Tickets {
    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Ticket) -> T) -> Result<T, DeskError> {
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.get_mut(id).map(act).ok_or(DeskError::UnknownTicket)
    }

    fn all<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Ticket>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn open(request: Open, State(tickets): State<Tickets>, ctx: Ctx) -> Result<Ticket, DeskError> {
    let ticket = Ticket { id: sinew::new_id(), draft: request.draft, files: 0 };
    tickets.all(|all| all.insert(ticket.id.clone(), ticket.clone()));
    ctx.reply_location(format!("/tickets/{}", ticket.id));
    Ok(ticket)
}

async fn read(request: Read, State(tickets): State<Tickets>) -> Result<Ticket, DeskError> {
    tickets.with(&request.id, |ticket| ticket.clone())
}

async fn list(request: List, State(tickets): State<Tickets>) -> Result<Listed, DeskError> {
    let fits = |ticket: &&Ticket| {
        request.urgency.is_none_or(|urgency| ticket.draft.urgency == urgency)
            && request.labels.iter().all(|label| ticket.draft.labels.contains(label))
    };
    let limit = usize::from(request.limit);
    let tickets = tickets.all(|all| all.values().filter(fits).take(limit).cloned().collect());
    Ok(Listed { tickets })
}

async fn change(request: Change, State(tickets): State<Tickets>) -> Result<Ticket, DeskError> {
    tickets.with(&request.id, |ticket| {
        ticket.draft = request.draft;
        ticket.clone()
    })
}

async fn close(request: Close, State(tickets): State<Tickets>) -> Result<(), DeskError> {
    tickets.all(|all| all.remove(&request.id)).map(drop).ok_or(DeskError::UnknownTicket)
}

async fn attach(request: Attach, State(tickets): State<Tickets>, ctx: Ctx) -> Result<Attached, DeskError> {
    let bytes = ctx.bus().known_objects("EDGE_FILES").get(&request.file).await.ok().flatten();
    let bytes = bytes.ok_or(DeskError::UnknownFile)?.len() as u64;
    tickets.with(&request.id, |ticket| ticket.files += 1)?;
    Ok(Attached { id: request.file.id, bytes })
}

async fn history(
    request: History,
    State(tickets): State<Tickets>,
) -> Result<impl Stream<Item = Result<Happened, DeskError>>, DeskError> {
    let files = tickets.with(&request.id, |ticket| ticket.files)?;
    let opened = Happened { number: 0, what: "opened".to_owned() };
    let further = (1..=files).map(|number| Happened { number, what: "a file was added".to_owned() });
    Ok(stream::iter(std::iter::once(opened).chain(further).map(Ok)))
}

async fn estimate(request: Estimate) -> Result<Estimated, Problem> {
    let factor = match request.urgency {
        Urgency::Low => 3.0,
        Urgency::Normal => 2.0,
        Urgency::High => 1.0,
    };
    let slack = f64::from(request.slack.unwrap_or(0));
    let week = if request.weekends { 1.0 } else { 7.0 / 5.0 };
    let days = f64::from(request.effort) * factor * week * 8.0 / request.hours_a_day + slack;
    Ok(Estimated { days: days.max(0.0) })
}

fn all() -> u8 {
    100
}

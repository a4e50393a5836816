//! Feeds: events as they are stored, to clients that stay. As server-sent events or over a WebSocket.
//!
//! The id of an event is its sequence in the stream, so whoever comes again says what it had last and gets exactly what
//! followed. Clients of the same events share one reader ([`hub`], [`reader`]); only who has to catch up reads by itself
//! for a while ([`tail`]).

mod filter;
mod hub;
mod item;
mod pace;
mod plan;
mod reader;
mod socket;
mod sse;
mod tail;

use std::{net::IpAddr, sync::Arc};

use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use sinew::{EVENTS, Timestamp, bus::admin::Place};
use tokio::sync::mpsc;

pub(crate) use filter::{Criterion, Filter};
pub(crate) use hub::Feeds;
pub(crate) use item::Item;
pub(crate) use plan::{FeedPlan, names, subjects};

use crate::{
    Edge, Response, accept,
    config::FeedFormat,
    exchange::Asked,
    matcher::Template,
    observe::Followed,
    outgoing::Body,
    plan::EventName,
    problem::{self, Refusal},
    request::{self, Pairs},
    served::Served,
    server::{Connection, Upgrade},
    streaming::{self, websocket},
};

const MEDIA_TYPE: &str = "text/event-stream";
/// Parameters of the query that every feed knows.
const LAST_EVENT_ID: &str = "last_event_id";
const FROM: &str = "from";
const FORMAT: &str = "format";

/// What a client asks for.
struct Wish {
    filter: Filter,
    format: FeedFormat,
    start: Start,
}

/// Where a client begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    Now,
    /// Behind this sequence.
    Behind(u64),
    /// With the first event stored at or after this moment.
    Since(String),
}

/// Answers with the feed of the one event that the path names.
///
/// # Errors
/// As [`open`], and 400 for a name that is none.
pub(crate) async fn open_any(
    edge: &Arc<Edge>,
    served: &Served,
    asked: Asked<'_>,
) -> Result<Response, Refusal> {
    let [domain, event] = asked.values.as_slice() else { return Err(Refusal::internal()) };
    let name = EventName::new(domain, event);
    let name = name.map_err(|reason| Refusal::malformed(format!("in the path, {reason}")))?;
    let plan = {
        let table = edge.table.load();
        // Closed since the request was routed.
        let feed = table.open_feeds().ok_or_else(Refusal::nowhere)?;
        // What is wrong with it was told when the configuration was read.
        let criteria = Criterion::read(&feed.filter, &Template::default(), "", &mut Vec::new());
        FeedPlan::of(name.subject.as_str(), feed, criteria)
    };
    open(edge, served, &plan, asked).await
}

/// Answers with a feed.
///
/// # Errors
/// 400 for what cannot be understood, 406 for a client that takes no events, 429 and 503 where there is no room.
pub(crate) async fn open(
    edge: &Arc<Edge>,
    served: &Served,
    plan: &FeedPlan,
    asked: Asked<'_>,
) -> Result<Response, Refusal> {
    let head = asked.head;
    let upgraded = websocket::asks(head).then(|| websocket::handshake(head)).transpose()?;
    if upgraded.is_none()
        && accept::best(&head.headers, &[MEDIA_TYPE]).is_none()
        && head.headers.contains_key(header::ACCEPT)
    {
        let refusal =
            Refusal::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "no reply in an accepted media type");
        return Err(refusal.detail("accept text/event-stream, or ask for a websocket"));
    }
    let wish = Wish::read(plan, served, &asked)?;
    if head.method == Method::HEAD {
        return Ok(response(Body::default()));
    }
    let position = wish.start.clone().find(edge).await?;
    let client = edge.policies.proxies.client(asked.peer, &head.headers);
    let seat = edge.feeds.seat(wanted(served, plan, client.address())).await.map_err(full)?;
    let tail = tail::Tail::begin(&edge.feeds, seat, wish.filter, position).await;
    let tail = tail.ok_or_else(|| Refusal::from(streaming::ending()))?;
    let (settings, held) = (plan.settings, asked.held.clone());
    let followed = Followed::begin(&edge.policies.tallies, &served.name);
    if let Some(mut switched) = upgraded {
        let upgrade =
            head.extensions.get::<Upgrade>().and_then(Upgrade::take).ok_or_else(Refusal::internal)?;
        if offers(&head.headers, socket::PROTOCOL) {
            let protocol = HeaderValue::from_static(socket::PROTOCOL);
            switched.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let placed = wish.start != Start::Now;
        let client = socket::Client::new(edge, tail, settings, wish.format, (placed, followed));
        edge.tasks.spawn(client.run(upgrade).map(|()| drop(held)));
        return Ok(switched);
    }
    let (pieces, taken) = mpsc::channel(sse::AHEAD + 1);
    let last = pieces.clone().try_reserve_owned().map_err(|_| Refusal::internal())?;
    let connection = head.extensions.get::<Connection>().cloned();
    let (told, format, edge) = (tail.position(), wish.format, edge.clone());
    let tasks = edge.tasks.clone();
    let client = sse::Client { edge, tail, settings, format, pieces, last, connection, told, followed };
    tasks.spawn(client.run().map(|()| drop(held)));
    Ok(response(Body::Pieces(taken)))
}

impl Wish {
    fn read(plan: &FeedPlan, served: &Served, asked: &Asked<'_>) -> Result<Self, Refusal> {
        let head = asked.head;
        let pairs = request::pairs(head.uri.query().unwrap_or_default())?;
        known(plan, served, &pairs)?;
        let format = match parameter(&pairs, FORMAT) {
            None => plan.settings.format,
            Some("data") => FeedFormat::Data,
            Some("cloudevents") => FeedFormat::CloudEvents,
            Some(_) => return Err(Refusal::malformed("format is data or cloudevents")),
        };
        let filter = Filter::of(&plan.criteria, head, &asked.values, &pairs)?;
        Ok(Self { filter, format, start: Start::read(head, &pairs, plan.settings.replay)? })
    }
}

impl Start {
    /// Reads where a client begins; what it had last counts before what it asks for.
    fn read(head: &Parts, pairs: &Pairs<'_>, replay: bool) -> Result<Self, Refusal> {
        // What is wrong is wrong even where something else counts.
        let from = parameter(pairs, FROM).map(Self::from_text).transpose()?;
        let last = head.headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
        // A browser's own word is newer than the address it began with.
        if let Some(id) = last.filter(|id| !id.is_empty()).or_else(|| parameter(pairs, LAST_EVENT_ID)) {
            let sequence = id
                .parse()
                .map_err(|_| Refusal::malformed("the last event id is the id of an event: a number"));
            return sequence.map(Self::Behind);
        }
        let Some(from) = from else { return Ok(Self::Now) };
        if !replay {
            let refusal =
                Refusal::new(StatusCode::FORBIDDEN, "not-permitted", "the past is not for reading here");
            return Err(refusal.detail("leave `from` out, or ask for `replay: true` on the route"));
        }
        Ok(from)
    }

    /// Reads a place in the past.
    fn from_text(from: &str) -> Result<Self, Refusal> {
        if let Ok(sequence) = from.parse::<u64>() {
            return Ok(Self::Behind(sequence.saturating_sub(1)));
        }
        let time: Result<Timestamp, _> = from.parse();
        let wrong =
            |_| Refusal::malformed("from is the id of an event or a moment such as 2026-01-31T08:00:00Z");
        time.map(|time| Self::Since(time.to_string())).map_err(wrong)
    }

    /// Returns the sequence to begin behind.
    async fn find(self, edge: &Edge) -> Result<Option<u64>, Refusal> {
        match self {
            Self::Now => Ok(None),
            Self::Behind(sequence) => Ok(Some(sequence)),
            Self::Since(time) => {
                let first = edge.bus.next_message(EVENTS, "evt.>", &Place::Time(time)).await;
                let first = first.map_err(|error| Refusal::from(problem::of_bus(&error, true)))?;
                Ok(first.map(|first| first.message.sequence.saturating_sub(1)))
            }
        }
    }
}

/// A parameter nobody knows was meant to do something.
fn known(plan: &FeedPlan, served: &Served, pairs: &Pairs<'_>) -> Result<(), Refusal> {
    let own = [LAST_EVENT_ID, FROM, FORMAT].into_iter();
    let chosen = served.conditions.query.iter().map(|(name, _)| name.as_str());
    let mut names: Vec<&str> = own.chain(plan.parameters()).chain(chosen).collect();
    names.sort_unstable();
    match pairs.iter().find(|(name, _)| !names.contains(&name.as_ref())) {
        None => Ok(()),
        Some((name, _)) => {
            Err(Refusal::malformed(format!("there is no parameter `{name}` here: use {}", names.join(", "))))
        }
    }
}

fn parameter<'q>(pairs: &'q Pairs<'_>, name: &str) -> Option<&'q str> {
    pairs.iter().find(|(own, _)| own == name).and_then(|(_, values)| values.first()).map(AsRef::as_ref)
}

fn wanted(served: &Served, plan: &FeedPlan, peer: IpAddr) -> hub::Wanted {
    hub::Wanted {
        route: served.name.as_str().into(),
        peer,
        subjects: plan.subjects.clone(),
        max_clients: plan.settings.max_clients,
        max_clients_per_ip: plan.settings.max_clients_per_ip,
    }
}

fn full(full: hub::Full) -> Refusal {
    let busy = |detail: &str| {
        let problem = sinew::Problem::new(503, "too-many-clients", "there is no room for another client");
        problem.detail(detail).retriable().into()
    };
    match full {
        hub::Full::Ending => streaming::ending().into(),
        hub::Full::Route => busy("as many clients as this edge takes follow these events: try again later"),
        hub::Full::Readers => {
            busy("as many different events as this edge takes are followed: try again later")
        }
        hub::Full::Peer => {
            let title = "too many clients of one address";
            let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too-many-clients", title);
            refusal.detail("close a stream before you open another one")
        }
    }
}

fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    let lines =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|offered| offered.trim() == protocol)
}

fn response(body: Body) -> Response {
    streaming::response(StatusCode::OK, MEDIA_TYPE, body)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn start(uri: &str, last: Option<&str>, replay: bool) -> Result<Start, u16> {
        let mut request = Request::get(uri);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let pairs = request::pairs(head.uri.query().unwrap_or_default()).unwrap();
        Start::read(&head, &pairs, replay).map_err(|refusal| refusal.problem().status)
    }

    #[test]
    fn what_a_client_had_last_counts_before_what_it_asks_for() {
        assert_eq!(start("/", None, false), Ok(Start::Now));
        assert_eq!(start("/?last_event_id=7&from=1", Some("9"), false), Ok(Start::Behind(9)));
        assert_eq!(start("/?last_event_id=7", Some(""), false), Ok(Start::Behind(7)));
        assert_eq!(start("/?from=7", None, true), Ok(Start::Behind(6)));
        let since = start("/?from=2026-01-31T09:00:00%2B01:00", None, true);
        assert_eq!(since, Ok(Start::Since("2026-01-31T08:00:00Z".into())));
    }

    #[test]
    fn the_past_needs_leave_and_an_id_is_a_number() {
        assert_eq!(start("/?from=7", None, false), Err(403));
        for wrong in
            ["/?from=yesterday", "/?last_event_id=x", "/?last_event_id=-1", "/?last_event_id=7&from=-1"]
        {
            assert_eq!(start(wrong, None, true), Err(400), "{wrong}");
        }
        assert_eq!(start("/", Some("a"), true), Err(400));
    }
}

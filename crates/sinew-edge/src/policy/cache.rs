//! Replies that are kept and used again (RFC 9111), as a cache for everybody behind one edge.
//!
//! What may be kept and used is decided by pure functions ([`freshness`], [`vary`]); this module asks them, asks the
//! service where they say so, and lets go of what does not hold any more. A hit is one look into the store: its body is
//! shared, nobody is asked. Several requests for what is not there wait for one of them.
//!
//! A response whose asking began before something was let go of is not kept: it may be what was let go of.

mod control;
mod dates;
mod directives;
mod entry;
mod freshness;
mod status;
mod store;
mod vary;
mod wanted;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;
use sinew::{Deadline, bus::Message, wire::Headers};
use tokio::sync::Notify;

pub(crate) use control::Control;
pub use control::PURGE;
pub(crate) use dates::read as date;
pub(crate) use entry::strip;

use super::{coalesce::Flight, key::Key, replies};
use crate::{
    Edge, Response, config,
    config::{Per, QueryKey, Versions},
    exchange::{self, Asked},
    observe::{Tally, tally::CACHE},
    problem::Refusal,
    served::Served,
};
use entry::Entry;
use freshness::{Came, Life, Rules, Verdict};
use status::{Forwarded, Told};
use store::{Store, Sweep};
use vary::Selection;
use wanted::{Wanted, path_key, same_host};

/// Places in [`CACHE`].
const HIT: usize = 0;
const STALE: usize = 1;
const MISS: usize = 2;
const EXPIRED: usize = 3;
const BYPASS: usize = 4;
/// Fields by which a service says how its reply may be kept; those of another service's reply are not handed on.
const OF_REPLIES: [HeaderName; 8] = [
    header::CACHE_CONTROL,
    header::EXPIRES,
    header::AGE,
    header::VARY,
    header::CONTENT_LANGUAGE,
    HeaderName::from_static("cdn-cache-control"),
    CACHE_TAG,
    SURROGATE_KEY,
];
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
/// Conditions by which a service is asked whether a kept reply still holds.
const CONDITIONS: [HeaderName; 2] = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];
/// How services learn that somebody reads `Surrogate-Control`.
const CAPABILITY: HeaderName = HeaderName::from_static("surrogate-capability");

/// The policy of one route.
#[derive(Debug)]
pub(crate) struct Cache {
    route: String,
    rules: Rules,
    max_entry_bytes: usize,
    per: Per,
    key: Key,
    query: QueryKey,
    tags: Vec<String>,
    invalidate_on: Vec<config::Invalidation>,
    tally: Tally,
}

/// What all routes keep. A lock, held to look one thing up or put it in, never across an await.
#[derive(Debug)]
pub(crate) struct Caches {
    store: Mutex<Store>,
    /// Told when routes may follow other events.
    rebound: Notify,
}

impl Cache {
    pub(super) fn new(
        asked: &config::Cache,
        route: &str,
        versions: &Versions,
        version: Option<&str>,
    ) -> Self {
        let rules = Rules {
            fresh: asked.fresh_ms,
            stale_while_revalidate: asked.stale_while_revalidate_ms,
            stale_if_error: asked.stale_if_error_ms,
            statuses: asked.statuses.clone(),
            apart: asked.per == Per::Consumer,
        };
        Self {
            route: route.to_owned(),
            rules,
            max_entry_bytes: asked.max_entry_bytes,
            per: asked.per,
            key: Key::new(&asked.key, versions, version),
            query: asked.query.clone(),
            tags: asked.tags.clone(),
            invalidate_on: asked.invalidate_on.clone(),
            tally: Tally::new(&CACHE, route),
        }
    }

    /// Describes it for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let fresh = self.rules.fresh.map(|ms| format!(", fresh for {ms} ms where nothing is said"));
        let per = if self.per == Per::Consumer { ", for each consumer apart" } else { "" };
        let events = self.invalidate_on.iter().map(|one| format!("let go of by {}", one.event()));
        let kept = format!("replies kept as they allow it{per}{}", fresh.unwrap_or_default());
        std::iter::once(kept).chain(events).collect()
    }

    /// Answers from what is kept, or asks and keeps what comes.
    ///
    /// # Errors
    /// As the target; 504 where only something kept would do and there is nothing.
    pub(crate) async fn answer(
        &self,
        edge: &Arc<Edge>,
        served: &Arc<Served>,
        asked: Asked<'_>,
        body: Incoming,
    ) -> Result<Response, Refusal> {
        let head = asked.head;
        let plain = body.is_end_stream() && !head.headers.contains_key(header::UPGRADE);
        if !matches!(head.method, Method::GET | Method::HEAD) || !plain {
            self.tally.add(&edge.policies.tallies, BYPASS);
            let answer = exchange::ask(edge, served, asked, body).await?;
            edge.policies.caches.changed(head, &answer);
            return Ok(answer);
        }
        // Who takes no form of the reply is told so on the way.
        let Ok(wanted) = self.wanted(edge, served, &asked) else {
            self.tally.add(&edge.policies.tallies, BYPASS);
            return exchange::ask(edge, served, asked, body).await;
        };
        let answer = self.look_up(edge, served, asked, body, &wanted).await;
        answer.map(|mut response| {
            if wanted.negotiated && !served.policies.shape_replies() {
                response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
            }
            response
        })
    }

    async fn look_up(
        &self,
        edge: &Arc<Edge>,
        served: &Arc<Served>,
        asked: Asked<'_>,
        body: Incoming,
        wanted: &Wanted,
    ) -> Result<Response, Refusal> {
        let (state, head) = (&edge.policies, asked.head);
        let mut collapsed = false;
        loop {
            let kept = self.kept(edge, head, wanted);
            let now = millis(state.now());
            let verdict = kept.as_ref().map(|kept| kept.life.judge(&wanted.request, now));
            match (&kept, verdict) {
                (Some(kept), Some(Verdict::Fresh)) => {
                    self.tally.add(&state.tallies, HIT);
                    return Ok(Told::hit(&kept.life, now).collapsed(collapsed).sign(kept.answer(head, now)));
                }
                (Some(kept), Some(Verdict::Revalidate)) => {
                    self.tally.add(&state.tallies, STALE);
                    let response = Told::hit(&kept.life, now).sign(kept.answer(head, now));
                    refresh(edge, served, asked, body);
                    return Ok(response);
                }
                _ if wanted.request.only_if_cached => {
                    self.tally.add(&state.tallies, MISS);
                    return Err(nothing_kept());
                }
                _ => {}
            }
            let stale = matches!(verdict, Some(Verdict::Stale(true)));
            // Who wants an answer of its own does not wait for another's.
            let own = collapsed || wanted.request.no_cache || wanted.request.no_store;
            if own || head.headers.contains_key(header::RANGE) {
                return self.fetch(edge, served, asked, body, wanted, kept, stale).await;
            }
            match state.flights.join(wanted.key) {
                Err(flight) => {
                    let answer = self.fetch(edge, served, asked, body, wanted, kept, stale).await;
                    Flight::end(flight);
                    return answer;
                }
                Ok(mut flown) => {
                    // Nobody lands: the flight ends when the answer is kept, or there is none to keep.
                    let ended = flown.wait_for(Option::is_some);
                    let _ = tokio::time::timeout(asked.budget(edge), ended).await;
                    collapsed = true;
                }
            }
        }
    }

    /// Asks, keeps what may be kept, and answers with it.
    #[expect(clippy::too_many_arguments, reason = "one step of a request, with all that it has come to")]
    async fn fetch(
        &self,
        edge: &Arc<Edge>,
        served: &Arc<Served>,
        asked: Asked<'_>,
        body: Incoming,
        wanted: &Wanted,
        kept: Option<Arc<Entry>>,
        stale: bool,
    ) -> Result<Response, Refusal> {
        let (caches, head) = (&edge.policies.caches, asked.head);
        let (sweeps, began) = (caches.sweeps(), edge.policies.now());
        let mut parts = head.clone();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.can_be_confirmed()) {
            kept.ask_again(&mut parts.headers);
            parts.headers.remove(header::RANGE);
            parts.headers.remove(header::IF_RANGE);
        }
        parts.headers.insert(CAPABILITY, HeaderValue::from_static("sinew=\"Surrogate/1.0\""));
        let tags = self.fixed_tags(served, &asked.values);
        let answer = exchange::ask(edge, served, Asked { head: &parts, ..asked }, body).await;
        let mut response = answer.unwrap_or_else(Refusal::into_response);
        let ended = edge.policies.now();
        let came = Came { at: Timestamp::now(), now: millis(ended), delay: millis(ended - began) };
        let forwarded = match &kept {
            None => Forwarded::Miss,
            Some(_) if wanted.request.no_cache => Forwarded::Request,
            Some(_) => Forwarded::Stale,
        };
        let told = Told::forwarded(forwarded, response.status());
        // A failure that was kept covers no other one.
        let covers = |kept: &&Arc<Entry>| stale && !kept.status.is_server_error();
        if response.status().is_server_error()
            && let Some(kept) = kept.as_ref().filter(covers)
        {
            self.tally.add(&edge.policies.tallies, STALE);
            return Ok(told.stale().sign(kept.answer(head, came.now)));
        }
        self.tally.add(&edge.policies.tallies, forwarded.place());
        if let Some(kept) = kept.as_ref().filter(|kept| kept.can_be_confirmed())
            && response.status() == StatusCode::NOT_MODIFIED
        {
            let headers = kept.confirmed(response.headers());
            let entry = self.entry(kept.status, headers, kept.body.clone(), &head.headers, came, &kept.tags);
            return Ok(match entry {
                Some(entry) => {
                    let answer = entry.answer(head, came.now);
                    let stored = caches.put(wanted, entry, sweeps);
                    told.stored(stored).sign(answer)
                }
                None => {
                    caches.store().drop_chosen(&wanted.key, &head.headers);
                    told.sign(kept.answer(head, came.now))
                }
            });
        }
        strip(response.headers_mut());
        if head.method == Method::HEAD {
            if let Some(kept) = kept.filter(|_| response.status() == StatusCode::OK) {
                self.tell(edge, &kept, &response, wanted, head, came, sweeps);
            }
            entry::hide(response.headers_mut());
            return Ok(told.sign(response));
        }
        let tags: Vec<String> = tags.into_iter().chain(said_tags(response.headers())).collect();
        let whole = replies::whole(&response).filter(|whole| whole.len() <= self.max_entry_bytes);
        let entry = whole.and_then(|whole| {
            self.entry(response.status(), response.headers().clone(), whole, &head.headers, came, &tags)
        });
        // Only what this request could have had is replaced by what it got.
        let replaces = kept.is_some() && !wanted.request.no_store && !response.status().is_server_error();
        if entry.is_none() && replaces {
            caches.store().drop_chosen(&wanted.key, &head.headers);
        }
        entry::hide(response.headers_mut());
        let Some(entry) = entry else { return Ok(told.sign(response)) };
        // The service was asked under conditions of the cache: those of the client are judged here.
        if kept.is_some() {
            response = entry.answer(head, came.now);
        }
        let stored = caches.put(wanted, entry, sweeps);
        Ok(told.stored(stored).sign(response))
    }

    /// Takes over what a `HEAD` says of a kept response, or lets go of it where that is about another one.
    #[expect(clippy::too_many_arguments, reason = "one step of a request, with all that it has come to")]
    fn tell(
        &self,
        edge: &Edge,
        kept: &Entry,
        response: &Response,
        wanted: &Wanted,
        head: &Parts,
        came: Came,
        sweeps: u64,
    ) {
        let caches = &edge.policies.caches;
        if !kept.is_told_by(response.headers()) {
            return caches.store().drop_chosen(&wanted.key, &head.headers);
        }
        let headers = kept.confirmed(response.headers());
        if let Some(entry) =
            self.entry(kept.status, headers, kept.body.clone(), &head.headers, came, &kept.tags)
        {
            caches.put(wanted, entry, sweeps);
        }
    }

    /// Makes an entry of what may be kept.
    fn entry(
        &self,
        status: StatusCode,
        mut headers: HeaderMap,
        body: bytes::Bytes,
        asked: &HeaderMap,
        came: Came,
        tags: &[String],
    ) -> Option<Entry> {
        let life = Life::of(status, &headers, asked, came, &self.rules)?;
        let selection = Selection::of(&headers, asked)?;
        entry::keep(&mut headers, came.at);
        entry::hide(&mut headers);
        Some(Entry { status, headers, body, life, selection, tags: tags.to_vec() })
    }

    fn kept(&self, edge: &Edge, head: &Parts, wanted: &Wanted) -> Option<Arc<Entry>> {
        let kept = edge.policies.caches.store().find(&wanted.key, &head.headers)?;
        // Somebody who says who it is may get something else.
        let fits = !wanted.named || kept.life.public || self.rules.apart;
        fits.then_some(kept)
    }

    /// Returns the tags that the route gives.
    fn fixed_tags(&self, served: &Served, values: &[Cow<'_, str>]) -> Vec<String> {
        let fields: Vec<&str> = served.template.fields().collect();
        let written = |tag: &String| {
            fields
                .iter()
                .zip(values)
                .fold(tag.clone(), |tag, (field, value)| tag.replace(&format!("{{{field}}}"), value))
        };
        self.tags.iter().map(written).chain([route_tag(&self.route)]).collect()
    }
}

impl Caches {
    pub(super) fn new(limit: usize) -> Self {
        Self { store: Mutex::new(Store::new(limit)), rebound: Notify::new() }
    }

    /// Says that routes may follow other events.
    pub(crate) fn rebind(&self) {
        self.rebound.notify_one();
    }

    /// Lets go of what a change makes wrong: what stands at its path, and where its answer points to on the same host.
    pub(crate) fn changed(&self, head: &Parts, answer: &Response) {
        let done = answer.status().is_success() || answer.status().is_redirection();
        if head.method.is_safe() || !done {
            return;
        }
        let pointed = [header::LOCATION, header::CONTENT_LOCATION].into_iter();
        let pointed = pointed.filter_map(|name| answer.headers().get(name)?.to_str().ok());
        let paths = pointed.filter_map(|target| same_host(head, target));
        self.sweep(paths.chain([head.uri.path().to_owned()]).map(|path| Sweep::Path(path_key(&path))));
    }

    /// Lets go of what is meant; returns how much it was.
    fn sweep(&self, sweeps: impl IntoIterator<Item = Sweep>) -> usize {
        let mut store = self.store();
        sweeps.into_iter().map(|sweep| store.sweep(sweep)).sum()
    }

    /// Keeps a response, unless something was let go of since it was asked for.
    fn put(&self, wanted: &Wanted, entry: Entry, sweeps: u64) -> bool {
        self.store().put(wanted.key, wanted.path, entry, sweeps)
    }

    fn sweeps(&self) -> u64 {
        self.store().swept()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands conditions on to a service that may know what they are about.
///
/// # Errors
/// 400 where they cannot be sent.
pub(crate) fn hand_on(head: &Parts, to: &mut Headers) -> Result<(), Refusal> {
    if !head.method.is_safe() {
        return Ok(());
    }
    for name in CONDITIONS {
        if let Some(value) = head.headers.get(&name).and_then(|value| value.to_str().ok()) {
            to.set(name.as_str(), value).map_err(|error| Refusal::malformed(error.to_string()))?;
        }
    }
    Ok(())
}

/// Takes over what a service says of how its reply may be kept, unless the route says otherwise.
pub(crate) fn take_over(message: &Message, to: &mut HeaderMap) {
    for name in OF_REPLIES {
        let value = message.header(name.as_str()).and_then(|text| HeaderValue::try_from(text).ok());
        if let Some(value) = value.filter(|_| !to.contains_key(&name)) {
            to.insert(name, value);
        }
    }
}

/// Asks anew for what is used stale meanwhile. One at a time.
fn refresh(edge: &Arc<Edge>, served: &Arc<Served>, asked: Asked<'_>, body: Incoming) {
    let (edge, served, head) = (edge.clone(), served.clone(), asked.head.clone());
    let values: Vec<String> = asked.values.iter().map(|value| value.clone().into_owned()).collect();
    let (trace, peer) = (asked.trace, asked.peer);
    edge.tasks.clone().spawn(async move {
        let deadline = Deadline::after(edge.config.request_timeout());
        let policies = &*served.policies;
        let Some(cache) = &policies.cache else { return };
        let values = values.iter().map(|value| Cow::Borrowed(value.as_str())).collect();
        let asked = Asked { head: &head, values, trace, deadline, peer, policies, held: None, body: None };
        let Ok(wanted) = cache.wanted(&edge, &served, &asked) else { return };
        let Err(flight) = edge.policies.flights.join(wanted.key) else { return };
        let kept = cache.kept(&edge, &head, &wanted);
        // What becomes of it stands in the store.
        let _ = cache.fetch(&edge, &served, asked, body, &wanted, kept, false).await;
        Flight::end(flight);
    });
}

/// Tags of routes cannot be written by anybody else: no field holds such a letter.
fn route_tag(route: &str) -> String {
    format!("\0{route}")
}

/// Returns the tags a reply names.
fn said_tags(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(CACHE_TAG).iter().chain(headers.get_all(SURROGATE_KEY));
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split([',', ' '])).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

fn nothing_kept() -> Refusal {
    let title = "nothing is kept that would do";
    let refusal = Refusal::new(StatusCode::GATEWAY_TIMEOUT, "not-cached", title);
    refusal.detail("ask without `only-if-cached`")
}

fn millis(nanos: u64) -> u64 {
    nanos / 1_000_000
}

//! The route table: the edge's own paths, then what its configuration, contracts and discovery ask for. Built whole, never
//! changed.
//!
//! The more precise path has a request, whoever asked for it. On the same path those of the configuration are tried first,
//! the ones with more conditions before those with fewer, then those of contracts, then those of discovery.

mod build;

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use http::{Method, header, request::Parts};

pub use build::Services;

use crate::{
    conditions::Met,
    config::{Feed, Versions},
    matcher::{Found, Matcher},
    observe::Metrics,
    policy,
    served::Served,
};

type Tree = Matcher<Arc<Served>>;

/// Everything that can be asked of the edge at one moment.
pub(crate) struct Table {
    own: Tree,
    /// For every host.
    any: Tree,
    exact: HashMap<String, Tree>,
    /// By what the hosts end in.
    below: HashMap<String, Tree>,
    versions: Versions,
    /// How any event is followed, where that is open.
    open_feeds: Option<Feed>,
    routes: Vec<Arc<Served>>,
    notes: Vec<Note>,
    /// Whether any route keeps replies.
    caches: bool,
    /// Written when somebody asks for it.
    openapi: std::sync::OnceLock<bytes::Bytes>,
}

/// Something about a route that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Note {
    pub(crate) route: String,
    pub(crate) message: String,
}

/// What a request leads to.
#[derive(Debug)]
pub(crate) enum Lookup<'t> {
    /// This route, and which segments stand for the fields of its template.
    Route(&'t Arc<Served>, Vec<usize>),
    /// These would take it if it were of another media type.
    OtherMediaType(Vec<&'t str>),
    /// There are routes here, for other requests.
    Unmet,
    /// The path has other methods.
    Otherwise(Vec<&'t Method>),
    Nothing,
}

impl Table {
    /// Finds what a request with these decoded path segments leads to.
    pub(crate) fn find<'t>(&'t self, head: &Parts, segments: &[Cow<'_, str>]) -> Lookup<'t> {
        let fits = |route: &Arc<Served>| route.conditions.met(head, &self.versions) == Met::All;
        let own = self.own.find(&head.method, segments, fits);
        if !matches!(own, Found::Nothing) {
            return self.told(vec![own], head);
        }
        if self.exact.is_empty() && self.below.is_empty() {
            return self.told(vec![self.any.find(&head.method, segments, fits)], head);
        }
        let mut missed = Vec::new();
        for tree in self.trees(host(head).unwrap_or_default()) {
            match tree.find(&head.method, segments, fits) {
                Found::Target(route, values) => return Lookup::Route(route, values),
                other => missed.push(other),
            }
        }
        self.told(missed, head)
    }

    /// Gives every route what was counted for it before.
    pub(crate) fn bind(&self, state: &policy::State, metrics: Option<&Metrics>) {
        for route in self.own.all().into_iter().chain(&self.routes) {
            route.policies.bind(state);
            if let Some(metrics) = metrics {
                metrics.bind(route);
            }
        }
        if let Some(metrics) = metrics {
            metrics.table();
        }
        state.caches.rebind();
    }

    /// Says whether any route keeps replies, or would if it were there.
    pub(crate) fn caches(&self) -> bool {
        self.caches
    }

    /// Goes through the routes that others asked for.
    pub(crate) fn served(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.routes.iter()
    }

    /// Returns the edge's own routes.
    pub(crate) fn own_routes(&self) -> Vec<&Served> {
        self.own.all().into_iter().map(AsRef::as_ref).collect()
    }

    /// Says how any event is followed, where that is open.
    pub(crate) fn open_feeds(&self) -> Option<&Feed> {
        self.open_feeds.as_ref()
    }

    /// Returns the routes in the order in which they were put in.
    pub(crate) fn routes(&self) -> &[Arc<Served>] {
        &self.routes
    }

    /// Returns what the authors of routes should know.
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Returns the document that describes the routes, made by `write` where nobody asked before.
    pub(crate) fn openapi(&self, write: impl FnOnce(&Self) -> bytes::Bytes) -> bytes::Bytes {
        self.openapi.get_or_init(|| write(self)).clone()
    }

    /// Returns the trees for a host, the most precise one first.
    fn trees(&self, host: String) -> impl Iterator<Item = &Tree> {
        let exact = self.exact.get(&host);
        let dots: Vec<usize> = host.match_indices('.').map(|(at, _)| at + 1).collect();
        let below = dots.into_iter().filter_map(move |at| self.below.get(&host[at..]));
        exact.into_iter().chain(below).chain([&self.any])
    }

    /// Puts together what several trees said.
    fn told<'t>(&'t self, found: Vec<Found<'t, Arc<Served>>>, head: &Parts) -> Lookup<'t> {
        let (mut unmet, mut others) = (Vec::new(), Vec::new());
        for found in found {
            match found {
                Found::Target(route, values) => return Lookup::Route(route, values),
                Found::Unmet(routes) => unmet.extend(routes),
                Found::Otherwise(methods) => others.extend(methods),
                Found::Nothing => {}
            }
        }
        if unmet.is_empty() {
            return if others.is_empty() { Lookup::Nothing } else { Lookup::Otherwise(others) };
        }
        let close =
            unmet.iter().filter(|route| route.conditions.met(head, &self.versions) == Met::ButMediaType);
        let types: Vec<&str> = close.filter_map(|route| route.conditions.content_type.as_deref()).collect();
        if types.is_empty() { Lookup::Unmet } else { Lookup::OtherMediaType(types) }
    }
}

/// Returns the host a request is for, in lower case and without its port.
fn host(head: &Parts) -> Option<String> {
    let named = head.uri.authority().map(http::uri::Authority::as_str);
    let named = named.or_else(|| head.headers.get(header::HOST)?.to_str().ok())?;
    let name = match named.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => named,
    };
    Some(name.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests;

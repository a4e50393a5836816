//! Routes as tools show them: what there is, and why a request goes where it goes.

mod changes;

use std::{collections::BTreeMap, fmt, sync::Arc};

use http::Request;
use serde::Serialize;

pub use changes::{Change, Changes, WebhookChange, WebhookChanges};

use crate::{
    Config,
    config::Webhook,
    hygiene,
    mapping::Mapping,
    matcher,
    served::{Served, Target},
    table::{Lookup, Services, Table},
};

/// What a request passes, in the one order there is: what is sound is routed, traced, given its time, and put together.
/// Policies to come take their places here when they are built, not before.
pub const POLICIES: [&str; 17] = [
    "limits",
    "route",
    "trace",
    "deadline",
    "shedding",
    "rate limit",
    "quota",
    "concurrency",
    "idempotency",
    "cache",
    "coalesce",
    "transform",
    "retry",
    "circuit/bulkhead",
    "conditions",
    "compression",
    "lifecycle",
];

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteInfo {
    /// What logs call it.
    pub name: String,
    /// Who asked for it: `edge`, `config`, `contract` or `discovery`.
    pub origin: &'static str,
    /// The host it is for; every host where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The HTTP method.
    pub method: String,
    /// The path template.
    pub path: String,
    /// What a request has to be like besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<String>,
    /// Where requests go.
    pub to: String,
    /// How requests are put together and replies changed, where that is not by name alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// All routes, and what their authors should know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overview {
    /// The routes.
    pub routes: Vec<RouteInfo>,
    /// Routes that were asked for and are not served, and operations that nobody serves yet.
    pub notes: Vec<String>,
    /// Who is sent events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<WebhookInfo>,
}

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookInfo {
    /// Its name, and that of its group of service `edge`.
    pub name: String,
    /// The events it is sent.
    pub events: Vec<String>,
    /// Where they go.
    pub url: String,
    /// Whether requests are signed.
    pub signed: bool,
    /// What events are ordered by, where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
}

/// Where a request goes, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The route that takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteInfo>,
    /// What stands in the path for each field of the template.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub path: BTreeMap<String, String>,
    /// The problem a client would get, where no route takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The policies it passes, in their order.
    pub policies: Vec<&'static str>,
}

/// Lists the routes that an edge of this configuration has when these services are there.
///
/// ```
/// let overview = sinew_edge::overview(&sinew_edge::Config::default(), &sinew_edge::Services::default());
/// assert!(overview.routes.iter().any(|route| route.path == "/healthz/live"));
/// ```
pub fn overview(config: &Config, services: &Services) -> Overview {
    Overview { webhooks: WebhookInfo::all(&config.webhooks), ..Table::build(config, services).overview() }
}

/// Says where a request goes at an edge of this configuration when these services are there.
pub fn explain(config: &Config, services: &Services, request: Request<()>) -> Explanation {
    let (head, ()) = request.into_parts();
    let policies = POLICIES.to_vec();
    let refused = |problem: String| Explanation {
        route: None,
        path: BTreeMap::new(),
        problem: Some(problem),
        policies: policies.clone(),
    };
    if let Err(refusal) = hygiene::check(&head, config) {
        return refused(refusal.problem().to_string());
    }
    let table = Table::build(config, services);
    let Some(segments) = matcher::segments(head.uri.path()) else {
        return refused("400: the path is not valid percent-encoded utf-8".to_owned());
    };
    match table.find(&head, &segments) {
        Lookup::Route(route, places) => {
            let names = route.template.fields().map(str::to_owned);
            let path = names.zip(places.iter().map(|place| segments[*place].to_string())).collect();
            Explanation { route: Some(RouteInfo::of(route)), path, problem: None, policies }
        }
        Lookup::OtherMediaType(types) => refused(format!("415: the routes here take {}", types.join(", "))),
        Lookup::Unmet => refused("404: the routes here are for other requests".to_owned()),
        Lookup::Otherwise(methods) => {
            let names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
            refused(format!("405: the path takes {}", names.join(", ")))
        }
        Lookup::Nothing => refused("404: there is no route at this path".to_owned()),
    }
}

impl WebhookInfo {
    pub(crate) fn all(webhooks: &[Webhook]) -> Vec<Self> {
        webhooks.iter().map(Self::of).collect()
    }

    fn of(webhook: &Webhook) -> Self {
        Self {
            name: webhook.name.clone(),
            events: webhook.events.clone(),
            url: webhook.url.clone(),
            signed: !webhook.secrets.is_empty(),
            order_by: webhook.order_by.clone(),
        }
    }
}

impl fmt::Display for WebhookInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "webhook {} [{}] → {}", self.name, self.events.join(", "), self.url)
    }
}

impl RouteInfo {
    pub(crate) fn of(served: &Served) -> Self {
        let mirror = served.mirror.iter().map(|(callee, percent)| format!("{percent} % copied to {callee}"));
        let mapped = served.target.mapping().map(Mapping::lines).unwrap_or_default();
        let followed = match &served.target {
            Target::Feed(feed) => feed.lines(),
            _ => Vec::new(),
        };
        Self {
            name: served.name.clone(),
            origin: served.origin.as_str(),
            host: served.host.as_ref().map(ToString::to_string),
            method: served.method.to_string(),
            path: served.path.clone(),
            conditions: served.conditions.lines(),
            to: served.target.describe(),
            details: mapped
                .into_iter()
                .chain(followed)
                .chain(served.shape.lines())
                .chain(mirror)
                .chain(served.policies.lines())
                .collect(),
        }
    }

    fn key(&self) -> impl Ord + use<> {
        (self.path.clone(), self.method.clone(), self.host.clone(), self.conditions.clone())
    }
}

impl fmt::Display for RouteInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or_default();
        write!(f, "{} {host}{}", self.method, self.path)?;
        if !self.conditions.is_empty() {
            write!(f, " [{}]", self.conditions.join(", "))?;
        }
        write!(f, " → {}", self.to)
    }
}

impl Table {
    /// Describes every route and every note.
    pub(crate) fn overview(&self) -> Overview {
        let own = self.own_routes().into_iter();
        let routes = own.chain(self.routes().iter().map(Arc::as_ref)).map(RouteInfo::of).collect();
        let notes = self.notes().iter().map(|note| format!("{}: {}", note.route, note.message));
        let broken = self.routes().iter().flat_map(|route| route.policies.broken(&route.name));
        let notes = notes.chain(broken).collect();
        Overview { routes, notes, webhooks: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(path: &str, to: &str) -> serde_json::Value {
        json!({ "match": { "method": "GET", "path": path }, "to": { "operation": to } })
    }

    #[test]
    fn a_request_is_explained_or_its_problem_told() {
        let config = Config::read(&json!({ "routes": [route("/a/{id}", "a.b")] })).unwrap();
        let ask = |method: &str, uri: &str| {
            explain(
                &config,
                &Services::default(),
                Request::builder().method(method).uri(uri).header("host", "x").body(()).unwrap(),
            )
        };
        let found = ask("GET", "/a/7");
        assert_eq!((found.path["id"].as_str(), found.route.unwrap().to.as_str()), ("7", "a.b"));
        assert!(ask("POST", "/a/7").problem.unwrap().starts_with("405"));
        assert!(ask("GET", "/b").problem.unwrap().starts_with("404"));
    }
}

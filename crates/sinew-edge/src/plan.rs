//! What the routes of a configuration mean: checked and parsed, all mistakes at once. Knows no catalogue: whether somebody
//! serves an operation is another matter, and may change while the edge runs.

mod goal;

use std::collections::HashMap;

use http::{HeaderName, Method};

pub(crate) use goal::{EventName, Goal, Named, Share};

use crate::{
    conditions::Conditions,
    config::{Config, Match, Mistake, Policies, Route, Versions, below},
    matcher::Template,
    shape::Shape,
};

/// What belongs to the edge, whatever else is served.
const SEALED: &str = "/healthz/";

/// A route that can be put into the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) host: Option<Host>,
    pub(crate) method: Method,
    /// The path template as it is written, with what `versions` puts in front of it.
    pub(crate) path: String,
    pub(crate) template: Template,
    pub(crate) conditions: Conditions,
    pub(crate) goal: Goal,
    /// Who gets a copy, of how many requests in a hundred.
    pub(crate) mirror: Option<(Named, u8)>,
    pub(crate) shape: Shape,
    /// Its own, over those of every route.
    pub(crate) policies: Policies,
    /// The version of the interface it stands for, in its path or as a condition.
    pub(crate) version: Option<String>,
}

/// Which hosts a route is for, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Is(String),
    /// Every host that ends in a dot and this.
    Below(String),
}

/// Reads every route that can be read.
pub(crate) fn plans(config: &Config) -> Vec<Plan> {
    let routes = config.routes.iter();
    let plans =
        routes.flat_map(|route| plan(route, &config.versions, "", &mut Vec::new()).unwrap_or_default());
    plans.map(|plan| Plan { policies: plan.policies.over(&config.policies), ..plan }).collect()
}

/// Lists what is wrong with the routes.
pub(crate) fn mistakes(config: &Config) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut taken: HashMap<String, usize> = HashMap::new();
    if config.versions.header.as_ref().is_some_and(|name| HeaderName::try_from(name.as_str()).is_err()) {
        mistakes.push(Mistake::new("/versions/header", "this is no name of a header field"));
    }
    for (index, route) in config.routes.iter().enumerate() {
        let at = format!("/routes/{index}");
        let plans = plan(route, &config.versions, &at, &mut mistakes).unwrap_or_default();
        for plan in plans {
            if let Some(first) = taken.insert(plan.key(), index) {
                let message =
                    format!("takes the same requests as route {first}: give one of them a condition");
                mistakes.push(Mistake::new(format!("{at}/match"), message));
            }
        }
    }
    mistakes
}

/// Reads one route; `None` where something is wrong with it. One with a version may stand at two paths.
fn plan(route: &Route, versions: &Versions, at: &str, mistakes: &mut Vec<Mistake>) -> Option<Vec<Plan>> {
    let before = mistakes.len();
    let matches = format!("{at}/match");
    let method = method(&route.matches.method, &matches, mistakes);
    let template = template(&route.matches.path, &matches, mistakes);
    let host = host(&route.matches, &matches, mistakes);
    let conditions = conditions(&route.matches, &matches, mistakes);
    let goal = Goal::read(&route.to, template.as_ref(), &format!("{at}/to"), mistakes);
    let mirror = mirror(route, at, mistakes);
    let shape = Shape::read(&route.reply, &format!("{at}/reply"), mistakes);
    route.policies.check(&below(at, "policies"), mistakes);
    let (method, template, goal) = (method?, template?, goal?);
    if matches!(goal, Goal::Feed(_)) && method != Method::GET {
        mistakes.push(Mistake::new(below(&matches, "method"), "events are followed with GET"));
    }
    let of_objects = matches!(method, Method::GET | Method::PUT | Method::DELETE);
    if matches!(goal, Goal::Object(_)) && !of_objects {
        mistakes.push(Mistake::new(below(&matches, "method"), "objects have GET, PUT and DELETE"));
    }
    if mistakes.len() > before {
        return None;
    }
    let goal = goal.chosen_by(conditions.query.iter().map(|(name, _)| name.clone()));
    let name = route.name.clone().unwrap_or_else(|| format!("{method} {}", route.matches.path));
    let path = route.matches.path.clone();
    let (policies, version) = (route.policies.clone(), conditions.version.clone());
    let plan =
        Plan { name, host, method, path, template, conditions, goal, mirror, shape, policies, version };
    let versioned = versions.path.then(|| plan.at_version()).flatten();
    Some([plan].into_iter().chain(versioned).collect())
}

impl Plan {
    /// Tells the requests it takes from those of others.
    fn key(&self) -> String {
        let fields = self.path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
        let path = fields.collect::<Vec<_>>().join("/");
        format!("{:?} {} {path} {:?}", self.host, self.method, self.conditions)
    }

    /// The same, with its version in the path instead of a condition.
    fn at_version(&self) -> Option<Self> {
        let mut plan = self.clone();
        let version = plan.conditions.version.take()?;
        plan.path = format!("/v{version}{}", self.path);
        plan.template = self.template.clone().below(&format!("v{version}"));
        Some(plan)
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (wild, name) = text.strip_prefix("*.").map_or((false, text.as_str()), |rest| (true, rest));
        let allowed = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'[' | b']' | b':')
        };
        let usable = !name.is_empty() && name.bytes().all(allowed) && !has_port(name);
        usable.then(|| if wild { Self::Below(name.to_owned()) } else { Self::Is(name.to_owned()) })
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Is(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// Only an address of IPv6 has colons, and stands in brackets.
fn has_port(name: &str) -> bool {
    name.contains(':') && !name.ends_with(']')
}

fn method(text: &str, at: &str, mistakes: &mut Vec<Mistake>) -> Option<Method> {
    let parsed =
        text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-'));
    let parsed = parsed.filter(|method| !matches!(*method, Method::HEAD | Method::OPTIONS | Method::CONNECT));
    if parsed.is_none() {
        let message = "write a method such as GET or POST; HEAD and OPTIONS are answered for every route";
        mistakes.push(Mistake::new(below(at, "method"), message));
    }
    parsed
}

fn template(text: &str, at: &str, mistakes: &mut Vec<Mistake>) -> Option<Template> {
    let template = Template::parse(text);
    let twice = |template: &Template| {
        let mut names: Vec<&str> = template.fields().collect();
        names.sort_unstable();
        names.windows(2).any(|pair| pair[0] == pair[1])
    };
    let message = match &template {
        None => "is no path template: write /fixed/{field}",
        Some(template) if twice(template) => "names a field twice: every {field} needs a name of its own",
        Some(_) if text.starts_with(SEALED) => {
            "belongs to the edge, which says there how it is: choose another"
        }
        Some(_) => return template,
    };
    mistakes.push(Mistake::new(below(at, "path"), message));
    None
}

fn host(matches: &Match, at: &str, mistakes: &mut Vec<Mistake>) -> Option<Host> {
    let host = Host::parse(matches.host.as_deref()?);
    if host.is_none() {
        let message = "is no host: write its name without scheme and port, or *.example.org for all below";
        mistakes.push(Mistake::new(below(at, "host"), message));
    }
    host
}

fn conditions(matches: &Match, at: &str, mistakes: &mut Vec<Mistake>) -> Conditions {
    let mut headers = Vec::new();
    for (name, value) in &matches.headers {
        match HeaderName::try_from(name.as_str()) {
            Ok(parsed) => headers.push((parsed, value.clone())),
            Err(_) => {
                let message = "is no name of a header field";
                mistakes.push(Mistake::new(below(&below(at, "headers"), name), message));
            }
        }
    }
    let content_type = matches.content_type.as_ref().map(|text| text.to_ascii_lowercase());
    if content_type.as_ref().is_some_and(|text| !text.contains('/') || text.contains(';')) {
        let message = "write a media type without parameters, such as application/json or image/*";
        mistakes.push(Mistake::new(below(at, "content_type"), message));
    }
    let query = matches.query.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Conditions { headers, query, content_type, version: matches.version.clone() }
}

fn mirror(route: &Route, at: &str, mistakes: &mut Vec<Mistake>) -> Option<(Named, u8)> {
    let mirror = route.mirror.as_ref()?;
    let at = below(at, "mirror");
    if !(1..=100).contains(&mirror.percent) {
        mistakes.push(Mistake::new(below(&at, "percent"), "has to be 1 to 100"));
    }
    let named = Named::read(&mirror.operation, &below(&at, "operation"), mistakes)?;
    Some((named, mirror.percent))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(routes: Value) -> Config {
        serde_json::from_value(json!({ "routes": routes })).unwrap()
    }

    fn pointers(routes: Value) -> Vec<String> {
        mistakes(&config(routes)).into_iter().map(|mistake| mistake.pointer).collect()
    }

    #[test]
    fn every_mistake_of_every_route_is_told_at_once() {
        let found = pointers(json!([
            { "match": { "method": "get", "path": "a", "host": "http://x" }, "to": { "operation": "orders" } },
            { "match": { "method": "GET", "path": "/{a}/{a}" }, "to": {} },
            { "match": { "method": "GET", "path": "/healthz/mine", "content_type": "json" },
              "to": { "operation": "a.b", "event": "a.b" },
              "mirror": { "operation": "a.b", "percent": 0 }, "reply": { "status": 404, "body": "x" } },
        ]));
        assert_eq!(
            found,
            [
                "/routes/0/match/method",
                "/routes/0/match/path",
                "/routes/0/match/host",
                "/routes/0/to/operation",
                "/routes/1/match/path",
                "/routes/1/to",
                "/routes/2/match/path",
                "/routes/2/match/content_type",
                "/routes/2/to",
                "/routes/2/mirror/percent",
                "/routes/2/reply/status",
                "/routes/2/reply/body",
            ]
        );
    }

    #[test]
    fn two_routes_for_the_same_requests_are_a_mistake_and_a_condition_tells_them_apart() {
        let route = |path: &str, tenant: Option<&str>| {
            let headers = tenant.map_or_else(|| json!({}), |tenant| json!({ "x-tenant": tenant }));
            json!({ "match": { "method": "GET", "path": path, "headers": headers }, "to": { "operation": "a.b" } })
        };
        assert_eq!(pointers(json!([route("/a/{x}", None), route("/a/{y}", None)])), ["/routes/1/match"]);
        assert!(pointers(json!([route("/a/{x}", None), route("/a/{y}", Some("b"))])).is_empty());
    }

    #[test]
    fn a_version_may_stand_in_the_path_too() {
        let mut config = config(json!([
            { "match": { "method": "GET", "path": "/a/{x}", "version": "2" }, "to": { "operation": "a.b" } }
        ]));
        config.versions.path = true;
        let plans = plans(&config);
        let told: Vec<(&str, Option<&str>)> =
            plans.iter().map(|plan| (plan.path.as_str(), plan.conditions.version.as_deref())).collect();
        assert_eq!(told, [("/a/{x}", Some("2")), ("/v2/a/{x}", None)]);
        assert_eq!(plans[1].template, Template::parse("/v2/a/{x}").unwrap());
    }

    #[test]
    fn hosts_are_names_without_ports() {
        assert_eq!(Host::parse("API.example"), Some(Host::Is("api.example".into())));
        assert_eq!(Host::parse("*.example"), Some(Host::Below("example".into())));
        assert_eq!(Host::parse("[::1]"), Some(Host::Is("[::1]".into())));
        for wrong in ["", "*.", "a:80", "a/b", "http://a", "a b", "[::1]:80"] {
            assert_eq!(Host::parse(wrong), None, "{wrong:?}");
        }
    }
}

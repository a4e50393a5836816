//! One route at work: which requests it takes and what answers them.

use std::sync::{Arc, OnceLock};

use http::Method;

use crate::{
    conditions::Conditions,
    feed::FeedPlan,
    mapping::Mapping,
    matcher::Template,
    object::ObjectPlan,
    observe::Counts,
    operation::Operation,
    plan::{EventName, Host, Named},
    policy::Policies,
    shape::Shape,
};

/// A route in the table.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) host: Option<Host>,
    pub(crate) method: Method,
    /// The path template as it was written.
    pub(crate) path: String,
    pub(crate) template: Template,
    pub(crate) conditions: Conditions,
    pub(crate) target: Target,
    /// Who gets a copy, of how many requests in a hundred.
    pub(crate) mirror: Option<(Callee, u8)>,
    pub(crate) shape: Shape,
    /// What its requests have to pass.
    pub(crate) policies: Arc<Policies>,
    /// What its requests are counted in, where they are.
    pub(crate) counts: OnceLock<Arc<Counts>>,
}

/// Who asked for a route. On the same path the first one has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// The edge itself.
    Edge,
    /// Its configuration.
    Config,
    /// A contract in the catalogue.
    Contract,
    /// What a service without a contract says of itself.
    Discovery,
}

/// What a route leads to.
#[derive(Debug)]
pub(crate) enum Target {
    /// Something the edge answers itself.
    Own(Own),
    Call(Callee, Mapping),
    /// As it is, to an operation that speaks HTTP.
    Forward(Callee),
    Split(Split),
    Event(EventName, Mapping),
    Feed(FeedPlan),
    Object(ObjectPlan),
    Aggregate(Vec<Member>),
}

/// The edge's own routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// Says what this is.
    Index,
    /// Says that the process runs.
    Live,
    /// Says whether requests can be served.
    Ready,
    /// Describes the routes.
    OpenApi,
    /// Says where that is.
    Catalog,
    /// Publishes an event.
    Publish,
    /// Follows an event.
    Follow,
}

/// Who answers.
#[derive(Clone, Debug)]
pub(crate) enum Callee {
    Known(Arc<Operation>),
    /// Nobody serves it yet. A subject is never guessed.
    Absent(Named),
}

/// Several operations that take turns.
#[derive(Debug)]
pub(crate) struct Split {
    /// Each with the sum of the weights up to and with its own.
    pub(crate) shares: Vec<(u32, Callee)>,
    pub(crate) mapping: Mapping,
}

/// One member of an aggregation.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) callee: Callee,
    pub(crate) mapping: Mapping,
    pub(crate) optional: bool,
}

impl Own {
    pub(crate) const ALL: [Self; 7] =
        [Self::Index, Self::Live, Self::Ready, Self::OpenApi, Self::Catalog, Self::Publish, Self::Follow];

    /// Returns method and path template.
    pub(crate) const fn route(self) -> (Method, &'static str) {
        match self {
            Self::Index => (Method::GET, "/"),
            Self::Live => (Method::GET, "/healthz/live"),
            Self::Ready => (Method::GET, "/healthz/ready"),
            Self::OpenApi => (Method::GET, "/openapi.json"),
            Self::Catalog => (Method::GET, "/.well-known/api-catalog"),
            Self::Publish => (Method::POST, "/events/{domain}/{event}"),
            Self::Follow => (Method::GET, "/events/{domain}/{event}"),
        }
    }
}

impl Origin {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Config => "config",
            Self::Contract => "contract",
            Self::Discovery => "discovery",
        }
    }
}

impl Served {
    /// Returns one of the edge's own routes.
    pub(crate) fn own(own: Own) -> Option<Self> {
        let (method, path) = own.route();
        let (template, target) = (Template::parse(path)?, Target::Own(own));
        Some(Self {
            name: format!("{own:?}").to_lowercase(),
            origin: Origin::Edge,
            host: None,
            method,
            path: path.to_owned(),
            template,
            conditions: Conditions::default(),
            target,
            mirror: None,
            shape: Shape::default(),
            policies: Arc::default(),
            counts: OnceLock::new(),
        })
    }

    /// Says whether it is answered however much there is to do: it is how others learn of that.
    pub(crate) fn is_vital(&self) -> bool {
        matches!(self.target, Target::Own(Own::Index | Own::Live | Own::Ready | Own::OpenApi | Own::Catalog))
    }

    /// Says whether requests carry a body. `DELETE` has one only where a field is named for it.
    pub(crate) fn takes_body(&self) -> bool {
        match self.method {
            Method::GET | Method::HEAD => false,
            Method::DELETE => self.target.mapping().is_some_and(|mapping| mapping.body.is_some()),
            _ => !matches!(self.target, Target::Aggregate(_)),
        }
    }
}

impl Target {
    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        match self {
            Self::Call(_, mapping) | Self::Event(_, mapping) => Some(mapping),
            Self::Split(split) => Some(&split.mapping),
            Self::Own(_) | Self::Forward(_) | Self::Feed(_) | Self::Object(_) | Self::Aggregate(_) => None,
        }
    }

    /// Returns the operations it may ask.
    pub(crate) fn callees(&self) -> Vec<&Callee> {
        match self {
            Self::Call(callee, _) | Self::Forward(callee) => vec![callee],
            Self::Split(split) => split.shares.iter().map(|(_, callee)| callee).collect(),
            Self::Aggregate(members) => members.iter().map(|member| &member.callee).collect(),
            Self::Own(_) | Self::Event(..) | Self::Feed(_) | Self::Object(_) => Vec::new(),
        }
    }

    /// Says where it leads, for people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Own(_) => "the edge itself".to_owned(),
            Self::Call(callee, mapping) => match constant(mapping, "name").filter(|_| callee.is_workflow()) {
                Some(workflow) => format!("{callee} ({workflow})"),
                None => callee.to_string(),
            },
            Self::Forward(callee) => format!("{callee}, as it is"),
            Self::Split(split) => {
                let weights = split.shares.iter().scan(0, |before, (until, callee)| {
                    let weight = until - std::mem::replace(before, *until);
                    Some(format!("{callee} {weight}"))
                });
                weights.collect::<Vec<_>>().join(", ")
            }
            Self::Event(event, _) => format!("event {}", event.name),
            Self::Feed(feed) => format!("events {}", feed.events().join(", ")),
            Self::Object(object) => object.describe(),
            Self::Aggregate(members) => {
                let members = members.iter().map(|member| format!("{}: {}", member.name, member.callee));
                members.collect::<Vec<_>>().join(", ")
            }
        }
    }
}

impl Callee {
    fn is_workflow(&self) -> bool {
        match self {
            Self::Known(operation) => operation.service == "workflow",
            Self::Absent(named) => named.service == "workflow",
        }
    }
}

impl std::fmt::Display for Callee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(operation) => f.write_str(&operation.name.replacen('/', ".", 1)),
            Self::Absent(named) => write!(f, "{named}"),
        }
    }
}

impl Split {
    /// Chooses who answers; `roll` is any number.
    pub(crate) fn choose(&self, roll: u32) -> Option<&Callee> {
        let (total, _) = self.shares.last()?;
        let at = roll % (*total).max(1);
        self.shares.iter().find(|(until, _)| at < *until).map(|(_, callee)| callee)
    }
}

fn constant<'m>(mapping: &'m Mapping, field: &str) -> Option<&'m str> {
    mapping.fields.iter().find_map(|(own, source)| match source {
        crate::mapping::Source::Constant(value) if own == field => value.as_str(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_a_share_by_weight_and_nobody_without() {
        let named = |name: &str| Callee::Absent(Named { service: name.to_owned(), operation: "do".into() });
        let shares = vec![(90, named("old")), (90, named("none")), (100, named("new"))];
        let split = Split { shares, mapping: Mapping::default() };
        let mut counts = std::collections::BTreeMap::new();
        for roll in 0..1_000 {
            *counts.entry(split.choose(roll).unwrap().to_string()).or_insert(0) += 1;
        }
        assert_eq!(counts, [("new.do".to_owned(), 100), ("old.do".to_owned(), 900)].into());
    }
}

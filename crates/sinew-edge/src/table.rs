//! The route table: the edge's own paths, then what the contracts in the catalogue ask for. Built whole, never changed.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use http::Method;
use sinew::wire::ServiceDescriptor;

use crate::{
    matcher::{Found, Matcher, Template},
    operation::Operation,
};

/// Everything that can be asked of the edge at one moment.
pub(crate) struct Table {
    own: Matcher<Target>,
    services: Matcher<Target>,
}

/// What a route leads to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// Something the edge answers itself.
    Own(Own),
    /// An operation of a service.
    Operation(Arc<Operation>),
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
    /// Publishes an event.
    Publish,
}

impl Own {
    const ALL: [Self; 4] = [Self::Index, Self::Live, Self::Ready, Self::Publish];

    /// Returns method and path template.
    pub(crate) const fn route(self) -> (Method, &'static str) {
        match self {
            Self::Index => (Method::GET, "/"),
            Self::Live => (Method::GET, "/healthz/live"),
            Self::Ready => (Method::GET, "/healthz/ready"),
            Self::Publish => (Method::POST, "/events/{domain}/{event}"),
        }
    }
}

impl Target {
    /// Returns the path template.
    pub(crate) fn route(&self) -> &str {
        match self {
            Self::Own(own) => own.route().1,
            Self::Operation(operation) => &operation.route,
        }
    }
}

impl Table {
    /// Builds the table from all contracts, by service name. Of two that claim a route the first one has it; the
    /// edge's own paths are not for sale.
    pub(crate) fn build(services: &BTreeMap<String, ServiceDescriptor>) -> Self {
        let mut table = Self { own: own(), services: Matcher::new() };
        for service in services.values() {
            for descriptor in &service.operations {
                let Some(binding) = &descriptor.http else { continue };
                if descriptor.stream {
                    // One HTTP reply cannot carry a stream; its first item would be taken for the whole answer.
                    let (service, operation) = (&service.name, &descriptor.name);
                    tracing::info!(
                        service,
                        operation,
                        "answers with a stream, which has no route over http yet"
                    );
                    continue;
                }
                match Operation::read(&service.name, descriptor, binding) {
                    Ok(operation) => table.add(operation),
                    Err(reason) => {
                        tracing::warn!(
                            service = service.name,
                            operation = descriptor.name,
                            reason,
                            "cannot be served"
                        );
                    }
                }
            }
        }
        table
    }

    /// Finds what a request with these decoded path segments leads to.
    pub(crate) fn find<'t, 'p>(
        &'t self,
        method: &'p Method,
        segments: &'p [Cow<'p, str>],
    ) -> Found<'t, 'p, Target> {
        match self.own.find(method, segments) {
            Found::Nothing => self.services.find(method, segments),
            found => found,
        }
    }

    fn add(&mut self, operation: Operation) {
        let (name, route, method) =
            (operation.name.clone(), operation.route.clone(), operation.method.clone());
        let path: Vec<Cow<'_, str>> = route.split('/').skip(1).map(Cow::Borrowed).collect();
        if self.own.find(&method, &path) != Found::Nothing {
            tracing::warn!(operation = name, route, "the path belongs to the edge: choose another");
            return;
        }
        let template = operation.template.clone();
        if let Some(first) = self.services.insert(method, &template, Target::Operation(Arc::new(operation))) {
            tracing::warn!(
                operation = name,
                route,
                taken_by = first.route(),
                "the route is taken: choose another"
            );
        }
    }
}

fn own() -> Matcher<Target> {
    let mut matcher = Matcher::new();
    for own in Own::ALL {
        let (method, path) = own.route();
        if let Some(template) = Template::parse(path) {
            matcher.insert(method, &template, Target::Own(own));
        }
    }
    matcher
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{matcher::segments, operation::tests::descriptor};

    fn table(services: &[(&str, &[&str])]) -> Table {
        let describe = |(name, routes): &(&str, &[&str])| {
            let operations =
                routes.iter().enumerate().map(|(at, http)| descriptor(&format!("op-{at}"), http));
            let service = ServiceDescriptor {
                name: (*name).to_owned(),
                version: "1.0.0".into(),
                operations: operations.collect(),
                ..ServiceDescriptor::default()
            };
            ((*name).to_owned(), service)
        };
        Table::build(&services.iter().map(describe).collect())
    }

    fn name(table: &Table, method: Method, path: &str) -> String {
        match table.find(&method, &segments(path).unwrap()) {
            Found::Target(Target::Own(own), _) => format!("{own:?}"),
            Found::Target(Target::Operation(operation), _) => operation.name.clone(),
            Found::Otherwise(_) => "otherwise".to_owned(),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn every_own_route_is_in_the_table() {
        let table = table(&[]);
        assert_eq!(name(&table, Method::GET, "/"), "Index");
        assert_eq!(name(&table, Method::HEAD, "/healthz/live"), "Live");
        assert_eq!(name(&table, Method::GET, "/healthz/ready"), "Ready");
        assert_eq!(name(&table, Method::POST, "/events/orders/placed"), "Publish");
    }

    #[test]
    fn a_service_cannot_take_a_path_of_the_edge() {
        let table =
            table(&[("evil", &["POST /events/orders/placed", "GET /healthz/ready", "PUT /{a}/ready"])]);
        assert_eq!(name(&table, Method::POST, "/events/orders/placed"), "Publish");
        assert_eq!(name(&table, Method::GET, "/healthz/ready"), "Ready");
        assert_eq!(name(&table, Method::PUT, "/healthz/ready"), "otherwise");
        assert_eq!(name(&table, Method::PUT, "/b/ready"), "evil/op-2");
    }

    #[test]
    fn an_operation_that_streams_has_no_route() {
        let mut streams = descriptor("rows", "GET /rows");
        streams.stream = true;
        let service = ServiceDescriptor {
            name: "reports".into(),
            version: "1.0.0".into(),
            operations: vec![streams, descriptor("summary", "GET /summary")],
            ..ServiceDescriptor::default()
        };
        let table = Table::build(&BTreeMap::from([("reports".to_owned(), service)]));
        assert_eq!(name(&table, Method::GET, "/rows"), "nothing");
        assert_eq!(name(&table, Method::GET, "/summary"), "reports/summary");
    }

    #[test]
    fn of_two_services_the_first_by_name_has_the_route() {
        let table = table(&[("b", &["GET /x/{id}"]), ("a", &["GET /x/{key}"]), ("c", &["DELETE /x/{id}"])]);
        assert_eq!(name(&table, Method::GET, "/x/1"), "a/op-0");
        assert_eq!(name(&table, Method::DELETE, "/x/1"), "c/op-0");
    }

    #[test]
    fn one_bad_operation_does_not_take_the_others_down() {
        let table = table(&[("a", &["GET /{}", "GET /ok"])]);
        assert_eq!(name(&table, Method::GET, "/ok"), "a/op-1");
    }
}

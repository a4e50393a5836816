//! Building a table: who has which route, and what is worth telling about those that have none.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use sinew::{
    Bus, Catalogue, Error,
    wire::{HttpBinding, OperationDescriptor, ServiceDescriptor},
};

use super::{Note, Table, Tree};
use crate::{
    conditions::Conditions,
    config::{Config, Versions},
    discovery,
    mapping::Mapping,
    matcher::{Found, Matcher, Template, segments},
    operation::Operation,
    plan::{Goal, Host, Named, Plan, plans},
    policy::Policies,
    served::{Callee, Member, Origin, Own, Served, Split, Target},
    shape::Shape,
};

/// Everything that is known to be served, by the names of the services.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Services {
    /// By contract.
    pub(crate) contracts: BTreeMap<String, ServiceDescriptor>,
    /// By what services without a contract say of themselves.
    pub(crate) discovered: BTreeMap<String, ServiceDescriptor>,
}

impl Services {
    /// Reads the catalogue, and asks services without a contract what they say of themselves.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub async fn read(bus: &Bus) -> Result<Self, Error> {
        let contracts = Catalogue::open(bus).await?.all().await?;
        let contracts = contracts.into_iter().map(|service| (service.name.clone(), service)).collect();
        Ok(Self { contracts, discovered: discovery::ask(bus).await? })
    }
}

type Operations = HashMap<(String, String), Arc<Operation>>;

impl Table {
    /// Builds the table of a configuration and of what is served.
    pub(crate) fn build(config: &Config, services: &Services) -> Self {
        let mut table = Self {
            own: own(config),
            any: Matcher::new(),
            exact: HashMap::new(),
            below: HashMap::new(),
            versions: config.versions.clone(),
            open_feeds: config.open_feeds.clone(),
            routes: Vec::new(),
            notes: Vec::new(),
            caches: config.caches(),
            openapi: OnceLock::new(),
        };
        let operations = table.operations(services);
        let mut plans = plans(config);
        // Stable: of those with equally many conditions the one that was written first is tried first.
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.conditions.count()));
        for plan in plans {
            let served = route_of(plan, &operations, &config.versions);
            table.note_absence(&served);
            table.insert(served);
        }
        for (origin, services) in
            [(Origin::Contract, &services.contracts), (Origin::Discovery, &services.discovered)]
        {
            for (service, descriptor, binding) in bindings(services) {
                if let Some(operation) = operations.get(&(service.name.clone(), descriptor.name.clone())) {
                    table.add(origin, operation, descriptor, binding, config);
                }
            }
        }
        table
    }

    /// Reads every operation that can be called.
    fn operations(&mut self, services: &Services) -> Operations {
        let mut operations = Operations::new();
        let contracts = services.contracts.values().map(|service| (service, true));
        let discovered = services.discovered.values().map(|service| (service, false));
        for (service, contract) in contracts.chain(discovered) {
            for descriptor in &service.operations {
                let key = (service.name.clone(), descriptor.name.clone());
                if operations.contains_key(&key) {
                    continue;
                }
                match Operation::read(&service.name, descriptor, contract) {
                    Ok(operation) => drop(operations.insert(key, Arc::new(operation))),
                    Err(reason) if descriptor.http.is_some() => {
                        self.note(format!("{}.{}", service.name, descriptor.name), reason);
                    }
                    Err(_) => {}
                }
            }
        }
        operations
    }

    /// Adds the route that an operation asks for itself, unless somebody else has it.
    fn add(
        &mut self,
        origin: Origin,
        operation: &Arc<Operation>,
        descriptor: &OperationDescriptor,
        binding: &HttpBinding,
        config: &Config,
    ) {
        let name = format!("{}.{}", operation.service, descriptor.name);
        let (Some(template), Ok(method)) = (Template::parse(&binding.path), binding.method.parse()) else {
            let asked = format!("{} {}", binding.method, binding.path);
            return self.note(name, format!("{asked:?} is no route: write GET /fixed/{{field}}"));
        };
        let path = segments(&binding.path).unwrap_or_default();
        if !matches!(self.own.find(&method, &path, |_| true), Found::Nothing) {
            return self.note(name, format!("{} belongs to the edge: choose another path", binding.path));
        }
        let taken = self
            .any
            .at(&method, &template)
            .iter()
            .find(|first| first.conditions.count() == 0)
            .map(|first| first.name.clone());
        if let Some(first) = taken {
            return self.note(name, format!("{method} {} is taken by {first}", binding.path));
        }
        let mapping = Mapping::by_name(&template, binding.body.clone());
        let policies = Policies::new(&config.policies, &name, &config.versions, None).into();
        self.insert(Served {
            name,
            origin,
            host: None,
            method,
            path: binding.path.clone(),
            template,
            conditions: Conditions::default(),
            target: Target::Call(Callee::Known(operation.clone()), mapping),
            mirror: None,
            shape: Shape::default(),
            policies,
            counts: OnceLock::new(),
        });
    }

    fn insert(&mut self, mut served: Served) {
        // Changes at this route may concern what is kept of another one.
        if self.caches
            && let Some(policies) = Arc::get_mut(&mut served.policies)
        {
            policies.change(&served.method);
        }
        let served = Arc::new(served);
        self.routes.push(served.clone());
        let tree: &mut Tree = match &served.host {
            None => &mut self.any,
            Some(Host::Is(name)) => self.exact.entry(name.clone()).or_insert_with(Matcher::new),
            Some(Host::Below(name)) => self.below.entry(name.clone()).or_insert_with(Matcher::new),
        };
        tree.insert(served.method.clone(), &served.template, served.clone());
    }

    fn note_absence(&mut self, served: &Served) {
        let mirror = served.mirror.iter().map(|(callee, _)| callee);
        let absent = served.target.callees().into_iter().chain(mirror).filter_map(|callee| match callee {
            Callee::Absent(named) => Some(named.to_string()),
            Callee::Known(_) => None,
        });
        for name in absent.collect::<Vec<_>>() {
            self.note(served.name.clone(), format!("nobody serves {name} yet"));
        }
    }

    fn note(&mut self, route: String, message: String) {
        self.notes.push(Note { route, message });
    }
}

/// Returns the paths that no service can have. A configuration may take the front page, and what it closes.
fn own(config: &Config) -> Tree {
    let mut tree = Matcher::new();
    let wanted = |own: &Own| match own {
        Own::Publish => config.open_events,
        Own::Follow => config.open_feeds.is_some(),
        Own::Index => !config.routes.iter().any(|route| route.matches.path == "/"),
        Own::OpenApi | Own::Catalog => {
            let (_, path) = own.route();
            !config.routes.iter().any(|route| route.matches.path == path)
        }
        Own::Live | Own::Ready => true,
    };
    for mut served in Own::ALL.into_iter().filter(wanted).filter_map(Served::own) {
        // Whoever asks how the edge is gets an answer, however many ask.
        if matches!(served.target, Target::Own(Own::Publish)) {
            let policies = Policies::new(&config.policies, &served.name, &config.versions, None);
            served.policies = policies.into();
        }
        let (method, template) = (served.method.clone(), served.template.clone());
        tree.insert(method, &template, Arc::new(served));
    }
    tree
}

fn bindings(
    services: &BTreeMap<String, ServiceDescriptor>,
) -> impl Iterator<Item = (&ServiceDescriptor, &OperationDescriptor, &HttpBinding)> {
    services.values().flat_map(|service| {
        let bound = service.operations.iter().filter_map(|one| Some((one, one.http.as_ref()?)));
        bound.map(move |(operation, binding)| (service, operation, binding))
    })
}

fn route_of(plan: Plan, operations: &Operations, versions: &Versions) -> Served {
    let find = |named: Named| match operations.get(&(named.service.clone(), named.operation.clone())) {
        Some(operation) => Callee::Known(operation.clone()),
        None => Callee::Absent(named),
    };
    let target = match plan.goal {
        Goal::Operation(named, mapping) => Target::Call(find(named), mapping),
        Goal::Forward(named) => Target::Forward(find(named)),
        Goal::Event(event, mapping) => Target::Event(event, mapping),
        Goal::Feed(feed) => Target::Feed(feed),
        Goal::Object(object) => Target::Object(object),
        Goal::Split(shares, mapping) => {
            let mut until = 0_u32;
            let sum = |share: crate::plan::Share| {
                until = until.saturating_add(share.weight);
                (until, find(share.operation))
            };
            Target::Split(Split { shares: shares.into_iter().map(sum).collect(), mapping })
        }
        Goal::Aggregate(parts) => Target::Aggregate(
            parts
                .into_iter()
                .map(|part| Member {
                    name: part.member,
                    callee: find(part.operation),
                    mapping: part.mapping,
                    optional: part.optional,
                })
                .collect(),
        ),
    };
    let policies = Policies::new(&plan.policies, &plan.name, versions, plan.version.as_deref());
    Served {
        name: plan.name,
        origin: Origin::Config,
        host: plan.host,
        method: plan.method,
        path: plan.path,
        template: plan.template,
        conditions: plan.conditions,
        target,
        mirror: plan.mirror.map(|(named, percent)| (find(named), percent)),
        shape: plan.shape,
        policies: policies.into(),
        counts: OnceLock::new(),
    }
}

//! Where a route leads, by name.

use sinew::wire::{self, ServiceName, Subject};

use crate::{
    config::{Action, Mistake, Target, below},
    feed::FeedPlan,
    mapping::Mapping,
    matcher::Template,
    object::ObjectPlan,
};

/// Where a route leads.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Goal {
    Operation(Named, Mapping),
    /// As it is, to an operation that speaks HTTP.
    Forward(Named),
    /// To one of several, by weight.
    Split(Vec<Share>, Mapping),
    Event(EventName, Mapping),
    Feed(FeedPlan),
    Object(ObjectPlan),
    /// To all of them; one member of the response each.
    Aggregate(Vec<Part>),
}

/// An operation, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) service: String,
    pub(crate) operation: String,
}

/// One of several operations that take turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) operation: Named,
    pub(crate) weight: u32,
}

/// One member of an aggregation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) member: String,
    pub(crate) operation: Named,
    pub(crate) mapping: Mapping,
    pub(crate) optional: bool,
}

/// What an event is called and where it goes: `<domain>.<event>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventName {
    pub(crate) name: String,
    pub(crate) subject: Subject,
}

impl Goal {
    /// Reads a target; `None` where there is not exactly one, or its name is wrong.
    pub(super) fn read(
        target: &Target,
        template: Option<&Template>,
        at: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Self> {
        let given = [
            target.operation.is_some(),
            target.forward.is_some(),
            !target.split.is_empty(),
            target.event.is_some(),
            !target.events.is_empty(),
            target.workflow.is_some(),
            target.object.is_some(),
            !target.aggregate.is_empty(),
        ];
        if given.into_iter().filter(|given| *given).count() != 1 {
            let message = "say exactly one of `operation`, `forward`, `split`, `event`, `events`, `workflow`, `object` and `aggregate`";
            mistakes.push(Mistake::new(at, message));
            return None;
        }
        if target.workflow.is_none() && (target.action.is_some() || target.signal.is_some()) {
            mistakes.push(Mistake::new(at, "`action` and `signal` need a `workflow`"));
        }
        if target.events.is_empty() && target.feed.is_some() {
            mistakes.push(Mistake::new(below(at, "feed"), "belongs to `events`, which are not there"));
        }
        let fields = below(at, "fields");
        // Without a template the path is wrong, and has been told already.
        let empty = Template::default();
        let mapping =
            Mapping::read(template.unwrap_or(&empty), &target.fields, target.body.clone(), &fields, mistakes);
        if let Some(name) = &target.operation {
            return Some(Self::Operation(Named::read(name, &below(at, "operation"), mistakes)?, mapping));
        }
        if let Some(name) = &target.forward {
            if !target.fields.is_empty() || target.body.is_some() {
                mistakes.push(Mistake::new(fields, "a request that is handed on as it is has no fields"));
            }
            return Some(Self::Forward(Named::read(name, &below(at, "forward"), mistakes)?));
        }
        if let Some(name) = &target.event {
            return Some(Self::Event(EventName::read(name, &below(at, "event"), mistakes)?, mapping));
        }
        if let Some(object) = &target.object {
            if !target.fields.is_empty() || target.body.is_some() {
                mistakes.push(Mistake::new(fields, "an object takes fields of the path only, in its `name`"));
            }
            let (template, at) = (template.unwrap_or(&empty), below(at, "object"));
            return ObjectPlan::read(object, template, &at, mistakes).map(Self::Object);
        }
        if !target.events.is_empty() {
            if !target.fields.is_empty() || target.body.is_some() {
                let message = "a feed takes nothing from the request but what `feed.filter` names";
                mistakes.push(Mistake::new(fields, message));
            }
            let feed = target.feed.clone().unwrap_or_default();
            return Some(Self::Feed(FeedPlan::read(
                &target.events,
                &feed,
                template.unwrap_or(&empty),
                at,
                mistakes,
            )));
        }
        if let Some(name) = &target.workflow {
            return workflow(name, target, mapping, at, mistakes);
        }
        if !target.split.is_empty() {
            return split(target, mapping, &below(at, "split"), mistakes);
        }
        aggregate(target, template.unwrap_or(&empty), &below(at, "aggregate"), mistakes)
    }
}

impl Goal {
    /// Says which parameters of the query are there to choose the route.
    pub(super) fn chosen_by(mut self, names: impl Iterator<Item = String>) -> Self {
        if let Self::Operation(_, mapping) | Self::Split(_, mapping) | Self::Event(_, mapping) = &mut self {
            mapping.choosing = names.collect();
        }
        self
    }
}

impl Named {
    pub(super) fn read(text: &str, at: &str, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let parts = text.split_once('.').filter(|(service, operation)| {
            // Another NATS client's service may have letters that ours may not.
            [service, operation].into_iter().all(|part| !part.is_empty())
                && Subject::parse(format!("svc.{text}")).is_ok()
        });
        match parts.filter(|(_, operation)| !operation.contains('.')) {
            Some((service, operation)) => {
                Some(Self { service: service.to_owned(), operation: operation.to_owned() })
            }
            None => {
                mistakes
                    .push(Mistake::new(at, "is no operation: write service.operation, such as orders.place"));
                None
            }
        }
    }

    fn of_workflows(operation: &str) -> Self {
        Self { service: "workflow".to_owned(), operation: operation.to_owned() }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.service, self.operation)
    }
}

impl EventName {
    /// Names an event by its two parts; each has the alphabet of a name.
    ///
    /// # Errors
    /// Says which part is none.
    pub(crate) fn new(domain: &str, event: &str) -> Result<Self, String> {
        let domain: ServiceName = domain.parse().map_err(|error: wire::InvalidName| error.to_string())?;
        let event: wire::OperationName =
            event.parse().map_err(|error: wire::InvalidName| error.to_string())?;
        let name = format!("{domain}.{event}");
        let subject = Subject::event(&name).map_err(|error| error.to_string())?;
        Ok(Self { name, subject })
    }

    fn read(text: &str, at: &str, mistakes: &mut Vec<Mistake>) -> Option<Self> {
        let parts =
            text.split_once('.').ok_or_else(|| "write domain.event, such as orders.placed".to_owned());
        let named = parts.and_then(|(domain, event)| Self::new(domain, event));
        named.map_err(|reason| mistakes.push(Mistake::new(at, reason))).ok()
    }
}

fn workflow(
    name: &str,
    target: &Target,
    mapping: Mapping,
    at: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<Goal> {
    let action = target.action.unwrap_or(Action::Start);
    if target.signal.is_some() != (action == Action::Signal) {
        let message = "`action: signal` needs the event in `signal`, and no other action has one";
        mistakes.push(Mistake::new(at, message));
        return None;
    }
    let mut mapping = mapping;
    let operation = match action {
        Action::Signal => {
            let event = EventName::read(target.signal.as_deref()?, &below(at, "signal"), mistakes)?;
            return Some(Goal::Event(event, mapping));
        }
        Action::Start => {
            mapping.body = mapping.body.or_else(|| Some("input".to_owned()));
            "start"
        }
        Action::Status => "get",
        Action::Cancel => "cancel",
    };
    if action != Action::Start && !mapping.sets("id") {
        let message = "which instance? name it in the path, as {id}, or in `fields`";
        mistakes.push(Mistake::new(at, message));
    }
    Some(Goal::Operation(Named::of_workflows(operation), mapping.constant("name", name)))
}

fn split(target: &Target, mapping: Mapping, at: &str, mistakes: &mut Vec<Mistake>) -> Option<Goal> {
    let mut shares = Vec::new();
    for (index, share) in target.split.iter().enumerate() {
        let operation = Named::read(&share.operation, &format!("{at}/{index}/operation"), mistakes)?;
        shares.push(Share { operation, weight: share.weight });
    }
    let total: u64 = shares.iter().map(|share| u64::from(share.weight)).sum();
    if total == 0 || total > u64::from(u32::MAX) {
        mistakes
            .push(Mistake::new(at, "the weights have to add up to something: use 90 and 10, for example"));
    }
    Some(Goal::Split(shares, mapping))
}

fn aggregate(target: &Target, template: &Template, at: &str, mistakes: &mut Vec<Mistake>) -> Option<Goal> {
    let mut parts = Vec::new();
    for (member, part) in &target.aggregate {
        let own = below(at, member);
        let mapping = Mapping::read(template, &part.fields, None, &below(&own, "fields"), mistakes).closed();
        let operation = Named::read(&part.operation, &below(&own, "operation"), mistakes)?;
        parts.push(Part { member: member.clone(), operation, mapping, optional: part.optional });
    }
    Some(Goal::Aggregate(parts))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(target: Value) -> Result<Goal, Vec<String>> {
        let mut mistakes = Vec::new();
        let target: Target = serde_json::from_value(target).unwrap();
        let template = Template::parse("/x/{id}").unwrap();
        let goal = Goal::read(&target, Some(&template), "", &mut mistakes).filter(|_| mistakes.is_empty());
        goal.ok_or_else(|| mistakes.into_iter().map(|mistake| mistake.pointer).collect())
    }

    #[test]
    fn a_workflow_is_operations_of_the_workflow_service_or_an_event() {
        let start = read(json!({ "workflow": "place-order" })).unwrap();
        let Goal::Operation(named, mapping) = start else { panic!("{start:?}") };
        assert_eq!((named.to_string().as_str(), mapping.body.as_deref()), ("workflow.start", Some("input")));
        let status = read(json!({ "workflow": "place-order", "action": "status" })).unwrap();
        assert!(matches!(status, Goal::Operation(named, _) if named.to_string() == "workflow.get"));
        let signal = json!({ "workflow": "w", "action": "signal", "signal": "orders.approved" });
        assert!(matches!(read(signal).unwrap(), Goal::Event(event, _) if event.name == "orders.approved"));
    }

    #[test]
    fn what_leads_nowhere_is_told() {
        assert_eq!(read(json!({ "operation": "a.b", "action": "start" })), Err(vec![String::new()]));
        assert_eq!(read(json!({ "workflow": "w", "action": "signal" })), Err(vec![String::new()]));
        assert_eq!(read(json!({ "event": "Orders" })), Err(vec!["/event".to_owned()]));
        assert_eq!(
            read(json!({ "split": [{ "operation": "a.b", "weight": 0 }] })),
            Err(vec!["/split".to_owned()])
        );
        for wrong in ["a", "a.", "a.b.c", "a.*", "$JS.x", "a b.c"] {
            let found = read(json!({ "operation": wrong }));
            assert!(found.is_err() || wrong == "$JS.x", "{wrong}");
        }
    }
}

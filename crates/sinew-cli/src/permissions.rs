//! What a service needs to be allowed on NATS, derived from its descriptor. Pure.
//!
//! The lists are exact: a server that allows nothing else still lets the service start, serve, publish, consume and bury
//! what it cannot handle. Replies to callers need no subject of their own: `allow_responses` covers them.
//!
//! What could harm others is left to operators: taking a scheduled event back means purging the stream of events, and
//! giving streams of an older version what they lack means updating them.

use serde::Serialize;
use sinew::{
    COMMANDS, DEAD_LETTERS, EVENTS, LANES, REDELIVERIES,
    wire::{EventDescriptor, GroupDescriptor, ServiceDescriptor},
};

/// Where every contract stands.
const CATALOGUE: &str = "SINEW_CATALOGUE";
/// The stream of what the server gave up before any member saw it.
const GIVEN_UP: &str = "GIVEN_UP";

/// What an identity needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Permissions {
    pub(crate) publish: Vec<Grant>,
    pub(crate) subscribe: Vec<Grant>,
    /// Whether a message is answered with more than one: a request with a stream or with words that ask for an
    /// upload, a stream with words of its reader, such a word with items.
    pub(crate) many_responses: bool,
}

/// One subject, and what it is needed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Grant {
    /// The subject, wildcards included; on the subscribe side a queue group may stand behind it.
    pub(crate) subject: String,
    pub(crate) purpose: String,
}

/// Derives what `service` needs when its reply inboxes begin with `inbox`.
pub(crate) fn of(service: &ServiceDescriptor, inbox: &str) -> Permissions {
    let many_responses = service.operations.iter().any(|one| one.stream || one.upload.is_some())
        || service.requires.iter().any(|required| required.stream || required.upload);
    let mut list = Permissions { publish: Vec::new(), subscribe: Vec::new(), many_responses };
    list.hear(format!("{inbox}.>"), "replies to its own requests");
    list.say(format!("{inbox}.>"), "its own round trips to the server");
    list.operations(service);
    list.discovery(&service.name);
    for required in &service.requires {
        list.say(&required.subject, format!("calls {}.{}", required.service, required.operation));
        list.say(cancel(&required.service), format!("tells {} when nobody waits any more", required.service));
    }
    for event in &service.publishes {
        list.event(&service.name, event);
    }
    list.catalogue(&service.name);
    if !service.publishes.is_empty() || !service.groups.is_empty() {
        for stream in [EVENTS, DEAD_LETTERS, REDELIVERIES, LANES, GIVEN_UP] {
            list.stream(stream);
        }
    }
    for group in &service.groups {
        list.group(&service.name, group);
    }
    if service.limits.as_ref().is_some_and(|limits| limits.commands > 0) {
        list.commands(&service.name);
        list.later();
    }
    if service.operations.iter().any(|operation| operation.accepts) {
        list.later();
    }
    list
}

impl Permissions {
    /// Writes the block as it stands in a user's entry of a nats-server configuration.
    pub(crate) fn to_config(&self) -> String {
        let side = |name: &str, grants: &[Grant]| {
            let lines: Vec<String> =
                grants.iter().map(|grant| format!("      {}", quoted(&grant.subject))).collect();
            format!("  {name}: {{\n    allow: [\n{}\n    ]\n  }}\n", lines.join("\n"))
        };
        let (publish, subscribe) = (side("publish", &self.publish), side("subscribe", &self.subscribe));
        // Where a request has one reply, the server's own bounds are right: one message, within two minutes.
        let responses = if self.many_responses { "{ max: -1, expires: \"24h\" }" } else { "true" };
        format!("permissions: {{\n{publish}{subscribe}  allow_responses: {responses}\n}}")
    }

    fn operations(&mut self, service: &ServiceDescriptor) {
        for operation in &service.operations {
            // Only as a member of the group: nobody listens in on the requests of others with this.
            let subject = format!("{} {}", operation.subject, service.name);
            self.hear(subject, format!("serves {}.{}", service.name, operation.name));
        }
        if !service.operations.is_empty() {
            self.hear(cancel(&service.name), "hears when a caller has gone away");
            let held = format!("svc.{}.$held", service.name);
            self.hear(held, "tells callers that lost their connection whether it works for them");
        }
    }

    fn discovery(&mut self, name: &str) {
        for subject in ["$SRV.*".to_owned(), format!("$SRV.*.{name}"), format!("$SRV.*.{name}.*")] {
            self.hear(subject, "answers discovery");
        }
    }

    fn catalogue(&mut self, name: &str) {
        let stream = format!("KV_{CATALOGUE}");
        self.stream(&stream);
        self.say(format!("$JS.API.STREAM.MSG.GET.{stream}"), "reads its contract in the catalogue");
        self.say(format!("$JS.API.DIRECT.GET.{stream}.>"), "reads its contract in the catalogue");
        self.say(format!("$KV.{CATALOGUE}.{name}"), "writes its contract into the catalogue");
    }

    fn stream(&mut self, stream: &str) {
        self.say(format!("$JS.API.STREAM.INFO.{stream}"), format!("looks at {stream}"));
        self.say(format!("$JS.API.STREAM.CREATE.{stream}"), format!("creates {stream} where it is missing"));
    }

    fn event(&mut self, service: &str, event: &EventDescriptor) {
        let name = &event.name;
        self.say(&event.subject, format!("publishes {name}"));
        self.say(format!("evt-at.{service}.{name}.*"), format!("publishes {name} later"));
        self.say(format!("evt-every.{service}.*"), "publishes again and again");
        self.say(format!("$JS.API.STREAM.MSG.GET.{EVENTS}"), "compares what comes again and again");
    }

    fn group(&mut self, service: &str, group: &GroupDescriptor) {
        let name = &group.name;
        for stream in [EVENTS, REDELIVERIES, GIVEN_UP] {
            let consumer = format!("{stream}.{service}+{name}");
            self.say(format!("$JS.API.CONSUMER.INFO.{consumer}"), format!("looks where group {name} stands"));
            self.say(format!("$JS.API.CONSUMER.CREATE.{consumer}"), format!("joins group {name}"));
            self.say(
                format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}"),
                format!("takes events of group {name}"),
            );
            self.say(format!("$JS.ACK.{consumer}.>"), format!("settles events of group {name}"));
        }
        if group.ordered {
            let unpin = format!("$JS.API.CONSUMER.UNPIN.{EVENTS}.{service}+{name}");
            self.say(unpin, format!("hands group {name} over to another member"));
            let read = format!("$JS.API.DIRECT.GET.{EVENTS}");
            self.say(read, format!("reads the keys of what group {name} has out"));
        }
        self.say(format!("redo-at.{service}.{name}.*"), format!("puts long retries of group {name} off"));
        self.say(format!("dlq.{service}.{name}"), format!("keeps dead letters of group {name}"));
        if group.ordered {
            self.lanes(service, name);
        }
    }

    fn commands(&mut self, service: &str) {
        self.stream(COMMANDS);
        let consumer = format!("{COMMANDS}.{service}");
        self.say(format!("$JS.API.CONSUMER.INFO.{consumer}"), "looks where its commands stand");
        self.say(format!("$JS.API.CONSUMER.CREATE.{consumer}"), "joins those who take its commands");
        self.say(format!("$JS.API.CONSUMER.MSG.NEXT.{consumer}"), "takes commands");
        self.say(format!("$JS.ACK.{consumer}.>"), "settles commands");
    }

    /// What work that is finished later needs, whether it came as a command or was accepted.
    fn later(&mut self) {
        for operation in ["complete", "fail", "heartbeat"] {
            self.say(format!("svc.workflow.{operation}"), "tells workflows how its work stands");
        }
        self.say(cancel("workflow"), "tells workflow when nobody waits any more");
        self.hear("svc.workflow.$cancel.>", "hears when a workflow gives its work up");
    }

    fn lanes(&mut self, service: &str, group: &str) {
        let purpose = format!("spills what waits in group {group}");
        self.say(format!("lane.{service}.{group}.*"), purpose.clone());
        self.say(format!("$JS.API.STREAM.MSG.GET.{LANES}"), purpose.clone());
        self.say(format!("$JS.API.STREAM.MSG.DELETE.{LANES}"), purpose);
    }

    fn say(&mut self, subject: impl Into<String>, purpose: impl Into<String>) {
        add(&mut self.publish, subject.into(), purpose.into());
    }

    fn hear(&mut self, subject: impl Into<String>, purpose: impl Into<String>) {
        add(&mut self.subscribe, subject.into(), purpose.into());
    }
}

/// Where a service hears that a caller went away.
fn cancel(service: &str) -> String {
    format!("svc.{service}.$cancel")
}

fn add(grants: &mut Vec<Grant>, subject: String, purpose: String) {
    if grants.iter().all(|known| known.subject != subject) {
        grants.push(Grant { subject, purpose });
    }
}

fn quoted(subject: &str) -> String {
    format!("\"{}\"", subject.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn orders() -> ServiceDescriptor {
        let event =
            json!({ "name": "orders.placed", "subject": "evt.orders.placed", "version": 1, "schema": {} });
        let group = json!({ "name": "mailer", "event": event, "concurrency": 4, "attempts": 8, "retry_budget_ms": 1 });
        let operation = json!({ "name": "place", "subject": "svc.orders.place", "request": {}, "reply": {} });
        let required = json!({ "service": "stock", "operation": "take", "subject": "svc.stock.take" });
        serde_json::from_value(json!({
            "name": "orders", "version": "1.0.0", "operations": [operation], "groups": [group],
            "publishes": [event], "requires": [required, required],
        }))
        .unwrap()
    }

    #[test]
    fn a_service_may_do_what_it_says_it_does_and_no_more() {
        let list = of(&orders(), "_INBOX");
        let publish: Vec<&str> = list.publish.iter().map(|grant| grant.subject.as_str()).collect();
        for needed in ["svc.stock.take", "evt.orders.placed", "dlq.orders.mailer"] {
            assert_eq!(publish.iter().filter(|subject| **subject == needed).count(), 1, "{needed}");
        }
        assert!(publish.iter().all(|subject| !matches!(*subject, ">" | "$JS.>" | "evt.>" | "svc.>")));
        assert!(list.subscribe.iter().any(|grant| grant.subject == "svc.orders.place orders"));
    }

    #[test]
    fn only_an_ordered_group_hands_over_and_reads_keys() {
        let mut service = orders();
        let needs = |service: &ServiceDescriptor, subject: &str| {
            of(service, "_INBOX").publish.iter().any(|grant| grant.subject == subject)
        };
        for ordered in [false, true] {
            service.groups[0].ordered = ordered;
            assert_eq!(needs(&service, "$JS.API.CONSUMER.UNPIN.EVENTS.orders+mailer"), ordered);
            assert_eq!(needs(&service, "$JS.API.DIRECT.GET.EVENTS"), ordered);
        }
    }

    #[test]
    fn only_an_ordered_group_may_spill() {
        let mut service = orders();
        let spills = |service: &ServiceDescriptor| {
            of(service, "_INBOX").publish.iter().any(|grant| grant.subject == "lane.orders.mailer.*")
        };
        assert!(!spills(&service));
        service.groups[0].ordered = true;
        assert!(spills(&service));
    }

    #[test]
    fn only_who_finishes_work_later_speaks_to_workflows() {
        let mut service = orders();
        let told = |service: &ServiceDescriptor| {
            let list = of(service, "_INBOX");
            let all = list.publish.into_iter().chain(list.subscribe).map(|grant| grant.subject);
            all.filter(|subject| subject.starts_with("svc.workflow.")).collect::<Vec<_>>()
        };
        assert!(told(&service).is_empty());
        service.operations[0].accepts = true;
        let expected = ["complete", "fail", "heartbeat", "$cancel", "$cancel.>"];
        assert_eq!(told(&service), expected.map(|operation| format!("svc.workflow.{operation}")));
    }

    #[test]
    fn a_service_without_events_touches_no_stream_of_events() {
        let mut service = orders();
        service.groups.clear();
        service.publishes.clear();
        let list = of(&service, "_INBOX");
        assert!(list.publish.iter().all(|grant| !grant.subject.contains("EVENTS")), "{list:?}");
    }

    #[test]
    fn an_identity_of_its_own_never_needs_the_inboxes_of_others() {
        let list = of(&orders(), "_INBOX_orders");
        let all = list.publish.iter().chain(&list.subscribe);
        assert!(all.clone().all(|grant| !grant.subject.starts_with("_INBOX.")));
        assert_eq!(all.filter(|grant| grant.subject == "_INBOX_orders.>").count(), 2);
    }
}

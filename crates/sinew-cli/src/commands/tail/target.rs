//! What is looked at: a subject, an event or a consumer group, told apart by how it is written. Pure.

use std::str::FromStr;

use sinew::wire::Subject;

/// First tokens of subjects that are no events.
const ROOTS: [&str; 4] = ["svc", "evt", "dlq", "wf"];

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Whatever is published on a subject, wildcards allowed.
    Subject(String),
    /// A consumer group.
    Group(GroupName),
}

/// A consumer group, typed as `<service>/<group>` or `<group>@<service>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupName {
    pub(crate) service: String,
    pub(crate) group: String,
}

impl GroupName {
    /// Returns the name of its durable consumer.
    pub(crate) fn consumer(&self) -> String {
        format!("{}+{}", self.service, self.group)
    }

    /// Returns where its dead letters go.
    pub(crate) fn dead_letters(&self) -> String {
        format!("dlq.{}.{}", self.service, self.group)
    }

    /// Reads the name of a durable consumer.
    pub(crate) fn of_consumer(name: &str) -> Option<Self> {
        let (service, group) = name.split_once('+')?;
        Some(Self { service: service.to_owned(), group: group.to_owned() })
    }
}

impl std::fmt::Display for GroupName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.service, self.group)
    }
}

impl FromStr for GroupName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = match text.split_once('/') {
            Some(parts) => Some(parts),
            None => text.split_once('@').map(|(group, service)| (service, group)),
        };
        let name = |text: &str| Subject::parse(text).is_ok() && !text.contains(['.', '/', '@', '+']);
        parts
            .filter(|(service, group)| name(service) && name(group))
            .map(|(service, group)| Self { service: service.to_owned(), group: group.to_owned() })
            .ok_or_else(|| "write a group as <service>/<group>, such as orders/mailer".to_owned())
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(['/', '@']) {
            return text.parse().map(Self::Group);
        }
        let first = text.split('.').next().unwrap_or_default();
        let whole = ROOTS.contains(&first) || first.starts_with(['$', '_', '*', '>']);
        // What begins like none of our subjects is an event, as `sinew publish` takes it.
        let pattern = if whole { text.to_owned() } else { format!("evt.{text}") };
        if is_pattern(&pattern) {
            Ok(Self::Subject(pattern))
        } else {
            Err("write an event such as orders.placed, a subject such as 'svc.orders.>', or a group such as \
                 orders/mailer"
                .to_owned())
        }
    }
}

/// Says whether messages can be listened to on `text`: tokens, `*` for one of them, `>` for all that follow.
fn is_pattern(text: &str) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    let last = tokens.len() - 1;
    tokens.iter().enumerate().all(|(at, token)| match *token {
        "*" => true,
        ">" => at == last,
        token => Subject::parse(token).is_ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Option<String> {
        match text.parse().ok()? {
            Target::Subject(subject) => Some(subject),
            Target::Group(group) => Some(format!("group {group}")),
        }
    }

    #[test]
    fn what_is_meant_shows_in_how_it_is_written() {
        for (text, meant) in [
            ("orders.placed", "evt.orders.placed"),
            ("orders.*", "evt.orders.*"),
            ("evt.orders.>", "evt.orders.>"),
            ("svc.orders.place", "svc.orders.place"),
            ("$SRV.>", "$SRV.>"),
            (">", ">"),
            ("orders/mailer", "group orders/mailer"),
            ("mailer@orders", "group orders/mailer"),
        ] {
            assert_eq!(target(text).as_deref(), Some(meant), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for bad in ["", "orders..placed", "evt.>.a", "a b.c", "/mailer", "a/b/c", "a@b@c", "orders/ma*"] {
            assert_eq!(target(bad), None, "{bad}");
        }
    }
}

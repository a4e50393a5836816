//! What one configuration has and another has not: routes by the requests they take, webhooks by their names.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{RouteInfo, WebhookInfo, overview};
use crate::{Config, config::Webhook, table::Services};

/// What one configuration has and another has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Routes that were not there before.
    pub added: Vec<RouteInfo>,
    /// Routes that are there no more.
    pub removed: Vec<RouteInfo>,
    /// Routes that take the same requests elsewhere, or otherwise.
    pub changed: Vec<Change>,
    /// The same of webhooks.
    #[serde(skip_serializing_if = "WebhookChanges::is_empty")]
    pub webhooks: WebhookChanges,
}

/// A route before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// As it was.
    pub before: RouteInfo,
    /// As it is.
    pub after: RouteInfo,
}

/// What became of webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WebhookChanges {
    /// Webhooks that were not there before.
    pub added: Vec<WebhookInfo>,
    /// Webhooks that are there no more.
    pub removed: Vec<WebhookInfo>,
    /// Webhooks of which something is otherwise.
    pub changed: Vec<WebhookChange>,
}

/// A webhook before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookChange {
    /// As it was.
    pub before: WebhookInfo,
    /// As it is.
    pub after: WebhookInfo,
    /// The members that differ, such as `url`. `secrets` may be other values at the same places.
    pub differs: Vec<String>,
}

impl Changes {
    /// Compares two configurations where these services are there.
    ///
    /// ```
    /// # use sinew_edge::{Changes, Config, Services};
    /// let (before, after) = (Config::default(), Config { open_events: false, ..Config::default() });
    /// let changes = Changes::of(&before, &after, &Services::default());
    /// assert_eq!(changes.removed[0].path, "/events/{domain}/{event}");
    /// ```
    pub fn of(before: &Config, after: &Config, services: &Services) -> Self {
        let routes = |config| overview(config, services).routes;
        let webhooks = WebhookChanges::between(&before.webhooks, &after.webhooks);
        Self { webhooks, ..Self::between(&routes(before), &routes(after)) }
    }

    /// Compares routes by the requests they take.
    pub fn between(before: &[RouteInfo], after: &[RouteInfo]) -> Self {
        let by_key = |routes: &[RouteInfo]| -> BTreeMap<_, RouteInfo> {
            routes.iter().map(|route| (route.key(), route.clone())).collect()
        };
        let (mut old, new) = (by_key(before), by_key(after));
        let mut changes = Self::default();
        for (key, after) in new {
            match old.remove(&key) {
                None => changes.added.push(after),
                Some(before) if before != after => changes.changed.push(Change { before, after }),
                Some(_) => {}
            }
        }
        changes.removed = old.into_values().collect();
        changes
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.changed.is_empty()
            && self.webhooks.is_empty()
    }
}

impl WebhookChanges {
    /// Compares webhooks by their names.
    pub fn between(before: &[Webhook], after: &[Webhook]) -> Self {
        let mut old: BTreeMap<&str, &Webhook> = before.iter().map(|one| (one.name.as_str(), one)).collect();
        let mut changes = Self::default();
        for after in after {
            match old.remove(after.name.as_str()) {
                None => changes.added.push(WebhookInfo::of(after)),
                Some(before) if before != after => changes.changed.push(WebhookChange {
                    before: WebhookInfo::of(before),
                    after: WebhookInfo::of(after),
                    differs: differs(before, after),
                }),
                Some(_) => {}
            }
        }
        changes.removed = old.into_values().map(WebhookInfo::of).collect();
        changes
    }

    /// Says whether there are none.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    fn lines(&self) -> Vec<String> {
        let added = self.added.iter().map(|one| format!("+ {one}"));
        let removed = self.removed.iter().map(|one| format!("- {one}"));
        let changed = self.changed.iter();
        let changed = changed.map(|one| format!("~ {}, other {}", one.after, one.differs.join(", ")));
        added.chain(removed).chain(changed).collect()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changed");
        }
        let added = self.added.iter().map(|route| format!("+ {route}"));
        let removed = self.removed.iter().map(|route| format!("- {route}"));
        let changed = self.changed.iter().map(|one| format!("~ {}, before {}", one.after, one.before.to));
        let routes = added.chain(removed).chain(changed);
        f.write_str(&routes.chain(self.webhooks.lines()).collect::<Vec<_>>().join("\n"))
    }
}

/// Names the members that two webhooks of one name differ in.
fn differs(before: &Webhook, after: &Webhook) -> Vec<String> {
    let (old, new) = (members(before), members(after));
    let mut names: Vec<String> =
        old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name)).cloned().collect();
    // What a secret is does not stand in the file; where it stands may be the same.
    if before.secrets != after.secrets {
        names.push("secrets".to_owned());
    }
    names.sort_unstable();
    names.dedup();
    names
}

fn members(webhook: &Webhook) -> Map<String, Value> {
    match serde_json::to_value(webhook) {
        Ok(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(path: &str, to: &str) -> Value {
        json!({ "match": { "method": "GET", "path": path }, "to": { "operation": to } })
    }

    fn webhook(name: &str, more: Value) -> Value {
        let mut webhook = json!({ "name": name, "events": ["orders.*"], "url": "https://a.example/" });
        webhook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        webhook
    }

    fn between(before: Value, after: Value) -> Changes {
        let read = |config| Config::read(&config).unwrap();
        Changes::of(&read(before), &read(after), &Services::default())
    }

    #[test]
    fn what_changed_is_told_by_the_requests_concerned() {
        let before = json!({ "routes": [route("/a", "a.a"), route("/b", "a.b"), route("/c", "a.c")] });
        let after = json!({ "routes": [route("/a", "a.a"), route("/b", "b.b"), route("/d", "a.d")] });
        let changes = between(before.clone(), after);
        assert_eq!(changes.to_string(), "+ GET /d → a.d\n- GET /c → a.c\n~ GET /b → b.b, before a.b");
        assert!(between(before.clone(), before).is_empty());
    }

    #[test]
    fn webhooks_are_compared_by_name_and_what_differs_is_named() {
        let before = json!({ "webhooks": [webhook("a", json!({})), webhook("b", json!({})), webhook("c", json!({}))] });
        let after = json!({ "webhooks": [
            webhook("a", json!({})),
            webhook("b", json!({ "url": "https://b.example/", "order_by": "/order", "secrets": [{ "env": "KEY" }] })),
            webhook("d", json!({})),
        ] });
        let expected = "+ webhook d [orders.*] → https://a.example/\n- webhook c [orders.*] → https://a.example/\n\
                        ~ webhook b [orders.*] → https://b.example/, other order_by, secrets, url";
        let changes = between(before.clone(), after);
        assert_eq!(changes.to_string(), expected);
        assert!(!changes.webhooks.changed[0].before.signed && changes.webhooks.changed[0].after.signed);
        assert!(serde_json::to_value(between(before.clone(), before)).unwrap().get("webhooks").is_none());
    }

    #[test]
    fn another_secret_at_the_same_place_is_a_change() {
        let config = json!({ "webhooks": [webhook("a", json!({ "secrets": [{ "env": "KEY" }] }))] });
        let read = |value: &str| {
            let mut config = Config::read(&config).unwrap();
            config.resolve_secrets(|_| Some(value.to_owned()), |_| unreachable!()).unwrap();
            config
        };
        let changes = Changes::of(&read("old"), &read("new"), &Services::default());
        assert_eq!(changes.webhooks.changed[0].differs, ["secrets"]);
        assert!(!serde_json::to_string(&changes).unwrap().contains("old"));
    }
}

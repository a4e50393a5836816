//! Authentication policies: found by name, checked, and read with secrets in place of their values.

use std::sync::Arc;

use serde_json::Value;

use super::Lower;
use crate::code;
use crate::language::template::Template;
use crate::language::yaml::{Node, Tree};

/// What each scheme needs.
const SCHEMES: &[(&str, &[&str])] = &[
    ("basic", &["username", "password"]),
    ("digest", &["username", "password"]),
    ("bearer", &["token"]),
    ("oauth2", &["authority", "grant"]),
    ("oidc", &["authority", "grant"]),
];

impl<'a> Lower<'a> {
    /// Reads an authentication policy, or the one of that name below `use.authentications`.
    pub(super) fn authentication(&mut self, node: &'a Node) -> Template {
        let policy = self.policy(node);
        policy.map_or_else(|| Template::Constant(Arc::new(Value::Null)), |policy| self.scheme(policy))
    }

    /// Follows the name of an authentication policy.
    pub(super) fn policy(&mut self, node: &'a Node) -> Option<&'a Node> {
        match node.get("use").unwrap_or(node).text() {
            Some(name) => {
                self.reuse("authentications", "authentication", node.get("use").unwrap_or(node), name)
            }
            None => Some(node),
        }
    }

    /// Reads a policy: a scheme and what it needs, or the secret that holds that.
    fn scheme(&mut self, policy: &'a Node) -> Template {
        let read = policy.entries().iter().map(|(scheme, body)| {
            self.check_scheme(&scheme.text, body);
            if let Some((secret, name)) = body.get("use").and_then(|secret| Some((secret, secret.text()?))) {
                self.declared(secret, name);
            }
            (scheme.text.clone(), self.scheme_body(&scheme.text, body))
        });
        Template::object(read.collect())
    }

    /// Reads what a scheme needs, in which the addresses of OAuth 2 and OpenID Connect are URI templates.
    fn scheme_body(&mut self, scheme: &str, body: &'a Node) -> Template {
        let Tree::Map(entries) = &body.tree else { return self.template(body) };
        let asks = matches!(scheme, "oauth2" | "oidc");
        let read = entries.iter().map(|(key, value)| {
            let read = match key.text.as_str() {
                "authority" if asks => Template::read_uri(value, self),
                "endpoints" if asks => Template::object(
                    value
                        .entries()
                        .iter()
                        .map(|(key, uri)| (key.text.clone(), Template::read_uri(uri, self)))
                        .collect(),
                ),
                "issuers" if asks && !value.items().is_empty() => {
                    Template::List(value.items().iter().map(|uri| Template::read_uri(uri, self)).collect())
                }
                _ => self.template(value),
            };
            (key.text.clone(), read)
        });
        Template::object(read.collect())
    }

    /// Checks that a policy says all it has to, unless a secret does.
    fn check_scheme(&mut self, scheme: &str, body: &Node) {
        let (_, needed) = SCHEMES.iter().find(|(name, _)| *name == scheme).unwrap_or(&("", &[]));
        if !matches!(body.tree, Tree::Map(_)) || body.get("use").is_some() {
            return;
        }
        for key in needed.iter().filter(|key| body.get(key).is_none()) {
            let finding = self.report.error(code::MISSING_KEY, body, format!("`{scheme}` needs `{key}`"));
            finding.fix(format!("add `{key}:`, or `use:` and the secret that holds all of it"));
        }
    }

    /// Checks the policies on their own, to report mistakes in those nobody uses.
    pub(super) fn check_policies(&mut self) {
        let policies = self.root.get("use").and_then(|reusable| reusable.get("authentications"));
        for (_, policy) in policies.map(Node::entries).unwrap_or_default() {
            if let Some(other) = policy.get("use") {
                let finding =
                    self.report.error(code::INVALID_VALUE, other, "a named policy cannot name another one");
                finding.fix("write its scheme here, such as `basic:` or `bearer:`");
            } else {
                self.leaving(|lower| lower.scheme(policy));
            }
        }
    }
}

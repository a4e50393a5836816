//! Calls and runs that leave the bus: their arguments as the specification writes them, with defaults filled in and
//! authentication policies in place of their names.

use serde_json::{Value, json};

use super::Lower;
use crate::language::plan::{Call, Kind};
use crate::language::template::Template;
use crate::language::yaml::{Node, Tree};
use crate::{Need, Protocol, Target, code};

/// What a value among the arguments is, where it is more than a value.
enum Role {
    /// A URI template, or an object with `uri` and `authentication`.
    Endpoint,
    /// An authentication policy, or the name of one.
    Authentication,
}

/// Arguments that are more than values, by their path.
const ROLES: &[(Protocol, &[&str], Role)] = &[
    (Protocol::Http, &["endpoint"], Role::Endpoint),
    (Protocol::OpenApi, &["document", "endpoint"], Role::Endpoint),
    (Protocol::OpenApi, &["authentication"], Role::Authentication),
    (Protocol::AsyncApi, &["document", "endpoint"], Role::Endpoint),
    (Protocol::AsyncApi, &["authentication"], Role::Authentication),
    (Protocol::Grpc, &["proto", "endpoint"], Role::Endpoint),
    (Protocol::Grpc, &["service", "authentication"], Role::Authentication),
    (Protocol::A2a, &["agentCard", "endpoint"], Role::Endpoint),
    (Protocol::A2a, &["server"], Role::Endpoint),
    (Protocol::Mcp, &["transport", "http", "endpoint"], Role::Endpoint),
    (Protocol::Script, &["script", "source", "endpoint"], Role::Endpoint),
];

/// Parts of which exactly one must be there, by the path of what they are part of.
const CHOICES: &[(Protocol, &[&str], &[&str])] = &[
    (Protocol::AsyncApi, &[], &["operation", "channel"]),
    (Protocol::AsyncApi, &[], &["message", "subscription"]),
    (Protocol::A2a, &[], &["agentCard", "server"]),
    (Protocol::Mcp, &["transport"], &["http", "stdio"]),
    (Protocol::Script, &["script"], &["code", "source"]),
];

/// What runs outside, by the key of `run`.
const PROCESSES: &[(&str, Protocol)] =
    &[("container", Protocol::Container), ("script", Protocol::Script), ("shell", Protocol::Shell)];

impl<'a> Lower<'a> {
    /// Finds the protocol of a function of the specification.
    pub(super) fn protocol(function: &str) -> Option<Protocol> {
        let protocols = [
            Protocol::Http,
            Protocol::OpenApi,
            Protocol::Grpc,
            Protocol::AsyncApi,
            Protocol::Mcp,
            Protocol::A2a,
        ];
        protocols.into_iter().find(|protocol| protocol.as_str() == function)
    }

    /// Says whether the arguments of a task leave the engine for somebody who replaces placeholders.
    pub(super) fn leaves(&self, keyword: &str, value: Option<&Node>) -> bool {
        let Some(value) = value else { return false };
        match keyword {
            "call" => value.text().is_some_and(|function| {
                let functions = self.root.get("use").and_then(|reusable| reusable.get("functions"));
                let hidden = functions.is_some_and(|functions| functions.get(function).is_some());
                Self::protocol(function).is_some() && !hidden
            }),
            "run" => PROCESSES.iter().any(|(key, _)| value.get(key).is_some()),
            _ => false,
        }
    }

    /// Plans a call of a protocol.
    pub(super) fn protocol_call(&mut self, protocol: Protocol, name: &'a Node, with: &'a Node) -> Kind {
        let timeout = with.get("timeout").filter(|_| protocol == Protocol::Mcp);
        let timeout = timeout.and_then(|timeout| self.length(timeout));
        let mut call = self.outside(protocol, name, with);
        call.timeout = timeout;
        Kind::Call(Box::new(call))
    }

    /// Plans a `run` of a process.
    pub(super) fn run(&mut self, node: &'a Node) -> Kind {
        let parts: Vec<&str> = PROCESSES.iter().map(|(key, _)| *key).chain(["workflow"]).collect();
        let present: Vec<&str> = parts.iter().copied().filter(|key| node.get(key).is_some()).collect();
        if present.len() != 1 {
            self.choose_one(node, &parts, present.len());
            return Kind::Foreign;
        }
        let Some((_, protocol)) = PROCESSES.iter().find(|(key, _)| node.get(key).is_some()) else {
            return node.get("workflow").map_or(Kind::Foreign, |workflow| self.child(node, workflow));
        };
        self.choices(*protocol, node);
        self.check_lifetime(node);
        let mut call = self.outside(*protocol, node, node);
        call.wait = node.get("await").and_then(Node::bool).unwrap_or(true);
        Kind::Call(Box::new(call))
    }

    fn outside(&mut self, protocol: Protocol, place: &Node, arguments: &'a Node) -> Call {
        self.need(Need::Protocol(protocol), place);
        let authorization = self.authorization(protocol, arguments);
        let mut body = self.leaving(|lower| lower.arguments(protocol, arguments, &mut Vec::new()));
        body.complete(defaults(protocol));
        Call {
            body: Some(body),
            authorization,
            limit: limit(protocol),
            ..Call::to(Target::Protocol(protocol))
        }
    }

    /// Reads arguments, with what is more than a value at its place.
    pub(super) fn arguments(
        &mut self,
        protocol: Protocol,
        node: &'a Node,
        path: &mut Vec<&'a str>,
    ) -> Template {
        let role = ROLES.iter().find(|(of, known, _)| *of == protocol && known == path);
        match (role.map(|(.., role)| role), &node.tree) {
            (Some(Role::Endpoint), _) => self.endpoint(node),
            (Some(Role::Authentication), _) => self.authentication(node),
            // Nothing has a role below a list, or deeper than three keys.
            (None, Tree::Map(entries)) if path.len() < 3 => {
                let read = entries.iter().map(|(key, value)| {
                    path.push(&key.text);
                    let read = self.arguments(protocol, value, path);
                    path.pop();
                    (key.text.clone(), read)
                });
                Template::object(read.collect())
            }
            _ => self.template(node),
        }
    }

    /// Reads an endpoint: a URI template, or an object with one and how to authenticate there.
    pub(super) fn endpoint(&mut self, node: &'a Node) -> Template {
        let Tree::Map(entries) = &node.tree else { return Template::read_uri(node, self) };
        let read = entries.iter().map(|(key, value)| {
            let read = match key.text.as_str() {
                "authentication" => self.authentication(value),
                "uri" => Template::read_uri(value, self),
                _ => self.template(value),
            };
            (key.text.clone(), read)
        });
        Template::object(read.collect())
    }

    /// Returns the scheme that `$authorization` tells of.
    pub(super) fn authorization(&mut self, protocol: Protocol, arguments: &'a Node) -> Option<&'static str> {
        let at = |path: &[&str]| path.iter().try_fold(arguments, |node, key| node.get(key));
        let found =
            ROLES.iter().filter(|(of, ..)| *of == protocol).find_map(|(_, path, role)| match role {
                // How a document is fetched is not how the call is authorized.
                Role::Endpoint if path.len() == 2 => None,
                Role::Endpoint => at(path)?.get("authentication"),
                Role::Authentication => at(path),
            })?;
        let (scheme, _) = self.policy(found)?.entries().first()?;
        Some(match scheme.text.as_str() {
            "basic" => "Basic",
            "digest" => "Digest",
            _ => "Bearer",
        })
    }

    pub(super) fn choices(&mut self, protocol: Protocol, node: &Node) {
        for (_, path, parts) in CHOICES.iter().filter(|(of, ..)| *of == protocol) {
            let Some(node) = path.iter().try_fold(node, |node, key| node.get(key)) else { continue };
            let present = parts.iter().filter(|part| node.get(part).is_some()).count();
            // An agent's card comes before its server, which is then ignored.
            let several = present > 1 && protocol != Protocol::A2a;
            if (present == 0 || several) && matches!(node.tree, Tree::Map(_)) {
                self.choose_one(node, parts, present);
            }
        }
    }

    fn choose_one(&mut self, node: &Node, parts: &[&str], present: usize) {
        let code = if present == 0 { code::MISSING_KEY } else { code::INVALID_VALUE };
        let message = format!("exactly one of {} must be here, found {present}", parts.join(", "));
        self.report.error(code, node, message);
    }

    fn check_lifetime(&mut self, node: &Node) {
        let Some(lifetime) = node.get("container").and_then(|container| container.get("lifetime")) else {
            return;
        };
        let eventually = lifetime.get("cleanup").and_then(Node::text) == Some("eventually");
        if eventually && lifetime.get("after").is_none() {
            self.report
                .error(code::MISSING_KEY, lifetime, "`cleanup: eventually` needs `after`")
                .fix("add `after:` and how long to keep the container");
        }
    }
}

/// What arguments are when they are absent.
fn defaults(protocol: Protocol) -> Vec<(&'static str, Value)> {
    match protocol {
        Protocol::Http | Protocol::OpenApi => vec![("output", json!("content")), ("redirect", json!(false))],
        Protocol::Mcp => vec![("protocolVersion", json!("2025-06-18"))],
        Protocol::Shell | Protocol::Script | Protocol::Container => {
            vec![("await", json!(true)), ("return", json!("stdout"))]
        }
        Protocol::Grpc | Protocol::AsyncApi | Protocol::A2a | Protocol::Human => Vec::new(),
    }
}

/// How long a call may take when nothing says otherwise, in milliseconds: models and processes think for longer.
fn limit(protocol: Protocol) -> u64 {
    match protocol {
        Protocol::Http | Protocol::OpenApi | Protocol::Grpc | Protocol::AsyncApi | Protocol::Human => 30_000,
        Protocol::Mcp | Protocol::A2a => 120_000,
        Protocol::Shell | Protocol::Script | Protocol::Container => 600_000,
    }
}

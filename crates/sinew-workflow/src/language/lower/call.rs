//! Calls: functions of the document, operations on the bus, and the functions of the specification.

use super::task::{looks_like, saga_key};
use super::{Lower, MAX_CALLS};
use crate::language::plan::{Call, Id, Kind};
use crate::language::yaml::{Node, join};
use crate::{Operation, Target, code};

/// The functions of the specification.
const STANDARD: &[&str] = &["http", "grpc", "openapi", "asyncapi", "a2a", "mcp"];

impl<'a> Lower<'a> {
    pub(super) fn call(&mut self, node: &'a Node, name: &'a Node, pointer: &str) -> Kind {
        let Some(function) = name.text() else { return Kind::Foreign };
        let with = node.get("with");
        // A function of the document hides everything else of that name.
        let functions = self.root.get("use").and_then(|reusable| reusable.get("functions"));
        if let Some(body) = functions.and_then(|functions| functions.get(function)) {
            return self.function(node, name, function, body, pointer, None);
        }
        match function {
            "human" => self.human(name, with),
            "nats" => with.map_or(Kind::Foreign, |with| self.nats(with)),
            "saga.compensate" => Kind::Compensate,
            _ if STANDARD.contains(&function) => match Self::protocol(function).zip(with) {
                Some((protocol, with)) => {
                    self.choices(protocol, with);
                    match with.get("subscription") {
                        None => self.protocol_call(protocol, name, with),
                        Some(subscription) => self.subscription(protocol, with, subscription, pointer),
                    }
                }
                None => Kind::Foreign,
            },
            _ if function.contains(['@', ':', '/']) => self.external(node, name, function, pointer),
            _ => match function
                .split_once('.')
                .filter(|(service, operation)| is_name(service) && is_name(operation))
            {
                Some((service, operation)) => {
                    let body = with.map(|with| self.template(with));
                    self.operation(service, operation, |call| call.body = body)
                }
                None => self.unknown(name, function),
            },
        }
    }

    /// Plans a call of a function; `file` is the one it stands in, when that is not the workflow's.
    pub(super) fn function(
        &mut self,
        node: &'a Node,
        name: &'a Node,
        function: &str,
        body: &'a Node,
        pointer: &str,
        file: Option<&str>,
    ) -> Kind {
        let identity = file.unwrap_or(function);
        if self.calling.iter().any(|open| open == identity) {
            let finding = self.report.error(code::UNKNOWN_NAME, name, format!("`{function}` calls itself"));
            finding.fix("functions cannot be recursive");
            return Kind::Foreign;
        }
        if self.calling.len() >= MAX_CALLS {
            let message = format!("functions call each other more than {MAX_CALLS} times deep");
            self.report.error(code::LIMIT, name, message).fix("call some of them from the workflow itself");
            return Kind::Foreign;
        }
        let arguments = node.get("with").map(|with| self.template(with));
        // A function sees its input and not the loops and errors around its call.
        let scope = std::mem::take(&mut self.scope);
        self.calling.push(identity.to_owned());
        if file.is_some() {
            self.check_function(body);
        }
        let id = self.task(function, body, join(pointer, function), &[]);
        self.calling.pop();
        self.scope = scope;
        // The call's own word on compensation replaces the function's.
        if saga_key(node, "compensate").is_some() {
            self.forget_compensation(id);
        }
        Kind::Function { arguments, body: id }
    }

    fn forget_compensation(&mut self, id: Id) {
        let id = match self.plan.task(id).map(|task| &task.kind) {
            Some(Kind::Extended(extended)) => extended.body,
            _ => id,
        };
        let task = usize::try_from(id.0).ok().and_then(|index| self.plan.tasks.get_mut(index));
        task.into_iter().for_each(|task| task.compensate = None);
    }

    fn nats(&mut self, with: &'a Node) -> Kind {
        let body = with.get("body").map(|body| self.template(body));
        let headers = with.get("headers").map(|headers| self.template(headers));
        let subject = with.get("subject").map(|subject| self.template(subject));
        let timeout = with.get("timeout").and_then(|timeout| self.length(timeout));
        let command = with.get("delivery").and_then(Node::text) == Some("command");
        let service = self.constant_name(with.get("service"));
        let operation = self.constant_name(with.get("endpoint"));
        let (Some(service), Some(operation)) = (service, operation) else { return Kind::Foreign };
        self.operation(service, operation, |call| {
            let plain = Call::to(call.target.clone());
            // A command waits for its worker, so nothing said means a day.
            let limit = if command { Call::COMMAND_LIMIT } else { plain.limit };
            *call = Call { subject, body, headers, timeout, command, limit, ..plain }
        })
    }

    fn operation(&mut self, service: &str, operation: &str, fill: impl FnOnce(&mut Call)) -> Kind {
        self.operations.insert((service.to_owned(), operation.to_owned()));
        let (service, operation) = (service.into(), operation.into());
        let target = Target::Operation(Operation { service, operation, subject: None });
        let mut call = Call::to(target);
        fill(&mut call);
        Kind::Call(Box::new(call))
    }

    /// Reads the name of a service or operation, which must be known before the workflow runs.
    fn constant_name<'n>(&mut self, node: Option<&'n Node>) -> Option<&'n str> {
        let (node, name) = node.and_then(|node| Some((node, node.text()?)))?;
        if is_name(name) {
            return Some(name);
        }
        let finding = self.report.error(
            code::INVALID_VALUE,
            node,
            format!("`{name}` is not the name of a service or operation"),
        );
        finding.fix("write letters, digits, `-` and `_`; expressions are not possible here");
        None
    }

    fn unknown(&mut self, name: &Node, function: &str) -> Kind {
        let functions = self.root.get("use").and_then(|reusable| reusable.get("functions"));
        let declared =
            functions.map(Node::entries).unwrap_or_default().iter().map(|(key, _)| key.text.as_str());
        let known: Vec<&str> = declared.chain(STANDARD.iter().copied()).chain(["nats", "human"]).collect();
        let finding =
            self.report.error(code::UNKNOWN_NAME, name, format!("there is no function `{function}`"));
        if looks_like(function, known.iter().copied()) {
            finding.suggest(function, known);
        } else {
            finding.fix("define it below `use.functions`, or call an operation as `service.operation`");
        }
        Kind::Foreign
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

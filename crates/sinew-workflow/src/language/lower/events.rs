//! What tasks and schedules listen for: choices of events, filters, correlation, and the tasks for each event.

use super::Lower;
use super::place::Place;
use crate::language::jq::Expression;
use crate::language::plan::{
    Correlate, EventFilter, Events, Foreach, From, Kind, Listen, Mode, Read, Subscription, Until, Wants,
};
use crate::language::template::Template;
use crate::language::yaml::{Node, Tree};
use crate::{Need, Protocol, code};

impl<'a> Lower<'a> {
    pub(super) fn listen(&mut self, node: &'a Node, listen: &'a Node, pointer: &str) -> Kind {
        self.need(Need::Events, listen);
        let Some(to) = listen.get("to") else { return Kind::Foreign };
        let events = self.events(to);
        let each = node.get("foreach").map(|foreach| self.foreach(foreach, pointer));
        Kind::Listen(Box::new(Listen { from: From::Bus(events), read: read(listen), each }))
    }

    /// Plans a call that subscribes.
    pub(super) fn subscription(
        &mut self,
        protocol: Protocol,
        with: &'a Node,
        of: &'a Node,
        pointer: &str,
    ) -> Kind {
        self.need(Need::Protocol(protocol), of);
        let others = with.entries().iter().filter(|(key, _)| key.text != "subscription");
        let read = |lower: &mut Self| {
            let arguments = others.map(|(key, value)| {
                let argument = lower.arguments(protocol, value, &mut vec![&key.text]);
                (key.text.clone(), argument)
            });
            Template::object(arguments.collect())
        };
        let arguments = self.leaving(read);
        let consume = of.get("consume");
        let part = |key: &str| consume.and_then(|consume| consume.get(key));
        let amount = part("amount").and_then(Node::integer);
        if let (Some(node), Some(amount)) = (part("amount"), amount)
            && amount < 1
        {
            self.report.error(code::INVALID_VALUE, node, "`amount` is at least 1").fix("write `amount: 1`");
        }
        let subscription = Subscription {
            protocol,
            arguments,
            authorization: self.authorization(protocol, with),
            filter: self.condition(of.get("filter")),
            amount: amount.and_then(|amount| u32::try_from(amount).ok()),
            lasts: part("for").and_then(|length| self.length(length)),
            goes_on: self.condition(part("while")),
            until: self.condition(part("until")),
        };
        let each = of.get("foreach").map(|foreach| self.foreach(foreach, pointer));
        let from = From::Protocol(Box::new(subscription));
        Kind::Listen(Box::new(Listen { from, read: Read::Envelope, each }))
    }

    /// Plans the events that start instances.
    pub(super) fn trigger(&mut self, schedule: &'a Node) -> Option<(Events, Read)> {
        let on = schedule.get("on")?;
        // The input is the events themselves, as the specification's text and example have it.
        let read = schedule.get("read").map_or(Read::Envelope, |_| read(schedule));
        Some((self.events(on), read))
    }

    fn foreach(&mut self, node: &'a Node, pointer: &str) -> Foreach {
        let name = |key: &str, default: &'static str| {
            node.get(key).and_then(Node::text).unwrap_or(default).trim_start_matches('$').to_owned()
        };
        let (item, at) = (name("item", "item"), name("at", "index"));
        self.with_variables(&[&item, &at], |lower| Foreach {
            body: node
                .get("do")
                .map(|list| lower.list(list, &format!("{pointer}/foreach/do")))
                .unwrap_or_default(),
            output: lower.filter(node.get("output"), "as", Place::Output),
            export: lower.filter(node.get("export"), "as", Place::Export),
            item: item.clone(),
            at: at.clone(),
        })
    }

    fn events(&mut self, node: &'a Node) -> Events {
        let several = |node: &'a Node| node.items().iter();
        let (mode, nodes): (Mode, Vec<&'a Node>) = match (node.get("one"), node.get("all"), node.get("any")) {
            (Some(one), ..) => (Mode::All, vec![one]),
            (None, Some(all), _) => (Mode::All, several(all).collect()),
            (None, None, Some(any)) => (Mode::Any, several(any).collect()),
            (None, None, None) => {
                let message = "nothing is listened for: `one`, `any` or `all` is missing";
                self.report
                    .error(code::MISSING_KEY, node, message)
                    .fix("add `any: []` to listen to anything");
                (Mode::Any, Vec::new())
            }
        };
        let count = ["one", "all", "any"].iter().filter(|key| node.get(key).is_some()).count();
        if count > 1 {
            let message = "`one`, `any` and `all` exclude each other";
            self.report.error(code::INVALID_VALUE, node, message).fix("keep one of them");
        }
        let filters = nodes.into_iter().map(|filter| self.event_filter(filter)).collect();
        let until = match node.get("until") {
            Some(until) if mode == Mode::Any => self.until(until),
            Some(until) => {
                let message = "`until` only goes with `any`, and is ignored here";
                self.report.warning(code::INVALID_VALUE, until, message).fix("remove it");
                self.until(until);
                Until::First
            }
            None => Until::First,
        };
        Events { mode, filters, until }
    }

    fn until(&mut self, node: &'a Node) -> Until {
        match &node.tree {
            Tree::Map(_) => Until::Heard(Box::new(self.events(node))),
            Tree::Text(text) if is_never(text) => Until::Never,
            Tree::Text(_) => self.condition(Some(node)).map_or(Until::Never, Until::Holds),
            _ if node.bool() == Some(true) => Until::First,
            _ => Until::Never,
        }
    }

    fn event_filter(&mut self, node: &'a Node) -> EventFilter {
        let attributes = node.get("with").map(Node::entries).unwrap_or_default();
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(name, value)| (name.text.clone(), self.wants(&name.text, value)))
            .collect();
        if attributes.is_empty() && node.get("with").is_some() {
            let message = "a filter has at least one attribute";
            self.report
                .error(code::MISSING_KEY, node, message)
                .fix("add for example `type: com.example.done`");
        }
        let correlate = node.get("correlate").map(Node::entries).unwrap_or_default();
        let correlate = correlate.iter().filter_map(|(key, correlation)| {
            let from = self.condition(correlation.get("from"))?;
            let expect = correlation.get("expect").map(|expect| self.template(expect));
            let path = correlation.get("from").and_then(Node::text).filter(|text| is_path(text));
            let path = path.map(|text| crate::language::template::bare(text).trim().to_owned());
            Some(Correlate { key: key.text.clone(), from, path, expect })
        });
        let correlate = correlate.collect();
        EventFilter { attributes, correlate }
    }

    fn wants(&mut self, name: &str, node: &'a Node) -> Wants {
        let read = self.template(node);
        match (&read, node.text()) {
            (Template::Constant(_), Some(text)) if name != "data" => self.text_or_pattern(node, text),
            (Template::Expression(expression), Some(text)) if name != "data" && is_variable(text) => {
                Wants::Variable(expression.clone())
            }
            _ => Wants::Value(read),
        }
    }

    /// Reads the text of an attribute, which the specification lets be a regular expression. Text that only holds dots
    /// is taken as it is: types and hosts have them.
    fn text_or_pattern(&mut self, node: &Node, text: &str) -> Wants {
        const SIGNS: &[char] = &['^', '$', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\'];
        if !text.contains(SIGNS) {
            return Wants::Text(text.to_owned());
        }
        let quoted = serde_json::Value::String(format!("^(?:{text})$")).to_string();
        let source = format!("type == \"string\" and test({quoted})");
        match Expression::compile(&source, []) {
            Ok(like) => Wants::Pattern(text.to_owned(), like),
            Err(problem) => {
                let message = format!("the pattern does not compile: {problem}");
                self.report.error(code::EXPRESSION, node, message);
                Wants::Text(text.to_owned())
            }
        }
    }
}

fn read(node: &Node) -> Read {
    match node.get("read").and_then(Node::text) {
        Some("envelope") => Read::Envelope,
        Some("raw") => Read::Raw,
        _ => Read::Data,
    }
}

/// Says whether a condition is the constant that never holds.
fn is_never(text: &str) -> bool {
    matches!(crate::language::template::bare(text).trim(), "false" | "null")
}

/// Says whether an expression is a path into a variable, such as `$input.order.id`, and nothing of the event.
fn is_variable(text: &str) -> bool {
    let source = crate::language::template::bare(text).trim();
    source.strip_prefix('$').is_some_and(|path| path.split('.').all(is_name))
}

/// Says whether an expression is a path into its data, such as `.data.order.id`.
fn is_path(text: &str) -> bool {
    let source = crate::language::template::bare(text).trim();
    source.strip_prefix('.').is_some_and(|path| path.split('.').all(is_name))
}

fn is_name(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with(|c: char| c.is_ascii_digit())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

//! Retry policies and the policy of undoing.

use super::Lower;
use crate::language::plan::{Backoff, Length, Retry, SagaPolicy};
use crate::language::yaml::{Node, Tree};

impl<'a> Lower<'a> {
    /// Reads a retry policy, inline or by name.
    pub(super) fn retry(&mut self, node: &'a Node) -> Option<Retry> {
        let policy = match node.text() {
            Some(name) => self.reuse("retries", "retry policy", node, name)?,
            None => node,
        };
        Some(self.retry_policy(policy))
    }

    pub(super) fn retry_policy(&mut self, node: &'a Node) -> Retry {
        let limit = node.get("limit");
        let attempt = limit.and_then(|limit| limit.get("attempt"));
        let jitter = node.get("jitter");
        let backoff = node.get("backoff").and_then(|backoff| backoff.entries().first());
        let mut length = |node: Option<&Node>| node.and_then(|node| self.length(node));
        let jitter = length(jitter.and_then(|jitter| jitter.get("from")))
            .zip(length(jitter.and_then(|jitter| jitter.get("to"))));
        let delay = length(node.get("delay")).unwrap_or(Length::Fixed(0));
        let max = length(backoff.and_then(|(_, options)| options.get("max")));
        let increment = length(backoff.and_then(|(_, options)| options.get("increment")));
        let duration = length(limit.and_then(|limit| limit.get("duration")));
        let each = length(attempt.and_then(|attempt| attempt.get("duration")));
        Retry {
            when: self.condition(node.get("when")),
            except_when: self.condition(node.get("exceptWhen")),
            delay,
            backoff: match backoff {
                Some((kind, options)) if kind.text == "exponential" => Backoff::Exponential(factor(options)),
                Some((kind, _)) if kind.text == "linear" => Backoff::Linear(increment),
                _ => Backoff::Constant,
            },
            max,
            jitter,
            count: attempt.and_then(|attempt| attempt.get("count")).and_then(Node::integer).map(saturate),
            duration,
            attempt: each,
        }
    }

    pub(super) fn saga(&mut self, node: Option<&'a Node>) -> SagaPolicy {
        let mut policy = SagaPolicy::default();
        let Some(node) = node else { return policy };
        if let Some(on) = node.get("on") {
            let has = |word: &str| on.items().iter().any(|item| item.text() == Some(word));
            (policy.on_fault, policy.on_timeout, policy.on_cancel) =
                (has("fault"), has("timeout"), has("cancel"));
        }
        policy.parallel = node.get("order").and_then(Node::text) == Some("parallel");
        policy.park = node.get("onStuck").and_then(Node::text) != Some("continue");
        policy.timeout = self.timeout(node.get("timeout"));
        if let Some(retry) =
            node.get("retry").and_then(|retry| self.with_variables(&["error"], |lower| lower.retry(retry)))
        {
            let bound = if retry.count.is_none() { Retry::of_compensations().duration } else { None };
            policy.retry = Retry { duration: retry.duration.clone().or(bound), ..retry };
        }
        policy
    }
}

fn factor(options: &Node) -> f64 {
    match options.get("factor").map(|factor| &factor.tree) {
        Some(Tree::Number(number)) => number.as_f64().filter(|factor| *factor >= 1.0).unwrap_or(2.0),
        _ => 2.0,
    }
}

fn saturate(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

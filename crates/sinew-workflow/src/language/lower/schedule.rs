//! `schedule`: when instances start by themselves.

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds};

use super::Lower;
use super::place::Place;
use crate::language::plan::Length;
use crate::language::yaml::Node;
use crate::{Need, Schedule, code};

/// Cron expressions are looked at as if it were this year, to find those that never come.
const SOME_DAY: jiff::civil::DateTime = jiff::civil::DateTime::constant(2024, 1, 1, 0, 0, 0, 0);

impl<'a> Lower<'a> {
    pub(super) fn schedule(&mut self, node: &'a Node) {
        self.need(Need::Schedule, node);
        let keys = ["every", "cron", "after", "on"];
        if keys.iter().all(|key| node.get(key).is_none()) {
            let message = "the schedule never starts anything: `every`, `cron`, `after` or `on` is missing";
            self.report.error(code::MISSING_KEY, node, message).fix("add for example `every: PT1H`");
        }
        if let (Some(read), None) = (node.get("read"), node.get("on")) {
            self.report.error(code::INVALID_VALUE, read, "`read` goes with `on`").fix("remove it");
        }
        self.plan.trigger = self.at(Place::WorkflowInput, |lower| lower.trigger(node));
        self.plan.schedule = Some(Schedule {
            every: node.get("every").and_then(|every| self.interval(every)),
            cron: node.get("cron").and_then(|cron| self.cron(cron)).map(Box::new),
            after: node.get("after").and_then(|after| self.known(after)),
            on: self.plan.trigger.is_some(),
        });
    }

    fn interval(&mut self, node: &Node) -> Option<u64> {
        let millis = self.known(node)?;
        if millis == 0 {
            let message = "instances cannot start at intervals of no length";
            self.report.error(code::INVALID_VALUE, node, message).fix("write for example `every: PT1M`");
        }
        Some(millis)
    }

    /// Reads a length of time that cannot depend on data, since there is none yet.
    fn known(&mut self, node: &Node) -> Option<u64> {
        match self.length(node)? {
            Length::Fixed(millis) => Some(millis),
            Length::Computed(_) => {
                let message = "a schedule has no data to compute from";
                self.report.error(code::INVALID_VALUE, node, message).fix("write the duration itself");
                None
            }
        }
    }

    fn cron(&mut self, node: &Node) -> Option<Cron> {
        let text = node.text()?;
        let read = CronParser::builder().seconds(Seconds::Optional).build().parse(text);
        let problem = match &read {
            Err(CronError::InvalidPattern(problem) | CronError::ComponentError(problem)) => {
                problem.to_lowercase()
            }
            Err(error) => error.to_string().to_lowercase(),
            Ok(cron) if cron.find_next_occurrence(&SOME_DAY, true).is_err() => {
                "no such moment ever comes".to_owned()
            }
            Ok(_) => return read.ok(),
        };
        let message = format!("`{text}` is not a cron expression: {problem}");
        let finding = self.report.error(code::INVALID_VALUE, node, message);
        finding.fix("write minute, hour, day of month, month and day of week, such as `0 9 * * MON`");
        None
    }
}

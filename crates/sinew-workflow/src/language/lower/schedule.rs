//! `schedule`: when instances start by themselves.

use super::Lower;
use super::place::Place;
use crate::language::plan::Length;
use crate::language::yaml::Node;
use crate::schedule::{Calendar, Missed, nearest_zone, zone};
use crate::{Need, Schedule, code};

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
        let zone = self.schedule_key(node, "timezone");
        if let (Some(zone), None) = (node.get("timezone"), node.get("cron")) {
            self.report.error(code::INVALID_VALUE, zone, "`timezone` goes with `cron`").fix("remove it");
        }
        self.plan.trigger = self.at(Place::WorkflowInput, |lower| lower.trigger(node));
        self.plan.schedule = Some(Schedule {
            every: node.get("every").and_then(|every| self.interval(every)),
            cron: node.get("cron").and_then(|cron| self.cron(cron, zone)).map(Box::new),
            after: node.get("after").and_then(|after| self.known(after)),
            on: self.plan.trigger.is_some(),
            missed: self.schedule_key(node, "missed").and_then(|missed| self.missed(missed)),
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

    fn cron(&mut self, node: &Node, zone: Option<&Node>) -> Option<Calendar> {
        let (text, zone) = (node.text()?, zone.and_then(|zone| self.zone(zone)));
        match Calendar::new(text, zone) {
            Ok(calendar) => Some(calendar),
            Err(problem) => {
                let message = format!("`{text}` is not a cron expression: {problem}");
                let finding = self.report.error(code::INVALID_VALUE, node, message);
                finding.fix("write minute, hour, day of month, month and day of week, such as `0 9 * * MON`");
                None
            }
        }
    }

    fn zone(&mut self, node: &Node) -> Option<jiff::tz::TimeZone> {
        let name = node.text().unwrap_or_default();
        let found = zone(name);
        if found.is_none() {
            let near = nearest_zone(name).unwrap_or("Europe/Berlin");
            let message = format!("`{name}` is not a time zone of the IANA database");
            self.report.error(code::INVALID_VALUE, node, message).fix(format!("write for example `{near}`"));
        }
        found
    }

    fn missed(&mut self, node: &Node) -> Option<Missed> {
        match node.text() {
            Some("skip") => Some(Missed::Skip),
            Some("once") => Some(Missed::Once),
            Some("all") => Some(Missed::All),
            _ => {
                let message = "what becomes of missed moments is `skip`, `once` or `all`";
                self.report.error(code::INVALID_VALUE, node, message).fix("write for example `missed: once`");
                None
            }
        }
    }

    /// Finds one of our keys in either spelling: on the schedule, or in the metadata of the document, where the official
    /// schema has room for it.
    fn schedule_key(&self, schedule: &'a Node, key: &str) -> Option<&'a Node> {
        schedule.get(key).or_else(|| self.root.get("document")?.get("metadata")?.get(key))
    }
}

//! The allow-list: which rule may be broken where, and why. Entries that excuse nothing are findings themselves.

use std::cell::Cell;

use super::Finding;

const RULE: &str = "allow-list";

/// The parsed file: one `<rule> <path> <reason>` per line, `#` begins a comment line.
#[derive(Debug)]
pub(crate) struct AllowList {
    path: String,
    entries: Vec<Entry>,
    malformed: Vec<Finding>,
}

#[derive(Debug)]
struct Entry {
    line: usize,
    rule: String,
    file: String,
    used: Cell<bool>,
}

impl AllowList {
    /// Reads the list; lines that are none become findings of [`AllowList::filter`].
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let mut list = Self { path: path.to_owned(), entries: Vec::new(), malformed: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some(rule), Some(file), Some(_reason)) => list.entries.push(Entry {
                    line: index + 1,
                    rule: rule.to_owned(),
                    file: file.to_owned(),
                    used: Cell::new(false),
                }),
                _ => list.malformed.push(Finding::new(
                    path,
                    index + 1,
                    RULE,
                    "write `<rule> <path> <reason>`; the reason is not optional",
                )),
            }
        }
        list
    }

    /// Removes the findings the list excuses, and adds those about the list itself.
    pub(crate) fn filter(self, findings: Vec<Finding>) -> Vec<Finding> {
        let mut left: Vec<_> = findings.into_iter().filter(|finding| !self.excuses(finding)).collect();
        left.extend(self.malformed);
        for entry in self.entries.iter().filter(|entry| !entry.used.get()) {
            let message =
                format!("excuses nothing: {} keeps `{}` now, remove the line", entry.file, entry.rule);
            left.push(Finding::new(&self.path, entry.line, RULE, message));
        }
        left
    }

    fn excuses(&self, finding: &Finding) -> bool {
        let entry =
            self.entries.iter().find(|entry| entry.rule == finding.rule && entry.file == finding.path);
        entry.inspect(|entry| entry.used.set(true)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::brief;
    use super::*;

    #[test]
    fn an_entry_excuses_its_rule_in_its_file_only() {
        let list = AllowList::parse("allow", "# comment\n\nlength src/a.rs generated, and never read\n");
        let found = vec![
            Finding::new("src/a.rs", 501, "length", ""),
            Finding::new("src/b.rs", 502, "length", ""),
            Finding::new("src/a.rs", 7, "panics", ""),
        ];
        assert_eq!(brief(&list.filter(found)), ["length:502", "panics:7"]);
    }

    #[test]
    fn an_entry_without_reason_or_use_is_a_finding() {
        let list = AllowList::parse("allow", "length src/a.rs\npanics src/b.rs it was so once\n");
        assert_eq!(brief(&list.filter(Vec::new())), ["allow-list:1", "allow-list:2"]);
    }
}

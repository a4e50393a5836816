//! Keeps data from passing as a secret: a placeholder in what a call sends is only real where the author wrote one.
//!
//! Without this, an input that holds the text of a placeholder would have the caller send the secret along.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::language::jq::Expression;
use crate::language::jq::secrets::OPEN;

/// The placeholders a value may hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard(BTreeSet<String>);

impl Guard {
    /// Allows what these expressions name themselves.
    pub(crate) fn of<'e>(expressions: impl IntoIterator<Item = &'e Expression>) -> Self {
        Self(expressions.into_iter().flat_map(Expression::placeholders).collect())
    }

    /// Allows what another guard does, too.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }

    /// Replaces the first character of every other placeholder, which makes it plain text.
    pub(crate) fn clean(&self, value: Value) -> Value {
        match value {
            Value::String(text) if text.contains(OPEN) => Value::String(self.clean_text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.clean(item)).collect(),
            Value::Object(entries) => {
                let clean = |(key, value): (String, Value)| {
                    let key = if key.contains(OPEN) { self.clean_text(&key) } else { key };
                    (key, self.clean(value))
                };
                Value::Object(entries.into_iter().map(clean).collect())
            }
            other => other,
        }
    }

    fn clean_text(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        let mut end = 0;
        for (at, _) in text.match_indices(OPEN) {
            clean.push_str(&text[end..at]);
            let allowed = self.0.iter().any(|placeholder| text[at..].starts_with(placeholder.as_str()));
            clean.push(if allowed { OPEN } else { char::REPLACEMENT_CHARACTER });
            end = at + OPEN.len_utf8();
        }
        clean.push_str(&text[end..]);
        clean
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::language::jq::secrets::placeholders;

    #[test]
    fn only_placeholders_of_the_author_survive() {
        let expression = Expression::compile("\"\u{E000}secret:key\u{E001}\" + .x", []).unwrap();
        let guard = Guard::of([&expression]);
        let value = json!({
            "a": "Bearer \u{E000}secret:key\u{E001}",
            "b": ["\u{E000}secret:other\u{E001}", "\u{E000}"],
            "\u{E000}authorization\u{E001}": 1,
        });
        let expected = json!({
            "a": "Bearer \u{E000}secret:key\u{E001}",
            "b": ["\u{FFFD}secret:other\u{E001}", "\u{FFFD}"],
            "\u{FFFD}authorization\u{E001}": 1,
        });
        assert_eq!(guard.clean(value), expected);
    }

    const KEY: &str = "\u{E000}secret:key\u{E001}";

    proptest! {
        #[test]
        fn nothing_else_reads_as_a_placeholder(text in "[a-c\u{E000}\u{E001}:.]{0,40}|\u{E000}secret:key\u{E001}[a\u{E000}\u{E001}]*") {
            let expression = Expression::compile("\"\u{E000}secret:key\u{E001}\"", []).unwrap();
            let clean = Guard::of([&expression]).clean(json!(text));
            let clean = clean.as_str().unwrap();
            prop_assert!(placeholders(clean).all(|placeholder| placeholder == KEY));
            prop_assert_eq!(clean.replace('\u{FFFD}', "\u{E000}"), text);
        }
    }
}

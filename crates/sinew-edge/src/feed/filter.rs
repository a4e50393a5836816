//! Which events of a feed a client gets. Pure.

use http::request::Parts;
use serde_json::Value;

use super::item::Item;
use crate::{
    config::{self, Mistake, below},
    mapping::{Source, cookie, source},
    matcher::Template,
    problem::Refusal,
    request::Pairs,
};

/// What an event has to have, and where a request says which value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Criterion {
    part: Part,
    source: Source,
}

/// A part of an event.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// A member of its data, as a JSON pointer.
    Data(String),
    /// A header field, in lower case.
    Header(String),
}

/// The criteria of one client.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter(Vec<(Part, Value)>);

impl Criterion {
    /// Reads the criteria of a route.
    pub(crate) fn read(
        filter: &std::collections::BTreeMap<String, config::From>,
        template: &Template,
        at: &str,
        mistakes: &mut Vec<Mistake>,
    ) -> Vec<Self> {
        let mut criteria = Vec::new();
        for (name, from) in filter {
            let part = Part::of(name);
            match source(from, template) {
                Ok(source) => criteria.push(Self { part, source }),
                Err(reason) => mistakes.push(Mistake::new(below(at, name), reason)),
            }
        }
        criteria
    }

    /// Returns the parameter of the query it takes.
    pub(super) fn parameter(&self) -> Option<&str> {
        match &self.source {
            Source::Query(name) => Some(name),
            _ => None,
        }
    }

    /// Writes it as a person would.
    pub(crate) fn line(&self) -> String {
        let part = match &self.part {
            Part::Data(pointer) => pointer,
            Part::Header(name) => name,
        };
        match &self.source {
            Source::Constant(value) => format!("only where {part} is {value}"),
            source => format!("only where {part} is what {} says", source.describe()),
        }
    }
}

impl Part {
    fn of(name: &str) -> Self {
        if name.starts_with('/') {
            Self::Data(name.to_owned())
        } else {
            Self::Header(name.to_ascii_lowercase())
        }
    }
}

impl Filter {
    /// Takes what no client decides about.
    pub(crate) fn fixed(filter: &std::collections::BTreeMap<String, Value>) -> Self {
        Self(filter.iter().map(|(name, value)| (Part::of(name), value.clone())).collect())
    }

    /// Reads what a client asks for.
    ///
    /// # Errors
    /// 400 where a header field or cookie is missing: nobody gets everything by leaving one out.
    pub(super) fn of(
        criteria: &[Criterion],
        head: &Parts,
        values: &[std::borrow::Cow<'_, str>],
        pairs: &Pairs<'_>,
    ) -> Result<Self, Refusal> {
        let mut wanted = Vec::new();
        for Criterion { part, source } in criteria {
            let text = match source {
                Source::Constant(value) => {
                    wanted.push((part.clone(), value.clone()));
                    continue;
                }
                Source::Path(place) => values.get(*place).map(ToString::to_string),
                Source::Header(name) => {
                    head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
                }
                Source::Cookie(name) => cookie(&head.headers, name).map(str::to_owned),
                Source::Query(name) => {
                    match pairs.iter().find(|(own, _)| own == name).and_then(|(_, values)| values.first()) {
                        Some(value) => Some(value.to_string()),
                        None => continue,
                    }
                }
            };
            let missing = || Refusal::malformed(format!("{} is missing", source.describe()));
            wanted.push((part.clone(), Value::String(text.ok_or_else(missing)?)));
        }
        Ok(Self(wanted))
    }

    /// Says whether an event passes.
    pub(crate) fn passes(&self, item: &Item) -> bool {
        self.0.iter().all(|(part, wanted)| match part {
            Part::Data(pointer) => item.value().pointer(pointer).is_some_and(|found| is(found, wanted)),
            Part::Header(name) => item.header(name).is_some_and(|found| is_text(&found, wanted)),
        })
    }
}

/// A list has what one of its items is; a number is what it reads like.
fn is(found: &Value, wanted: &Value) -> bool {
    match found {
        Value::Array(items) if !wanted.is_array() => items.iter().any(|item| is(item, wanted)),
        Value::String(text) => is_text(text, wanted),
        Value::Number(_) | Value::Bool(_) => found == wanted || is_text(&found.to_string(), wanted),
        _ => found == wanted,
    }
}

fn is_text(found: &str, wanted: &Value) -> bool {
    match wanted {
        Value::String(text) => text == found,
        wanted => {
            let wanted = wanted.to_string();
            wanted == found
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::item::tests::item, *};

    fn passes(part: Part, wanted: Value) -> bool {
        let item =
            item(1, "application/json", r#"{"id":7,"tags":["a","b"],"to":{"city":"Oslo"},"open":true}"#);
        Filter(vec![(part, wanted)]).passes(&item)
    }

    #[test]
    fn an_event_passes_by_a_member_of_its_data_or_by_a_header() {
        let data = |pointer: &str, wanted| passes(Part::Data(pointer.into()), wanted);
        assert!(data("/id", json!("7")) && data("/id", json!(7)) && data("/open", json!("true")));
        assert!(data("/to/city", json!("Oslo")) && data("/tags", json!("b")));
        assert!(!data("/id", json!("70")) && !data("/none", json!("7")) && !data("/tags", json!("c")));
        assert!(passes(Part::Header("ce-tenant".into()), json!("a b")));
        assert!(!passes(Part::Header("ce-tenant".into()), json!("a")));
    }
}

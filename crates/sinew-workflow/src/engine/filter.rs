//! Which filter an event passes: attributes, data and correlation. It evaluates, and changes nothing.
//!
//! A filter cannot fault a workflow: an expression that fails on an event means that the event does not fit. Otherwise
//! whoever may publish could end whoever listens.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Wanted;
use crate::language::jq::Variables;
use crate::language::plan::{Correlate, EventFilter, Events, Mode, Read, Until, Wants};
use crate::language::template::Template;
use crate::state::Correlation;

/// An event that counts.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Hit {
    /// The filter it passed; none where any event does.
    pub(super) filter: Option<u32>,
    /// The correlation keys it binds.
    pub(super) keys: BTreeMap<String, Value>,
    /// Whether it is one of those that end the listening.
    pub(super) ends: bool,
    /// Whether it is the last.
    pub(super) last: bool,
}

/// Where filters are looked at: the input of what listens, and its variables.
pub(super) struct Place<'p> {
    pub(super) input: &'p Value,
    pub(super) variables: &'p dyn Variables,
    /// What was fixed when the listening began, by filter.
    pub(super) fixed: &'p [Wanted],
}

impl Events {
    /// Returns the attributes each filter fixes: what hosts may select by.
    pub(super) fn wanted(&self, input: &Value, variables: &dyn Variables) -> Vec<Wanted> {
        let filters = self.all_filters().map(|filter| filter.fixed(input, variables));
        if self.filters.is_empty() && self.mode == Mode::Any {
            return vec![Wanted::default()];
        }
        filters.collect()
    }

    /// Finds what an event is good for, if anything.
    pub(super) fn hear(&self, so_far: &Correlation, event: &Value, place: &Place<'_>) -> Option<Hit> {
        let first = u32::try_from(self.filters.len()).unwrap_or(u32::MAX);
        if let Until::Heard(until) = &self.until
            && let Some(hit) = until.passed(first, so_far, event, place)
        {
            let last = until.is_last(first, so_far, &hit);
            return Some(Hit { ends: true, last, ..hit });
        }
        let hit = self.passed(0, so_far, event, place)?;
        let last = match self.until {
            Until::First => self.is_last(0, so_far, &hit),
            Until::Never | Until::Holds(_) | Until::Heard(_) => false,
        };
        Some(Hit { last, ..hit })
    }

    /// Finds the first filter that an event passes, of those that still want one.
    fn passed(&self, first: u32, so_far: &Correlation, event: &Value, place: &Place<'_>) -> Option<Hit> {
        if self.filters.is_empty() {
            return (self.mode == Mode::Any).then(Hit::default);
        }
        let open = |number: &u32| self.mode == Mode::Any || !so_far.matched.contains(number);
        let mut numbered = (first..).zip(&self.filters).filter(|(number, _)| open(number));
        numbered.find_map(|(number, filter)| {
            let fixed = usize::try_from(number).ok().and_then(|number| place.fixed.get(number));
            let keys = filter.passes(fixed, so_far, event, place)?;
            Some(Hit { filter: Some(number), keys, ..Hit::default() })
        })
    }

    fn is_last(&self, first: u32, so_far: &Correlation, hit: &Hit) -> bool {
        self.mode == Mode::Any
            || (first..)
                .zip(&self.filters)
                .all(|(number, _)| hit.filter == Some(number) || so_far.matched.contains(&number))
    }
}

impl EventFilter {
    fn fixed(&self, input: &Value, variables: &dyn Variables) -> Wanted {
        let fixed = self.attributes.iter().filter_map(|(name, wants)| match wants {
            Wants::Text(text) => Some((name.clone(), text.clone())),
            Wants::Variable(expression) => match expression.evaluate(input, variables) {
                Ok(Value::String(text)) => Some((name.clone(), text)),
                _ => None,
            },
            Wants::Pattern(..) | Wants::Value(_) => None,
        });
        let known = self.correlate.iter().filter_map(|correlate| correlate.known(input, variables));
        Wanted(fixed.chain(known).collect())
    }

    /// Says whether an event passes, and which correlation keys it then binds.
    fn passes(
        &self,
        fixed: Option<&Wanted>,
        so_far: &Correlation,
        event: &Value,
        place: &Place<'_>,
    ) -> Option<BTreeMap<String, Value>> {
        let attribute = |name: &str| event.get(name).unwrap_or(&Value::Null);
        let wanted = fixed.is_none_or(|fixed| {
            // Correlation keys are only for hosts: they are compared below.
            let mut attributes = fixed.0.iter().filter(|(name, _)| !name.starts_with('.'));
            attributes.all(|(name, text)| attribute(name).as_str() == Some(text.as_str()))
        });
        let fits = wanted
            && self.attributes.iter().all(|(name, wants)| {
                fixed.is_some_and(|fixed| fixed.0.contains_key(name))
                    || wants.fit(attribute(name), place.variables)
            });
        if !fits {
            return None;
        }
        let mut keys = BTreeMap::new();
        for correlate in &self.correlate {
            let value = correlate.extract(&so_far.keys, event, place)?;
            if !so_far.keys.contains_key(&correlate.key) {
                keys.insert(correlate.key.clone(), value);
            }
        }
        Some(keys)
    }
}

impl Wants {
    fn fit(&self, found: &Value, variables: &dyn Variables) -> bool {
        match self {
            Self::Text(text) => found.as_str() == Some(text.as_str()),
            Self::Pattern(text, like) => {
                found.as_str() == Some(text.as_str()) || like.holds(found, variables).unwrap_or(false)
            }
            Self::Variable(expression) => {
                expression.evaluate(found, variables).is_ok_and(|wanted| &wanted == found)
            }
            Self::Value(template) => matches(template, found, variables),
        }
    }
}

impl Correlate {
    /// Returns where the key stands in an event and what it must be, where both are known beforehand.
    fn known(&self, input: &Value, variables: &dyn Variables) -> Option<(String, String)> {
        let (path, expect) = (self.path.as_ref()?, self.expect.as_ref()?);
        Some((path.clone(), text(&*expect.evaluate(input, variables).ok()?)))
    }

    /// Takes the key out of an event, when it is the one expected.
    fn extract(&self, bound: &BTreeMap<String, Value>, event: &Value, place: &Place<'_>) -> Option<Value> {
        let found = self.from.evaluate(event, place.variables).ok().filter(|value| !value.is_null())?;
        let expected = match (bound.get(&self.key), &self.expect) {
            (Some(bound), _) => bound.clone(),
            (None, Some(expect)) => Value::clone(&*expect.evaluate(place.input, place.variables).ok()?),
            (None, None) => return Some(found),
        };
        (found == expected || text(&found) == text(&expected)).then_some(found)
    }
}

impl Read {
    /// Returns what of an event is kept.
    pub(super) fn of(self, event: &Value) -> Value {
        let member = |name: &str| event.get(name);
        match self {
            Self::Envelope => event.clone(),
            Self::Data => member("data").cloned().unwrap_or_default(),
            Self::Raw => match (member("data_base64"), member("data")) {
                (Some(bytes), _) => bytes.clone(),
                (None, Some(Value::String(text))) => Value::String(text.clone()),
                (None, Some(data)) => Value::String(data.to_string()),
                (None, None) => Value::Null,
            },
        }
    }
}

/// Compares a value with what a filter says about it: an expression decides or is equal, an object asks for its members
/// and allows others, anything else is equal.
fn matches(wanted: &Template, found: &Value, variables: &dyn Variables) -> bool {
    match wanted {
        Template::Constant(value) => is_part(value, found),
        Template::Expression(_) | Template::Loose(..) => match wanted.evaluate(found, variables).as_deref() {
            Ok(Value::Bool(decision)) => *decision,
            Ok(value) => !value.is_null() && value == found,
            Err(_) => false,
        },
        Template::Text(_) | Template::Uri(_) | Template::Guarded(..) => {
            wanted.evaluate(found, variables).is_ok_and(|text| *text == *found)
        }
        Template::List(items) => found.as_array().is_some_and(|found| {
            found.len() == items.len()
                && items.iter().zip(found).all(|(item, found)| matches(item, found, variables))
        }),
        Template::Object(entries) => {
            found.is_object()
                && entries
                    .iter()
                    .all(|(name, wanted)| matches(wanted, found.get(name).unwrap_or(&Value::Null), variables))
        }
    }
}

/// Says whether a value has everything a constant has.
fn is_part(wanted: &Value, found: &Value) -> bool {
    match wanted {
        Value::Object(entries) => {
            found.is_object()
                && entries
                    .iter()
                    .all(|(name, wanted)| found.get(name).is_some_and(|found| is_part(wanted, found)))
        }
        _ => wanted == found,
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

//! Puts secrets in the place of their placeholders, as the last thing before a call leaves.
//!
//! The engine computes with placeholders only, so its log never holds a secret: see [`reveal`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use sinew_workflow::Fault;

/// Begins a placeholder.
const OPEN: char = '\u{E000}';
/// Ends a placeholder.
const CLOSE: char = '\u{E001}';
/// What a secret's placeholder holds before its path.
const SECRET: &str = "secret:";
/// What the placeholder of the call's own authorization holds.
const AUTHORIZATION: &str = "authorization";
/// What stands for a secret where people read.
pub(crate) const MASK: &str = "***";

/// What may stand in a component of a URI as it is.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The values behind `$secrets`, by name.
pub type Secrets = BTreeMap<String, Value>;

/// What can be revealed to one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revealer<'a> {
    secrets: &'a Secrets,
    /// The parameter of the call's resolved authorization.
    authorization: Option<&'a str>,
}

/// Replaces the placeholders of secrets in all texts of a value.
///
/// A placeholder is `U+E000`, `secret:`, a path such as `name` or `name.key`, and `U+E001`. A text that is exactly one
/// placeholder becomes the secret's value with its type; inside a longer text the secret is written as text.
///
/// ```
/// use serde_json::json;
/// use sinew_protocols::{Secrets, reveal};
///
/// let secrets = Secrets::from([("api".to_owned(), json!({ "token": "t0p" }))]);
/// let arguments = json!({ "headers": { "authorization": "Bearer \u{E000}secret:api.token\u{E001}" } });
/// assert_eq!(reveal(&arguments, &secrets)?, json!({ "headers": { "authorization": "Bearer t0p" } }));
/// # Ok::<_, sinew_workflow::Fault>(())
/// ```
///
/// # Errors
/// An authorization fault that names the secret that is missing. It never holds a value.
pub fn reveal(value: &Value, secrets: &Secrets) -> Result<Value, Fault> {
    Revealer::new(secrets).value(value)
}

/// Replaces placeholders by `***`, for what is logged or returned.
pub(crate) fn mask(text: &str) -> Cow<'_, str> {
    if !text.contains(OPEN) {
        return Cow::Borrowed(text);
    }
    let masked = parts(text).map(|part| match part {
        Part::Text(text) => text,
        Part::Secret(_) | Part::Authorization => MASK,
    });
    Cow::Owned(masked.collect())
}

/// Replaces what a text repeats of secrets, such as the answer of somebody who did not like a token.
pub(crate) fn scrub(text: &mut String, secrets: &Secrets) {
    for secret in secrets.values() {
        scrub_value(text, secret);
    }
}

fn scrub_value(text: &mut String, secret: &Value) {
    match secret {
        // Shorter ones would mask words by chance, and are no secrets for long anyway.
        Value::String(secret) if secret.len() >= 4 => *text = text.replace(secret.as_str(), MASK),
        Value::Array(items) => items.iter().for_each(|item| scrub_value(text, item)),
        Value::Object(members) => members.values().for_each(|member| scrub_value(text, member)),
        _ => {}
    }
}

impl<'a> Revealer<'a> {
    pub(crate) fn new(secrets: &'a Secrets) -> Self {
        Self { secrets, authorization: None }
    }

    /// Makes the parameter of the call's authorization known.
    pub(crate) fn with_authorization(self, authorization: Option<&'a str>) -> Self {
        Self { authorization, ..self }
    }

    pub(crate) fn value(&self, value: &Value) -> Result<Value, Fault> {
        Ok(match value {
            Value::String(text) => self.string(text)?,
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.value(item)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let revealed = members.iter().map(|(name, value)| Ok((name.clone(), self.value(value)?)));
                Value::Object(revealed.collect::<Result<_, Fault>>()?)
            }
            other => other.clone(),
        })
    }

    /// Reveals a URI. Inside a longer one secrets are percent-encoded, so that none changes what the rest means.
    pub(crate) fn uri(&self, text: &str) -> Result<String, Fault> {
        if let [Part::Secret(path)] = parts(text).collect::<Vec<_>>()[..] {
            return Ok(as_text(self.secret(path)?));
        }
        self.text_with(text, |secret| utf8_percent_encode(&secret, COMPONENT).to_string())
    }

    fn string(&self, text: &str) -> Result<Value, Fault> {
        if !text.contains(OPEN) {
            return Ok(Value::String(text.to_owned()));
        }
        if let [Part::Secret(path)] = parts(text).collect::<Vec<_>>()[..] {
            return self.secret(path).cloned();
        }
        self.text_with(text, |secret| secret).map(Value::String)
    }

    fn text_with(&self, text: &str, write: impl Fn(String) -> String) -> Result<String, Fault> {
        let mut revealed = String::with_capacity(text.len());
        for part in parts(text) {
            match part {
                Part::Text(text) => revealed.push_str(text),
                Part::Secret(path) => revealed.push_str(&write(as_text(self.secret(path)?))),
                Part::Authorization => revealed.push_str(&write(self.authorization()?.to_owned())),
            }
        }
        Ok(revealed)
    }

    fn authorization(&self) -> Result<&str, Fault> {
        self.authorization.ok_or_else(|| {
            Fault::configuration(
                "`$authorization.parameter` is not known here: give the call an `authentication` other than `digest`",
            )
        })
    }

    fn secret(&self, path: &str) -> Result<&Value, Fault> {
        let mut segments = path.split('.');
        let name = segments.next().unwrap_or_default();
        let Some(mut value) = self.secrets.get(name) else {
            return Err(Fault::authorization(format!(
                "there is no secret `{name}`: give it to whoever runs this workflow, under that name"
            )));
        };
        for segment in segments {
            let inner = match value {
                Value::Array(items) => segment.parse::<usize>().ok().and_then(|index| items.get(index)),
                other => other.get(segment),
            };
            let missing = || format!("the secret `{name}` has no `{path}`: check the keys of its value");
            value = inner.ok_or_else(|| Fault::authorization(missing()))?;
        }
        Ok(value)
    }
}

/// A piece of a text with placeholders.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part<'a> {
    Text(&'a str),
    Secret(&'a str),
    Authorization,
}

/// Splits a text at its placeholders. What only looks like the beginning of one is text.
fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some((part, after)) = placeholder(rest) {
            rest = after;
            return Some(part);
        }
        // The first character was looked at already.
        let looked = rest.chars().next().map_or(0, char::len_utf8);
        let end = rest[looked..].find(OPEN).map_or(rest.len(), |at| looked + at);
        let (before, after) = rest.split_at(end);
        rest = after;
        Some(Part::Text(before))
    })
}

/// Reads the placeholder a text begins with, if it does, and returns what comes after it.
fn placeholder(text: &str) -> Option<(Part<'_>, &str)> {
    let (content, after) = text.strip_prefix(OPEN)?.split_once(CLOSE)?;
    let part = match content.strip_prefix(SECRET) {
        Some(path) if is_path(path) => Part::Secret(path),
        None if content == AUTHORIZATION => Part::Authorization,
        _ => return None,
    };
    Some((part, after))
}

fn is_path(path: &str) -> bool {
    let in_segment = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    path.split('.').all(|segment| !segment.is_empty() && segment.chars().all(in_segment))
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn secrets() -> Secrets {
        Secrets::from([
            ("token".to_owned(), json!("t/0?p")),
            ("db".to_owned(), json!({ "port": 5432, "users": ["ann"] })),
        ])
    }

    fn secret(path: &str) -> String {
        format!("{OPEN}{SECRET}{path}{CLOSE}")
    }

    #[test]
    fn a_whole_text_takes_the_secrets_type_and_a_longer_one_its_text() {
        let value =
            json!([secret("db.port"), format!("port {}!", secret("db.port")), secret("db.users.0"), 1, null]);
        assert_eq!(reveal(&value, &secrets()).unwrap(), json!([5432, "port 5432!", "ann", 1, null]));
    }

    #[test]
    fn a_missing_secret_is_named_and_no_value_shown() {
        let fault = reveal(&json!({ "a": [secret("tokn")] }), &secrets()).unwrap_err();
        assert_eq!((fault.kind(), fault.status), ("authorization", 403));
        assert!(fault.detail.unwrap().contains("`tokn`"));
        let fault = reveal(&json!(secret("db.name")), &secrets()).unwrap_err();
        assert!(!fault.to_string().contains("5432"), "{fault}");
    }

    #[test]
    fn in_a_uri_a_secret_stays_in_its_component() {
        let secrets = secrets();
        let revealer = Revealer::new(&secrets);
        assert_eq!(revealer.uri(&format!("https://a/{}", secret("token"))).unwrap(), "https://a/t%2F0%3Fp");
        assert_eq!(revealer.uri(&secret("token")).unwrap(), "t/0?p");
    }

    #[test]
    fn the_authorization_of_the_call_is_known_once_it_is_resolved() {
        let (secrets, text) = (secrets(), json!(format!("proof {OPEN}{AUTHORIZATION}{CLOSE}")));
        assert_eq!(Revealer::new(&secrets).value(&text).unwrap_err().kind(), "configuration");
        let revealer = Revealer::new(&secrets).with_authorization(Some("abc"));
        assert_eq!(revealer.value(&text).unwrap(), "proof abc");
    }

    #[test]
    fn people_see_a_mask() {
        assert_eq!(mask(&format!("Bearer {}", secret("token"))), "Bearer ***");
        assert_eq!(mask("nothing"), "nothing");
    }

    #[test]
    fn a_secret_somebody_repeats_is_masked() {
        let secrets = Secrets::from([("db".to_owned(), json!({ "passwords": ["hunter2"], "user": "bob" }))]);
        let mut text = "bob may not use hunter2".to_owned();
        scrub(&mut text, &secrets);
        assert_eq!(text, "bob may not use ***");
    }

    proptest! {
        #[test]
        fn a_text_is_the_sum_of_its_parts(text in "(\u{E000}|\u{E001}|secret:|a|\\.|authorization|é){0,20}") {
            let whole: String = parts(&text).map(|part| match part {
                Part::Text(text) => text.to_owned(),
                Part::Secret(path) => secret(path),
                Part::Authorization => format!("{OPEN}{AUTHORIZATION}{CLOSE}"),
            }).collect();
            prop_assert_eq!(whole, text);
        }
    }
}

//! What an instance works on: a file, standard input, the argument itself, and members set one by one.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Kind, code};

#[derive(Debug, clap::Args)]
pub(super) struct InputArgs {
    /// What it works on, as JSON or YAML: a file, - for standard input, or the JSON itself
    #[arg(long, value_name = "FILE|-")]
    input: Option<String>,
    /// Sets a member of the input, such as order.quantity=2; text that is no JSON stays text
    #[arg(long = "set", value_name = "NAME=VALUE")]
    members: Vec<String>,
}

impl InputArgs {
    /// Returns the file it is read from, if it is none of the argument itself.
    pub(super) fn path(&self) -> Option<&Path> {
        self.input.as_deref().map(Path::new)
    }

    pub(super) fn read(&self) -> Result<Value, Error> {
        let mut input = match self.input.as_deref() {
            None => Value::Object(Map::new()),
            Some(argument) => read(argument)?,
        };
        for member in &self.members {
            set(&mut input, member)?;
        }
        Ok(input)
    }
}

/// Parses JSON or YAML; `name` says what it is in the error.
pub(in crate::commands::workflow) fn parse(text: &str, name: &str) -> Result<Value, Error> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    if text.trim().is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    // A bare `on`, `off`, `yes` or `no` is a word, as YAML 1.2 has it.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
        let message = format!("{name}{place}: {}", error.without_snippet());
        Error::new(Kind::Document, code::JSON, message).hint("write it as JSON or YAML")
    })
}

fn read(argument: &str) -> Result<Value, Error> {
    if argument == "-" {
        let text = std::io::read_to_string(std::io::stdin());
        let text =
            text.map_err(|error| Error::failed(code::FILE, format!("cannot read standard input: {error}")))?;
        return parse(&text, "standard input");
    }
    if argument.trim_start().starts_with(['{', '[']) {
        return parse(argument, "--input");
    }
    // Other commands take a file as @FILE: whoever types that here means the same.
    let path = Path::new(argument.strip_prefix('@').unwrap_or(argument));
    let text = std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))?;
    parse(&text, &path.display().to_string())
}

fn set(input: &mut Value, member: &str) -> Result<(), Error> {
    let refused = |reason: String| Err(Error::new(Kind::Document, code::USAGE, format!("--set {reason}")));
    let Some((path, text)) = member.split_once('=').filter(|(path, _)| !path.is_empty()) else {
        return refused(format!("{member}: write NAME=VALUE, such as order.quantity=2"));
    };
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    let mut place = input;
    for name in path.split('.') {
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(members) = place else {
            return refused(format!("{path}: what holds `{name}` is no object"));
        };
        place = members.entry(name).or_insert(Value::Null);
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(input: Option<&str>, members: &[&str]) -> Result<Value, Error> {
        let members = members.iter().map(|&member| member.to_owned()).collect();
        InputArgs { input: input.map(str::to_owned), members }.read()
    }

    #[test]
    fn members_are_set_within_what_was_given() {
        let read =
            given(Some(r#"{"order": {"sku": "shoe"}}"#), &["order.quantity=2", "who=Ada", "n={\"a\":1}"]);
        let expected = json!({ "order": { "sku": "shoe", "quantity": 2 }, "who": "Ada", "n": { "a": 1 } });
        assert_eq!(read.unwrap(), expected);
        assert_eq!(given(None, &[]).unwrap(), json!({}));
        for bad in ["who", "=1"] {
            assert!(given(None, &[bad]).is_err(), "{bad}");
        }
        assert!(given(Some(r#"{"a": 1}"#), &["a.b=2"]).is_err(), "1 has no members");
    }

    #[test]
    fn yaml_is_as_good_as_json() {
        let expected = json!({ "on": "yes", "list": [1, 2] });
        assert_eq!(parse("on: yes\nlist: [1, 2]\n", "a.yaml").unwrap(), expected);
        let error = parse("a: [1\nb: 2", "a.yaml").unwrap_err().to_string();
        assert!(error.starts_with("a.yaml:"), "{error}");
    }
}

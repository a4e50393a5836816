//! Configuration files of the roles: YAML, every unknown key refused with its position.

mod located;

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sinew_edge::Mistake;

use self::located::{Document, Located};
use crate::error::{Error, Kind, code};

/// Reads a role's configuration; without a file everything stands at its default.
pub(crate) fn read<C: DeserializeOwned + Default>(path: Option<&Path>) -> Result<C, Error> {
    let Some(path) = path else { return Ok(C::default()) };
    let text = std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))?;
    parse(&text, &path.display().to_string())
}

/// Reads the edge's configuration; every mistake is told with its line.
pub(crate) fn edge(path: Option<&Path>) -> Result<sinew_edge::Config, Error> {
    let Some(path) = path else { return Ok(sinew_edge::Config::default()) };
    let text = std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))?;
    read_edge(&text, &path.display().to_string())
}

/// Reads the secrets that a configuration of the edge names, from files and the environment.
pub(crate) fn secrets(config: &mut sinew_edge::Config) -> Result<(), Error> {
    let read = config.resolve_secrets(|name| std::env::var(name).ok(), |path| std::fs::read_to_string(path));
    read.map_err(|mistakes| {
        let message = mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n");
        Error::new(Kind::Document, code::CONFIG, message)
            .hint("a secret is text in a file or a variable: `openssl rand -base64 32` makes one")
    })
}

fn read_edge(text: &str, name: &str) -> Result<sinew_edge::Config, Error> {
    if is_empty(text) {
        return Ok(sinew_edge::Config::default());
    }
    let document: Document = parse_whole(text, name)?;
    let located = Located::new(document);
    sinew_edge::Config::read(&located.value).map_err(|mistakes| mistaken(&mistakes, &located, name))
}

fn mistaken(mistakes: &[Mistake], located: &Located, name: &str) -> Error {
    let lines = mistakes.iter().map(|mistake| match located.place(&mistake.pointer) {
        Some((line, column)) => format!("{name}:{line}:{column}: {mistake}"),
        None => format!("{name}: {mistake}"),
    });
    let told: Vec<Value> = mistakes
        .iter()
        .map(|mistake| {
            let (line, column) = located.place(&mistake.pointer).unzip();
            json!({ "file": name, "line": line, "column": column, "pointer": mistake.pointer, "message": mistake.message })
        })
        .collect();
    let message = lines.collect::<Vec<_>>().join("\n");
    Error::new(Kind::Document, code::CONFIG, message)
        .hint("schemas/edge-config.json describes every key, for editors too")
        .with("mistakes", told.into())
}

fn parse<C: DeserializeOwned + Default>(text: &str, name: &str) -> Result<C, Error> {
    if is_empty(text) { Ok(C::default()) } else { parse_whole(text, name) }
}

fn is_empty(text: &str) -> bool {
    text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty())
}

fn parse_whole<C: DeserializeOwned>(text: &str, name: &str) -> Result<C, Error> {
    // A bare `on`, `off`, `yes` or `no` is a word, as YAML 1.2 has it.
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
        Error::new(Kind::Document, code::CONFIG, format!("{name}{place}: {}", error.without_snippet()))
            .hint("`sinew check` shows every setting with its default")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_its_position() {
        let read = parse::<sinew_orchestrator::Config>("shards: 2\nshard: 3\n", "o.yaml");
        let error = read.unwrap_err().to_string();
        assert!(error.starts_with("o.yaml:2:1: "), "{error}");
        assert!(error.contains("shard"), "{error}");
    }

    #[test]
    fn every_mistake_of_the_edge_is_told_with_its_line_and_column() {
        let text = "max_headers: many\nroutes:\n  - match: { method: GET, path: /a, hots: x }\n    to:\n      operation: a.b\n";
        let error = read_edge(text, "edge.yaml").unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(lines, ["edge.yaml:1:1:", "edge.yaml:3:37:"], "{error}");
        let text = "routes:\n  - match: { method: GET, path: a }\n    to:\n      operation: nothing\n";
        let error = read_edge(text, "edge.yaml").unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(lines, ["edge.yaml:2:27:", "edge.yaml:4:7:"], "{error}");
    }

    #[test]
    fn routes_of_the_edge_are_read_as_yaml_means_them() {
        let text = "routes:\n  - match: { method: GET, path: '/a/{id}', version: '2' }\n    to: { operation: a.b, fields: { on: { value: yes } } }\n";
        let config = read_edge(text, "edge.yaml").unwrap();
        assert_eq!(config.routes[0].to.fields["on"].value, Some("yes".into()));
        assert_eq!(read_edge("# nothing\n", "e.yaml").unwrap(), sinew_edge::Config::default());
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let config: sinew_orchestrator::Config = parse("# nothing\nshards: 2\n", "o.yaml").unwrap();
        assert_eq!((config.shards, config.replicas), (2, sinew_orchestrator::Config::default().replicas));
        let empty: sinew_orchestrator::Config = parse("# nothing\n", "o.yaml").unwrap();
        assert_eq!(empty.shards, sinew_orchestrator::Config::default().shards);
    }
}

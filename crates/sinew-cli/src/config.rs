//! Configuration files of the roles: YAML, every unknown key refused with its position.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, code};

/// Reads a role's configuration; without a file everything stands at its default.
pub(crate) fn read<C: DeserializeOwned + Default>(path: Option<&Path>) -> Result<C, Error> {
    let Some(path) = path else { return Ok(C::default()) };
    let text = std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))?;
    parse(&text, &path.display().to_string())
}

fn parse<C: DeserializeOwned + Default>(text: &str, name: &str) -> Result<C, Error> {
    let empty = text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty());
    if empty {
        return Ok(C::default());
    }
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
    fn what_is_left_out_has_its_default() {
        let config: sinew_orchestrator::Config = parse("# nothing\nshards: 2\n", "o.yaml").unwrap();
        assert_eq!((config.shards, config.replicas), (2, sinew_orchestrator::Config::default().replicas));
        let empty: sinew_orchestrator::Config = parse("# nothing\n", "o.yaml").unwrap();
        assert_eq!(empty.shards, sinew_orchestrator::Config::default().shards);
    }
}

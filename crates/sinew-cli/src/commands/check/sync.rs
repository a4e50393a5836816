//! When the server brings writes to its disk, read from its configuration file: it does not tell clients.

use std::path::Path;

use serde::{Serialize, Serializer};

use crate::error::Error;

/// The server's own choice where nothing is said.
const DEFAULT: &str = "2m";

/// When writes reach the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum SyncMode {
    /// Nobody showed the configuration.
    #[default]
    Unknown,
    /// Before they are acknowledged.
    Always,
    /// So often, as the file has it.
    Every(String),
}

impl SyncMode {
    /// Reads a server's configuration file.
    pub(super) fn read(file: Option<&Path>) -> Result<Self, Error> {
        let Some(file) = file else { return Ok(Self::Unknown) };
        let text = std::fs::read_to_string(file).map_err(|error| Error::unreadable(file, &error))?;
        Ok(Self::of(&text))
    }

    fn of(text: &str) -> Self {
        let setting = text.lines().find_map(|line| {
            let line = line.split(['#']).next()?.split("//").next()?;
            let (_, rest) = line.split_once("sync_interval").or_else(|| line.split_once("sync:"))?;
            let value = rest.trim_start_matches([' ', '\t', ':', '=', '"', '\'']);
            value.split([' ', '\t', '"', '\'', ',', '}', ';']).next().filter(|value| !value.is_empty())
        });
        match setting {
            Some("always") => Self::Always,
            Some(interval) => Self::Every(interval.to_owned()),
            None => Self::Every(DEFAULT.to_owned()),
        }
    }

    /// Writes it for people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Unknown => {
                "unknown to clients; show the server's configuration with --server-config FILE".to_owned()
            }
            Self::Always => "before every acknowledgement".to_owned(),
            Self::Every(interval) => format!("every {interval}"),
        }
    }
}

impl Serialize for SyncMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Unknown => "unknown",
            Self::Always => "always",
            Self::Every(interval) => interval,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SyncMode;

    #[test]
    fn the_setting_is_found_however_it_is_written() {
        for text in [
            "jetstream {\n  sync_interval: always\n}",
            "jetstream { store_dir: \"/d\", sync_interval = \"always\" }",
            "jetstream: {sync_interval always}",
        ] {
            assert_eq!(SyncMode::of(text), SyncMode::Always, "{text}");
        }
        assert_eq!(SyncMode::of("jetstream { sync_interval: 10s }"), SyncMode::Every("10s".into()));
        for text in ["jetstream {}", "# sync_interval: always", "// sync_interval: always"] {
            assert_eq!(SyncMode::of(text), SyncMode::Every("2m".into()), "{text}");
        }
    }
}

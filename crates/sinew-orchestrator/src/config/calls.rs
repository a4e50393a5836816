//! Settings of what workflows call outside the bus, and what becomes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew_protocols::{Protocols, Settings};
use sinew_workflow::{Need, Protocol};

use super::Limits;
use crate::{Error, Kind};

/// How calls of workflows leave the orchestrator: HTTP, OpenAPI, gRPC and their like, and processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Calls {
    /// Files of certificates in PEM that are trusted beside those of the system.
    pub ca: Vec<PathBuf>,
    /// Where hosts really are, `host:port` to `address:port`, in place of a name server.
    #[schemars(with = "BTreeMap<String, String>")]
    pub resolve: BTreeMap<String, SocketAddr>,
    /// The processes that workflows may start; none where nothing is said.
    pub allow: Allow,
    /// The program that runs containers; `docker`, or else `podman`, where none is named.
    pub container_engine: Option<PathBuf>,
    /// How much of an operation may go on at once, or in a time; what is beyond it waits.
    pub limits: Limits,
    /// Where secrets are: a JSON file with one member each, or a directory with one file each.
    pub secrets: Option<PathBuf>,
}

/// What workflows may do on the orchestrator's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// Commands of `run: shell`, by their first word; `*` for all.
    pub shell: BTreeSet<String>,
    /// Languages of `run: script`, such as `python`.
    pub script: BTreeSet<String>,
    /// Images of `run: container`, by their name without a tag; `*` for all.
    pub container: BTreeSet<String>,
    /// Directories whose files may be read as documents, by `file:` URIs.
    pub file: BTreeSet<PathBuf>,
}

impl Calls {
    /// Reads the files that are named and sets calls up.
    ///
    /// # Errors
    /// [`Kind::Config`] for a file that cannot be read or does not hold what it should.
    pub(crate) fn open(&self) -> Result<Protocols, Error> {
        let extra_roots = self.ca.iter().map(|path| read("calls.ca", path)).collect::<Result<_, _>>()?;
        let secrets = self.secrets.as_deref().map(secrets).transpose()?.unwrap_or_default();
        let settings = Settings {
            extra_roots,
            resolve: self.resolve.clone(),
            secrets,
            allow: self.allow.clone().into(),
            container_engine: self.container_engine.clone(),
            ..Settings::default()
        };
        Protocols::new(settings).map_err(|error| Error::new(Kind::Config, format!("calls: {error}")))
    }
}

impl Allow {
    /// Says whether an orchestrator with these settings has what a definition needs.
    pub(crate) fn has(&self, need: Need) -> bool {
        match need {
            Need::Protocol(Protocol::Shell) => !self.shell.is_empty(),
            Need::Protocol(Protocol::Script) => !self.script.is_empty(),
            Need::Protocol(Protocol::Container) => !self.container.is_empty(),
            Need::Protocol(Protocol::Human) => false,
            Need::Protocol(_) | Need::Children | Need::Secrets => true,
            _ => false,
        }
    }
}

impl From<Allow> for sinew_protocols::Allow {
    fn from(Allow { shell, script, container, file }: Allow) -> Self {
        Self { shell, script, container, file }
    }
}

fn secrets(path: &Path) -> Result<BTreeMap<String, Value>, Error> {
    if !path.is_dir() {
        let text = read("calls.secrets", path)?;
        // What the parser would say of it may quote a secret.
        return serde_json::from_str(&text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            wrong("calls.secrets", path, &format!("line {line}, column {column}: write one JSON object"))
        });
    }
    let entries = fs::read_dir(path).map_err(|error| wrong("calls.secrets", path, &error.to_string()))?;
    let mut secrets = BTreeMap::new();
    for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let text = read("calls.secrets", &entry.path())?;
        // A file that holds JSON is a secret with members; any other is a text, without the newline editors add.
        let value = serde_json::from_str(&text).ok().filter(Value::is_object);
        secrets.insert(name, value.unwrap_or_else(|| Value::from(text.trim_end_matches('\n'))));
    }
    Ok(secrets)
}

fn read(setting: &str, path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| wrong(setting, path, &error.to_string()))
}

fn wrong(setting: &str, path: &Path, reason: &str) -> Error {
    Error::new(Kind::Config, format!("{setting}: {} cannot be used: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_read_from_a_file_and_from_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets.json");
        fs::write(&file, r#"{"token": "t", "login": {"username": "u"}}"#).unwrap();
        let expected = BTreeMap::from([
            ("token".to_owned(), json!("t")),
            ("login".to_owned(), json!({ "username": "u" })),
        ]);
        assert_eq!(secrets(&file).unwrap(), expected);
        let mounted = folder.path().join("mounted");
        fs::create_dir(&mounted).unwrap();
        fs::write(mounted.join("token"), "t\n").unwrap();
        fs::write(mounted.join("login"), r#"{"username": "u"}"#).unwrap();
        assert_eq!(secrets(&mounted).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_with_secrets_is_said_without_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets.json");
        fs::write(&file, "hunter2").unwrap();
        let error = secrets(&file).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().contains("secrets.json"), "{error}");
        let missing = Calls { ca: vec!["/nowhere/ca.pem".into()], ..Calls::default() }.open().unwrap_err();
        assert!(missing.to_string().contains("calls.ca: /nowhere/ca.pem"), "{missing}");
    }

    #[test]
    fn processes_are_off_until_allowed() {
        let shell = Need::Protocol(Protocol::Shell);
        assert!(!Allow::default().has(shell));
        assert!(Allow { shell: BTreeSet::from(["ls".to_owned()]), ..Allow::default() }.has(shell));
        assert!(Allow::default().has(Need::Protocol(Protocol::Http)));
    }
}

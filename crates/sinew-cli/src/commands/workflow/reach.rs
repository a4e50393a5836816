//! How calls and references reach their hosts: secrets, authorities, addresses, files.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sinew_orchestrator::{Allow, local::Calling};
use sinew_workflow::Resources;

use super::run::parse;
use crate::error::{Error, Kind, code};

#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "How hosts are reached")]
pub(super) struct ReachArgs {
    /// A document that these refer to, in place of what stands there: a function, a schema
    #[arg(long = "resource", value_name = "URI=FILE")]
    resources: Vec<String>,
    /// A secret of `use.secrets`; NAME alone takes the environment variable of that name, which other users cannot see
    #[arg(long = "secret", value_name = "NAME[=VALUE]")]
    secrets: Vec<String>,
    /// Secrets, as JSON or YAML
    #[arg(long = "secrets", value_name = "FILE")]
    secret_files: Vec<PathBuf>,
    /// Lets `file:` URIs name documents below this directory
    #[arg(long = "allow-file", value_name = "DIRECTORY")]
    allow_files: Vec<PathBuf>,
    /// Trusts the certificates of this file, in PEM, beside those of the system
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// Where a host really is, in place of a name server: api.example.com:443=127.0.0.1:8443
    #[arg(long, value_name = "HOST:PORT=ADDRESS", value_parser = resolved)]
    resolve: Vec<(String, SocketAddr)>,
}

impl ReachArgs {
    /// Reads what is named: files and variables. Nothing may be started.
    pub(super) fn settings(&self) -> Result<Calling, Error> {
        let text =
            |path: &PathBuf| std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error));
        Ok(Calling {
            extra_roots: self.ca.iter().map(text).collect::<Result<_, _>>()?,
            resolve: self.resolve.iter().cloned().collect(),
            secrets: self.secrets(|name| std::env::var(name).ok())?,
            allow: Allow { file: self.files(), ..Allow::default() },
            container_engine: None,
        })
    }

    pub(super) fn files(&self) -> BTreeSet<PathBuf> {
        self.allow_files.iter().cloned().collect()
    }

    /// Reads the documents that take the place of others.
    pub(super) fn resources(&self) -> Result<Resources, Error> {
        let mut resources = Resources::default();
        for given in &self.resources {
            // A URI may have an equals sign in its query; the file comes last.
            let Some((uri, path)) = given.rsplit_once('=') else {
                return Err(Error::usage(format!("--resource {given}: write URI=FILE")));
            };
            let path = Path::new(path);
            let text = std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))?;
            resources.insert(uri, text);
        }
        Ok(resources)
    }

    /// Collects secrets; a later one replaces an earlier. No error shows a value.
    fn secrets(&self, variable: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, Value>, Error> {
        let mut secrets = BTreeMap::new();
        for path in &self.secret_files {
            secrets.extend(secrets_of(path)?);
        }
        for given in &self.secrets {
            let (name, value) = match given.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (given.as_str(), variable(given)),
            };
            if name.is_empty() {
                return Err(refused("--secret needs a name: write NAME=VALUE"));
            }
            let Some(value) = value else {
                return Err(refused(&format!("--secret {name}: there is no variable of that name")));
            };
            // An object is a secret with members, anything else is taken as it stands.
            let object = serde_json::from_str(&value).ok().filter(Value::is_object);
            secrets.insert(name.to_owned(), object.unwrap_or(Value::String(value)));
        }
        Ok(secrets)
    }
}

fn secrets_of(path: &Path) -> Result<BTreeMap<String, Value>, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::unreadable(path, &error))?;
    let name = path.display();
    // What the parser says may quote what it could not read.
    let read = parse(&text, "").map_err(|_| refused(&format!("{name} is neither JSON nor YAML")))?;
    match read {
        Value::Object(members) => Ok(members.into_iter().collect()),
        _ => Err(refused(&format!("{name} holds no object: write one member for each secret"))),
    }
}

fn refused(message: &str) -> Error {
    Error::new(Kind::Failed, code::USAGE, message)
}

fn resolved(text: &str) -> Result<(String, SocketAddr), String> {
    let wrong = || "write HOST:PORT=ADDRESS:PORT, such as api.example.com:443=127.0.0.1:8443".to_owned();
    let (host, address) = text.split_once('=').ok_or_else(wrong)?;
    let (name, port) = host.rsplit_once(':').ok_or_else(wrong)?;
    if name.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok((host.to_owned(), address.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reach(secrets: &[&str]) -> ReachArgs {
        let secrets = secrets.iter().map(|&secret| secret.to_owned()).collect();
        ReachArgs { secrets, ..ReachArgs::default() }
    }

    #[test]
    fn a_secret_comes_from_the_argument_or_the_environment() {
        let variable = |name: &str| (name == "TOKEN").then(|| "t=1".to_owned());
        let secrets = reach(&["a=b=c", "TOKEN", r#"login={"username":"u"}"#]).secrets(variable).unwrap();
        let expected = json!({ "a": "b=c", "TOKEN": "t=1", "login": { "username": "u" } });
        assert_eq!(json!(secrets), expected);
        let error = reach(&["MISSING"]).secrets(variable).unwrap_err();
        assert!(error.to_string().contains("MISSING"), "{error}");
        assert!(!reach(&["=hunter2"]).secrets(variable).unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn a_host_is_resolved_with_its_port() {
        let address = "127.0.0.1:8443".parse().unwrap();
        assert_eq!(resolved("a.b:443=127.0.0.1:8443"), Ok(("a.b:443".to_owned(), address)));
        for bad in ["a.b=127.0.0.1:1", "a.b:443", "a.b:443=c.d:1", ":1=127.0.0.1:1"] {
            assert!(resolved(bad).is_err(), "{bad}");
        }
    }
}

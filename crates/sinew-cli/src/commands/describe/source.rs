//! Where descriptions come from when no program is run: files and the catalogue.

use std::{io::Read, path::Path};

use serde_json::Value;
use sinew::{Bus, wire::ServiceDescriptor};

use crate::{
    catalogue::{self, Known, nearest},
    error::{Error, Kind, code},
};

/// Reads a file that holds one description or a list of them.
pub(super) fn file(path: &Path) -> Result<Vec<ServiceDescriptor>, Error> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        _ => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.map_err(|error| Error::unreadable(path, &error))?;
    let refused = |reason: serde_json::Error| {
        let message = format!("{} describes no service: {reason}", path.display());
        Error::new(Kind::Document, code::DESCRIPTION, message)
            .hint("write it with `sinew describe --json -- PROGRAM`")
    };
    match serde_json::from_str(&text).map_err(refused)? {
        list @ Value::Array(_) => serde_json::from_value(list).map_err(refused),
        one => serde_json::from_value(one).map(|one| vec![one]).map_err(refused),
    }
}

/// Reads the contracts of `wanted`, or of everybody.
pub(super) async fn catalogue(bus: &Bus, wanted: &[String]) -> Result<Vec<ServiceDescriptor>, Error> {
    let mut known = catalogue::services(bus).await?;
    if wanted.is_empty() {
        return Ok(known.into_values().filter_map(|known| known.contract).collect());
    }
    let names: Vec<String> = known.keys().cloned().collect();
    wanted.iter().map(|name| contract(known.remove(name), name, &names)).collect()
}

fn contract(known: Option<Known>, name: &str, names: &[String]) -> Result<ServiceDescriptor, Error> {
    match known {
        Some(Known { contract: Some(contract), .. }) => Ok(contract),
        Some(_) => Err(Error::failed(
            code::UNKNOWN_SERVICE,
            format!("{name} answers discovery, but has no contract in the catalogue"),
        )
        .hint(format!(
            "it belongs to another NATS client: `sinew services {name}` shows what it says of itself"
        ))),
        None => {
            let error = Error::failed(code::UNKNOWN_SERVICE, format!("there is no service {name}"));
            Err(match nearest(name, names).as_slice() {
                [] => error.hint("`sinew services` lists those that were ever seen here"),
                close => error.hint(format!("did you mean {}?", close.join(" or "))),
            })
        }
    }
}

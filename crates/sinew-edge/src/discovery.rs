//! Routes that services without a contract ask for: NATS micro services in any language, by the metadata of their endpoints.
//!
//! An endpoint with `http: "POST /tally"` among its metadata is served there, in JSON. `http.body` names the field that takes
//! the whole body, `http.status` the status of a success.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use sinew::{
    Bus, Error,
    wire::{Headers, HttpBinding, OperationDescriptor, ServiceDescriptor},
};

/// How long everybody may take to answer. Nobody knows how many there are, so all of it is always waited for.
const ROLL_CALL: Duration = Duration::from_millis(500);

/// What one instance says of itself (ADR-32); some clients write `null` for what they have none of.
#[derive(Debug, Deserialize)]
struct Info {
    name: String,
    version: String,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    name: String,
    subject: String,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

/// Asks every instance of every service. Of two that have one name the newest version speaks for both.
///
/// # Errors
/// When the bus cannot be asked.
pub(crate) async fn ask(bus: &Bus) -> Result<BTreeMap<String, ServiceDescriptor>, Error> {
    let answers = bus.gather("$SRV.INFO", &Headers::new(), Bytes::new(), ROLL_CALL).await?;
    let mut found: BTreeMap<String, ServiceDescriptor> = BTreeMap::new();
    for service in answers.iter().filter_map(|answer| read(answer.payload())) {
        let newer = found.get(&service.name).is_none_or(|known| known.version < service.version);
        if newer {
            found.insert(service.name.clone(), service);
        }
    }
    Ok(found)
}

/// What is no answer to that question, or asks for no route, is passed over.
fn read(answer: &[u8]) -> Option<ServiceDescriptor> {
    let info: Info = serde_json::from_slice(answer).ok()?;
    let operations: Vec<OperationDescriptor> =
        info.endpoints.unwrap_or_default().into_iter().filter_map(operation).collect();
    let described = ServiceDescriptor {
        name: info.name,
        version: info.version,
        operations,
        ..ServiceDescriptor::default()
    };
    (!described.operations.is_empty()).then_some(described)
}

fn operation(endpoint: Endpoint) -> Option<OperationDescriptor> {
    let metadata = endpoint.metadata?;
    let (method, path) = metadata.get("http")?.split_once(' ')?;
    Some(OperationDescriptor {
        name: endpoint.name,
        subject: endpoint.subject,
        description: metadata.get("description").cloned().unwrap_or_default(),
        idempotent: metadata.get("idempotent").is_some_and(|text| text == "true"),
        stream: false,
        upload: None,
        accepts: false,
        http: Some(HttpBinding {
            method: method.to_owned(),
            path: path.trim().to_owned(),
            body: metadata.get("http.body").cloned(),
            status: metadata.get("http.status").and_then(|text| text.parse().ok()),
        }),
        request: Value::Bool(true),
        reply: Value::Bool(true),
        errors: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_asks_for_a_route_by_its_metadata() {
        let text = br#"{ "name": "tally", "id": "x", "version": "0.1.0", "metadata": null, "endpoints": [
            { "name": "add", "subject": "math.add", "metadata": { "http": "POST /tally/{name}", "http.status": "201" } },
            { "name": "internal", "subject": "math.internal", "metadata": null } ] }"#;
        let service = read(text).unwrap();
        let [add] = service.operations.as_slice() else { panic!("{service:?}") };
        let http = add.http.as_ref().unwrap();
        assert_eq!(
            (http.method.as_str(), http.path.as_str(), http.status),
            ("POST", "/tally/{name}", Some(201))
        );
        for other in [&b"hello"[..], br#"{"name":"a","version":"1.0.0","endpoints":null}"#] {
            assert!(read(other).is_none());
        }
    }
}

//! What is served here, as far as the bus knows: contracts from the catalogue, and who answers just now.

use futures::future::join_all;
use serde_json::Value;
use sinew::{
    Bus, Kind,
    wire::{ContentType, Headers, ServiceDescriptor},
};
use std::time::Duration;

use crate::{error::Error, operation::OperationName};

/// The bucket of contracts as a stream, and the subjects of its keys.
const STREAM: &str = "KV_SINEW_CATALOGUE";
const KEYS: &str = "$KV.SINEW_CATALOGUE.>";
/// How long a service may take to say that it is there.
const PING: Duration = Duration::from_secs(1);
/// Names this close, of 1, are worth suggesting.
const CLOSE: f64 = 0.75;

/// Reads every contract, sorted by service.
pub(crate) async fn contracts(bus: &Bus) -> Result<Vec<ServiceDescriptor>, Error> {
    let mut contracts: Vec<ServiceDescriptor> = Vec::new();
    let mut reader = bus.read_stream(STREAM, KEYS, 1).await?;
    loop {
        let batch = match reader.batch().await {
            // Nothing was ever served here.
            Err(error) if error.kind() == Kind::NoResponders => return Ok(contracts),
            batch => batch?,
        };
        if batch.is_empty() {
            contracts.sort_by(|a, b| a.name.cmp(&b.name));
            return Ok(contracts);
        }
        // A removed contract leaves a marker, which is no contract.
        let read = |bytes: &[u8]| sinew::wire::decode(ContentType::Json, bytes).ok();
        contracts.extend(batch.iter().filter_map(|stored| read(&stored.payload)));
    }
}

/// Asks each service whether it is there; returns what `$SRV.INFO` answered, `None` for nobody.
pub(crate) async fn present(bus: &Bus, services: &[ServiceDescriptor]) -> Vec<Option<Value>> {
    let ask = async |service: &ServiceDescriptor| {
        let subject = format!("$SRV.INFO.{}", service.name);
        let answer = bus.request(&subject, &Headers::new(), bytes::Bytes::new(), PING).await.ok()?;
        serde_json::from_slice(answer.payload()).ok()
    };
    join_all(services.iter().map(ask)).await
}

/// Says why nobody answers `wanted`, with the nearest names that might have been meant.
pub(crate) async fn explain_absence(bus: &Bus, wanted: &OperationName) -> Error {
    let contracts = match contracts(bus).await {
        Ok(contracts) => contracts,
        Err(error) => return error,
    };
    let known: Vec<String> = names(&contracts).collect();
    if known.contains(&wanted.to_string()) {
        let problem = format!("nobody serves {wanted} right now");
        let hint = format!("start the service {}; `sinew services` shows who is there", wanted.service);
        return Error::failed("no-responders", problem).hint(hint);
    }
    let error =
        Error::failed(crate::error::code::UNKNOWN_OPERATION, format!("there is no operation {wanted}"));
    match nearest(&wanted.to_string(), &known).as_slice() {
        [] => error.hint("`sinew services` lists what is served"),
        [one] => error.hint(format!("did you mean {one}?")),
        several => error.hint(format!("did you mean one of {}?", several.join(", "))),
    }
}

/// Returns up to three names close to `wanted`, the closest first.
pub(crate) fn nearest<'n>(wanted: &str, known: &'n [String]) -> Vec<&'n str> {
    let mut close: Vec<(f64, &str)> = known
        .iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name.as_str()))
        .filter(|(score, _)| *score >= CLOSE)
        .collect();
    close.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    close.into_iter().take(3).map(|(_, name)| name).collect()
}

fn names(contracts: &[ServiceDescriptor]) -> impl Iterator<Item = String> + '_ {
    contracts.iter().flat_map(|service| {
        service.operations.iter().map(|operation| format!("{}.{}", service.name, operation.name))
    })
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn close_names_are_suggested_and_others_are_not() {
        let known: Vec<String> = ["greeter.hello", "orders.place", "orders.get"].map(str::to_owned).into();
        assert_eq!(nearest("greeter.helo", &known), ["greeter.hello"]);
        assert_eq!(nearest("order.place", &known).first(), Some(&"orders.place"));
        assert!(nearest("xyz", &known).is_empty());
    }
}

//! What is served here, as far as the bus knows: contracts from the catalogue, and who answers just now.

use std::collections::BTreeMap;

use sinew::{Bus, Catalogue, Kind, wire::ServiceDescriptor};

use crate::{
    discovery::{self, Info},
    error::{Error, code},
    operation::OperationName,
};

/// Names this close, of 1, are worth suggesting.
const CLOSE: f64 = 0.75;

/// A service, known by its contract, by those who answer for it, or by both.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// `None` for a service that announces none: one of another NATS client.
    pub(crate) contract: Option<ServiceDescriptor>,
    /// Its running instances; none when nobody serves it.
    pub(crate) instances: Vec<Info>,
}

/// Lists every service by name.
pub(crate) async fn services(bus: &Bus) -> Result<BTreeMap<String, Known>, Error> {
    let (contracts, infos) = tokio::try_join!(contracts(bus), discovery::everybody(bus))?;
    Ok(merge(contracts, infos))
}

/// Says why nobody answers `wanted`, with the nearest names that might have been meant.
pub(crate) async fn explain_absence(bus: &Bus, wanted: &OperationName) -> Error {
    let services = match services(bus).await {
        Ok(services) => services,
        Err(error) => return error,
    };
    let known = operations(&services);
    if known.contains(&wanted.to_string()) {
        let problem = format!("nobody serves {wanted} right now");
        let hint = format!("start the service {}; `sinew services` shows who is there", wanted.service);
        return Error::failed("no-responders", problem).hint(hint);
    }
    let error = Error::failed(code::UNKNOWN_OPERATION, format!("there is no operation {wanted}"));
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

/// Reads every contract. A server that keeps no catalogue has none; those who answer are worth seeing all the same.
async fn contracts(bus: &Bus) -> Result<Vec<ServiceDescriptor>, sinew::Error> {
    let read = async { Catalogue::open(bus).await?.all().await };
    match read.await {
        Err(error) if error.kind() == Kind::JetStream => {
            tracing::warn!(%error, "there is no catalogue to read");
            Ok(Vec::new())
        }
        read => read,
    }
}

fn merge(contracts: Vec<ServiceDescriptor>, infos: Vec<Info>) -> BTreeMap<String, Known> {
    let mut services: BTreeMap<String, Known> = BTreeMap::new();
    for contract in contracts {
        let known = services.entry(contract.name.clone()).or_default();
        known.contract = Some(contract);
    }
    for info in infos {
        services.entry(info.name.clone()).or_default().instances.push(info);
    }
    services
}

/// Returns `<service>.<operation>` of all that is known.
fn operations(services: &BTreeMap<String, Known>) -> Vec<String> {
    let of_one = |(service, known): (&String, &Known)| {
        let announced = known.contract.iter().flat_map(|contract| &contract.operations);
        let answered = known.instances.iter().flat_map(|info| &info.endpoints);
        let names = announced.map(|one| &one.name).chain(answered.map(|one| &one.name));
        let mut names: Vec<String> = names.map(|name| format!("{service}.{name}")).collect();
        names.sort();
        names.dedup();
        names
    };
    services.iter().flat_map(of_one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn close_names_are_suggested_and_others_are_not() {
        let known: Vec<String> = ["greeter.hello", "orders.place", "orders.get"].map(str::to_owned).into();
        assert_eq!(nearest("greeter.helo", &known), ["greeter.hello"]);
        assert_eq!(nearest("order.place", &known).first(), Some(&"orders.place"));
        assert!(nearest("xyz", &known).is_empty());
    }

    #[test]
    fn contracts_and_answers_are_put_together_by_name() {
        let contract = |name: &str| {
            let operation =
                json!({ "name": "act", "subject": format!("svc.{name}.act"), "request": {}, "reply": {} });
            serde_json::from_value(json!({ "name": name, "version": "1.0.0", "operations": [operation] }))
                .unwrap()
        };
        let info = |name: &str, endpoint: &str| {
            let endpoint = json!({ "name": endpoint, "subject": "anywhere" });
            serde_json::from_value(json!({ "name": name, "version": "1.0.0", "endpoints": [endpoint] }))
                .unwrap()
        };
        let services = merge(
            vec![contract("gone"), contract("both")],
            vec![info("both", "act"), info("foreign", "add"), info("both", "act")],
        );
        let told: Vec<_> = services
            .iter()
            .map(|(name, known)| (name.as_str(), known.contract.is_some(), known.instances.len()))
            .collect();
        assert_eq!(told, [("both", true, 2), ("foreign", false, 1), ("gone", true, 0)]);
        assert_eq!(operations(&services), ["both.act", "foreign.add", "gone.act"]);
    }
}

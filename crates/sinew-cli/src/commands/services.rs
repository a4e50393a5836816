//! `sinew services`: what is served, by whom, and whether anybody is there just now.

use serde::Serialize;
use serde_json::Value;
use sinew::wire::{OperationDescriptor, ServiceDescriptor};

use crate::{
    catalogue,
    error::Error,
    output::{Output, Style, columns},
    session::Session,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only services whose name contains this
    #[arg(value_name = "NAME")]
    filter: Option<String>,
}

/// A contract, and whether it is served.
#[derive(Serialize)]
struct Listed {
    serving: bool,
    #[serde(flatten)]
    contract: ServiceDescriptor,
    /// The version that answered, where it differs from the catalogue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    running_version: Option<String>,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let wanted = |contract: &ServiceDescriptor| {
        args.filter.as_ref().is_none_or(|filter| contract.name.contains(filter.as_str()))
    };
    let listed = session
        .on_bus(async |bus| {
            let mut contracts = catalogue::contracts(bus).await?;
            contracts.retain(wanted);
            let present = catalogue::present(bus, &contracts).await;
            Ok(contracts
                .into_iter()
                .zip(present)
                .map(|(contract, info)| merge(contract, info))
                .collect::<Vec<_>>())
        })
        .await?;
    session.output.show(&listed, |listed| text(listed, &session.output));
    Ok(())
}

fn merge(contract: ServiceDescriptor, info: Option<Value>) -> Listed {
    let version = info.as_ref().and_then(|info| info["version"].as_str());
    let running_version = version.filter(|version| *version != contract.version).map(str::to_owned);
    Listed { serving: info.is_some(), contract, running_version }
}

fn text(listed: &[Listed], output: &Output) -> String {
    if listed.is_empty() {
        return "no service was ever seen here: start one, for example with `cargo run -p hello`".to_owned();
    }
    listed.iter().map(|one| block(one, output)).collect::<Vec<_>>().join("\n\n")
}

fn block(listed: &Listed, output: &Output) -> String {
    let contract = &listed.contract;
    let state = if listed.serving {
        output.paint(Style::Good, "serving")
    } else {
        output.paint(Style::Bad, "nobody there")
    };
    let mut text = format!("{} {}  {state}", output.paint(Style::Strong, &contract.name), contract.version);
    if let Some(version) = &listed.running_version {
        text.push_str(&format!("  (answers as {version})"));
    }
    let rows: Vec<Vec<String>> = contract.operations.iter().map(|one| row(&contract.name, one)).collect();
    text.push_str(&format!("\n{}", columns(&rows)));
    for group in &contract.groups {
        text.push_str(&format!(
            "\n  on {}  group {}, {} attempts",
            group.event.name, group.name, group.attempts
        ));
    }
    text
}

fn row(service: &str, operation: &OperationDescriptor) -> Vec<String> {
    let http =
        operation.http.as_ref().map_or_else(String::new, |http| format!("{} {}", http.method, http.path));
    vec![format!("  {service}.{}", operation.name), http, operation.description.clone()]
}

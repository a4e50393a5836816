//! `sinew services`: what is served, by how many, and what nobody serves just now.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use sinew::wire::{OperationDescriptor, ServiceDescriptor};

use crate::{
    catalogue::{self, Known},
    diagnostics::counted,
    discovery::{Endpoint, Info},
    error::Error,
    output::{Output, Style, columns},
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Lists the contracts in the catalogue and every NATS service that answers discovery, in \
                        whatever language.\n\nExamples:\n  sinew services\n  sinew services orders\n  sinew --json \
                        services orders    # with the schemas"
)]
pub(crate) struct Args {
    /// Only services whose name contains this
    #[arg(value_name = "NAME")]
    filter: Option<String>,
}

/// A service, and whether it is there.
#[derive(Serialize)]
struct Listed {
    serving: bool,
    /// How many instances answer.
    instances: usize,
    /// The versions that answer.
    running_versions: BTreeSet<String>,
    /// Whether its contract is in the catalogue; otherwise all of it is what it says of itself.
    catalogued: bool,
    #[serde(flatten)]
    contract: ServiceDescriptor,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let services = session.on_bus(async |bus| catalogue::services(bus).await).await?;
    let wanted = |name: &str| args.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    let listed: Vec<Listed> =
        services.into_iter().filter(|(name, _)| wanted(name)).map(|(_, known)| Listed::new(known)).collect();
    session.output.show(&listed, |listed| text(listed, args.filter.as_deref(), &session.output));
    Ok(())
}

impl Listed {
    fn new(Known { contract, instances }: Known) -> Self {
        Self {
            serving: !instances.is_empty(),
            instances: instances.len(),
            running_versions: instances.iter().map(|info| info.version.clone()).collect(),
            catalogued: contract.is_some(),
            contract: contract.unwrap_or_else(|| introduced(&instances)),
        }
    }
}

/// Writes down what a service without a contract says of itself; schemas are not part of that.
fn introduced(instances: &[Info]) -> ServiceDescriptor {
    // Instances of several versions may serve different things: each is listed once.
    let mut operations: Vec<OperationDescriptor> = Vec::new();
    for endpoint in instances.iter().flat_map(|info| &info.endpoints) {
        if operations.iter().all(|known| known.name != endpoint.name) {
            operations.push(operation(endpoint));
        }
    }
    let first = instances.first();
    ServiceDescriptor {
        name: first.map(|info| info.name.clone()).unwrap_or_default(),
        version: first.map(|info| info.version.clone()).unwrap_or_default(),
        description: first.and_then(|info| info.description.clone()).unwrap_or_default(),
        operations,
        ..ServiceDescriptor::default()
    }
}

fn operation(endpoint: &Endpoint) -> OperationDescriptor {
    OperationDescriptor {
        name: endpoint.name.clone(),
        subject: endpoint.subject.clone(),
        description: String::new(),
        idempotent: false,
        stream: false,
        accepts: false,
        upload: None,
        http: None,
        request: Value::Null,
        reply: Value::Null,
        errors: Vec::new(),
    }
}

fn text(listed: &[Listed], filter: Option<&str>, output: &Output) -> String {
    match (listed, filter) {
        ([], None) => {
            "no service was ever seen here: start one, for example with `cargo run -p hello`".to_owned()
        }
        ([], Some(filter)) => {
            format!("no service has {filter} in its name: `sinew services` lists all of them")
        }
        _ => listed.iter().map(|one| block(one, output)).collect::<Vec<_>>().join("\n\n"),
    }
}

fn block(listed: &Listed, output: &Output) -> String {
    let contract = &listed.contract;
    let mut text = format!(
        "{} {}  {}",
        output.paint(Style::Strong, &contract.name),
        contract.version,
        state(listed, output)
    );
    let row = |one: &OperationDescriptor| row(&contract.name, one, listed.catalogued);
    let rows: Vec<Vec<String>> = contract.operations.iter().map(row).collect();
    if !rows.is_empty() {
        text.push_str(&format!("\n{}", columns(&rows)));
    }
    for group in &contract.groups {
        let attempts = counted(usize::try_from(group.attempts).unwrap_or(usize::MAX), "attempt");
        text.push_str(&format!("\n  on {}  group {}, {attempts}", group.event.name, group.name));
    }
    text
}

fn state(listed: &Listed, output: &Output) -> String {
    if !listed.serving {
        return format!("{}, known from the catalogue", output.paint(Style::Bad, "nobody there"));
    }
    let mut text =
        format!("{}, {}", output.paint(Style::Good, "serving"), counted(listed.instances, "instance"));
    let versions: Vec<&str> = listed.running_versions.iter().map(String::as_str).collect();
    if versions != [listed.contract.version.as_str()] {
        text.push_str(&format!(" as {}", versions.join(", ")));
    }
    if !listed.catalogued {
        text.push_str(", not in the catalogue");
    }
    text
}

/// A contract says how HTTP reaches an operation; without one it is known where it listens, and no more.
fn row(service: &str, operation: &OperationDescriptor, catalogued: bool) -> Vec<String> {
    let http = operation.http.as_ref().map(|http| format!("{} {}", http.method, http.path));
    let place = if catalogued { http.unwrap_or_default() } else { format!("on {}", operation.subject) };
    vec![format!("  {service}.{}", operation.name), place, operation.description.clone()]
}

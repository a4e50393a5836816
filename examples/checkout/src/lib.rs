//! A shop's checkout in four services and one workflow: the saga that Sinew is about, small enough to read at once.
//!
//! [`orders`] takes an order over HTTP and starts the workflow [`PLACE_ORDER`], which asks [`inventory`] to reserve,
//! [`payments`] to charge and [`shipping`] to book. When a step fails, what was done is undone in reverse; when all
//! succeeded, [`orders`] confirms, and from there nothing is undone any more.
//!
//! Every service keeps two promises that make this safe, both in [`participant`]: an operation repeated under its
//! idempotency key takes effect once, and an undo works also where nothing was done, and then keeps a late request
//! from doing it after all. What really took effect is written to a [`Ledger`], so that a test can compare it with
//! what the workflow says.
//!
//! Some inputs make trouble on purpose: the sku `sold-out` is never in stock, the card `4000-declined` is refused,
//! and the address `slow` is booked by a carrier that answers too late.

pub mod inventory;
mod ledger;
pub mod orders;
pub mod participant;
pub mod payments;
pub mod shipping;

pub use ledger::{Effect, Ledger};

/// The workflow that places an order, as `sinew workflow apply` takes it.
pub const PLACE_ORDER: &str = include_str!("../place-order.yaml");

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Item {
    /// What is ordered.
    pub sku: String,
    /// How many of it.
    pub quantity: u32,
}

/// Serves one of the services until the process is asked to stop; what the binaries of this package do.
///
/// Reads `NATS_URL` and `OTEL_EXPORTER_OTLP_ENDPOINT`.
///
/// # Errors
/// As [`sinew::Service::run`].
#[expect(clippy::print_stderr, reason = "says to whoever started it what to do next")]
pub async fn run<S: Clone + Send + Sync + 'static>(service: sinew::Service<S>) -> Result<(), sinew::Error> {
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let url = variable("NATS_URL").unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned());
    let name = service.describe().name;
    eprintln!("{name} connects to {url}; then try: sinew describe {name}");
    let config = sinew::Config::new(url, name);
    service.run(config.traced_to(variable("OTEL_EXPORTER_OTLP_ENDPOINT"))).await
}

#[cfg(test)]
mod tests {
    use sinew_workflow::Definition;

    #[test]
    fn the_workflow_is_valid_runnable_and_calls_what_the_services_serve() {
        let definition = Definition::parse(crate::PLACE_ORDER, "place-order.yaml").unwrap();
        assert_eq!(definition.warnings(), []);
        definition.runnable().unwrap();
        let ledger = crate::Ledger::default;
        let served = [
            crate::orders::service(crate::orders::Orders::new(ledger())).describe(),
            crate::inventory::service(crate::inventory::Inventory::new(ledger())).describe(),
            crate::payments::service(crate::payments::Payments::new(ledger())).describe(),
            crate::shipping::service(crate::shipping::Shipping::new(ledger())).describe(),
        ];
        for (service, operation) in definition.operations() {
            let contract = served.iter().find(|contract| contract.name == service);
            let operations = contract.map(|contract| &contract.operations);
            let found = operations.is_some_and(|all| all.iter().any(|one| one.name == operation));
            assert!(found, "{service}.{operation}");
        }
    }
}

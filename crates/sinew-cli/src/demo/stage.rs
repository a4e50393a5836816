//! The stage: broker, orchestrator, edge and the four services, each service on a connection of its own.

use std::{borrow::Cow, net::SocketAddr};

use checkout::{
    Ledger, PLACE_ORDER,
    inventory::{self, Inventory},
    orders::{self, Orders},
    payments::{self, Payments},
    shipping::{self, Shipping},
};
use serde_json::{Value, json};
use sinew::{Bus, Ctx, Running, Service, workflow::ApplyWorkflow};

use crate::{
    error::Error,
    roles::{Place, Roles},
    session::Session,
    settings::without_secrets,
};

/// Everything that runs for the demo. Call [`Stage::close`] before the process ends, also after an error.
#[derive(Default)]
pub(crate) struct Stage {
    pub(crate) roles: Roles,
    url: String,
    address: Option<SocketAddr>,
    broker: Value,
    /// Outlives its service, as a database would.
    stock: Option<Inventory>,
    inventory: Option<Host>,
    others: Vec<Host>,
}

/// A service at work, on its own connection.
struct Host {
    running: Running,
    bus: Bus,
}

impl Stage {
    /// Starts everything and applies the workflow.
    pub(crate) async fn open(&mut self, session: &Session) -> Result<(), Error> {
        let broker = self.roles.start_broker(session, Place::default()).await?;
        self.broker =
            json!({ "version": broker.version().to_string(), "source": broker.source().to_string() });
        self.url = broker.url().to_owned();
        let orchestrator = sinew_orchestrator::Config::default();
        self.roles.start_orchestrator(session, orchestrator).await?;
        self.start_services(session).await?;
        self.apply(session).await?;
        let edge = sinew_edge::Config { listen: ([127, 0, 0, 1], 0).into(), ..sinew_edge::Config::default() };
        self.address = Some(self.roles.start_edge(session, edge).await?);
        Ok(())
    }

    /// Returns where the edge listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.unwrap_or_else(|| ([127, 0, 0, 1], 0).into())
    }

    /// Returns the address of the bus, fit to be shown.
    pub(crate) fn url(&self) -> Cow<'_, str> {
        without_secrets(&self.url)
    }

    /// Returns which broker is in use.
    pub(crate) fn broker(&self) -> &Value {
        &self.broker
    }

    /// Stops the inventory in order; nobody serves its operations after that.
    pub(crate) async fn drain_inventory(&mut self) {
        if let Some(host) = self.inventory.take() {
            host.close().await;
        }
    }

    /// Starts the inventory, with the stock it had.
    pub(crate) async fn start_inventory(&mut self, session: &Session) -> Result<(), Error> {
        let stock = self.stock.get_or_insert_with(|| Inventory::new(Ledger::default())).clone();
        self.inventory = Some(Host::start(session, &self.url, inventory::service(stock)).await?);
        Ok(())
    }

    /// Stops everything in order: the edge and the orchestrator before the services they call, the broker at last.
    pub(crate) async fn close(self) {
        self.roles
            .drain_around(async {
                for host in self.others.into_iter().chain(self.inventory) {
                    host.close().await;
                }
            })
            .await;
    }

    async fn start_services(&mut self, session: &Session) -> Result<(), Error> {
        let url = self.url.clone();
        let ledger = Ledger::default();
        self.others.push(Host::start(session, &url, orders::service(Orders::new(ledger.clone()))).await?);
        self.others.push(Host::start(session, &url, payments::service(Payments::new(ledger.clone()))).await?);
        self.others.push(Host::start(session, &url, shipping::service(Shipping::new(ledger))).await?);
        self.start_inventory(session).await
    }

    async fn apply(&self, session: &Session) -> Result<(), Error> {
        let bus = session.connect_to(&self.url, "sinew-demo").await?;
        let request = ApplyWorkflow { source: PLACE_ORDER.to_owned(), file: "place-order.yaml".to_owned() };
        let applied = Ctx::detached(&bus, "sinew-demo").call(request).await;
        bus.close().await;
        applied.map(|_| ()).map_err(|error| error.to_problem().into())
    }
}

impl Host {
    async fn start<S>(session: &Session, url: &str, service: Service<S>) -> Result<Self, Error>
    where
        S: Clone + Send + Sync + 'static,
    {
        let bus = session.connect_to(url, &service.describe().name).await?;
        match service.start(&bus).await {
            Ok(running) => Ok(Self { running, bus }),
            Err(error) => {
                bus.close().await;
                Err(error.into())
            }
        }
    }

    async fn close(self) {
        self.running.drain().await;
        self.bus.close().await;
    }
}

//! The edge against a real nats-server, a small service of this file's own, and hand-made HTTP.

mod caching;
pub(crate) mod client;
mod events;
mod feeds;
mod floods;
mod forms;
mod input;
mod keys;
mod life;
mod limits;
mod load;
mod mapping;
mod metrics;
mod objects;
mod observing;
mod quotas;
mod replies;
mod requests;
mod resilience;
mod routes;
mod shop;
mod smuggling;
mod streams;
mod traces;
mod webhooks;
mod websocket;

use std::net::SocketAddr;

use sinew::Bus;
use sinew_edge as edge;

use self::client::Client;
use crate::harness::Harness;

/// A server, the shop and an edge in front of it.
struct System {
    harness: Harness,
    shop: shop::Shop,
    bus: Bus,
    edge: edge::Running,
    client: Client,
}

impl System {
    async fn start() -> Self {
        Self::start_with(edge::Config::default()).await
    }

    /// Starts everything; the edge listens on a free port whatever `config` says.
    async fn start_with(config: edge::Config) -> Self {
        let harness = Harness::start().await;
        let shop = shop::Shop::start(connect(&harness, "shop").await).await;
        let bus = connect(&harness, "edge").await;
        let edge = edge::start(local(config), bus.clone()).await.unwrap();
        let client = Client::new(edge.local_addr());
        Self { harness, shop, bus, edge, client }
    }

    fn address(&self) -> SocketAddr {
        self.edge.local_addr()
    }
}

/// Connects a role of its own name.
async fn connect(harness: &Harness, name: &str) -> Bus {
    Bus::connect(sinew::Config::new(harness.url(), name)).await.unwrap()
}

fn local(config: edge::Config) -> edge::Config {
    edge::Config { listen: ([127, 0, 0, 1], 0).into(), ..config }
}

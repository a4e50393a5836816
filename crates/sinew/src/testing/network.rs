//! The wire of a test: connections of one process that end at one broker in it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use jiff::Timestamp;
use sinew_wire::Headers;
use tokio::sync::watch;

use super::server::{Delivery, Packet, Server};
use crate::{
    Bus, Config, Error,
    bus::{Carrier, Inlets, Message},
};

/// The broker and every connection to it.
#[derive(Debug)]
pub(super) struct Network {
    /// A plain lock, held for one message and never across an await: a message is taken before its publisher goes on,
    /// so that what a test sees does not depend on when a task runs.
    state: Mutex<State>,
    next: AtomicU64,
    /// Counts what happened.
    steps: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    server: Server,
    connections: Vec<(u64, Arc<Inlets>)>,
}

/// One connection.
struct Connection {
    number: u64,
    network: Arc<Network>,
}

/// Deliveries whose holder waits for a moment; dropped, they are in his hands again.
struct Parking {
    number: u64,
    network: Arc<Network>,
}

impl Network {
    pub(super) fn new(now: Timestamp) -> Arc<Self> {
        let state = State { server: Server::new(now), connections: Vec::new() };
        Arc::new(Self { state: Mutex::new(state), next: AtomicU64::new(1), steps: watch::Sender::new(0) })
    }

    /// Makes a connection.
    pub(super) async fn connect(self: &Arc<Self>, name: &str) -> Result<Bus, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Bus::in_process(Config::new("in-process", name), |inlets| {
            self.lock().connections.push((number, inlets));
            Arc::new(Connection { number, network: self.clone() })
        })
        .await
    }

    /// Publishes on nobody's behalf.
    pub(super) fn publish(&self, packet: Packet) {
        self.step(|server| server.publish(packet));
    }

    /// Sets the clock.
    pub(super) fn advance(&self, to: Timestamp) {
        self.step(|server| server.advance(to));
    }

    pub(super) fn heartbeat(&self, passed: Duration) {
        self.step(|server| server.heartbeat(passed));
    }

    /// Looks at the broker.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Server) -> T) -> T {
        look(&self.lock().server)
    }

    /// Waits until nothing is in hand and nothing is to come, up to now.
    ///
    /// # Errors
    /// What is still in hand after `limit`.
    pub(super) async fn settled(&self, limit: Duration) -> Result<(), Vec<String>> {
        let mut steps = self.steps.subscribe();
        let settled = async {
            while self.with(|server| !server.unsettled().is_empty()) {
                // The sender lives as long as `self`.
                let _ = steps.changed().await;
            }
        };
        tokio::time::timeout(limit, settled).await.map_err(|_| self.with(Server::unsettled))
    }

    fn step(&self, change: impl FnOnce(&mut Server) -> Vec<Delivery>) {
        let mut state = self.lock();
        let deliveries = change(&mut state.server);
        for ((connection, sid), packet) in deliveries {
            let inlets = state.connections.iter().find(|(number, _)| *number == connection);
            if let Some((_, inlets)) = inlets {
                inlets.deliver(sid, message(packet));
            }
        }
        drop(state);
        self.steps.send_modify(|steps| *steps += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Carrier for Connection {
    fn publish(&self, subject: &str, reply: Option<&str>, headers: &Headers, payload: &Bytes) {
        let packet = Packet {
            reply: reply.map(str::to_owned),
            headers: headers.clone(),
            ..Packet::new(subject, payload.clone())
        };
        self.network.publish(packet);
    }

    fn subscribe(&self, subject: &str, group: Option<&str>, sid: u64) {
        self.network.step(|server| server.subscribe((self.number, sid), subject, group));
    }

    fn unsubscribe(&self, sid: u64) {
        self.network.step(|server| server.unsubscribe((self.number, sid)));
    }

    fn now(&self) -> Timestamp {
        self.network.with(Server::now)
    }

    fn park(&self, until: Timestamp, deliveries: Vec<String>) -> BoxFuture<'static, ()> {
        let network = self.network.clone();
        Box::pin(async move {
            let number = network.next.fetch_add(1, Ordering::Relaxed);
            let mut steps = network.steps.subscribe();
            network.step(|server| server.park(number, until, &deliveries));
            let _parking = Parking { number, network: network.clone() };
            while network.with(Server::now) < until {
                // The sender lives as long as `network`.
                let _ = steps.changed().await;
            }
        })
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        self.network.step(|server| server.unpark(self.number));
    }
}

fn message(packet: Packet) -> Message {
    let Packet { subject, reply, headers, payload, status } = packet;
    Message::from_parts(&subject, reply.as_deref(), status, &headers, payload)
}

//! Making the connection, and making it again when the client library's own task has died.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event};
use tokio::sync::{mpsc, watch};

use super::Bus;
use crate::{Config, Error, Kind};

/// Messages one subscription may hold before the library drops: our readers only dispatch, so this is a burst.
const SUBSCRIPTION_CAPACITY: usize = 65_536;
/// Pause between attempts to rebuild a client.
const REBUILD_PAUSE: Duration = Duration::from_millis(100);

/// Connects once.
pub(super) async fn connect(config: &Config, dropped: Arc<AtomicU64>) -> Result<Client, Error> {
    let options = options(config, dropped).await?;
    let unreachable = || {
        let hint = "start one with `sinew dev`, or name another with --nats-url or NATS_URL";
        Error::new(Kind::Disconnected, format!("no nats server answers at {}: {hint}", config.url))
    };
    let connecting = options.connect(config.url.as_str());
    match tokio::time::timeout(config.connect_timeout(), connecting).await {
        Err(_) => Err(unreachable()),
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(match error.kind() {
            ConnectErrorKind::ServerParse => {
                Error::new(Kind::Config, format!("{:?} is not a server address: use nats://host:port", config.url))
            }
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                Error::new(Kind::Permission, "the nats server refused these credentials")
            }
            _ => unreachable(),
        }
        .because(error)),
    }
}

/// Returns an inbox prefix no other connection has.
pub(super) fn inbox(config: &Config) -> String {
    format!("{}.{}", config.inbox_prefix, uuid::Uuid::now_v7().simple())
}

/// Replaces the client whenever one is reported dead. Ends when the bus is closed.
pub(super) async fn supervise(
    bus: Bus,
    mut reports: mpsc::UnboundedReceiver<u64>,
    generation: watch::Sender<u64>,
) {
    let stop = bus.shared.stop.clone();
    loop {
        let reported = tokio::select! {
            () = stop.cancelled() => return,
            report = reports.recv() => report,
        };
        let Some(reported) = reported else { return };
        if reported != *generation.borrow() {
            continue;
        }
        tracing::warn!(name = bus.name(), "the connection to nats died and is being rebuilt");
        tokio::select! {
            () = stop.cancelled() => return,
            client = rebuild(&bus) => bus.shared.client.store(Arc::new(client)),
        }
        generation.send_modify(|number| *number += 1);
        tracing::info!(name = bus.name(), "the connection to nats was rebuilt");
    }
}

async fn rebuild(bus: &Bus) -> Client {
    loop {
        match connect(&bus.shared.config, bus.shared.dropped.clone()).await {
            Ok(client) => return client,
            Err(error) => tracing::warn!(%error, "cannot rebuild the connection yet"),
        }
        tokio::time::sleep(REBUILD_PAUSE).await;
    }
}

async fn options(config: &Config, dropped: Arc<AtomicU64>) -> Result<ConnectOptions, Error> {
    let name = config.name.clone();
    let mut options = ConnectOptions::new()
        .name(&config.name)
        .custom_inbox_prefix(&config.inbox_prefix)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .reconnect_delay_callback(|attempt| Duration::from_millis((10 << attempt.min(7)).min(1_000)))
        .event_callback(move |event| {
            note(&name, &event, &dropped);
            std::future::ready(())
        });
    if let Some(token) = &config.token {
        options = options.token(token.clone());
    }
    if let Some(path) = &config.credentials {
        options = options.credentials_file(path).await.map_err(|error| {
            Error::new(Kind::Config, format!("cannot read credentials from {}", path.display())).because(error)
        })?;
    }
    Ok(options)
}

fn note(name: &str, event: &Event, dropped: &AtomicU64) {
    match event {
        Event::SlowConsumer(_) => {
            // Logged at powers of two: the burst that overflows a subscription must not overflow the log as well.
            let count = dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                tracing::warn!(name, count, "messages were dropped: this process reads too slowly");
            }
        }
        Event::Connected => tracing::debug!(name, "connected to nats"),
        Event::ServerError(error) => tracing::warn!(name, %error, "nats reports an error"),
        other => tracing::warn!(name, event = %other, "nats connection changed"),
    }
}

//! Making the connection, and making it again when the client library's own task has died.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr, Subscriber};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Shared, disconnected, mux::Mux};
use crate::{Config, Error, Kind, broker::Version};

/// Messages one subscription may hold before the library drops: our readers only dispatch, so this is a burst.
const SUBSCRIPTION_CAPACITY: usize = 65_536;
/// Pause between attempts to rebuild a client.
const REBUILD_PAUSE: Duration = Duration::from_millis(100);

/// What the library tells from inside its task.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Messages dropped because a subscription was full.
    pub(super) dropped: AtomicU64,
    /// Counts connections, the library's own reconnects included: whatever stood at the server may be gone.
    pub(super) connects: watch::Sender<u64>,
}

/// Connects once. Nobody sees the client before its reply inbox is asked for, so no reply can come too early.
pub(super) async fn connect(
    config: &Config,
    signals: &Arc<Signals>,
    mux: &Mux,
) -> Result<(Client, Subscriber), Error> {
    let connecting = options(config, signals.clone()).await?.connect(addresses(config)?);
    let client = match tokio::time::timeout(config.connect_timeout(), connecting).await {
        Err(_) => return Err(unreachable(config)),
        Ok(connected) => connected.map_err(|error| refusal(config, error))?,
    };
    supported(&client)?;
    let replies = client.subscribe(mux.wildcard()).await.map_err(|error| disconnected().because(error))?;
    Ok((client, replies))
}

/// Returns an inbox prefix no other connection has.
pub(super) fn inbox(config: &Config) -> String {
    format!("{}.{}", config.inbox_prefix, uuid::Uuid::now_v7().simple())
}

/// Replaces the client whenever one is reported dead. Ends when the bus is closed, or dropped without that.
pub(super) async fn supervise(
    shared: Weak<Shared>,
    stop: CancellationToken,
    mut reports: mpsc::UnboundedReceiver<u64>,
    generation: watch::Sender<u64>,
) {
    loop {
        let reported = tokio::select! {
            // A bus that is being closed reports its client dead as well; then closing counts.
            biased;
            () = stop.cancelled() => return,
            report = reports.recv() => report,
        };
        let Some(shared) = shared.upgrade() else { return };
        if reported.is_none_or(|reported| reported != *generation.borrow()) {
            continue;
        }
        tracing::warn!(name = shared.config.name, "the connection to nats died and is being rebuilt");
        shared.down.store(true, Ordering::Relaxed);
        let (client, replies) = tokio::select! {
            () = stop.cancelled() => return,
            made = rebuild(&shared) => made,
        };
        let next = *generation.borrow() + 1;
        shared.client.store(Arc::new(client));
        shared.hear(replies, next);
        generation.send_replace(next);
        shared.down.store(false, Ordering::Relaxed);
        tracing::info!(name = shared.config.name, "the connection to nats was rebuilt");
    }
}

async fn rebuild(shared: &Shared) -> (Client, Subscriber) {
    loop {
        match connect(&shared.config, &shared.signals, &shared.mux).await {
            Ok(made) => return made,
            Err(error) => tracing::warn!(%error, "cannot rebuild the connection yet"),
        }
        tokio::time::sleep(REBUILD_PAUSE).await;
    }
}

fn addresses(config: &Config) -> Result<Vec<ServerAddr>, Error> {
    let read = |text: &str| {
        text.trim().parse().map_err(|error| {
            Error::new(Kind::Config, format!("{text:?} is not a server address: use nats://host:port"))
                .because(error)
        })
    };
    config.url.split(',').map(read).collect()
}

fn supported(client: &Client) -> Result<(), Error> {
    let version = client.server_info().version;
    match version.parse::<Version>() {
        Ok(parsed) if !parsed.is_supported() => Err(Error::new(
            Kind::Unsupported,
            format!("the nats server is version {version}: Sinew needs 2.12 or later, please upgrade it"),
        )),
        _ => Ok(()),
    }
}

fn unreachable(config: &Config) -> Error {
    let hint = "start one with `sinew dev`, or name another with --nats-url or NATS_URL";
    Error::new(Kind::Disconnected, format!("no nats server answers at {}: {hint}", redacted(&config.url)))
}

/// Returns addresses without the passwords some of them carry.
fn redacted(url: &str) -> String {
    let one = |address: &str| match address.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}{}***@{host}", if scheme.is_empty() { "" } else { "://" })
        }
        None => address.to_owned(),
    };
    url.split(',').map(one).collect::<Vec<_>>().join(",")
}

fn refusal(config: &Config, error: async_nats::ConnectError) -> Error {
    let told = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            Error::new(Kind::Permission, "the nats server refused these credentials")
        }
        _ => unreachable(config),
    };
    told.because(error)
}

/// The first attempt is not put off; later ones wait longer and longer, up to a second.
fn reconnect_delay(attempt: usize) -> Duration {
    match attempt {
        0 | 1 => Duration::ZERO,
        later => Duration::from_millis((10 << later.min(7)).min(1_000)),
    }
}

async fn options(config: &Config, signals: Arc<Signals>) -> Result<ConnectOptions, Error> {
    let name = config.name.clone();
    let mut options = ConnectOptions::new()
        .name(&config.name)
        .custom_inbox_prefix(&config.inbox_prefix)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            note(&name, &event, &signals);
            std::future::ready(())
        });
    if let Some(token) = &config.token {
        options = options.token(token.clone());
    }
    if let Some(path) = &config.credentials {
        options = options.credentials_file(path).await.map_err(|error| {
            Error::new(Kind::Config, format!("cannot read credentials from {}", path.display()))
                .because(error)
        })?;
    }
    Ok(options)
}

fn note(name: &str, event: &Event, signals: &Signals) {
    match event {
        Event::SlowConsumer(_) => {
            // Logged at powers of two: the burst that overflows a subscription must not overflow the log as well.
            let count = signals.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                tracing::warn!(name, count, "messages were dropped: this process reads too slowly");
            }
        }
        Event::Connected => {
            signals.connects.send_modify(|count| *count += 1);
            tracing::debug!(name, "connected to nats");
        }
        // Said by whoever closed it.
        Event::Draining | Event::Closed => {}
        Event::ServerError(error) => tracing::warn!(name, %error, "nats reports an error"),
        other => tracing::warn!(name, event = %other, "nats connection changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn an_error_never_shows_a_password() {
        assert_eq!(redacted("nats://ada:secret@host:4222,host2"), "nats://***@host:4222,host2");
        assert_eq!(redacted("token@host"), "***@host");
    }
}

//! A nats-server of its own for every test that asks, found or fetched once per process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sinew::broker::{self, Broker};
use tempfile::TempDir;
use tokio::sync::OnceCell;

mod cluster;
mod eventually;
mod https;
mod otlp;
mod raw;

pub(crate) use self::cluster::{Cluster, free_ports};
pub(crate) use self::eventually::eventually;
pub(crate) use self::https::{HttpsStub, Seen, json};
pub(crate) use self::otlp::{OtlpReceiver, Span};
pub(crate) use self::raw::RawClient;

/// A fresh nats-server on a port and in a directory of its own; both are gone when the harness is dropped.
pub(crate) struct Harness {
    /// `None` between [`Harness::kill`] and [`Harness::revive`].
    broker: Option<Broker>,
    /// What it takes to start the same broker again.
    config: broker::Config,
    url: String,
    data_dir: TempDir,
}

impl Harness {
    /// Starts a server with the server's own sync interval, which is the fast choice.
    pub(crate) async fn start() -> Self {
        Self::start_with(broker::Config::default()).await
    }

    /// Starts a server that has every write on disk before it acknowledges it.
    pub(crate) async fn start_synced() -> Self {
        Self::start_with(broker::Config { sync_always: true, ..broker::Config::default() }).await
    }

    /// As [`Harness::start_synced`], with everything the server keeps in a directory of the caller's.
    pub(crate) async fn start_synced_in(directory: &Path) -> Self {
        let data_dir = TempDir::with_prefix_in("sinew-test-", directory).expect("create a directory");
        let config = broker::Config { sync_always: true, ..broker::Config::default() };
        Self::start_at(data_dir, config).await
    }

    /// Starts a server that takes messages of up to 16 MiB.
    pub(crate) async fn start_wide() -> Self {
        let max_payload = Some(16 * 1024 * 1024);
        Self::start_with(broker::Config { max_payload, ..broker::Config::default() }).await
    }

    async fn start_with(config: broker::Config) -> Self {
        let data_dir = TempDir::with_prefix("sinew-test-").expect("create a directory for the server");
        Self::start_at(data_dir, config).await
    }

    async fn start_at(data_dir: TempDir, config: broker::Config) -> Self {
        let mut config = broker::Config {
            binary: Some(server().await),
            data_dir: Some(data_dir.path().to_owned()),
            ..config
        };
        let broker = launch(&config).await;
        config.port = broker.port();
        Self { url: broker.url().to_owned(), broker: Some(broker), config, data_dir }
    }

    /// Returns the address to connect to; it stays the same over [`Harness::revive`].
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Returns the server.
    ///
    /// # Panics
    ///
    /// Panics while the server is killed.
    pub(crate) fn broker(&mut self) -> &mut Broker {
        self.broker.as_mut().expect("the server is killed: call `revive` first")
    }

    /// Returns the directory the server keeps everything in.
    pub(crate) fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// Sends the server a signal, such as `-STOP`.
    pub(crate) fn signal(&mut self, name: &str) {
        let pid = self.broker().pid().expect("the server is a child");
        let sent = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Kills the server with SIGKILL and returns when it is gone.
    pub(crate) async fn kill(&mut self) {
        let broker = self.broker.take().expect("the server is killed already");
        broker.kill().await.expect("kill the server");
    }

    /// Starts the killed server again, on the same port and directory.
    pub(crate) async fn revive(&mut self) {
        assert!(self.broker.is_none(), "the server is running: call `kill` first");
        self.broker = Some(launch(&self.config).await);
    }

    /// Stops the server in order and starts it again, on the same port and directory.
    pub(crate) async fn restart(&mut self) {
        let broker = self.broker.take().expect("the server is killed: call `revive` instead");
        broker.stop().await.expect("stop the server");
        self.revive().await;
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.broker = None;
        // The server holds a lock on its log until it is gone; only then can its directory be removed for good.
        if let Ok(log) = File::open(self.data_dir.path().join("nats-server.log")) {
            let _ = log.lock();
        }
    }
}

/// Returns the nats-server of this machine, looked for once per process.
pub(crate) async fn server() -> PathBuf {
    static SERVER: OnceCell<PathBuf> = OnceCell::const_new();
    let find = || async {
        let config = broker::Config::from_env(|name| std::env::var(name).ok());
        let located = broker::locate(&config, &mut |step| eprintln!("{step}")).await;
        located.unwrap_or_else(|error| panic!("these tests start nats-servers, and {error}")).binary
    };
    SERVER.get_or_init(find).await.clone()
}

/// A bound for waits that normally take milliseconds: generous, so that only a real hang meets it on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

async fn launch(config: &broker::Config) -> Broker {
    broker::start(config.clone(), |_| ()).await.unwrap_or_else(|error| panic!("{error}"))
}

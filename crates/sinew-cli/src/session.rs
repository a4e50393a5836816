//! One run of the command line: its settings, its way to the terminal, and its connection to the bus.

use std::time::Instant;

use sinew::{Bus, Config, Kind};

use crate::{
    error::Error,
    output::Output,
    settings::{Settings, without_secrets},
};

/// Who wants to connect waits no longer than this: somebody sits in front of it.
const CONNECT_TIMEOUT_MS: u64 = 3_000;

/// What a command works with.
pub(crate) struct Session {
    pub(crate) settings: Settings,
    pub(crate) output: Output,
    /// When the process started.
    pub(crate) began: Instant,
}

impl Session {
    /// Connects under `name`, to the server the settings name.
    pub(crate) async fn connect(&self, name: &str) -> Result<Bus, Error> {
        self.connect_to(self.settings.url(), name).await
    }

    /// Connects under `name` to a server.
    pub(crate) async fn connect_to(&self, url: &str, name: &str) -> Result<Bus, Error> {
        let config = Config::new(url, name).traced_to(self.settings.otlp());
        let connected = Bus::connect(Config { connect_timeout_ms: CONNECT_TIMEOUT_MS, ..config }).await;
        // The address stands in the message as it was given, with the password it may hold.
        connected.map_err(|error| {
            let typed_wrongly = error.kind() == Kind::Config;
            let error = Error::from(error).replacing(url, &without_secrets(url));
            if typed_wrongly { error.of_usage() } else { error }
        })
    }

    /// Connects, does `work`, and closes the connection whatever became of it.
    pub(crate) async fn on_bus<T>(
        &self,
        work: impl AsyncFnOnce(&Bus) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let bus = self.connect("sinew-cli").await?;
        let done = work(&bus).await;
        bus.close().await;
        done
    }
}

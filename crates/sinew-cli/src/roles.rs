//! The roles of one process. Started in the order they need each other, drained in reverse: edge, orchestrator, broker.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use sinew::{
    Bus,
    broker::{self, Broker, Exit},
};
use sinew_edge::ReadyCheck;

use crate::{config, error::Error, session::Session};

/// What runs in this process. Call [`Roles::drain`] before the process ends, also after an error.
#[derive(Default)]
pub(crate) struct Roles {
    broker: Option<Broker>,
    orchestrator: Option<(Arc<sinew_orchestrator::Running>, Bus)>,
    edge: Option<(sinew_edge::Running, Bus)>,
    /// Connections of what works beside the roles.
    tools: Vec<Bus>,
}

/// Where a broker of our own keeps its data and listens.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) port: Option<u16>,
}

impl Roles {
    /// Runs `work` until it ends or the process is asked to stop, and drains whatever it started.
    ///
    /// The word to stop is listened for from the first moment on: a role that took work always ends in order.
    pub(crate) async fn run(
        session: &Session,
        work: impl AsyncFnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut roles = Self::default();
        let ended = tokio::select! {
            biased;
            () = sinew::shutdown::requested() => Ok(()),
            ended = work(&mut roles) => ended,
        };
        if roles.broker.is_some() || roles.orchestrator.is_some() || roles.edge.is_some() {
            session.output.note("draining");
        }
        roles.drain().await;
        ended
    }

    /// Starts a broker, or finds the running one the settings name; returns it.
    pub(crate) async fn start_broker(&mut self, session: &Session, place: Place) -> Result<&Broker, Error> {
        let config = broker::Config {
            data_dir: place.data_dir,
            port: place.port,
            sync_always: true,
            ..session.settings.broker()
        };
        let output = session.output;
        let broker = broker::start(config, move |step| output.note(&step.to_string())).await?;
        Ok(self.broker.insert(broker))
    }

    /// Starts an orchestrator.
    pub(crate) async fn start_orchestrator(
        &mut self,
        session: &Session,
        config: sinew_orchestrator::Config,
    ) -> Result<(), Error> {
        let bus = session.connect_to(self.url(session), "orchestrator").await?;
        match sinew_orchestrator::start(config, bus.clone()).await {
            Ok(running) => {
                self.orchestrator = Some((Arc::new(running), bus));
                Ok(())
            }
            Err(error) => {
                bus.close().await;
                Err(error.into())
            }
        }
    }

    /// Starts the edge, ready when the orchestrator of this process is; returns where it listens.
    pub(crate) async fn start_edge(
        &mut self,
        session: &Session,
        mut config: sinew_edge::Config,
    ) -> Result<SocketAddr, Error> {
        config::secrets(&mut config)?;
        let bus = session.connect_to(self.url(session), "edge").await?;
        match sinew_edge::start_with(config, bus.clone(), self.checks()).await {
            Ok(running) => {
                let address = running.local_addr();
                self.edge = Some((running, bus));
                Ok(address)
            }
            Err(error) => {
                bus.close().await;
                Err(error.into())
            }
        }
    }

    /// Returns the way to other routes of the edge, where there is one.
    pub(crate) fn reloader(&self) -> Option<sinew_edge::Reloader> {
        self.edge.as_ref().map(|(edge, _)| edge.reloader())
    }

    /// Connects something that works beside the roles, and is closed with them.
    pub(crate) async fn connect(&mut self, session: &Session, name: &str) -> Result<Bus, Error> {
        let bus = session.connect_to(self.url(session), name).await?;
        self.tools.push(bus.clone());
        Ok(bus)
    }

    /// Returns the address of the bus the roles are on.
    pub(crate) fn url<'a>(&'a self, session: &'a Session) -> &'a str {
        self.broker.as_ref().map_or_else(|| session.settings.url(), Broker::url)
    }

    /// Waits until a broker of our own ends by itself; forever when there is none.
    pub(crate) async fn broker_lost(&mut self) -> Exit {
        match &mut self.broker {
            Some(broker) => broker.exited().await,
            None => std::future::pending().await,
        }
    }

    /// Stops everything in order: no new requests, no new work, then the bus below them.
    pub(crate) async fn drain(self) {
        self.drain_around(async {}).await;
    }

    /// As [`Roles::drain`], with something stopped between what calls it and the broker it needs.
    pub(crate) async fn drain_around(self, between: impl Future<Output = ()>) {
        if let Some((edge, bus)) = self.edge {
            edge.drain().await;
            bus.close().await;
        }
        if let Some((orchestrator, bus)) = self.orchestrator {
            // The edge's readiness check held the other reference, and went with it.
            if let Some(orchestrator) = Arc::into_inner(orchestrator) {
                orchestrator.drain().await;
            }
            bus.close().await;
        }
        between.await;
        for bus in self.tools {
            bus.close().await;
        }
        if let Some(broker) = self.broker
            && let Err(error) = broker.stop().await
        {
            tracing::warn!(%error, "the broker did not stop in order");
        }
    }

    fn checks(&self) -> Vec<ReadyCheck> {
        let orchestrator = self.orchestrator.as_ref().map(|(running, _)| Arc::downgrade(running));
        let check = |running: std::sync::Weak<sinew_orchestrator::Running>| {
            ReadyCheck::new("orchestrator", move || {
                running.upgrade().is_some_and(|running| running.is_ready())
            })
        };
        orchestrator.map(check).into_iter().collect()
    }
}

/// Says that the broker ended under a running system.
pub(crate) fn broker_lost(exit: &Exit) -> Error {
    Error::failed(sinew::Kind::Disconnected.code(), format!("the broker is gone: {exit}"))
        .hint("start again; what was acknowledged is kept where a data directory was given")
}

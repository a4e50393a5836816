//! Follows the catalogue, discovery and the configuration: what changes is served a moment later, without a restart.

use std::{collections::BTreeSet, time::Duration};

use sinew::{Bus, Catalogue, CatalogueChange, CatalogueWatch, Error};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use crate::{
    Changes, Config, Edge, discovery,
    table::{Note, Services, Table},
};

/// A configuration to take over, and who waits for what that changes.
pub(crate) type Reload = (Box<Config>, oneshot::Sender<Changes>);

/// All that routes are made of, as far as it was told.
pub(crate) struct Follower {
    bus: Bus,
    config: Config,
    watch: CatalogueWatch,
    services: Services,
    reloads: mpsc::Receiver<Reload>,
    /// What was said of the routes already: a note is told once, not at every change.
    told: BTreeSet<Note>,
}

/// What happened.
enum Input {
    Catalogue(CatalogueChange),
    Reload(Reload),
    Discovery,
}

impl Follower {
    /// Reads what stands in the catalogue.
    ///
    /// # Errors
    /// When the catalogue cannot be opened or created.
    pub(crate) async fn open(
        bus: &Bus,
        config: Config,
        reloads: mpsc::Receiver<Reload>,
    ) -> Result<Self, Error> {
        let catalogue = Catalogue::open(bus).await?;
        // Changes from here on come by the watch; a contract that is told twice is the same contract.
        let watch = catalogue.watch();
        let standing = catalogue.all().await?;
        let contracts = standing.into_iter().map(|service| (service.name.clone(), service)).collect();
        let services = Services { contracts, ..Services::default() };
        let (bus, told) = (bus.clone(), BTreeSet::new());
        Ok(Self { bus, config, watch, services, reloads, told })
    }

    /// Returns the table of what is known, and says what its authors should know.
    pub(crate) fn table(&mut self) -> Table {
        let table = Table::build(&self.config, &self.services);
        let notes: BTreeSet<Note> = table.notes().iter().cloned().collect();
        for Note { route, message } in notes.difference(&self.told) {
            tracing::warn!(route, "{message}");
        }
        self.told = notes;
        table
    }

    /// Puts a new table into place at every change, until the bus is closed.
    pub(crate) async fn run(mut self, edge: &Edge) {
        let pause = (self.config.discovery_ms > 0).then(|| Duration::from_millis(self.config.discovery_ms));
        let mut due = Instant::now();
        while let Some(input) = self.next(pause.map(|_| due)).await {
            match input {
                Input::Catalogue(change) => {
                    if self.take(change) {
                        self.put(edge);
                    }
                }
                Input::Discovery => {
                    if self.discover().await {
                        self.put(edge);
                    }
                    due = Instant::now() + pause.unwrap_or_default();
                }
                Input::Reload((config, answer)) => {
                    self.config = *config;
                    // Nobody waits any more: the configuration counts all the same.
                    let _ = answer.send(self.put(edge));
                }
            }
        }
    }

    async fn next(&mut self, due: Option<Instant>) -> Option<Input> {
        let discovery = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = self.watch.next() => change.map(Input::Catalogue),
            Some(reload) = self.reloads.recv() => Some(Input::Reload(reload)),
            () = discovery => Some(Input::Discovery),
        }
    }

    /// Puts a new table into place and tells what that changed.
    fn put(&mut self, edge: &Edge) -> Changes {
        let before = edge.table.load().overview();
        let new = self.table();
        new.bind(&edge.policies, edge.observer.metrics.as_ref());
        let changes = Changes::between(&before.routes, &new.overview().routes);
        edge.table.store(new.into());
        if !changes.is_empty() {
            tracing::info!(
                added = changes.added.len(),
                removed = changes.removed.len(),
                changed = changes.changed.len(),
                "the routes changed\n{changes}"
            );
        }
        changes
    }

    /// Asks all services what they say of themselves, and says whether that made a difference.
    async fn discover(&mut self) -> bool {
        match discovery::ask(&self.bus).await {
            Ok(discovered) => {
                let changed = discovered != self.services.discovered;
                self.services.discovered = discovered;
                changed
            }
            Err(error) => {
                // What was known stays: it may be the bus that is away, not the services.
                tracing::debug!(%error, "services could not be asked");
                false
            }
        }
    }

    /// Takes one change, and says whether it made a difference.
    fn take(&mut self, change: CatalogueChange) -> bool {
        let contracts = &mut self.services.contracts;
        match change {
            CatalogueChange::Removed(service) => contracts.remove(&service).is_some(),
            CatalogueChange::Served(descriptor) => {
                // A watch that was opened again tells everything again.
                let known = contracts.get(&descriptor.name) == Some(&*descriptor);
                if !known {
                    contracts.insert(descriptor.name.clone(), *descriptor);
                }
                !known
            }
        }
    }
}

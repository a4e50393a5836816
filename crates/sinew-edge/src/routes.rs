//! Follows the catalogue: a service that starts or changes its contract is served a moment later, without a restart.

use std::{collections::BTreeMap, time::Duration};

use arc_swap::ArcSwap;
use sinew::{Bus, Catalogue, CatalogueChange, CatalogueWatch, Error, wire::ServiceDescriptor};

use crate::table::Table;

/// The stream behind the catalogue's bucket; it holds one message per contract.
const STREAM: &str = "KV_SINEW_CATALOGUE";
/// Longest time to wait for the contracts that stand, before serving with what came.
const FILL_TIMEOUT: Duration = Duration::from_secs(5);

/// All contracts, as far as they were told.
pub(crate) struct Follower {
    watch: CatalogueWatch,
    services: BTreeMap<String, ServiceDescriptor>,
}

impl Follower {
    /// Reads what stands in the catalogue.
    ///
    /// # Errors
    /// When the catalogue cannot be opened or created.
    pub(crate) async fn open(bus: &Bus) -> Result<Self, Error> {
        let catalogue = Catalogue::open(bus).await?;
        let standing = bus.stream_state(STREAM).await?.messages;
        let mut follower = Self { watch: catalogue.watch(), services: BTreeMap::new() };
        let fill = async {
            for _ in 0..standing {
                follower.next().await;
            }
        };
        if tokio::time::timeout(FILL_TIMEOUT, fill).await.is_err() {
            tracing::warn!("the catalogue is slow: serving what it told so far, the rest will follow");
        }
        Ok(follower)
    }

    /// Returns the table of what is known.
    pub(crate) fn table(&self) -> Table {
        Table::build(&self.services)
    }

    /// Puts a new table into place at every change, until the bus is closed.
    pub(crate) async fn run(mut self, table: &ArcSwap<Table>) {
        while let Some(changed) = self.next().await {
            if changed {
                table.store(self.table().into());
                tracing::debug!(services = self.services.len(), "the route table changed");
            }
        }
    }

    /// Takes one change, and says whether it made a difference; `None` once the bus is closed.
    async fn next(&mut self) -> Option<bool> {
        Some(match self.watch.next().await? {
            CatalogueChange::Removed(service) => self.services.remove(&service).is_some(),
            CatalogueChange::Served(descriptor) => {
                // A watch that was opened again tells everything again.
                let known = self.services.get(&descriptor.name) == Some(&*descriptor);
                if !known {
                    self.services.insert(descriptor.name.clone(), *descriptor);
                }
                !known
            }
        })
    }
}

//! Follows the catalogue: a service that starts or changes its contract is served a moment later, without a restart.

use std::collections::BTreeMap;

use arc_swap::ArcSwap;
use sinew::{Bus, Catalogue, CatalogueChange, CatalogueWatch, Error, wire::ServiceDescriptor};

use crate::table::Table;

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
        // Changes from here on come by the watch; a contract that is told twice is the same contract.
        let watch = catalogue.watch();
        let standing = catalogue.all().await?;
        let services = standing.into_iter().map(|service| (service.name.clone(), service)).collect();
        Ok(Self { watch, services })
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

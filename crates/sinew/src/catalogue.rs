//! The catalogue: every contract ever served here, kept in a bucket so that it outlives its service.

use bytes::Bytes;
use sinew_wire::{ContentType, ServiceDescriptor};

use crate::{
    Bus, Error,
    bus::{Kv, KvChange, KvWatch},
};

const BUCKET: &str = "SINEW_CATALOGUE";

/// The bucket of contracts, keyed by service.
#[derive(Clone)]
pub struct Catalogue {
    kv: Kv,
}

/// A change in the catalogue.
#[derive(Clone, Debug)]
pub enum CatalogueChange {
    /// A service has this contract now.
    Served(Box<ServiceDescriptor>),
    /// The contract of this service was removed.
    Removed(String),
}

/// A watch over the catalogue: first what stands, then every change.
pub struct CatalogueWatch {
    inner: KvWatch,
}

impl Catalogue {
    /// Opens the catalogue, creating it where it does not stand.
    ///
    /// # Errors
    /// [`crate::Kind::JetStream`] when the server refuses.
    pub async fn open(bus: &Bus) -> Result<Self, Error> {
        Ok(Self { kv: bus.kv(BUCKET).await? })
    }

    /// Puts a contract in unless the very same stands there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn announce(&self, descriptor: &ServiceDescriptor) -> Result<(), Error> {
        let wanted = sinew_wire::encode(ContentType::Json, descriptor)?;
        let stands = self.kv.get(&descriptor.name).await?.and_then(|entry| entry.value);
        if stands.as_ref() != Some(&wanted) {
            self.kv.put(&descriptor.name, wanted).await?;
        }
        Ok(())
    }

    /// Reads one service's contract.
    ///
    /// # Errors
    /// When the bucket cannot be read.
    pub async fn get(&self, service: &str) -> Result<Option<ServiceDescriptor>, Error> {
        let value = self.kv.get(service).await?.and_then(|entry| entry.value);
        value.map(|bytes| Ok(sinew_wire::decode(ContentType::Json, &bytes)?)).transpose()
    }

    /// Reads all contracts; an unreadable one is logged and passed over.
    ///
    /// # Errors
    /// When the bucket cannot be read.
    pub async fn all(&self) -> Result<Vec<ServiceDescriptor>, Error> {
        let entries = self.kv.entries(">").await?;
        Ok(entries.iter().filter_map(|(service, bytes)| read(service, bytes)).collect())
    }

    /// Watches all contracts.
    pub fn watch(&self) -> CatalogueWatch {
        CatalogueWatch { inner: self.kv.watch() }
    }
}

impl CatalogueWatch {
    /// Returns the next change; `None` once the bus is closed. An unreadable contract is logged and passed over.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<CatalogueChange> {
        loop {
            match self.inner.next().await? {
                KvChange::Gone(service) => return Some(CatalogueChange::Removed(service)),
                KvChange::Put(service, bytes) => {
                    if let Some(descriptor) = read(&service, &bytes) {
                        return Some(CatalogueChange::Served(Box::new(descriptor)));
                    }
                }
            }
        }
    }
}

fn read(service: &str, bytes: &Bytes) -> Option<ServiceDescriptor> {
    let read = sinew_wire::decode(ContentType::Json, bytes);
    read.inspect_err(|error| tracing::warn!(service, %error, "a contract in the catalogue cannot be read"))
        .ok()
}

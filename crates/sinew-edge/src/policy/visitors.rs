//! How many connections each client has open. Trusted proxies are many clients, and not counted.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use super::Proxies;

/// The connections of each client.
#[derive(Debug)]
pub(crate) struct Visitors {
    most: Option<usize>,
    /// A lock, as connections end in tasks of their own; taken once at each end of a connection.
    open: Arc<Mutex<HashMap<u64, usize>>>,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Visit {
    open: Arc<Mutex<HashMap<u64, usize>>>,
    client: u64,
}

impl Visitors {
    pub(super) fn new(most: Option<usize>) -> Self {
        Self { most, open: Arc::default() }
    }

    /// Counts a connection.
    ///
    /// # Errors
    /// When its client has as many as it may have.
    pub(crate) fn admit(&self, peer: SocketAddr, proxies: &Proxies) -> Result<Option<Visit>, ()> {
        let Some(most) = self.most.filter(|_| !proxies.trusts(peer.ip().to_canonical())) else {
            return Ok(None);
        };
        let client = super::client::Client::from(peer.ip()).crowd();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(client).or_insert(0);
        if *count >= most {
            return Err(());
        }
        *count += 1;
        Ok(Some(Visit { open: self.open.clone(), client }))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

//! What hosts know of the services a definition calls.

/// The contracts of services, as far as somebody knows them: a catalogue, or what services on the bus say of themselves.
pub trait Contracts {
    /// Returns what is known of an operation.
    fn find(&self, service: &str, operation: &str) -> Known;
}

/// What is known of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nobody has seen the service.
    Nothing,
    /// The service is known and has no such operation.
    Missing {
        /// The operations it has.
        others: Vec<String>,
    },
    /// It is known.
    Operation {
        /// Whether doing it twice under one key does it once.
        idempotent: bool,
    },
}

//! The name of a definition: what an instance pins and a log entry carries.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names one version of one workflow, written `namespace/name@version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// The namespace, a DNS label such as `shop`.
    pub namespace: String,
    /// The name, a DNS label such as `place-order`.
    pub name: String,
    /// The semantic version, such as `1.0.0`.
    pub version: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.namespace, self.name, self.version)
    }
}

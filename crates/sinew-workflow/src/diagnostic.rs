//! What is wrong with a document, where, and what to write instead.

use std::fmt;

use serde::Serialize;

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document is valid, but probably does not do what its author wants.
    Warning,
    /// The document is refused.
    Error,
}

/// One finding in a document, with the place an editor can jump to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The stable code, such as `SNW-2003`; [`code`] lists them.
    pub code: &'static str,
    /// Whether the document is refused.
    pub severity: Severity,
    /// The file as the caller named it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The JSON pointer of the value concerned, empty for the whole document.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// Everything found in one document. It is an error because at least one of them is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

/// The codes a document can be refused with.
pub mod code {
    /// The text is not YAML.
    pub const SYNTAX: &str = "SNW-2001";
    /// The document is too large, too deep, or expands to too much.
    pub const LIMIT: &str = "SNW-2002";
    /// A key the language does not know.
    pub const UNKNOWN_KEY: &str = "SNW-2003";
    /// A value of the wrong type.
    pub const WRONG_TYPE: &str = "SNW-2004";
    /// A key that must be there is not.
    pub const MISSING_KEY: &str = "SNW-2005";
    /// A value of the right type which is not allowed here.
    pub const INVALID_VALUE: &str = "SNW-2006";
    /// A task without a keyword, or with two.
    pub const TASK_KIND: &str = "SNW-2007";
    /// Two tasks of one list with the same name.
    pub const DUPLICATE_TASK: &str = "SNW-2008";
    /// A `then` that leads nowhere.
    pub const UNKNOWN_TARGET: &str = "SNW-2009";
    /// A name which `use` does not define.
    pub const UNKNOWN_NAME: &str = "SNW-2010";
    /// A duration that cannot be read, or has no fixed length.
    pub const DURATION: &str = "SNW-2011";
    /// A runtime expression that does not compile.
    pub const EXPRESSION: &str = "SNW-2012";
    /// A JSON schema that does not compile.
    pub const SCHEMA: &str = "SNW-2013";
    /// Valid, but this version cannot run it yet.
    pub const NOT_RUNNABLE: &str = "SNW-2014";
    /// Compensation keys that contradict each other.
    pub const SAGA: &str = "SNW-2015";
    /// A secret where it would be stored, or one that is not known before the workflow runs.
    pub const SECRET: &str = "SNW-2021";
    /// A document that the workflow refers to is missing, or its address is not known before the workflow runs.
    pub const RESOURCE: &str = "SNW-2022";
    /// A task no other task leads to.
    pub const UNREACHABLE: &str = "SNW-2031";
    /// Tasks that lead to each other for ever and never wait.
    pub const ENDLESS: &str = "SNW-2032";
    /// Work in a saga that nothing undoes.
    pub const NOT_UNDONE: &str = "SNW-2033";
    /// An event published while everything may still be undone.
    pub const EARLY_EVENT: &str = "SNW-2034";
    /// A compensation of a task behind the pivot.
    pub const NEVER_UNDONE: &str = "SNW-2035";
    /// A compensation that reads an output nobody may know.
    pub const NULL_OUTPUT: &str = "SNW-2036";
    /// A compensation that reads what is gone by then.
    pub const GONE: &str = "SNW-2037";
    /// A call that is repeated although its contract does not say that this is harmless.
    pub const NOT_IDEMPOTENT: &str = "SNW-2038";
    /// A call of an operation its service does not have.
    pub const NO_OPERATION: &str = "SNW-2039";
}

impl Diagnostic {
    /// Says whether the document is refused because of this.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let Self { code, file, line, column, message, .. } = self;
        write!(f, "{file}:{line}:{column}: {severity}[{code}]: {message}")?;
        self.fix.iter().try_for_each(|fix| write!(f, "; {fix}"))
    }
}

impl Diagnostics {
    /// Returns the findings in the order of the document.
    #[must_use]
    pub fn as_slice(&self) -> &[Diagnostic] {
        &self.0
    }

    pub(crate) fn new(found: Vec<Diagnostic>) -> Self {
        Self(found)
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        self.0.iter().try_for_each(|diagnostic| {
            let separator = if std::mem::take(&mut first) { "" } else { "\n" };
            write!(f, "{separator}{diagnostic}")
        })
    }
}

impl std::error::Error for Diagnostics {}

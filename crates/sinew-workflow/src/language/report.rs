//! Collects what is wrong with one document.

use super::yaml::{Key, Mark, Node, join};
use crate::{Diagnostic, Severity};

/// The findings so far. Everything is collected: an author fixes a document once, not once per mistake.
#[derive(Debug)]
pub(crate) struct Report {
    file: String,
    found: Vec<Diagnostic>,
}

/// A finding that can still be given a fix.
pub(crate) struct Finding<'a>(&'a mut Diagnostic);

impl Report {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), found: Vec::new() }
    }

    pub(crate) fn error(
        &mut self,
        code: &'static str,
        node: &Node,
        message: impl Into<String>,
    ) -> Finding<'_> {
        self.at(code, Severity::Error, node.mark, node.pointer.clone(), message)
    }

    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        node: &Node,
        message: impl Into<String>,
    ) -> Finding<'_> {
        self.at(code, Severity::Warning, node.mark, node.pointer.clone(), message)
    }

    /// Reports a key of an object.
    pub(crate) fn key(
        &mut self,
        code: &'static str,
        severity: Severity,
        node: &Node,
        key: &Key,
        message: impl Into<String>,
    ) -> Finding<'_> {
        self.at(code, severity, key.mark, join(&node.pointer, &key.text), message)
    }

    pub(crate) fn at(
        &mut self,
        code: &'static str,
        severity: Severity,
        mark: Mark,
        pointer: String,
        message: impl Into<String>,
    ) -> Finding<'_> {
        let index = self.found.len();
        let Mark { line, column } = mark;
        let (file, message) = (self.file.clone(), message.into());
        self.found.push(Diagnostic { code, severity, file, line, column, pointer, message, fix: None });
        Finding(&mut self.found[index])
    }

    /// Makes an error without noting it.
    pub(crate) fn one(&self, code: &'static str, node: &Node, message: impl Into<String>) -> Diagnostic {
        let Mark { line, column } = node.mark;
        let (file, pointer, message) = (self.file.clone(), node.pointer.clone(), message.into());
        Diagnostic { code, severity: Severity::Error, file, line, column, pointer, message, fix: None }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(Diagnostic::is_error)
    }

    pub(crate) fn keep_only(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.found.retain(keep);
    }

    /// Returns the findings in the order of the document, each once: a function lowered at three call sites is still
    /// wrong in one place.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|a, b| {
            (a.line, a.column, a.code, &a.message).cmp(&(b.line, b.column, b.code, &b.message))
        });
        self.found.dedup();
        self.found
    }
}

impl Finding<'_> {
    pub(crate) fn fix(self, fix: impl Into<String>) {
        self.0.fix = Some(fix.into());
    }

    /// Suggests the known name nearest to the one written, or lists them when none is near.
    pub(crate) fn suggest<'n>(self, written: &str, known: impl IntoIterator<Item = &'n str>) {
        let known: Vec<&str> = known.into_iter().collect();
        self.0.fix = match nearest(written, known.iter().copied()) {
            Some(name) => Some(format!("did you mean `{name}`?")),
            None if known.is_empty() => None,
            None => Some(format!("known here: {}", known.join(", "))),
        };
    }
}

/// Finds the known name an author most likely meant.
pub(crate) fn nearest<'n>(written: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let lower = written.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_lowercase());
    let limit = (written.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(name), name))
        .filter(|(far, _)| *far <= limit)
        .min()
        .map(|(_, name)| name)
}

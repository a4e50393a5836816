//! Collects what is wrong with one document.

use super::yaml::{Key, Mark, Node, Problem, join};
use crate::{Diagnostic, Severity, code};

/// The most errors, and the most warnings, one document gets: nobody reads more, and each holds text of the document.
const MAX_FINDINGS: usize = 1_000;
/// The longest message, in characters.
const MAX_MESSAGE: usize = 1_000;
/// The longest name that is compared with others, in bytes, and the most it is compared with.
const COMPARED: (usize, usize) = (64, 1_000);
/// How many findings get a suggestion.
const SUGGESTED: usize = 100;
/// How many names are listed.
const LISTED: usize = 20;

/// The findings so far. Everything is collected: an author fixes a document once, not once per mistake.
#[derive(Debug)]
pub(crate) struct Report {
    /// The file of the definition, then those it refers to: marks name them by position.
    files: Vec<String>,
    found: Vec<Diagnostic>,
    errors: usize,
    /// The last of those that were too many, and whether one of them was an error.
    unseen: Option<Box<(Diagnostic, bool)>>,
}

/// A finding that can still be given a fix.
pub(crate) struct Finding<'a> {
    diagnostic: &'a mut Diagnostic,
    number: usize,
}

impl Report {
    pub(crate) fn new(files: Vec<String>) -> Self {
        Self { files, found: Vec::new(), errors: 0, unseen: None }
    }

    /// Makes an empty report on the same files.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.files.clone())
    }

    /// Returns the file a place is in.
    pub(crate) fn file(&self, mark: Mark) -> &str {
        self.files.get(usize::from(mark.file)).map(String::as_str).unwrap_or_default()
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
        let Mark { line, column, .. } = mark;
        let (file, message) = (self.file(mark).to_owned(), excerpt(message.into()));
        let found = Diagnostic { code, severity, file, line, column, pointer, message, fix: None };
        let (index, is_error) = (self.found.len(), found.is_error());
        if (if is_error { self.errors } else { index - self.errors }) < MAX_FINDINGS {
            self.errors += usize::from(is_error);
            self.found.push(found);
            return Finding { diagnostic: &mut self.found[index], number: index };
        }
        let errors = is_error || self.unseen.as_ref().is_some_and(|unseen| unseen.1);
        Finding { diagnostic: &mut self.unseen.insert(Box::new((found, errors))).0, number: index }
    }

    /// Reports why there is no tree.
    pub(crate) fn unreadable(&mut self, problem: &Problem) {
        let (code, mark, message) = match problem {
            Problem::Syntax(mark, message) => (code::SYNTAX, *mark, message),
            Problem::Limit(mark, message) => (code::LIMIT, *mark, message),
        };
        self.at(code, Severity::Error, mark, String::new(), message.clone());
    }

    /// Makes an error without noting it.
    pub(crate) fn one(&self, code: &'static str, node: &Node, message: impl Into<String>) -> Diagnostic {
        let Mark { line, column, .. } = node.mark;
        let (file, pointer, message) =
            (self.file(node.mark).to_owned(), node.pointer.clone(), message.into());
        Diagnostic { code, severity: Severity::Error, file, line, column, pointer, message, fix: None }
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Forgets what was found so far.
    pub(crate) fn forget(&mut self) {
        (self.unseen, self.errors) = (None, 0);
        self.found.clear();
    }

    /// Returns the findings in the order of the document, then of what it refers to; each once: a function lowered at
    /// three call sites is still wrong in one place.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        let main = self.files.first().cloned().unwrap_or_default();
        self.found.sort_by(|a, b| {
            let place = |found: &'_ Diagnostic| (found.file != main, found.line, found.column, found.code);
            (place(a), &a.file, &a.message).cmp(&(place(b), &b.file, &b.message))
        });
        self.found.dedup();
        if let Some(unseen) = self.unseen {
            let (last, errors) = *unseen;
            let severity = if errors { Severity::Error } else { Severity::Warning };
            let message = format!("there are more than {MAX_FINDINGS} findings; fix these first");
            self.found.push(Diagnostic { code: code::LIMIT, severity, message, fix: None, ..last });
        }
        self.found
    }
}

impl Finding<'_> {
    pub(crate) fn fix(self, fix: impl Into<String>) {
        self.diagnostic.fix = Some(excerpt(fix.into()));
    }

    /// Suggests the known name nearest to the one written, or lists them when none is near.
    pub(crate) fn suggest<'n>(self, written: &str, known: impl IntoIterator<Item = &'n str>) {
        if self.number >= SUGGESTED {
            return;
        }
        let known: Vec<&str> = known.into_iter().collect();
        let some = &known[..known.len().min(LISTED)];
        match nearest(written, known.iter().copied()) {
            Some(name) => self.fix(format!("did you mean `{name}`?")),
            None if known.is_empty() => {}
            None if known.len() > LISTED => self.fix(format!("known here: {} and others", some.join(", "))),
            None => self.fix(format!("known here: {}", some.join(", "))),
        }
    }
}

/// Finds the known name an author most likely meant.
pub(crate) fn nearest<'n>(written: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let (longest, most) = COMPARED;
    if written.len() > longest {
        return None;
    }
    let lower = written.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&lower, &name.to_lowercase());
    let limit = (written.chars().count() / 3).max(1);
    known
        .into_iter()
        .filter(|name| name.len() <= longest)
        .take(most)
        .map(|name| (distance(name), name))
        .filter(|(far, _)| *far <= limit)
        .min()
        .map(|(_, name)| name)
}

fn excerpt(mut message: String) -> String {
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    message
}

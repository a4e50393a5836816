//! Findings in a workflow document, shown with the line they are about.

use serde::Serialize;
use serde_json::{Value, json};
use sinew_workflow::{
    Definition, Described, Diagnostic, Need, Protocol, Resource, Resources, Severity, code::RESOURCE,
};

use crate::output::{Output, Style};

/// A document that was checked.
pub(crate) struct Checked {
    pub(crate) file: String,
    pub(crate) source: String,
    /// Its name and version, when it is valid.
    pub(crate) reference: Option<String>,
    pub(crate) findings: Vec<Diagnostic>,
    /// What is valid, but cannot run in this version.
    pub(crate) not_runnable: Vec<Diagnostic>,
    /// What it refers to and nobody looked at.
    pub(crate) elsewhere: Vec<Elsewhere>,
}

/// A document that another one refers to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Elsewhere {
    /// Where it is; nobody knows before the workflow runs where it is `None`.
    uri: Option<String>,
    why: String,
    file: String,
    pointer: String,
}

impl Checked {
    /// Checks a document; `file` names it in its findings.
    pub(crate) fn new(source: String, file: String) -> Self {
        Self::with_definition(source, file, &Resources::default(), |_| true).0
    }

    /// Checks a document for a host that has these abilities; the definition is there when it is valid.
    pub(crate) fn with_definition(
        source: String,
        file: String,
        resources: &Resources,
        has: impl Fn(Need) -> bool,
    ) -> (Self, Option<Definition>) {
        let empty = Self {
            file,
            source,
            reference: None,
            findings: Vec::new(),
            not_runnable: Vec::new(),
            elsewhere: Vec::new(),
        };
        match Definition::parse_with(&empty.source, &empty.file, resources) {
            Ok(definition) => {
                let not_runnable = definition.runnable_by(has).err().into_iter().flatten().collect();
                let reference = Some(definition.reference().to_string());
                let findings = definition.warnings().to_vec();
                (Self { reference, findings, not_runnable, ..empty }, Some(definition))
            }
            Err(diagnostics) => (Self { findings: diagnostics.into_iter().collect(), ..empty }, None),
        }
    }

    /// Says whether the document is valid.
    pub(crate) fn is_valid(&self) -> bool {
        self.reference.is_some()
    }

    /// Returns the number of errors.
    pub(crate) fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.is_error()).count()
    }

    /// Returns what is wrong with what it refers to.
    pub(crate) fn broken_references(&self) -> impl Iterator<Item = &Diagnostic> {
        self.not_runnable.iter().filter(|finding| finding.code == RESOURCE)
    }

    /// Returns the JSON form.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "file": self.file,
            "valid": self.is_valid(),
            "runnable": self.is_valid() && self.not_runnable.is_empty(),
            "workflow": self.reference,
            "diagnostics": self.findings.iter().chain(&self.not_runnable).collect::<Vec<_>>(),
            "notFetched": self.elsewhere,
        })
    }

    /// Returns the form for people: each finding with its line, then the verdict.
    pub(crate) fn to_text(&self, output: &Output) -> String {
        let mut text = String::new();
        for finding in self.findings.iter().chain(&self.not_runnable) {
            text.push_str(&finding_text(finding, &self.source, output));
            text.push('\n');
        }
        for Elsewhere { uri, why, .. } in &self.elsewhere {
            let uri = uri.as_deref().unwrap_or("an address that is computed when it runs");
            text.push_str(
                &output.paint(Style::Quiet, &format!("not looked at: {uri}, {why} (--fetch does)")),
            );
            text.push('\n');
        }
        let verdict = match (&self.reference, self.not_runnable.is_empty()) {
            (Some(name), true) => format!("{}  {name}", output.paint(Style::Good, "valid")),
            (Some(name), false) => {
                let but = match self.broken_references().next() {
                    Some(_) => "but not all it refers to can be used",
                    None => "but this version cannot run it yet",
                };
                format!("{}  {name}, {but}", output.paint(Style::Doubtful, "valid"))
            }
            (None, _) => {
                format!("{}  {}", output.paint(Style::Bad, "invalid"), counted(self.errors(), "error"))
            }
        };
        text.push_str(&format!("{}: {verdict}", self.file));
        text
    }
}

impl From<Resource> for Elsewhere {
    fn from(Resource { uri, why, file, pointer, .. }: Resource) -> Self {
        Self { uri: Some(uri), why, file, pointer }
    }
}

impl From<&Described> for Elsewhere {
    fn from(call: &Described) -> Self {
        let Diagnostic { file, pointer, .. } = call.finding(Severity::Warning, "");
        let why = match call.protocol {
            Protocol::Script => "the source of a script".to_owned(),
            protocol => format!("the description of a call of `{protocol}`"),
        };
        Self { uri: call.uri().map(str::to_owned), why, file, pointer }
    }
}

/// Counts things in words.
pub(crate) fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn finding_text(finding: &Diagnostic, source: &str, output: &Output) -> String {
    let (style, severity) = match finding.severity {
        Severity::Error => (Style::Bad, "error"),
        Severity::Warning => (Style::Doubtful, "warning"),
    };
    let title = output.paint(style, &format!("{severity}[{}]", finding.code));
    let Diagnostic { file, line, column, message, .. } = finding;
    let mut text = format!("{title}: {message}\n  --> {file}:{line}:{column}\n");
    let shown = usize::try_from(*line).ok().and_then(|line| source.lines().nth(line.checked_sub(1)?));
    if let Some(shown) = shown {
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        let before = shown.chars().take(usize::try_from(*column).unwrap_or(1).saturating_sub(1));
        // Tabs stay tabs, so that the mark stands below what it points at.
        let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        text.push_str(&format!(" {number} | {shown}\n {margin} | {indent}{}\n", output.paint(style, "^")));
    }
    if let Some(fix) = &finding.fix {
        text.push_str(&format!("  help: {fix}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_points_at_its_line() {
        let source =
            "document: { dsl: '1.0.3', namespace: a, name: b, version: '1.0.0' }\ndo:\n  - x: { sett: {} }\n";
        let checked = Checked::new(source.into(), "a.yaml".into());
        assert!(!checked.is_valid());
        assert!(checked.errors() > 0);
        let text = checked.to_text(&Output::new(true));
        assert!(text.contains("--> a.yaml:3:"), "{text}");
        assert!(text.contains(" 3 |   - x: { sett: {} }"), "{text}");
        assert_eq!(checked.to_json()["valid"], false);
    }
}

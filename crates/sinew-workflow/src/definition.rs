//! A workflow definition, ready to run.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::language::check::Uses;
use crate::language::library::Library;
use crate::language::lower::Lowered;
use crate::language::plan::Plan;
use crate::language::report::Report;
use crate::language::yaml::Node;
use crate::language::{grammar, lower};
use crate::{Contracts, Described, Diagnostic, Diagnostics, Need, Reference, Resource, Resources, code};

/// A document: parsed, checked and planned, with every expression compiled once. Share it in an `Arc`.
///
/// ```
/// use sinew_workflow::Definition;
///
/// let definition = Definition::parse(
///     "
/// document: { dsl: '1.0.3', namespace: shop, name: place-order, version: '1.0.0' }
/// do:
///   - reserve: { call: inventory.reserve, with: { sku: '${ .sku }' } }
/// ",
///     "place-order.yaml",
/// )?;
/// assert_eq!(definition.reference().to_string(), "shop/place-order@1.0.0");
/// assert_eq!(definition.operations().collect::<Vec<_>>(), [("inventory", "reserve")]);
/// # Ok::<_, sinew_workflow::Diagnostics>(())
/// ```
pub struct Definition {
    pub(crate) reference: Arc<Reference>,
    title: Option<String>,
    warnings: Vec<Diagnostic>,
    foreign: Vec<Diagnostic>,
    needs: Vec<(Need, Diagnostic)>,
    input_schema: Option<Value>,
    operations: BTreeSet<(String, String)>,
    secrets: BTreeSet<String>,
    uses: Uses,
    described: Vec<Described>,
    /// The document as `$workflow.definition` shows it.
    pub(crate) document: Value,
    pub(crate) plan: Plan,
    pub(crate) is_saga: bool,
}

impl Definition {
    /// Parses a YAML document; `file` only names it in diagnostics.
    ///
    /// What the language has but this version cannot run yet is accepted here: see [`runnable`](Self::runnable).
    ///
    /// # Errors
    /// Everything wrong with the document, at once and in its order, warnings included.
    pub fn parse(source: &str, file: &str) -> Result<Self, Diagnostics> {
        Self::parse_with(source, file, &Resources::default())
    }

    /// Parses a YAML document that refers to others, which [`resources`](crate::resources) lists.
    ///
    /// What is missing makes the definition not [`runnable`](Self::runnable), and is no error here.
    ///
    /// # Errors
    /// Everything wrong with the document and those it refers to, as [`parse`](Self::parse); findings in another document
    /// name its URI as their file.
    pub fn parse_with(source: &str, file: &str, resources: &Resources) -> Result<Self, Diagnostics> {
        Self::read(source, file, resources, |_| false)
    }

    /// Parses a document that an earlier release accepted.
    ///
    /// Checks that came later only warn here: instances that run by the document must not be stranded by them.
    ///
    /// # Errors
    /// As [`parse_with`](Self::parse_with), for what was always an error.
    pub fn parse_accepted(source: &str, file: &str, resources: &Resources) -> Result<Self, Diagnostics> {
        Self::read(source, file, resources, |finding| [code::ENDLESS, code::GONE].contains(&finding.code))
    }

    fn read(
        source: &str,
        file: &str,
        resources: &Resources,
        forgives: impl Fn(&Diagnostic) -> bool,
    ) -> Result<Self, Diagnostics> {
        let Reading { lowered, root, mut findings, .. } = Reading::new(source, file, resources);
        for finding in findings.iter_mut().filter(|finding| forgives(finding)) {
            finding.severity = crate::Severity::Warning;
        }
        let (Some(lowered), false) = (lowered, findings.iter().any(Diagnostic::is_error)) else {
            return Err(Diagnostics::new(findings));
        };
        let text =
            |key: &str| root.get("document").and_then(|document| document.get(key)).and_then(Node::text);
        let owned = |key: &str| text(key).unwrap_or_default().to_owned();
        Ok(Self {
            reference: Arc::new(Reference {
                namespace: owned("namespace"),
                name: owned("name"),
                version: owned("version"),
            }),
            title: text("title").map(str::to_owned),
            warnings: findings,
            foreign: lowered.foreign,
            needs: lowered.needs,
            input_schema: lowered.input_schema,
            operations: lowered.operations,
            secrets: lowered.secrets,
            uses: lowered.uses,
            described: lowered.described,
            document: root.value(),
            is_saga: lowered.plan.is_saga(),
            plan: lowered.plan,
        })
    }

    /// Checks that this version can run everything the document uses.
    ///
    /// # Errors
    /// The places of what it cannot run yet.
    pub fn runnable(&self) -> Result<(), Diagnostics> {
        if self.foreign.is_empty() { Ok(()) } else { Err(Diagnostics::new(self.foreign.clone())) }
    }

    /// Checks that a host which has these abilities can run the document.
    ///
    /// # Errors
    /// The places of what it cannot run, those of [`runnable`](Self::runnable) among them.
    pub fn runnable_by(&self, has: impl Fn(Need) -> bool) -> Result<(), Diagnostics> {
        let missing = self.needs.iter().filter(|(need, _)| !has(*need)).map(|(_, finding)| finding);
        let mut found: Vec<Diagnostic> = self.foreign.iter().chain(missing).cloned().collect();
        found.sort_by_key(|finding| (finding.line, finding.column));
        if found.is_empty() { Ok(()) } else { Err(Diagnostics::new(found)) }
    }

    /// Returns what it needs of its host beyond operations, events it publishes, and time; each once.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Need> {
        self.needs.iter().map(|(need, _)| *need).collect()
    }

    /// Checks the calls of operations against what is known of their contracts, and returns what is doubtful.
    ///
    /// Contracts change without the document, so this is for hosts to call whenever they can: it refuses nothing.
    ///
    /// ```
    /// use sinew_workflow::{Contracts, Definition, Known, code};
    ///
    /// struct Catalogue;
    ///
    /// impl Contracts for Catalogue {
    ///     fn find(&self, service: &str, operation: &str) -> Known {
    ///         match (service, operation) {
    ///             ("pay", "charge") => Known::Operation { idempotent: false },
    ///             ("pay", _) => Known::Missing { others: vec!["charge".to_owned()] },
    ///             _ => Known::Nothing,
    ///         }
    ///     }
    /// }
    ///
    /// let definition = Definition::parse(
    ///     "
    /// document: { dsl: '1.0.3', namespace: shop, name: pay, version: '1.0.0' }
    /// do:
    ///   - attempt:
    ///       try: [ { charge: { call: pay.charge } } ]
    ///       catch: { retry: { delay: PT1S, limit: { attempt: { count: 3 } } } }
    /// ",
    ///     "pay.yaml",
    /// )?;
    /// let found = definition.check_against(&Catalogue);
    /// assert_eq!((found[0].code, found[0].line), (code::NOT_IDEMPOTENT, 5));
    /// # Ok::<_, sinew_workflow::Diagnostics>(())
    /// ```
    #[must_use]
    pub fn check_against(&self, contracts: &dyn Contracts) -> Vec<Diagnostic> {
        self.uses.iter().filter_map(|operation| operation.against(contracts)).collect()
    }

    /// Returns the calls that need a document when they are carried out, such as the description of an API.
    #[must_use]
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// Returns the name and version.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns the title.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// Returns what is valid but doubtful.
    #[must_use]
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// Returns the JSON schema of the input, when the document holds one.
    #[must_use]
    pub fn input_schema(&self) -> Option<&Value> {
        self.input_schema.as_ref()
    }

    /// Returns the secrets it names, each once: whoever carries its calls out must know them.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.iter().map(String::as_str)
    }

    /// Returns the operations it calls, each once, as service and operation.
    pub fn operations(&self) -> impl Iterator<Item = (&str, &str)> {
        self.operations.iter().map(|(service, operation)| (service.as_str(), operation.as_str()))
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition").field("reference", &self.reference).finish_non_exhaustive()
    }
}

/// A document as far as it could be read.
pub(crate) struct Reading {
    pub(crate) missing: Vec<Resource>,
    root: Node,
    lowered: Option<Lowered>,
    findings: Vec<Diagnostic>,
}

impl Reading {
    pub(crate) fn new(source: &str, file: &str, resources: &Resources) -> Self {
        let library = Library::read(resources);
        let files = std::iter::once(file.to_owned()).chain(library.uris().cloned());
        let mut report = Report::new(files.collect());
        let root = match Node::parse(source) {
            Ok(root) => root,
            Err(problem) => {
                report.unreadable(&problem);
                let (root, findings) = (Node::nothing(), report.finish());
                return Self { missing: Vec::new(), root, lowered: None, findings };
            }
        };
        grammar::check(&root, &mut report);
        let mut lowered = lower::lower(&root, &library, &mut report);
        let missing = std::mem::take(&mut lowered.missing);
        Self { missing, root, lowered: Some(lowered), findings: report.finish() }
    }
}

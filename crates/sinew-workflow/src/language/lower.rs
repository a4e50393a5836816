//! From a checked tree to a [`Plan`]: resolves names, compiles expressions, and reports what means nothing.
//!
//! It runs even on documents of the wrong shape, so that all mistakes are reported at once; what the grammar has already
//! reported is skipped here in silence.

mod authentication;
mod call;
mod children;
mod events;
mod expression;
mod extend;
mod kinds;
mod library;
mod outside;
mod people;
mod place;
mod policy;
mod schedule;
mod task;

pub(crate) use task::saga_key;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::check;
use super::duration;
use super::jq::Expression;
use super::library::Library;
use super::plan::{Filter, Id, Length, Plan, Task};
use super::report::Report;
use super::schema::Schema;
use super::template::{Compile, Guard, bare};
use super::yaml::{Node, Tree};
use crate::{Described, Diagnostic, Need, Resource, code};
use place::Place;

/// How many functions can be called from within each other.
const MAX_CALLS: usize = 32;
/// The most tasks of a plan, functions counted at each call.
const MAX_TASKS: usize = 10_000;

/// The most tasks inside each other, those of functions and compensations among them.
const MAX_NESTED: usize = 200;
/// The largest definitions of tasks, in bytes: each task has its own, and functions are repeated in all their calls.
const MAX_PLANNED: usize = 64 << 20;

/// What lowering a document gives, besides its report.
pub(crate) struct Lowered {
    pub(crate) plan: Plan,
    /// Which operations it uses how.
    pub(crate) uses: check::Uses,
    /// Which calls documents elsewhere describe.
    pub(crate) described: Vec<Described>,
    /// What cannot run yet, and where.
    pub(crate) foreign: Vec<Diagnostic>,
    /// What it needs of its host, and where.
    pub(crate) needs: Vec<(Need, Diagnostic)>,
    pub(crate) operations: BTreeSet<(String, String)>,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) input_schema: Option<Value>,
    /// Documents it refers to which are not there.
    pub(crate) missing: Vec<Resource>,
}

/// Lowers a document.
pub(crate) fn lower(root: &Node, library: &Library, report: &mut Report) -> Lowered {
    let foreign = report.another();
    let mut lower = Lower {
        root,
        library,
        missing: Vec::new(),
        report,
        foreign,
        needs: Vec::new(),
        plan: Plan::default(),
        nodes: Vec::new(),
        operations: BTreeSet::new(),
        secrets: BTreeSet::new(),
        compiled: HashMap::new(),
        place: Place::default(),
        scope: Vec::new(),
        reveals: false,
        guard: None,
        granted: Guard::default(),
        loose: is_loose(root),
        extending: false,
        nested: 0,
        planned: 0,
        calling: Vec::new(),
        undoing: None,
    };
    lower.reusable();
    lower.workflow();
    let (uses, described) = match lower.report.has_errors() {
        true => (Vec::new(), Vec::new()),
        false => check::check(&lower.plan, &lower.nodes, lower.report),
    };
    let schema = root.get("input").and_then(|input| input.get("schema"));
    let input_schema = schema.and_then(|schema| lower.schema_node(schema));
    Lowered {
        plan: lower.plan,
        uses,
        described,
        foreign: lower.foreign.finish(),
        needs: lower.needs,
        operations: lower.operations,
        secrets: lower.secrets,
        input_schema: input_schema.map(Node::value),
        missing: lower.missing,
    }
}

struct Lower<'a> {
    root: &'a Node,
    library: &'a Library,
    missing: Vec<Resource>,
    report: &'a mut Report,
    foreign: Report,
    needs: Vec<(Need, Diagnostic)>,
    plan: Plan,
    /// Where the tasks of the plan stand, in its order.
    nodes: Vec<&'a Node>,
    operations: BTreeSet<(String, String)>,
    secrets: BTreeSet<String>,
    /// Compiled expressions by source and scope: functions and repeated conditions compile once.
    compiled: HashMap<(String, Vec<String>), Result<Expression, String>>,
    place: Place,
    /// The variables in scope here, beside the arguments of the place.
    scope: Vec<String>,
    /// Whether expressions here may name secrets.
    reveals: bool,
    /// Set while reading what leaves the engine.
    guard: Option<Guard>,
    /// The placeholders that the input of the task being planned may hold.
    granted: Guard,
    /// Whether any text is tried as an expression.
    loose: bool,
    /// Whether this is part of an extension.
    extending: bool,
    /// How many tasks are being planned inside each other.
    nested: usize,
    /// How large the definitions of the tasks planned so far are, roughly.
    planned: usize,
    /// The functions being planned, to refuse recursion.
    calling: Vec<String>,
    /// Whether this is part of a compensation, and how many functions were being planned when that began.
    undoing: Option<usize>,
}

impl<'a> Lower<'a> {
    fn workflow(&mut self) {
        let root = self.root;
        self.plan.input = self.filter(root.get("input"), "from", Place::WorkflowInput);
        self.plan.output = self.filter(root.get("output"), "as", Place::WorkflowOutput);
        self.plan.timeout = self.at(Place::WorkflowInput, |lower| lower.timeout(root.get("timeout")));
        self.plan.saga = self.saga(root.get("saga"));
        if let Some(body) = root.get("do") {
            self.plan.body = self.list(body, "/do");
        }
        if let Some(schedule) = root.get("schedule") {
            self.schedule(schedule);
        }
    }

    /// Plans the functions and extensions on their own, to report mistakes in those nobody uses; then forgets the plan.
    fn reusable(&mut self) {
        let Some(reusable) = self.root.get("use") else { return };
        for (name, node) in reusable.get("functions").map(Node::entries).unwrap_or_default() {
            self.calling.push(name.text.clone());
            self.task(&name.text, node, format!("/use/functions/{}", name.text), &[]);
            self.calling.pop();
        }
        self.check_extensions();
        for (_, policy) in reusable.get("retries").map(Node::entries).unwrap_or_default() {
            self.with_variables(&["error"], |lower| lower.retry_policy(policy));
        }
        for (_, timeout) in reusable.get("timeouts").map(Node::entries).unwrap_or_default() {
            self.timeout(Some(timeout));
        }
        for (_, error) in reusable.get("errors").map(Node::entries).unwrap_or_default() {
            self.raised(error);
        }
        self.check_policies();
        self.plan = Plan::default();
        self.planned = 0;
        self.nodes.clear();
        self.operations.clear();
        self.needs.clear();
        self.missing.clear();
        self.secrets.clear();
        self.foreign.forget();
    }

    /// Plans a list of tasks below a pointer.
    fn list(&mut self, node: &'a Node, pointer: &str) -> Vec<Id> {
        let named = node.items().iter().filter_map(|item| item.entries().first());
        let names: Vec<&str> = named.clone().map(|(name, _)| name.text.as_str()).collect();
        let mut known = HashSet::new();
        for (name, task) in named.clone() {
            if !known.insert(&name.text) {
                let message =
                    format!("two tasks of this list are called `{}`; `then` finds the first", name.text);
                self.report.warning(code::DUPLICATE_TASK, task, message);
            }
        }
        let place = |index: usize, name: &str| super::yaml::join(&format!("{pointer}/{index}"), name);
        named
            .enumerate()
            .map(|(index, (name, task))| self.task(&name.text, task, place(index, &name.text), &names))
            .collect()
    }

    fn add(&mut self, task: Task, node: &'a Node) -> Id {
        let id = Id(u32::try_from(self.plan.tasks.len()).unwrap_or(u32::MAX));
        self.plan.by_pointer.insert(Arc::clone(&task.pointer), id);
        self.plan.tasks.push(task);
        self.nodes.push(node);
        id
    }

    /// Notes something the host must be able to do.
    fn need(&mut self, need: Need, node: &Node) {
        let message = format!("{need} is beyond what runs this");
        let finding = self.foreign.one(code::NOT_RUNNABLE, node, message);
        self.needs.push((need, finding));
    }

    fn with_variables<T>(&mut self, names: &[&str], body: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.scope.len();
        self.scope.extend(names.iter().map(|&name| name.to_owned()));
        let result = body(self);
        self.scope.truncate(before);
        result
    }

    fn filter(&mut self, node: Option<&'a Node>, transform: &str, place: Place) -> Filter {
        let schema = node.and_then(|node| node.get("schema")).and_then(|schema| self.schema(schema));
        let transform = node.and_then(|node| node.get(transform));
        let transform = transform.map(|node| self.at(place, |lower| lower.transform(node)));
        Filter { schema, transform }
    }

    fn schema(&mut self, node: &'a Node) -> Option<Schema> {
        if let Some(format) =
            node.get("format").filter(|format| !format.text().is_some_and(|text| text.starts_with("json")))
        {
            self.report
                .error(code::SCHEMA, format, "only JSON schemas are supported")
                .fix("write `format: json`, or leave it out");
            return None;
        }
        let document = self.schema_node(node)?;
        match Schema::compile(&document.value()) {
            Ok(schema) => Some(schema),
            Err(problem) => {
                let place = node.get("document").unwrap_or(node);
                self.report.error(code::SCHEMA, place, format!("the schema does not compile: {problem}"));
                None
            }
        }
    }

    /// Finds a schema, inline or elsewhere.
    fn schema_node(&mut self, node: &'a Node) -> Option<&'a Node> {
        match (node.get("document"), node.get("resource")) {
            (Some(document), _) => Some(document),
            (None, Some(resource)) => self.schema_document(resource),
            (None, None) => {
                let finding =
                    self.report.error(code::MISSING_KEY, node, "a schema has a `document` or a `resource`");
                finding.fix("write the schema below `document:`");
                None
            }
        }
    }

    fn length(&mut self, node: &Node) -> Option<Length> {
        match &node.tree {
            Tree::Text(text) if text.contains("${") => {
                self.expression(node, bare(text)).map(Length::Computed)
            }
            Tree::Text(text) => duration::parse(text).ok().map(Length::Fixed),
            Tree::Map(_) => duration::from_object(node).ok().map(Length::Fixed),
            _ => None,
        }
    }

    fn timeout(&mut self, node: Option<&'a Node>) -> Option<Length> {
        let node = node?;
        let policy = match node.text() {
            Some(name) => self.reuse("timeouts", "timeout", node, name)?,
            None => node,
        };
        self.length(policy.get("after")?)
    }

    /// Finds a reusable thing by name, or reports that there is none.
    fn reuse(&mut self, section: &str, what: &str, node: &Node, name: &str) -> Option<&'a Node> {
        let known = self.root.get("use").and_then(|reusable| reusable.get(section));
        let found = known.and_then(|known| known.get(name));
        if found.is_none() {
            let names = known.map(Node::entries).unwrap_or_default().iter().map(|(key, _)| key.text.as_str());
            let message = format!("there is no {what} `{name}` below `use.{section}`");
            self.report.error(code::UNKNOWN_NAME, node, message).suggest(name, names);
        }
        found
    }
}

fn is_loose(root: &Node) -> bool {
    root.get("evaluate").and_then(|evaluate| evaluate.get("mode")).and_then(Node::text) == Some("loose")
}

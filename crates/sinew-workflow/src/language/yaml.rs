//! A YAML tree that knows where everything stands. Bounded in size, depth and expansion; never recursive on input.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Number, Value};

/// The largest document, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting, aliases expanded.
const MAX_DEPTH: usize = 100;
/// The most values, aliases expanded.
const MAX_NODES: usize = 100_000;
/// The longest key, in bytes.
const MAX_KEY: usize = 1_000;
/// The most text that aliases may repeat, in bytes.
const MAX_REPEATED: usize = 4 << 20;
/// The most bytes of JSON pointers: each value has its own, and long keys are repeated in all below them.
const MAX_POINTERS: usize = 32 << 20;

/// A place in a text: line and column, both from 1, and which of the texts that are read together it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) file: u16,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// A value, where it stands, and how a JSON pointer names it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) pointer: String,
    pub(crate) tree: Tree,
}

#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) mark: Mark,
}

/// Why there is no tree.
#[derive(Debug)]
pub(crate) enum Problem {
    Syntax(Mark, String),
    Limit(Mark, String),
}

impl Node {
    /// Reads the first document of a text.
    pub(crate) fn parse(source: &str) -> Result<Self, Problem> {
        if source.len() > MAX_BYTES {
            return Err(Problem::Limit(
                Mark::START,
                format!("the document is larger than {MAX_BYTES} bytes"),
            ));
        }
        let mut builder = Builder::default();
        for event in Parser::new_from_str(source) {
            let (event, span) = event.map_err(Problem::from)?;
            if matches!(event, Event::DocumentEnd) {
                break;
            }
            builder.take(event, span)?;
        }
        let mut root = builder.root.unwrap_or_else(Self::nothing);
        root.locate(String::new(), &mut MAX_POINTERS.clone())?;
        Ok(root)
    }

    /// Makes the tree of an empty text.
    pub(crate) fn nothing() -> Self {
        Self::new(Mark::START, Tree::Null)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(known, _)| known.text == key).map(|(_, node)| node)
    }

    pub(crate) fn entries(&self) -> &[(Key, Self)] {
        if let Tree::Map(entries) = &self.tree { entries } else { &[] }
    }

    pub(crate) fn items(&self) -> &[Self] {
        if let Tree::List(items) = &self.tree { items } else { &[] }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let Tree::Text(text) = &self.tree { Some(text) } else { None }
    }

    pub(crate) fn bool(&self) -> Option<bool> {
        if let Tree::Bool(value) = self.tree { Some(value) } else { None }
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        if let Tree::Number(number) = &self.tree { number.as_i64() } else { None }
    }

    /// Says what this is, for a message.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.tree {
            Tree::Null => "nothing",
            Tree::Bool(_) => "a boolean",
            Tree::Number(_) => "a number",
            Tree::Text(_) => "text",
            Tree::List(_) => "a list",
            Tree::Map(_) => "an object",
        }
    }

    pub(crate) fn value(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(number) => Value::Number(number.clone()),
            Tree::Text(text) => Value::String(text.clone()),
            Tree::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Tree::Map(entries) => Value::Object(
                entries.iter().map(|(key, node)| (key.text.clone(), node.value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// Estimates how much memory its [`value`](Self::value) takes, in bytes.
    pub(crate) fn weight(&self) -> usize {
        /// What a value takes beside its text.
        const VALUE: usize = 64;
        VALUE
            + match &self.tree {
                Tree::Text(text) => text.len(),
                Tree::List(items) => items.iter().map(Self::weight).sum(),
                Tree::Map(entries) => {
                    entries.iter().map(|(key, node)| VALUE + key.text.len() + node.weight()).sum()
                }
                Tree::Null | Tree::Bool(_) | Tree::Number(_) => 0,
            }
    }

    /// Says which of the texts read together this is.
    pub(crate) fn in_file(mut self, file: u16) -> Self {
        self.place(file);
        self
    }

    fn place(&mut self, file: u16) {
        self.mark.file = file;
        match &mut self.tree {
            Tree::List(items) => items.iter_mut().for_each(|item| item.place(file)),
            Tree::Map(entries) => entries.iter_mut().for_each(|(key, node)| {
                key.mark.file = file;
                node.place(file);
            }),
            _ => {}
        }
    }

    fn new(mark: Mark, tree: Tree) -> Self {
        Self { mark, pointer: String::new(), tree }
    }

    /// Writes pointers into the tree. Recursion is safe: the builder bounded the depth.
    fn locate(&mut self, pointer: String, left: &mut usize) -> Result<(), Problem> {
        *left = left.checked_sub(pointer.len()).ok_or_else(|| {
            Problem::Limit(self.mark, "the keys on the way here are too long; shorten them".to_owned())
        })?;
        match &mut self.tree {
            Tree::List(items) => {
                let mut items = items.iter_mut().enumerate();
                items.try_for_each(|(index, node)| node.locate(format!("{pointer}/{index}"), left))?;
            }
            Tree::Map(entries) => {
                let mut entries = entries.iter_mut();
                entries.try_for_each(|(key, node)| node.locate(join(&pointer, &key.text), left))?;
            }
            _ => {}
        }
        self.pointer = pointer;
        Ok(())
    }
}

impl Mark {
    pub(crate) const START: Self = Self { file: 0, line: 1, column: 1 };
}

impl Problem {
    /// Says which of the texts read together this is about.
    pub(crate) fn in_file(mut self, file: u16) -> Self {
        let (Self::Syntax(mark, _) | Self::Limit(mark, _)) = &mut self;
        mark.file = file;
        self
    }
}

impl From<Span> for Mark {
    fn from(span: Span) -> Self {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Self { file: 0, line: number(span.start.line()), column: number(span.start.col() + 1) }
    }
}

impl From<ScanError> for Problem {
    fn from(error: ScanError) -> Self {
        Self::Syntax(Span::empty(*error.marker()).into(), error.info().to_owned())
    }
}

/// Appends a segment to a JSON pointer.
pub(crate) fn join(pointer: &str, segment: &str) -> String {
    format!("{pointer}/{}", segment.replace('~', "~0").replace('/', "~1"))
}

/// A list or map that is not closed yet.
struct Open {
    anchor: usize,
    mark: Mark,
    kind: OpenKind,
    size: Size,
}

enum OpenKind {
    List(Vec<Node>),
    Map(Entries),
}

/// The entries of a map so far, and the key whose value comes next.
#[derive(Default)]
struct Entries {
    entries: Vec<(Key, Node)>,
    key: Option<Key>,
    known: HashSet<String>,
}

/// An anchored value, with what expanding it costs.
struct Anchored {
    node: Node,
    size: Size,
}

/// How large a value is, aliases in it expanded.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    text: usize,
    height: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    repeated: usize,
    root: Option<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let mark = Mark::from(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let size = Size { nodes: 1, text: text.len(), height: 1 };
                let node = Node::new(mark, scalar(&text, style, tag.as_deref()));
                self.count(1, mark)?;
                self.finish(anchor, node, size)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, mark, OpenKind::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(anchor, mark, OpenKind::Map(Entries::default())),
            Event::SequenceEnd | Event::MappingEnd => self.end(mark),
            Event::Alias(anchor) => self.expand(anchor, mark),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, mark: Mark, kind: OpenKind) -> Result<(), Problem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Problem::Limit(mark, format!("the document nests deeper than {MAX_DEPTH} levels")));
        }
        self.count(1, mark)?;
        self.open.push(Open { anchor, mark, kind, size: Size { nodes: 1, text: 0, height: 1 } });
        Ok(())
    }

    fn end(&mut self, mark: Mark) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else {
            return Err(Problem::Syntax(mark, "a collection ends that never began".to_owned()));
        };
        let tree = match open.kind {
            OpenKind::List(items) => Tree::List(items),
            OpenKind::Map(map) => Tree::Map(map.entries),
        };
        self.finish(open.anchor, Node::new(open.mark, tree), open.size)
    }

    fn expand(&mut self, anchor: usize, mark: Mark) -> Result<(), Problem> {
        let Some(known) = self.anchors.get(&anchor) else {
            return Err(Problem::Syntax(mark, "an alias refers to itself or to nothing".to_owned()));
        };
        let size = known.size;
        self.repeated += size.text;
        let fits = self.nodes + size.nodes <= MAX_NODES
            && self.open.len() + size.height <= MAX_DEPTH
            && self.repeated <= MAX_REPEATED;
        if !fits {
            let limit = format!(
                "aliases expand to more than {MAX_NODES} values, {MAX_DEPTH} levels or {MAX_REPEATED} bytes"
            );
            return Err(Problem::Limit(mark, limit));
        }
        let node = Node { mark, ..known.node.clone() };
        self.nodes += size.nodes;
        self.finish(0, node, size)
    }

    fn count(&mut self, nodes: usize, mark: Mark) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(Problem::Limit(mark, format!("the document holds more than {MAX_NODES} values")));
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, anchor: usize, node: Node, size: Size) -> Result<(), Problem> {
        if anchor != 0 {
            // Kept beside the value itself, and anchors nest: that is a repetition as well.
            self.repeated += size.text;
            self.count(size.nodes, node.mark)?;
            if self.repeated > MAX_REPEATED {
                let limit = format!("anchored values hold more than {MAX_REPEATED} bytes");
                return Err(Problem::Limit(node.mark, limit));
            }
            self.anchors.insert(anchor, Anchored { node: node.clone(), size });
        }
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        open.size.nodes += size.nodes;
        open.size.text += size.text;
        open.size.height = open.size.height.max(size.height + 1);
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map(map) => map.take(node)?,
        }
        Ok(())
    }
}

impl Entries {
    /// Takes a key or the value of the last one.
    fn take(&mut self, node: Node) -> Result<(), Problem> {
        if let Some(key) = self.key.take() {
            self.entries.push((key, node));
            return Ok(());
        }
        let text = match node.tree {
            Tree::Text(text) => text,
            Tree::Number(number) => number.to_string(),
            Tree::Bool(value) => value.to_string(),
            Tree::Null => "null".to_owned(),
            _ => return Err(Problem::Syntax(node.mark, "a key must be text".to_owned())),
        };
        if text.len() > MAX_KEY {
            return Err(Problem::Limit(node.mark, format!("a key is longer than {MAX_KEY} bytes")));
        }
        if !self.known.insert(text.clone()) {
            return Err(Problem::Syntax(node.mark, format!("the key `{text}` appears twice")));
        }
        self.key = Some(Key { text, mark: node.mark });
        Ok(())
    }
}

/// Resolves a scalar by the core schema of YAML 1.2: only plain ones can be anything but text.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Tree {
    if style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.suffix == "str") {
        return Tree::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Tree::Null,
        "true" | "True" | "TRUE" => Tree::Bool(true),
        "false" | "False" | "FALSE" => Tree::Bool(false),
        _ => number(text).map_or_else(|| Tree::Text(text.to_owned()), Tree::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(Number::from);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return u64::from_str_radix(octal, 8).ok().map(Number::from);
    }
    // `inf` and `nan` parse as floats in Rust, but are words in YAML.
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let whole = text.strip_prefix('+').unwrap_or(text);
    if let Ok(integer) = whole.parse::<i64>() {
        return Some(integer.into());
    }
    if let Ok(integer) = whole.parse::<u64>() {
        return Some(integer.into());
    }
    whole.parse::<f64>().ok().and_then(Number::from_f64)
}

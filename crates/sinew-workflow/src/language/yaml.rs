//! A YAML tree that knows where everything stands. Bounded in size, depth and expansion; never recursive on input.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Number, Value};

/// The largest document, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting, aliases expanded.
const MAX_DEPTH: usize = 100;
/// The most values, aliases expanded.
const MAX_NODES: usize = 100_000;

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
        root.locate(String::new());
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
    fn locate(&mut self, pointer: String) {
        match &mut self.tree {
            Tree::List(items) => {
                items
                    .iter_mut()
                    .enumerate()
                    .for_each(|(index, node)| node.locate(format!("{pointer}/{index}")));
            }
            Tree::Map(entries) => {
                entries.iter_mut().for_each(|(key, node)| node.locate(join(&pointer, &key.text)));
            }
            _ => {}
        }
        self.pointer = pointer;
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
    size: usize,
    height: usize,
}

enum OpenKind {
    List(Vec<Node>),
    Map(Vec<(Key, Node)>, Option<Key>),
}

/// An anchored value, with what expanding it costs.
struct Anchored {
    node: Node,
    size: usize,
    height: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    nodes: usize,
    root: Option<Node>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let mark = Mark::from(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node = Node::new(mark, scalar(&text, style, tag.as_deref()));
                self.finish(anchor, node, 1, 1)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, mark, OpenKind::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(anchor, mark, OpenKind::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => self.end(mark),
            Event::Alias(anchor) => self.expand(anchor, mark),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, mark: Mark, kind: OpenKind) -> Result<(), Problem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Problem::Limit(mark, format!("the document nests deeper than {MAX_DEPTH} levels")));
        }
        self.open.push(Open { anchor, mark, kind, size: 1, height: 1 });
        Ok(())
    }

    fn end(&mut self, mark: Mark) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else {
            return Err(Problem::Syntax(mark, "a collection ends that never began".to_owned()));
        };
        let tree = match open.kind {
            OpenKind::List(items) => Tree::List(items),
            OpenKind::Map(entries, _) => Tree::Map(entries),
        };
        self.finish(open.anchor, Node::new(open.mark, tree), open.size, open.height)
    }

    fn expand(&mut self, anchor: usize, mark: Mark) -> Result<(), Problem> {
        let Some(known) = self.anchors.get(&anchor) else {
            return Err(Problem::Syntax(mark, "an alias refers to itself or to nothing".to_owned()));
        };
        let (size, height) = (known.size, known.height);
        if self.nodes + size > MAX_NODES || self.open.len() + height > MAX_DEPTH {
            return Err(Problem::Limit(
                mark,
                format!("aliases expand to more than {MAX_NODES} values or {MAX_DEPTH} levels"),
            ));
        }
        let node = Node { mark, ..known.node.clone() };
        self.finish(0, node, size, height)
    }

    /// Puts a finished value where it belongs.
    fn finish(&mut self, anchor: usize, node: Node, size: usize, height: usize) -> Result<(), Problem> {
        self.nodes += size;
        if self.nodes > MAX_NODES {
            return Err(Problem::Limit(
                node.mark,
                format!("the document holds more than {MAX_NODES} values"),
            ));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, Anchored { node: node.clone(), size, height });
        }
        let Some(open) = self.open.last_mut() else {
            self.root.get_or_insert(node);
            return Ok(());
        };
        open.size += size;
        open.height = open.height.max(height + 1);
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map(entries, key) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(read_key(node, entries)?),
            },
        }
        Ok(())
    }
}

fn read_key(node: Node, entries: &[(Key, Node)]) -> Result<Key, Problem> {
    let text = match node.tree {
        Tree::Text(text) => text,
        Tree::Number(number) => number.to_string(),
        Tree::Bool(value) => value.to_string(),
        Tree::Null => "null".to_owned(),
        _ => return Err(Problem::Syntax(node.mark, "a key must be text".to_owned())),
    };
    if entries.iter().any(|(known, _)| known.text == text) {
        return Err(Problem::Syntax(node.mark, format!("the key `{text}` appears twice")));
    }
    Ok(Key { text, mark: node.mark })
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

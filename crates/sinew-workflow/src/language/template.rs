//! Values with expressions in them: `${ … }` in any text, however deep.

mod guard;
mod uri;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::jq::{Expression, Variables};
use super::yaml::{Node, Tree};
use crate::Fault;
pub(crate) use guard::Guard;

/// A value to compute. What holds no expression is kept as it is, and shared.
#[derive(Clone, Debug)]
pub(crate) enum Template {
    Constant(Arc<Value>),
    Expression(Expression),
    /// Text around expressions, whose outputs are inserted as text.
    Text(Vec<Piece>),
    /// Text around properties of the input.
    Uri(Vec<uri::Part>),
    /// An expression that is taken literally when it fails.
    Loose(Box<Template>, Arc<Value>),
    /// What leaves the engine, where only its author can name secrets.
    Guarded(Box<Template>, Guard),
    List(Vec<Template>),
    Object(Vec<(String, Template)>),
}

#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Text(String),
    Expression(Expression),
}

/// Turns the source of an expression into one, or reports it and gives none.
pub(crate) trait Compile {
    fn expression(&mut self, node: &Node, source: &str) -> Option<Expression>;
    /// Compiles text that is not marked as an expression, where the document lets any text be one.
    fn loosely(&mut self, node: &Node, source: &str) -> Option<Expression>;
    /// Says whether an expression that fails is taken literally.
    fn is_loose(&self) -> bool;
    /// Returns what guards values that leave the engine, where such a value is read.
    fn guard(&self) -> Option<Guard>;
    /// An expression begins and never ends.
    fn unclosed(&mut self, node: &Node);
    /// A text holds the character that stands for secrets.
    fn reserved(&mut self, node: &Node);
}

/// How text reads: where the expressions in it are.
#[derive(Debug, PartialEq)]
pub(crate) enum Reading<'t> {
    Plain,
    /// All of it is one expression.
    Whole(&'t str),
    /// Text with expressions inside; true marks an expression.
    Mixed(Vec<(bool, &'t str)>),
    Unclosed,
}

impl Template {
    /// Reads a value.
    pub(crate) fn read(node: &Node, compile: &mut dyn Compile) -> Self {
        let read = match &node.tree {
            Tree::Text(text) => Self::read_text(node, text, compile),
            Tree::List(items) => Self::List(items.iter().map(|item| Self::read(item, compile)).collect()),
            Tree::Map(entries) => Self::Object(
                entries.iter().map(|(key, value)| (key.text.clone(), Self::read(value, compile))).collect(),
            ),
            _ => return Self::Constant(Arc::new(node.value())),
        };
        if read.is_constant() { Self::Constant(Arc::new(node.value())) } else { read }
    }

    /// Makes an object of what was read, which is constant when all of it is.
    pub(crate) fn object(entries: Vec<(String, Self)>) -> Self {
        let constant = |(key, value): &(String, Self)| match value {
            Self::Constant(value) => Some((key.clone(), Value::clone(value))),
            _ => None,
        };
        let constants: Option<Map<_, _>> = entries.iter().map(constant).collect();
        constants.map_or(Self::Object(entries), |object| Self::Constant(Arc::new(Value::Object(object))))
    }

    /// Adds what an object does not say.
    pub(crate) fn complete(&mut self, defaults: Vec<(&'static str, Value)>) {
        let defaults = defaults.into_iter().map(|(key, value)| (key.to_owned(), value));
        match self {
            Self::Constant(constant) => {
                if let Value::Object(object) = Arc::make_mut(constant) {
                    for (key, value) in defaults {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            Self::Object(entries) => {
                for (key, value) in defaults {
                    if !entries.iter().any(|(known, _)| *known == key) {
                        entries.push((key, Self::Constant(Arc::new(value))));
                    }
                }
            }
            _ => {}
        }
    }

    /// Returns the placeholders its value may hold.
    pub(crate) fn placeholders(&self) -> Guard {
        match self {
            Self::Expression(_) | Self::Text(_) => Guard::of(self.expressions()),
            Self::Loose(inner, _) | Self::Guarded(inner, _) => inner.placeholders(),
            Self::List(items) => {
                items.iter().fold(Guard::default(), |all, item| all.and(&item.placeholders()))
            }
            Self::Object(entries) => {
                entries.iter().fold(Guard::default(), |all, (_, value)| all.and(&value.placeholders()))
            }
            Self::Constant(_) | Self::Uri(_) => Guard::default(),
        }
    }

    pub(crate) fn evaluate(
        &self,
        input: &Value,
        variables: &dyn Variables,
    ) -> Result<Arc<Value>, Box<Fault>> {
        match self {
            Self::Constant(value) => Ok(Arc::clone(value)),
            _ => self.compute(input, variables).map(Arc::new),
        }
    }

    /// Reads text in which `{name}` is a property of the input, unless it holds expressions.
    pub(crate) fn read_uri(node: &Node, compile: &mut dyn Compile) -> Self {
        let plain = node.text().filter(|text| read(text) == Reading::Plain);
        match (Self::read(node, compile), plain) {
            (Self::Constant(_), Some(text)) if text.contains('{') => Self::Uri(uri::parts(text)),
            (read, _) => read,
        }
    }

    fn read_text(node: &Node, text: &str, compile: &mut dyn Compile) -> Self {
        let literal = Arc::new(Value::String(text.to_owned()));
        let read = match read(text) {
            Reading::Whole(source) => compile.expression(node, source).map(Self::Expression),
            Reading::Mixed(pieces) => Some(Self::mixed(node, pieces, compile)),
            Reading::Unclosed => {
                compile.unclosed(node);
                None
            }
            Reading::Plain => compile.loosely(node, text).map(Self::Expression),
        };
        let guard = compile.guard();
        if guard.is_some() && text.contains(super::jq::secrets::OPEN) {
            compile.reserved(node);
        }
        let Some(read) = read else { return Self::Constant(literal) };
        let own = guard.map(|guard| Guard::of(read.expressions()).and(&guard));
        let read = if compile.is_loose() { Self::Loose(Box::new(read), literal) } else { read };
        match own {
            Some(guard) => Self::Guarded(Box::new(read), guard),
            None => read,
        }
    }

    fn mixed(node: &Node, pieces: Vec<(bool, &str)>, compile: &mut dyn Compile) -> Self {
        let piece = |(is_expression, piece): (bool, &str)| {
            if is_expression {
                compile.expression(node, piece).map(Piece::Expression)
            } else {
                Some(Piece::Text(piece.to_owned()))
            }
        };
        Self::Text(pieces.into_iter().filter_map(piece).collect())
    }

    /// Returns the expressions of a text.
    fn expressions(&self) -> Vec<&Expression> {
        fn of_piece(piece: &Piece) -> Option<&Expression> {
            if let Piece::Expression(expression) = piece { Some(expression) } else { None }
        }
        match self {
            Self::Expression(expression) => vec![expression],
            Self::Text(pieces) => pieces.iter().filter_map(of_piece).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns what is known of it before anything is computed; null stands for the rest.
    pub(crate) fn known(&self) -> Value {
        match self {
            Self::Constant(value) => Value::clone(value),
            Self::Guarded(inner, _) => inner.known(),
            Self::List(items) => items.iter().map(Self::known).collect(),
            Self::Object(entries) => {
                entries.iter().map(|(key, value)| (key.clone(), value.known())).collect()
            }
            Self::Expression(_) | Self::Text(_) | Self::Uri(_) | Self::Loose(..) => Value::Null,
        }
    }

    fn is_constant(&self) -> bool {
        match self {
            Self::Constant(_) => true,
            Self::Expression(_) | Self::Text(_) | Self::Uri(_) | Self::Loose(..) | Self::Guarded(..) => false,
            Self::List(items) => items.iter().all(Self::is_constant),
            Self::Object(entries) => entries.iter().all(|(_, value)| value.is_constant()),
        }
    }

    fn compute(&self, input: &Value, variables: &dyn Variables) -> Result<Value, Box<Fault>> {
        Ok(match self {
            Self::Constant(value) => Value::clone(value),
            Self::Expression(expression) => expression.evaluate(input, variables)?,
            Self::Text(pieces) => {
                let texts: Result<String, Box<Fault>> =
                    pieces.iter().map(|piece| piece.text(input, variables)).collect();
                Value::String(texts?)
            }
            Self::Uri(parts) => Value::String(uri::expand(parts, input)?),
            Self::Loose(tried, literal) => {
                tried.compute(input, variables).unwrap_or_else(|_| Value::clone(literal))
            }
            Self::Guarded(inner, guard) => guard.clean(inner.compute(input, variables)?),
            Self::List(items) => Value::Array(
                items.iter().map(|item| item.compute(input, variables)).collect::<Result<_, _>>()?,
            ),
            Self::Object(entries) => {
                let entries =
                    entries.iter().map(|(key, value)| Ok((key.clone(), value.compute(input, variables)?)));
                Value::Object(entries.collect::<Result<Map<_, _>, Box<Fault>>>()?)
            }
        })
    }
}

impl Piece {
    fn text(&self, input: &Value, variables: &dyn Variables) -> Result<String, Box<Fault>> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Expression(expression) => Ok(match expression.evaluate(input, variables)? {
                Value::String(text) => text,
                Value::Null => String::new(),
                other => other.to_string(),
            }),
        }
    }
}

/// Finds the expressions in a text.
pub(crate) fn read(text: &str) -> Reading<'_> {
    if !text.contains("${") {
        return Reading::Plain;
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some(end) = closing_brace(after) else { return Reading::Unclosed };
        if !before.is_empty() {
            pieces.push((false, before));
        }
        pieces.push((true, &after[..end]));
        rest = &after[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push((false, rest));
    }
    let mut meant = pieces.iter().filter(|(is_expression, piece)| *is_expression || !piece.trim().is_empty());
    match (meant.next(), meant.next()) {
        (Some((true, source)), None) => Reading::Whole(source),
        _ => Reading::Mixed(pieces),
    }
}

/// Takes the `${ }` off an expression that stands where only expressions can.
pub(crate) fn bare(text: &str) -> &str {
    if let Reading::Whole(source) = read(text) { source } else { text }
}

/// Finds the brace that closes an expression, which may hold braces and texts of its own.
fn closing_brace(source: &str) -> Option<usize> {
    // Texts nest in brackets by interpolation and brackets in texts, so both are on one stack.
    let mut open: Vec<u8> = Vec::new();
    let mut bytes = source.bytes().enumerate();
    while let Some((index, byte)) = bytes.next() {
        let in_text = open.last() == Some(&b'"');
        match byte {
            b'\\' if in_text => match bytes.next() {
                Some((_, b'(')) => open.push(b'('),
                Some(_) => {}
                None => return None,
            },
            b'"' if in_text => drop(open.pop()),
            _ if in_text => {}
            b'"' | b'(' | b'[' | b'{' => open.push(byte),
            b')' | b']' => drop(open.pop()),
            b'}' if open.is_empty() => return Some(index),
            b'}' => drop(open.pop()),
            _ => {}
        }
    }
    None
}

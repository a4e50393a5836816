//! Values with expressions in them: `${ … }` in any text, however deep.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::jq::{Expression, Variables};
use super::yaml::{Node, Tree};
use crate::Fault;

/// A value to compute. What holds no expression is kept as it is, and shared.
#[derive(Clone, Debug)]
pub(crate) enum Template {
    Constant(Arc<Value>),
    Expression(Expression),
    /// Text around expressions, whose outputs are inserted as text.
    Text(Vec<Piece>),
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
    /// An expression begins and never ends.
    fn unclosed(&mut self, node: &Node);
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

    fn read_text(node: &Node, text: &str, compile: &mut dyn Compile) -> Self {
        let constant = || Self::Constant(Arc::new(Value::String(text.to_owned())));
        match read(text) {
            Reading::Whole(source) => {
                compile.expression(node, source).map_or_else(constant, Self::Expression)
            }
            Reading::Mixed(pieces) => Self::Text(
                pieces
                    .into_iter()
                    .filter_map(|(is_expression, piece)| {
                        if is_expression {
                            compile.expression(node, piece).map(Piece::Expression)
                        } else {
                            Some(Piece::Text(piece.to_owned()))
                        }
                    })
                    .collect(),
            ),
            Reading::Unclosed => {
                compile.unclosed(node);
                constant()
            }
            Reading::Plain => constant(),
        }
    }

    fn is_constant(&self) -> bool {
        match self {
            Self::Constant(_) => true,
            Self::Expression(_) | Self::Text(_) => false,
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

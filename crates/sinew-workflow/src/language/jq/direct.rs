//! The everyday part of jq, evaluated straight on the data: paths, literals, comparisons, arithmetic, text, `if`.
//!
//! Converting the data to jq's values and back costs more than most expressions do. The tree here is made of the terms of
//! jq's own parser, so the same text means the same; and whatever is not certain here, every error among it, is left to
//! jq itself: an expression is pure, so it may begin again there.

mod compile;
mod compute;
mod growth;

use std::borrow::Cow;

use jaq_core::load::parse::Term;
use jaq_core::ops::{Cmp, Math};
use serde_json::{Map, Value};

use super::Variables;
use super::value::settle;

/// An expression that has exactly one output, or fails.
#[derive(Debug)]
pub(super) enum Direct {
    Identity,
    Constant(Value),
    Variable(String),
    /// A field of a variable, so that of a variable which is made on demand only this field is.
    Field(String, String),
    Path(Box<Direct>, Vec<Index>),
    Text(Vec<Piece>),
    List(Vec<Direct>),
    Object(Vec<(Direct, Direct)>),
    Negate(Box<Direct>),
    Math(Box<Direct>, Math, Box<Direct>),
    Compare(Box<Direct>, Cmp, Box<Direct>),
    And(Box<Direct>, Box<Direct>),
    Or(Box<Direct>, Box<Direct>),
    Alternative(Box<Direct>, Box<Direct>),
    Pipe(Box<Direct>, Box<Direct>),
    If(Vec<(Direct, Direct)>, Box<Direct>),
    Function(Function),
}

/// A step of a path.
#[derive(Debug)]
pub(super) enum Index {
    Key(String),
    Computed(Direct),
}

/// A part of a text.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Computed(Direct),
}

/// A function without arguments.
#[derive(Clone, Copy, Debug)]
pub(super) enum Function {
    Length,
    Not,
    ToString,
}

/// It takes jq to say what comes out.
#[derive(Debug)]
pub(super) struct Unsure;

type Output<'v> = Result<Cow<'v, Value>, Unsure>;

/// Where an evaluation finds its data.
#[derive(Clone, Copy)]
struct Place<'v> {
    input: &'v Value,
    variables: &'v dyn Variables,
}

impl Direct {
    /// Reads a term in which variables of these names, written without `$`, may occur; `None` where it takes jq.
    pub(super) fn of(term: &Term<&str>, scope: &[&str]) -> Option<Self> {
        Self::compile(term, scope).filter(Self::is_harmless)
    }

    /// Evaluates, unless it takes jq.
    pub(super) fn evaluate(&self, input: &Value, variables: &dyn Variables) -> Result<Value, Unsure> {
        let output = self.run(Place { input, variables })?;
        settle(output.into_owned()).ok_or(Unsure)
    }

    /// Says whether the output is neither null nor false, unless it takes jq.
    pub(super) fn holds(&self, input: &Value, variables: &dyn Variables) -> Result<bool, Unsure> {
        self.run(Place { input, variables }).map(|output| holds(&output))
    }

    fn run<'v>(&'v self, place: Place<'v>) -> Output<'v> {
        match self {
            Self::Identity => Ok(Cow::Borrowed(place.input)),
            Self::Constant(value) => Ok(Cow::Borrowed(value)),
            Self::Variable(name) => Ok(place.variables.variable(name)),
            Self::Field(name, key) => match place.variables.field(name, key) {
                Some(value) => Ok(value),
                None => compute::field(place.variables.variable(name), key),
            },
            Self::Path(base, path) => {
                path.iter().try_fold(base.run(place)?, |target, index| index.run(target, place))
            }
            Self::Text(pieces) => text(pieces, place).map(Cow::Owned),
            Self::List(items) => {
                let items = items.iter().map(|item| item.run(place).map(Cow::into_owned));
                Ok(Cow::Owned(Value::Array(items.collect::<Result<_, _>>()?)))
            }
            Self::Object(entries) => object(entries, place).map(Cow::Owned),
            Self::Negate(value) => compute::negate(&*value.run(place)?).map(Cow::Owned),
            Self::Math(left, math, right) => compute::math(left.run(place)?, *math, right.run(place)?),
            Self::Compare(left, comparison, right) => {
                compute::compare(&*left.run(place)?, *comparison, &*right.run(place)?).map(truth)
            }
            Self::And(left, right) => Ok(truth(left.test(place)? && right.test(place)?)),
            Self::Or(left, right) => Ok(truth(left.test(place)? || right.test(place)?)),
            Self::Alternative(left, right) => match left.run(place)? {
                output if holds(&output) => Ok(output),
                _ => right.run(place),
            },
            Self::Pipe(left, right) => match left.run(place)? {
                Cow::Borrowed(input) => right.run(Place { input, ..place }),
                Cow::Owned(input) => {
                    let place = Place { input: &input, variables: place.variables };
                    right.run(place).map(|output| Cow::Owned(output.into_owned()))
                }
            },
            Self::If(cases, otherwise) => {
                for (condition, then) in cases {
                    if condition.test(place)? {
                        return then.run(place);
                    }
                }
                otherwise.run(place)
            }
            Self::Function(Function::Not) => Ok(truth(!holds(place.input))),
            Self::Function(Function::Length) => compute::length(place.input).map(Cow::Owned),
            Self::Function(Function::ToString) => match place.input {
                text @ Value::String(_) => Ok(Cow::Borrowed(text)),
                other => {
                    let mut text = String::new();
                    compute::write(&mut text, other)?;
                    Ok(Cow::Owned(Value::String(text)))
                }
            },
        }
    }

    fn test(&self, place: Place<'_>) -> Result<bool, Unsure> {
        self.run(place).map(|output| holds(&output))
    }
}

impl Index {
    fn run<'v>(&'v self, target: Cow<'v, Value>, place: Place<'v>) -> Output<'v> {
        match self {
            Self::Key(key) => compute::field(target, key),
            Self::Computed(index) => match &*index.run(place)? {
                Value::String(key) => compute::field(target, key),
                Value::Number(number) => compute::item(target, number.as_i64().ok_or(Unsure)?),
                _ => Err(Unsure),
            },
        }
    }
}

/// Says what counts as true: everything but `null` and `false`.
pub(super) fn holds(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

fn truth<'v>(value: bool) -> Cow<'v, Value> {
    Cow::Owned(Value::Bool(value))
}

fn text(pieces: &[Piece], place: Place<'_>) -> Result<Value, Unsure> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(plain) => text.push_str(plain),
            Piece::Computed(term) => compute::write(&mut text, &*term.run(place)?)?,
        }
    }
    Ok(Value::String(text))
}

fn object(entries: &[(Direct, Direct)], place: Place<'_>) -> Result<Value, Unsure> {
    let mut object = Map::with_capacity(entries.len());
    for (key, value) in entries {
        let Value::String(key) = key.run(place)?.into_owned() else { return Err(Unsure) };
        object.insert(key, value.run(place)?.into_owned());
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests;

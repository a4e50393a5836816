//! From the terms of jq's parser to what is evaluated directly, or nothing where it takes jq.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::path::{Part, Path};
use serde_json::{Number, Value};

use super::{Direct, Function, Index, Piece};

impl Direct {
    /// As [`Direct::of`], however much it multiplies its data.
    pub(super) fn compile(term: &Term<&str>, scope: &[&str]) -> Option<Self> {
        let boxed = |term: &Term<&str>| Self::compile(term, scope).map(Box::new);
        Some(match term {
            Term::Id => Self::Identity,
            Term::Num(digits) => Self::Constant(Value::Number(number(digits)?)),
            Term::Str(None, parts) => Self::text(parts, scope)?,
            Term::Arr(None) => Self::Constant(Value::Array(Vec::new())),
            Term::Arr(Some(items)) => Self::List(Self::items(items, scope)?),
            Term::Obj(entries) => {
                let entry = |(key, value)| Self::entry(key, value, scope);
                Self::Object(
                    entries.iter().map(|(key, value)| entry((key, value.as_ref()))).collect::<Option<_>>()?,
                )
            }
            Term::Neg(value) => Self::Negate(boxed(value)?),
            Term::BinOp(left, operator, right) => {
                let (left, right) = (boxed(left)?, boxed(right)?);
                match operator {
                    BinaryOp::Pipe(None) => Self::Pipe(left, right),
                    BinaryOp::Alt => Self::Alternative(left, right),
                    BinaryOp::Or => Self::Or(left, right),
                    BinaryOp::And => Self::And(left, right),
                    BinaryOp::Math(math) => Self::Math(left, *math, right),
                    BinaryOp::Cmp(comparison) => Self::Compare(left, *comparison, right),
                    _ => return None,
                }
            }
            Term::IfThenElse(cases, otherwise) => {
                let case = |(condition, then): &(Term<&str>, Term<&str>)| {
                    Some((Self::compile(condition, scope)?, Self::compile(then, scope)?))
                };
                let otherwise = otherwise.as_deref().map_or(Some(Box::new(Self::Identity)), boxed)?;
                Self::If(cases.iter().map(case).collect::<Option<_>>()?, otherwise)
            }
            // What fails is left to jq anyway, so here it has its output or none.
            Term::TryCatch(body, None) => Self::compile(body, scope)?,
            Term::Var(name) => Self::variable(name, scope)?,
            Term::Path(base, path) => Self::path(base, path, scope)?,
            Term::Call(name, arguments) if arguments.is_empty() => match *name {
                "null" => Self::Constant(Value::Null),
                "true" => Self::Constant(Value::Bool(true)),
                "false" => Self::Constant(Value::Bool(false)),
                "not" => Self::Function(Function::Not),
                "length" => Self::Function(Function::Length),
                "tostring" => Self::Function(Function::ToString),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn variable(name: &str, scope: &[&str]) -> Option<Self> {
        let name = name.strip_prefix('$')?;
        scope.contains(&name).then(|| Self::Variable(name.to_owned()))
    }

    fn path(base: &Term<&str>, path: &Path<Term<&str>>, scope: &[&str]) -> Option<Self> {
        let steps = path.0.iter().map(|(part, _)| match part {
            Part::Index(index) => Some(match Self::compile(index, scope)? {
                Self::Constant(Value::String(key)) => Index::Key(key),
                computed => Index::Computed(computed),
            }),
            Part::Range(..) => None,
        });
        let mut steps: Vec<Index> = steps.collect::<Option<_>>()?;
        let base = match (Self::compile(base, scope)?, steps.first_mut()) {
            (Self::Variable(name), Some(Index::Key(key))) => {
                let key = std::mem::take(key);
                steps.remove(0);
                Self::Field(name, key)
            }
            (base, _) => base,
        };
        Some(if steps.is_empty() { base } else { Self::Path(Box::new(base), steps) })
    }

    fn text(parts: &[StrPart<&str, Term<&str>>], scope: &[&str]) -> Option<Self> {
        let mut pieces: Vec<Piece> = Vec::new();
        for part in parts {
            match (part, pieces.last_mut()) {
                (StrPart::Str(plain), Some(Piece::Text(text))) => text.push_str(plain),
                (StrPart::Char(plain), Some(Piece::Text(text))) => text.push(*plain),
                (StrPart::Str(plain), _) => pieces.push(Piece::Text((*plain).to_owned())),
                (StrPart::Char(plain), _) => pieces.push(Piece::Text(plain.to_string())),
                (StrPart::Term(term), _) => pieces.push(Piece::Computed(Self::compile(term, scope)?)),
            }
        }
        Some(match pieces.as_mut_slice() {
            [] => Self::Constant(Value::String(String::new())),
            [Piece::Text(text)] => Self::Constant(Value::String(std::mem::take(text))),
            _ => Self::Text(pieces),
        })
    }

    fn items(term: &Term<&str>, scope: &[&str]) -> Option<Vec<Self>> {
        // Commas chain to the left.
        if let Term::BinOp(left, BinaryOp::Comma, right) = term {
            let mut items = Self::items(left, scope)?;
            items.extend(Self::items(right, scope)?);
            return Some(items);
        }
        Some(vec![Self::compile(term, scope)?])
    }

    fn entry(key: &Term<&str>, value: Option<&Term<&str>>, scope: &[&str]) -> Option<(Self, Self)> {
        match (key, value) {
            (Term::Var(name), None) => {
                let key = name.strip_prefix('$')?.to_owned();
                Some((Self::Constant(Value::String(key)), Self::variable(name, scope)?))
            }
            (key, None) => {
                let index = match Self::compile(key, scope)? {
                    Self::Constant(Value::String(key)) => Index::Key(key),
                    computed => Index::Computed(computed),
                };
                let value = Self::Path(Box::new(Self::Identity), vec![index]);
                Some((Self::compile(key, scope)?, value))
            }
            (key, Some(value)) => Some((Self::compile(key, scope)?, Self::compile(value, scope)?)),
        }
    }
}

/// Reads a number as jq does, unless it is too large for both of ours.
fn number(digits: &str) -> Option<Number> {
    if let Ok(whole) = digits.parse::<i64>() {
        return Some(whole.into());
    }
    let is_fraction = digits.contains(['.', 'e', 'E']);
    digits.parse().ok().filter(|_| is_fraction).and_then(Number::from_f64)
}

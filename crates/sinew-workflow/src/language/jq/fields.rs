//! Which fields of its input an expression looks at, so that jq is given no others.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::path::Part;
use jaq_json::{Map as Object, Val};
use serde_json::{Map, Value};

use super::value::to_jq;

/// Some fields of an object.
pub(super) struct Fields(Vec<String>);

impl Fields {
    /// Finds those a term looks at, unless it looks at all there is.
    pub(super) fn of(term: &Term<&str>) -> Option<Self> {
        let mut fields = Self(Vec::new());
        fields.note(term)?;
        Some(fields)
    }

    /// Converts these fields.
    pub(super) fn to_jq(&self, entries: &Map<String, Value>) -> Val {
        let found = self.0.iter().filter_map(|field| entries.get_key_value(field));
        Val::obj(found.map(|(field, value)| (Val::from(field.clone()), to_jq(value))).collect::<Object>())
    }

    /// Notes what a term that is given the input looks at; `None` when that may be anything.
    fn note(&mut self, term: &Term<&str>) -> Option<()> {
        match term {
            Term::Num(_) | Term::Var(_) | Term::Break(_) | Term::Arr(None) => Some(()),
            Term::Str(_, parts) => parts.iter().try_for_each(|part| match part {
                StrPart::Term(term) => self.note(term),
                StrPart::Str(_) | StrPart::Char(_) => Some(()),
            }),
            Term::Arr(Some(inner)) | Term::Neg(inner) | Term::Label(_, inner) => self.note(inner),
            Term::Obj(entries) => entries.iter().try_for_each(|(key, value)| match (key, value) {
                (Term::Var(_), None) => Some(()),
                (key, None) => self.field(key),
                (key, Some(value)) => self.note(key).and_then(|()| self.note(value)),
            }),
            Term::BinOp(left, operator, right) => self.operator(left, operator, right),
            // What is folded with is given what was folded before.
            Term::Fold(_, source, Pattern::Var(_), rest) => {
                self.note(source)?;
                self.note(rest.first()?)
            }
            // A handler is given the error.
            Term::TryCatch(body, _) => self.note(body),
            Term::IfThenElse(cases, otherwise) => {
                for (condition, then) in cases {
                    self.note(condition)?;
                    self.note(then)?;
                }
                self.note(otherwise.as_deref()?)
            }
            Term::Call("null" | "true" | "false" | "empty" | "now", arguments) if arguments.is_empty() => {
                Some(())
            }
            Term::Path(base, path) => {
                let mut parts = path.0.iter().map(|(part, _)| part);
                match (&**base, parts.next()?) {
                    (Term::Id, Part::Index(key)) => self.field(key)?,
                    (base, first) => {
                        self.note(base)?;
                        self.part(first)?;
                    }
                }
                parts.try_for_each(|part| self.part(part))
            }
            _ => None,
        }
    }

    fn operator(&mut self, left: &Term<&str>, operator: &BinaryOp<&str>, right: &Term<&str>) -> Option<()> {
        self.note(left)?;
        match operator {
            // What stands on the right is given what comes out on the left.
            BinaryOp::Pipe(None) => Some(()),
            BinaryOp::Pipe(Some(Pattern::Var(_)))
            | BinaryOp::Comma
            | BinaryOp::Alt
            | BinaryOp::Or
            | BinaryOp::And
            | BinaryOp::Math(_)
            | BinaryOp::Cmp(_) => self.note(right),
            _ => None,
        }
    }

    fn part(&mut self, part: &Part<Term<&str>>) -> Option<()> {
        match part {
            Part::Index(index) => self.note(index),
            Part::Range(from, to) => [from, to].into_iter().flatten().try_for_each(|term| self.note(term)),
        }
    }

    fn field(&mut self, key: &Term<&str>) -> Option<()> {
        let Term::Str(None, parts) = key else { return None };
        let mut field = String::new();
        for part in parts {
            match part {
                StrPart::Str(text) => field.push_str(text),
                StrPart::Char(letter) => field.push(*letter),
                StrPart::Term(_) => return None,
            }
        }
        if !self.0.contains(&field) {
            self.0.push(field);
        }
        Some(())
    }
}

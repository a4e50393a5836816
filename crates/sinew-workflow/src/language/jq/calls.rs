//! Which functions an expression calls by name: only those, and what they call in turn, are compiled with it.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::path::Part;

/// Hands in the name of every function a term calls, as often as it does.
pub(super) fn each<'s>(term: &Term<&'s str>, note: &mut dyn FnMut(&'s str)) {
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => {}
        Term::Str(format, parts) => {
            format.iter().for_each(|format| note(format));
            for part in parts {
                if let StrPart::Term(term) = part {
                    each(term, note);
                }
            }
        }
        Term::Arr(inner) => inner.iter().for_each(|inner| each(inner, note)),
        Term::Obj(entries) => entries.iter().for_each(|(key, value)| {
            each(key, note);
            value.iter().for_each(|value| each(value, note));
        }),
        Term::Neg(inner) | Term::Label(_, inner) => each(inner, note),
        Term::BinOp(left, operator, right) => {
            each(left, note);
            if let BinaryOp::Pipe(Some(pattern)) = operator {
                in_pattern(pattern, note);
            }
            each(right, note);
        }
        Term::Fold(_, source, pattern, rest) => {
            each(source, note);
            in_pattern(pattern, note);
            rest.iter().for_each(|term| each(term, note));
        }
        Term::TryCatch(body, handler) => {
            each(body, note);
            handler.iter().for_each(|handler| each(handler, note));
        }
        Term::IfThenElse(cases, otherwise) => {
            for (condition, then) in cases {
                each(condition, note);
                each(then, note);
            }
            otherwise.iter().for_each(|otherwise| each(otherwise, note));
        }
        Term::Def(definitions, rest) => {
            definitions.iter().for_each(|definition| each(&definition.body, note));
            each(rest, note);
        }
        Term::Call(name, arguments) => {
            note(name);
            arguments.iter().for_each(|argument| each(argument, note));
        }
        Term::Path(base, path) => {
            each(base, note);
            for (part, _) in &path.0 {
                match part {
                    Part::Index(index) => each(index, note),
                    Part::Range(from, to) => {
                        [from, to].into_iter().flatten().for_each(|term| each(term, note))
                    }
                }
            }
        }
    }
}

fn in_pattern<'s>(pattern: &Pattern<&'s str>, note: &mut dyn FnMut(&'s str)) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Arr(inner) => inner.iter().for_each(|pattern| in_pattern(pattern, note)),
        Pattern::Obj(entries) => entries.iter().for_each(|(key, pattern)| {
            each(key, note);
            in_pattern(pattern, note);
        }),
    }
}

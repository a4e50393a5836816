//! Bounds products: `text * number` repeats the text, so one number in the data could ask for more memory than there is.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::ops::Math;
use jaq_core::path::Part;
use jaq_core::{Error, ValR};
use jaq_json::{Num, Val};

/// What a product is called. No author can write this name.
pub(super) const TIMES: &str = "!times";
/// The longest text a product makes, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// Turns every product of a term into a call of [`TIMES`].
pub(super) fn bound(term: &mut Term<&str>) {
    each(term, &mut bound);
    let Term::BinOp(left, operator, right) = term else { return };
    let (left, right) = (&mut **left, &mut **right);
    *term = match operator {
        BinaryOp::Math(Math::Mul) => times(std::mem::take(left), std::mem::take(right)),
        // As jq has it: `l *= r` is `r as $x | l |= . * $x`.
        BinaryOp::UpdateMath(Math::Mul) => {
            let update = times(Term::Id, Term::Var("$!factor"));
            let update = Term::BinOp(std::mem::take(left).into(), BinaryOp::Update, update.into());
            let bind = BinaryOp::Pipe(Some(Pattern::Var("$!factor")));
            Term::BinOp(std::mem::take(right).into(), bind, update.into())
        }
        _ => return,
    };
}

/// Multiplies, unless that makes a text that is too long.
pub(super) fn multiply(left: Val, right: Val) -> ValR<Val> {
    let (text, number) = match (&left, &right) {
        (Val::TStr(text) | Val::BStr(text), Val::Num(number))
        | (Val::Num(number), Val::TStr(text) | Val::BStr(text)) => (text, number),
        _ => return left * right,
    };
    let fits = match number {
        Num::Int(times) => usize::try_from(*times)
            .map_or(true, |times| text.len().checked_mul(times).is_some_and(|bytes| bytes <= MAX_BYTES)),
        _ => !matches!(number, Num::BigInt(_)),
    };
    if fits {
        left * right
    } else {
        Err(Error::str(format_args!("a text is at most {MAX_BYTES} bytes long")))
    }
}

fn times<'s>(left: Term<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    Term::Call(TIMES, vec![left, right])
}

/// Changes the terms right inside a term.
fn each<'s>(term: &mut Term<&'s str>, change: &mut dyn FnMut(&mut Term<&'s str>)) {
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => {}
        Term::Str(_, parts) => {
            for part in parts {
                if let StrPart::Term(term) = part {
                    change(term);
                }
            }
        }
        Term::Arr(inner) => inner.iter_mut().for_each(|inner| change(inner)),
        Term::Obj(entries) => {
            for (key, value) in entries {
                change(key);
                value.iter_mut().for_each(&mut *change);
            }
        }
        Term::Neg(inner) | Term::Label(_, inner) => change(inner),
        Term::BinOp(left, operator, right) => {
            change(left);
            if let BinaryOp::Pipe(Some(pattern)) = operator {
                in_pattern(pattern, change);
            }
            change(right);
        }
        Term::Fold(_, source, pattern, rest) => {
            change(source);
            in_pattern(pattern, change);
            rest.iter_mut().for_each(change);
        }
        Term::TryCatch(body, handler) => {
            change(body);
            handler.iter_mut().for_each(|handler| change(handler));
        }
        Term::IfThenElse(cases, otherwise) => {
            for (condition, then) in cases {
                change(condition);
                change(then);
            }
            otherwise.iter_mut().for_each(|otherwise| change(otherwise));
        }
        Term::Def(definitions, rest) => {
            definitions.iter_mut().for_each(|definition| change(&mut definition.body));
            change(rest);
        }
        Term::Call(_, arguments) => arguments.iter_mut().for_each(change),
        Term::Path(base, path) => {
            change(base);
            for (part, _) in &mut path.0 {
                match part {
                    Part::Index(index) => change(index),
                    Part::Range(from, to) => [from, to].into_iter().flatten().for_each(&mut *change),
                }
            }
        }
    }
}

fn in_pattern<'s>(pattern: &mut Pattern<&'s str>, change: &mut dyn FnMut(&mut Term<&'s str>)) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Arr(inner) => inner.iter_mut().for_each(|pattern| in_pattern(pattern, change)),
        Pattern::Obj(entries) => {
            for (key, pattern) in entries {
                change(key);
                in_pattern(pattern, change);
            }
        }
    }
}

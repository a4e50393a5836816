//! Refuses expressions that define functions in terms of themselves: those could run forever, or exhaust the stack.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::path::{Part, Path};

type Names<'s> = Vec<(&'s str, usize)>;

/// Refuses a recursive definition anywhere in an expression.
pub(super) fn refuse(term: &Term<&str>) -> Result<(), String> {
    match find(term, &mut Vec::new()) {
        Some(name) => {
            Err(format!("`{name}` calls itself; use `recurse`, `until`, `reduce` or `limit` instead"))
        }
        None => Ok(()),
    }
}

/// Finds a call to a definition from within itself.
fn find<'s>(term: &Term<&'s str>, open: &mut Names<'s>) -> Option<&'s str> {
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => None,
        Term::Str(_, parts) => parts.iter().find_map(|part| match part {
            StrPart::Term(term) => find(term, open),
            _ => None,
        }),
        Term::Arr(inner) => inner.as_deref().and_then(|inner| find(inner, open)),
        Term::Obj(entries) => entries.iter().find_map(|(key, value)| {
            find(key, open).or_else(|| value.as_ref().and_then(|value| find(value, open)))
        }),
        Term::Neg(inner) | Term::Label(_, inner) => find(inner, open),
        Term::BinOp(left, operator, right) => {
            let bound = match operator {
                BinaryOp::Pipe(Some(pattern)) => in_pattern(pattern, open),
                _ => None,
            };
            find(left, open).or(bound).or_else(|| find(right, open))
        }
        Term::Fold(_, source, pattern, rest) => {
            find(source, open).or_else(|| in_pattern(pattern, open)).or_else(|| any(rest, open))
        }
        Term::TryCatch(body, handler) => {
            find(body, open).or_else(|| handler.as_deref().and_then(|term| find(term, open)))
        }
        Term::IfThenElse(cases, otherwise) => cases
            .iter()
            .find_map(|(condition, then)| find(condition, open).or_else(|| find(then, open)))
            .or_else(|| otherwise.as_deref().and_then(|term| find(term, open))),
        Term::Def(definitions, rest) => {
            definitions.iter().find_map(|def| in_definition(def, open)).or_else(|| find(rest, open))
        }
        Term::Call(name, arguments) if open.contains(&(name, arguments.len())) => Some(name),
        Term::Call(_, arguments) => any(arguments, open),
        Term::Path(base, path) => find(base, open).or_else(|| in_path(path, open)),
    }
}

fn any<'s>(terms: &[Term<&'s str>], open: &mut Names<'s>) -> Option<&'s str> {
    terms.iter().find_map(|term| find(term, open))
}

fn in_definition<'s>(def: &Def<&'s str>, open: &mut Names<'s>) -> Option<&'s str> {
    open.push((def.name, def.args.len()));
    let found = find(&def.body, open);
    open.pop();
    found
}

fn in_pattern<'s>(pattern: &Pattern<&'s str>, open: &mut Names<'s>) -> Option<&'s str> {
    match pattern {
        Pattern::Var(_) => None,
        Pattern::Arr(inner) => inner.iter().find_map(|pattern| in_pattern(pattern, open)),
        Pattern::Obj(entries) => {
            entries.iter().find_map(|(key, pattern)| find(key, open).or_else(|| in_pattern(pattern, open)))
        }
    }
}

fn in_path<'s>(path: &Path<Term<&'s str>>, open: &mut Names<'s>) -> Option<&'s str> {
    path.0.iter().find_map(|(part, _)| match part {
        Part::Index(term) => find(term, open),
        Part::Range(from, to) => [from, to].into_iter().flatten().find_map(|term| find(term, open)),
    })
}

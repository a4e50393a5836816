//! Which functions an expression calls by name: only those, and what they call in turn, are compiled with it.

use jaq_core::load::parse::Term;

use super::metered;

/// Hands in the name of every function a term calls, as often as it does.
pub(super) fn each<'s>(term: &Term<&'s str>, note: &mut dyn FnMut(&'s str)) {
    match term {
        Term::Call(name, _) | Term::Str(Some(name), _) => note(name),
        _ => {}
    }
    metered::each(term, &mut |inner| each(inner, note));
}

//! The native functions that count what an evaluation uses: identities, except when nothing is left.
//!
//! Authors cannot name them by accident; naming them on purpose only costs them their own budget.

use jaq_core::box_iter::box_once;
use jaq_core::native::{Fun, bome, v};
use jaq_core::val::{ValX, ValXs};
use jaq_core::{Error, Exn, Native};
use jaq_json::Val;

use super::budget::Budget;
use super::library::Engine;

/// How deep brackets of JSON text may nest.
const MAX_BRACKETS: usize = 120;

/// Makes an identity that checks something first: as a macro, because a native function holds nothing.
macro_rules! checked {
    ($check:expr) => {
        Native::<Engine>::new(|cv| {
            let check: fn(&Budget, &Val) -> Result<(), Error<Val>> = $check;
            bome(check(cv.0.data().budget, &cv.1).map(|()| cv.1))
        })
    };
}

pub(super) fn functions() -> impl Iterator<Item = Fun<Engine>> {
    [
        ("counted", v(0), counted()),
        ("turned", v(0), turned()),
        ("weighed", v(0), checked!(Budget::weigh)),
        ("glanced", v(0), checked!(Budget::glance)),
        ("searched", v(0), checked!(Budget::search)),
        ("cut", v(0), checked!(Budget::cut)),
        ("looped", v(0), checked!(|budget, _| budget.turn())),
        (
            "compared",
            v(1),
            Native::new(|mut cv| {
                let other = cv.0.pop_var();
                bome(cv.0.data().budget.compare(&cv.1, &other).map(|()| cv.1))
            }),
        ),
        ("flat", v(0), checked!(|_, value| flat(value))),
        ("short", v(0), checked!(|_, value| short(value))),
        (
            "times",
            v(2),
            Native::new(|mut cv| {
                let (right, left) = (cv.0.pop_var(), cv.0.pop_var());
                bome(cv.0.data().budget.product(&left, &right).and_then(|()| left * right))
            }),
        ),
    ]
    .into_iter()
}

/// The identity, as long as there are steps left. It also works in paths and updates, as loops do.
fn counted() -> Native<Engine> {
    Native::<Engine>::new(|cv| bome(cv.0.data().budget.step().map(|()| cv.1)))
        .with_paths(|cv| box_once(cv.0.data().budget.step().map(|()| cv.1).map_err(Exn::from)))
        .with_update(|cv, update| match cv.0.data().budget.step() {
            Ok(()) => update(cv.1),
            Err(error) => box_once(Err(Exn::from(error))),
        })
}

/// The identity on the state of a loop. An update through a loop is a call within the call at each turn.
fn turned() -> Native<Engine> {
    Native::<Engine>::new(|cv| bome(cv.0.data().budget.turn_on(&cv.1).map(|()| cv.1)))
        .with_paths(|cv| {
            let turned = cv.0.data().budget.turn_on(&cv.1.0);
            box_once(turned.map(|()| cv.1).map_err(Exn::from))
        })
        .with_update(|cv, update| {
            let budget = cv.0.data().budget;
            match budget.turn().and_then(|()| budget.deeper(|| update(cv.1))) {
                Ok(inner) => Box::new(Rung { budget, inner, spent: false }),
                Err(error) => box_once(Err(Exn::from(error))),
            }
        })
}

/// The results of one turn of an update, which are computed when they are asked for.
struct Rung<'a> {
    budget: &'a Budget,
    inner: ValXs<'a, Val>,
    spent: bool,
}

impl<'a> Iterator for Rung<'a> {
    type Item = ValX<'a, Val>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.spent {
            return None;
        }
        let Self { budget, inner, spent } = self;
        budget.deeper(|| inner.next()).unwrap_or_else(|error| {
            *spent = true;
            Some(Err(Exn::from(error)))
        })
    }
}

/// Refuses JSON text whose brackets nest deeper than its reader can follow.
fn flat(value: &Val) -> Result<(), Error<Val>> {
    let (Val::TStr(text) | Val::BStr(text)) = value else { return Ok(()) };
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in text.iter() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return Err(Error::str(format_args!("the text nests deeper than {MAX_BRACKETS} levels")));
        }
    }
    Ok(())
}

/// Refuses a path that is longer than values nest.
fn short(value: &Val) -> Result<(), Error<Val>> {
    match value {
        Val::Arr(path) if path.len() > MAX_BRACKETS => {
            Err(Error::str(format_args!("a path is longer than {MAX_BRACKETS} keys")))
        }
        _ => Ok(()),
    }
}

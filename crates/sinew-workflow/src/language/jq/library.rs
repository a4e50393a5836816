//! The functions of expressions: jaq's, without the outside world and with bounded loops.

use std::collections::HashSet;
use std::sync::LazyLock;

use jaq_core::load::parse::{Def, Term};
use jaq_core::native::{Fun, bome, v};
use jaq_core::{DataT, Lut, Native, data::HasLut};
use jaq_json::Val;

use super::budget::Budget;
use super::{calls, gauges, metered};
use crate::Timestamp;

/// What would let an expression see or change the world, or stop the process.
const STRIPPED: &[&str] = &[
    "halt",
    "halt_error",
    "env",
    "input",
    "inputs",
    "input_line_number",
    "stderr",
    "stderr_empty",
    "debug",
    "debug_empty",
    "localtime",
    "strflocaltime",
    "now",
];

/// `range/3` is native in jaq; ours counts what it yields.
const RANGE: &str = "def range($from; $to; $by): unbounded_range($from; $to; $by) | looped;";

/// The length of the smallest number does not fit into one of its size: jaq overflows.
const LENGTH: &str =
    "def length: if . == -9223372036854775808 then 9223372036854775808 else plain_length end;";

/// The other loops of the standard library, each step of which costs one of the budget.
const LOOPS: &str = "
    def repeat(f): def rec: f, (turned | rec); rec;
    def recurse(f): def rec: ., (f | turned | rec); rec;
    def while(cond; update): def rec: if cond then ., (update | turned | rec) else empty end; rec;
    def until(cond; update): def rec: if cond then . else update | turned | rec end; rec;
";

static DEFINITIONS: LazyLock<Vec<Def<&'static str>>> = LazyLock::new(|| {
    let own = |text| jaq_core::load::parse(text, |parser| parser.defs()).unwrap_or_default();
    let loops = own(LOOPS);
    // In place, because later definitions of the library use these loops.
    let bounded = |def: Def<&'static str>| {
        loops
            .iter()
            .find(|own| own.name == def.name && own.args.len() == def.args.len())
            .cloned()
            .unwrap_or_else(|| metered::definition(def))
    };
    let standard = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let kept = standard.filter(|def| !STRIPPED.contains(&def.name)).map(bounded);
    own(RANGE).into_iter().chain(own(LENGTH)).chain(kept).collect()
});

/// Returns all definitions, each after those it calls.
pub(super) fn definitions() -> impl Iterator<Item = &'static Def<&'static str>> {
    DEFINITIONS.iter()
}

/// The kind of data expressions run on.
pub(super) struct Engine;

/// What one evaluation carries along.
#[derive(Clone)]
pub(super) struct Bounds<'a> {
    pub(super) lut: &'a Lut<Engine>,
    pub(super) now: Timestamp,
    pub(super) budget: &'a Budget,
}

impl DataT for Engine {
    type V<'a> = Val;
    type Data<'a> = Bounds<'a>;
}

impl<'a> HasLut<'a, Engine> for Bounds<'a> {
    fn lut(&self) -> &'a Lut<Engine> {
        self.lut
    }
}

/// The names an expression may call: those it does, and what stands behind them. Compiling the whole library takes a
/// hundred times as long as the few functions an expression needs.
pub(super) struct Needed(HashSet<&'static str>);

impl Needed {
    /// Finds what a term needs.
    ///
    /// # Errors
    /// When it calls what the whole of it is called.
    pub(super) fn by(term: &Term<&str>, whole: &str) -> Result<Self, String> {
        let mut called = HashSet::new();
        calls::each(term, &mut |name| called.extend([name.to_owned()]));
        if called.contains(whole) {
            return Err(format!("there is no filter `{whole}`"));
        }
        let mut needed = Self(HashSet::new());
        // A definition calls earlier ones, or itself.
        for definition in DEFINITIONS.iter().rev() {
            if called.contains(definition.name) || needed.0.contains(definition.name) {
                needed.0.insert(definition.name);
                calls::each(&definition.body, &mut |name| needed.0.extend([name]));
            }
        }
        needed.0.extend(NATIVES.iter().filter(|name| called.contains(**name)));
        Ok(needed)
    }

    pub(super) fn definitions<'s>(&self) -> Vec<Def<&'s str>> {
        DEFINITIONS.iter().filter(|definition| self.0.contains(definition.name)).cloned().collect()
    }

    pub(super) fn functions(&self) -> impl Iterator<Item = Fun<Engine>> {
        functions().filter(|(name, ..)| self.0.contains(name))
    }
}

static NATIVES: LazyLock<Vec<&'static str>> = LazyLock::new(|| functions().map(|(name, ..)| name).collect());

fn functions() -> impl Iterator<Item = Fun<Engine>> {
    let standard = jaq_core::funs::<Engine>().chain(jaq_std::funs()).chain(jaq_json::funs());
    let kept = standard.filter(|(name, ..)| !STRIPPED.contains(name));
    let renamed = kept.map(|(name, arity, run)| {
        let inner = match name {
            "range" => "unbounded_range",
            "length" => "plain_length",
            _ => name,
        };
        (inner, arity, run)
    });
    let now = ("now", v(0), Native::<Engine>::new(|cv| bome(Ok(now(cv.0.data())))));
    renamed.chain([now]).chain(gauges::functions())
}

fn now(bounds: &Bounds<'_>) -> Val {
    #[allow(clippy::cast_precision_loss, reason = "milliseconds since the epoch are far below 2^53")]
    let millis = bounds.now.as_millis() as f64;
    Val::from(millis / 1_000.0)
}

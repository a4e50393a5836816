//! What one evaluation may use up: steps, work on large values, and depth.

use std::cell::Cell;

use jaq_core::Error;
use jaq_json::{Num, Val};
use jaq_std::ValT;

/// The steps one evaluation may take: a value that is iterated over takes one, a turn of a loop takes [`TURN`].
const MAX_STEPS: u32 = 200_000;
/// What a turn of a loop takes, which makes 100,000 of them.
const TURN: u32 = 2;
/// The terms one evaluation may run, roughly: a long expression gets fewer steps.
const MAX_TERMS: u32 = 10_000_000;
/// How many values and bytes of text may be looked at, copied or written, about 16 bytes of text counting as one.
const MAX_WORK: usize = 24 << 20;
/// The largest value, in values and bytes of text.
const MAX_VALUE: usize = 4 << 20;
/// The largest whole number, in bits.
const MAX_BITS: u64 = 1 << 14;
/// What compiling a regular expression costs, in work.
const PATTERN: usize = 20_000;
/// How deep a value may nest that a loop builds.
const MAX_DEPTH: usize = 150;
/// How many levels may be built between two looks at how deep a value is.
const MAX_UNSEEN: u32 = 400;
/// How deep an update may go through a loop: each turn is a call within the call.
const MAX_RUNGS: u32 = 48;

/// What is left for one evaluation.
pub(super) struct Budget {
    steps: Cell<u32>,
    work: Cell<usize>,
    /// Levels that may have been built since values were last looked at.
    unseen: Cell<u32>,
    /// Levels a step may build.
    levels: u32,
    /// How deep updates through loops stand now.
    rungs: Cell<u32>,
}

type Checked = Result<(), Error<Val>>;

impl Budget {
    /// Makes the budget of an expression with so many terms, of which so many may build a level of nesting.
    pub(super) fn new(terms: u32, builders: u32) -> Self {
        Self {
            steps: Cell::new(MAX_STEPS.min(MAX_TERMS / terms.max(1))),
            work: Cell::new(MAX_WORK),
            unseen: Cell::new(0),
            levels: builders.saturating_mul(2).saturating_add(1),
            rungs: Cell::new(0),
        }
    }

    /// Takes a step.
    pub(super) fn step(&self) -> Checked {
        self.take(1)
    }

    /// Takes a step of a loop.
    pub(super) fn turn(&self) -> Checked {
        self.take(TURN)
    }

    /// Takes a step of a loop whose state is this, and looks at how deep that is now and then.
    pub(super) fn turn_on(&self, state: &Val) -> Checked {
        self.turn()?;
        if self.unseen.get() < MAX_UNSEEN {
            return Ok(());
        }
        self.unseen.set(0);
        self.weigh(state)
    }

    /// Goes one call deeper into an update through a loop, while something runs.
    pub(super) fn deeper<T>(&self, run: impl FnOnce() -> T) -> Result<T, Error<Val>> {
        let rungs = self.rungs.get() + 1;
        if rungs > MAX_RUNGS {
            return Err(Error::str("it takes too many steps: an update through a loop goes too deep"));
        }
        self.rungs.set(rungs);
        let result = run();
        self.rungs.set(rungs - 1);
        Ok(result)
    }

    /// Does some work.
    pub(super) fn work(&self, amount: usize) -> Checked {
        let spent = || Error::str("it takes too many steps: the values are large");
        let left = self.work.get().checked_sub(amount);
        self.work.set(left.unwrap_or_default());
        left.map(drop).ok_or_else(spent)
    }

    /// Looks at all of a value, which is work, and refuses one that is too large or nests too deep.
    pub(super) fn weigh(&self, value: &Val) -> Checked {
        let mut left = MAX_VALUE;
        self.look(value, &mut left, MAX_DEPTH)
    }

    /// Searches text, which is more work than looking at it.
    pub(super) fn search(&self, value: &Val) -> Checked {
        let length = if let Val::TStr(text) | Val::BStr(text) = value { text.len() } else { 0 };
        self.work(4 * length + PATTERN)?;
        self.weigh(value)
    }

    /// Takes text apart, or puts it together, one character at a time.
    pub(super) fn cut(&self, value: &Val) -> Checked {
        self.work(if let Val::TStr(text) | Val::BStr(text) = value { text.len() } else { 0 })?;
        self.weigh(value)
    }

    /// Refuses a value that has grown too large, by a glance at it.
    pub(super) fn glance(&self, value: &Val) -> Checked {
        let (length, work) = match value {
            // Appending is cheap when nobody else holds the value, and a copy when somebody does.
            Val::TStr(text) | Val::BStr(text) => (text.len(), text.len() / 64),
            Val::Arr(items) => (items.len(), items.len() / 16),
            Val::Obj(entries) => (entries.len(), entries.len() / 16),
            _ => return Ok(()),
        };
        self.work(work + 1)?;
        if length > MAX_VALUE { Err(too_large()) } else { Ok(()) }
    }

    /// Refuses a product that would be too large, before it is computed.
    pub(super) fn product(&self, left: &Val, right: &Val) -> Checked {
        match (left, right) {
            (Val::TStr(text) | Val::BStr(text), times @ Val::Num(_))
            | (times @ Val::Num(_), Val::TStr(text) | Val::BStr(text)) => {
                let length = times.as_f64().unwrap_or_default() * text.len() as f64;
                if length > MAX_VALUE as f64 {
                    return Err(too_large());
                }
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "within the limit"
                )]
                self.work(length.max(0.0) as usize / 16)
            }
            (Val::Num(left), Val::Num(right)) if bits(left) + bits(right) > MAX_BITS => {
                Err(Error::str("a number gets too large"))
            }
            (Val::Obj(left), Val::Obj(right)) => self.work(left.len() / 4 + right.len()),
            _ => Ok(()),
        }
    }

    /// Does the work of comparing each part of one value with each part of another.
    pub(super) fn compare(&self, one: &Val, other: &Val) -> Checked {
        let weight = |value: &Val| {
            let mut left = MAX_VALUE;
            self.look(value, &mut left, MAX_DEPTH)?;
            Ok::<usize, Error<Val>>(MAX_VALUE - left)
        };
        let (one, other) = (weight(one)?, weight(other)?);
        self.work(one.saturating_mul(other) / 64)
    }

    fn take(&self, steps: u32) -> Checked {
        let left =
            self.steps.get().checked_sub(steps).ok_or_else(|| Error::str("it takes too many steps"))?;
        self.steps.set(left);
        self.unseen.set(self.unseen.get().saturating_add(self.levels));
        Ok(())
    }

    fn look(&self, value: &Val, left: &mut usize, depth: usize) -> Checked {
        let Some(deeper) = depth.checked_sub(1) else {
            return Err(Error::str(format_args!("a value nests deeper than {MAX_DEPTH} levels")));
        };
        self.work(1)?;
        *left = left.checked_sub(1).ok_or_else(too_large)?;
        match value {
            Val::TStr(text) | Val::BStr(text) => {
                *left = left.checked_sub(text.len()).ok_or_else(too_large)?;
                self.work(text.len() / 16)
            }
            Val::Arr(items) => items.iter().try_for_each(|item| self.look(item, left, deeper)),
            Val::Obj(entries) => entries.iter().try_for_each(|(key, value)| {
                self.look(key, left, deeper)?;
                self.look(value, left, deeper)
            }),
            _ => Ok(()),
        }
    }
}

fn too_large() -> Error<Val> {
    Error::str(format_args!("a value is larger than {MAX_VALUE} values and bytes"))
}

/// Returns how long a number is. A machine's own numbers are short.
fn bits(number: &Num) -> u64 {
    match number {
        Num::BigInt(number) => number.bits(),
        Num::Int(_) | Num::Float(_) => 64,
        Num::Dec(digits) => u64::try_from(digits.len()).unwrap_or(u64::MAX).saturating_mul(4),
    }
}

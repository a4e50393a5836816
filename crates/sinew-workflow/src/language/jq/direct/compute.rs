//! What operators do to values, as jq does it. Numbers are given to jq's own arithmetic.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write;

use jaq_core::ops::{Cmp, Math};
use jaq_json::{Num, Val};
use serde_json::{Number, Value};

use super::super::value::number_to_jq;
use super::{Output, Unsure};

/// Returns a field of an object; null has all of them.
pub(super) fn field<'v>(target: Cow<'v, Value>, key: &str) -> Output<'v> {
    match target {
        Cow::Borrowed(Value::Object(entries)) => {
            Ok(entries.get(key).map_or(Cow::Owned(Value::Null), Cow::Borrowed))
        }
        Cow::Owned(Value::Object(mut entries)) => {
            Ok(Cow::Owned(entries.swap_remove(key).unwrap_or(Value::Null)))
        }
        target if target.is_null() => Ok(target),
        _ => Err(Unsure),
    }
}

/// Returns an item of a list, counted from its end where negative; null has all of them.
pub(super) fn item(target: Cow<'_, Value>, index: i64) -> Output<'_> {
    let within = |length: usize| {
        let distance = usize::try_from(index.unsigned_abs()).ok()?;
        let at = if index < 0 { length.checked_sub(distance)? } else { distance };
        (at < length).then_some(at)
    };
    match target {
        Cow::Borrowed(Value::Array(items)) => {
            Ok(within(items.len()).map_or(Cow::Owned(Value::Null), |at| Cow::Borrowed(&items[at])))
        }
        Cow::Owned(Value::Array(mut items)) => {
            Ok(Cow::Owned(within(items.len()).map_or(Value::Null, |at| items.swap_remove(at))))
        }
        target if target.is_null() => Ok(target),
        _ => Err(Unsure),
    }
}

pub(super) fn negate(value: &Value) -> Result<Value, Unsure> {
    let Value::Number(number) = value else { return Err(Unsure) };
    from_jq(-number_to_jq(number))
}

pub(super) fn math<'v>(left: Cow<'v, Value>, math: Math, right: Cow<'v, Value>) -> Output<'v> {
    if let (Value::Number(left), Value::Number(right)) = (&*left, &*right) {
        let (left, right) = (Val::Num(number_to_jq(left)), Val::Num(number_to_jq(right)));
        let Ok(Val::Num(result)) = math.run(left, right) else { return Err(Unsure) };
        return from_jq(result).map(Cow::Owned);
    }
    if math == Math::Add { add(left, right) } else { Err(Unsure) }
}

pub(super) fn compare(left: &Value, comparison: Cmp, right: &Value) -> Result<bool, Unsure> {
    Ok(match comparison {
        Cmp::Eq => equal(left, right),
        Cmp::Ne => !equal(left, right),
        Cmp::Lt => order(left, right)?.is_lt(),
        Cmp::Le => order(left, right)?.is_le(),
        Cmp::Gt => order(left, right)?.is_gt(),
        Cmp::Ge => order(left, right)?.is_ge(),
    })
}

pub(super) fn length(value: &Value) -> Result<Value, Unsure> {
    Ok(Value::from(match value {
        Value::Null => 0,
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(entries) => entries.len(),
        Value::Bool(_) | Value::Number(_) => return Err(Unsure),
    }))
}

/// Writes a value into a text. How jq writes fractions and what contains values is its own affair.
pub(super) fn write(text: &mut String, value: &Value) -> Result<(), Unsure> {
    match value {
        Value::String(plain) => text.push_str(plain),
        Value::Null => text.push_str("null"),
        Value::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) if !number.is_f64() => write!(text, "{number}").map_err(|_| Unsure)?,
        Value::Number(_) | Value::Array(_) | Value::Object(_) => return Err(Unsure),
    }
    Ok(())
}

fn add<'v>(left: Cow<'v, Value>, right: Cow<'v, Value>) -> Output<'v> {
    if left.is_null() {
        return Ok(right);
    }
    if right.is_null() {
        return Ok(left);
    }
    let mut sum = left.into_owned();
    match (&mut sum, right.into_owned()) {
        (Value::String(left), Value::String(right)) => left.push_str(&right),
        (Value::Array(left), Value::Array(right)) => left.extend(right),
        (Value::Object(left), Value::Object(right)) => left.extend(right),
        _ => return Err(Unsure),
    }
    Ok(Cow::Owned(sum))
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => number_to_jq(left) == number_to_jq(right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let same = |(key, left)| right.get(key).is_some_and(|right| equal(left, right));
            left.len() == right.len() && left.iter().all(same)
        }
        (left, right) => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Result<Ordering, Unsure> {
    Ok(match (left, right) {
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => number_to_jq(left).cmp(&number_to_jq(right)),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        // Of two objects or two lists jq says which comes first.
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => return Err(Unsure),
        (left, right) => rank(left).cmp(&rank(right)),
    })
}

/// How jq orders values of different types.
fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// Takes a number as long as it is one of JSON's; whole and broken ones stay apart until the end, as in jq.
fn from_jq(number: Num) -> Result<Value, Unsure> {
    match number {
        Num::Int(whole) => Ok(Value::from(whole as i64)),
        Num::Float(float) => Number::from_f64(float).map(Value::Number).ok_or(Unsure),
        Num::BigInt(_) | Num::Dec(_) => Err(Unsure),
    }
}

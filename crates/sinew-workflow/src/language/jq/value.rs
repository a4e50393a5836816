//! Between the values of `serde_json` and those of jq.

use jaq_json::{Map, Num, Val};
use serde_json::{Number, Value};

/// How many values and bytes of text an expression may produce.
const MAX_OUTPUT: usize = 8 << 20;
/// How deep a value may nest. Deeper ones could not be read back from JSON either.
const MAX_DEPTH: usize = 120;
/// The largest float up to which every whole number is exact.
const EXACT: f64 = 9_007_199_254_740_992.0;

pub(super) fn to_jq(value: &Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(value) => Val::Bool(*value),
        Value::Number(number) => Val::Num(number_to_jq(number)),
        Value::String(text) => Val::from(text.clone()),
        Value::Array(items) => items.iter().map(to_jq).collect(),
        Value::Object(entries) => Val::obj(
            entries.iter().map(|(key, value)| (Val::from(key.clone()), to_jq(value))).collect::<Map>(),
        ),
    }
}

pub(super) fn from_jq(value: &Val) -> Result<Value, String> {
    let mut left = MAX_OUTPUT;
    convert(value, &mut left, MAX_DEPTH)
}

/// Gives a value the form it would have after jq: numbers as jq prints them. `None` where jq would refuse it as too large.
pub(super) fn settle(mut value: Value) -> Option<Value> {
    let mut left = MAX_OUTPUT;
    normalize(&mut value, &mut left, MAX_DEPTH).ok()?;
    Some(value)
}

fn normalize(value: &mut Value, left: &mut usize, depth: usize) -> Result<(), String> {
    spend(left, 1)?;
    let deeper = depth.checked_sub(1).ok_or_else(String::new)?;
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => {
            if let Some(float) = number.as_f64().filter(|_| number.is_f64()) {
                *value = from_float(float);
            }
            Ok(())
        }
        Value::String(text) => spend(left, text.len()),
        Value::Array(items) => items.iter_mut().try_for_each(|item| normalize(item, left, deeper)),
        Value::Object(entries) => entries.iter_mut().try_for_each(|(key, value)| {
            spend(left, key.len())?;
            normalize(value, left, deeper)
        }),
    }
}

fn convert(value: &Val, left: &mut usize, depth: usize) -> Result<Value, String> {
    spend(left, 1)?;
    let deeper =
        depth.checked_sub(1).ok_or_else(|| format!("its output nests deeper than {MAX_DEPTH} levels"))?;
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(value) => Value::Bool(*value),
        Val::Num(number) => number_from_jq(number),
        Val::TStr(bytes) | Val::BStr(bytes) => Value::String(text(bytes, left)?),
        Val::Arr(items) => {
            Value::Array(items.iter().map(|item| convert(item, left, deeper)).collect::<Result<_, _>>()?)
        }
        Val::Obj(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| Ok((key_text(key, left)?, convert(value, left, deeper)?)))
                .collect::<Result<_, String>>()?,
        ),
    })
}

fn key_text(key: &Val, left: &mut usize) -> Result<String, String> {
    match key {
        Val::TStr(bytes) | Val::BStr(bytes) => text(bytes, left),
        _ => Err("the keys of an object must be text".to_owned()),
    }
}

fn text(bytes: &[u8], left: &mut usize) -> Result<String, String> {
    spend(left, bytes.len())?;
    String::from_utf8(bytes.to_vec()).map_err(|_| "text must be UTF-8".to_owned())
}

fn spend(left: &mut usize, amount: usize) -> Result<(), String> {
    *left = left
        .checked_sub(amount)
        .ok_or_else(|| format!("its output is larger than {MAX_OUTPUT} values and bytes"))?;
    Ok(())
}

pub(super) fn number_to_jq(number: &Number) -> Num {
    if let Some(integer) = number.as_i64() {
        Num::from_integral(integer)
    } else if let Some(integer) = number.as_u64() {
        Num::from_integral(integer)
    } else {
        Num::Float(number.as_f64().unwrap_or(f64::NAN))
    }
}

/// Reads numbers as jq prints them: whole floats as integers, what is not a number as null.
fn number_from_jq(number: &Num) -> Value {
    match number {
        Num::Int(integer) => Value::from(*integer as i64),
        Num::Float(float) => from_float(*float),
        Num::BigInt(_) | Num::Dec(_) => {
            let text = number.to_string();
            text.parse::<u64>()
                .map(Value::from)
                .or_else(|_| text.parse().map(from_float))
                .unwrap_or(Value::Null)
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "whole and within the exact range")]
fn from_float(float: f64) -> Value {
    if float.fract() == 0.0 && float.abs() <= EXACT {
        return Value::from(float as i64);
    }
    let finite = if float.is_infinite() { f64::MAX.copysign(float) } else { float };
    Number::from_f64(finite).map_or(Value::Null, Value::Number)
}

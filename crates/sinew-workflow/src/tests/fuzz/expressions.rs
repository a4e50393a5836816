//! Damaged expressions: refused, or evaluated within their budget, twice alike, and directly as by jq.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Traits, class, fuzz, outline};
use crate::language::jq::{Expression, Nothing};

/// What is put in.
const TOKENS: &[&str] = &[
    ".",
    ".a",
    "..",
    ".[]",
    ".[0]",
    ".[1:]",
    ".[\"a\"]",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "\"",
    "\\(",
    "\\u0000",
    "?",
    "//",
    " | ",
    " , ",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " == ",
    " < ",
    " |= ",
    " += ",
    " //= ",
    " = ",
    " as $x | ",
    " as [$x, {a: $y}] | ",
    "$x",
    "$__loc__",
    "$ENV",
    " and ",
    " or ",
    " not ",
    "if . then ",
    " else ",
    " elif . then ",
    " end",
    "try ",
    " catch .",
    "error",
    "reduce .[] as $x (0; ",
    "foreach .[] as $x (0; ",
    "label $f | ",
    "break $f",
    "def f: ",
    "def f(g): ",
    "def f($x): ",
    "; ",
    "f",
    "f(f(.))",
    "recurse",
    "repeat(.)",
    "until(.; .)",
    "while(.; .)",
    "limit(3; .[])",
    "first(.[])",
    "range(1e9)",
    "range(3)",
    "map(.)",
    "select(.)",
    "path(..)",
    "paths",
    "getpath([0])",
    "setpath([0]; 1)",
    "del(.a)",
    "to_entries",
    "from_entries",
    "with_entries(.)",
    "walk(.)",
    "sort_by(.)",
    "group_by(.)",
    "tojson",
    "fromjson",
    "tostring",
    "tonumber",
    "explode",
    "implode",
    "ascii_downcase",
    "split(\",\")",
    "test(\"a+\")",
    "gsub(\"a\"; \"b\")",
    "@json",
    "@base64",
    "@csv \"\\(.)\"",
    "now",
    "todate",
    "length",
    "keys",
    "add",
    "any",
    "flatten",
    "99999999999999999999",
    "1e999",
    "-1",
    "1.5e-300",
    "null",
    "true",
    "nan",
    "infinite",
    "# comment\n",
    "é",
    "\0",
];

#[test]
fn damaged_expressions_are_refused_or_end() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/expressions.txt");
    let seeds = fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
    let inputs = [
        json!(null),
        json!({ "a": [1, 2.5, "x,y", { "b": null }], "n": 3, "s": "aab" }),
        json!([[1, [2]], "2020-01-01T00:00:00Z", -1, true, {}]),
    ];
    fuzz(seeds, TOKENS, |source| attempt(source, &inputs));
}

fn attempt(source: &str, inputs: &[Value]) -> Traits {
    let expression = match Expression::compile(source, ["x"]) {
        Ok(expression) => expression,
        Err(problem) => return vec![outline(&problem)],
    };
    let evaluate = |input: &Value| {
        expression.evaluate(input, &Nothing).map_err(|fault| fault.detail.unwrap_or_default())
    };
    let mut traits = vec![format!("{} bytes", class(source.len()))];
    for input in inputs {
        let output = evaluate(input);
        assert_eq!(output, evaluate(input), "it has one meaning: {source}");
        traits.push(match &output {
            Ok(value) => format!("{} {}", kind(value), class(value.to_string().len())),
            // The beginning quotes the expression.
            Err(problem) => outline(problem.rsplit_once(" failed: ").map_or(problem, |(_, what)| what)),
        });
        let holds = expression.holds(input, &Nothing).is_ok_and(|holds| holds);
        let truth = output.is_ok_and(|value| !matches!(value, Value::Null | Value::Bool(false)));
        // What is no number is null when it is read, and true while it is one.
        assert!(holds >= truth, "a condition and its value agree: {source}");
    }
    traits
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

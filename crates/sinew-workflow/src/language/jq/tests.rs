//! Expressions see their data, the logged time, and nothing else; and they end.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::{Expression, Variables};
use crate::Timestamp;

struct Fixed;

impl Variables for Fixed {
    fn variable(&self, name: &str) -> Cow<'_, Value> {
        Cow::Owned(json!(format!("the {name}")))
    }

    fn field(&self, _: &str, _: &str) -> Option<Cow<'_, Value>> {
        None
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_500)
    }
}

fn evaluate(source: &str, input: Value) -> Result<Value, String> {
    let expression = Expression::compile(source, ["context", "input"])?;
    expression.evaluate(&input, &Fixed).map_err(|fault| fault.detail.unwrap_or_default())
}

#[test]
fn data_passes_through_unchanged() {
    let data = json!({ "b": [1, -2.5, 18_446_744_073_709_551_615_u64, "ü", null, true], "a": { "": {} } });
    assert_eq!(evaluate(".", data.clone()).unwrap().to_string(), data.to_string());
}

#[test]
fn numbers_are_written_as_jq_writes_them() {
    assert_eq!(evaluate("[10 / 2, 1 / 3 > 0.3, 3.0]", json!(null)), Ok(json!([5, true, 3])));
    assert_eq!(evaluate("[nan, infinite > 1e300]", json!(null)), Ok(json!([null, true])));
}

#[test]
fn the_smallest_number_has_a_length() {
    assert_eq!(
        evaluate("[.[] | length]", json!([i64::MIN, -3])),
        Ok(json!([9_223_372_036_854_775_808_u64, 3]))
    );
}

#[test]
fn time_is_the_logged_one() {
    assert_eq!(evaluate("now | todate", json!(null)), Ok(json!("1970-01-01T00:00:01.5Z")));
}

#[test]
fn variables_are_bound_by_name() {
    assert_eq!(evaluate("[$context, $input]", json!(null)), Ok(json!(["the context", "the input"])));
    assert!(evaluate("$contexts", json!(null)).is_err());
}

#[test]
fn the_first_output_counts() {
    assert_eq!(evaluate("1, 2", json!(null)), Ok(json!(1)));
    assert!(evaluate("empty", json!(null)).unwrap_err().contains("no output"));
}

#[test]
fn nothing_outside_is_in_reach() {
    for source in [
        "env",
        "halt",
        "halt_error",
        "input",
        "inputs",
        "debug",
        "stderr",
        "localtime",
        "$ENV",
        "import \"a\" as a; 1",
    ] {
        assert!(Expression::compile(source, []).is_err(), "{source}");
    }
}

#[test]
fn loops_end() {
    for source in
        ["[range(1e9)]", "[repeat(1)]", "until(false; . + 1)", "last(recurse(. + 1))", "[while(true; . + 1)]"]
    {
        assert!(evaluate(source, json!(0)).unwrap_err().contains("too many steps"), "{source}");
    }
    for source in ["def f: f; f", "def f(g): def h: g | f(h); h; f(.)", "[.[] | def f: 1 + f; f]"] {
        assert!(Expression::compile(source, []).unwrap_err().contains("calls itself"), "{source}");
    }
    assert_eq!(
        evaluate(
            "[limit(3; repeat(1))] + [range(0; 4; 2)] + [recurse(if . < 2 then . + 1 else empty end)]",
            json!(0)
        ),
        Ok(json!([1, 1, 1, 0, 2, 0, 1, 2]))
    );
}

#[test]
fn loops_still_work_in_paths_and_updates() {
    assert_eq!(evaluate("[paths] | length", json!({ "a": [1] })), Ok(json!(2)));
    assert_eq!(evaluate("(recurse(.[]?) | select(. == 1)) |= 5", json!([1, [1, 2]])), Ok(json!([5, [5, 2]])));
    assert_eq!(evaluate("[path(.. | select(. == 2))]", json!([1, [1, 2]])), Ok(json!([[1, 1]])));
}

#[test]
fn long_expressions_do_not_exhaust_the_stack() {
    let links = [
        ".|",
        ".+",
        ".,",
        ".//",
        ".<",
        ". as $x|",
        "def f: 1;",
        ". and ",
        "-",
        "try ",
        "(",
        "[",
        "{a:",
        "\"\\(",
        "if . then ",
        "reduce . as $x (0;",
        "label $x|",
        ".a",
        "..|",
    ];
    for link in links {
        // The most that is let through, and the most that is looked at: both must come back.
        for length in [30, 60, 99, 100, 16_000 / link.len()] {
            let _ = evaluate(&format!("{}.", link.repeat(length)), json!(1));
        }
    }
    let fields: Vec<String> = (0..300).map(|field| format!("f{field}: (.a + {field} | tostring)")).collect();
    assert!(evaluate(&format!("{{ {} }}", fields.join(", ")), json!({ "a": 1 })).is_ok());
}

#[test]
fn products_are_those_of_jq_within_bounds() {
    assert_eq!(evaluate("[(1, 2) * (10, 20)]", json!(null)), Ok(json!([10, 20, 20, 40])));
    assert_eq!(evaluate("[.[] * 3]", json!(["ab", 2, 0.5])), Ok(json!(["ababab", 6, 1.5])));
    assert_eq!(
        evaluate("{ a: { b: 1 } } * { a: { c: 2 } }", json!(null)),
        Ok(json!({ "a": { "b": 1, "c": 2 } }))
    );
    assert_eq!(evaluate(".[] *= 2", json!([1, "x"])), Ok(json!([2, "xx"])));
    assert_eq!(evaluate("[\"x\" * 0, \"x\" * -1]", json!(null)), Ok(json!([null, null])));
    for (source, times) in [
        (".t * .n", i64::MAX),
        (".n * .t", 1 << 40),
        (".t *= .n", 1 << 30),
        ("[.t] | map(. * 1e2) | .[0] * 1000000000000", 1),
    ] {
        let input = json!({ "t": "text", "n": times });
        assert!(evaluate(source, input).is_err(), "{source}");
    }
    assert!(evaluate("\"x\" * 18446744073709551615", json!(null)).unwrap_err().contains("larger than"));
    assert!(evaluate("main__", json!(null)).unwrap_err().contains("no filter"));
}

#[test]
fn what_an_expression_does_not_look_at_makes_no_difference() {
    let input = json!({ "a": { "b": [3, 1, 2] }, "b": "text", "c d": 5, "other": [1, { "x": 2 }] });
    let looked_at = |source: &str| Expression::compile(source, []).unwrap().0.fields.is_some();
    for source in [
        ".a.b | map(. + 1)",
        "[.a.b[] | select(. > 1)] | add",
        "{ b, \"c d\", sum: (.a.b | add) }",
        ".a as $a | $a.b | sort | first",
        "reduce .a.b[] as $n (.\"c d\"; . + $n)",
        "[foreach .a.b[] as $n (0; . + $n)]",
        "try (.b | tonumber) catch \"no\"",
        "if .b == \"text\" then .a.b | length else empty end",
        "\"\\(.b | ascii_upcase) of \\(.a.b | tojson)\"",
        ".a.b[.missing // 1:] | tojson",
        "label $out | .a.b[] | if . == 1 then ., break $out else . end",
        "[.a.b[0], (.[\"c d\"] | tostring), -.a.b[1]] | join(\"-\")",
        ".missing.deeper?, 1 | tojson",
    ] {
        assert!(looked_at(source), "{source}");
        assert_eq!(
            evaluate(source, input.clone()),
            evaluate(&format!("(. | .) as $all | $all | ({source})"), input.clone()),
            "{source}"
        );
    }
    for source in [
        ".",
        "..",
        ".[]",
        "keys",
        "length",
        "tojson",
        ".a |= 1",
        "if .a then 1 end",
        "def f: .; f",
        ".[.b]",
        "{ (.b): . }",
        "[.a, .]",
        "to_entries | map(.key)",
        "(.a, .) | tojson",
        "{ a: 1 } + . | keys",
        ". as { b: $x } | $x",
        "del(.a)",
        "map_values(1)",
        "(. | .) as $all | $all",
    ] {
        assert!(!looked_at(source), "{source}");
    }
}

#[test]
fn results_are_bounded() {
    assert!(evaluate("reduce range(500) as $i (0; [.])", json!(null)).unwrap_err().contains("nests deeper"));
    assert!(evaluate("[range(100)] | map(\"x\" * 100000)", json!(null)).unwrap_err().contains("larger than"));
}

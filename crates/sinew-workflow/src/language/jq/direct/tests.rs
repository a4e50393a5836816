//! What is evaluated directly comes out as jq would have it, and the everyday part of the language is.

use std::borrow::Cow;

use jaq_json::Val;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Expression, Variables, value};
use crate::Timestamp;

/// Variables with the values of a test case.
struct Given {
    context: Value,
    input: Value,
}

impl Variables for Given {
    fn variable(&self, name: &str) -> Cow<'_, Value> {
        Cow::Borrowed(if name == "context" { &self.context } else { &self.input })
    }

    fn field(&self, _: &str, _: &str) -> Option<Cow<'_, Value>> {
        None
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_out_directly_comes_out_of_jq(
        source in expression(),
        input in data(),
        context in data(),
        given in data(),
    ) {
        let expression = Expression::compile(&source, ["context", "input"]).map_err(TestCaseError::fail)?;
        // What multiplies its data is left to jq.
        let direct = expression.0.direct.as_ref();
        let variables = Given { context, input: given };
        let by_jq = expression.run(&input, &variables, |output| value::from_jq(&output));
        let holds = expression.run(&input, &variables, |output| Ok(!matches!(output, Val::Null | Val::Bool(false))));
        if let Some(Ok(output)) = direct.map(|direct| direct.evaluate(&input, &variables)) {
            // As text, which tells 1 and 1.0 apart, and the order of fields.
            let by_jq = by_jq.map(|output| output.to_string());
            prop_assert_eq!(by_jq, Ok(output.to_string()), "`{}` of {}", source, input);
        }
        if let Some(Ok(output)) = direct.map(|direct| direct.holds(&input, &variables)) {
            prop_assert_eq!(holds, Ok(output), "`{}` of {}", source, input);
        }
    }
}

#[test]
fn everyday_expressions_do_not_take_jq() {
    let input = json!({ "a": { "b": [1, 2.5, "x"], "c": null }, "n": 3, "s": "text", "u": u64::MAX });
    let given = Given { context: json!({ "a": 1 }), input: json!([1]) };
    for source in [
        ".",
        ".a.b[1]",
        ".a.b[-1]",
        ".[\"a\"].missing.deeper",
        "$context.a + $input[0]",
        "{ a: .n, s, \"x y\": .a.b, (.s): $context, $input }",
        "[.n, .s, [.a.c]]",
        ".n * 2 - 1 / 4 % 3",
        ".n > 2 and .s != \"other\" or (.missing | not)",
        ".a.c // \"default\"",
        "\"n is \\(.n), s is \\(.s)\\n\"",
        "if .n == 3 then .s elif .n > 3 then 1 else null end",
        ".a | .b | length",
        ".s + \" and more\"",
        ".u",
        "-.n",
        ".a.b?",
        "{} + .a + { d: 1 }",
        "[] + .a.b",
        "true",
        ".a == { c: null, b: [1, 2.5, \"x\"] }",
    ] {
        let expression = Expression::compile(source, ["context", "input"]).unwrap();
        let output = expression.0.direct.as_ref().map(|direct| direct.evaluate(&input, &given));
        assert!(matches!(output, Some(Ok(_))), "`{source}`: {output:?}");
        assert!(expression.0.compiled.get().is_none(), "`{source}` is compiled for nothing");
    }
}

#[test]
fn what_multiplies_its_data_takes_jq() {
    for (source, direct) in [
        ("[., .] | [., .] | [., .]", true),
        ("[., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .]", false),
        ("{ a: . } | { a, b: ., c: . } | \"\\(.a)\"", true),
        ("(. + .) | (. + .) | (. + .) | (. + .) | (. + .) | (. + .) | (. + .)", false),
    ] {
        let expression = Expression::compile(source, []).unwrap();
        assert_eq!(expression.0.direct.is_some(), direct, "`{source}`");
    }
}

#[test]
fn what_fails_is_told_by_jq() {
    let given = Given { context: json!(null), input: json!(null) };
    for source in
        [".a.b", ".s - 1", ".n + .s", ".n % 0", ".s[0]", "-.s", "{ (.n): 1 }", ".a.b // 1", "true | length"]
    {
        let input = json!({ "a": "text", "n": 1, "s": "text" });
        let expression = Expression::compile(source, []).unwrap();
        let direct = expression.0.direct.as_ref().unwrap().evaluate(&input, &given);
        assert!(direct.is_err(), "`{source}`: {direct:?}");
        let by_jq = expression.run(&input, &given, |output| value::from_jq(&output));
        assert_eq!(expression.evaluate(&input, &given), by_jq);
    }
}

#[test]
fn output_keeps_the_limits_of_jq() {
    let given = Given { context: json!(null), input: json!(null) };
    let evaluate = |source: &str, input: &Value| {
        Expression::compile(source, [])
            .unwrap()
            .evaluate(input, &given)
            .map_err(|fault| fault.detail.unwrap())
    };
    let deep = (0..119).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(evaluate(".", &deep), Ok(deep.clone()));
    assert!(evaluate("[.]", &deep).unwrap_err().contains("nests deeper"));
    let long = json!("x".repeat(5 << 20));
    assert_eq!(evaluate(".", &long), Ok(long.clone()));
    assert!(evaluate(". + .", &long).unwrap_err().contains("larger than"));
}

/// Writes an expression of the part that is evaluated directly.
fn expression() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        Just("."),
        Just(".a"),
        Just(".b.c"),
        Just(".[\"a\"]"),
        Just(".\"b\""),
        Just(".[0]"),
        Just(".[-1]"),
        Just(".c?"),
        Just("$context"),
        Just("$context.a"),
        Just("$input.b[1]"),
        Just("null"),
        Just("true"),
        Just("false"),
        Just("0"),
        Just("1"),
        Just("2.0"),
        Just("0.5"),
        Just("1e3"),
        Just("9223372036854775807"),
        Just("\"\""),
        Just("\"a\""),
        Just("\"ü\\n\\u00e9\""),
        Just("[]"),
        Just("{}"),
        Just("length"),
        Just("not"),
        Just("tostring"),
    ];
    atom.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        let operator = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("%"),
            Just("=="),
            Just("!="),
            Just("<"),
            Just("<="),
            Just(">"),
            Just(">="),
            Just("and"),
            Just("or"),
            Just("//"),
            Just("|"),
        ];
        prop_oneof![
            (inner.clone(), operator.clone(), inner.clone())
                .prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            // Within these brackets the parser says what belongs together.
            (operator.clone(), operator, inner.clone())
                .prop_map(|(op, other, a)| format!("(.a {op} .b {other} ({a}))")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.clone().prop_map(|a| format!("({a})?")),
            inner.clone().prop_map(|a| format!("\"is \\({a})!\"")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[({a}), ({b})]")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("{{ a: ({a}), \"x\": ({b}), b, $input }}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{ ({a}): ({b}), a: 1 }}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("if {a} then {b} end")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("if {a} then {b} elif {b} then 1 else {c} end")),
        ]
    })
}

/// Makes data in which paths lead somewhere and numbers are awkward.
fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-3_i64..4).prop_map(Value::from),
        prop_oneof![
            Just(json!(i64::MAX)),
            Just(json!(i64::MIN)),
            Just(json!(u64::MAX)),
            Just(json!(9_007_199_254_740_993_i64)),
            Just(json!(-0.0)),
            Just(json!(3.0)),
            Just(json!(0.1)),
            Just(json!(1e300)),
            Just(json!(9_223_372_036_854_775_808.0)),
        ],
        prop_oneof![Just(json!("")), Just(json!("a")), Just(json!("ü b"))],
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            proptest::collection::vec(("[abcx]", inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

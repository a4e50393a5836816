//! Expressions that would never end, or take all memory or stack: they fail, in bounded time, and change nothing else.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars};
use jaq_json::Val;
use serde_json::{Value, json};

use super::{Expression, Nothing, to_jq, value};

/// How long the worst may take, in an unoptimized build on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Evaluates on a stack as small as those of worker threads.
fn evaluate(source: &str, input: &Value) -> Result<Value, String> {
    let about: String = source.chars().take(80).collect();
    let (source, input) = (source.to_owned(), input.clone());
    let run = move || {
        let expression = Expression::compile(&source, [])?;
        expression.evaluate(&input, &Nothing).map_err(|fault| fault.detail.unwrap_or_default())
    };
    let (answer, answered) = mpsc::channel();
    let worker = thread::Builder::new().stack_size(2 << 20);
    // One that does not come back is left behind: the test has failed by then.
    worker.spawn(move || drop(answer.send(run()))).unwrap();
    answered.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{about}: {error}"))
}

#[track_caller]
fn fails(source: &str, input: &Value, because: &[&str]) {
    let problem = evaluate(source, input).expect_err(source);
    assert!(because.iter().any(|because| problem.contains(because)), "{source}: {problem}");
}

#[test]
fn products_of_iterations_end() {
    let data = json!((0..2_000).collect::<Vec<_>>());
    for source in [
        "[.[] as $a | .[] as $b | .[] as $c | 1]",
        "[.[] | (1, 2, 3) | (1, 2, 3) | (1, 2, 3) | (1, 2, 3) | (1, 2, 3) | (1, 2, 3) | (1, 2, 3)] | length",
        "[{ a: .[], b: .[], c: .[] }]",
        "[.. as $a | .. as $b | .. as $c | $a]",
        "[range(1e5) as $x | range(1e5)]",
        "def a: ., .; def b: a | a; def c: b | b; def d: c | c; def e: d | d; def f: e | e; [f]",
        "def a: 1 + 1; def b: a + a; def c: b + b; def d: c + c; def e: d + d; def f: e + e; def g: f + f + f + f; \
         def h: g + g + g + g; def i: h + h + h + h; def j: i + i + i + i; def k: j + j + j + j; k + k + k + k",
        "def f(g): g, g; [f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(1))))))))))))))))))))]",
        "[combinations(20)]",
        "[limit(1e9; repeat(1, 2))]",
        "last(paths(..)) as $p | [range(1e6)]",
    ] {
        fails(source, &data, &["too many steps", "cannot", "larger than"]);
    }
}

#[test]
fn values_do_not_grow_without_end() {
    for source in [
        "\"x\" * 1e9",
        "1e9 * \"x\"",
        "\"x\" * 1000000 * 1000000",
        "reduce range(100) as $i (\"x\"; . + .)",
        "reduce range(100) as $i (\"x\"; . * 2)",
        "reduce range(100) as $i (\"x\"; . += .)",
        "reduce range(100) as $i (\"x\"; \"\\(.)\\(.)\")",
        "reduce range(100) as $i (\"x\"; [., .] | join(\"-\"))",
        "reduce range(100) as $i ([1]; . + .)",
        "reduce range(100) as $i ([1]; [.[], .[]])",
        "reduce range(100) as $i (\"x\\\"\"; tojson)",
        "reduce range(100) as $i (2; . * .)",
        "reduce range(100) as $i ({}; { a: ., b: . })",
        "reduce range(60) as $i (0; [., .]) | tojson",
        "[range(60)] | reduce .[] as $i (0; [., .]) | try error catch length",
        "[., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] \
         | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] | [., .] \
         | [., .] | [., .] | . == 1",
        "{ a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } \
         | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } \
         | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } \
         | { a: ., b: . } | { a: ., b: . } | { a: ., b: . } | try .[0] catch length",
    ] {
        fails(source, &json!(null), &["larger than", "too large", "too many steps"]);
    }
}

#[test]
fn large_data_is_not_worked_on_for_ever() {
    let data = json!({ "text": "ab,".repeat(300_000), "list": (0..60_000).collect::<Vec<_>>() });
    for source in [
        "[range(1e5) as $i | .text | length] | length",
        "[range(1e5) as $i | .list == (.list | map(.))] | length",
        "[range(1e5) as $i | .list | sort] | length",
        ".list | contains(.)",
        ".list as $l | [range(60000)] | indices($l)",
        "[range(1e5) as $i | .text + \"x\" | length] | length",
    ] {
        fails(source, &data, &["too many steps"]);
    }
}

#[test]
fn what_gives_itself_back_ends_however_long_its_turns_are() {
    // The third has a definition of the library for each turn.
    for source in [
        "[recurse(.)]",
        "[recurse(if . == {} then .a else . end)]",
        "[recurse(if type == \"numberrange(3)\" then .a else . end)]",
    ] {
        fails(source, &json!({}), &["too many steps"]);
    }
}

#[test]
fn the_stack_is_not_exhausted() {
    let deep = "[".repeat(100_000);
    let nested = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for (source, input) in [
        ("reduce range(1e5) as $i (0; [.]) | 1", json!(null)),
        ("reduce range(1e5) as $i (0; { a: [[[[[[[[[[[[[[[[[[[[.]]]]]]]]]]]]]]]]]]]] }) | 1", json!(null)),
        ("[foreach range(1e5) as $i (0; [.]; 1)] | length", json!(null)),
        ("last(recurse([.])) | 1", json!(0)),
        ("until(false; [.])", json!(0)),
        ("[while(true; [.])]", json!(0)),
        ("reduce range(1e5) as $i ([1]; to_entries) | 1", json!(null)),
        ("def wrap: [.]; reduce range(1e5) as $i (0; wrap | wrap | wrap) | 1", json!(null)),
        ("setpath([range(1e5) | 0]; 1) | 1", json!(null)),
        ("getpath([range(1e5) | \"a\"]) | 1", json!(null)),
        ("delpaths([[range(1e5) | \"a\"]]) | 1", json!(null)),
        ("(reduce range(1e5) as $i (.; .a)) |= 1", json!(null)),
        ("(repeat(.a)) |= 1", json!(null)),
        ("path(last(limit(90000; repeat(.a)))) | length | . as $n | [range(1e9)]", json!(null)),
        ("pick(limit(100; repeat(.a)) | .a) | 1 | [range(1e9)]", json!(null)),
        ("fromjson", json!(deep)),
        ("fromjson", json!(nested)),
    ] {
        fails(source, &input, &["deep", "too many steps", "longer than", "cannot use null"]);
    }
    // As deep as can be, and walked.
    assert!(evaluate("reduce range(140) as $i (0; [.]) | walk(.) | 1", &json!(null)).is_ok());
    assert!(
        evaluate("reduce range(40) as $i (0; [.]) | (recurse(.[]?) | numbers) |= 1 | 1", &json!(null))
            .is_ok()
    );
}

#[test]
fn a_message_about_a_large_value_is_short() {
    let problem = evaluate(".[0].a.b", &json!(["x".repeat(1_000_000)])).unwrap_err();
    assert!(problem.len() < 3_000, "{}", problem.len());
}

#[test]
fn a_long_expression_gets_fewer_steps() {
    let body = "(. + 1 | . - 1) | ".repeat(40);
    fails(&format!("[range(100000) | {body} .] | length"), &json!(null), &["too many steps"]);
}

#[test]
fn ordinary_work_on_much_data_is_possible() {
    let items: Vec<_> =
        (0..5_000).map(|id| json!({ "id": format!("i{id}"), "price": id, "tags": ["a", "b"] })).collect();
    let data = json!({ "items": items });
    for (source, expected) in [
        ("[.items[] | select(.price > 100) | .price * 2] | add", 24_984_900_u64),
        ("reduce .items[] as $item ({}; . + { ($item.id): $item }) | length", 5_000),
        ("reduce .items[] as $item ({}; .[$item.id] = $item) | length", 5_000),
        (
            ".items | map({ key: .id, value: . }) | from_entries | with_entries(.value |= .price) | length",
            5_000,
        ),
        (".items | group_by(.price % 10) | map(length) | add", 5_000),
        ("reduce .items[] as $item (0; . + $item.price)", 12_497_500),
        ("[.items[].tags[]] | unique | length", 2),
        ("[.. | numbers] | length", 5_000),
        ("[.items[] | tojson] | join(\",\") | split(\"},{\") | length", 5_000),
        (".items | sort_by(-.price) | .[0].price", 4_999),
        ("reduce range(10000) as $i ([]; . + [$i]) | length", 10_000),
    ] {
        assert_eq!(evaluate(source, &data), Ok(json!(expected)), "{source}");
    }
}

#[test]
fn what_is_rewritten_means_the_same() {
    let data =
        json!({ "a": [1, 2, 3], "b": { "c": "x,y", "d": [[1], [2, [3]]] }, "k": "a", "n": 2, "s": "ab" });
    for source in [
        ".a[]",
        "[.a[]]",
        ".b.d[][0]",
        "[.b.d[][0]]",
        "[.b.d[][.n - 2]]",
        "[.[][]?]",
        "[.a[.n - 1:][]]",
        ".[.k][]",
        "[.[.k][]]",
        ".b.d[1][1][]",
        "[.a[] | . * 2]",
        "[.a[] * .n]",
        "[(1, 2) * (10, 20)]",
        "[(1, 2) + (10, 20)]",
        "[(1, 2) - (10, 20)]",
        "[(1, 2) < (1, 2)]",
        ".a | map(. + 1)",
        ".a | add",
        ".b | keys",
        ".b | to_entries",
        "with_entries(.value |= tojson)",
        "[.a[], .n, (.s, .k)]",
        "[1, 2, [3, (4, 5)]]",
        "{ a, x: .n, (.k): 1, \"q\\(.n)\": 2, $__loc__ }",
        "{ a: .a[], n: (1, 2) }",
        "[{ a: .a[], n: (1, 2) }]",
        "\"\\(.a)-\\(.n)-\\(.s)\"",
        "@json \"v=\\(.a) \\(.s)\"",
        "@base64 \"\\(.s)\\(.k)\"",
        ".a[] |= . + 1",
        ".a[1] += 10",
        ".a |= map(. * .)",
        ".n *= 3",
        ".s += \"c\"",
        ".a -= [2]",
        ".n /= 2",
        ".x //= 5",
        ".b.d[][0] |= . + 1",
        ".b.d[][.n - 2]? |= 5",
        "(.a, .b.d)[0] |= 9",
        "(.. | select(type == \"number\")) |= . + 1",
        "[paths]",
        "[path(..)]",
        "[paths(type == \"number\")]",
        "path(.a[], .b.c)",
        "[path(.a[] | select(. > 1))]",
        "del(.a[1], .n)",
        "del(.a[] | select(. > 1))",
        "to_entries | from_entries",
        "walk(if type == \"number\" then . + 1 else . end)",
        "reduce .a[] as $x (0; . + $x)",
        "[foreach .a[] as $x (0; . + $x; [$x, .])]",
        "reduce .a[] as [$x] (0; . + 1)",
        ". as { a: [$x, $y], $n } | [$x, $y, $n]",
        "[.a[] as $x | .a[] as $y | [$x, $y]]",
        "[limit(2; .a[])]",
        "first(.a[])",
        "[.a[]?]",
        "[recurse | numbers]",
        "[recurse(if type == \"number\" and . < 3 then . + 1 else empty end)] | length",
        "[.. | scalars]",
        "try error(\"x\") catch .",
        "[.a[] | try (if . == 2 then error(\"no\") else . end) catch \"caught\"]",
        "[.a[] | .x?]",
        "label $out | foreach .a[] as $x (0; . + $x; if . > 2 then ., break $out else . end)",
        "[range(5)]",
        "[range(1; 10; 3)]",
        "def f: . + 1; .n | f | f",
        "def f(g): [g, g]; .n | f(. * 2)",
        "def f($x; g): $x + g; f(1; .n)",
        "def f: def g: 3; g * 2; f",
        ".a | contains([1])",
        ".b.c | contains(\"x\")",
        "{ a: 1 } | inside({ a: 1, b: 2 })",
        ".s | indices(\"b\")",
        ".a | index(2)",
        ".a | has(0)",
        ".b.c | split(\",\")",
        ".b.c / \",\"",
        ".b.c | test(\"x\")",
        "[.b.c | scan(\"[a-z]\")]",
        ".b.c | gsub(\"[xy]\"; \"z\")",
        ".b.c | sub(\"x\"; \"\\(.)\")",
        ".a | sort_by(-.)",
        ".a | group_by(. % 2)",
        ".a | min, max",
        ".a | unique_by(. % 2)",
        ".b.d | flatten",
        ".a | reverse",
        ".s | explode | implode",
        ".a | tojson | fromjson",
        ".s | ascii_upcase",
        ".s | ltrimstr(\"a\")",
        "[.a, .a] | transpose",
        "[[1, 2], [3, 4]] | [combinations]",
        ".a | join(\"-\")",
        "getpath([\"b\", \"d\", 0])",
        "setpath([\"b\", \"z\"]; 1)",
        "delpaths([[\"a\", 0]])",
        "pick(.b.c)",
        "[.a[] | if . > 1 then \"big\" elif . == 1 then \"one\" else 0 end]",
        ".a as [$x, $y] | { $x, $y }",
        "[.a[] and true]",
        ".x // .n",
        "[.x // empty]",
        "(.a | length) as $n | $n * 2",
        "-.n",
        "[-.a[]]",
        "[.a[] % 2]",
        ". == .",
        ".a < .b.d",
        "{} + { a: 1 } * { b: 2 }",
        "{ a: { b: 1 } } * { a: { c: 2 } }",
        "\"ab\" * 2",
        "[.a[:2], .a[1:], .s[:1]]",
        "[..] | length",
        "isempty(.a[])",
        "[.a[] | select(. != 2)] | any(. > 2), all(. > 0)",
        "any(.a[]; . == 2)",
        "[splits(\",\")?]",
        "input_line_number?",
        "[.a | to_entries[] | .key]",
        "[skip(1; .a[])]",
        "nth(1; .a[])",
        "[.b | .. |= .] | length",
        "[while(. != null; null)] | length",
        "[.n | until(. > 50; . * .)]",
        "ltrimstr(1)",
        "@text",
        "@csv?",
        "tojson",
        "[.a[] | tostring]",
        "2022 | todate",
        "\"2020-01-01T00:00:00Z\" | fromdate",
        "1e3 | floor",
        "[1.5, 2.5] | map(round)",
        "infinite | isinfinite",
        "nan | isnan",
        "[.a[] | . as $x | [$x] | .[]]",
    ] {
        assert_eq!(evaluate(source, &data).ok(), plain(source, &data), "{source}");
    }
}

/// Evaluates with jaq as it is.
fn plain(source: &str, input: &Value) -> Option<Value> {
    let arena = Arena::default();
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let modules = Loader::new(definitions).load(&arena, File { code: source, path: () }).ok()?;
    let functions = jaq_core::funs::<JustLut<Val>>().chain(jaq_std::funs()).chain(jaq_json::funs());
    let filter = Compiler::default().with_funs(functions).compile(modules).ok()?;
    let context = Ctx::<JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let output = filter.id.run((context, to_jq(input))).next()?.ok()?;
    value::from_jq(&output).ok()
}

//! Documents that are made to hurt: each is refused at a place, or runs, in bounded time and memory, and never panics.

use std::fmt::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::documents::HEAD;
use crate::{Definition, Diagnostic, Input, Resources, State, Status, Timestamp, code, resources, run};

/// How long the worst may take, in an unoptimized build on a machine with other things to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// The stack of worker threads.
const STACK: usize = 2 << 20;

/// Does something on a small stack, or gives up.
fn soon<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, answered) = mpsc::channel();
    let worker = thread::Builder::new().stack_size(STACK);
    // One that does not come back is left behind: the test has failed by then.
    worker.spawn(move || drop(answer.send(work()))).unwrap();
    answered.recv_timeout(PATIENCE).unwrap()
}

fn parse(source: String) -> Result<Definition, Vec<Diagnostic>> {
    soon(move || {
        Definition::parse(&source, "hostile.yaml").map_err(|found| {
            assert!(found.to_string().len() < 4 << 20, "the report itself is bounded");
            found.as_slice().to_vec()
        })
    })
}

/// Checks that a document is refused with this code, and where.
#[track_caller]
fn refused(rest: impl AsRef<str>, code: &str, line: u32, column: u32) {
    refused_as_is(format!("{HEAD}{}", rest.as_ref()), code, line, column);
}

#[track_caller]
fn refused_as_is(source: String, code: &str, line: u32, column: u32) {
    let begin: String = source.chars().take(200).collect();
    let found = parse(source).err().unwrap_or_else(|| panic!("accepted: {begin}"));
    let error = found.iter().find(|found| found.is_error() && found.code == code);
    let error = error.unwrap_or_else(|| panic!("{:?}: {begin}", &found[..found.len().min(3)]));
    assert_eq!((error.line, error.column), (line, column), "{error}: {begin}");
}

/// Runs a workflow up to the first thing it waits for.
fn started(rest: impl AsRef<str>, input: Value) -> State {
    let source = format!("{HEAD}{}", rest.as_ref());
    soon(move || {
        let definition = Definition::parse(&source, "hostile.yaml").unwrap();
        let mut state = State::default();
        let at = Timestamp::from_millis(0);
        run(&definition, &mut state, Input::Start { id: "i".to_owned(), input, at, trace: None }).unwrap();
        state
    })
}

#[track_caller]
fn faults(rest: impl AsRef<str>, input: Value, kind: &str) {
    let state = started(rest, input);
    assert_eq!(state.status(), Status::Faulted);
    assert_eq!(state.fault().unwrap().kind(), kind, "{:?}", state.fault());
}

#[test]
fn jumps_in_a_circle_end() {
    refused("do: [ { a: { set: {}, then: a } } ]", code::ENDLESS, 2, 29);
    refused("do: [ { a: { set: {}, then: b } }, { b: { set: {}, then: a } } ]", code::ENDLESS, 2, 58);
    // What only data decides is found out when it runs.
    faults(
        "do: [ { a: { set: {} } }, { b: { switch: [ { x: { when: 'true', then: a } } ] } } ]",
        json!({}),
        "runtime",
    );
    faults(
        "do: [ { a: { for: { in: '[range(30000)]' }, do: [ { b: { set: {} } } ] } } ]",
        json!({}),
        "runtime",
    );
    faults(
        "do: [ { a: { try: [ { b: { raise: { error: { type: 'urn:x', status: 1 } } } } ], catch: { then: c } } }, { c: { set: {}, then: a } } ]",
        json!({}),
        "runtime",
    );
}

#[test]
fn unknown_names_are_refused_however_many() {
    refused("do: [ { a: { set: {}, then: nowhere } } ]", code::UNKNOWN_TARGET, 2, 29);
    refused("do: [ { a: { call: f } } ]", code::UNKNOWN_NAME, 2, 20);
    refused("do: [ { a: { try: [], catch: { retry: r } } } ]", code::UNKNOWN_NAME, 2, 39);
    refused("do: [ { a: { raise: { error: e } } } ]", code::UNKNOWN_NAME, 2, 30);
    refused("timeout: t\ndo: [ { a: { set: {} } } ]", code::UNKNOWN_NAME, 2, 10);
    let mut many = "do:\n".to_owned();
    (0..9_000).for_each(|n| writeln!(many, "  - task{n}: {{ set: {{}}, then: tusk{n} }}").unwrap());
    refused(many, code::UNKNOWN_TARGET, 3, 29);
}

#[test]
fn names_of_any_length_are_compared_in_no_time() {
    let long = "x".repeat(400_000);
    refused(format!("do: [ {{ a: {{ set: {{}}, then: {long} }} }} ]"), code::UNKNOWN_TARGET, 2, 29);
    refused(format!("do: [ {{ a: {{ call: {long} }} }} ]"), code::UNKNOWN_NAME, 2, 20);
    refused(format!("do: [ {{ a: {{ {long}: 1 }} }} ]"), code::LIMIT, 2, 14);
    refused(format!("do: [ {{ ? {long}\n : 1 }} ]"), code::LIMIT, 2, 11);
}

#[test]
fn wrong_types_are_refused_everywhere() {
    for (wrong, line, column) in [
        ("do: 1", 2, 5),
        ("do: {}", 2, 5),
        ("do: [ 1 ]", 2, 7),
        ("do: [ { a: 1 } ]", 2, 12),
        ("do: [ { a: [] } ]", 2, 12),
        ("do: [ { a: { call: [] } } ]", 2, 20),
        ("do: [ { a: { set: {}, if: 1 } } ]", 2, 27),
        ("do: [ { a: { set: {}, then: 1 } } ]", 2, 29),
        ("do: [ { a: { for: 1, do: [] } } ]", 2, 19),
        ("do: [ { a: { fork: { branches: {} } } } ]", 2, 32),
        ("do: [ { a: { listen: [] } } ]", 2, 22),
        ("do: [ { a: { emit: { event: 1 } } } ]", 2, 29),
        ("do: [ { a: { wait: [] } } ]", 2, 20),
        ("do: [ { a: { set: {}, timeout: [] } } ]", 2, 32),
        ("do: [ { a: { set: {}, pivot: 1 } } ]", 2, 30),
        ("do: []\nuse: 1", 3, 6),
        ("do: []\nuse: { functions: [] }", 3, 19),
        ("do: []\nuse: { extensions: {} }", 3, 20),
        ("do: []\ninput: { schema: 1 }", 3, 18),
        ("do: []\nsaga: 1", 3, 7),
        ("do: []\nschedule: { every: [] }", 3, 20),
    ] {
        refused(wrong, code::WRONG_TYPE, line, column);
    }
    for root in ["", "1", "[]", "text", "~"] {
        refused_as_is(root.to_owned(), code::WRONG_TYPE, 1, 1);
    }
}

#[test]
fn aliases_expand_to_a_bounded_size() {
    let mut laughs = "metadata:\n  a0: &a0 [ lol ]\n".to_owned();
    for n in 1..40 {
        let last = n - 1;
        writeln!(
            laughs,
            "  a{n}: &a{n} [ *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last}, *a{last} ]"
        )
        .unwrap();
    }
    refused(format!("{laughs}do: []"), code::LIMIT, 8, 7);
    // One large text, repeated.
    let text =
        format!("metadata: {{ a: &a {}, b: [ {} ] }}\ndo: []", "x".repeat(500_000), "*a, ".repeat(50_000));
    refused(text, code::LIMIT, 2, 500_054);
    // Anchors in anchors, each kept.
    let nested =
        format!("metadata: {} {} {}\ndo: []", "&a [".repeat(80), "x".repeat(500_000), "]".repeat(80));
    refused(nested, code::LIMIT, 2, 295);
    refused("metadata: &a [ *a ]\ndo: []", code::SYNTAX, 2, 16);
    refused("metadata: *nowhere\ndo: []", code::SYNTAX, 2, 11);
}

#[test]
fn large_documents_are_refused() {
    refused(format!("metadata: {}\ndo: []", "x".repeat(10 << 20)), code::LIMIT, 1, 1);
    let mut tasks = "do:\n".to_owned();
    (0..100_000).for_each(|n| {
        writeln!(tasks, "  - t{n}: {{ set: {{ a: 1, b: [ 1, 2, 3 ], c: 'some text' }} }}").unwrap()
    });
    assert!(tasks.len() > 5 << 20);
    refused(tasks, code::LIMIT, 1, 1);
    // As many as fit into its bytes.
    let tasks = format!("do: [{}]", "{a: {set: {}}},".repeat(60_000));
    refused(tasks, code::LIMIT, 2, 299_965);
    let tasks = format!("do: [{}]", "{a: {set: {}}},".repeat(15_000));
    refused(tasks, code::LIMIT, 2, 150_010);
    // One list of 90,000 values, each far below long keys.
    let key = "k".repeat(900);
    let deep = format!(
        "metadata: {} [{}] {}\ndo: []",
        format!("{{ {key}: ").repeat(80),
        "1,".repeat(90_000),
        "}".repeat(80)
    );
    assert_eq!(parse(format!("{HEAD}{deep}")).unwrap_err()[0].code, code::LIMIT);
    // Keys by the ten thousand are told apart in no time.
    let keys: String = (0..40_000).map(|n| format!("k{n}: 1,")).collect();
    assert!(parse(format!("{HEAD}metadata: {{ {keys} }}\ndo: [ {{ a: {{ set: {{}} }} }} ]")).is_ok());
}

#[test]
fn functions_are_not_repeated_without_end() {
    let large = "x".repeat(400_000);
    let calls: String = (0..5_000).map(|n| format!("  - c{n}: {{ call: f }}\n")).collect();
    refused(
        format!("use: {{ functions: {{ f: {{ set: {{ v: {large} }} }} }} }}\ndo:\n{calls}"),
        code::LIMIT,
        2,
        24,
    );
    // Each function calls the one before twice.
    let mut doubled = "use:\n  functions:\n    f0: { set: {} }\n".to_owned();
    for n in 1..30 {
        let last = n - 1;
        writeln!(
            doubled,
            "    f{n}: {{ do: [ {{ a: {{ call: f{last} }} }}, {{ b: {{ call: f{last} }} }} ] }}"
        )
        .unwrap();
    }
    let found = parse(format!("{HEAD}{doubled}do: [ {{ a: {{ call: f29 }} }} ]")).unwrap_err();
    assert!(found.iter().any(|found| found.code == code::LIMIT && found.line > 1), "{found:?}");
    refused(
        "use: { functions: { f: { call: g }, g: { call: f } } }\ndo: [ { a: { call: f } } ]",
        code::UNKNOWN_NAME,
        2,
        32,
    );
}

#[test]
fn deep_nesting_is_refused_before_it_is_followed() {
    for (open, close) in [("[", "]"), ("{ a: ", "}"), ("- ", ""), ("? ", ""), ("[ { a: ", "} ]")] {
        for times in [101, 5_000, 100_000] {
            let nested = format!("metadata:\n {}1{}\ndo: []", open.repeat(times), close.repeat(times));
            let found = parse(format!("{HEAD}{nested}")).unwrap_err();
            assert!([code::LIMIT, code::SYNTAX].contains(&found[0].code), "{open} {times}: {}", found[0]);
            assert!(found[0].line > 0 && found[0].column > 0);
        }
    }
    let expression = "[".repeat(5_000);
    refused(format!("do: [ {{ a: {{ set: '${{ {expression} }}' }} }} ]"), code::EXPRESSION, 2, 19);
    let schema = format!("{}true{}", "{ not: ".repeat(200), "}".repeat(200));
    refused(format!("input: {{ schema: {{ document: {schema} }} }}\ndo: []"), code::LIMIT, 2, 709);
}

#[test]
fn documents_that_refer_to_each_other_in_a_circle_are_refused() {
    let function = |next: &str| format!("call: 'https://x/{next}.yaml'");
    let library: Resources =
        [("https://x/a.yaml", function("b")), ("https://x/b.yaml", function("a"))].into_iter().collect();
    let source = format!("{HEAD}do: [ {{ a: {{ call: 'https://x/a.yaml' }} }} ]");
    let found = soon(move || Definition::parse_with(&source, "hostile.yaml", &library).unwrap_err());
    let found = &found.as_slice()[0];
    assert_eq!((found.code, found.line, found.column), (code::UNKNOWN_NAME, 1, 7), "{found}");
    // Each asks for another one: it ends at a number.
    let endless = soon(|| {
        let source = format!("{HEAD}do: [ {{ a: {{ call: 'https://x/0.yaml' }} }} ]");
        let (mut library, mut asked) = (Resources::default(), 0);
        while let Some(missing) = resources(&source, "hostile.yaml", &library).into_iter().next() {
            asked += 1;
            assert!(asked <= 65, "it goes on and on");
            library.insert(missing.uri, format!("call: 'https://x/{asked}.yaml'"));
        }
        Definition::parse_with(&source, "hostile.yaml", &library).map(drop).unwrap_err()
    });
    assert!(endless.as_slice().iter().any(Diagnostic::is_error));
}

#[test]
fn expressions_without_end_fault_the_task() {
    for expression in [
        "[range(1e12)]",
        "last(repeat(1))",
        "until(false; . + 1)",
        "[limit(1e9; repeat(1))] | length",
        "reduce range(1e9) as $i (0; . + 1)",
        "\"x\" * 1e12",
        "reduce range(64) as $i (\"x\"; . + .)",
        "reduce range(1e6) as $i (0; [.])",
        "[recurse(. + 1; true)]",
        "last(recurse(. + 1))",
        "9e999 | [range(.)] | length",
        "[.. | .. | ..] | [range(1e9)]",
    ] {
        faults(format!("do: [ {{ a: {{ set: {{ v: '${{ {expression} }}' }} }} }} ]"), json!(1), "expression");
    }
    refused("do: [ { a: { set: '${ def f: f; f }' } } ]", code::EXPRESSION, 2, 19);
    for source in
        ["$__prog_args", "env", "$ENV", "input", "halt", "debug", "input_filename", "import \"x\" as x; 1"]
    {
        refused(format!("do: [ {{ a: {{ set: '${{ {source} }}' }} }} ]"), code::EXPRESSION, 2, 19);
    }
}

#[test]
fn patterns_do_not_backtrack_without_end() {
    let text = format!("{}!", "a".repeat(5_000));
    for pattern in ["(a+)+$", "(a|aa)+$", "(a|a)*$", "(.*)*x", "a{0,50}{0,50}$", "a{1000}{1000}{1000}"] {
        let source = format!("do: [ {{ a: {{ set: {{ v: '${{ test(\"{pattern}\") }}' }} }} }} ]");
        assert!(started(source, json!(text)).is_closed());
        let source = format!(
            "input: {{ schema: {{ document: {{ pattern: '{pattern}' }} }} }}\ndo: [ {{ a: {{ set: {{}} }} }} ]"
        );
        assert!(started(source, json!(text)).is_closed());
        let source = format!(
            "input: {{ schema: {{ document: {{ patternProperties: {{ '{pattern}': true }} }} }} }}\ndo: [ {{ a: {{ set: {{}} }} }} ]"
        );
        assert!(started(source, json!({ text.as_str(): 1 })).is_closed());
    }
    // Look-around backtracks by its nature, up to a limit.
    let source = "input: { schema: { document: { pattern: '^(?=(a+)+$)b|((a+)+)\\1\\1$' } } }\ndo: [ { a: { set: {} } } ]";
    if parse(format!("{HEAD}{source}")).is_ok() {
        assert!(started(source, json!(text)).is_closed());
    }
    for pattern in ["(", "(?<", "[z-a]"] {
        let source = format!(
            "input: {{ schema: {{ document: {{ pattern: '{pattern}' }} }} }}\ndo: [ {{ a: {{ set: {{}} }} }} ]"
        );
        refused(source, code::SCHEMA, 2, 30);
    }
}

#[test]
fn schemas_reach_for_nothing_outside() {
    for reference in
        ["https://example.com/schema.json", "file:///etc/passwd", "other.json", "#/nowhere", "urn:x:y"]
    {
        let source = format!(
            "input: {{ schema: {{ document: {{ $ref: '{reference}' }} }} }}\ndo: [ {{ a: {{ set: {{}} }} }} ]"
        );
        refused(source, code::SCHEMA, 2, 30);
    }
}

#[test]
fn lengths_of_time_out_of_range_are_refused_or_saturate() {
    for length in
        ["P1Y", "P1M", "-PT1S", "PT", "P", "1S", "PT1.5.5S", "PT99999999999999999999S", "PT1e9S", "P1DT"]
    {
        refused(format!("do: [ {{ a: {{ wait: {length} }} }} ]"), code::DURATION, 2, 20);
    }
    for object in ["{ seconds: -1 }", "{ years: 1 }", "{ seconds: 99999999999999999999 }", "{ seconds: 1.5 }"]
    {
        let found = parse(format!("{HEAD}do: [ {{ a: {{ wait: {object} }} }} ]"));
        assert!(found.is_err_and(|found| found[0].line == 2), "{object}");
    }
    // The far end of time is a moment as well.
    for length in ["PT9223372036854775S", "P106751991167D", "PT0.0000001S", "{ days: 9000000000 }"] {
        let source = format!("{HEAD}do: [ {{ a: {{ wait: {length} }} }} ]");
        if parse(source.clone()).is_ok() {
            assert!(!started(&source[HEAD.len()..], json!({})).due().is_empty(), "{length}");
        }
    }
    faults("do: [ { a: { wait: '${ .x }' } } ]", json!({ "x": "P9Y" }), "expression");
    faults("do: [ { a: { wait: '${ .x }' } } ]", json!({ "x": -1 }), "expression");
    faults("do: [ { a: { set: {}, timeout: { after: '${ .x }' } } } ]", json!({ "x": "PT" }), "expression");
}

#[test]
fn odd_yaml_is_read_or_refused_at_its_place() {
    refused("do: [ { a: { set: {} } } ]\ndo: []", code::SYNTAX, 3, 1);
    refused("do: [ { a: { set: { x: 1, x: 2 } } } ]", code::SYNTAX, 2, 27);
    refused("do:\n\t- a: { set: {} }", code::SYNTAX, 3, 2);
    refused("do: [ { [ a ]: 1 } ]", code::SYNTAX, 2, 9);
    refused("do: [ { ? { a: b } : 1 } ]", code::SYNTAX, 2, 11);
    refused("do: [ { a: 'never closed } } ]", code::SYNTAX, 2, 12);
    refused("do: [ { a: \"\\q\" } ]", code::SYNTAX, 2, 12);
    refused("do: [ { a: { set: {} } } ", code::SYNTAX, 3, 1);
    for nul in ["\0", "a\0b", "\"a\0b\""] {
        let found = parse(format!("{HEAD}do: [ {{ a: {{ set: {{ v: {nul} }} }} }} ]"));
        assert!(found.is_ok() || found.is_err_and(|found| found[0].line >= 2), "{nul:?}");
    }
    // What an editor may leave behind means the same.
    let plain = format!("{HEAD}do:\n  - a:\n      set:\n        v: 1\n");
    for source in [
        plain.replace('\n', "\r\n"),
        format!("\u{feff}{plain}"),
        format!("%YAML 1.2\n---\n{plain}..."),
        format!("{plain}---\nanother: document\n"),
        format!("# a comment\n\n{plain}\n\n"),
        plain.replace("v: 1", "v: !!int 1"),
    ] {
        let definition = parse(source.clone()).unwrap_or_else(|found| panic!("{found:?}: {source}"));
        assert_eq!(definition.document["do"], json!([{ "a": { "set": { "v": 1 } } }]), "{source}");
    }
    // Keys that are no text are the text of what they are.
    let state = started("do: [ { a: { set: { 1: a, true: b, null: c, 1.5: d } } } ]", json!({}));
    assert_eq!(state.output(), Some(&json!({ "1": "a", "true": "b", "null": "c", "1.5": "d" })));
}

#[test]
fn bytes_that_are_no_text_never_get_here() {
    // A document is text: whoever reads files or messages refuses others, so there is no such call.
    let damaged = String::from_utf8_lossy(&[b'd', b'o', b':', 0xff, 0xfe, 0x80]).into_owned();
    refused_as_is(damaged, code::WRONG_TYPE, 1, 1);
}

#[test]
fn numbers_keep_what_fits_and_are_text_or_lose_nothing_else() {
    for (written, read) in [
        ("9223372036854775807", json!(i64::MAX)),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("99999999999999999999", json!(1e20)),
        ("1e308", json!(1e308)),
        ("1e999", json!("1e999")),
        ("-1e999", json!("-1e999")),
        (".inf", json!(".inf")),
        (".nan", json!(".nan")),
        ("0x1F", json!(31)),
        ("0o17", json!(15)),
        ("0xFFFFFFFFFFFFFFFFF", json!("0xFFFFFFFFFFFFFFFFF")),
        ("1_000", json!("1_000")),
        ("2020-01-01", json!("2020-01-01")),
        ("2020-01-01T00:00:00Z", json!("2020-01-01T00:00:00Z")),
        ("12:30:45", json!("12:30:45")),
        ("yes", json!("yes")),
        ("on", json!("on")),
        ("!!str 1", json!("1")),
        ("'1'", json!("1")),
        ("1.", json!(1.0)),
        ("0777", json!(777)),
        ("+1", json!(1)),
    ] {
        let definition = parse(format!("{HEAD}metadata: [ {written} ]\ndo: [ {{ a: {{ set: {{}} }} }} ]"));
        assert_eq!(definition.unwrap().document["metadata"][0], read, "{written}");
    }
}

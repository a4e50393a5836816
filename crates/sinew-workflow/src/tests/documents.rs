//! Official and extension documents are accepted; wrong ones are refused with everything that is wrong.

use std::fs;
use std::path::PathBuf;

use expect_test::{Expect, expect};

use super::shared;
use crate::{Definition, Resources, resources};

#[test]
fn every_official_example_parses() {
    let Some(folder) = shared("open-workflow/examples") else { return };
    let mut failed = Vec::new();
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        count += 1;
        if let Err(diagnostics) = Definition::parse(&fs::read_to_string(&path).unwrap(), &name) {
            failed.push(diagnostics.to_string());
        }
    }
    assert_eq!((count, failed.join("\n").as_str()), (68, ""));
}

#[test]
fn every_official_example_runs_where_everything_is_at_hand() {
    let Some(folder) = shared("open-workflow/examples") else { return };
    let mut failed = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let source = fs::read_to_string(&path).unwrap();
        let found = resources(&source, &name, &Resources::default());
        let given = found.into_iter().map(|missing| (missing.uri, "set: { done: true }")).collect();
        let definition = Definition::parse_with(&source, &name, &given).unwrap();
        // Schedules are about to come; everything else is here.
        let coming = ["schedules"];
        let found = definition.runnable_by(|_| true).err().into_iter().flatten();
        failed.extend(found.filter(|found| !coming.iter().any(|what| found.message.contains(what))));
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn both_spellings_of_the_extension_parse() {
    let Some(folder) = shared("workflow-extension") else { return };
    for name in ["place-order.yaml", "place-order.portable.yaml"] {
        let definition = Definition::parse(&fs::read_to_string(folder.join(name)).unwrap(), name).unwrap();
        // It cancels a shipment by a number that nobody may know.
        let found: Vec<_> = definition.warnings().iter().map(|found| (found.code, &*found.pointer)).collect();
        let place = found.first().map_or("", |(_, place)| *place);
        assert_eq!(found, [(crate::code::NULL_OUTPUT, place)], "{name}");
        assert!(place.starts_with("/do/4/ship/"), "{place}");
        assert_eq!(definition.reference().to_string(), "shop/place-order@1.0.0");
    }
}

#[test]
fn what_an_earlier_release_accepted_is_read_although_it_is_refused_now() {
    let source = "document: { dsl: '1.0.3', namespace: a, name: b, version: '1.0.0' }
do: [ { one: { set: {}, then: two } }, { two: { set: {}, then: one } } ]";
    let refused = Definition::parse(source, "a.yaml").unwrap_err();
    assert_eq!(refused.as_slice()[0].code, crate::code::ENDLESS);
    let definition = Definition::parse_accepted(source, "a.yaml", &Resources::default()).unwrap();
    assert_eq!(definition.warnings()[0].code, crate::code::ENDLESS);
    assert!(Definition::parse_accepted("do: []", "a.yaml", &Resources::default()).is_err());
}

/// Parses a wrong document and compares the report.
#[track_caller]
pub(super) fn reports(source: &str, expected: Expect) {
    let diagnostics = Definition::parse(source, "a.yaml").unwrap_err();
    let fixes =
        diagnostics.as_slice().iter().map(|diagnostic| format!("{diagnostic} @{}", diagnostic.pointer));
    expected.assert_eq(&fixes.collect::<Vec<_>>().join("\n"));
}

pub(super) const HEAD: &str = "document: { dsl: '1.0.3', namespace: test, name: test, version: '1.0.0' }\n";

#[test]
fn all_mistakes_are_reported_at_once() {
    let source = "document:
  dsl: '1.0.3'
  namespace: bad name
  name: test
  version: 0.1
timout: { after: PT1S }
use:
  retries: { patient: { delay: P1M } }
do:
  - first:
      cal: stock.reserve
  - second:
      call: resrve
      wiht: {}
      then: thrid
  - third:
      try:
        - inner: { set: { a: '${ .a + }' } }
      catch: { retry: pateint }
      timeout: long
  - fourth: { wait: 5 }
  - fifth: { set: {}, wait: PT1S }
";
    reports(
        source,
        expect![[r#"
            a.yaml:3:14: error[SNW-2006]: `bad name` is not a name of up to 63 letters, digits and inner dashes; write a name of up to 63 letters, digits and inner dashes @/document/namespace
            a.yaml:5:12: error[SNW-2004]: expected text, found a number; put it in quotes @/document/version
            a.yaml:6:1: error[SNW-2003]: unknown key `timout` in the workflow; did you mean `timeout`? @/timout
            a.yaml:8:32: error[SNW-2011]: `P1M` has years or months, which have no fixed length; write for example `PT1M30S`, `P1D`, or `{ minutes: 1, seconds: 30 }` @/use/retries/patient/delay
            a.yaml:11:7: error[SNW-2007]: this task has no keyword that says what it does; did you mean `call` instead of `cal`? @/do/0/first
            a.yaml:13:13: error[SNW-2010]: there is no function `resrve`; define it below `use.functions`, or call an operation as `service.operation` @/do/1/second/call
            a.yaml:14:7: error[SNW-2003]: unknown key `wiht`; did you mean `with`? @/do/1/second/wiht
            a.yaml:15:13: error[SNW-2009]: `then` leads to `thrid`, which is no task of this list; did you mean `third`? @/do/1/second/then
            a.yaml:18:30: error[SNW-2012]: the expression does not compile: expected term, found the end @/do/2/third/try/0/inner/set/a
            a.yaml:19:23: error[SNW-2010]: there is no retry policy `pateint` below `use.retries`; did you mean `patient`? @/do/2/third/catch/retry
            a.yaml:20:16: error[SNW-2010]: there is no timeout `long` below `use.timeouts` @/do/2/third/timeout
            a.yaml:21:21: error[SNW-2004]: expected a duration, found a number @/do/3/fourth/wait
            a.yaml:22:12: error[SNW-2007]: this task does several things at once: set, wait; split it into one task each @/do/4/fifth"#]],
    );
}

#[test]
fn shapes_are_checked() {
    reports(
        "- not a workflow",
        expect![
            "a.yaml:1:1: error[SNW-2004]: a workflow is an object with `document` and `do`; begin with `document:` and its dsl, namespace, name and version @"
        ],
    );
    reports(
        &format!("{HEAD}do: {{ a: {{ set: {{}} }} }}"),
        expect![
            "a.yaml:2:5: error[SNW-2004]: expected a list, found an object; write `- name:` before each @/do"
        ],
    );
    reports(
        &format!("{HEAD}do: [ {{ a: {{ set: {{}} }}, b: {{ set: {{}} }} }} ]"),
        expect![
            "a.yaml:2:7: error[SNW-2004]: expected an object with one key, the name; found 2 keys; begin each with `- name:` and indent the rest below it @/do/0"
        ],
    );
    reports(
        &format!(
            "{HEAD}do: [ {{ a: {{ call: http }} }}, {{ b: {{ emit: {{ event: {{ with: {{}} }} }} }} }} ]"
        ),
        expect![[r#"
            a.yaml:2:12: error[SNW-2005]: `call: http` needs `with`; add `with:` and its arguments @/do/0/a
            a.yaml:2:60: error[SNW-2005]: `type` is missing; add `type:` @/do/1/b/emit/event/with"#]],
    );
    reports(
        &format!(
            "{HEAD}do: [ {{ a: {{ call: nats, with: {{ service: 'a b', endpoint: c, delivery: fast }} }} }} ]"
        ),
        expect![[r#"
            a.yaml:2:43: error[SNW-2006]: `a b` is not the name of a service or operation; write letters, digits, `-` and `_`; expressions are not possible here @/do/0/a/with/service
            a.yaml:2:73: error[SNW-2006]: `fast` is not allowed here; known here: request, command @/do/0/a/with/delivery"#]],
    );
}

#[test]
fn names_must_lead_somewhere() {
    let source = "use: { functions: { loop: { call: loop }, reserve: { call: stock.reserve } }, errors: { gone: { type: 'urn:gone', status: 410 } } }
do:
  - a: { switch: [ { x: { when: .a, then: nowhere } } ] }
  - b: { raise: { error: gon } }
  - c: { do: [ { inner: { set: {}, then: a } } ] }
  - d: { call: reserv }
  - e: { call: loop }
";
    reports(
        &format!("{HEAD}{source}"),
        expect![[r#"
        a.yaml:2:35: error[SNW-2010]: `loop` calls itself; functions cannot be recursive @/use/functions/loop/call
        a.yaml:4:43: error[SNW-2009]: `then` leads to `nowhere`, which is no task of this list; known here: a, b, c, d, e, continue, exit, end @/do/0/a/switch/0/x/then
        a.yaml:5:26: error[SNW-2010]: there is no error `gon` below `use.errors`; did you mean `gone`? @/do/1/b/raise/error
        a.yaml:6:42: error[SNW-2009]: `then` leads to `a`, which is no task of this list; known here: inner, continue, exit, end @/do/2/c/do/0/inner/then
        a.yaml:7:16: error[SNW-2010]: there is no function `reserv`; did you mean `reserve`? @/do/3/d/call"#]],
    );
}

#[test]
fn expressions_are_compiled() {
    let source = "do:
  - a: { if: '.x ==', set: { b: '${ $nope }', c: '${ [.[] ', d: '${ nothing(1) }' } }
  - b: { set: { a: '${ env.HOME }', b: '${ halt }', c: '${ input }', d: '${ now | localtime }', e: '${ $ENV }' } }
  - c: { set: '${ def f: f; f }', output: { as: { open: '${ .a' } } }
  - d: { for: { each: it, in: '.list' }, do: [ { e: { set: { ok: '${ $it }', no: '${ $item }' } } } ] }
";
    reports(
        &format!("{HEAD}{source}"),
        expect![[r#"
            a.yaml:3:14: error[SNW-2012]: the expression does not compile: expected term, found the end @/do/0/a/if
            a.yaml:3:33: error[SNW-2012]: the expression does not compile: there is no variable `$nope` here @/do/0/a/set/b
            a.yaml:3:50: error[SNW-2012]: an expression begins with `${` and never ends; close it with `}` @/do/0/a/set/c
            a.yaml:3:65: error[SNW-2012]: the expression does not compile: there is no filter `nothing` @/do/0/a/set/d
            a.yaml:4:20: error[SNW-2012]: the expression does not compile: `env` is not available: an expression sees its data and nothing else @/do/1/b/set/a
            a.yaml:4:40: error[SNW-2012]: the expression does not compile: `halt` is not available: an expression sees its data and nothing else @/do/1/b/set/b
            a.yaml:4:56: error[SNW-2012]: the expression does not compile: `input` is not available: an expression sees its data and nothing else @/do/1/b/set/c
            a.yaml:4:73: error[SNW-2012]: the expression does not compile: `localtime` is not available: an expression sees its data and nothing else @/do/1/b/set/d
            a.yaml:4:100: error[SNW-2012]: the expression does not compile: `$ENV` is not available: an expression sees its data and nothing else @/do/1/b/set/e
            a.yaml:5:15: error[SNW-2012]: the expression does not compile: `f` calls itself; use `recurse`, `until`, `reduce` or `limit` instead @/do/2/c/set
            a.yaml:5:57: error[SNW-2012]: an expression begins with `${` and never ends; close it with `}` @/do/2/c/output/as/open
            a.yaml:6:82: error[SNW-2012]: the expression does not compile: there is no variable `$item` here @/do/3/d/do/0/e/set/no"#]],
    );
}

#[test]
fn saga_keys_must_make_sense() {
    let source = "saga: { on: [ faults ], order: sideways }
do:
  - a: { call: a.b, compensate: true }
  - b: { call: a.b, compensate: { call: c.d, compensate: { call: e.f } } }
  - c: { call: a.b, metadata: { compensate: { call: c.d, pivot: true } } }
";
    reports(
        &format!("{HEAD}{source}"),
        expect![[r#"
        a.yaml:2:15: error[SNW-2006]: `faults` is not allowed here; did you mean `fault`? @/saga/on/0
        a.yaml:2:32: error[SNW-2006]: `sideways` is not allowed here; known here: reverse, parallel @/saga/order
        a.yaml:4:33: error[SNW-2015]: `compensate` is a task, or false to inherit none; write the task that undoes this one @/do/0/a/compensate
        a.yaml:5:58: error[SNW-2015]: a compensation cannot be compensated itself; remove it; a compensation that fails is retried @/do/1/b/compensate/compensate
        a.yaml:6:65: error[SNW-2015]: a compensation cannot be a pivot; remove it @/do/2/c/metadata/compensate/pivot"#]],
    );
}

#[test]
fn functions_with_compensations_can_undo() {
    let source =
        "use: { functions: { release: { call: stock.release, compensate: { call: stock.reserve } } } }
do: [ { a: { call: stock.reserve, compensate: { call: release } } } ]
";
    let definition = Definition::parse(&format!("{HEAD}{source}"), "a.yaml").unwrap();
    let (_, body) = definition.plan.find("/do/0/a/compensate/release").unwrap();
    assert!(body.compensate.is_none());
}

#[test]
fn hostile_text_is_bounded() {
    reports(
        "a: [",
        expect!["a.yaml:2:1: error[SNW-2001]: while parsing a node, did not find expected node content @"],
    );
    reports("a: 1\na: 2", expect!["a.yaml:2:1: error[SNW-2001]: the key `a` appears twice @"]);
    reports(
        "a: *nothing",
        expect!["a.yaml:1:4: error[SNW-2001]: while parsing node, found unknown anchor @"],
    );
    reports(&"[".repeat(5_000), expect!["a.yaml:1:256: error[SNW-2001]: recursion limit exceeded @"]);
    reports(
        &format!("x: '{}'", "y".repeat(1 << 20)),
        expect!["a.yaml:1:1: error[SNW-2002]: the document is larger than 1048576 bytes @"],
    );
    let bomb: String = (1..9)
        .map(|level| format!("l{level}: &l{level} [{}]\n", vec![format!("*l{}", level - 1); 10].join(",")))
        .collect();
    reports(
        &format!("l0: &l0 [1,1,1,1,1,1,1,1,1,1]\n{bomb}"),
        expect![
            "a.yaml:5:34: error[SNW-2002]: aliases expand to more than 100000 values, 100 levels or 4194304 bytes @"
        ],
    );
    let nested = format!("do: [ {{ a: {{ set: '${{ {}1{} }}' }} }} ]", "(".repeat(3_000), ")".repeat(3_000));
    reports(
        &format!("{HEAD}{nested}"),
        expect![
            "a.yaml:2:19: error[SNW-2012]: the expression does not compile: an expression nests or chains at most 100 brackets and operators; split it @/do/0/a/set"
        ],
    );
}

#[test]
fn what_a_host_must_be_able_to_do_is_said_at_its_place() {
    let source = "schedule: { every: PT1H }
do:
  - a: { call: http, with: { method: get, endpoint: 'https://example.com' } }
  - b: { listen: { to: { any: [] } } }
  - c: { run: { workflow: { namespace: a, name: b, version: '1.0.0' } } }
  - d: { call: human }
";
    let definition = Definition::parse(&format!("{HEAD}{source}"), "a.yaml").unwrap();
    expect![[r#"
        a.yaml:2:11: error[SNW-2014]: `schedule` is beyond what runs this
        a.yaml:4:16: error[SNW-2014]: `call: http` is beyond what runs this
        a.yaml:5:18: error[SNW-2014]: `listen` is beyond what runs this
        a.yaml:6:27: error[SNW-2014]: `run: workflow` is beyond what runs this
        a.yaml:7:16: error[SNW-2014]: `call: human` is beyond what runs this"#]]
    .assert_eq(&definition.runnable_by(|_| false).unwrap_err().to_string());
    definition.runnable_by(|_| true).unwrap();
}

#[test]
fn unknown_root_keys_and_doubles_are_warnings() {
    let source = format!("{HEAD}x-owner: me\ndo: [ {{ a: {{ set: {{}} }} }}, {{ a: {{ set: {{}} }} }} ]");
    let definition = Definition::parse(&source, "a.yaml").unwrap();
    let warnings: Vec<String> = definition.warnings().iter().map(ToString::to_string).collect();
    expect![[r#"
        a.yaml:2:1: warning[SNW-2003]: unknown key `x-owner` in the workflow; known here: document, input, use, do, timeout, output, schedule, evaluate, saga
        a.yaml:3:32: warning[SNW-2008]: two tasks of this list are called `a`; `then` finds the first"#]].assert_eq(&warnings.join("\n"));
}

#[test]
fn anchors_and_aliases_expand() {
    let source =
        format!("{HEAD}x: &call {{ call: a.b, with: {{ n: 1 }} }}\ndo: [ {{ a: *call }}, {{ b: *call }} ]");
    let definition = Definition::parse(&source, "a.yaml").unwrap();
    assert_eq!(definition.operations().collect::<Vec<_>>(), [("a", "b")]);
    assert!(definition.plan.find("/do/1/b").is_some());
}

#[test]
fn durations_are_read() {
    let read = |text: &str| crate::language::duration::parse(text);
    assert_eq!(read("PT0.2S"), Ok(200));
    assert_eq!(read("P1DT2H3M4.5S"), Ok(93_784_500));
    assert_eq!(read("P2W"), Ok(1_209_600_000));
    for wrong in ["", "P", "PT", "1S", "P1M", "P1Y", "PT1X", "PT.S", "PT1H1", "P999999D", "PT-1S"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn definitions_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Definition>();
    shared::<crate::State>();
}

#[test]
fn documents_of_the_manual_are_valid() {
    let manual = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/workflow.md");
    let manual = fs::read_to_string(manual).unwrap();
    let blocks: Vec<&str> =
        manual.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
    assert_eq!(blocks.len(), 5);
    for block in blocks {
        let definition =
            Definition::parse(block, "manual.yaml").unwrap_or_else(|found| panic!("{found}\n{block}"));
        assert!(definition.runnable_by(|_| true).is_ok(), "{block}");
        assert!(definition.warnings().is_empty(), "{:?}", definition.warnings());
    }
}

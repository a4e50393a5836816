//! Workflows made of bytes: every kind of task, in every place it may stand.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::tests::documents::HEAD;
use crate::{Definition, Resources};

/// Bytes that decide: what a test case is made of, so that shrinking removes decisions.
pub(super) struct Tape<'t>(pub(super) &'t [u8]);

impl Tape<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decides between so many possibilities; an empty tape takes the first.
    pub(super) fn pick(&mut self, possibilities: usize) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first) % possibilities
    }
}

pub(super) fn tape(length: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..length)
}

/// Makes a workflow with everything a root may say.
pub(super) fn workflow(tape: &mut Tape<'_>) -> Value {
    let mut workflow = tasks(tape, 3, true);
    workflow["saga"] = json!({
        "retry": { "delay": "PT1S", "limit": { "attempt": { "count": tape.pick(3) } } },
        "onStuck": (["park", "continue"][tape.pick(2)]),
    });
    if tape.pick(3) == 1 {
        workflow["timeout"] = json!({ "after": "PT20S" });
    }
    if tape.pick(4) == 1 {
        let nothing = json!({ "set": { "n": "nothing" } });
        let kind = ["all", "call", "composite", "listen"][tape.pick(4)];
        let before =
            [json!([{ "b": nothing }]), json!([{ "b": { "call": "some.log" } }])][tape.pick(2)].clone();
        workflow["use"]["extensions"] =
            json!([{ "around": { "extend": kind, "before": before, "after": [{ "a": nothing }] } }]);
    }
    match tape.pick(8) {
        1 => workflow["schedule"] = json!({ "every": { "minutes": 5 } }),
        2 => workflow["schedule"] = json!({ "cron": "0 0 * * *" }),
        3 => workflow["schedule"] = json!({ "after": "PT1M" }),
        4 => workflow["schedule"] = json!({ "on": { "one": { "with": { "type": "a" } } } }),
        5 => workflow["output"] = json!({ "as": "${ { result: ., context: $context } }" }),
        6 => workflow["input"] = json!({ "from": "${ . }", "schema": { "document": { "type": "object" } } }),
        _ => {}
    }
    workflow
}

/// Makes `{ use, do }` with up to four tasks.
pub(super) fn tasks(tape: &mut Tape<'_>, depth: u32, pivots: bool) -> Value {
    let list = Tasks { tape, names: 0, looping: false }.list(depth, pivots);
    json!({
        "use": { "functions": {
            "f": { "call": "some.function", "compensate": { "call": "some.undo" } },
            "g": { "do": [{ "inner": { "call": "f" } }, { "last": { "call": "some.thing" } }] },
        } },
        "do": list,
    })
}

/// Reads a workflow, written as text: a key a line, each value in JSON, which is YAML as well.
pub(super) fn definition(workflow: &Value) -> Definition {
    let lines = workflow.as_object().unwrap().iter().map(|(key, value)| format!("{key}: {value}\n"));
    let source = format!("{HEAD}{}", lines.collect::<String>());
    let function = "{ call: some.catalogued, compensate: { call: some.undo } }";
    let library: Resources =
        [("catalog://default/functions/c/1.0.0/function.yaml", function)].into_iter().collect();
    Definition::parse_with(&source, "generated.yaml", &library)
        .unwrap_or_else(|found| panic!("{found}\n{source}"))
}

struct Tasks<'t, 'b> {
    tape: &'t mut Tape<'b>,
    names: u32,
    /// Whether these tasks may run several times: a key must then tell which time it is.
    looping: bool,
}

impl Tasks<'_, '_> {
    fn list(&mut self, depth: u32, pivots: bool) -> Value {
        let count = 1 + self.tape.pick(4);
        (0..count).map(|_| self.task(depth, pivots)).collect()
    }

    fn task(&mut self, depth: u32, pivots: bool) -> Value {
        self.names += 1;
        let name = format!("t{}", self.names);
        let mut task = match self.tape.pick(if depth == 0 { 8 } else { 14 }) {
            0..=2 => json!({ "call": "some.thing" }),
            3 => self.other_call(),
            4 => json!({ "wait": "PT3S" }),
            5 => self.without_work(),
            6 => self.listen(),
            7 => self.process(),
            _ => self.composite(&name, depth, pivots),
        };
        self.saga_keys(&mut task, pivots);
        self.data(&mut task);
        json!({ name: task })
    }

    fn other_call(&mut self) -> Value {
        match self.tape.pick(6) {
            0 => json!({ "call": "f" }),
            1 => json!({ "call": "g" }),
            2 => json!({ "call": "c:1.0.0@default" }),
            3 => json!({ "call": "human", "with": { "title": "well?" } }),
            4 => json!({ "call": "http", "with": { "method": "get", "endpoint": "https://x/{n}" } }),
            _ => {
                json!({ "call": "nats", "with": { "service": "some", "endpoint": "thing", "delivery": "command" } })
            }
        }
    }

    fn without_work(&mut self) -> Value {
        match self.tape.pick(5) {
            0 => json!({ "emit": { "event": { "with": { "type": "happened" } } } }),
            1 => json!({ "set": { "n": "${ .n }", "m": 1 } }),
            2 => {
                json!({ "switch": [{ "some": { "when": ".n != null", "then": "continue" } }, { "none": { "then": "exit" } }] })
            }
            3 => json!({ "raise": { "error": { "type": "urn:x", "status": 400 } } }),
            _ => json!({ "call": "saga.compensate" }),
        }
    }

    fn listen(&mut self) -> Value {
        let (a, b) = (json!({ "with": { "type": "a" } }), json!({ "with": { "type": "b" } }));
        match self.tape.pick(6) {
            0 => json!({ "listen": { "to": { "all": [a, b] } } }),
            1 => json!({ "listen": { "to": { "one": a }, "read": "envelope" } }),
            2 => json!({ "listen": { "to": { "any": [a, b] } } }),
            3 => json!({ "listen": { "to": { "any": [], "until": "( . | length ) == 2" } } }),
            4 => json!({ "listen": { "to": { "any": [a], "until": { "one": b } } } }),
            _ => json!({ "call": "asyncapi", "with": {
                "document": { "endpoint": "https://x" }, "operation": "o", "subscription": { "consume": { "amount": 2 } },
            } }),
        }
    }

    fn process(&mut self) -> Value {
        match self.tape.pick(4) {
            0 | 1 => {
                json!({ "run": { "workflow": { "namespace": "n", "name": "child", "version": "1.0.0" } } })
            }
            2 => {
                json!({ "run": { "workflow": { "namespace": "n", "name": "child", "version": "1.0.0" }, "await": false } })
            }
            _ => json!({ "run": { "shell": { "command": "true" } } }),
        }
    }

    fn composite(&mut self, name: &str, depth: u32, pivots: bool) -> Value {
        let kind = self.tape.pick(7);
        let around = self.looping;
        self.looping |= matches!(kind, 3 | 6);
        let inner = self.list(depth - 1, pivots && kind == 0);
        self.looping = around;
        match kind {
            0 => json!({ "do": inner }),
            1 => {
                json!({ "try": inner, "catch": { "retry": { "delay": "PT1S", "limit": { "attempt": { "count": 2 } } } } })
            }
            2 => {
                json!({ "try": inner, "catch": { "do": [ { format!("c{name}"): { "call": "some.rescue" } } ] } })
            }
            3 => json!({ "for": { "in": "[1, 2]" }, "do": inner }),
            4 => json!({ "fork": { "branches": inner } }),
            5 => json!({ "fork": { "compete": true, "branches": inner } }),
            _ => json!({
                "listen": { "to": { "any": [{ "with": { "type": "a" } }], "until": { "one": { "with": { "type": "b" } } } } },
                "foreach": { "do": inner },
            }),
        }
    }

    /// Adds what makes it part of a saga, in either spelling.
    fn saga_keys(&mut self, task: &mut Value, pivots: bool) {
        let undo = json!({ "call": "some.undo" });
        match self.tape.pick(9) {
            0..=2 => task["compensate"] = undo,
            3 => task["metadata"] = json!({ "compensate": undo }),
            4 => task["compensate"] = json!({ "do": [ { "first": undo }, { "second": undo } ] }),
            5 if pivots && self.tape.pick(4) == 0 => task["pivot"] = json!(true),
            6 if pivots && self.tape.pick(4) == 0 => task["metadata"] = json!({ "pivot": true }),
            7 => task["timeout"] = json!({ "after": "PT4S" }),
            _ => {}
        }
    }

    /// Adds what shapes data or decides about it.
    fn data(&mut self, task: &mut Value) {
        match self.tape.pick(14) {
            1 => task["if"] = json!("${ $workflow.id != null }"),
            2 => task["if"] = json!("${ false }"),
            3 => task["input"] = json!({ "from": "${ { n: .n } }" }),
            4 => task["output"] = json!({ "as": "${ { n: 1, was: . } }" }),
            5 => task["export"] = json!({ "as": "${ { last: $task.name } }" }),
            6 if !self.looping => task["idempotencyKey"] = json!("${ \"key-\" + $task.name }"),
            7 => task["then"] = json!("exit"),
            8 if self.tape.pick(3) == 0 => task["then"] = json!("end"),
            _ => {}
        }
    }
}

//! What the engine refuses leaves no trace.

use serde_json::json;

use super::define;
use super::world::World;
use crate::{Error, Input, Operate, State, Timestamp, decide, run};

const DOCUMENT: &str = "do: [ { first: { call: some.thing, compensate: { call: some.undo } } } ]";

#[test]
fn a_refused_input_changes_nothing() {
    let world = World::start(define(DOCUMENT), json!({ "n": 1 }));
    let at = Timestamp::from_millis(5_000);
    let start = Input::Start { id: "another".to_owned(), input: json!({}), at, trace: None };
    let decision = Input::Operator { action: Operate::Skip, who: String::new(), why: String::new(), at };
    let mut state = world.state.clone();
    assert!(matches!(run(&world.definition, &mut state, start), Err(Error::AlreadyStarted { .. })));
    assert!(matches!(run(&world.definition, &mut state, decision.clone()), Err(Error::NotStuck)));
    assert_eq!(state, world.state);
    let mut fresh = State::default();
    let cancel = Input::Cancel { reason: None, at };
    assert!(matches!(run(&world.definition, &mut fresh, cancel), Err(Error::NotStarted)));
    assert_eq!(fresh, State::default());
}

#[test]
fn deciding_leaves_the_state_alone() {
    let world = World::start(define(DOCUMENT), json!({ "n": 1 }));
    let before = world.state.clone();
    let cancel = Input::Cancel { reason: None, at: Timestamp::from_millis(5_000) };
    assert!(!decide(&world.definition, &world.state, &cancel).unwrap().is_empty());
    assert_eq!(world.state, before);
}

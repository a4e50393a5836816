//! Properties of the lanes: alone, and in a small world of a server and two members that die, lag and take over.

mod world;

use proptest::{collection::vec, prelude::*};

use super::{Place::Stream, *};
use world::{End, Step, World, step};

const KEYS: u8 = 4;

proptest! {
    #[test]
    fn p3_first_completions_follow_the_stream_whatever_happens(steps in vec(step(), 1..400)) {
        let mut world = World::default();
        for step in steps {
            world.take(step);
        }
        world.heal();
        world.check();
    }

    #[test]
    fn p3_only_its_own_key_keeps_an_event_from_beginning(steps in vec(act(), 1..200)) {
        let mut lanes = Lanes::new(3);
        lanes.thaw();
        let mut running = Vec::new();
        for (now, act) in (0..).zip(steps) {
            match act {
                Act::Arrive(sequence) => _ = lanes.arrived(Stream(sequence), &key(sequence), false),
                Act::Suspect(sequence) => lanes.suspect(Stream(sequence), &key(sequence)),
                Act::Finish(at, delay) if !running.is_empty() => {
                    let sequence = running.remove(at % running.len());
                    match delay {
                        0 => lanes.done(Stream(sequence)),
                        delay => lanes.failed(Stream(sequence), Duration::from_secs(now + delay)),
                    }
                }
                Act::Finish(..) => {}
            }
            lanes.due(Duration::from_secs(now));
            while let Some(Start { place: Stream(sequence), .. }) = lanes.start() {
                let twice = running.iter().any(|other| key(*other) == key(sequence));
                prop_assert!(!twice, "two of one key run");
                running.push(sequence);
            }
            prop_assert!(running.len() <= 3);
            prop_assert_eq!(lanes.running, running.len());
            if running.len() < 3 {
                prop_assert!(lanes.lanes.values().all(|lane| lane.waiting.is_empty() || is_blocked(lane)));
            }
        }
        prop_assert!(lanes.lanes.values().all(|lane| !lane.is_empty()), "an empty lane costs memory");
    }
}

#[test]
fn an_event_known_to_be_settled_does_not_run_again() {
    let mut lanes = Lanes::new(1);
    lanes.thaw();
    assert_eq!(lanes.arrived(Stream(7), &key(7), false), Taken::Held);
    assert_eq!(lanes.start(), Some(Start { place: Stream(7), attempt: 1 }));
    assert_eq!(lanes.arrived(Stream(7), &key(7), true), Taken::Again);
    lanes.done(Stream(7));
    assert_eq!(lanes.arrived(Stream(7), &key(7), true), Taken::Settled);
    assert_eq!(lanes.start(), None);
}

#[test]
fn a_late_word_of_the_member_before_is_not_taken_for_certainty() {
    let mut lanes = Lanes::new(1);
    lanes.arrived(Stream(3), &key(3), true);
    // 3 and 4 were out; the other member settled 3 after it had come here, so what is out is 4.
    let standing = Standing { floor: 0, delivered: 4, pending: 1, redelivered: 0 };
    assert!(!lanes.is_certain(&standing));
    assert!(lanes.is_certain(&Standing { redelivered: 1, ..standing }), "it is 3 that is out");
}

#[test]
fn what_comes_by_the_inlet_goes_first_and_waits_for_no_suspect() {
    let mut lanes = Lanes::new(1);
    lanes.arrived(Stream(5), &key(0), false);
    lanes.suspect(Stream(3), &key(0));
    lanes.arrived(Place::Inlet(9), &key(0), false);
    lanes.thaw();
    assert_eq!(lanes.start(), Some(Start { place: Place::Inlet(9), attempt: 1 }));
    lanes.done(Place::Inlet(9));
    assert_eq!(lanes.start(), None);
    let standing = Standing { floor: 2, delivered: 5, pending: 1, redelivered: 0 };
    assert!(lanes.is_certain(&standing), "what came by the inlet is not counted");
    lanes.clear_suspects();
    assert_eq!(lanes.start(), Some(Start { place: Stream(5), attempt: 1 }));
}

#[test]
fn p3_what_was_spilled_comes_back_in_its_place_after_a_crash() {
    let mut world = World::default();
    let (published, delivered) = (vec![Step::Publish; 12], vec![Step::Deliver { lost: false }; 12]);
    let parked = Step::Finish { member: 0, at: 0, end: End::Badly };
    let spilled = [Step::Spill(0), Step::Appended(0)];
    let sure = vec![Step::Verify(0); 3];
    let steps = published.into_iter().chain(delivered).chain(sure).chain([Step::Start(0), parked]);
    steps.chain(spilled).for_each(|step| world.take(step));
    assert_eq!(world.store, [5, 9], "the followers of the one that failed");
    assert!(world.pending.contains_key(&9), "the anchor is left out");
    assert!(world.acked.contains(&5));
    world.take(Step::Crash);
    world.heal();
    world.check();
    assert_eq!(world.returned, 2);
}

#[test]
fn a_lane_of_which_nothing_could_be_stored_is_an_ordinary_one_again() {
    let mut lanes = Lanes::new(1);
    lanes.thaw();
    for sequence in [1, 5] {
        lanes.arrived(Stream(sequence), &key(sequence), false);
    }
    assert_eq!(lanes.start().map(|start| start.place), Some(Stream(1)));
    lanes.failed(Stream(1), Duration::ZERO);
    assert_eq!(lanes.spill_widest(), Some(1));
    assert_eq!(lanes.begin_append(9), Some((1, vec![Stream(5)])));
    lanes.appended(1, &[]);
    lanes.due(Duration::ZERO);
    assert_eq!(lanes.start().map(|start| start.place), Some(Stream(1)));
    lanes.done(Stream(1));
    assert_eq!(lanes.start().map(|start| start.place), Some(Stream(5)));
    lanes.done(Stream(5));
    assert!(lanes.stored.is_empty() && lanes.lanes.is_empty());
}

/// What may happen to lanes.
#[derive(Clone, Debug)]
enum Act {
    Arrive(u64),
    Suspect(u64),
    /// Ends one that runs: well, or with a delay until it is tried again.
    Finish(usize, u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..40u64).prop_map(Act::Arrive),
        1 => (1..40u64).prop_map(Act::Suspect),
        4 => (any::<usize>(), 0..9u64).prop_map(|(at, delay)| Act::Finish(at, delay.saturating_sub(4))),
    ]
}

fn is_blocked(lane: &Lane) -> bool {
    let older = lane.suspects.first() < lane.waiting.first();
    lane.running.is_some() || lane.parked.is_some() || (older && !lane.suspects.is_empty())
}

fn key(sequence: u64) -> Key {
    sequence % u64::from(KEYS)
}

//! What a circuit promises, whatever happens to it in whatever order.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn settings() -> Breaker {
    Breaker::default().opens_at(0.5, 4, 1_000 * MS).pauses(100 * MS, 400 * MS).probes(2)
}

/// A circuit, the time, and the tickets that are out.
struct Lab {
    circuit: Circuit,
    now: Duration,
    out: Vec<Ticket>,
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u32),
    Ask,
    /// Settles the n-th ticket that is out.
    Settle(usize, Option<bool>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u32..300).prop_map(Step::Wait),
        Just(Step::Ask),
        (any::<usize>(), prop::option::weighted(0.8, any::<bool>()))
            .prop_map(|(n, good)| Step::Settle(n, good)),
    ];
    prop::collection::vec(step, 0..400)
}

impl Lab {
    fn new() -> Self {
        Self { circuit: Circuit::new(settings()), now: Duration::ZERO, out: Vec::new() }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Wait(millis) => self.now += millis * MS,
            Step::Ask => self.out.extend(self.circuit.admit(self.now)),
            Step::Settle(_, _) if self.out.is_empty() => {}
            Step::Settle(n, good) => {
                let ticket = self.out.swap_remove(n % self.out.len());
                self.circuit.settle(ticket, good, self.now);
            }
        }
    }

    fn call(&mut self, good: bool) -> Result<(), Duration> {
        let ticket = self.circuit.admit(self.now)?;
        self.circuit.settle(ticket, Some(good), self.now);
        Ok(())
    }
}

proptest! {
    #[test]
    fn it_never_asks_more_than_it_may_while_it_is_broken(steps in steps()) {
        let mut lab = Lab::new();
        for step in steps {
            lab.run(step);
            let current = lab.out.iter().filter(|ticket| ticket.epoch == lab.circuit.epoch).count();
            match &lab.circuit.state {
                State::Closed(_) => {}
                State::Open { .. } => prop_assert_eq!(current, 0),
                State::HalfOpen { out, passed } => {
                    prop_assert_eq!(current, *out as usize);
                    prop_assert!(out + passed <= 2, "{out} out, {passed} passed");
                }
            }
        }
    }

    /// Whatever happened, it finds out again: nothing it is told leaves it shut for good.
    #[test]
    fn it_always_recovers(steps in steps()) {
        let mut lab = Lab::new();
        steps.into_iter().for_each(|step| lab.run(step));
        for ticket in std::mem::take(&mut lab.out) {
            lab.circuit.settle(ticket, None, lab.now);
        }
        lab.now += 400 * MS;
        for _ in 0..2 {
            prop_assert_eq!(lab.call(true), Ok(()));
        }
        prop_assert!(!lab.circuit.is_broken());
    }

    #[test]
    fn good_answers_never_open_it(pauses in prop::collection::vec(0u32..500, 0..300)) {
        let mut lab = Lab::new();
        for pause in pauses {
            lab.now += pause * MS;
            prop_assert_eq!(lab.call(true), Ok(()));
        }
    }

    /// A refusal always names a time, and it is one after which asking makes sense.
    #[test]
    fn a_refusal_says_when_to_come_back(steps in steps()) {
        let mut lab = Lab::new();
        steps.into_iter().for_each(|step| lab.run(step));
        if let Err(pause) = lab.circuit.admit(lab.now) {
            prop_assert!(pause > Duration::ZERO && pause <= 400 * MS, "{pause:?}");
        }
    }
}

#[test]
fn it_opens_half_opens_and_closes() {
    let mut lab = Lab::new();
    for good in [true, false, true, false] {
        assert_eq!(lab.call(good), Ok(()));
    }
    assert_eq!(lab.call(true), Err(100 * MS), "half of four calls failed");
    lab.now += 100 * MS;
    assert_eq!(lab.call(false), Ok(()), "one probe");
    assert_eq!(lab.call(true), Err(200 * MS), "it failed, so the pause doubles");
    lab.now += 200 * MS;
    assert_eq!(lab.call(true), Ok(()));
    assert!(lab.circuit.is_broken(), "one good answer is not enough");
    assert_eq!(lab.call(true), Ok(()));
    assert!(!lab.circuit.is_broken());
}

#[test]
fn failures_of_long_ago_do_not_count() {
    let mut lab = Lab::new();
    for _ in 0..3 {
        assert_eq!(lab.call(false), Ok(()));
    }
    lab.now += 1_100 * MS;
    assert_eq!(lab.call(false), Ok(()));
    assert_eq!(lab.call(true), Ok(()), "one failure within the window");
}

#[test]
fn an_answer_from_before_it_opened_says_nothing() {
    let mut lab = Lab::new();
    let old = lab.circuit.admit(lab.now).unwrap();
    for _ in 0..4 {
        assert_eq!(lab.call(false), Ok(()));
    }
    lab.now += 100 * MS;
    let probe = lab.circuit.admit(lab.now).unwrap();
    lab.circuit.settle(old, Some(false), lab.now);
    lab.circuit.settle(probe, Some(true), lab.now);
    assert_eq!(lab.call(true), Ok(()), "the old failure did not open it again");
    assert!(!lab.circuit.is_broken());
}

proptest! {
    /// So many failures in a row open it, and no fewer, whatever went well before.
    #[test]
    fn failures_in_a_row_open_it_however_few_calls_there_were(count in 1u32..20, before in 0u32..20) {
        let settings = Breaker::default().opens_at(1.0, 1_000, 1_000 * MS).opens_after(count);
        let mut lab = Lab { circuit: Circuit::new(settings), now: Duration::ZERO, out: Vec::new() };
        for _ in 0..before {
            (1..count).for_each(|_| lab.call(false).unwrap());
            lab.call(true).unwrap();
        }
        (1..count).for_each(|_| lab.call(false).unwrap());
        prop_assert!(!lab.circuit.is_broken());
        lab.call(false).unwrap();
        prop_assert!(lab.circuit.is_broken() && lab.call(true).is_err());
    }
}

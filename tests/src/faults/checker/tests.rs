//! The checker itself: silent about every faultless run, and blind to no kind of violation.

use proptest::{prelude::*, strategy::ValueTree as _};

use super::{
    check,
    generated::{PLANTS, Plot, plots, run},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_checker_is_silent_about_a_faultless_run(plots in plots(), order in orders()) {
        let found = check(&run(&plots, &order));
        prop_assert!(found.is_empty(), "{found:#?}");
    }

    #[test]
    fn the_checker_sees_every_kind_of_violation_in_whatever_run(
        plots in plots(), order in orders(), which in 0..PLANTS.len(), victim in any::<prop::sample::Index>(),
    ) {
        let (wrong, plant) = PLANTS[which];
        let mut evidence = run(&plots, &order);
        let id = format!("g-{}", victim.index(plots.len()));
        if plant(&mut evidence, &id) {
            let found = check(&evidence);
            prop_assert!(found.iter().any(|one| one.wrong == wrong && one.saga == id), "{wrong:?}: {found:#?}");
            prop_assert!(found.iter().all(|one| one.saga == id), "the others did nothing: {found:#?}");
        }
    }
}

fn orders() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..60)
}

#[test]
fn each_kind_of_violation_can_be_planted_somewhere() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let many: Vec<Vec<Plot>> = (0..64).map(|_| plots().new_tree(&mut runner).unwrap().current()).collect();
    for (wrong, plant) in PLANTS {
        let planted = many.iter().filter(|plots| plant(&mut run(plots, &[]), "g-0")).count();
        assert!(planted > 3, "{wrong:?} was planted in {planted} of {} runs", many.len());
    }
}

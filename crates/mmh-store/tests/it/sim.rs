//! The store in simulated worlds: sound ones in which every promise is kept, and broken ones in which
//! that is noticed.

use std::sync::atomic::{AtomicU64, Ordering};

use mmh_store::sim::{Broken, Plan, Scenario, Simulator};

/// Worlds that every test run looks at; `cargo xtask test hostile` goes on to 10,000.
const WORLDS: u64 = 1_000;

/// Seeds that once showed a bug, with its test. A seed tells its story only to the code of its day,
/// and so each bug has a test of its own besides.
const NAMED: [(u64, &str); 10] = [
    (96, "lists::a_rebuild_after_a_short_list_keeps_every_chunk"),
    (
        105,
        "lists::runs_that_vanish_while_they_are_opened_are_listed_again",
    ),
    (157, "collect::race::a_pack_is_never_made_again"),
    (167, "lists::a_rebuild_after_a_short_list_keeps_every_chunk"),
    (676, "collect::race::a_pack_is_never_made_again"),
    (1359, "salvage::packs_are_settled_before_they_are_indexed"),
    (2080, "verify follows the log anew when it is cut meanwhile"),
    (2264, "lists::a_pack_that_vanishes_stops_no_writer"),
    (6415, "salvage::packs_are_settled_before_they_are_indexed"),
    (
        8047,
        "index::a_merge_says_no_less_than_the_runs_that_it_replaces",
    ),
];

/// Looks at the worlds of these seeds, on two threads.
fn assert_sound(seeds: &[u64]) {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let simulator = Simulator::new();
                let at = || usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                while let Some(seed) = seeds.get(at()) {
                    let outcome = simulator.run(&Plan::of(*seed));
                    let violation = outcome.violation;
                    assert_eq!(
                        violation, None,
                        "`cargo xtask drill simulate --seed {seed} --trace`"
                    );
                }
            });
        }
    });
}

#[test]
fn every_promise_is_kept_in_a_thousand_worlds() {
    assert_sound(&(0..WORLDS).collect::<Vec<_>>());
}

#[test]
fn seeds_that_once_showed_a_bug_show_none() {
    assert_sound(&NAMED.map(|(seed, _)| seed));
}

/// Faults happen at all, work is done at all, and time passes.
#[test]
fn worlds_differ_and_things_happen_in_them() {
    let simulator = Simulator::new();
    let outcomes: Vec<_> = (0..200)
        .map(|seed| simulator.run(&Plan::of(seed)))
        .collect();
    let sum = |of: fn(&mmh_store::sim::Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
    assert!(sum(|o| o.commits) > 200 && sum(|o| o.steps) > 30_000);
    assert!(sum(|o| o.faults) > 500 && sum(|o| o.deaths) > 300);
    assert!(outcomes.iter().any(|o| o.elapsed_ms > 86_400_000));
    let digests: std::collections::BTreeSet<_> = outcomes.iter().map(|o| o.digest).collect();
    assert_eq!(digests.len(), outcomes.len());
}

/// The same seed, whatever else the machine does: the same steps, faults and times.
#[test]
fn a_seed_decides_everything() {
    let plan = |rng_seed| Plan {
        trace: true,
        ..Plan::of(rng_seed)
    };
    let simulator = Simulator::new();
    let first: Vec<_> = (0..40).map(|seed| simulator.run(&plan(seed))).collect();
    assert!(first.iter().all(|outcome| outcome.trace.len() > 20));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let simulator = Simulator::new();
                for (seed, outcome) in (0..40).zip(&first) {
                    assert_eq!(simulator.run(&plan(seed)), *outcome, "seed {seed}");
                }
            });
        }
    });
}

/// The story of each scenario, told by fifty seeds: nobody is told what is not so.
#[test]
fn stalled_writers_are_not_misled() {
    let simulator = Simulator::new();
    for scenario in Scenario::ALL {
        for rng_seed in 0..50 {
            let plan = Plan {
                scenario: Some(scenario),
                ..Plan::of(rng_seed)
            };
            let outcome = simulator.run(&plan);
            assert_eq!(outcome.violation, None, "{scenario:?}, seed {rng_seed}");
            assert!(outcome.elapsed_ms > 30 * 86_400_000, "it stalls for weeks");
        }
    }
}

/// The first broken promise that is noticed when this is left out.
fn noticed(broken: Broken, scenario: Option<Scenario>) -> String {
    let simulator = Simulator::new();
    let run = |rng_seed| {
        let plan = Plan {
            broken: Some(broken),
            scenario,
            ..Plan::of(rng_seed)
        };
        simulator.run(&plan).violation
    };
    let found = (0..800).find_map(run);
    found.unwrap_or_else(|| panic!("{broken:?} was left out, and nobody noticed"))
}

/// A simulation that did not notice these would prove nothing about syncing, conditions, order and
/// the protocol of garbage collection.
#[test]
fn what_is_left_out_is_noticed() {
    for broken in [
        Broken::Sync,
        Broken::Condition,
        Broken::Order,
        Broken::DeleteFirst,
    ] {
        let _promise = noticed(broken, None);
    }
    // The trace of slatedb 352: two are told that an entry is theirs.
    let told = noticed(Broken::Boundary, Some(Scenario::StalledWriter));
    assert!(told.contains("was acknowledged to"), "{told}");
    let told = noticed(Broken::Fence, Some(Scenario::StalledReliance));
    assert!(told.contains("not to be found"), "{told}");
}

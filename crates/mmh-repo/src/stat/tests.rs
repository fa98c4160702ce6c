//! The arithmetic of saving, apart from any repository.

use proptest::prelude::*;

use super::*;

fn id(n: u8) -> ChunkId {
    ChunkId::of(&[n])
}

fn seen(raw_len: u32, stored_len: u32) -> Seen {
    Seen {
        raw_len,
        stored_len,
        method: 0,
        first: 0,
        shared: false,
    }
}

fn adds_up(saving: &Saving) -> bool {
    let causes = (saving.duplicates + saving.delta).cast_signed() + saving.coding;
    saving.raw.cast_signed() - causes == saving.stored.cast_signed()
}

/// What a difference saves is not counted as coding, and a frame that grew saved nothing.
#[test]
fn differences_are_told_from_other_coding() {
    let difference = |stored_len| Seen {
        method: Method::Delta.code() | 0x40,
        ..seen(100, stored_len)
    };
    let saving = first_use(100, &difference(5));
    assert_eq!((saving.coding, saving.delta), (0, 95));
    let saving = first_use(100, &difference(105));
    assert_eq!((saving.coding, saving.delta), (-5, 0));
    assert!(!is_difference(Method::Float.code() | 0x40));
}

/// A chunk that is used in part, whole or several times over, with frames that shrink or grow.
#[test]
fn the_first_use_of_a_chunk_bears_its_cost() {
    for (len, raw_len, stored_len, duplicates, coding) in [
        (100, 100, 40, 0, 60),
        (100, 100, 100, 0, 0),
        (100, 100, 116, 0, -16),
        (300, 100, 40, 200, 60),
        (10, 100, 40, 0, -30),
        (0, 100, 40, 0, -40),
        (1, 1, 0, 0, 1),
    ] {
        let saving = first_use(len, &seen(raw_len, stored_len));
        let expected = Saving {
            raw: 0,
            stored: u64::from(stored_len),
            duplicates,
            coding,
            ..Saving::default()
        };
        assert_eq!(saving, expected, "{len} of {raw_len} in {stored_len}");
    }
}

/// Lengths near their bounds must not overflow on the way.
#[test]
fn the_largest_lengths_are_counted() {
    let saving = first_use(u64::MAX / 2, &seen(u32::MAX, u32::MAX));
    assert_eq!(saving.coding, 0);
    assert_eq!(saving.duplicates, u64::MAX / 2 - u64::from(u32::MAX));
}

/// A newer version may write methods that this one only knows by number.
#[test]
fn methods_have_names_even_if_they_are_unknown() {
    for method in Method::ALL {
        assert_eq!(method_name(method.code()), method.as_str());
    }
    assert_eq!(method_name(31), "method 31");
    assert_eq!(method_name(255), "method 255");
}

/// One target whose tree a second one names too, and a third that shares one chunk of two.
#[test]
fn targets_share_what_others_hold_too() {
    let names = ["a/one", "a/one@v1", "b/two"];
    let targets: Vec<Target> = names.iter().map(|t| t.parse().unwrap()).collect();
    let mut all = Counter::default();
    all.add(id(1), 10, seen(10, 5));
    all.add(id(2), 20, seen(20, 5));
    all.seen.get_mut(&id(2)).unwrap().shared = true;
    let counter = |chunks: &[(u8, u32)]| {
        let mut counter = Counter::default();
        for (n, len) in chunks {
            counter.total.raw += u64::from(*len);
            counter.add(id(*n), u64::from(*len), seen(*len, 5));
        }
        Alone::Counted(counter)
    };
    let alone = [
        counter(&[(1, 10), (2, 20)]),
        Alone::Same(0),
        counter(&[(2, 20)]),
    ];
    let stats = name_stats(&targets, &alone, &all);
    let shown: Vec<_> = stats
        .iter()
        .map(|s| (s.name.as_str(), s.alone.raw, s.shared))
        .collect();
    assert_eq!(
        shown,
        [("a/one", 30, 30), ("a/one@v1", 30, 30), ("b/two", 20, 20)]
    );
    // Without the second name only the chunk of both targets is shared.
    let stats = name_stats(
        &targets[1..],
        &[counter(&[(1, 10), (2, 20)]), counter(&[(2, 20)])],
        &all,
    );
    assert_eq!(stats[0].shared, 20);
}

proptest! {
    /// Uses of chunks in any order: each chunk is stored once, and the causes add up.
    #[test]
    fn causes_of_saving_add_up(
        chunks in prop::collection::vec((1u32..5000, 0u32..6000), 6),
        uses in prop::collection::vec((0usize..6, 1u32..9000), 0..40),
    ) {
        let mut counter = Counter::default();
        for (which, len) in &uses {
            let (raw_len, stored_len) = chunks[*which];
            counter.total.raw += u64::from(*len);
            let n = u8::try_from(*which).unwrap();
            counter.add(id(n), u64::from(*len), seen(raw_len, stored_len));
        }
        prop_assert!(adds_up(&counter.total), "{:?}", counter.total);
        let used = |which: &usize| uses.iter().any(|(u, _)| u == which);
        let stored: u64 = (0..6).filter(used).map(|w| u64::from(chunks[w].1)).sum();
        prop_assert_eq!(counter.total.stored, stored);
        prop_assert_eq!(counter.seen.len(), (0..6).filter(used).count());
    }
}

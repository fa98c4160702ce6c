//! Rules that keep snapshots, by hand and against a plain model.

use proptest::prelude::*;

use super::*;

fn id(n: usize) -> SnapshotId {
    SnapshotId::of(&(n as u64).to_le_bytes())
}

/// Noon of a day, given as days since 1970-01-01.
fn noon(day: u64) -> u64 {
    day * DAY_MS + DAY_MS / 2
}

/// Which places of a history are kept.
fn places(rules: &str, times: &[u64]) -> Vec<usize> {
    let history: Vec<_> = times.iter().enumerate().map(|(n, t)| (id(n), *t)).collect();
    let chosen = rules.parse::<Keep>().unwrap().choose(&history);
    (0..times.len())
        .filter(|n| chosen.contains(&id(*n)))
        .collect()
}

#[test]
fn rules_are_read_and_written() {
    for text in [
        "all",
        "last:1",
        "last:3,daily:7,weekly:4,monthly:12,yearly:5",
        "tags",
    ] {
        assert_eq!(text.parse::<Keep>().unwrap().to_string(), text);
    }
    assert_eq!(
        "daily:2,tags".parse::<Keep>().unwrap().to_string(),
        "daily:2"
    );
    for text in [
        "",
        "last",
        "last:",
        "last:x",
        "hourly:1",
        "last:1,last:2",
        "last:-1",
        "all,last:1",
    ] {
        let error = text.parse::<Keep>().unwrap_err();
        assert_eq!(error.kind(), mmh_core::ErrorKind::Invalid, "{text}");
    }
}

#[test]
fn the_newest_of_each_stretch_is_kept() {
    let times: Vec<u64> = [20, 20, 19, 17, 17, 16].map(noon).into();
    assert_eq!(places("all", &times), [0, 1, 2, 3, 4, 5]);
    assert_eq!(places("last:2", &times), [0, 1]);
    assert_eq!(places("daily:1", &times), [0]);
    assert_eq!(
        places("daily:3", &times),
        [0, 2, 3],
        "days without snapshots do not count"
    );
    assert_eq!(places("daily:9", &times), [0, 2, 3, 5]);
    assert_eq!(places("last:1,daily:2", &times), [0, 2]);
    assert_eq!(places("last:0", &times), [0; 0]);
    assert_eq!(places("tags", &times), [0; 0]);
}

/// 1970-01-05 was the first Monday; 2024-02-29 is day 19782.
#[test]
fn weeks_months_and_years_begin_where_the_calendar_says() {
    assert_eq!(
        places("weekly:9", &[noon(11), noon(5), noon(4), noon(3)]),
        [0, 1, 3]
    );
    assert_eq!(
        places("monthly:9", &[noon(19783), noon(19782), noon(19754)]),
        [0, 1]
    );
    assert_eq!(places("yearly:9", &[noon(365), noon(364), noon(0)]), [0, 1]);
    for (day, expected) in [
        (0, (1970, 0)),
        (30, (1970, 0)),
        (31, (1970, 1)),
        (364, (1970, 11)),
        (19_782, (2024, 1)),
        (19_783, (2024, 2)),
        (11_016, (2000, 1)),
        (20_818, (2026, 11)),
    ] {
        assert_eq!(year_and_month(day), expected, "day {day}");
    }
}

proptest! {
    /// What a rule keeps is never more than it says, holds the newest, and grows with the count.
    #[test]
    fn a_rule_keeps_at_most_its_count_and_the_newest(
        mut times in prop::collection::vec(0..4_000_000_000_000u64, 1..60),
        which in 0..PERS.len(), count in 0..20usize,
    ) {
        times.sort_unstable_by(|a, b| b.cmp(a));
        let word = PERS[which].1;
        let kept = places(&format!("{word}:{count}"), &times);
        prop_assert!(kept.len() <= count);
        prop_assert_eq!(kept.contains(&0), count > 0);
        let more = places(&format!("{word}:{}", count + 1), &times);
        prop_assert!(kept.iter().all(|n| more.contains(n)));
        // One rule more never keeps less.
        let both = places(&format!("{word}:{count},{}:3", PERS[(which + 1) % 5].1), &times);
        prop_assert!(kept.iter().all(|n| both.contains(n)));
    }

    /// No two of a stretch are kept, and none is left out while the rule has room.
    #[test]
    fn every_stretch_gives_its_newest(
        mut days in prop::collection::vec(0..60_000u64, 1..60), count in 1..70u64,
    ) {
        days.sort_unstable_by(|a, b| b.cmp(a));
        let times: Vec<u64> = days.iter().map(|day| noon(*day)).collect();
        let kept = places(&format!("daily:{count}"), &times);
        let mut model = Vec::new();
        for (n, day) in days.iter().enumerate() {
            if n == 0 || days[n - 1] != *day {
                model.push(n);
            }
        }
        model.truncate(usize::try_from(count).unwrap());
        prop_assert_eq!(kept, model);
    }

    #[test]
    fn any_text_is_read_without_panic(text in ".{0,40}") {
        let _ = text.parse::<Keep>().is_ok();
    }

    #[test]
    fn any_time_has_a_stretch(time_ms: u64, place: u64) {
        for (per, _) in PERS {
            let _ = per.stretch(place, time_ms);
        }
    }
}

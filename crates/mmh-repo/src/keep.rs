//! Which snapshots of a branch's history keep their files: `last:3,daily:7,monthly:12`.
//!
//! Days, weeks, months and years are those of UTC; weeks begin on Monday.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use mmh_core::SnapshotId;
use mmh_core::error::shorten;

use crate::error::{Error, Result};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A rule: how many, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    per: Per,
    count: u64,
}

/// Of which stretch of time the newest snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    Snapshot,
    Day,
    Week,
    Month,
    Year,
}

const PERS: [(Per, &str); 5] = [
    (Per::Snapshot, "last"),
    (Per::Day, "daily"),
    (Per::Week, "weekly"),
    (Per::Month, "monthly"),
    (Per::Year, "yearly"),
];

/// Rules of which any one is enough to keep a snapshot. The tips of branches, and what tags name,
/// are kept whatever the rules say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keep {
    /// `None`: everything is kept.
    rules: Option<Vec<Rule>>,
}

impl Keep {
    /// Whether everything is kept.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.rules.is_none()
    }

    /// Chooses from a history, which comes newest first with times in milliseconds since
    /// 1970-01-01 UTC.
    #[must_use]
    pub fn choose(&self, history: &[(SnapshotId, u64)]) -> BTreeSet<SnapshotId> {
        let Some(rules) = &self.rules else {
            return history.iter().map(|(id, _)| *id).collect();
        };
        let mut chosen = BTreeSet::new();
        for Rule { per, count } in rules {
            let mut stretches = BTreeSet::new();
            for (place, (id, time_ms)) in history.iter().enumerate() {
                let new = stretches.insert(per.stretch(place as u64, *time_ms));
                if stretches.len() as u64 > *count {
                    break;
                }
                if new {
                    chosen.insert(*id);
                }
            }
        }
        chosen
    }
}

impl Per {
    /// A number that is the same for all snapshots of one stretch.
    fn stretch(self, place: u64, time_ms: u64) -> u64 {
        let day = time_ms / DAY_MS;
        match self {
            Self::Snapshot => place,
            Self::Day => day,
            // 1970-01-01 was a Thursday.
            Self::Week => (day + 3) / 7,
            Self::Month => {
                let (year, month) = year_and_month(day);
                year * 12 + month
            }
            Self::Year => year_and_month(day).0,
        }
    }
}

/// Year and month (from 0) of a day since 1970-01-01, in the Gregorian calendar: Howard Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`.
fn year_and_month(day: u64) -> (u64, u64) {
    // Days since 0000-03-01; an era has 400 years.
    let days = day + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = (from_march + 2) % 12;
    (era * 400 + year + u64::from(month < 2), month)
}

impl FromStr for Keep {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            let text = shorten(text);
            Error::Invalid(format!(
                "`{text}` does not say what to keep: {why}; write `all`, or rules like \
                 `last:10,daily:7,weekly:4,monthly:12,yearly:5`"
            ))
        };
        if text == "all" {
            return Ok(Self::default());
        }
        let mut rules: Vec<Rule> = Vec::new();
        for part in text.split(',') {
            // What tags name is kept anyhow.
            if part == "tags" {
                continue;
            }
            let (name, count) = part.split_once(':').ok_or_else(|| bad("no number"))?;
            let per = PERS.iter().find(|(_, word)| *word == name);
            let (per, _) = per.ok_or_else(|| bad("an unknown rule"))?;
            let count = count.parse().map_err(|_| bad("not a number"))?;
            if rules.iter().any(|rule| rule.per == *per) {
                return Err(bad("a rule twice"));
            }
            rules.push(Rule { per: *per, count });
        }
        Ok(Self { rules: Some(rules) })
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(rules) = &self.rules else {
            return f.write_str("all");
        };
        let words = rules.iter().filter_map(|Rule { per, count }| {
            let (_, word) = PERS.iter().find(|(p, _)| p == per)?;
            Some(format!("{word}:{count}"))
        });
        let words: Vec<String> = words.collect();
        f.write_str(if words.is_empty() { "tags" } else { "" })?;
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests;

//! What goes to standard output: text for people, or one JSON document.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use mmh_repo::{Away, Healed};
use serde::Serialize;

use crate::failure::Failure;

/// Bold, for headings.
pub(crate) const HEAD: Style = Style::new().bold();
/// Dimmed, for side remarks.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Green, for what holds.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Red, for what does not.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Yellow, for ids.
pub(crate) const ID: Style = AnsiColor::Yellow.on_default();

/// Where and how a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: u8,
}

impl Output {
    /// Prints `value` as JSON, or calls `human`, unless told to be quiet.
    pub(crate) fn report<T: Serialize>(
        self,
        value: &T,
        human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        if self.json {
            let mut out = io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
            writeln!(out)?;
        } else if !self.quiet {
            self.text(human)?;
        }
        Ok(())
    }

    /// Says on standard error which packs were healed while they were read.
    pub(crate) fn tell_healed(self, healed: &[Healed]) {
        let mut text = String::new();
        for h in healed {
            let (pack, n, len) = (h.pack.digest(), h.blocks + h.parity_blocks, h.block_len);
            let unwritten = h.unwritten.as_deref();
            if self.json {
                let value = serde_json::json!({ "healed": {
                    "pack": pack.to_string(), "blocks": n, "block_len": len, "unwritten": unwritten,
                } });
                text.push_str(&format!("{value}\n"));
                continue;
            }
            let blocks = count(n, "damaged block");
            let what = format!("pack {pack}: {blocks} of {len} bytes");
            text.push_str(&match unwritten {
                None => format!("{} {what}\n", styled(GOOD, "healed")),
                Some(why) => {
                    let only = styled(BAD, "healed in memory only:");
                    format!("{only} {what}; {}\n", plain(why))
                }
            });
        }
        self.tell(&text);
    }

    /// Says on standard error which stores of a stripe are not there.
    pub(crate) fn tell_away(self, away: &[Away]) {
        let mut text = String::new();
        for Away { place, why } in away {
            text.push_str(&match self.json {
                true => format!(
                    "{}\n",
                    serde_json::json!({ "away": { "store": place, "why": why } })
                ),
                false => {
                    let missing = styled(BAD, "without");
                    format!("{missing} store {}: {}\n", plain(place), plain(why))
                }
            });
        }
        self.tell(&text);
    }

    /// Says on standard error that shards of a stripe are damaged, which was read around.
    pub(crate) fn tell_read_around(self, n: usize) {
        let text = match (n, self.json) {
            (0, _) => String::new(),
            (n, true) => format!("{}\n", serde_json::json!({ "damaged_shards": n })),
            (n, false) => {
                let around = styled(BAD, "read around");
                let (shards, them) = (
                    count(n as u64, "damaged shard"),
                    if n == 1 { "it" } else { "them" },
                );
                format!("{around} {shards}; `mmh scrub` makes {them} again\n")
            }
        };
        self.tell(&text);
    }

    /// Says something in passing on standard error.
    pub(crate) fn note(self, what: &str) {
        let text = match self.json {
            true => format!("{}\n", serde_json::json!({ "note": what })),
            false => format!("{}\n", styled(DIM, what)),
        };
        self.tell(&text);
    }

    fn tell(self, text: &str) {
        if !self.quiet && !text.is_empty() {
            // Nobody is left to hear that standard error is closed.
            anstream::stderr().write_all(text.as_bytes()).ok();
        }
    }

    /// Prints text; colours only on a terminal.
    pub(crate) fn text(
        self,
        human: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let mut out = io::BufWriter::new(anstream::stdout().lock());
        human(&mut out)?;
        Ok(out.flush()?)
    }
}

/// Text in a style.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Text from outside, with whatever could move the cursor, colour the terminal or reverse the
/// reading order made visible instead.
pub(crate) fn plain(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if odd(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Bytes in decimal units with three digits: `26.6 MB`.
#[allow(clippy::cast_precision_loss, reason = "for display")]
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"].iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for next in units {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ if value < 9.995 => format!("{value:.2} {unit}"),
        _ if value < 99.95 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A counted noun: `1 file`, `2 files`, `0 entries`.
pub(crate) fn count(n: impl Into<u64>, noun: &str) -> String {
    let n = n.into();
    if n == 1 {
        return format!("1 {noun}");
    }
    let vowel = |c: char| "aeiou".contains(c);
    match noun.strip_suffix('y') {
        Some(stem) if !stem.ends_with(vowel) => format!("{n} {stem}ies"),
        _ if noun.ends_with(['s', 'x']) || noun.ends_with("ch") => format!("{n} {noun}es"),
        _ => format!("{n} {noun}s"),
    }
}

/// The same for a length in memory.
pub(crate) fn count_of<T>(all: &[T], noun: &str) -> String {
    count(all.len() as u64, noun)
}

/// The verb that goes with a count: `is` for one, `are` for others.
pub(crate) fn verb<'a>(n: impl Into<u64>, one: &'a str, many: &'a str) -> &'a str {
    if n.into() == 1 { one } else { many }
}

/// A signed number of bytes.
pub(crate) fn signed_size(bytes: i64) -> String {
    let sign = if bytes < 0 { "-" } else { "" };
    format!("{sign}{}", size(bytes.unsigned_abs()))
}

/// `part` in per cent of `whole`, with two digits.
#[allow(clippy::cast_precision_loss, reason = "for display")]
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        "-".to_owned()
    } else {
        format!("{:.2} %", part as f64 * 100.0 / whole as f64)
    }
}

/// A point in time in UTC, to the second (civil-from-days after Howard Hinnant's calendar notes).
pub(crate) fn time(ms: u64) -> String {
    let secs = ms / 1000;
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Prints rows with aligned columns, each cell made [`plain`]; columns in `right` are aligned to the right.
pub(crate) fn table(
    out: &mut dyn Write,
    head: &[&str],
    right: &[usize],
    rows: &[Vec<String>],
) -> io::Result<()> {
    let clean = |row: &Vec<String>| row.iter().map(|cell| plain(cell)).collect::<Vec<_>>();
    let rows: Vec<_> = rows.iter().map(clean).collect();
    let width = |i: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(i))
            .map(|c| c.chars().count());
        cells
            .chain(head.get(i).map(|h| h.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut line = |cells: Vec<&str>, style: Style| -> io::Result<()> {
        let mut text = String::new();
        for (i, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let gap = if i == 0 { "" } else { "  " };
            if right.contains(&i) {
                text.push_str(&format!("{gap}{cell:>width$}"));
            } else {
                text.push_str(&format!("{gap}{cell:<width$}"));
            }
        }
        writeln!(out, "{style}{}{style:#}", text.trim_end())
    };
    line(head.to_vec(), HEAD)?;
    rows.iter()
        .try_for_each(|row| line(row.iter().map(String::as_str).collect(), Style::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1000), "1.00 kB");
        assert_eq!(size(26_612_345), "26.6 MB");
        assert_eq!(size(999_999), "1.00 MB");
        assert_eq!(size(u64::MAX), "18.4 EB");
        assert_eq!(signed_size(-5), "-5 B");
    }

    #[test]
    fn nouns_follow_their_numbers() {
        for (n, noun, text) in [
            (0u64, "file", "0 files"),
            (1, "file", "1 file"),
            (2, "entry", "2 entries"),
            (3, "key", "3 keys"),
            (4, "branch", "4 branches"),
            (5, "index", "5 indexes"),
        ] {
            assert_eq!(count(n, noun), text);
        }
        assert_eq!(count_of(&[1, 2], "pack"), "2 packs");
        assert_eq!(
            (verb(1u64, "is", "are"), verb(0u64, "is", "are")),
            ("is", "are")
        );
    }

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(plain("naïve – ファイル"), "naïve – ファイル");
        assert_eq!(plain("a\u{1b}[31m\n\u{202e}b"), "a\\u{1b}[31m\\n\\u{202e}b");
    }

    #[test]
    fn times_are_civil() {
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(951_827_696_000), "2000-02-29 12:34:56 UTC");
        assert_eq!(time(1_764_547_199_000), "2025-11-30 23:59:59 UTC");
    }

    #[test]
    fn tables_align() {
        let mut out = Vec::new();
        table(
            &mut out,
            &["a", "bb"],
            &[1],
            &[vec!["xx".into(), "1".into()]],
        )
        .unwrap();
        let text = anstream::adapter::strip_bytes(&out).into_vec();
        assert_eq!(String::from_utf8(text).unwrap(), "a   bb\nxx   1\n");
    }

    /// Three digits at every border of every unit, and never four.
    #[test]
    fn sizes_round_into_the_next_unit() {
        for (bytes, text) in [
            (9_994, "9.99 kB"),
            (9_995, "10.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (999_499_999, "999 MB"),
            (1_000_000_000, "1.00 GB"),
            (1_500_000_000_000, "1.50 TB"),
            (999_500_000_000_000, "1.00 PB"),
            (1_000_000_000_000_000_000, "1.00 EB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
        for shift in 0..64 {
            for bytes in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let digits = size(bytes).chars().filter(char::is_ascii_digit).count();
                assert!((1..=3).contains(&digits), "{bytes}: {}", size(bytes));
            }
        }
    }

    #[test]
    fn signed_sizes_reach_both_ends() {
        assert_eq!(signed_size(0), "0 B");
        assert_eq!(signed_size(i64::MAX), "9.22 EB");
        assert_eq!(signed_size(i64::MIN), "-9.22 EB");
        assert_eq!(signed_size(-1_000), "-1.00 kB");
    }

    #[test]
    fn percents_of_nothing_are_no_number() {
        assert_eq!(percent(0, 0), "-");
        assert_eq!(percent(5, 0), "-");
        assert_eq!(percent(0, 7), "0.00 %");
        assert_eq!(percent(1, 3), "33.33 %");
        assert_eq!(percent(3, 2), "150.00 %");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.00 %");
    }

    /// The calendar against counting days one by one over more than a cycle of 400 years.
    #[test]
    fn times_agree_with_a_counted_calendar() {
        let leap =
            |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
        let (mut year, mut month, mut day) = (1970u64, 1u64, 1u64);
        for days in 0..160_000u64 {
            let text = time(days * 86_400_000 + 86_399_999);
            assert_eq!(text, format!("{year}-{month:02}-{day:02} 23:59:59 UTC"));
            let length = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    /// A time comes from whoever made the snapshot: the largest must not overflow.
    #[test]
    fn times_of_hostile_snapshots_are_only_far_away() {
        assert!(time(u64::MAX).ends_with(" UTC"));
        assert!(time(u64::MAX).starts_with("584556"), "{}", time(u64::MAX));
    }

    /// Every control and direction character is made visible; what is left cannot act.
    #[test]
    fn plain_text_has_no_active_character() {
        let directions = [
            '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}',
        ];
        for c in (0..0xa0u8).map(char::from).chain(directions) {
            let text = plain(&format!("a{c}b"));
            assert!(!text.contains(|c: char| c.is_control() || directions.contains(&c)));
            assert_eq!(plain(&text), text, "what is plain stays");
            assert_eq!(
                text.len() > 3,
                c.is_control() || directions.contains(&c),
                "{c:?}"
            );
        }
        assert_eq!(plain(""), "");
        assert_eq!(plain("a\tb\rc"), "a\\tb\\rc");
    }

    /// Wide cells widen their column, also in the head; cells from outside cannot break lines.
    #[test]
    fn tables_keep_rows_apart() {
        let mut out = Vec::new();
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let rows = [row("é", "10"), row("x\ny", ""), row("", "7")];
        table(&mut out, &["name", "n"], &[1], &rows).unwrap();
        let text = anstream::adapter::strip_bytes(&out).into_vec();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text, "name   n\né     10\nx\\ny\n       7\n");
    }

    #[test]
    fn a_table_without_rows_is_its_head() {
        let mut out = Vec::new();
        table(&mut out, &["one", "two"], &[], &[]).unwrap();
        let text = anstream::adapter::strip_bytes(&out).into_vec();
        assert_eq!(text, b"one  two\n");
    }

    #[test]
    fn styles_are_closed() {
        let text = styled(BAD, "x");
        assert!(
            text.starts_with('\u{1b}') && text.ends_with("\u{1b}[0m"),
            "{text:?}"
        );
        let bare = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(bare, "x");
    }
}

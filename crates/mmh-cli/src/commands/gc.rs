//! `gc`: frees the space of what nothing needs any more.

use mmh_repo::{GcOptions, GcReport, Keep};

use crate::failure::Failure;
use crate::output::{DIM, GOOD, count, size, styled, verb};
use crate::session::Session;

/// Collects garbage, or says what there is.
pub(crate) fn gc(session: &Session, keep: &Keep, options: &GcOptions) -> Result<(), Failure> {
    let report = session.open()?.gc(keep, options)?;
    session.output.report(&report, |out| {
        for line in lines(&report) {
            writeln!(out, "{line}")?;
        }
        Ok(())
    })
}

/// `3 packs, 12.0 MB`.
fn packs(n: u64, bytes: u64) -> String {
    format!("{}, {}", count(n, "pack"), size(bytes))
}

/// What a person wants to read of a report.
fn lines(report: &GcReport) -> Vec<String> {
    let (did, will) = if report.dry_run {
        ("would delete", "would mark")
    } else {
        ("deleted", "marked")
    };
    let mut lines = vec![format!(
        "{} {}",
        styled(GOOD, did),
        packs(report.deleted_packs, report.deleted_bytes)
    )];
    if report.buried_packs > 0 {
        let marked = packs(report.buried_packs, report.buried_bytes);
        lines.push(format!("{will} {marked}, for a later run to delete"));
    }
    if report.copied_bytes > 0 {
        let verb = if report.dry_run {
            "would copy"
        } else {
            "copied"
        };
        let bytes = size(report.copied_bytes);
        lines.push(format!("{verb} {bytes} that are alive out of them"));
    }
    let mut notes = Vec::new();
    if report.waiting_packs > report.buried_packs {
        let waiting = packs(report.waiting_packs, report.waiting_bytes);
        let wait = verb(report.waiting_packs, "waits", "wait");
        notes.push(format!("{waiting} {wait} for the next run"));
    }
    if report.deleted_set_aside > 0 {
        let aside = packs(report.deleted_set_aside, report.deleted_set_aside_bytes);
        notes.push(format!("{aside} that a repair had set aside, deleted"));
    }
    if report.leases > 0 {
        let n = report.leases;
        let (others, are) = (count(n, "other"), verb(n, "is", "are"));
        notes.push(format!(
            "{others} {are} at work; what they may have seen stays"
        ));
    }
    if report.pruned_snapshots > 0 {
        let n = report.pruned_snapshots;
        let (snapshots, give) = (count(n, "snapshot"), verb(n, "gives", "give"));
        let (their, them) = (verb(n, "its", "their"), verb(n, "it", "them"));
        notes.push(format!(
            "{snapshots} {give} up {their} files; `mmh log` still lists {them}"
        ));
    }
    if report.damaged_packs > 0 {
        let n = report.damaged_packs;
        let (packs, are) = (count(n, "pack"), verb(n, "is", "are"));
        notes.push(format!(
            "{packs} {are} damaged, so nothing was deleted; see `mmh verify`"
        ));
    }
    if report.log_entries > 0 {
        let entries = count(report.log_entries, "old entry");
        notes.push(format!("{entries} left the log"));
    }
    let alive = size(report.live_bytes);
    let n = report.live_chunks;
    let (chunks, are) = (count(n, "chunk"), verb(n, "is", "are"));
    notes.push(format!("{chunks}, {alive} {are} alive"));
    lines.extend(notes.iter().map(|note| styled(DIM, note)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(report: &GcReport) -> String {
        let lines: Vec<String> = lines(report).iter().map(|line| plain_of(line)).collect();
        lines.join("\n")
    }

    /// Without what colours it.
    fn plain_of(line: &str) -> String {
        anstream::adapter::strip_str(line).to_string()
    }

    #[test]
    fn a_report_says_what_was_done_and_what_waits() {
        let report = GcReport {
            deleted_packs: 1,
            deleted_bytes: 2000,
            buried_packs: 2,
            buried_bytes: 5000,
            copied_bytes: 100,
            waiting_packs: 3,
            waiting_bytes: 6000,
            deleted_set_aside: 1,
            deleted_set_aside_bytes: 500,
            leases: 1,
            pruned_snapshots: 4,
            damaged_packs: 1,
            log_entries: 64,
            live_chunks: 7,
            live_bytes: 1000,
            ..GcReport::default()
        };
        assert_eq!(
            text(&report),
            "deleted 1 pack, 2.00 kB\n\
             marked 2 packs, 5.00 kB, for a later run to delete\n\
             copied 100 B that are alive out of them\n\
             3 packs, 6.00 kB wait for the next run\n\
             1 pack, 500 B that a repair had set aside, deleted\n\
             1 other is at work; what they may have seen stays\n\
             4 snapshots give up their files; `mmh log` still lists them\n\
             1 pack is damaged, so nothing was deleted; see `mmh verify`\n\
             64 old entries left the log\n\
             7 chunks, 1.00 kB are alive"
        );
        let dry = GcReport {
            dry_run: true,
            ..GcReport::default()
        };
        assert_eq!(
            text(&dry),
            "would delete 0 packs, 0 B\n0 chunks, 0 B are alive"
        );
    }
}

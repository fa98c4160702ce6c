//! `stat`: where the bytes are saved.

use std::io::{self, Write};

use mmh_core::name::Target;
use mmh_repo::StatReport;
use mmh_repo::stat::Saving;

use crate::failure::Failure;
use crate::output::{DIM, HEAD, count, percent, signed_size, size, styled, table};
use crate::session::Session;

/// The columns of a saving; the first is for what it is of.
const HEADS: [&str; 7] = ["", "raw", "stored", "%", "duplicates", "coding", "deltas"];
/// The columns that are numbers.
const RIGHT: [usize; 7] = [1, 2, 3, 4, 5, 6, 7];

/// Reports on some targets, or on everything.
pub(crate) fn stat(session: &Session, targets: &[Target], files: bool) -> Result<(), Failure> {
    let report = session
        .open()?
        .stat(targets, files || session.output.json)?;
    session
        .output
        .report(&report, |out| print(out, &report, files))
}

fn row(name: &str, s: &Saving) -> Vec<String> {
    vec![
        name.to_owned(),
        size(s.raw),
        size(s.stored),
        percent(s.stored, s.raw),
        size(s.duplicates),
        signed_size(s.coding),
        size(s.delta),
    ]
}

fn print(out: &mut dyn Write, report: &StatReport, files: bool) -> io::Result<()> {
    if files && !report.files.is_empty() {
        print_files(out, report)?;
    }
    if report.names.len() > 1 {
        print_names(out, report)?;
    }
    let mut heads = HEADS;
    heads[0] = "together";
    table(out, &heads, &RIGHT, &[row("", &report.total)])?;
    let s = &report.total;
    writeln!(
        out,
        "\n{} of {} kept: {} saved as duplicates, {} by coding, {} by deltas, {} by derivation",
        styled(HEAD, size(s.stored)),
        size(s.raw),
        size(s.duplicates),
        signed_size(s.coding),
        size(s.delta),
        size(s.derived),
    )?;
    for (method, m) in &report.methods {
        let line = format!(
            "  {method:<8} {:>15}  {:>9} → {:>9}  {}",
            count(m.chunks, "chunk"),
            size(m.raw),
            size(m.stored),
            percent(m.stored, m.raw)
        );
        writeln!(out, "{}", styled(DIM, line))?;
    }
    writeln!(
        out,
        "{}",
        styled(
            DIM,
            format!(
                "  on disk, with history and indexes: {}",
                size(report.on_disk)
            )
        )
    )
}

fn print_files(out: &mut dyn Write, report: &StatReport) -> io::Result<()> {
    let many = report.names.len() > 1;
    let rows: Vec<_> = report
        .files
        .iter()
        .map(|f| {
            let name = if many {
                format!("{}:{}", f.name, f.path)
            } else {
                f.path.clone()
            };
            let mut row = row(&name, &f.saving);
            row.push(f.container.to_string());
            row
        })
        .collect();
    let heads = [
        "file",
        "raw",
        "stored",
        "%",
        "duplicates",
        "coding",
        "deltas",
        "container",
    ];
    table(out, &heads, &RIGHT[..6], &rows)?;
    writeln!(out)
}

fn print_names(out: &mut dyn Write, report: &StatReport) -> io::Result<()> {
    let rows: Vec<_> = report
        .names
        .iter()
        .map(|n| {
            let mut row = row(&n.name, &n.alone);
            row.push(size(n.shared));
            row
        })
        .collect();
    let heads = [
        "name (counted alone)",
        "raw",
        "stored",
        "%",
        "duplicates",
        "coding",
        "deltas",
        "shared",
    ];
    table(out, &heads, &RIGHT, &rows)?;
    writeln!(out)
}

//! `inspect`: a file's container and tensors, and what coding would make of them.

use std::path::{Path, PathBuf};

use mmh_repo::inspect::PartReport;

use crate::failure::Failure;
use crate::output::{DIM, HEAD, percent, plain, size, styled, table};
use crate::session::Session;

/// Inspects a file outside the repository.
pub(crate) fn inspect(session: &Session, file: &Path, bases: &[PathBuf]) -> Result<(), Failure> {
    let report = mmh_repo::inspect(file, bases, session.settings(), session.components())?;
    session.output.report(&report, |out| {
        let row = |p: &PartReport| {
            let bits = |bits: f64| format!("{bits:.2}");
            let (before, after) = p
                .bits_per_weight()
                .map_or_else(Default::default, |(a, b)| (bits(a), bits(b)));
            vec![
                p.name.clone().unwrap_or_else(|| "(other bytes)".to_owned()),
                p.dtype.clone().unwrap_or_default(),
                if p.name.is_some() {
                    format!("{:?}", p.shape)
                } else {
                    String::new()
                },
                size(p.raw),
                percent(p.coded, p.raw),
                before,
                after,
                p.method.clone(),
                p.base.clone().unwrap_or_default(),
                p.coders.join(", "),
            ]
        };
        let rows: Vec<_> = report.parts.iter().map(row).collect();
        let heads = [
            "tensor", "dtype", "shape", "raw", "coded", "bits", "→ bits", "method", "base",
            "coders",
        ];
        table(out, &heads, &[3, 4, 5, 6], &rows)?;
        writeln!(out)?;
        let (raw, coded) = (size(report.raw), size(report.coded));
        let share = percent(report.coded, report.raw);
        writeln!(
            out,
            "{} {raw} → {coded} ({share}), level {}",
            styled(HEAD, &report.container),
            report.level
        )?;
        if let Some(note) = &report.note {
            writeln!(out, "kept as bytes: {}", plain(note))?;
        }
        for external in &report.externals {
            writeln!(
                out,
                "{}",
                styled(DIM, format!("more tensors in {}", plain(external)))
            )?;
        }
        Ok(())
    })
}

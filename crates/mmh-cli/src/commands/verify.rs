//! `verify`: is every byte there and right.

use mmh_core::name::Target;

use crate::failure::Failure;
use crate::output::{BAD, DIM, GOOD, plain, size, styled};
use crate::session::Session;

/// Checks some targets, or everything.
pub(crate) fn verify(session: &Session, targets: &[Target]) -> Result<(), Failure> {
    let repo = session.open()?;
    let report = if targets.is_empty() {
        repo.check_all()?
    } else {
        repo.check_targets(targets)?
    };
    session.output.report(&report, |out| {
        for finding in &report.findings {
            let place = if finding.target.is_empty() {
                "store"
            } else {
                &plain(&finding.target)
            };
            writeln!(
                out,
                "{} {place}: {}",
                styled(BAD, "damaged"),
                plain(&finding.problem)
            )?;
        }
        for remark in &report.remarks {
            writeln!(out, "{}", styled(DIM, remark))?;
        }
        let (files, chunks, bytes) = (report.files, report.chunks, size(report.bytes));
        let read = format!("{files} files, {chunks} chunks, {bytes} compared with their digests");
        if report.is_clean() {
            writeln!(out, "{} {read}", styled(GOOD, "all right:"))
        } else {
            let n = report.findings.len();
            writeln!(
                out,
                "{read}; {}",
                styled(BAD, format!("{n} places do not hold"))
            )
        }
    })?;
    if report.is_clean() {
        Ok(())
    } else {
        let n = report.findings.len();
        // Without `-q` the places were listed already.
        let unseen = session.output.quiet && !session.output.json;
        Err(Failure::Damaged(
            unseen.then(|| format!("{n} places do not hold")),
        ))
    }
}

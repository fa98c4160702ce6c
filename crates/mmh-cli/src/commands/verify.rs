//! `verify`: is every byte there and right; signatures and bundles are in a file of their own.

use mmh_core::name::Target;
use mmh_repo::CheckReport;

use super::sign;
use crate::args::sign::VerifyArgs;
use crate::failure::Failure;
use crate::output::{BAD, DIM, GOOD, count, plain, size, styled, verb};
use crate::session::Session;

/// Checks bytes, signatures or a bundle.
pub(crate) fn verify(session: &Session, args: &VerifyArgs) -> Result<(), Failure> {
    if let (Some(bundle), Some(key)) = (&args.bundle, &args.bundle_key) {
        return sign::bundle(session, &args.targets, bundle, key);
    }
    match args.signatures {
        true => sign::signatures(session, &args.targets),
        false => bytes(session, &args.targets),
    }
}

/// Checks the bytes of some targets, or of everything.
fn bytes(session: &Session, targets: &[Target]) -> Result<(), Failure> {
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
        let (files, chunks) = (count(report.files, "file"), count(report.chunks, "chunk"));
        let bytes = size(report.bytes);
        let read = format!("{files}, {chunks}, {bytes} compared with their digests");
        if report.is_clean() {
            writeln!(out, "{} {read}", styled(GOOD, "all right:"))
        } else {
            writeln!(out, "{read}; {}", styled(BAD, broken(&report)))
        }
    })?;
    if report.is_clean() {
        Ok(())
    } else {
        // Without `-q` the places were listed already.
        let unseen = session.output.quiet && !session.output.json;
        Err(Failure::Damaged(unseen.then(|| broken(&report))))
    }
}

/// `2 places do not hold`.
fn broken(report: &CheckReport) -> String {
    let n = report.findings.len() as u64;
    format!("{} {} not hold", count(n, "place"), verb(n, "does", "do"))
}

#[cfg(test)]
mod tests {
    use mmh_repo::check::Finding;

    use super::*;

    #[test]
    fn one_place_does_and_two_do() {
        let finding = Finding {
            target: String::new(),
            problem: String::new(),
        };
        let mut report = CheckReport::default();
        report.findings.push(finding.clone());
        assert_eq!(broken(&report), "1 place does not hold");
        report.findings.push(finding);
        assert_eq!(broken(&report), "2 places do not hold");
    }
}

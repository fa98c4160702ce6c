//! `pack` and `unpack`: one portable file.

use std::path::Path;

use mmh_repo::{PackOptions, UnpackOptions};

use crate::failure::Failure;
use crate::output::{DIM, GOOD, count, percent, plain, size, styled};
use crate::session::Session;

/// Packs a file or folder.
pub(crate) fn pack(
    session: &Session,
    input: &Path,
    output: &Path,
    options: &PackOptions,
) -> Result<(), Failure> {
    let (settings, components) = (session.settings(), session.components());
    let report = mmh_repo::pack(input, output, options, settings, components)?;
    session.output.report(&report, |out| {
        for skipped in &report.skipped {
            writeln!(
                out,
                "  {}",
                styled(DIM, format!("left out: {}", plain(skipped)))
            )?;
        }
        let (raw, stored) = (size(report.raw), size(report.stored));
        let share = percent(report.stored, report.raw);
        writeln!(
            out,
            "{} {}, {raw} → {stored} ({share})",
            styled(GOOD, "packed"),
            count(report.files, "file")
        )
    })
}

/// Unpacks a `.mmh` file.
pub(crate) fn unpack(
    session: &Session,
    input: &Path,
    output: &Path,
    options: &UnpackOptions,
) -> Result<(), Failure> {
    let (settings, components) = (session.settings(), session.components());
    let report = mmh_repo::unpack(input, output, options, settings, components)?;
    super::files::restored(session, &report)
}

//! `init` and `add`.

use std::path::PathBuf;

use mmh_core::name::Target;
use mmh_repo::keys::{RootSeed, Sealing, SystemEntropy};
use mmh_repo::{AddOptions, Backend, InitOptions, Repository, StripeShape};

use crate::args::keys::SlotArgs;
use crate::failure::Failure;
use crate::output::{DIM, GOOD, HEAD, count_of, percent, plain, size, styled};
use crate::session::Session;

/// Makes a repository.
pub(crate) fn init(
    session: &Session,
    dir: Option<String>,
    slot: Option<&SlotArgs>,
    (parity, stripe): (Option<u32>, Option<StripeShape>),
) -> Result<(), Failure> {
    let set = session.config.repository.as_ref().map(|s| s.value.clone());
    let place = dir.or(set).unwrap_or_else(|| ".".to_owned());
    let backend = Backend::parse(&place, &session.config.access())?;
    let name = backend.name().to_owned();
    let sealing = match slot {
        Some(slot) => Some(Sealing {
            slots: vec![session.keyring.recipients(slot, true)?],
            root: RootSeed::generate(&SystemEntropy).map_err(mmh_repo::Error::from)?,
        }),
        None => None,
    };
    let sealed = sealing.is_some();
    let mut options = InitOptions {
        sealing,
        stripe,
        ..InitOptions::default()
    };
    options.parity = parity.unwrap_or(options.parity);
    Repository::init_with(backend, options, session.settings(), session.components())?;
    let value = serde_json::json!({
        "repository": name, "sealed": sealed, "stripe": stripe.map(|shape| shape.to_string()),
    });
    session.output.report(&value, |out| {
        let what = if sealed {
            "sealed repository"
        } else {
            "repository"
        };
        writeln!(out, "{} {what} in {name}", styled(GOOD, "made a new"))?;
        if let Some(shape) = stripe {
            let (m, n) = (shape.parity, shape.stores());
            let advice = format!("{m} of its {n} stores may be lost; writing needs all of them");
            writeln!(out, "{}", styled(DIM, advice))?;
        }
        if sealed {
            let advice = "who loses all keys loses everything: keep `mmh seed show` on paper";
            writeln!(out, "{}", styled(DIM, advice))?;
        }
        Ok(())
    })
}

/// Adds files to a name.
pub(crate) fn add(
    session: &Session,
    paths: &[PathBuf],
    to: &Target,
    options: AddOptions,
) -> Result<(), Failure> {
    let report = session.open()?.add(paths, to, &options)?;
    let verbose = session.output.verbose > 0;
    session.output.report(&report, |out| {
        for file in &report.files {
            let note = file.note.as_deref();
            if verbose || note.is_some() {
                let (raw, new) = (size(file.size), size(file.new_stored));
                writeln!(
                    out,
                    "  {:<12} {raw:>9} → {new:>9} new  {}",
                    file.container, file.path
                )?;
            }
            if let Some(note) = note {
                writeln!(
                    out,
                    "  {}",
                    styled(DIM, format!("kept as bytes: {}", plain(note)))
                )?;
            }
        }
        for skipped in &report.skipped {
            writeln!(
                out,
                "  {}",
                styled(DIM, format!("left out: {}", plain(skipped)))
            )?;
        }
        let (files, raw) = (count_of(&report.files, "file"), size(report.raw));
        writeln!(
            out,
            "{files}, {raw}; new here {} in {} ({})",
            styled(HEAD, size(report.new_raw)),
            styled(HEAD, size(report.new_stored)),
            percent(report.new_stored, report.new_raw)
        )?;
        if report.changed {
            writeln!(
                out,
                "{} {} {}",
                styled(GOOD, "committed"),
                report.name,
                report.snapshot
            )
        } else {
            writeln!(out, "{} holds exactly this already", report.name)
        }
    })
}

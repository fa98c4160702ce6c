//! `sign`, and `verify` of signatures and bundles.

use std::path::Path;

use mmh_core::ErrorKind;
use mmh_core::name::Target;
use mmh_repo::key_folder::{KeyFolder, KeyProvider};
use mmh_repo::keys::AnyPublicKey;
use mmh_repo::sign::NameSignatures;
use serde_json::json;

use super::signing::chosen;
use crate::args::sign::SignArgs;
use crate::failure::Failure;
use crate::keys::read_secret;
use crate::output::{BAD, DIM, GOOD, ID, plain, styled};
use crate::session::Session;

/// Longest bundle that is read from a file, in bytes.
const BUNDLE_LEN_MAX: u64 = 64 << 20;

/// Signs a snapshot, takes its signatures off, or writes a bundle.
pub(crate) fn sign(session: &Session, args: &SignArgs) -> Result<(), Failure> {
    let repo = session.open_to_look()?;
    let target = &args.target;
    if args.remove {
        repo.unsign(target)?;
        let value = json!({ "unsigned": target.to_string() });
        return session.output.report(&value, |out| {
            writeln!(out, "{} the signatures off {target}", styled(GOOD, "took"))
        });
    }
    let folder = session.key_folder()?;
    if let (Some(file), Some(key)) = (&args.bundle, &args.bundle_key) {
        let key = folder.bundle_signer(&folder.find(key)?.name)?;
        let second = args.key.as_ref().map(|key| folder.find(key)).transpose()?;
        let second = second.map(|info| folder.signer(&info.name)).transpose()?;
        let text = repo.sign_bundle(target, key.as_ref(), second.as_deref())?;
        std::fs::write(file, text).map_err(|e| {
            let what = format!("cannot write {}: {e}", file.display());
            Failure::Other(ErrorKind::of_io(&e), what)
        })?;
        let value = json!({ "bundle": file.display().to_string(), "name": target.to_string() });
        return session.output.report(&value, |out| {
            writeln!(
                out,
                "{} the files of {target} in {}",
                styled(GOOD, "signed"),
                file.display()
            )
        });
    }
    let info = chosen(&folder, args.key.as_deref())?;
    let certificate = folder.certificate_for(&info.id)?;
    let signer = folder.signer(&info.name)?;
    let signed = repo.sign(target, signer.as_ref(), certificate.as_ref())?;
    session.output.report(&signed, |out| {
        writeln!(
            out,
            "{} {target} at {} by {}; {} in all",
            styled(GOOD, "signed"),
            styled(ID, &signed.snapshot),
            info.name,
            match signed.signatures {
                1 => "one signature".to_owned(),
                n => format!("{n} signatures"),
            }
        )
    })
}

/// Says of branches and tags who signed them, and whether that is enough.
pub(crate) fn signatures(session: &Session, targets: &[Target]) -> Result<(), Failure> {
    let repo = session.open_judging()?;
    let all = repo.signatures(targets)?;
    session.output.report(&all, |out| {
        for named in &all {
            let style = match named.status {
                "trusted" | "signed" => GOOD,
                "unsigned" => DIM,
                _ => BAD,
            };
            let name = plain(named.name.strip_prefix("models/").unwrap_or(&named.name));
            writeln!(out, "{:<10} {name}", styled(style, named.status))?;
            for signer in &named.verdict.signers {
                let by = signer
                    .by
                    .as_ref()
                    .map(|root| format!(", certified by {root}"));
                let (called, by) = (plain(&signer.called), plain(&by.unwrap_or_default()));
                writeln!(out, "           {called}: {}{by}", signer.standing)?;
            }
            if let Some(demand) = named
                .verdict
                .demand
                .as_ref()
                .filter(|_| !named.verdict.is_met())
            {
                let who = plain(&demand.keys.join(" or "));
                let (names, need) = (&demand.names, demand.need);
                writeln!(
                    out,
                    "           the rule for {names} asks for {need} of {who}"
                )?;
            }
            if let Some(damage) = &named.damage {
                writeln!(out, "           {}", plain(damage))?;
            }
        }
        Ok(())
    })?;
    verdict(session, &all)
}

/// The status: 5 if something is not signed as the rules demand, 8 if a signature is wrong.
fn verdict(session: &Session, all: &[NameSignatures]) -> Result<(), Failure> {
    let count = |words: &[&str]| all.iter().filter(|n| words.contains(&n.status)).count();
    let (refused, wrong) = (count(&["refused"]), count(&["wrong", "damaged"]));
    if refused > 0 {
        let what = format!(
            "{refused} of {} are not signed as your rules demand",
            all.len()
        );
        return Err(Failure::Other(ErrorKind::Denied, what));
    }
    if wrong > 0 {
        let unseen = session.output.quiet && !session.output.json;
        return Err(Failure::Damaged(
            unseen.then(|| format!("{wrong} have signatures that do not verify")),
        ));
    }
    Ok(())
}

/// Compares a folder with a bundle.
pub(crate) fn bundle(
    session: &Session,
    targets: &[Target],
    bundle: &Path,
    key: &str,
) -> Result<(), Failure> {
    let [target] = targets else {
        return Err(Failure::invalid(
            "a bundle is about one folder: name it".to_owned(),
        ));
    };
    let key = public_key(&session.key_folder()?, key)?;
    let report = session
        .open_to_look()?
        .check_bundle(target, &read_bundle(bundle)?, &key)?;
    session.output.report(&report, |out| {
        for (what, list) in [
            ("changed", &report.changed),
            ("missing", &report.missing),
            ("unsigned", &report.unsigned),
        ] {
            for path in list {
                writeln!(out, "{:<9} {}", styled(BAD, what), plain(path))?;
            }
        }
        let (n, model) = (report.files, plain(&report.model));
        writeln!(out, "{n} files are as they were signed for `{model}`")
    })?;
    let n = report.changed.len() + report.missing.len() + report.unsigned.len();
    match report.is_clean() {
        true => Ok(()),
        false => Err(Failure::Damaged(
            (session.output.quiet && !session.output.json)
                .then(|| format!("{n} files are not as they were signed")),
        )),
    }
}

/// A key by its name here, else from a file.
fn public_key(folder: &KeyFolder, text: &str) -> Result<AnyPublicKey, Failure> {
    if let Ok(info) = folder.find(text) {
        return Ok(folder.public(&info.name)?);
    }
    let pem = read_secret(Path::new(text))?;
    Ok(AnyPublicKey::from_pem(&pem).map_err(mmh_repo::Error::from)?)
}

fn read_bundle(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(BUNDLE_LEN_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(e) => {
            let what = format!("cannot read {}: {e}", path.display());
            Err(Failure::Other(ErrorKind::of_io(&e), what))
        }
    }
}

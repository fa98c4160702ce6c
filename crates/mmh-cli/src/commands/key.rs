//! `key`: who opens a sealed repository; signing keys are in a file of their own.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use mmh_core::ErrorKind;
use mmh_repo::keys::{Identity, SystemEntropy};
use serde_json::json;

use super::signing;
use crate::args::keys::{KeyCommand, SlotArgs};
use crate::failure::Failure;
use crate::output::{DIM, GOOD, plain, styled};
use crate::session::Session;

/// Runs one of the commands.
pub(crate) fn key(session: &Session, command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Create {
            name,
            key_type,
            plain,
        } => signing::create(session, &name, key_type, plain),
        KeyCommand::List => signing::list(session),
        KeyCommand::Export { key, secret } => signing::export(session, &key, secret.as_deref()),
        KeyCommand::Import { files, name } => signing::import(session, &files, name.as_deref()),
        KeyCommand::Certify {
            key,
            root,
            names,
            valid,
            output,
        } => {
            let terms = signing::Offer { names, valid };
            signing::certify(session, (&key, &root), terms, output.as_deref())
        }
        KeyCommand::Delete { name } => signing::delete(session, &name),
        KeyCommand::Slots => slots(session),
        KeyCommand::Add { slot, read_only } => add(session, &slot, read_only),
        KeyCommand::Remove { name, force } => remove(session, &name, force),
        KeyCommand::Generate { file } => generate(session, &file),
    }
}

fn slots(session: &Session) -> Result<(), Failure> {
    let repo = session.open()?;
    repo.key()?;
    let slots = repo.slots()?;
    let types = |slot: &mmh_repo::keys::Slot| slot.recipients().unwrap_or_default();
    let value: Vec<_> = slots
        .iter()
        .map(|slot| json!({ "slot": slot.name, "recipients": types(slot) }))
        .collect();
    session.output.report(&value, |out| {
        for slot in &slots {
            let types = types(slot).join(", ");
            let types = if types.is_empty() {
                "not an age file"
            } else {
                &types
            };
            writeln!(out, "{:<20} {}", slot.name, styled(DIM, plain(types)))?;
        }
        Ok(())
    })
}

fn add(session: &Session, args: &SlotArgs, read_only: bool) -> Result<(), Failure> {
    let repo = session.open()?;
    repo.key()?;
    let (name, recipients) = session.keyring.recipients(args, false)?;
    repo.add_slot(&name, &recipients, read_only)?;
    let value = json!({ "slot": name, "read_only": read_only });
    session.output.report(&value, |out| {
        let what = if read_only {
            "that reads"
        } else {
            "that reads and writes"
        };
        writeln!(out, "{} key slot {name}, {what}", styled(GOOD, "added"))
    })
}

fn remove(session: &Session, name: &str, force: bool) -> Result<(), Failure> {
    let repo = session.open()?;
    let slots = repo.slots()?;
    let is_last = slots.len() == 1 && slots.iter().all(|slot| slot.name == name);
    if is_last && !force {
        let what = "it is the last slot; without one only a seed or its shares open the repository. \
                    Write one down with `mmh seed show`, then use --force";
        return Err(Failure::Other(ErrorKind::Conflict, what.to_owned()));
    }
    repo.remove_slot(name)?;
    session.output.report(&json!({ "removed": name }), |out| {
        writeln!(out, "{} key slot {name}", styled(GOOD, "removed"))?;
        let honest = "whoever opened it before may have kept the key, and reads on";
        writeln!(out, "{}", styled(DIM, honest))
    })
}

fn generate(session: &Session, file: &Path) -> Result<(), Failure> {
    let identity = Identity::generate_hybrid(&SystemEntropy).map_err(mmh_repo::Error::from)?;
    let texts = identity.to_secret_text().zip(identity.recipient());
    let Some((secret, recipient)) = texts else {
        return Err(Failure::invalid("a passphrase has no text".to_owned()));
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let failed = |e: std::io::Error| {
        let what = format!("cannot write {}: {e}", file.display());
        Failure::Other(ErrorKind::of_io(&e), what)
    };
    let mut out = options.open(file).map_err(failed)?;
    let head = format!("# public key: {recipient}\n");
    out.write_all(head.as_bytes())
        .and_then(|()| out.write_all(secret.as_bytes()))
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.sync_all())
        .map_err(failed)?;
    let recipient = recipient.to_string();
    let value = json!({ "file": file.display().to_string(), "recipient": recipient });
    session
        .output
        .report(&value, |out| writeln!(out, "{recipient}"))
}

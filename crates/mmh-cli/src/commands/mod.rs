//! One file a group of commands; each prints by way of [`crate::output`].

mod add;
mod bench;
mod clone;
mod doctor;
mod files;
mod gc;
mod history;
mod inspect;
mod key;
mod mend;
mod mount;
mod portable;
mod seed;
mod serve;
mod serve_nfs;
mod sign;
mod signing;
mod stat;
mod sync;
mod trust;
mod verify;

use std::io::Write;

use clap::CommandFactory;
use mmh_repo::keys::KeySource as _;

use crate::args::{Cli, Command, OpCommand};
use crate::config::{Config, Process, typed};
use crate::failure::Failure;
use crate::keys::Keyring;
use crate::session::Session;

/// Runs the command that was typed.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    if let Command::Completions { shell } = cli.command {
        // By way of memory: the generator itself panics when its reader has gone.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "mmh", &mut script);
        let mut out = std::io::stdout().lock();
        out.write_all(&script)?;
        return Ok(out.flush()?);
    }
    let level = match &cli.command {
        Command::Add { level, .. }
        | Command::Bench { level, .. }
        | Command::Inspect { level, .. }
        | Command::Pack { level, .. } => *level,
        _ => None,
    };
    let config = Config::load(&typed(&cli.global, level), &Process)?;
    let keyring = Keyring::load(&cli.global.keys, &Process);
    let session = Session::start(&cli.global, config, keyring)?;
    let result = dispatch(&session, cli.command);
    session.end();
    result
}

fn dispatch(session: &Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Init {
            dir,
            encrypt,
            slot,
            parity,
            stripe,
        } => {
            if !encrypt && !slot.is_empty() {
                let what = "for whom it is sealed was said, but not --encrypt".to_owned();
                return Err(Failure::invalid(what));
            }
            if !encrypt && session.keyring.expects_sealed() {
                let what = "a key is named, which an open repository would refuse: add --encrypt, or \
                            leave the key out (MMH_IDENTITY, MMH_PASSPHRASE_FILE, MMH_SEED_FILE)";
                return Err(Failure::invalid(what.to_owned()));
            }
            let slot = encrypt.then_some(&slot);
            add::init(session, dir, slot, (parity, stripe))
        }
        Command::Add {
            paths,
            to,
            message,
            replace,
            follow,
            base,
            ..
        } => add::add(
            session,
            &paths,
            &to,
            mmh_repo::AddOptions {
                message,
                replace,
                follow,
                base,
            },
        ),
        Command::Get {
            target,
            dest,
            overwrite,
            unsafe_links,
        } => files::get(session, &target, &dest, overwrite, unsafe_links),
        Command::Cat { target, range } => files::cat(session, &target, range),
        Command::Ls {
            target: None, long, ..
        } => history::names(session, long),
        Command::Ls {
            target: Some(target),
            long,
            recursive,
        } => files::ls(session, &target, long, recursive),
        Command::Log {
            target: Some(target),
            count,
        } => history::log(session, &target, count),
        Command::Log {
            target: None,
            count,
        } => history::operations(session, count),
        Command::Show { target } => history::show(session, &target),
        Command::Diff { old, new } => files::diff(session, &old, &new),
        Command::Branch(args) => history::branch(session, args),
        Command::Tag(args) => history::tag(session, args),
        Command::Rm { target } => history::rm(session, &target),
        Command::Undo => history::undo(session, None),
        Command::Op { command } => match command {
            OpCommand::Log { count } => history::operations(session, count),
            OpCommand::Undo { number } => history::undo(session, number),
        },
        Command::Gc {
            dry_run,
            keep,
            grace,
            undo,
            repack,
        } => {
            let options = mmh_repo::GcOptions {
                grace_ms: grace.ms,
                undo_ms: undo.ms,
                repack_percent: repack,
                dry_run,
                ..mmh_repo::GcOptions::default()
            };
            gc::gc(session, &keep, &options)
        }
        Command::Stat { targets, files } => stat::stat(session, &targets, files),
        Command::Verify(args) => verify::verify(session, &args),
        Command::Sign(args) => sign::sign(session, &args),
        Command::Trust(command) => trust::trust(session, command),
        Command::Scrub { rate, resume } => mend::scrub(session, rate, resume),
        Command::Repair { from } => mend::repair(session, &from),
        Command::Bench {
            file,
            level,
            base,
            rounds,
        } => bench::bench(session, &file, base.as_deref(), level, rounds),
        Command::Inspect { file, base, .. } => inspect::inspect(session, &file, &base),
        Command::Pack {
            input,
            output,
            base,
            digests,
            force,
            ..
        } => {
            let options = mmh_repo::PackOptions {
                bases: base,
                force,
                digests,
            };
            portable::pack(session, &input, &output, &options)
        }
        Command::Unpack {
            input,
            output,
            overwrite,
            unsafe_links,
            base,
        } => {
            let export = mmh_repo::ExportOptions {
                overwrite,
                unsafe_links,
            };
            let bases = base;
            let options = mmh_repo::UnpackOptions { export, bases };
            portable::unpack(session, &input, &output, &options)
        }
        Command::Doctor {
            rebuild_index,
            accept_missing,
        } => doctor::doctor(session, rebuild_index, accept_missing),
        Command::Key(command) => key::key(session, command),
        Command::Seed(command) => seed::seed(session, command),
        Command::Mount(args) => mount::mount(session, &args),
        Command::Commit(args) => mount::commit(session, &args),
        Command::Unmount(args) => mount::unmount(session, &args),
        Command::Prefetch(args) => mount::prefetch(session, &args),
        Command::Cache(command) => mount::cache_command(session, &command),
        Command::Serve(args) => serve::serve(session, &args),
        Command::Token(args) => serve::token(session, &args),
        Command::Sync(args) => sync::sync(session, args),
        Command::Push(args) => sync::send(session, sync::Way::Push, args),
        Command::Pull(args) => sync::send(session, sync::Way::Pull, args),
        Command::Clone(args) => clone::clone(session, &args),
        Command::Remote(command) => sync::remote(session, command),
        Command::Completions { .. } => Ok(()),
    }
}

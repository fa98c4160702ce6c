//! `mount`, `unmount`, `prefetch` and `cache`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmh_core::ErrorKind;
use mmh_core::name::Target;
use mmh_repo::files::{PrefetchReport, Wanted};
use mmh_repo::{FileCache, Repository};
use serde_json::json;

use crate::args::mount::{
    CacheCommand, CacheSize, CommitArgs, MountArgs, PrefetchArgs, UnmountArgs,
};
use crate::failure::Failure;
use crate::output::{DIM, GOOD, count, plain, size, styled};
use crate::session::Session;

/// The folder of whole files, in that of what may be lost.
const FILES: &str = "files";

/// The cache, if there is to be one: of a sealed repository only if it was asked for.
pub(crate) fn cache(
    session: &Session,
    repo: &Repository,
    asked: CacheSize,
) -> Result<Option<FileCache>, Failure> {
    let by_default = match repo.facts()?.sealed {
        true => 0,
        false => session.config.cache_gib.value << 30,
    };
    let len_max = asked.cache_size.unwrap_or(by_default);
    let folder = folder(session).filter(|_| len_max > 0);
    Ok(folder.map(|folder| FileCache::new(folder, len_max)))
}

fn folder(session: &Session) -> Option<PathBuf> {
    Some(session.config.cache.as_ref()?.value.join(FILES))
}

fn some_cache(
    session: &Session,
    repo: &Repository,
    asked: CacheSize,
) -> Result<FileCache, Failure> {
    cache(session, repo, asked)?.ok_or_else(|| {
        let what = "there is no cache: name its size with --cache-size (files of a sealed repository \
                    lie there in the clear), and its folder with MMH_CACHE";
        Failure::invalid(what.to_owned())
    })
}

/// Fetches files into the cache.
pub(crate) fn prefetch(session: &Session, args: &PrefetchArgs) -> Result<(), Failure> {
    let repo = session.open()?;
    let cache = some_cache(session, &repo, args.cache)?;
    let files = wanted(&repo, args)?;
    let report = repo.prefetch(&files, &cache)?;
    session.output.report(&report, |out| fetched(out, &report))
}

fn fetched(out: &mut dyn std::io::Write, report: &PrefetchReport) -> std::io::Result<()> {
    for skipped in &report.skipped {
        let left = format!("left out: {}", plain(skipped));
        writeln!(out, "  {}", styled(DIM, left))?;
    }
    let (files, bytes) = (count(report.fetched, "file"), size(report.fetched_bytes));
    let kept = match report.kept {
        0 => String::new(),
        n => format!("; {} there already", count(n, "file")),
    };
    writeln!(out, "{} {files}, {bytes}{kept}", styled(GOOD, "fetched"))
}

/// The files at or below a target, or those of them that a profile names.
fn wanted(repo: &Repository, args: &PrefetchArgs) -> Result<Vec<Wanted>, Failure> {
    let files = repo.files_of(&args.target)?;
    let Some(profile) = &args.profile else {
        return Ok(files);
    };
    let text = read_profile(profile)?;
    let mut named: BTreeMap<String, Wanted> =
        files.into_iter().map(|f| (f.path.clone(), f)).collect();
    // A file that is named twice is wanted once.
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.filter_map(|path| named.remove(path)).collect())
}

fn read_profile(profile: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match profile == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(profile).map(|read| text = read),
    };
    read.map_err(|error| {
        let what = format!("cannot read {}: {error}", profile.display());
        Failure::Other(ErrorKind::of_io(&error), what)
    })?;
    Ok(text)
}

/// Looks into the cache, or changes it.
pub(crate) fn cache_command(session: &Session, command: &CacheCommand) -> Result<(), Failure> {
    match command {
        CacheCommand::Pin(args) => pin(session, args),
        CacheCommand::Unpin { target } => unpin(session, target),
        CacheCommand::Stat => {
            let cache = whichever(session)?;
            let stat = cache.stat();
            let folder = cache.folder().display().to_string();
            let value = json!({
                "folder": folder, "files": stat.files, "bytes": stat.bytes,
                "pinned_files": stat.pinned_files, "pinned_bytes": stat.pinned_bytes,
                "partial_bytes": stat.partial_bytes, "bytes_max": cache.len_max(),
            });
            session.output.report(&value, |out| {
                let (files, bytes) = (count(stat.files, "file"), size(stat.bytes));
                let most = size(cache.len_max());
                writeln!(out, "{files}, {bytes} of {most} in {}", plain(&folder))?;
                if stat.pinned_files > 0 {
                    let pinned = count(stat.pinned_files, "file");
                    writeln!(out, "pinned: {pinned}, {}", size(stat.pinned_bytes))?;
                }
                Ok(())
            })
        }
        CacheCommand::Clear { pinned } => {
            let removed = whichever(session)?.clear(*pinned);
            let value = json!({ "removed": removed.files, "bytes": removed.bytes });
            session.output.report(&value, |out| {
                let (files, bytes) = (count(removed.files, "file"), size(removed.bytes));
                writeln!(out, "{} {files}, {bytes}", styled(GOOD, "removed"))
            })
        }
    }
}

/// The cache whatever the repository is: there need not be one.
fn whichever(session: &Session) -> Result<FileCache, Failure> {
    let folder = folder(session);
    let folder = folder.ok_or_else(|| {
        Failure::invalid("there is no folder for a cache: name one with MMH_CACHE".to_owned())
    })?;
    let len_max = session.config.cache_gib.value << 30;
    Ok(FileCache::new(folder, len_max))
}

fn pin(session: &Session, args: &PrefetchArgs) -> Result<(), Failure> {
    let repo = session.open()?;
    let cache = some_cache(session, &repo, args.cache)?;
    let files = wanted(&repo, args)?;
    // Before they are there, so that none pushes another out.
    for file in &files {
        if let Some(digest) = repo.digest_of(file.id)? {
            cache
                .pin(&digest)
                .map_err(|error| unchanged(&cache, &error))?;
        }
    }
    let report = repo.prefetch(&files, &cache)?;
    session.output.report(&report, |out| fetched(out, &report))
}

fn unpin(session: &Session, target: &Target) -> Result<(), Failure> {
    let repo = session.open()?;
    let cache = whichever(session)?;
    let mut n = 0u64;
    for file in repo.files_of(target)? {
        if let Some(digest) = repo.digest_of(file.id)? {
            let was = cache.unpin(&digest);
            n += u64::from(was.map_err(|error| unchanged(&cache, &error))?);
        }
    }
    session.output.report(&json!({ "unpinned": n }), |out| {
        writeln!(out, "{} {}", styled(GOOD, "unpinned"), count(n, "file"))
    })
}

fn unchanged(cache: &FileCache, error: &std::io::Error) -> Failure {
    let what = format!("cannot change {}: {error}", cache.folder().display());
    Failure::Other(ErrorKind::of_io(error), what)
}

#[cfg(target_os = "linux")]
mod here {
    use std::os::unix::fs::MetadataExt as _;

    use mmh_mount::{Files, Mount, MountOptions, Staging, Stop, View, ViewOptions, Work};
    use mmh_repo::CommitReport;

    use super::*;
    use crate::commands::serve::signals;
    use crate::config::{Process, state_folder};
    use crate::output::ID;

    impl From<mmh_mount::Error> for Failure {
        fn from(error: mmh_mount::Error) -> Self {
            match error {
                mmh_mount::Error::Repo(error) => Self::Repo(error),
                other => Self::Other(other.kind(), other.to_string()),
            }
        }
    }

    /// Threads that answer the kernel for each that computes: they mostly wait.
    const THREADS_EACH: usize = 2;

    /// Mounts and serves until it is unmounted or asked to stop.
    pub(crate) fn mount(session: &Session, args: &MountArgs) -> Result<(), Failure> {
        let repo = Arc::new(session.open()?);
        let cache = cache(session, &repo, args.cache)?.map(Arc::new);
        match &args.rw {
            Some(name) => mount_work(session, args, name, (repo, cache)),
            None => mount_view(session, args, (repo, cache)),
        }
    }

    type Opened = (Arc<Repository>, Option<Arc<FileCache>>);

    fn mount_view(
        session: &Session,
        args: &MountArgs,
        (repo, cache): Opened,
    ) -> Result<(), Failure> {
        let owner = std::fs::metadata("/proc/self").map(|meta| (meta.uid(), meta.gid()));
        let options = ViewOptions {
            target: args.target.clone(),
            cache: cache.clone(),
            memory_len: args.memory,
            owner: owner.unwrap_or_default(),
            now_ms: session.components().clock.now_ms(),
            shown: None,
        };
        let view = View::new(repo, options)?;
        let target = args.target.as_ref().map(ToString::to_string);
        let said = json!({ "cache_bytes_max": cache.map_or(0, |cache| cache.len_max()) });
        serve(session, args, (view, target), &said)
    }

    /// Mounts a workspace, and commits at the end if that was asked for.
    fn mount_work(
        session: &Session,
        args: &MountArgs,
        name: &Target,
        (repo, cache): Opened,
    ) -> Result<(), Failure> {
        let works = state_folder(&Process).map(|folder| folder.join("work"));
        let works = works.ok_or_else(|| {
            let what = "there is no folder for what is changed: set XDG_STATE_HOME or HOME";
            Failure::invalid(what.to_owned())
        })?;
        let place = session.place()?.value;
        let place = std::fs::canonicalize(&place).map_or(place, |at| at.display().to_string());
        let of = (repo.as_ref(), place.as_str());
        let (staging, found) = Staging::open(&works, of, name, args.discard)?;
        let said = json!({ "recovered": found.recovered, "staging": staging.folder() });
        if found.recovered {
            let what =
                "there are changes from before, which were not committed: they are there again";
            session.output.note(what);
        }
        let shown = Some(staging.name().to_owned());
        let work = Work::new(repo, staging, args.memory, cache)?;
        let staging = work.staging();
        serve(session, args, (work, shown), &said)?;
        if args.commit {
            let repo = session.open_to_finish()?;
            let report = Staging::again(&staging)?.commit(&repo, None)?;
            committed(session, &report)?;
        }
        Ok(())
    }

    /// Mounts a file system, says so, and answers until it is unmounted or asked to stop.
    fn serve(
        session: &Session,
        args: &MountArgs,
        (files, target): (impl Files, Option<String>),
        more: &serde_json::Value,
    ) -> Result<(), Failure> {
        let place = session.place()?.value;
        let shown = target.as_deref().unwrap_or(&place).to_owned();
        let options = MountOptions {
            source: shown.clone(),
            writes: args.rw.is_some(),
            others: args.others,
            threads: 2 + THREADS_EACH * session.config.threads.value,
            passthrough: !args.no_passthrough,
        };
        let runtime = session.components().runtime;
        // Before anybody can use it, so that no signal is missed.
        let asked = runtime.block_on(async { signals() })?;
        let mount = Mount::new(files, &args.dir, &options)?;
        let at = mount.place().display().to_string();
        let mut value = json!({
            "mounted": at, "repository": place, "target": target, "writes": options.writes,
        });
        if let (Some(value), Some(more)) = (value.as_object_mut(), more.as_object()) {
            value.extend(more.clone());
        }
        session.output.report(&value, |out| {
            writeln!(out, "{} {} at", styled(GOOD, "mounted"), plain(&shown))?;
            writeln!(out, "{}", styled(ID, plain(&at)))?;
            let how = "until Ctrl-C or `mmh unmount`";
            writeln!(out, "{}", styled(DIM, how))
        })?;
        let busy = || {
            let what =
                "it is in use: its folder is empty now, and it ends when its files are closed";
            session.output.note(what);
        };
        match runtime.block_on(mount.wait(asked, busy))? {
            Stop::Asked | Stop::Unmounted => Ok(()),
        }
    }

    /// Commits what was changed in a mounted workspace.
    pub(crate) fn commit(session: &Session, args: &CommitArgs) -> Result<(), Failure> {
        let mut staging = Staging::of_mounted(&args.dir)?;
        let repo = match session.config.repository {
            Some(_) => session.open()?,
            None => session.open_other(staging.place())?,
        };
        let report = staging.commit(&repo, args.message.clone())?;
        committed(session, &report)
    }

    fn committed(session: &Session, report: &CommitReport) -> Result<(), Failure> {
        session.output.report(report, |out| {
            for skipped in &report.skipped {
                let left = format!("left out: {}", plain(skipped));
                writeln!(out, "  {}", styled(DIM, left))?;
            }
            if !report.changed {
                return writeln!(out, "nothing has changed");
            }
            let (read, new) = (count(report.read, "changed file"), size(report.new_stored));
            let (done, name) = (styled(GOOD, "committed"), plain(&report.name));
            writeln!(out, "{done} {name}: {read}, {new} new in the repository")
        })
    }

    /// Unmounts.
    pub(crate) fn unmount(session: &Session, args: &UnmountArgs) -> Result<(), Failure> {
        mmh_mount::unmount(&args.dir, args.lazy)?;
        let at = args.dir.display().to_string();
        session.output.report(&json!({ "unmounted": at }), |out| {
            writeln!(out, "{} {}", styled(GOOD, "unmounted"), plain(&at))
        })
    }
}

#[cfg(target_os = "linux")]
pub(crate) use self::here::{commit, mount, unmount};

#[cfg(not(target_os = "linux"))]
fn elsewhere() -> Failure {
    let what = "only Linux can mount; `mmh get` and `mmh serve` work here".to_owned();
    Failure::Other(ErrorKind::Unsupported, what)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn mount(_: &Session, _: &MountArgs) -> Result<(), Failure> {
    Err(elsewhere())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn commit(_: &Session, _: &CommitArgs) -> Result<(), Failure> {
    Err(elsewhere())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn unmount(_: &Session, _: &UnmountArgs) -> Result<(), Failure> {
    Err(elsewhere())
}

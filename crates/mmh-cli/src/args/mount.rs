//! Arguments of mounted folders and of the cache of whole files.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "doc sentences here are help texts"
)]

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mmh_core::name::Target;

/// How much the cache of whole files may hold.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CacheSize {
    /// Bytes of whole decoded files kept on the disk: 500M, 20G, or `off` [default: as MMH_CACHE_GIB
    /// says, 10 GiB; nothing for a sealed repository, as they are kept in the clear]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) cache_size: Option<u64>,
}

/// What is mounted where.
#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    /// An empty folder
    pub(crate) dir: PathBuf,
    /// Only this: NAME[@REV][:PATH] [default: all names, as models/acme/minilm and …/minilm@v1]
    pub(crate) target: Option<Target>,
    /// Let NAME[@BRANCH], or a new name, be changed there; `mmh commit DIR` commits
    #[arg(long, value_name = "NAME", conflicts_with = "target")]
    pub(crate) rw: Option<Target>,
    /// With --rw: commit what was changed when it is unmounted
    #[arg(long, requires = "rw")]
    pub(crate) commit: bool,
    /// With --rw: begin anew, without what was changed and not committed before
    #[arg(long, requires = "rw")]
    pub(crate) discard: bool,
    /// How much is kept
    #[command(flatten)]
    pub(crate) cache: CacheSize,
    /// Bytes of decoded chunks kept in memory
    #[arg(long, value_name = "BYTES", default_value = "256M", value_parser = super::bytes)]
    pub(crate) memory: u64,
    /// Let other users look too
    #[arg(long)]
    pub(crate) others: bool,
    /// Read files of the cache through this program, not by the kernel alone
    #[arg(long)]
    pub(crate) no_passthrough: bool,
}

/// What is unmounted.
#[derive(Debug, Args)]
pub(crate) struct UnmountArgs {
    /// The folder
    pub(crate) dir: PathBuf,
    /// Take it away although it is in use; it ends when it is not any more
    #[arg(long)]
    pub(crate) lazy: bool,
}

/// What is committed.
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// The mounted folder
    pub(crate) dir: PathBuf,
    /// Why
    #[arg(short, long)]
    pub(crate) message: Option<String>,
}

/// What is fetched into the cache.
#[derive(Debug, Args)]
pub(crate) struct PrefetchArgs {
    /// NAME[@REV][:PATH]
    pub(crate) target: Target,
    /// Only the files that this file names, one path a line, in its order; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
    /// How much may be kept
    #[command(flatten)]
    pub(crate) cache: CacheSize,
}

/// What to do with the cache of whole files.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// How much it holds
    Stat,
    /// Remove what is not pinned
    Clear {
        /// And what is
        #[arg(long)]
        pinned: bool,
    },
    /// Fetch files and keep them, whatever else comes
    Pin(PrefetchArgs),
    /// Let pinned files go when their turn comes
    Unpin {
        /// NAME[@REV][:PATH]
        target: Target,
    },
}

fn size(text: &str) -> Result<u64, String> {
    match text {
        "off" | "0" => Ok(0),
        text => super::bytes(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_has_a_size_or_is_off() {
        assert_eq!(
            (size("off"), size("0"), size("2k")),
            (Ok(0), Ok(0), Ok(2000))
        );
        assert!(size("").is_err() && size("on").is_err());
    }
}

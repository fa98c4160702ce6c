//! Arguments of what goes between repositories: `sync`, `push`, `pull`, `clone` and `remote`.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "doc sentences here are help texts: `NAME[@REV]` is no link"
)]

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mmh_core::name::Target;

/// What opens the other repository, if not the same as this one.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct OtherKeys {
    /// A file with age identities that open the other repository
    #[arg(long, value_name = "FILE")]
    pub(crate) other_identity: Vec<PathBuf>,
    /// A file with the passphrase of the other repository
    #[arg(long, value_name = "FILE")]
    pub(crate) other_passphrase_file: Option<PathBuf>,
    /// A file with the seed of the other repository
    #[arg(long, value_name = "FILE")]
    pub(crate) other_seed_file: Option<PathBuf>,
    /// The other repository is not sealed, although this one is
    #[arg(long, conflicts_with_all = ["other_identity", "other_passphrase_file", "other_seed_file"])]
    pub(crate) other_open: bool,
}

impl OtherKeys {
    /// Whether nothing was said: the same keys open both.
    pub(crate) fn is_empty(&self) -> bool {
        let files = self.other_passphrase_file.is_some() || self.other_seed_file.is_some();
        self.other_identity.is_empty() && !files && !self.other_open
    }
}

/// Arguments of `push` and `pull`.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// A remote's name, or a folder or URL [default: `origin`, or the only remote]
    pub(crate) remote: Option<String>,
    /// Only these: NAME, or NAME@REV for one branch or tag
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<Target>,
    /// Move branches and tags even if they then lose what they have there; `undo` there brings it
    /// back
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Remove branches and tags there that are not here
    #[arg(long)]
    pub(crate) prune: bool,
    /// Say what would be done and write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// The other side's keys.
    #[command(flatten)]
    pub(crate) other: OtherKeys,
}

/// Arguments of `sync`.
#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// A folder or URL, or a remote's name
    pub(crate) a: String,
    /// Another
    pub(crate) b: String,
    /// Only these: NAME, or NAME@REV for one branch or tag
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<Target>,
    /// Say what would be done and write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// What opens the second one.
    #[command(flatten)]
    pub(crate) other: OtherKeys,
}

/// Arguments of `clone`.
#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    /// A folder or URL; or a file with a seed, `-` to type it or for standard input
    pub(crate) from: String,
    /// Where the new repository goes
    pub(crate) dir: String,
    /// Only these: NAME, or NAME@REV for one branch or tag; without any the whole repository, with
    /// its operations
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<Target>,
}

/// What to do with remotes.
#[derive(Debug, Subcommand)]
pub(crate) enum RemoteCommand {
    /// List the remotes of this repository
    #[command(visible_alias = "ls")]
    List,
    /// Give a place a name: `mmh remote add backup s3://bucket/models`
    Add {
        /// The name
        name: String,
        /// A folder or URL; without a password, which belongs into variables or files
        place: String,
    },
    /// Forget a remote; nothing there is touched
    Rm {
        /// Its name
        name: String,
    },
}

//! Arguments of `sign`, `trust` and `verify`.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "doc sentences here are help texts: `NAME[@REV]` is no link"
)]

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mmh_core::NamePattern;
use mmh_core::name::{RepoName, Target};

/// What is signed, and by which key.
#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// NAME[@REV]; with --bundle also a folder of it, NAME[@REV]:PATH
    pub(crate) target: Target,
    /// The key that signs, by its name or id [default: your one composite key]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Take all signatures off instead
    #[arg(long, conflicts_with_all = ["key", "bundle"])]
    pub(crate) remove: bool,
    /// Write a bundle of OpenSSF Model Signing to this file instead, which the stock tool verifies:
    /// `model_signing verify key --signature FILE --public_key PEM FOLDER`
    #[arg(long, value_name = "FILE", requires = "bundle_key")]
    pub(crate) bundle: Option<PathBuf>,
    /// The key of the type `p256` that signs the bundle; the key of --key signs it too if one is
    /// named, against quantum computers
    #[arg(long, value_name = "KEY", requires = "bundle")]
    pub(crate) bundle_key: Option<String>,
}

/// What is verified, and how.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// NAME[@REV][:PATH]…; the whole repository without any
    pub(crate) targets: Vec<Target>,
    /// Look at signatures instead: who signed each branch and tag, and what your rules say of it
    #[arg(long)]
    pub(crate) signatures: bool,
    /// Compare a folder with what this bundle of OpenSSF Model Signing says of it
    #[arg(
        long,
        value_name = "FILE",
        requires = "bundle_key",
        conflicts_with = "signatures"
    )]
    pub(crate) bundle: Option<PathBuf>,
    /// A file with the public key that must have signed the bundle, or the name of one of your keys
    #[arg(long, value_name = "KEY", requires = "bundle")]
    pub(crate) bundle_key: Option<String>,
}

/// Rules of trust.
#[derive(Debug, Subcommand)]
pub(crate) enum TrustCommand {
    /// Demand signatures for the names that a pattern means
    ///
    /// Of several patterns that fit a name the most exact one decides alone. A root stands for
    /// every key that it certified for the name. Examples:
    ///   mmh trust add 'acme/*' acme-root
    ///   mmh trust add acme/minilm alice bob --need 2
    #[command(verbatim_doc_comment)]
    Add {
        /// A name, `acme/*` (all below), `datasets/*`, or `*`
        names: NamePattern,
        /// Keys whose signatures count besides those that count already: names or ids of keys that
        /// you have imported
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
        /// How many different keys must have signed [default: as before, else 1]
        #[arg(long, value_name = "N")]
        need: Option<usize>,
    },
    /// List the rules, and the keys that count no more
    List,
    /// Take a rule away, or some keys out of it
    Rm {
        /// The rule's pattern
        names: NamePattern,
        /// Keys to take out; the whole rule without any
        keys: Vec<String>,
    },
    /// Say who must have signed a name, and by which rule
    Show {
        /// The name
        name: RepoName,
    },
    /// Let signatures of a key count no more, whoever certified it; or those of a root
    Revoke {
        /// Its name or id; a whole id if it is not here
        key: String,
        /// Let them count again
        #[arg(long)]
        undo: bool,
    },
}

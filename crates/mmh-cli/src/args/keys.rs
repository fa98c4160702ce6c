//! Arguments that have to do with keys. No secret is ever an argument: every process of the
//! machine could read it there.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "doc sentences here are help texts: `NAME[@REV]` is no link"
)]

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mmh_core::NamePattern;
use mmh_core::name::Target;
use mmh_repo::keys::KeyType;

use super::Span;

/// What opens a sealed repository.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyFiles {
    /// A file with age identities that open a sealed repository [env: MMH_IDENTITY]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub(crate) identity: Vec<PathBuf>,
    /// A file with the passphrase of a sealed repository [env: MMH_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// A file with the seed of a sealed repository, `-` for standard input [env: MMH_SEED_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) seed_file: Option<PathBuf>,
    /// A file with the passphrase of your signing keys [env: MMH_KEY_PASSPHRASE_FILE]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) key_passphrase_file: Option<PathBuf>,
}

/// To whom a new key slot is encrypted; to a passphrase, which is asked for, unless said otherwise.
#[derive(Debug, Args)]
pub(crate) struct SlotArgs {
    /// To this recipient, `age1pq1…` or `age1…`
    #[arg(long, value_name = "RECIPIENT")]
    pub(crate) recipient: Vec<String>,
    /// To the recipients in a file
    #[arg(long, value_name = "FILE")]
    pub(crate) recipients_file: Vec<PathBuf>,
    /// To the passphrase in a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recipient", "recipients_file"])]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Derive from a passphrase with scrypt, which stock age opens, not with Argon2id
    #[arg(long, conflicts_with_all = ["recipient", "recipients_file"])]
    pub(crate) scrypt: bool,
    /// What the slot is called; whoever holds the disk sees it
    #[arg(long = "slot", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

impl SlotArgs {
    /// Whether nothing was said.
    pub(crate) fn is_empty(&self) -> bool {
        let named = self.new_passphrase_file.is_some() || self.name.is_some();
        self.recipient.is_empty() && self.recipients_file.is_empty() && !named && !self.scrypt
    }
}

/// Signing keys; key slots and identities.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a signing key in your configuration folder
    ///
    /// A composite key signs snapshots every day; a root certifies composite keys for decades and is
    /// best kept on another machine; a p256 key signs bundles for the stock tool of OpenSSF Model
    /// Signing. A passphrase, which is asked for or read from --key-passphrase-file, seals it.
    /// Example: mmh key create alice
    Create {
        /// What you call it
        name: String,
        /// What it is for: `composite`, `root` or `p256`
        #[arg(long = "type", value_name = "TYPE", default_value = "composite")]
        key_type: KeyType,
        /// Keep it as it is: whoever reads the file can sign in your name
        #[arg(long)]
        plain: bool,
    },
    /// List signing keys: yours, those you have imported, and their certificates
    List,
    /// Print a public key, for whoever is to trust it
    ///
    /// Example: mmh key export alice > alice.pub
    Export {
        /// The key, by its name or id
        key: String,
        /// Write the secret key, sealed if it is sealed here, to FILE, which must not exist
        #[arg(long, value_name = "FILE")]
        secret: Option<PathBuf>,
    },
    /// Take over public keys, secret keys and certificates
    ///
    /// Ask the owner for the key's id by another way, and compare it with what is printed.
    Import {
        /// Files; `-` for standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// What you call the key [default: the file's name]
        #[arg(long)]
        name: Option<String>,
    },
    /// Say, as a root, that a key may sign
    ///
    /// Readers who trust the root then trust the key, for these names and so long. Certifying again
    /// renews. Example: mmh key certify alice --root acme --names 'acme/*' --valid 52w
    Certify {
        /// The composite key, by its name or id
        key: String,
        /// The root that says so
        #[arg(long, value_name = "KEY")]
        root: String,
        /// Which names it may sign: a name, `acme/*`, or `*`
        #[arg(long, required = true, value_name = "PATTERN")]
        names: Vec<NamePattern>,
        /// For how long, from now on
        #[arg(long, value_name = "TIME", default_value = "365d")]
        valid: Span,
        /// Write the certificate, for the key's owner to import, to FILE, which must not exist
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Delete a signing key; what it signed stays signed
    Delete {
        /// The key's name
        name: String,
    },
    /// List the slots of a sealed repository
    Slots,
    /// Let somebody open the repository; no data is written again
    ///
    /// Example: mmh key add --recipient age1pq1… --slot alice
    Add {
        /// To whom
        #[command(flatten)]
        slot: SlotArgs,
        /// Give a key that reads and does not write
        #[arg(long)]
        read_only: bool,
    },
    /// Take a slot away
    ///
    /// Whoever opened it before may have kept the key and reads on, also what is added later. To
    /// shut somebody out, add the content to a new sealed repository.
    Remove {
        /// The slot's name
        name: String,
        /// Even if it is the last one: then only a seed or its shares open the repository
        #[arg(long)]
        force: bool,
    },
    /// Make an age identity that withstands quantum computers, and print its recipient
    Generate {
        /// The file to write; it must not exist
        file: PathBuf,
    },
}

/// Seeds: a whole repository on a card.
#[derive(Debug, Subcommand)]
pub(crate) enum SeedCommand {
    /// Print the seed of the repository, of a name, or of a snapshot (NAME@REV)
    ///
    /// Who reads it reads everything, whatever its scope, and without --read-only writes too.
    Show {
        /// NAME[@REV]; the whole repository without it
        target: Option<Target>,
        /// Let its holder read and not write
        #[arg(long)]
        read_only: bool,
        /// Where the data may be found, best first [default: where it is now]
        #[arg(long, value_name = "URL")]
        hint: Vec<String>,
    },
    /// Open the repository with a seed and give it a new key slot
    ///
    /// Up to four wrong characters, or eight illegible ones written `?`, are corrected. Use it when
    /// all slots are lost; the data stays as it is. Example: mmh -R backup seed restore card.txt
    Restore {
        /// A file with the seed [default: standard input, or asked for]
        file: Option<PathBuf>,
        /// To whom the new slot is encrypted
        #[command(flatten)]
        slot: SlotArgs,
    },
    /// Split the key into shares, of which some give it back: lists of words (SLIP-39)
    Split {
        /// How many are needed, of how many: K/N
        #[arg(long, value_name = "K/N", value_parser = parts)]
        shares: (u8, u8),
        /// Split the read key instead of the root seed
        #[arg(long)]
        read_only: bool,
    },
    /// Combine shares, one in each line, and print the seed
    Combine {
        /// Files with shares [default: standard input]
        files: Vec<PathBuf>,
        /// The shares are of a read key
        #[arg(long)]
        read_only: bool,
        /// Where the data may be found, best first
        #[arg(long, value_name = "URL")]
        hint: Vec<String>,
    },
}

/// Parses `K/N`.
fn parts(text: &str) -> Result<(u8, u8), String> {
    let (k, n) = text.split_once('/').ok_or("write K/N, such as 3/5")?;
    let number = |text: &str| text.parse::<u8>().map_err(|e| format!("`{text}`: {e}"));
    Ok((number(k)?, number(n)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_two_numbers() {
        assert_eq!(parts("3/5"), Ok((3, 5)));
        for bad in ["", "3", "3/", "/5", "3/5/7", "-1/5", "3/300", "a/b"] {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }
}

//! Arguments as they are typed.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "doc sentences here are help texts: `NAME[@REV]` is no link"
)]

pub(crate) mod keys;
pub(crate) mod mount;
pub(crate) mod serve;
pub(crate) mod sign;
pub(crate) mod sync;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mmh_core::name::Target;
use mmh_core::range::RangeSpec;
use mmh_repo::{Keep, StripeShape};

use mount::{CacheCommand, CommitArgs, MountArgs, PrefetchArgs, UnmountArgs};
use serve::{ServeArgs, TokenArgs};

use keys::{KeyCommand, KeyFiles, SeedCommand, SlotArgs};
use sign::{SignArgs, TrustCommand, VerifyArgs};
use sync::{CloneArgs, RemoteCommand, SendArgs, SyncArgs};

/// One content-addressed repository for models, checkpoints, datasets and knowledge.
///
/// Files keep their exact bytes; tensors that occur again are kept once, the rest is compressed
/// without loss. A NAME is `acme/minilm` (a model), `datasets/squad`, `spaces/…` or `trees/…`;
/// a revision is a branch, a tag or the beginning of a snapshot's id.
#[derive(Debug, Parser)]
#[command(
    name = "mmh",
    version,
    about,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What applies to every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The repository: a folder, a `.mmh` file, or a URL such as `s3://bucket/prefix`, `gs://…`,
    /// `az://…` or `mmhs://PIN@host:port` [default: the nearest folder above with one]
    // Not `global`: after `ls`, `-R` means recursive.
    #[arg(short = 'R', long = "repository", value_name = "URL")]
    pub(crate) repository: Option<String>,
    /// Where the log lives if not beside the packs: `postgres://…`, `etcd://…` or `nats://…`; for
    /// engines that ignore conditions. A password may come from MMH_LOG or PGPASSWORD instead
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) log: Option<String>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more; twice for more still
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Threads for computation [default: all cores]
    #[arg(short = 'j', long, value_name = "N", global = true)]
    pub(crate) threads: Option<usize>,
    /// The entropy coder's engine [default: the fastest that this machine has]
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) engine: Option<String>,
    /// Who you are, for snapshots and the operation log
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) author: Option<String>,
    /// Read names although they are not signed as `mmh trust` demands, to look at them before you
    /// sign
    #[arg(long, global = true)]
    pub(crate) untrusted: bool,
    /// What opens a sealed repository.
    #[command(flatten)]
    pub(crate) keys: KeyFiles,
}

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelArg {
    /// Fastest to write and read.
    Fast,
    /// A good balance.
    Default,
    /// Smallest.
    Archive,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new repository
    ///
    /// With --encrypt it is sealed for its whole life: content, names, sizes and structure.
    /// Examples: mmh init --encrypt; mmh init --encrypt --recipient age1pq1…
    ///
    /// With --stripe it is spread over several folders or buckets, any few of which may be lost.
    /// Example: mmh init --stripe 2+1 /disk1/mmh,/disk2/mmh,s3://bucket/mmh
    Init {
        /// Where [default: -R, else the current folder]; the stores of a stripe with commas
        dir: Option<String>,
        /// Seal everything, for a passphrase or for recipients
        #[arg(long)]
        encrypt: bool,
        /// For whom
        #[command(flatten)]
        slot: SlotArgs,
        /// Parity that heals packs: so many per cent of them, 1 to 50, or `off` [default: 3%]
        #[arg(long, value_name = "N%|off", value_parser = parity)]
        parity: Option<u32>,
        /// Spread over several stores: so many for data, and so many of all that may be lost
        #[arg(long, value_name = "K+M")]
        stripe: Option<StripeShape>,
    },
    /// Add files and folders to a name
    ///
    /// A single folder gives its content; several paths give entries of their own names. They are
    /// put over what the branch holds already. An interrupted add goes on where it stopped.
    Add {
        /// Files and folders
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Where they go: NAME[@BRANCH][:FOLDER]
        #[arg(long, value_name = "NAME")]
        to: Target,
        /// Why
        #[arg(short, long)]
        message: Option<String>,
        /// Code new tensors as differences from those of NAME[@REV][:PATH], instead of from what
        /// the branch holds already and what a model card names as `base_model`
        #[arg(long, value_name = "NAME")]
        base: Option<Target>,
        /// Make the tree exactly this, dropping what else the branch holds
        #[arg(long)]
        replace: bool,
        /// Add what symbolic links point to instead of the links
        #[arg(short = 'L', long)]
        follow: bool,
        /// How hard to compress
        #[arg(short, long)]
        level: Option<LevelArg>,
    },
    /// Restore a name, a folder or a file
    Get {
        /// NAME[@REV][:PATH]
        target: Target,
        /// Where it goes
        dest: PathBuf,
        /// Replace files that differ
        #[arg(long)]
        overwrite: bool,
        /// Restore links that point outside the destination
        #[arg(long)]
        unsafe_links: bool,
    },
    /// Write a file, or a range of it, to standard output
    Cat {
        /// NAME[@REV]:PATH
        target: Target,
        /// First and last byte (A-B), from a byte on (A-), or the last bytes (-N)
        #[arg(long, value_name = "A-B", allow_hyphen_values = true)]
        range: Option<RangeSpec>,
    },
    /// List names, or what a name holds
    Ls {
        /// NAME[@REV][:PATH]; all names without it
        target: Option<Target>,
        /// Sizes, kinds and ids
        #[arg(short, long)]
        long: bool,
        /// Everything below
        #[arg(short = 'R', long)]
        recursive: bool,
    },
    /// The history of a name, or all operations of the repository
    Log {
        /// NAME[@REV]; the operation log without it
        target: Option<Target>,
        /// At most so many entries
        #[arg(short = 'n', long, value_name = "N")]
        count: Option<usize>,
    },
    /// A snapshot with its changes, or a file with its tensors
    Show {
        /// NAME[@REV][:PATH]
        target: Target,
    },
    /// Compare two trees or files
    Diff {
        /// NAME[@REV][:PATH]
        old: Target,
        /// NAME[@REV][:PATH]
        new: Target,
    },
    /// List branches, or create or delete one
    Branch(RefArgs),
    /// List tags, or create or delete one
    Tag(RefArgs),
    /// Remove a path, a branch, a tag or a name; `undo` brings it back
    Rm {
        /// NAME[@REV][:PATH]
        target: Target,
    },
    /// Take back the last operation
    Undo,
    /// Look into the log of operations, or take one of them back
    Op {
        /// What to do
        #[command(subcommand)]
        command: OpCommand,
    },
    /// Free the space of what nothing needs any more
    ///
    /// What branches and tags reach stays, with its history, and what operations need that can
    /// still be undone. Packs that nothing needs are marked first and deleted by a later run, so
    /// that whoever is at work meanwhile loses nothing: run it daily. `--dry-run` only says what
    /// would be done.
    ///
    /// Examples:
    ///   mmh gc --dry-run
    ///   mmh gc --keep last:10,daily:7,weekly:4,monthly:12,yearly:5
    ///   mmh gc --undo 0 --grace 0    (twice: everything that is not named is gone)
    #[command(verbatim_doc_comment)]
    Gc {
        /// Say what would be done and write nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Whose files stay, of each branch's history: `all`, or rules like
        /// `last:10,daily:7,weekly:4,monthly:12,yearly:5`. Tips and tags always stay, and `log`
        /// goes on to list all
        #[arg(long, value_name = "RULES", default_value = "all")]
        keep: Keep,
        /// How long a pack stays after it was found to be of no use
        #[arg(long, value_name = "TIME", default_value = "23h")]
        grace: Span,
        /// How long operations can be undone
        #[arg(long, value_name = "TIME", default_value = "30d")]
        undo: Span,
        /// Write a pack anew if more than this share of it is of no use
        #[arg(long, value_name = "PERCENT", default_value_t = 25,
              value_parser = clap::value_parser!(u8).range(1..=99))]
        repack: u8,
    },
    /// How much is stored, and where the saving comes from
    Stat {
        /// NAME[@REV][:PATH]…; the whole repository without any
        targets: Vec<Target>,
        /// Each file too
        #[arg(short, long)]
        files: bool,
    },
    /// Read everything and compare it with its digests, or look at signatures
    ///
    /// Example: `mmh verify --signatures` tells of every branch and tag who signed it, and ends with
    /// status 5 if one is not signed as your rules demand.
    Verify(VerifyArgs),
    /// Sign a snapshot, so that readers who trust your key know that it is yours
    ///
    /// The signature is kept in the repository and goes with copies of it. Whoever signs vouches for
    /// all files: look at them first (`mmh diff`, `mmh --untrusted get`). Examples:
    ///   mmh sign acme/minilm
    ///   mmh sign acme/minilm@v1 --key release
    ///   mmh sign acme/minilm --bundle model.sig --bundle-key stock
    #[command(verbatim_doc_comment)]
    Sign(SignArgs),
    /// Who may sign which names; what is not signed so is not read
    ///
    /// Rules and keys are yours: they lie in your configuration folder, never in a repository.
    #[command(subcommand)]
    Trust(TrustCommand),
    /// Read every pack at a bounded rate and heal what has rotted
    ///
    /// Nothing is decoded, and no key is needed. What parity cannot heal is told and left for
    /// `repair`. Example: `mmh scrub --rate 50M --resume` from a timer.
    Scrub {
        /// Bytes to read a second at most: 500k, 50M, 1G [default: as fast as it goes]
        #[arg(long, value_name = "BYTES", value_parser = bytes)]
        rate: Option<u64>,
        /// Go on where an earlier scrub was stopped
        #[arg(long)]
        resume: bool,
    },
    /// Mend damage: packs from parity, chunks from other repositories, the index from packs
    ///
    /// What cannot be mended is named, with the files it hits; adding these files again stores
    /// them anew. Damaged packs are kept under `mmh/damaged`.
    /// Example: `mmh repair --from /backup/store`
    Repair {
        /// Another repository to fetch lost chunks from
        #[arg(long, value_name = "STORE")]
        from: Vec<String>,
    },
    /// Look into a file: container, tensors, bits per weight before and after
    Inspect {
        /// A file outside the repository
        file: PathBuf,
        /// Code tensors as differences from those of this file or folder
        #[arg(long, value_name = "FILE")]
        base: Vec<PathBuf>,
        /// How hard to compress
        #[arg(short, long)]
        level: Option<LevelArg>,
    },
    /// Measure size and speed of the codec on a file
    ///
    /// Every chunk is coded as `add` would, decoded and compared, by one thread and in memory;
    /// nothing is stored. Speeds are for a CPU second and do not include reading the file.
    Bench {
        /// A file outside the repository
        file: PathBuf,
        /// How hard to compress [default: all levels, one after the other]
        #[arg(short, long)]
        level: Option<LevelArg>,
        /// An older version of the file, whose tensors differences may be taken from
        #[arg(long, value_name = "FILE")]
        base: Option<PathBuf>,
        /// How many rounds to measure; the median counts, and one round before them does not
        #[arg(short = 'n', long, value_name = "N", default_value_t = 3)]
        rounds: u32,
    },
    /// Pack a file or folder into one portable `.mmh` file
    Pack {
        /// Code tensors as differences from those of this file or folder, which is needed again to
        /// unpack
        #[arg(long, value_name = "FILE")]
        base: Vec<PathBuf>,
        /// Note the BLAKE3 and SHA-256 of each whole file, as `mmh add` does; packing takes longer
        #[arg(long)]
        digests: bool,
        /// Replace OUTPUT if it exists
        #[arg(short, long)]
        force: bool,
        /// How hard to compress
        #[arg(short, long)]
        level: Option<LevelArg>,
        /// A file or folder
        input: PathBuf,
        /// The `.mmh` file to write
        output: PathBuf,
    },
    /// Unpack a `.mmh` file
    Unpack {
        /// What the file was packed on top of
        #[arg(long, value_name = "FILE")]
        base: Vec<PathBuf>,
        /// Replace files that differ
        #[arg(long)]
        overwrite: bool,
        /// Restore links that point outside the destination
        #[arg(long)]
        unsafe_links: bool,
        /// The `.mmh` file
        input: PathBuf,
        /// Where its file or folder goes
        output: PathBuf,
    },
    /// Check the installation, the settings and the repository's health
    Doctor {
        /// Make the index anew from the packs
        #[arg(long)]
        rebuild_index: bool,
        /// With --rebuild-index: go on although packs that the old index names are missing
        #[arg(long, requires = "rebuild_index")]
        accept_missing: bool,
    },
    /// Keys: those that sign (create, list, export, import, certify, delete), and those that open a
    /// sealed repository (slots, add, remove, generate)
    #[command(subcommand)]
    Key(KeyCommand),
    /// A sealed repository on a card: show, restore, split and combine seeds
    #[command(subcommand)]
    Seed(SeedCommand),
    /// Show names as a folder that any program reads, until Ctrl-C or `unmount` (Linux)
    ///
    /// Nothing can be changed there without --rw. What is read is decoded as it is needed and kept
    /// in a cache on the disk; files that are whole there are read as fast as any other. All names
    /// are at models/acme/minilm (the head of `main`) and models/acme/minilm@REV, with %2F for a
    /// slash in REV. It stays in the foreground: put `&` behind it, or make it a service; it says
    /// when it is ready. Files have their id as the attribute user.mmh.id, their snapshot's as
    /// user.mmh.snapshot, and what they take less than their size as user.mmh.saved.
    ///
    /// Examples:
    ///   mmh mount /mnt/models
    ///   mmh mount /mnt/minilm acme/minilm@v1 --cache-size 50G
    ///   mmh mount --rw acme/minilm /mnt/work    (then `mmh commit /mnt/work -m why`)
    #[command(verbatim_doc_comment)]
    Mount(MountArgs),
    /// Commit what was changed in a folder that is mounted with --rw
    ///
    /// Only files that were changed are read. What was written and synced there is on the disk at
    /// once, and is found again by the next `mmh mount --rw`, whatever died.
    /// Example: mmh commit /mnt/work -m "New tokenizer"
    Commit(CommitArgs),
    /// Take a mounted folder away
    ///
    /// Example: mmh unmount /mnt/models
    Unmount(UnmountArgs),
    /// Fetch files into the cache of whole files, so that a mounted folder has them at once
    ///
    /// Examples: mmh prefetch acme/minilm; mmh prefetch acme/minilm --profile files.txt
    Prefetch(PrefetchArgs),
    /// The cache of whole files: look at it, empty it, pin files in it
    ///
    /// Examples: mmh cache stat; mmh cache pin acme/minilm@v1:model.safetensors
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Serve the repository to other machines and to clients of model hubs, until Ctrl-C
    ///
    /// Clients of hubs reach it when HF_ENDPOINT=http://localhost:8080 is set, or what is shown here:
    /// transformers, datasets and the others then read from it and upload to it. Other machines
    /// reach it as `-R mmhs://PIN@host:port`: everything that works on a repository works there
    /// too. The pin is the SHA-256 of its certificate.
    /// Examples: mmh serve; mmh token write tokens.txt laptop;
    /// mmh serve --tokens tokens.txt --listen 0.0.0.0:7443; mmh serve --doors node --anonymous read
    Serve(ServeArgs),
    /// Make a token for a client of `serve`, and add it to a file of tokens
    ///
    /// The file holds digests only. Clients of hubs give the token as HF_TOKEN, nodes as
    /// MMH_NODE_TOKEN; for several nodes as `host:port=token,host:port=token`.
    /// Examples: mmh token read tokens.txt laptop;
    /// mmh token write tokens.txt ci --scope 'models/acme/*'
    Token(TokenArgs),
    /// Bring two repositories to the same state
    ///
    /// Branches move forward on the side that is behind; what diverged is told and left alone
    /// (exit status 6). Only what is missing is sent, as it is stored. Interrupted, it goes on
    /// where it stopped.
    /// Example: mmh sync ~/models s3://bucket/models
    Sync(SyncArgs),
    /// Send names, with all they reach, to another repository
    ///
    /// Examples: mmh push; mmh push backup acme/m; mmh push s3://bucket/models --dry-run
    Push(SendArgs),
    /// Fetch names, with all they reach, from another repository
    ///
    /// Examples: mmh pull; mmh pull backup acme/m@v1; mmh pull ~/models --prune
    Pull(SendArgs),
    /// Copy a repository, from where it is or from where a seed says: same keys, names and history
    ///
    /// Examples: mmh clone s3://bucket/models here; mmh clone card here (a file with a seed);
    /// mmh clone ~/models here --name acme/m
    Clone(CloneArgs),
    /// Name the places that this repository is sent to and fetched from
    #[command(subcommand)]
    Remote(RemoteCommand),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What to do with operations.
#[derive(Debug, Subcommand)]
pub(crate) enum OpCommand {
    /// List operations, newest first
    Log {
        /// At most so many entries
        #[arg(short = 'n', long, value_name = "N")]
        count: Option<usize>,
    },
    /// Take an operation back: `mmh op undo 17`
    Undo {
        /// Its number [default: the last one]
        number: Option<u64>,
    },
}

/// A stretch of time as it is typed: `30d`, `23h`, `90m`, `10s`, `2w`, or `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its length in milliseconds.
    pub(crate) ms: u64,
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is no stretch of time; write `30d`, `23h`, `90m` or `0`");
        if text == "0" {
            return Ok(Self { ms: 0 });
        }
        let units = [
            ('s', 1),
            ('m', 60),
            ('h', 3600),
            ('d', 86_400),
            ('w', 604_800),
        ];
        let unit = units.iter().find(|(unit, _)| text.ends_with(*unit));
        let (_, seconds) = unit.ok_or_else(bad)?;
        let number = &text[..text.len() - 1];
        let number: u64 = match number.bytes().all(|b| b.is_ascii_digit()) {
            true => number.parse().map_err(|_| bad())?,
            false => return Err(bad()),
        };
        let ms = number.checked_mul(seconds * 1000).ok_or_else(bad)?;
        Ok(Self { ms })
    }
}

/// Arguments of `branch` and `tag`.
#[derive(Debug, Args)]
pub(crate) struct RefArgs {
    /// NAME[@REV]: whose, and where a new one begins
    pub(crate) target: Target,
    /// The branch or tag to create; all are listed without it
    pub(crate) new: Option<String>,
    /// Delete it instead
    #[arg(short, long, requires = "new")]
    pub(crate) delete: bool,
}

/// A number of bytes as it is typed, with a decimal unit.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
    let unit = units
        .iter()
        .find_map(|(unit, n)| Some((text.strip_suffix(unit)?, *n)));
    let (digits, n) = unit.unwrap_or((text, 1));
    let count: Option<u64> = digits.parse().ok();
    let product = count.and_then(|count| count.checked_mul(n));
    let refused = || "a number of bytes, such as 500k, 50M or 1G".to_owned();
    product.filter(|bytes| *bytes > 0).ok_or_else(refused)
}

/// Parity as it is typed: `3%`, `3` or `off`.
fn parity(text: &str) -> Result<u32, String> {
    let refused = || "a share is `1%` to `50%`, or `off`".to_owned();
    if text == "off" {
        return Ok(0);
    }
    let digits = text.strip_suffix('%').unwrap_or(text);
    let percent = digits.parse().map_err(|_| refused())?;
    (1..=50)
        .contains(&percent)
        .then_some(percent)
        .ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn parity_is_a_share_or_off() {
        assert_eq!(parity("off"), Ok(0));
        assert_eq!((parity("3%"), parity("50")), (Ok(3), Ok(50)));
        for text in ["", "%", "0", "51%", "-1", "3 %", "on", "4294967297%"] {
            assert!(parity(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_have_decimal_units() {
        assert_eq!((bytes("7"), bytes("500k")), (Ok(7), Ok(500_000)));
        assert_eq!(
            (bytes("50M"), bytes("1G")),
            (Ok(50_000_000), Ok(1_000_000_000))
        );
        for text in ["", "k", "0", "-1", "1.5M", "5 M", "99999999999999G", "M5"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn stretches_of_time_have_a_unit() {
        for (text, seconds) in [("0", 0), ("10s", 10), ("90m", 5400), ("23h", 82_800)] {
            assert_eq!(text.parse::<Span>().unwrap().ms, seconds * 1000, "{text}");
        }
        assert_eq!("2w".parse::<Span>(), "14d".parse::<Span>());
        for text in [
            "",
            "5",
            "d",
            "-1d",
            "+1d",
            "1 d",
            "1y",
            "1.5h",
            "99999999999999999w",
            "1é",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_may_begin_with_a_hyphen() {
        let cli = Cli::try_parse_from(["mmh", "cat", "a/b:c", "--range", "-5"]).unwrap();
        let Command::Cat { range, .. } = cli.command else {
            panic!("not cat")
        };
        assert_eq!(range, Some(RangeSpec::Suffix(5)));
    }
}

//! Arguments of the server and of its tokens.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "doc sentences here are help texts"
)]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::mount::CacheSize;

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    /// Nothing.
    None,
    /// Read.
    Read,
    /// Read and write.
    Write,
    /// Also move and delete whole names by way of the hub.
    Admin,
}

/// Who is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DoorArg {
    /// Other nodes, over HTTPS.
    Node,
    /// Clients of model hubs, over HTTPS and HTTP.
    Hub,
    /// Clients of network file systems, as with `--nfs`.
    Nfs,
}

/// Which variables count besides those of all commands.
const ENVIRONMENT: &str = "\
Environment:
  OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
          A collector of OpenTelemetry (OTLP over HTTP in protobuf) that gets a span for each
          request. Without them nothing is traced. OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
          OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS and OTEL_BSP_MAX_QUEUE_SIZE mean what
          they mean elsewhere; docs/HUB.md has all of them.";

/// How a repository is served.
#[derive(Debug, Args)]
#[command(after_long_help = ENVIRONMENT)]
pub(crate) struct ServeArgs {
    /// Where to listen for HTTPS: nodes and clients of hubs; port 0 takes any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7443")]
    pub(crate) listen: SocketAddr,
    /// Where to listen for HTTP in the clear: clients of hubs on this machine
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) http: SocketAddr,
    /// Listen in the clear on other addresses too, behind a proxy that brings TLS
    #[arg(long)]
    pub(crate) http_anywhere: bool,
    /// Where to serve names as a network file system (NFS version 3) that cannot be written to, for
    /// hosts without FUSE; `--doors nfs` alone takes 127.0.0.1:2049. It asks nobody who they are:
    /// whoever can connect, each user of this machine among them, reads all names but those that are
    /// private or gated
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) nfs: Option<SocketAddr>,
    /// Serve it on other addresses than this machine's own too: in the clear, to all who can connect
    #[arg(long)]
    pub(crate) nfs_anywhere: bool,
    /// Which doors to open
    #[arg(
        long,
        value_enum,
        value_name = "DOOR",
        value_delimiter = ',',
        default_value = "node,hub"
    )]
    pub(crate) doors: Vec<DoorArg>,
    /// A file with the tokens of clients; `mmh token` adds to it
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// What clients without a token may do [default: admin without --tokens on this machine's own
    /// addresses, else none]
    #[arg(long, value_enum, value_name = "ROLE")]
    pub(crate) anonymous: Option<RoleArg>,
    /// A folder for uploads to the hub that no commit has asked for yet [default: in the cache]
    #[arg(long, value_name = "DIR")]
    pub(crate) uploads: Option<PathBuf>,
    /// What that folder may hold, in GiB
    #[arg(long, value_name = "N", default_value = "64",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uploads_gib: u32,
    /// How much of what clients of hubs ask for again is kept whole
    #[command(flatten)]
    pub(crate) cache: CacheSize,
    /// Another hub, such as `https://huggingface.co`: names that are not here come from there when they
    /// are first read, and are served from here after
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
    /// A file with the token for that hub
    #[arg(long, value_name = "FILE", requires = "upstream")]
    pub(crate) upstream_token: Option<PathBuf>,
    /// Change nothing, whatever the tokens say
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Let in clients whose key exchange is without ML-KEM, which a quantum computer may read later
    #[arg(long)]
    pub(crate) classic: bool,
    /// The file with the node's own key, made if there is none [default: node.pem beside the
    /// user's settings]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate", "certificate_key"])]
    pub(crate) node_key: Option<PathBuf>,
    /// A certificate chain in PEM, for clients that go by the system's roots
    #[arg(long, value_name = "FILE", requires = "certificate_key")]
    pub(crate) certificate: Option<PathBuf>,
    /// The key of that certificate in PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) certificate_key: Option<PathBuf>,
    /// Write a line for each request to standard error
    #[arg(long)]
    pub(crate) requests: bool,
    /// Requests a minute that each client may send: each name of tokens, and each address that asks
    /// without one [default: any number]
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<std::num::NonZeroU32>,
    /// Connections at the same time
    #[arg(long, value_name = "N", default_value = "256",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) connections: u32,
}

/// A token that is to be made.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// What its bearer may do
    #[arg(value_enum, value_name = "read|write|admin", value_parser = real_role)]
    pub(crate) role: RoleArg,
    /// The file of tokens, made if there is none
    pub(crate) file: PathBuf,
    /// Whose it is, for logs
    #[arg(default_value = "")]
    pub(crate) name: String,
    /// Only with names that fit, such as `models/acme/*`; may be given several times. Such a token
    /// is for the hub, not for nodes
    #[arg(long, value_name = "PATTERN")]
    pub(crate) scope: Vec<String>,
}

fn real_role(text: &str) -> Result<RoleArg, String> {
    match text {
        "read" => Ok(RoleArg::Read),
        "write" => Ok(RoleArg::Write),
        "admin" => Ok(RoleArg::Admin),
        _ => Err("use `read`, `write` or `admin`".to_owned()),
    }
}

//! Names of a repository as a network file system (NFS version 3, RFC 1813) that cannot be written to.
//!
//! What is shown is that which `mmh mount` shows: [`Handles`] of `mmh-mount`. Here is the protocol
//! alone, of which a server that only reads needs little: records and calls (`record`, `rpc`), a
//! reader and a writer of its encoding (`xdr`), the two programs (`mountd`, `nfs`) and the [`Server`].
//! Nobody is asked who they are: any client that can connect reads everything that is shown.

#![cfg(target_os = "linux")]

mod mountd;
mod nfs;
mod record;
mod rpc;
mod server;
mod xdr;

pub use mmh_mount::Handles;
pub use server::{Limits, Server};

//! The door of `serve` for clients of network file systems.

#[cfg(target_os = "linux")]
pub(super) use self::here::{Nfs, bind};
#[cfg(not(target_os = "linux"))]
pub(super) use self::nowhere::{Nfs, bind};

use std::io;
use std::io::Write;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::args::serve::{DoorArg, ServeArgs};
use crate::output::{DIM, ID, styled};

/// Where it listens unless something else is said.
const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2049);

/// Where it is to listen, if at all.
fn address(args: &ServeArgs) -> Option<SocketAddr> {
    let by_door = args.has(DoorArg::Nfs).then_some(ADDRESS);
    args.nfs.or(by_door)
}

/// How Linux mounts it: both programs are at one port, and there is none for locks.
fn on_linux(at: SocketAddr) -> String {
    let (host, port) = parts(at);
    format!(
        "mount -t nfs -o vers=3,tcp,port={port},mountport={port},mountproto=tcp,nolock,ro \
         {host}:/ /mnt"
    )
}

/// How macOS does.
fn on_macos(at: SocketAddr) -> String {
    let (host, port) = parts(at);
    format!(
        "mount -t nfs -o vers=3,tcp,port={port},mountport={port},nolocks,rdonly {host}:/ /tmp/mmh"
    )
}

/// The host as one that mounts writes it, and the port. Where any address is meant, so is any here.
fn parts(at: SocketAddr) -> (String, u16) {
    let host = match at {
        _ if at.ip().is_unspecified() => "HOST".to_owned(),
        SocketAddr::V4(at) => at.ip().to_string(),
        SocketAddr::V6(at) => format!("[{}]", at.ip()),
    };
    (host, at.port())
}

/// What programs are told.
pub(super) fn said(at: SocketAddr) -> Value {
    json!({ "address": at.to_string(), "linux": on_linux(at), "macos": on_macos(at) })
}

/// What people are told.
pub(super) fn say(out: &mut dyn Write, at: SocketAddr) -> io::Result<()> {
    writeln!(
        out,
        "{}  for network file systems:",
        styled(ID, format!("nfs://{at}"))
    )?;
    writeln!(out, "  {}", on_linux(at))?;
    writeln!(out, "  {}  {}", on_macos(at), styled(DIM, "on macOS"))?;
    let honest = "read only, for everybody who can connect";
    writeln!(out, "{}", styled(DIM, honest))
}

#[cfg(target_os = "linux")]
mod here {
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::Arc;

    use mmh_core::ErrorKind;
    use mmh_mount::{Handles, Shown, View, ViewOptions};
    use mmh_serve::{OpenNames, Role};

    use super::{ServeArgs, address};
    use crate::commands::mount::cache;
    use crate::failure::Failure;
    use crate::session::Session;

    /// The server.
    pub(crate) type Nfs = mmh_nfs::Server;

    /// Bytes of decoded chunks in memory.
    const MEMORY_LEN: u64 = 256 << 20;
    /// Most connections: each may hold some mebibytes.
    const CONNECTIONS_MAX: usize = 64;
    /// Calls that are worked on for each thread that computes: they mostly wait.
    const CALLS_EACH: usize = 4;

    /// Listens, if that is asked for and allowed.
    pub(crate) async fn bind(
        session: &Session,
        args: &ServeArgs,
        anonymous: Role,
    ) -> Result<Option<Nfs>, Failure> {
        let Some(at) = address(args) else {
            return Ok(None);
        };
        let limits = mmh_nfs::Limits {
            connections: usize::try_from(args.connections)
                .unwrap_or(CONNECTIONS_MAX)
                .min(CONNECTIONS_MAX),
            calls: 4 + CALLS_EACH * session.config.threads.value,
            ..mmh_nfs::Limits::default()
        };
        allowed(args, anonymous)?;
        // Opening a repository waits, which may not be done here.
        let handles = tokio::task::block_in_place(|| handles(session, args))?;
        let server = mmh_nfs::Server::bind(at, handles, limits).await;
        server.map(Some).map_err(|error| {
            let what = format!("cannot listen at {at}: {error}");
            Failure::Other(ErrorKind::of_io(&error), what)
        })
    }

    fn allowed(args: &ServeArgs, anonymous: Role) -> Result<(), Failure> {
        if address(args).is_some_and(|at| !at.ip().is_loopback()) && !args.nfs_anywhere {
            let what = "NFS asks nobody who they are, and everything would pass in the clear: listen \
                        on 127.0.0.1 or [::1]; --nfs-anywhere listens all the same";
            return Err(Failure::invalid(what.to_owned()));
        }
        if anonymous < Role::Reader {
            let what = "clients of NFS have no tokens, and without one nobody may read: say \
                        --anonymous read, or leave --nfs out";
            return Err(Failure::invalid(what.to_owned()));
        }
        Ok(())
    }

    fn handles(session: &Session, args: &ServeArgs) -> Result<Handles, Failure> {
        let repo = Arc::new(session.open_to_serve()?);
        let open = OpenNames::new(Arc::clone(&repo));
        let owner = std::fs::metadata("/proc/self").map(|meta| (meta.uid(), meta.gid()));
        let options = ViewOptions {
            target: None,
            cache: cache(session, &repo, args.cache)?.map(Arc::new),
            memory_len: MEMORY_LEN,
            owner: owner.unwrap_or_default(),
            now_ms: session.components().clock.now_ms(),
            shown: Some(Shown::new(move |refs, name| open.has(refs, name))),
        };
        Ok(Handles::new(View::new(repo, options)?))
    }
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use std::net::SocketAddr;

    use mmh_core::ErrorKind;
    use mmh_serve::Role;

    use super::{ServeArgs, address};
    use crate::failure::Failure;
    use crate::session::Session;

    /// There is none.
    pub(crate) enum Nfs {}

    impl Nfs {
        pub(crate) fn address(&self) -> SocketAddr {
            match *self {}
        }

        #[allow(clippy::unused_async, reason = "it is where there is a server")]
        pub(crate) async fn run(self, _: impl Future<Output = ()>) -> usize {
            match self {}
        }
    }

    #[allow(clippy::unused_async, reason = "it is where there is a server")]
    pub(crate) async fn bind(
        _: &Session,
        args: &ServeArgs,
        _: Role,
    ) -> Result<Option<Nfs>, Failure> {
        if address(args).is_none() {
            return Ok(None);
        }
        let what = "only Linux can serve NFS; clients of any system can mount it".to_owned();
        Err(Failure::Other(ErrorKind::Unsupported, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_host_and_both_ports() {
        let at = "[::1]:7".parse().unwrap();
        let linux = "mount -t nfs -o vers=3,tcp,port=7,mountport=7,mountproto=tcp,nolock,ro [::1]:/ \
                     /mnt";
        assert_eq!(said(at)["linux"], linux);
        let any = "0.0.0.0:2049".parse().unwrap();
        assert!(on_macos(any).contains(" HOST:/ "));
    }
}

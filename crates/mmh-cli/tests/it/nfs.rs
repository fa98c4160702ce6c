//! `mmh serve --nfs`: clients that are not ours read every byte, and hostile ones do no harm.

#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nfs3_client::nfs3_types::nfs3::{
    GETATTR3args, LOOKUP3args, MKDIR3args, NFS3_FHSIZE, Nfs3Option, Nfs3Result, READ3args,
    READDIRPLUS3args, READLINK3args, REMOVE3args, WRITE3args, cookieverf3, diropargs3, nfs_fh3,
    nfsstat3, sattr3, stable_how,
};
use nfs3_client::nfs3_types::xdr_codec::Opaque;
use nfs3_client::tokio::{TokioConnector, TokioIo};
use nfs3_client::{Nfs3Connection, Nfs3ConnectionBuilder};
use tokio::runtime::Runtime;

use crate::served::Server;
use crate::support::{Scratch, noise};

const DOOR: [&str; 4] = ["--doors", "nfs", "--nfs", "127.0.0.1:0"];

/// A client of another project, at one server.
struct Client {
    runtime: Runtime,
    connection: Nfs3Connection<TokioIo<tokio::net::TcpStream>>,
}

impl Client {
    fn mount(at: SocketAddr, path: &str) -> Option<Self> {
        let runtime = Runtime::new().unwrap();
        let mount = Nfs3ConnectionBuilder::new(TokioConnector, at.ip().to_string(), path)
            .connect_from_privileged_port(false)
            .nfs3_port(at.port())
            .mount_port(at.port())
            .mount();
        let connection = runtime.block_on(mount).ok()?;
        Some(Self {
            runtime,
            connection,
        })
    }

    fn root(&self) -> nfs_fh3 {
        self.connection.root_nfs_fh3()
    }

    fn lookup(&mut self, dir: nfs_fh3, name: &str) -> Result<nfs_fh3, nfsstat3> {
        let args = LOOKUP3args {
            what: named(dir, name),
        };
        let found = self.runtime.block_on(self.connection.lookup(&args));
        match found.unwrap() {
            Nfs3Result::Ok(found) => Ok(found.object),
            Nfs3Result::Err((status, _)) => Err(status),
        }
    }

    fn walk(&mut self, path: &str) -> nfs_fh3 {
        let mut at = self.root();
        for name in path.split('/') {
            at = self.lookup(at, name).unwrap();
        }
        at
    }

    fn read(
        &mut self,
        file: &nfs_fh3,
        offset: u64,
        count: u32,
    ) -> Result<(Vec<u8>, bool), nfsstat3> {
        let args = READ3args {
            file: file.clone(),
            offset,
            count,
        };
        match self.runtime.block_on(self.connection.read(&args)).unwrap() {
            Nfs3Result::Ok(read) => {
                assert_eq!(read.count as usize, read.data.len());
                Ok((read.data.into_owned(), read.eof))
            }
            Nfs3Result::Err((status, _)) => Err(status),
        }
    }

    fn read_all(&mut self, file: &nfs_fh3) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let (more, end) = self.read(file, bytes.len() as u64, 1 << 20).unwrap();
            bytes.extend(more);
            if end {
                return bytes;
            }
        }
    }

    /// All names of a folder with their inodes, in parts of `len` bytes; and how many parts.
    fn list(&mut self, dir: &nfs_fh3, len: u32) -> (Vec<(String, u64)>, usize) {
        let (mut names, mut parts) = (Vec::new(), 0);
        let (mut cookie, mut cookieverf) = (0, cookieverf3::default());
        loop {
            let args = READDIRPLUS3args {
                dir: dir.clone(),
                cookie,
                cookieverf,
                dircount: len,
                maxcount: len,
            };
            let part = self.runtime.block_on(self.connection.readdirplus(&args));
            let part = part.unwrap().unwrap();
            parts += 1;
            cookieverf = part.cookieverf;
            for entry in part.reply.entries.into_inner() {
                cookie = entry.cookie;
                let name = String::from_utf8(entry.name.0.into_owned()).unwrap();
                if let Nfs3Option::Some(attr) = &entry.name_attributes {
                    assert_eq!(attr.fileid, entry.fileid, "{name}");
                }
                names.push((name, entry.fileid));
            }
            if part.reply.eof {
                return (names, parts);
            }
        }
    }

    fn status(&mut self, handle: &nfs_fh3) -> (nfsstat3, u64) {
        let object = handle.clone();
        let args = GETATTR3args { object };
        let attr = self.connection.getattr(&args);
        match self.runtime.block_on(attr).unwrap() {
            Nfs3Result::Ok(found) => (nfsstat3::NFS3_OK, found.obj_attributes.fileid),
            Nfs3Result::Err((status, _)) => (status, 0),
        }
    }
}

fn named(dir: nfs_fh3, name: &str) -> diropargs3<'static> {
    let name = name.as_bytes().to_vec().into();
    diropargs3 { dir, name }
}

fn handle(bytes: Vec<u8>) -> nfs_fh3 {
    let data = Opaque::owned(bytes);
    nfs_fh3 { data }
}

fn status<T, E>(result: Nfs3Result<T, E>) -> nfsstat3 {
    match result {
        Nfs3Result::Ok(_) => nfsstat3::NFS3_OK,
        Nfs3Result::Err((status, _)) => status,
    }
}

/// A repository with a model in it.
fn sample() -> (Scratch, Vec<u8>) {
    let s = Scratch::new();
    let bytes = noise(5_000_001, 3);
    s.write("m/model.bin", &bytes);
    s.write("m/sub/config.json", b"{}");
    std::os::unix::fs::symlink("sub/config.json", s.path("m/link")).unwrap();
    s.ok(&["add", "m", "--to", "acme/m"]);
    (s, bytes)
}

#[test]
fn every_byte_is_read_and_handles_outlive_the_server() {
    let (s, bytes) = sample();
    let server = Server::start_doors(&s, &DOOR);
    let mut client = Client::mount(server.nfs.unwrap(), "/").unwrap();
    let model = client.walk("models/acme/m/model.bin");
    assert!(client.read_all(&model) == bytes);
    let config = client.walk("models/acme/m@main/sub/config.json");
    assert_eq!(client.read_all(&config), b"{}");
    let symlink = client.walk("models/acme/m/link");
    let args = READLINK3args { symlink };
    let link = client.connection.readlink(&args);
    let target = client.runtime.block_on(link).unwrap().unwrap().data;
    assert_eq!(target.as_ref(), b"sub/config.json");
    // Ranges: unaligned, across the end, at it, and far beyond.
    for (offset, count) in [(1, 7), (999_999, 300_001), (4_999_990, 100), (4_999_999, 2)] {
        let (read, end) = client.read(&model, offset, count).unwrap();
        let at = usize::try_from(offset).unwrap();
        let to = (at + count as usize).min(bytes.len());
        assert!(read == bytes[at..to], "{offset} {count}");
        assert_eq!(end, to == bytes.len(), "{offset} {count}");
    }
    for offset in [bytes.len() as u64, u64::MAX] {
        assert_eq!(client.read(&model, offset, 9), Ok((Vec::new(), true)));
    }
    let folder = client.walk("models/acme/m");
    assert_eq!(client.read(&folder, 0, 1), Err(nfsstat3::NFS3ERR_INVAL));
    let none = client.lookup(folder.clone(), "none");
    assert_eq!(none, Err(nfsstat3::NFS3ERR_NOENT));
    let long = client.lookup(folder.clone(), &"n".repeat(256));
    assert_eq!(long, Err(nfsstat3::NFS3ERR_NAMETOOLONG));
    let up = client.lookup(folder.clone(), "..").unwrap();
    assert_eq!(up, client.walk("models/acme"));
    let numbers = [&model, &config, &folder].map(|of| client.status(of));
    drop(client);
    server.stop();
    // The branch moves on; what a handle stands for does not.
    s.write("m/model.bin", b"another");
    s.write("m/a-new-first-file", b"1");
    s.ok(&["add", "m", "--to", "acme/m"]);
    let server = Server::start_doors(&s, &DOOR);
    let mut client = Client::mount(server.nfs.unwrap(), "/models/acme").unwrap();
    assert!(client.read_all(&model) == bytes);
    assert_eq!(client.read_all(&config), b"{}");
    assert_eq!(
        [&model, &config, &folder].map(|of| client.status(of)),
        numbers
    );
    let at = client.walk("m/model.bin");
    assert_eq!(client.read_all(&at), b"another");
    assert!(Client::mount(server.nfs.unwrap(), "/models/acme/m/model.bin").is_none());
    assert!(Client::mount(server.nfs.unwrap(), "/none").is_none());
    server.stop();
}

#[test]
fn thousands_of_names_come_in_parts() {
    let s = Scratch::new();
    let mut expected = BTreeSet::from([".".to_owned(), "..".to_owned()]);
    for n in 0..3000 {
        let name = format!("file-{n:04}-{}", "x".repeat(n % 50));
        s.write(&format!("m/{name}"), n.to_string().as_bytes());
        expected.insert(name);
    }
    s.ok(&["add", "m", "--to", "acme/m"]);
    let server = Server::start_doors(&s, &DOOR);
    let mut client = Client::mount(server.nfs.unwrap(), "/").unwrap();
    let folder = client.walk("models/acme/m");
    for len in [4096, 1 << 20] {
        let (listed, parts) = client.list(&folder, len);
        assert!(parts > 1, "{parts}");
        assert_eq!(listed.len(), expected.len());
        let names: BTreeSet<_> = listed.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected);
    }
    let (root, _) = client.list(&client.root(), 4096);
    let root: Vec<_> = root.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(root, [".", "..", "models", "datasets", "spaces", "trees"]);
    let too_small = READDIRPLUS3args {
        dir: folder,
        cookie: 0,
        cookieverf: cookieverf3::default(),
        dircount: 16,
        maxcount: 16,
    };
    let part = client.connection.readdirplus(&too_small);
    let part = client.runtime.block_on(part).unwrap();
    assert_eq!(status(part), nfsstat3::NFS3ERR_TOOSMALL);
}

#[test]
fn nothing_can_be_changed() {
    let (s, bytes) = sample();
    let server = Server::start_doors(&s, &DOOR);
    let mut client = Client::mount(server.nfs.unwrap(), "/models/acme/m").unwrap();
    let (root, file) = (client.root(), client.walk("model.bin"));
    let write = WRITE3args {
        file: file.clone(),
        offset: 0,
        count: 3,
        stable: stable_how::FILE_SYNC,
        data: Opaque::borrowed(b"abc"),
    };
    let mkdir = MKDIR3args {
        where_: named(root.clone(), "new"),
        attributes: sattr3::default(),
    };
    let remove = REMOVE3args {
        object: named(root, "model.bin"),
    };
    let (runtime, connection) = (&client.runtime, &mut client.connection);
    let refused = [
        status(runtime.block_on(connection.write(&write)).unwrap()),
        status(runtime.block_on(connection.mkdir(&mkdir)).unwrap()),
        status(runtime.block_on(connection.remove(&remove)).unwrap()),
    ];
    assert_eq!(refused, [nfsstat3::NFS3ERR_ROFS; 3]);
    assert!(client.read_all(&file) == bytes);
}

#[test]
fn handles_that_were_made_up_lead_nowhere() {
    let (s, bytes) = sample();
    let server = Server::start_doors(&s, &DOOR);
    let mut client = Client::mount(server.nfs.unwrap(), "/").unwrap();
    let model = client.walk("models/acme/m/model.bin").data.into_owned();
    let mut made: Vec<Vec<u8>> = (0..model.len()).map(|len| model[..len].to_vec()).collect();
    for at in 0..model.len() {
        for bit in 0..8 {
            let mut other = model.clone();
            other[at] ^= 1 << bit;
            made.push(other);
        }
    }
    made.extend((0..200).map(|n| noise(NFS3_FHSIZE - (n % 40), n as u64)));
    made.push([&[1], &b"models/acme/m"[..]].concat());
    for bytes_of in made {
        let made_up = handle(bytes_of.clone());
        // It may stand for something else that there is, but then not for this file.
        match client.read(&made_up, 0, 16) {
            Err(
                nfsstat3::NFS3ERR_STALE | nfsstat3::NFS3ERR_BADHANDLE | nfsstat3::NFS3ERR_INVAL,
            ) => {}
            Ok((read, _)) => assert!(read == b"{}" || !bytes.starts_with(&read), "{bytes_of:x?}"),
            other => panic!("{bytes_of:x?}: {other:?}"),
        }
    }
}

#[test]
fn damage_is_an_error_and_never_other_bytes() {
    let s = Scratch::without_parity();
    s.write("m/model.bin", &noise(3_000_000, 5));
    s.ok(&["add", "m", "--to", "acme/m"]);
    let packs = s.below("repo/mmh/packs");
    let packs = if packs.is_empty() {
        s.below("repo/packs")
    } else {
        packs
    };
    let longest = packs
        .iter()
        .max_by_key(|path| path.metadata().unwrap().len());
    let mut pack = std::fs::read(longest.unwrap()).unwrap();
    for at in (100_000..2_900_000).step_by(5_000) {
        pack[at] ^= 1;
    }
    s.replace(longest.unwrap(), &pack);
    let server = Server::start_doors(&s, &DOOR);
    let mut client = Client::mount(server.nfs.unwrap(), "/models/acme/m").unwrap();
    let model = client.walk("model.bin");
    let damaged = client.read(&model, 1_500_000, 4096);
    assert_eq!(damaged, Err(nfsstat3::NFS3ERR_IO));
    server.stop();
}

#[test]
fn garbage_on_the_socket_harms_nobody() {
    let (s, bytes) = sample();
    let server = Server::start_doors(&s, &DOOR);
    let at = server.nfs.unwrap();
    // A call that begins well, and then promises bytes that do not come.
    let call = |rest: &[u8]| {
        let head = [7u32, 0, 2, 100_003, 3, 1, 0, 0, 0, 0];
        let mut call: Vec<u8> = head.iter().flat_map(|word| word.to_be_bytes()).collect();
        call.extend_from_slice(rest);
        let mark = (1u32 << 31) | u32::try_from(call.len()).unwrap();
        [&mark.to_be_bytes()[..], &call].concat()
    };
    let mut sent: Vec<Vec<u8>> = (0..50).map(|n| noise(4096, n)).collect();
    sent.push(vec![0xff; 64 << 10]);
    sent.push([&0x7fff_ffffu32.to_be_bytes()[..], &[0; 1000]].concat());
    sent.push(vec![0; 64 << 10]);
    for bytes in &sent {
        let mut stream = TcpStream::connect(at).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // It may have hung up already.
        stream.write_all(bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
    }
    // Arguments that are none are said to be so, on a connection that goes on.
    let mut stream = TcpStream::connect(at).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    for rest in [&[0xff, 0xff, 0xff, 0xff][..], &[], &[0, 0, 0, 65, 1, 2]] {
        stream.write_all(&call(rest)).unwrap();
        let mut answer = [0; 28];
        stream.read_exact(&mut answer).unwrap();
        let words: Vec<u32> = answer
            .chunks(4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
            .collect();
        assert_eq!(words, [(1 << 31) | 24, 7, 1, 0, 0, 0, 4], "{rest:x?}");
    }
    let mut client = Client::mount(at, "/models/acme/m").unwrap();
    let model = client.walk("model.bin");
    assert!(client.read_all(&model) == bytes);
    drop(stream);
    let said = server.stop();
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn it_is_for_this_machine_and_for_what_all_may_read() {
    let (s, _) = sample();
    s.write("tokens", b"");
    let refused = |more: &[&str]| {
        let ran = s.run(&[&["serve", "--doors", "nfs"], more].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
        ran.err
    };
    let said = refused(&["--nfs", "0.0.0.0:0"]);
    assert!(said.contains("--nfs-anywhere"), "{said}");
    let said = refused(&["--nfs", "127.0.0.1:0", "--tokens", "tokens"]);
    assert!(said.contains("--anonymous read"), "{said}");
    // Names that the hub hides or guards are not there.
    for (name, settings) in [
        ("acme/private", r#"{"private":true}"#),
        ("acme/gated", r#"{"gated":"manual"}"#),
        ("acme/broken", "{"),
        ("acme/open", r#"{"private":false}"#),
    ] {
        s.ok(&["add", "m", "--to", name]);
        s.write("settings/hub.json", settings.as_bytes());
        s.ok(&[
            "add",
            "settings",
            "--to",
            &format!("{name}@refs/meta/config"),
        ]);
    }
    let server = Server::start_doors(&s, &DOOR);
    let mut client = Client::mount(server.nfs.unwrap(), "/").unwrap();
    let acme = client.walk("models/acme");
    for (name, is_there) in [
        ("m", true),
        ("open", true),
        ("private", false),
        ("private@main", false),
        ("gated", false),
        ("broken", false),
    ] {
        let found = client.lookup(acme.clone(), name);
        assert_eq!(found.is_ok(), is_there, "{name}");
    }
    let (listed, _) = client.list(&acme, 4096);
    assert!(listed.iter().any(|(name, _)| name == "open"), "{listed:?}");
    assert!(
        !listed.iter().any(|(name, _)| name.starts_with("private")),
        "{listed:?}"
    );
    // One that becomes private later takes its handles along.
    let model = client.walk("models/acme/m/model.bin");
    s.write("settings/hub.json", br#"{"private":true}"#);
    s.ok(&["add", "settings", "--to", "acme/m@refs/meta/config"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(client.read(&model, 0, 1), Err(nfsstat3::NFS3ERR_STALE));
}

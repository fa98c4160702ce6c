//! The program that reads files (RFC 1813, chapter 3). Whatever would change something is refused.

use std::time::SystemTime;

use mmh_mount::{Attr, HANDLE_LEN_MAX, Handles, Kind, Seat};
use rustix::io::Errno;

use crate::rpc::Done;
use crate::xdr::{Read, Reader, Writer};

pub(crate) const PROGRAM: u32 = 100_003;
pub(crate) const VERSION: u32 = 3;
/// Most bytes of a path.
pub(crate) const PATH_LEN_MAX: usize = 1024;
/// Longest name that is looked for.
const NAME_LEN_MAX: usize = 255;
/// Most bytes that a read gives.
const READ_LEN_MAX: u32 = 1 << 20;
/// Most bytes of a write, which is refused: clients do not mount where this is less than 8 KiB.
const WRITE_LEN: u32 = 64 << 10;
/// Most bytes of a part of a folder.
const LIST_LEN_MAX: u32 = 64 << 10;
/// Names that are looked at for one part: no more fit.
const LIST_MAX: usize = 2048;
/// Before the names of a folder come itself and the one above.
const DOTS: u64 = 2;
/// Bytes of attributes.
const ATTR_LEN: usize = 84;

const OK: u32 = 0;
const INVALID: u32 = 22;
const READ_ONLY: u32 = 30;
const NAME_TOO_LONG: u32 = 63;
const BAD_HANDLE: u32 = 10_001;
const BAD_COOKIE: u32 = 10_003;
const TOO_SMALL: u32 = 10_005;

/// The status of an error, as the table in ARCHITECTURE.md has it.
pub(crate) fn status(errno: Errno) -> u32 {
    match errno {
        Errno::NOENT => 2,
        Errno::ACCESS => 13,
        Errno::NOTDIR => 20,
        Errno::ISDIR => 21,
        Errno::INVAL => INVALID,
        Errno::ROFS => READ_ONLY,
        Errno::NAMETOOLONG => NAME_TOO_LONG,
        Errno::STALE => 70,
        Errno::BADF => BAD_HANDLE,
        Errno::NOTSUP => 10_004,
        // Ask again later.
        Errno::AGAIN | Errno::BUSY => 10_008,
        _ => 5,
    }
}

type Answer<T> = Result<T, u32>;

/// Answers one call.
pub(crate) fn call(
    handles: &Handles,
    procedure: u32,
    mut args: Reader<'_>,
    out: &mut Writer,
) -> Read<Done> {
    let door = Door { handles };
    match procedure {
        0 => {}
        1 => door.attributes(handle(&mut args)?, out),
        3 => {
            let at = handle(&mut args)?;
            door.lookup(at, args.opaque(usize::MAX)?, out);
        }
        4 => {
            let at = handle(&mut args)?;
            door.access(at, args.u32()?, out);
        }
        5 => door.read_link(handle(&mut args)?, out),
        6 => {
            let at = handle(&mut args)?;
            door.read(at, args.u64()?, args.u32()?, out);
        }
        16 | 17 => {
            let at = handle(&mut args)?;
            let (cookie, version) = (args.u64()?, args.u64()?);
            let first = args.u32()?;
            let all = if procedure == 17 { args.u32()? } else { first };
            let wanted = Wanted {
                cookie,
                version,
                with_attributes: procedure == 17,
                names_len: first,
                len: all.min(LIST_LEN_MAX),
            };
            door.list(at, &wanted, out);
        }
        18..=20 => door.facts(procedure, handle(&mut args)?, out),
        // What is refused is not even read: attributes before and after, of nothing.
        2 | 7..=13 | 21 => drop(out.u32(READ_ONLY).u64(0)),
        14 => drop(out.u32(READ_ONLY).u64(0).u64(0)),
        15 => drop(out.u32(READ_ONLY).u32(0).u64(0)),
        _ => return Ok(Done::NoProcedure),
    }
    Ok(Done::Success)
}

fn handle<'a>(args: &mut Reader<'a>) -> Read<&'a [u8]> {
    args.opaque(HANDLE_LEN_MAX)
}

/// Which part of a folder is asked for.
struct Wanted {
    /// The last name that is known already.
    cookie: u64,
    /// Of which state of the folder that was.
    version: u64,
    with_attributes: bool,
    /// Most bytes of names,
    names_len: u32,
    /// and of everything.
    len: u32,
}

struct Door<'a> {
    handles: &'a Handles,
}

impl Door<'_> {
    fn seat(&self, handle: &[u8]) -> Answer<Seat> {
        self.handles.seat(handle).map_err(status)
    }

    fn attributes(&self, handle: &[u8], out: &mut Writer) {
        match self.seat(handle) {
            Ok(seat) => write_attr(out.u32(OK), seat.attr()),
            Err(status) => drop(out.u32(status)),
        }
    }

    fn lookup(&self, handle: &[u8], name: &[u8], out: &mut Writer) {
        let folder = match self.seat(handle) {
            Ok(folder) => folder,
            Err(status) => return fail(out, status, None),
        };
        let found = match std::str::from_utf8(name) {
            _ if name.len() > NAME_LEN_MAX => Err(NAME_TOO_LONG),
            Ok(name) => self.handles.step(&folder, name).map_err(status),
            // No name here is anything but UTF-8.
            Err(_) => Err(status(Errno::NOENT)),
        };
        match found {
            Ok(found) => {
                out.u32(OK).opaque(&self.handles.handle(&found));
                some_attr(out, found.attr());
                some_attr(out, folder.attr());
            }
            Err(status) => fail(out, status, Some(&folder)),
        }
    }

    /// What may be done of what is asked about.
    fn access(&self, handle: &[u8], asked: u32, out: &mut Writer) {
        const READ: u32 = 1;
        const LOOKUP: u32 = 2;
        const EXECUTE: u32 = 32;
        match self.seat(handle) {
            Ok(seat) => {
                let attr = seat.attr();
                let may = match attr.kind {
                    Kind::Dir => READ | LOOKUP | EXECUTE,
                    _ if attr.perm & 0o111 != 0 => READ | EXECUTE,
                    _ => READ,
                };
                out.u32(OK);
                some_attr(out, attr);
                out.u32(asked & may);
            }
            Err(status) => fail(out, status, None),
        }
    }

    fn read_link(&self, handle: &[u8], out: &mut Writer) {
        let seat = match self.seat(handle) {
            Ok(seat) => seat,
            Err(status) => return fail(out, status, None),
        };
        match self.handles.read_link(&seat) {
            Ok(target) => {
                out.u32(OK);
                some_attr(out, seat.attr());
                out.opaque(target.as_bytes());
            }
            Err(errno) => fail(out, status(errno), Some(&seat)),
        }
    }

    fn read(&self, handle: &[u8], offset: u64, len: u32, out: &mut Writer) {
        let seat = match self.seat(handle) {
            Ok(seat) => seat,
            Err(status) => return fail(out, status, None),
        };
        let len = usize::try_from(len.min(READ_LEN_MAX)).unwrap_or_default();
        match self.handles.read(&seat, offset, len) {
            Ok(bytes) => {
                out.0.reserve(ATTR_LEN + 20 + bytes.len());
                out.u32(OK);
                some_attr(out, seat.attr());
                let end = offset.saturating_add(bytes.len() as u64);
                out.u32(u32::try_from(bytes.len()).unwrap_or_default());
                out.bool(end >= seat.attr().size).opaque(&bytes);
            }
            Err(errno) => fail(out, status(errno), Some(&seat)),
        }
    }

    fn list(&self, handle: &[u8], wanted: &Wanted, out: &mut Writer) {
        let folder = match self.seat(handle) {
            Ok(folder) => folder,
            Err(status) => return fail(out, status, None),
        };
        let start = out.0.len();
        if let Err(status) = self.write_list(&folder, wanted, out) {
            out.0.truncate(start);
            fail(out, status, Some(&folder));
        }
    }

    fn write_list(&self, folder: &Seat, wanted: &Wanted, out: &mut Writer) -> Answer<()> {
        let skip = wanted.cookie.saturating_sub(DOTS);
        let page = self.handles.list(folder, skip, LIST_MAX).map_err(status)?;
        if wanted.cookie != 0 && wanted.version != page.version {
            return Err(BAD_COOKIE);
        }
        let start = out.0.len();
        out.u32(OK);
        some_attr(out, folder.attr());
        out.u64(page.version);
        let mut part = Part {
            door: self,
            wanted,
            start,
            names_len: 0,
            entries: 0,
        };
        let mut fits = true;
        for (cookie, name) in [(1, "."), (2, "..")] {
            if fits && wanted.cookie < cookie {
                let seat = self.handles.step(folder, name).map_err(status)?;
                let (ino, seat) = (seat.attr().ino, Some(&seat));
                fits = part.push(out, (ino, name, seat), cookie);
            }
        }
        let mut cookie = wanted.cookie.max(DOTS);
        for (name, ino, seat) in &page.entries {
            cookie = cookie.saturating_add(1);
            fits = fits && part.push(out, (*ino, name, seat.as_ref()), cookie);
            if !fits {
                break;
            }
        }
        if part.entries == 0 && !fits {
            return Err(TOO_SMALL);
        }
        out.bool(false).bool(fits && page.is_last);
        Ok(())
    }

    /// `FSSTAT`, `FSINFO` and `PATHCONF`.
    fn facts(&self, procedure: u32, handle: &[u8], out: &mut Writer) {
        let seat = match self.seat(handle) {
            Ok(seat) => seat,
            Err(status) => return fail(out, status, None),
        };
        let space = match procedure {
            18 => match self.handles.space() {
                Ok(space) => space,
                Err(errno) => return fail(out, status(errno), Some(&seat)),
            },
            _ => mmh_mount::Space::default(),
        };
        out.u32(OK);
        some_attr(out, seat.attr());
        match procedure {
            18 => {
                let block = u64::from(space.block_len);
                out.u64(space.blocks.saturating_mul(block)).u64(0).u64(0);
                out.u64(space.files).u64(0).u64(0).u32(0);
            }
            19 => {
                // Reads: most, best, and a multiple of what; writes, of which there are none; folders.
                out.u32(READ_LEN_MAX).u32(READ_LEN_MAX).u32(4096);
                out.u32(WRITE_LEN)
                    .u32(WRITE_LEN)
                    .u32(4096)
                    .u32(LIST_LEN_MAX);
                // The longest file, the finest time, and that there are symbolic links.
                out.u64(u64::MAX >> 1).u32(0).u32(1_000_000).u32(2 | 8);
            }
            _ => {
                // One link each; names are never cut, and keep their case.
                let name_len = u32::try_from(NAME_LEN_MAX).unwrap_or_default();
                out.u32(1).u32(name_len);
                out.bool(true).bool(true).bool(false).bool(true);
            }
        }
    }
}

/// A part of a folder that is being written.
struct Part<'a> {
    door: &'a Door<'a>,
    wanted: &'a Wanted,
    /// Where the answer begins.
    start: usize,
    names_len: usize,
    entries: usize,
}

impl Part<'_> {
    /// Writes a name, if there is room for it and for the end.
    fn push(
        &mut self,
        out: &mut Writer,
        (ino, name, seat): (u64, &str, Option<&Seat>),
        cookie: u64,
    ) -> bool {
        const END: usize = 8;
        let before = out.0.len();
        out.bool(true).u64(ino).opaque(name.as_bytes()).u64(cookie);
        self.names_len += out.0.len() - before;
        if self.wanted.with_attributes {
            match seat {
                Some(seat) => {
                    some_attr(out, seat.attr());
                    out.bool(true).opaque(&self.door.handles.handle(seat));
                }
                None => drop(out.bool(false).bool(false)),
            }
        }
        let most = |len: u32| usize::try_from(len).unwrap_or(usize::MAX);
        // Of names alone one may be longer than what was wished.
        let names_fit = self.entries == 0 || self.names_len <= most(self.wanted.names_len);
        if !names_fit || out.0.len() - self.start + END > most(self.wanted.len) {
            out.0.truncate(before);
            return false;
        }
        self.entries += 1;
        true
    }
}

/// A failure, with the attributes of what it is about if they are known.
fn fail(out: &mut Writer, status: u32, about: Option<&Seat>) {
    out.u32(status);
    match about {
        Some(seat) => some_attr(out, seat.attr()),
        None => drop(out.bool(false)),
    }
}

fn some_attr(out: &mut Writer, attr: &Attr) {
    write_attr(out.bool(true), attr);
}

fn write_attr(out: &mut Writer, attr: &Attr) {
    let kind = match attr.kind {
        Kind::File => 1,
        Kind::Dir => 2,
        Kind::BlockDevice => 3,
        Kind::CharDevice => 4,
        Kind::Link => 5,
        Kind::Socket => 6,
        Kind::Pipe => 7,
    };
    out.u32(kind).u32(u32::from(attr.perm)).u32(attr.links);
    out.u32(attr.uid).u32(attr.gid);
    out.u64(attr.size).u64(attr.size).u64(0);
    // One file system.
    out.u64(1).u64(attr.ino);
    for time in [attr.accessed, attr.modified, attr.changed] {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        out.u32(seconds).u32(since.subsec_nanos());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of RFC 1813, chapter 2.6.
    #[test]
    fn errors_have_the_status_of_the_protocol() {
        for (errno, expected) in [
            (Errno::NOENT, 2),
            (Errno::IO, 5),
            (Errno::ACCESS, 13),
            (Errno::NOTDIR, 20),
            (Errno::INVAL, 22),
            (Errno::ROFS, 30),
            (Errno::NAMETOOLONG, 63),
            (Errno::STALE, 70),
            (Errno::BADF, 10_001),
            (Errno::NOTSUP, 10_004),
            (Errno::AGAIN, 10_008),
            (Errno::BUSY, 10_008),
            (Errno::OVERFLOW, 5),
        ] {
            assert_eq!(status(errno), expected, "{errno}");
        }
    }

    #[test]
    fn attributes_take_what_the_protocol_says() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1500);
        let attr = Attr {
            ino: 9,
            kind: Kind::Link,
            size: 7,
            blocks: 1,
            accessed: time,
            modified: time,
            changed: time,
            perm: 0o777,
            links: 1,
            uid: 5,
            gid: 6,
            device: 0,
        };
        let mut out = Writer::default();
        write_attr(&mut out, &attr);
        assert_eq!(out.0.len(), ATTR_LEN);
        let mut read = Reader(&out.0);
        let head: Vec<u32> = (0..5).filter_map(|_| read.u32().ok()).collect();
        assert_eq!(head, [5, 0o777, 1, 5, 6]);
        let sizes: Vec<u64> = (0..5).filter_map(|_| read.u64().ok()).collect();
        assert_eq!(sizes, [7, 7, 0, 1, 9]);
        assert_eq!((read.u32(), read.u32()), (Ok(1), Ok(500_000_000)));
    }
}

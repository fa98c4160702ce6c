//! The program that gives the first handle (RFC 1813, appendix I). Nobody is remembered.

use mmh_mount::{Handles, Kind};

use crate::nfs::{PATH_LEN_MAX, status};
use crate::rpc::Done;
use crate::xdr::{Read, Reader, Writer};

pub(crate) const PROGRAM: u32 = 100_005;
pub(crate) const VERSION: u32 = 3;

const NULL: u32 = 0;
const MNT: u32 = 1;
const DUMP: u32 = 2;
const UMNT: u32 = 3;
const UMNTALL: u32 = 4;
const EXPORT: u32 = 5;

const NOT_A_FOLDER: u32 = 20;

/// Answers one call.
pub(crate) fn call(
    handles: &Handles,
    procedure: u32,
    mut args: Reader<'_>,
    out: &mut Writer,
) -> Read<Done> {
    match procedure {
        NULL | UMNTALL => {}
        MNT => mount(handles, args.opaque(PATH_LEN_MAX)?, out),
        // Nobody has mounted anything that we know of.
        DUMP => drop(out.bool(false)),
        UMNT => drop(args.opaque(PATH_LEN_MAX)?),
        // One export, to everybody.
        EXPORT => drop(out.bool(true).opaque(b"/").bool(false).bool(false)),
        _ => return Ok(Done::NoProcedure),
    }
    Ok(Done::Success)
}

/// The handle of a folder, by its path from the root of everything.
fn mount(handles: &Handles, path: &[u8], out: &mut Writer) {
    let mut found = Ok(handles.root());
    for name in path.split(|byte| *byte == b'/') {
        if !name.is_empty() {
            let name = std::str::from_utf8(name).map_err(|_| rustix::io::Errno::NOENT);
            found = found.and_then(|at| handles.step(&at, name?));
        }
    }
    match found {
        Ok(at) if at.attr().kind != Kind::Dir => drop(out.u32(NOT_A_FOLDER)),
        // The handle, and the two ways of saying who one is: with numbers, and not at all.
        Ok(at) => drop(out.u32(0).opaque(&handles.handle(&at)).u32(2).u32(1).u32(0)),
        Err(errno) => drop(out.u32(status(errno))),
    }
}

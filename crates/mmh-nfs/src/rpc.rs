//! Calls and replies (RFC 5531): whom a call is for, and how it is answered whatever it is.

use mmh_mount::Handles;

use crate::xdr::{Garbage, Reader, Writer};
use crate::{mountd, nfs};

const CALL: u32 = 0;
const REPLY: u32 = 1;
const RPC_VERSION: u32 = 2;
/// Most bytes that say who calls.
const CREDENTIALS_MAX: usize = 400;
/// Who calls, in clear: not at all, or with numbers of user and group. Neither is believed.
const AUTH_NONE: u32 = 0;
const AUTH_SYS: u32 = 1;

/// How a call that was understood ends.
pub(crate) enum Done {
    Success,
    /// There is no such program.
    NoProgram,
    /// Versions of that program that there are: the lowest and the highest.
    NoVersion(u32, u32),
    /// There is no such procedure.
    NoProcedure,
}

/// Answers a call. `None` for what is no call: nobody waits for an answer.
pub(crate) fn answer(handles: &Handles, record: &[u8]) -> Option<Vec<u8>> {
    let mut call = Reader(record);
    let id = call.u32().ok()?;
    if call.u32() != Ok(CALL) {
        return None;
    }
    let mut out = Writer::default();
    out.u32(id).u32(REPLY);
    let Ok(head) = head(&mut call) else {
        accepted(&mut out, 4);
        return Some(out.0);
    };
    if head.rpc != RPC_VERSION {
        // Denied: versions do not match.
        out.u32(1).u32(0).u32(RPC_VERSION).u32(RPC_VERSION);
        return Some(out.0);
    }
    if !matches!(head.flavor, AUTH_NONE | AUTH_SYS) {
        // Denied: these credentials are not known here.
        out.u32(1).u32(1).u32(2);
        return Some(out.0);
    }
    let start = out.0.len();
    accepted(&mut out, 0);
    let done = match head.program {
        nfs::PROGRAM if head.version == nfs::VERSION => {
            nfs::call(handles, head.procedure, call, &mut out)
        }
        mountd::PROGRAM if head.version == mountd::VERSION => {
            mountd::call(handles, head.procedure, call, &mut out)
        }
        nfs::PROGRAM | mountd::PROGRAM => Ok(Done::NoVersion(nfs::VERSION, nfs::VERSION)),
        _ => Ok(Done::NoProgram),
    };
    if !matches!(done, Ok(Done::Success)) {
        out.0.truncate(start);
    }
    match done {
        Ok(Done::Success) => {}
        Ok(Done::NoProgram) => accepted(&mut out, 1),
        Ok(Done::NoVersion(low, high)) => {
            accepted(&mut out, 2);
            out.u32(low).u32(high);
        }
        Ok(Done::NoProcedure) => accepted(&mut out, 3),
        Err(Garbage) => accepted(&mut out, 4),
    }
    Some(out.0)
}

struct Head {
    rpc: u32,
    program: u32,
    version: u32,
    procedure: u32,
    flavor: u32,
}

fn head(call: &mut Reader<'_>) -> Result<Head, Garbage> {
    let (rpc, program, version) = (call.u32()?, call.u32()?, call.u32()?);
    let (procedure, flavor) = (call.u32()?, call.u32()?);
    call.opaque(CREDENTIALS_MAX)?;
    // The verifier.
    call.u32()?;
    call.opaque(CREDENTIALS_MAX)?;
    Ok(Head {
        rpc,
        program,
        version,
        procedure,
        flavor,
    })
}

/// The head of a reply to a call that was accepted, with an empty verifier.
fn accepted(out: &mut Writer, status: u32) {
    out.u32(0).u32(AUTH_NONE).opaque(&[]).u32(status);
}

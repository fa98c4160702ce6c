//! Asking for a secret on the terminal without showing it.

use std::io::{self, IsTerminal, Write};

use zeroize::Zeroizing;

/// Whether somebody is there to be asked.
pub(crate) fn is_watched() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a line and reads it unseen.
///
/// # Errors
/// If the terminal fails, or Ctrl-C is typed.
pub(crate) fn ask(question: &str) -> io::Result<Zeroizing<String>> {
    let mut out = anstream::stderr();
    write!(out, "{question}: ")?;
    out.flush()?;
    let line = unseen(|input| read_line(input));
    writeln!(out)?;
    line
}

/// What is typed at a terminal that passes every key on, up to the end of the line.
fn read_line(input: &mut dyn io::Read) -> io::Result<Zeroizing<String>> {
    // Never longer, so that no copy is left behind by growing.
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_LEN_MAX));
    let mut key = Zeroizing::new([0]);
    loop {
        if input.read(&mut key[..])? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match key[0] {
            b'\r' | b'\n' => break,
            INTERRUPT | END => return Err(io::ErrorKind::Interrupted.into()),
            // A whole character goes, not its last byte.
            BACKSPACE | DELETE => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            _ if line.len() == LINE_LEN_MAX => return Err(io::ErrorKind::InvalidInput.into()),
            byte => line.push(byte),
        }
    }
    let text = std::str::from_utf8(&line).map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Longest line that is read, in bytes.
const LINE_LEN_MAX: usize = 4096;
const INTERRUPT: u8 = 3;
const END: u8 = 4;
const BACKSPACE: u8 = 8;
const DELETE: u8 = 127;

/// Runs `read` with a terminal that neither shows what is typed nor handles keys, and sets it back
/// whatever comes of it.
#[cfg(unix)]
fn unseen<T>(read: impl FnOnce(&mut dyn io::Read) -> io::Result<T>) -> io::Result<T> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let mut input = io::stdin().lock();
    let before = tcgetattr(&input)?;
    let mut hidden = before.clone();
    hidden.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(&input, OptionalActions::Flush, &hidden)?;
    let result = read(&mut input);
    tcsetattr(&input, OptionalActions::Now, &before)?;
    result
}

#[cfg(not(unix))]
fn unseen<T>(_read: impl FnOnce(&mut dyn io::Read) -> io::Result<T>) -> io::Result<T> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "secrets cannot be asked for here; give them in files",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> io::Result<String> {
        read_line(&mut &keys[..]).map(|line| line.as_str().to_owned())
    }

    #[test]
    fn a_line_ends_with_return_and_can_be_mended() {
        assert_eq!(typed(b"secret\nmore").unwrap(), "secret");
        assert_eq!(typed(b"secx\x7fret\r").unwrap(), "secret");
        assert_eq!(typed("sé\x08ecret\n".as_bytes()).unwrap(), "secret");
        assert_eq!(typed(b"\x08\x7f\n").unwrap(), "");
    }

    #[test]
    fn what_is_no_line_is_an_error() {
        for (keys, kind) in [
            (&b"abc\x03"[..], io::ErrorKind::Interrupted),
            (b"\x04", io::ErrorKind::Interrupted),
            (b"abc", io::ErrorKind::UnexpectedEof),
            (b"\xff\n", io::ErrorKind::InvalidData),
            (&[b'a'; LINE_LEN_MAX + 1], io::ErrorKind::InvalidInput),
        ] {
            assert_eq!(typed(keys).unwrap_err().kind(), kind, "{keys:?}");
        }
    }
}

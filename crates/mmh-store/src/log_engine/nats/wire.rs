//! The text protocol of NATS, as far as requests and their answers need it: pure functions over
//! lines and bytes. The protocol is described at docs.nats.io, "Client Protocol".

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;

/// A line that a server sends, without the payload that follows some.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// What the server is, as JSON.
    Info(Info),
    /// An answer: whose it is, and how many bytes of headers and of everything follow.
    Message {
        subject: String,
        headers_len: usize,
        len: usize,
    },
    Ping,
    Pong,
    Ok,
    /// A refusal, in the server's words.
    Err(String),
}

/// The parts of a server's description that matter here.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    pub(super) headers: bool,
    pub(super) tls_required: bool,
    pub(super) max_payload: usize,
    /// The name of the cluster, if it is in one.
    pub(super) cluster: String,
}

/// Parses a line, which ends with CR LF.
pub(super) fn parse(line: &[u8]) -> Result<Line, String> {
    let text = std::str::from_utf8(line).map_err(|_| "a line that is no text".to_owned())?;
    let text = text
        .strip_suffix("\r\n")
        .ok_or("a line that does not end")?;
    let (verb, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let number = |word: &str| word.parse().map_err(|_| format!("a length of `{word}`"));
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    match (verb.to_ascii_uppercase().as_str(), words.as_slice()) {
        ("INFO", _) => serde_json::from_str(rest)
            .map(Line::Info)
            .map_err(|e| format!("a description that is not understood: {e}")),
        ("PING", []) => Ok(Line::Ping),
        ("PONG", []) => Ok(Line::Pong),
        ("+OK", _) => Ok(Line::Ok),
        ("-ERR", _) => Ok(Line::Err(rest.trim_matches('\'').to_owned())),
        ("MSG", [subject, _, len] | [subject, _, _, len]) => Ok(Line::Message {
            subject: (*subject).to_owned(),
            headers_len: 0,
            len: number(len)?,
        }),
        ("HMSG", [subject, _, headers, len] | [subject, _, _, headers, len]) => {
            let (headers_len, len) = (number(headers)?, number(len)?);
            if headers_len > len {
                return Err(format!("{headers_len} bytes of headers in {len}"));
            }
            Ok(Line::Message {
                subject: (*subject).to_owned(),
                headers_len,
                len,
            })
        }
        _ => Err(format!(
            "a line that begins with `{}`",
            mmh_core::error::shorten(verb)
        )),
    }
}

/// The status of an answer's headers, if they have one: `NATS/1.0 503` says 503.
pub(super) fn status(headers: &[u8]) -> Option<u16> {
    let first = headers.split(|b| *b == b'\r').next()?;
    let digits = std::str::from_utf8(first).ok()?.strip_prefix("NATS/1.0 ")?;
    digits.split(' ').next()?.parse().ok()
}

/// A request: what goes to `subject`, with the answer to `reply`, if the sequence number of the
/// subject's last message is `last`.
pub(super) fn publish(subject: &str, reply: &str, last: Option<u64>, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 256);
    match last {
        Some(last) => {
            let headers =
                format!("NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {last}\r\n\r\n");
            let (head, all) = (headers.len(), headers.len() + payload.len());
            out.put_slice(format!("HPUB {subject} {reply} {head} {all}\r\n{headers}").as_bytes());
        }
        None => {
            let len = payload.len();
            out.put_slice(format!("PUB {subject} {reply} {len}\r\n").as_bytes());
        }
    }
    out.put_slice(payload);
    out.put_slice(b"\r\n");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(subject: &str, headers_len: usize, len: usize) -> Line {
        let subject = subject.to_owned();
        Line::Message {
            subject,
            headers_len,
            len,
        }
    }

    #[test]
    fn lines_of_the_protocol_are_understood() {
        let info = Info {
            headers: true,
            max_payload: 1 << 20,
            ..Info::default()
        };
        for (line, parsed) in [
            (
                "INFO {\"headers\":true,\"max_payload\":1048576,\"x\":1} \r\n",
                Line::Info(info),
            ),
            ("PING\r\n", Line::Ping),
            ("pong\r\n", Line::Pong),
            ("+OK\r\n", Line::Ok),
            (
                "-ERR 'Authorization Violation'\r\n",
                Line::Err("Authorization Violation".into()),
            ),
            ("MSG a.b 1 5\r\n", message("a.b", 0, 5)),
            ("MSG a.b 1 reply 0\r\n", message("a.b", 0, 0)),
            ("HMSG a.b 1 12 17\r\n", message("a.b", 12, 17)),
            ("HMSG a.b 1 reply 12 12\r\n", message("a.b", 12, 12)),
        ] {
            assert_eq!(parse(line.as_bytes()).unwrap(), parsed, "{line}");
        }
    }

    #[test]
    fn what_is_no_line_is_an_error() {
        for line in [
            "",
            "PING",
            "PING\n",
            "PING x\r\n",
            "MSG a.b 1\r\n",
            "MSG a.b 1 x\r\n",
            "MSG a.b 1 -1\r\n",
            "MSG a.b 1 99999999999999999999\r\n",
            "HMSG a.b 1 6 5\r\n",
            "INFO {\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
        assert!(parse(b"MSG \xff 1 1\r\n").is_err());
    }

    #[test]
    fn headers_may_hold_a_status() {
        assert_eq!(status(b"NATS/1.0 503\r\n\r\n"), Some(503));
        assert_eq!(status(b"NATS/1.0 404 Message Not Found\r\n\r\n"), Some(404));
        assert_eq!(status(b"NATS/1.0\r\nA: b\r\n\r\n"), None);
        assert_eq!(status(b""), None);
    }

    #[test]
    fn requests_state_their_lengths() {
        assert_eq!(&publish("a", "r", None, b"xy")[..], b"PUB a r 2\r\nxy\r\n");
        let conditional = publish("a", "r", Some(0), b"xy");
        let headers = "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n";
        let expected = format!(
            "HPUB a r {} {}\r\n{headers}xy\r\n",
            headers.len(),
            headers.len() + 2
        );
        assert_eq!(conditional, expected.as_bytes());
    }

    proptest! {
        #[test]
        fn any_line_is_parsed_without_panic(line in "(INFO|H?MSG|-ERR|PING)?[ a-z0-9{}\":.é-]{0,30}(\r\n)?") {
            let _ = parse(line.as_bytes()).is_ok();
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = (parse(&bytes).is_ok(), status(&bytes));
        }
    }
}

//! URLs of logs in etcd and NATS: `SCHEME://[USER[:PASSWORD]@]HOST[:PORT],…[/NAME][?tls=on|off]`.

use crate::backend::{is_loopback, without_user};
use crate::error::{Error, Result};

/// A URL that was taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct LogUrl {
    /// User and password.
    pub(super) user: Option<(String, String)>,
    /// At least one host with a port, as `host:port`.
    pub(super) hosts: Vec<String>,
    /// What comes after the hosts; empty if nothing does.
    pub(super) name: String,
    /// Whether connections are encrypted: unless all hosts are this machine, or the URL says so.
    pub(super) tls: bool,
}

impl LogUrl {
    /// Takes a URL apart whose hosts have that port unless they say another.
    ///
    /// # Errors
    /// Invalid, without the user and the password in the message.
    pub(super) fn parse(url: &str, port: u16) -> Result<Self> {
        let bad = |reason: &str| Error::BadPlace {
            place: without_user(url),
            reason: reason.to_owned(),
        };
        let (_, rest) = url.split_once("://").ok_or_else(|| bad("it is no URL"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, name) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let user = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            Some((decoded(user)?, decoded(password)?))
        });
        let user = match user {
            Some(None) => return Err(bad("user or password has a `%` without two digits")),
            Some(Some(pair)) => Some(pair),
            None => None,
        };
        let hosts: Option<Vec<String>> = hosts.split(',').map(|h| with_port(h, port)).collect();
        let hosts = hosts.ok_or_else(|| bad("hosts are written HOST or HOST:PORT, with commas"))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.len() > 64 || !name.bytes().all(plain) {
            return Err(bad("the name has up to 64 letters, digits, `-` and `_`"));
        }
        let tls = match query {
            "" => !hosts.iter().all(|host| is_loopback(host)),
            "tls=on" => true,
            "tls=off" => false,
            _ => return Err(bad("the only settings are tls=on and tls=off")),
        };
        Ok(Self {
            user,
            hosts,
            name: name.to_owned(),
            tls,
        })
    }

    /// The URL without user and password.
    pub(super) fn location(&self, scheme: &str) -> String {
        let hosts = self.hosts.join(",");
        let stays_here = self.hosts.iter().all(|host| is_loopback(host));
        let tls = match (self.tls, stays_here) {
            (true, true) => "?tls=on",
            (false, false) => "?tls=off",
            _ => "",
        };
        let slash = if self.name.is_empty() { "" } else { "/" };
        format!("{scheme}://{hosts}{slash}{}{tls}", self.name)
    }
}

/// `host:port`, if the text is a host with or without one.
fn with_port(text: &str, port: u16) -> Option<String> {
    let after_host = match text.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.1,
        None => text.find(':').map_or("", |at| &text[at..]),
    };
    let host = &text[..text.len() - after_host.len()];
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if host.is_empty() || !host.bytes().all(allowed) {
        return None;
    }
    match after_host.strip_prefix(':') {
        Some(digits) => digits
            .parse::<u16>()
            .ok()
            .map(|port| format!("{host}:{port}")),
        None => after_host.is_empty().then(|| format!("{host}:{port}")),
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;
    use proptest::prelude::*;

    use super::*;

    fn parse(url: &str) -> LogUrl {
        LogUrl::parse(url, 2379).unwrap()
    }

    #[test]
    fn hosts_have_ports_and_users_passwords() {
        let url = parse("etcd://u:p%40ss@a,b:7,[::1]/models");
        assert_eq!(url.user, Some(("u".to_owned(), "p@ss".to_owned())));
        assert_eq!(url.hosts, ["a:2379", "b:7", "[::1]:2379"]);
        assert_eq!((url.name.as_str(), url.tls), ("models", true));
        assert_eq!(
            parse("nats://u@h").user,
            Some(("u".to_owned(), String::new()))
        );
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_plain_text() {
        for (url, tls) in [
            ("etcd://127.0.0.1", false),
            ("etcd://localhost:1,[::1]:2", false),
            ("etcd://127.0.0.1,far", true),
            ("etcd://far?tls=off", false),
            ("etcd://127.0.0.1?tls=on", true),
        ] {
            assert_eq!(parse(url).tls, tls, "{url}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_log_is_invalid_and_keeps_its_secret() {
        for url in [
            "etcd",
            "etcd://",
            "etcd://u:secret@",
            "etcd://u:secret@h:x",
            "etcd://u:secret%4@h",
            "etcd://u:secret@h/a/b",
            "etcd://u:secret@h?tls=maybe",
            "etcd://u:secret@h,,i",
            "etcd://u:secret@[::1",
            "etcd://u:secret@h:70000",
        ] {
            let error = LogUrl::parse(url, 1).err().expect(url);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "(etcd://)?[a-z0-9é:@,%/?=\\[\\].-]{0,30}") {
            if let Ok(url) = LogUrl::parse(&text, 1) {
                let again = LogUrl::parse(&url.location("etcd"), 2).unwrap();
                prop_assert_eq!((again.hosts, again.name, again.tls), (url.hosts, url.name, url.tls));
            }
        }
    }
}

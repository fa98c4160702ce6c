//! Places as people write them: a folder, or a URL of an engine, taken apart and checked.

use std::fmt;
use std::path::PathBuf;

use mmh_core::error::shorten;

use crate::error::{Error, Result};
use crate::node::wire::PORT;

/// Bytes of a bucket's name: the engines allow 63, older ones a few more.
const BUCKET_LEN_MAX: usize = 222;

/// A place that was taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A prefix of a bucket of an engine elsewhere.
    Bucket {
        /// Whose protocol it speaks.
        engine: Engine,
        /// The bucket or container.
        bucket: String,
        /// Where in it the repository lies; empty for the whole bucket. No `/` at either end.
        prefix: String,
    },
    /// A repository that another process serves.
    Node(Node),
}

/// Where a node listens, and how it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// SHA-256 of its certificate; without it the system's roots decide.
    pub pin: Option<[u8; 32]>,
    /// Its name or address; an IPv6 address is in brackets.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
}

impl Node {
    /// `mmhs://PIN@HOST:PORT`, of which the pin and the port may be left out.
    fn parse(rest: &str) -> std::result::Result<Self, &'static str> {
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (pin, authority) = match rest.split_once('@') {
            Some((pin, authority)) => (Some(pin), authority),
            None => (None, rest),
        };
        let pin = pin.map(|pin| {
            let digest = crate::names::parse_hex(pin);
            digest.map(|digest| *digest.as_bytes())
        });
        if pin == Some(None) {
            return Err(
                "before `@` stands the node's pin, 64 digits `0-9a-f` as `mmh serve` shows them",
            );
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = port.map_or(Some(PORT), |port| {
            port.parse().ok().filter(|port| *port != 0)
        });
        let name = |host: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
            !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)
        };
        let v6 = |host: &str| {
            let inside = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'));
            inside.is_some_and(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok())
        };
        match port {
            Some(port) if name(host) || v6(host) => Ok(Self {
                pin: pin.flatten(),
                host: host.to_owned(),
                port,
            }),
            _ => Err("a node is at mmhs://PIN@HOST:PORT and has no folders"),
        }
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mmhs://")?;
        if let Some(pin) = self.pin {
            write!(f, "{}@", mmh_core::Digest::from_bytes(pin))?;
        }
        f.write_str(&self.authority())
    }
}

/// The protocols that reach beyond one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Amazon S3 and what is compatible with it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Engine {
    /// The scheme of its URLs.
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    fn of(scheme: &str) -> Option<Self> {
        [Self::S3, Self::Gcs, Self::Azure]
            .into_iter()
            .find(|engine| engine.scheme() == scheme)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Node(node) => node.fmt(f),
            Self::Bucket {
                engine,
                bucket,
                prefix,
            } => {
                write!(f, "{}://{bucket}", engine.scheme())?;
                if prefix.is_empty() {
                    Ok(())
                } else {
                    write!(f, "/{prefix}")
                }
            }
        }
    }
}

impl Place {
    /// Takes a place apart.
    ///
    /// # Errors
    /// Unsupported, with what is accepted instead.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let refused = |reason: &str| Error::UnsupportedBackend {
            place: shorten(&without_user(text)),
            reason: reason.to_owned(),
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text {
                "" => Err(refused("no place given")),
                path => Ok(Self::Folder(PathBuf::from(path))),
            };
        };
        if scheme == "file" {
            return if rest.starts_with('/') && !rest.contains('%') {
                Ok(Self::Folder(PathBuf::from(rest)))
            } else {
                Err(refused(
                    "a file URL has an absolute path without `%`: file:///data/models",
                ))
            };
        }
        if scheme == "mmhs" {
            return Node::parse(rest).map(Self::Node).map_err(refused);
        }
        let engine = Engine::of(scheme).ok_or_else(|| {
            let scheme = shorten(scheme);
            refused(&format!(
                "this build knows folders, `file://`, `s3://`, `gs://`, `az://` and `mmhs://`, not \
                 `{scheme}://`"
            ))
        })?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if bucket.is_empty() || bucket.len() > BUCKET_LEN_MAX || !bucket.bytes().all(allowed) {
            return Err(refused(
                "after `//` comes the name of a bucket, of letters, digits, `-`, `.` and `_`; \
                 credentials and endpoints come from the environment",
            ));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let plain = |segment: &str| {
            let bytes = segment.bytes().all(|b| allowed(b) || b"=+@".contains(&b));
            !segment.is_empty() && segment != "." && segment != ".." && bytes
        };
        if !prefix.is_empty() && !prefix.split('/').all(plain) {
            return Err(refused(
                "a prefix has names of letters, digits and `-._=+@` with one `/` between",
            ));
        }
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        Ok(Self::Bucket {
            engine,
            bucket,
            prefix,
        })
    }
}

/// A URL without what stands between `//` and `@`, which may be a password.
pub(crate) fn without_user(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let start = rest[..authority].rfind('@').map_or(0, |at| at + 1);
            format!("{scheme}://{}", &rest[start..])
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mmh_core::ErrorKind;
    use proptest::prelude::*;

    use super::*;

    fn folder(path: &str) -> Place {
        Place::Folder(Path::new(path).to_owned())
    }

    fn bucket(engine: Engine, bucket: &str, prefix: &str) -> Place {
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        Place::Bucket {
            engine,
            bucket,
            prefix,
        }
    }

    #[test]
    fn paths_and_file_urls_are_folders() {
        assert_eq!(Place::parse("a/b").unwrap(), folder("a/b"));
        assert_eq!(Place::parse("file:///a/b").unwrap(), folder("/a/b"));
    }

    #[test]
    fn buckets_have_a_prefix_or_none() {
        for (text, place) in [
            ("s3://models", bucket(Engine::S3, "models", "")),
            ("s3://models/", bucket(Engine::S3, "models", "")),
            ("gs://m.x/a/b", bucket(Engine::Gcs, "m.x", "a/b")),
            ("az://m/team=a/", bucket(Engine::Azure, "m", "team=a")),
        ] {
            let parsed = Place::parse(text).unwrap();
            assert_eq!(parsed, place, "{text}");
            assert_eq!(Place::parse(&parsed.to_string()).unwrap(), place, "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_unsupported_and_says_what_is_one() {
        for text in [
            "",
            "http://h/",
            "file://host/x",
            "file:///a%20b",
            "s3://",
            "s3:///x",
            "s3://key:secret@bucket/x",
            "s3://b?x=y",
            "s3://b//x",
            "s3://b/a/../c",
            "s3://b/a/.",
            "s3://b/a b",
            "s3://b/a%2fb",
            "S3://b",
        ] {
            let error = Place::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{text}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let error = Place::parse("ftp://b").unwrap_err().to_string();
        assert!(
            error.contains("`ftp://`") && error.contains("`s3://`"),
            "{error}"
        );
    }

    #[test]
    fn nodes_have_a_pin_and_a_port_or_the_usual_one() {
        let pin = "0123456789abcdef".repeat(4);
        for (text, host, port) in [
            ("h.example", "h.example", PORT),
            ("127.0.0.1:5/", "127.0.0.1", 5),
            ("[::1]", "[::1]", PORT),
            ("[::1]:9", "[::1]", 9),
        ] {
            for pinned in [false, true] {
                let text = match pinned {
                    true => format!("mmhs://{pin}@{text}"),
                    false => format!("mmhs://{text}"),
                };
                let parsed = Place::parse(&text).unwrap();
                let Place::Node(node) = &parsed else {
                    panic!("{parsed:?}")
                };
                assert_eq!((node.host.as_str(), node.port), (host, port), "{text}");
                assert_eq!(node.pin.is_some(), pinned);
                assert_eq!(Place::parse(&parsed.to_string()).unwrap(), parsed, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_node_is_unsupported_and_says_what_is_one() {
        let upper = "A".repeat(64);
        for rest in [
            "",
            ":1",
            "h:",
            "h:0",
            "h:65536",
            "h:x",
            "h/x",
            "h:1/x",
            "h?x",
            "::1",
            "[::1",
            "[x]",
            "@h",
            "user@h",
            "u:p@h",
            &format!("{upper}@h"),
            "h h",
        ] {
            let error = Place::parse(&format!("mmhs://{rest}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{rest}");
            let text = error.to_string();
            assert!(text.contains("HOST:PORT") || text.contains("pin"), "{text}");
        }
    }

    #[test]
    fn urls_lose_their_user_and_password() {
        for (url, plain) in [
            ("postgres://u:p@ss@h:1/d", "postgres://h:1/d"),
            ("postgres://h/d?x=a@b", "postgres://h/d?x=a@b"),
            ("nats://h", "nats://h"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(without_user(url), plain);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "(s3|gs|az|file|mmhs|x)?(://)?[a-zé/@:.% ?-]{0,20}") {
            if let Ok(place) = Place::parse(&text) {
                prop_assert_eq!(Place::parse(&place.to_string()).unwrap(), place);
            }
        }
    }
}

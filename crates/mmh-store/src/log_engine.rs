//! Where the operation log lives: the port that the log is written through, and its usual
//! implementation, the repository's own engine.
//!
//! The log asks less of an engine than packs do, but it asks one thing without which refs are not
//! safe: that of two creates of one name exactly one succeeds. An engine that cannot do that may
//! hold the packs while the log lives elsewhere. Names are the same everywhere: see
//! [`names`](crate::names).

#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "etcd", feature = "nats"))]
mod url;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mmh_core::Digest;
use mmh_core::error::shorten;

use crate::access::Access;
use crate::backend::{Backend, without_user};
use crate::error::{Error, Result};
use crate::objects::{Listed, is_taken};

/// Holds log entries, checkpoints and markers: small objects that are created, never changed.
#[async_trait]
pub trait LogEngine: Debug + Send + Sync {
    /// The object's name with the engine's place, for messages. Holds no secret.
    fn place(&self, name: &str) -> String;

    /// Makes what the engine needs before the first object: a table, a bucket. Called when a
    /// repository is made; that it is there already is no error.
    ///
    /// # Errors
    /// Denied; Unavailable; Invalid if the engine is set up so that it may lose what it confirms.
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Reads an object; `None` if there is none.
    ///
    /// # Errors
    /// Corrupt if it is longer than `len_max` bytes; Denied; Unavailable.
    async fn read(&self, name: &str, len_max: usize) -> Result<Option<Bytes>>;

    /// Creates an object if there is none of that name, durable when this returns `true`; `false`
    /// if there is one. After an error it may or may not be there.
    ///
    /// # Errors
    /// Denied; Unavailable.
    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool>;

    /// Makes sure that an object of these bytes lasts, which was found although its create
    /// failed.
    ///
    /// # Errors
    /// Denied; Unavailable.
    async fn confirm(&self, name: &str, bytes: Bytes) -> Result<()>;

    /// Makes sure that an object lasts which another process may have created a moment ago. Whoever
    /// creates what follows it calls this first.
    ///
    /// # Errors
    /// Denied; Unavailable.
    async fn settle(&self, name: &str) -> Result<()> {
        let _seen_only_when_it_lasts = name;
        Ok(())
    }

    /// Lists names and lengths in bytes below `prefix`, sorted; only those after the name
    /// `after`, if one is given. Where an engine would have to send an object to tell its length,
    /// the length is 0.
    ///
    /// # Errors
    /// Denied; Unavailable.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<(String, u64)>>;

    /// Deletes an object; that there is none is no error.
    ///
    /// # Errors
    /// Denied; Unavailable.
    async fn delete(&self, name: &str) -> Result<()>;
}

/// The engine of a URL, for the log of one repository. Nothing is asked of it yet.
///
/// # Errors
/// Unsupported for another scheme, or one that this build was made without; Invalid for a URL or
/// settings that do not fit.
#[cfg_attr(
    not(any(feature = "postgres", feature = "etcd", feature = "nats")),
    expect(unused_variables, reason = "no engine is there to ask")
)]
pub(crate) fn connect(
    url: &str,
    repository: &Digest,
    access: &Access,
) -> Result<Arc<dyn LogEngine>> {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    match scheme {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(postgres::PostgresLog::new(
            url, repository, access,
        )?)),
        #[cfg(feature = "etcd")]
        "etcd" => Ok(Arc::new(etcd::EtcdLog::new(url, repository, access)?)),
        #[cfg(feature = "nats")]
        "nats" => Ok(Arc::new(nats::NatsLog::new(url, repository, access)?)),
        _ => {
            let known = ["postgres", "etcd", "nats"].contains(&scheme);
            Err(Error::UnsupportedBackend {
                place: shorten(&without_user(url)),
                reason: if known {
                    format!("this build was made without the feature `{scheme}`")
                } else {
                    "a log lives at `postgres://`, `etcd://` or `nats://`".to_owned()
                },
            })
        }
    }
}

/// Where an engine is, without the repository and without secrets: what the configuration names.
pub(crate) fn location(engine: &dyn LogEngine) -> String {
    engine.place("").trim_end_matches('/').to_owned()
}

/// What confirms an object where one that can be seen also lasts.
#[cfg(any(feature = "postgres", feature = "etcd", feature = "nats"))]
async fn confirm_by_reading(engine: &dyn LogEngine, name: &str, bytes: &[u8]) -> Result<()> {
    let found = engine.read(name, bytes.len()).await?;
    if found.as_deref() == Some(bytes) {
        return Ok(());
    }
    Err(Error::Corrupt {
        object: engine.place(name),
        reason: "it is not what was written".to_owned(),
    })
}

/// The names below a prefix, as bounds that are not among them: `/` sorts right before `0`.
#[cfg(any(feature = "postgres", feature = "etcd"))]
fn bounds(prefix: &str) -> (String, String) {
    (format!("{prefix}/"), format!("{prefix}0"))
}

/// The log beside the packs, in the engine of a backend.
#[derive(Debug)]
pub(crate) struct ObjectLog(pub(crate) Backend);

#[async_trait]
impl LogEngine for ObjectLog {
    fn place(&self, name: &str) -> String {
        self.0.place(name)
    }

    async fn read(&self, name: &str, len_max: usize) -> Result<Option<Bytes>> {
        self.0.read(name, len_max).await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        match self.0.create(name, bytes).await {
            Ok(()) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(Error::engine(self.0.place(name))(error)),
        }
    }

    /// Writes the same bytes again, which is harmless and tells.
    async fn confirm(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.0.write(name, bytes).await
    }

    async fn settle(&self, name: &str) -> Result<()> {
        self.0.settle(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>> {
        match after {
            Some(after) => self.0.list_after(prefix, after).await,
            None => self.0.list(prefix).await,
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.0.delete(name).await
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;

    use super::*;

    fn names(listed: Vec<Listed>) -> Vec<String> {
        listed.into_iter().map(|(name, _)| name).collect()
    }

    #[tokio::test]
    async fn objects_are_created_once_and_listed_in_order() {
        let log = Backend::memory().log_engine();
        for name in ["mmh/log/2", "mmh/log/1", "mmh/log/3", "mmh/logs/0"] {
            assert!(log.create(name, name.into()).await.unwrap());
            assert!(!log.create(name, "other".into()).await.unwrap());
        }
        let all = names(log.list("mmh/log", None).await.unwrap());
        assert_eq!(all, ["mmh/log/1", "mmh/log/2", "mmh/log/3"]);
        let later = names(log.list("mmh/log", Some("mmh/log/1")).await.unwrap());
        assert_eq!(later, ["mmh/log/2", "mmh/log/3"]);
        let kept = log.read("mmh/log/2", 9).await.unwrap();
        assert_eq!(kept.as_deref(), Some(&b"mmh/log/2"[..]));
        let error = log.read("mmh/log/2", 8).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        for _ in 0..2 {
            log.delete("mmh/log/2").await.unwrap();
            assert_eq!(log.read("mmh/log/2", 9).await.unwrap(), None);
        }
    }

    /// A repository whose log lives elsewhere keeps nothing of it beside the packs.
    #[tokio::test]
    async fn a_log_elsewhere_replaces_the_one_beside_the_packs() {
        let (packs, elsewhere) = (Backend::memory(), Backend::memory());
        let backend = packs.clone().with_log(elsewhere.log_engine());
        let log = backend.log_engine();
        assert!(log.create("mmh/log/1", "x".into()).await.unwrap());
        log.confirm("mmh/log/1", "x".into()).await.unwrap();
        assert_eq!(packs.list("mmh").await.unwrap(), []);
        assert_eq!(elsewhere.list("mmh").await.unwrap().len(), 1);
        assert_eq!(log.place("mmh/log/1"), "memory/mmh/log/1");
    }
}

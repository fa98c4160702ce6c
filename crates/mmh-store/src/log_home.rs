//! Where a repository's log lives, and whether that place can be trusted with it.
//!
//! The configuration names the place for people, without user and password; what proves that a
//! log is this repository's is a copy of the configuration beside it, under the repository's id.
//! That an engine refuses a second create is tried, not believed: at `init`, and at every opening
//! of a place elsewhere.

use bytes::Bytes;
use mmh_core::Digest;

use crate::backend::Backend;
use crate::config::Config;
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::log_engine::{LogEngine, ObjectLog, connect, location};
use crate::names;
use crate::objects::SEAL_LEN;

/// The log's home of a repository that is to be: the backend with it, and what the configuration
/// says of it.
pub(crate) fn choose(backend: Backend, repository: &Digest) -> Result<(Backend, Option<String>)> {
    let backend = match (backend.log_elsewhere(), &backend.access().log) {
        (None, Some(url)) => {
            let engine = connect(url, repository, backend.access())?;
            backend.with_log(engine)
        }
        _ => backend,
    };
    let log = backend.log_elsewhere().map(|engine| location(&**engine));
    Ok((backend, log))
}

/// The backend with the log's home of a repository that was made: the URL that was given, else
/// the place that the configuration names.
pub(crate) fn of(backend: Backend, config: &Config) -> Result<Backend> {
    let given = backend.access().log.clone();
    match (&config.log, backend.log_elsewhere()) {
        (None, None) if given.is_none() => Ok(backend),
        (Some(_), Some(_)) => Ok(backend),
        (Some(place), None) => {
            let url = given.as_ref().unwrap_or(place);
            let engine = connect(url, &config.repository, backend.access())?;
            Ok(backend.with_log(engine))
        }
        (None, _) => Err(Error::BadPlace {
            place: backend.name().to_owned(),
            reason: "its log lies beside its packs; leave out --log".to_owned(),
        }),
    }
}

/// Tries the engine, and the log's if that is another; returns whether the packs' engine refuses
/// to create a name twice.
///
/// # Errors
/// Unsupported if the engine that is to hold the log does not.
pub(crate) async fn probe(
    backend: &Backend,
    entropy: &dyn Entropy,
    elsewhere: bool,
) -> Result<bool> {
    let name = format!("{}-{}", names::PROBE, entropy.draw()?);
    let conditional = creates_once(&ObjectLog(backend.clone()), &name).await?;
    if elsewhere {
        let log = backend.log_engine();
        log.prepare().await?;
        if !creates_once(&*log, &name).await? {
            return Err(ignores_conditions(&location(&*log)));
        }
    } else if !conditional {
        return Err(ignores_conditions(backend.name()));
    }
    Ok(conditional)
}

/// Whether of two creates of one name the second is refused and changes nothing.
async fn creates_once(engine: &dyn LogEngine, name: &str) -> Result<bool> {
    engine.create(name, Bytes::from_static(b"first")).await?;
    let second = engine.create(name, Bytes::from_static(b"second")).await;
    let kept = engine.read(name, SEAL_LEN).await?;
    engine.delete(name).await?;
    Ok(!second? && kept.as_deref() == Some(b"first"))
}

fn ignores_conditions(place: &str) -> Error {
    Error::UnsupportedBackend {
        place: place.to_owned(),
        reason: "the engine ignores `create only if absent`, so two writers could overwrite each \
                 other's refs; keep the log elsewhere with --log postgres://…, etcd://… or nats://…"
            .to_owned(),
    }
}

/// Puts the configuration beside the log, so that the log can be told from any other.
pub(crate) async fn mark(backend: &Backend, config: &Bytes) -> Result<()> {
    let log = backend.log_engine();
    if log.create(names::CONFIG, config.clone()).await? {
        return Ok(());
    }
    let place = log.place(names::CONFIG);
    Err(Error::AlreadyARepository { place })
}

/// Checks that the log's home is this repository's and still refuses a second create.
pub(crate) async fn check(backend: &Backend, config: &Config, bytes: &Bytes) -> Result<()> {
    if config.log.is_some() {
        let log = backend.log_engine();
        let found = log.read(names::CONFIG, bytes.len()).await?;
        return match found {
            Some(found) if found == *bytes => Ok(()),
            _ => Err(Error::NotTheLog {
                place: location(&*log),
                recorded: config.log.clone().unwrap_or_default(),
            }),
        };
    }
    if !backend.is_elsewhere() {
        return Ok(());
    }
    // The name is taken. An engine that takes the same bytes again is harmed by nothing, but has
    // ignored the condition. A reader without the right to write learns nothing and needs nothing.
    match backend.create(names::CONFIG, bytes.clone()).await {
        Ok(()) => Err(ignores_conditions(backend.name())),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mmh_core::ErrorKind;
    use mmh_core::ports::{Cancel, Silent};
    use object_store::memory::InMemory;

    use super::*;
    use crate::access::Access;
    use crate::conformance::Careless;
    use crate::staging::MemoryStaging;
    use crate::store::{InitOptions, OpenOptions, Store};

    fn careless() -> Backend {
        let objects = Arc::new(Careless(Arc::new(InMemory::new())));
        Backend::custom("careless", objects, Arc::new(MemoryStaging::default()))
    }

    async fn init(backend: &Backend) -> Result<Store> {
        Store::init(backend.clone(), InitOptions::default()).await
    }

    async fn open(backend: &Backend) -> Result<Store> {
        Store::open(backend.clone(), OpenOptions::default()).await
    }

    #[tokio::test]
    async fn an_engine_that_ignores_conditions_needs_a_log_elsewhere() {
        let packs = careless();
        let error = init(&packs).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("--log"), "{error}");
        assert_eq!(
            packs.list("mmh").await.unwrap(),
            [],
            "nothing is left behind"
        );

        let log = Backend::memory();
        let both = packs.clone().with_log(log.log_engine());
        let store = init(&both).await.unwrap();
        assert!(!store.config().conditional_put);
        assert_eq!(store.config().log.as_deref(), Some("memory"));
        open(&both).await.unwrap();
        let again = init(&both).await.unwrap_err();
        assert!(matches!(again, Error::AlreadyARepository { .. }), "{again}");
    }

    #[tokio::test]
    async fn a_log_that_ignores_conditions_is_refused() {
        let both = Backend::memory().with_log(careless().log_engine());
        let error = init(&both).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }

    /// Else a repository would show an old state, or none, and accept writes to it.
    #[tokio::test]
    async fn a_repository_is_not_opened_with_another_log() {
        let packs = Backend::memory();
        let (log, other) = (Backend::memory(), Backend::memory());
        init(&packs.clone().with_log(log.log_engine()))
            .await
            .unwrap();
        init(&Backend::memory().with_log(other.log_engine()))
            .await
            .unwrap();
        for engine in [other.log_engine(), Backend::memory().log_engine()] {
            let error = open(&packs.clone().with_log(engine)).await.unwrap_err();
            assert!(matches!(error, Error::NotTheLog { .. }), "{error}");
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
        // The place that the configuration names is none that can be connected to.
        let error = open(&packs).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }

    /// Two repositories would have one log, and one of them not the packs that it names.
    #[tokio::test]
    async fn a_repository_with_its_log_elsewhere_is_not_copied() {
        let log = Backend::memory();
        let store = init(&Backend::memory().with_log(log.log_engine()))
            .await
            .unwrap();
        let (dest, cancel) = (Backend::memory(), Cancel::default());
        let error = store.copy_to(&dest, &Silent, &cancel).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(dest.list("mmh").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_log_beside_the_packs_leaves_no_choice() {
        let packs = Backend::memory();
        init(&packs).await.unwrap();
        let with_engine = packs.clone().with_log(Backend::memory().log_engine());
        let access = Access {
            log: Some("postgres://h/d".to_owned()),
            ..Access::default()
        };
        for backend in [with_engine, packs.with_access(&access)] {
            let error = open(&backend).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("leave out --log"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_log_needs_a_url_that_is_one() {
        for url in ["mysql://h/d", "h", ""] {
            let access = Access {
                log: Some(url.to_owned()),
                ..Access::default()
            };
            let error = init(&Backend::memory().with_access(&access))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{url}: {error}");
        }
    }
}

//! Logs in PostgreSQL, etcd and NATS, each on its real server.

use std::path::Path;

use mmh_core::ErrorKind;
use mmh_store::conformance::{change, commit, exam, log_exam};
use mmh_store::{Access, Backend, Error, InitOptions, OpenOptions, Store};
use std::sync::atomic::{AtomicU32, Ordering};

use super::race;
use super::server::{PASSWORD, Server};

/// The password as it stands in a URL.
fn encoded() -> String {
    PASSWORD.replace('@', "%40").replace('/', "%2F")
}

fn access(log: &str, variables: &[(&str, &str)]) -> Access {
    let pairs = variables
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Access {
        log: Some(log.to_owned()),
        variables: pairs.collect(),
        ..Access::default()
    }
}

fn local(folder: &Path, access: &Access) -> Backend {
    Backend::parse(folder.to_str().unwrap(), access).unwrap()
}

/// The whole exam of backends and of logs, then many writers, with packs in a folder and the log
/// at a URL.
async fn sits_the_exams(url: &str) {
    let dir = tempfile::tempdir().unwrap();
    let access = access(url, &[]);
    log_exam(url, &access).await;
    let n = AtomicU32::new(0);
    let fresh = || {
        let n = n.fetch_add(1, Ordering::Relaxed);
        local(&dir.path().join(n.to_string()), &access)
    };
    exam(fresh).await;
    race::many_writers(url.split(':').next().unwrap(), &fresh()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_postgres() {
    let Some(server) = Server::postgres() else {
        return;
    };
    let port = server.port;
    let url = format!("postgres://mmh:{}@127.0.0.1:{port}/postgres", encoded());
    sits_the_exams(&url).await;
    secrets_and_mistakes(&server, &url).await;
}

/// What the configuration names has no password, opens with the variables of PostgreSQL's own
/// programs, and mistakes say what to do.
async fn secrets_and_mistakes(server: &Server, url: &str) {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("packs");
    let backend = local(&folder, &access(url, &[]));
    let store = Store::init(backend, InitOptions::default()).await.unwrap();
    store
        .commit(commit(vec![change("m", None, None)]))
        .await
        .unwrap();
    let place = format!("postgres://127.0.0.1:{}/postgres", server.port);
    assert_eq!(store.config().log.as_deref(), Some(place.as_str()));
    let config = std::fs::read(folder.join("mmh/config")).unwrap();
    let text = String::from_utf8_lossy(&config).into_owned();
    assert!(text.contains("postgres://") && !text.contains(PASSWORD) && !text.contains(&encoded()));
    assert!(!folder.join("mmh/log").exists(), "no log beside the packs");

    let open = async |access: &Access| {
        let backend = Backend::parse_existing(folder.to_str().unwrap(), access).unwrap();
        Store::open(backend, OpenOptions::default()).await
    };
    let user = [("PGUSER", "mmh"), ("PGPASSWORD", PASSWORD)];
    let recorded = Access {
        log: None,
        ..access("", &user)
    };
    assert_eq!(open(&recorded).await.unwrap().refs().await.unwrap().seq, 1);

    let wrong = Access {
        log: None,
        ..access("", &[("PGUSER", "mmh"), ("PGPASSWORD", "wrong")])
    };
    let error = open(&wrong).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("PGPASSWORD"), "{error}");
    let none = format!(
        "postgres://mmh:{}@127.0.0.1:{}/none",
        encoded(),
        server.port
    );
    let error = open(&access(&none, &[])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains("createdb"), "{error}");
    let empty = format!(
        "postgres://mmh:{}@127.0.0.1:{}/template1",
        encoded(),
        server.port
    );
    let error = open(&access(&empty, &[])).await.unwrap_err();
    assert!(error.to_string().contains("no log of mmh"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_etcd() {
    let Some(server) = Server::etcd() else { return };
    let url = format!("etcd://127.0.0.1:{}", server.port);
    sits_the_exams(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_in_nats() {
    let Some(server) = Server::nats(&[]) else {
        return;
    };
    let url = format!("nats://127.0.0.1:{}/logs", server.port);
    sits_the_exams(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_may_want_a_user() {
    let Some(server) = Server::nats(&["--user", "mmh", "--pass", PASSWORD]) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let init = async |url: &str, variables: &[(&str, &str)]| {
        let backend = local(dir.path(), &access(url, variables));
        Store::init(backend, InitOptions::default()).await
    };
    let url = format!("nats://127.0.0.1:{}", server.port);
    let error = init(&url, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("NATS_PASSWORD"), "{error}");
    let named = format!("nats://mmh:{}@127.0.0.1:{}", encoded(), server.port);
    init(&named, &[]).await.unwrap();
    let user = [("NATS_USER", "mmh"), ("NATS_PASSWORD", PASSWORD)];
    let again = init(&url, &user).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyARepository { .. }), "{again}");
}

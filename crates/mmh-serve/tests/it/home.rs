//! A hub on loopback, over a repository in memory, and a client that sends what it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mmh_core::ports::{Clock, SystemClock};
use mmh_repo::{Backend, Components, FileCache, Repository, Settings};
use mmh_serve::{Gate, Hub, HubOptions, Limits, Role, Server, Silent, Tokens, Upstream, health};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Length of a part of an upload.
pub(crate) const PART_LEN: u64 = 1_000_000;

/// This machine's clock, ahead by what a test wants.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms() + self.0.load(Ordering::SeqCst)
    }
}

/// A hub that runs, with its clients on the same runtime.
pub(crate) struct Home {
    pub(crate) runtime: Runtime,
    pub(crate) address: String,
    pub(crate) repo: Arc<Repository>,
    pub(crate) folder: TempDir,
    clock: Arc<Ahead>,
    /// Whole decoded files.
    pub(crate) cached: TempDir,
    _stop: oneshot::Sender<()>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let (_, value) = lines.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with(Tokens::none(Role::Admin), Limits::default(), 64 << 20)
    }

    pub(crate) fn with(tokens: Tokens, limits: Limits, uploads_len: u64) -> Self {
        let gate = Gate::new(tokens, false, Arc::new(Silent)).unwrap();
        Self::of(gate, limits, uploads_len)
    }

    /// Behind a gate of the test's own.
    pub(crate) fn behind(gate: Gate) -> Self {
        Self::of(gate, Limits::default(), 64 << 20)
    }

    /// A mirror of the hub at that URL, which asks each time whether a branch has moved.
    pub(crate) fn mirror(url: &str) -> Self {
        let gate = Gate::new(Tokens::none(Role::Admin), false, Arc::new(Silent)).unwrap();
        let upstream = Upstream {
            url: url.to_owned(),
            token: None,
            fresh: std::time::Duration::ZERO,
        };
        Self::all(gate, Limits::default(), 64 << 20, Some(upstream))
    }

    fn of(gate: Gate, limits: Limits, uploads_len: u64) -> Self {
        Self::all(gate, limits, uploads_len, None)
    }

    fn all(gate: Gate, limits: Limits, uploads_len: u64, upstream: Option<Upstream>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let clock = Arc::new(Ahead::default());
        let components = Components {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ..Components::new(runtime.handle().clone(), Arc::new(pool.unwrap()))
        };
        let repo = Repository::init(Backend::memory(), Settings::default(), components);
        let repo = Arc::new(repo.unwrap());
        Self::over(
            (runtime, repo, clock),
            (gate, limits, uploads_len),
            upstream,
        )
    }

    /// Another server over the same repository, without what was uploaded to this one.
    pub(crate) fn again(self) -> Self {
        let Self {
            runtime,
            repo,
            clock,
            ..
        } = self;
        let gate = Gate::new(Tokens::none(Role::Admin), false, Arc::new(Silent)).unwrap();
        Self::over(
            (runtime, repo, clock),
            (gate, Limits::default(), 64 << 20),
            None,
        )
    }

    /// Lets time pass.
    pub(crate) fn turn(&self, ms: u64) {
        self.clock.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn over(
        (runtime, repo, clock): (Runtime, Arc<Repository>, Arc<Ahead>),
        (gate, limits, uploads_len): (Gate, Limits, u64),
        upstream: Option<Upstream>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cached = tempfile::tempdir().unwrap();
        let options = HubOptions {
            uploads: folder.path().to_owned(),
            uploads_len,
            part_len: PART_LEN,
            upstream,
            cache: Some(Arc::new(FileCache::new(cached.path().to_owned(), 1 << 30))),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        };
        let hub = Hub::open(Arc::clone(&repo), &gate, limits.clone(), options).unwrap();
        let router = health(Arc::clone(&repo), &gate).merge(hub.router());
        let address = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(address, None, router, (limits, Arc::new(Silent)));
        let server = runtime.block_on(server).unwrap();
        let address = server.address().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(server.run(async { stopped.await.unwrap_or(()) }));
        Self {
            runtime,
            address,
            repo,
            folder,
            clock,
            cached,
            _stop: stop,
        }
    }

    /// Sends bytes, and reads all that comes.
    pub(crate) fn raw(&self, request: &[u8]) -> Answer {
        let all = self.runtime.block_on(async {
            let mut stream = TcpStream::connect(&self.address).await.unwrap();
            // A server that has read enough closes before it has read all.
            stream.write_all(request).await.ok();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.ok();
            all
        });
        let end = all.windows(4).position(|w| w == b"\r\n\r\n");
        let Some(end) = end else {
            panic!("no answer: {}", String::from_utf8_lossy(&all));
        };
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = all[end + 4..].to_vec();
        Answer { status, head, body }
    }

    /// Sends bytes and goes, and waits until nothing of it is left.
    pub(crate) fn send_and_leave(&self, request: &[u8]) {
        self.runtime.block_on(async {
            let mut stream = TcpStream::connect(&self.address).await.unwrap();
            stream.write_all(request).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
        });
        while self.staged() > 0 {
            std::thread::yield_now();
        }
    }

    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let more: String = headers
            .iter()
            .map(|(k, v)| format!("{k}: {v}\r\n"))
            .collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-length: {}\r\n{more}\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], body.to_string().as_bytes())
    }

    pub(crate) fn create(&self, id: &str) {
        let made = self.post("/api/repos/create", &json!({ "name": id }));
        assert_eq!(made.status, 200, "{made:?}");
    }

    /// Commits lines after a header.
    pub(crate) fn commit(&self, id: &str, lines: &[Value]) -> Answer {
        self.commit_on(id, lines, &json!({ "summary": "s" }))
    }

    pub(crate) fn commit_on(&self, id: &str, lines: &[Value], header: &Value) -> Answer {
        let mut text = format!("{}\n", json!({ "key": "header", "value": header }));
        for line in lines {
            text.push_str(&format!("{line}\n"));
        }
        self.ask(
            "POST",
            &format!("/api/models/{id}/commit/main"),
            &[],
            text.as_bytes(),
        )
    }

    pub(crate) fn head_of(&self, id: &str) -> String {
        let info = self.get(&format!("/api/models/{id}")).json();
        info["sha"].as_str().unwrap().to_owned()
    }

    /// Files in the folder of uploads.
    pub(crate) fn staged(&self) -> usize {
        let mut left = vec![self.folder.path().to_owned()];
        let mut n = 0;
        while let Some(folder) = left.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => left.push(path),
                    // Which address clients have is remembered.
                    false => {
                        let folder = path.parent().and_then(|folder| folder.file_name());
                        let kept = path.ends_with("lock") || folder == Some("addresses".as_ref());
                        n += usize::from(!kept);
                    }
                }
            }
        }
        n
    }
}

pub(crate) fn regular(path: &str, bytes: &[u8]) -> Value {
    let content = BASE64_STANDARD.encode(bytes);
    json!({ "key": "file", "value": { "path": path, "content": content, "encoding": "base64" } })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

pub(crate) fn large(path: &str, bytes: &[u8]) -> Value {
    let (oid, size) = (sha256(bytes), bytes.len());
    json!({ "key": "lfsFile", "value": { "path": path, "algo": "sha256", "oid": oid, "size": size } })
}

pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let seed = blake3::hash(&seed.to_le_bytes());
    blake3::Hasher::new_keyed(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Where a batch says that an upload goes; `None` if it need not be sent.
pub(crate) fn address_of(home: &Home, id: &str, oid: &str, size: usize) -> Option<String> {
    let path = format!("/{id}.git/info/lfs/objects/batch");
    let asked = json!({
        "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
        "objects": [{ "oid": oid, "size": size }],
    });
    let answer = home.post(&path, &asked);
    assert_eq!(answer.status, 200, "{answer:?}");
    let href = answer.json()["objects"][0]["actions"]["upload"]["href"].clone();
    let href = href.as_str()?.strip_prefix("http://localhost")?;
    Some(href.to_owned())
}

//! Servers for tests: found, started on a free port of this machine, ended with the test.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take until it listens, on a machine that does much else.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The password of PostgreSQL's test user; it has characters that URLs must encode.
pub(crate) const PASSWORD: &str = "p@ss/word";

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    /// Its data.
    dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.child.kill().is_err();
        let _gone_already = self.child.wait().is_err();
    }
}

/// Says that a server is left out. Where `MMH_ENGINES=all`, as in CI, that is a failure.
fn left_out(what: &str) -> Option<PathBuf> {
    let missing = format!("{what} is not installed; `cargo xtask engines` brings it");
    assert_ne!(variable("MMH_ENGINES").as_deref(), Some("all"), "{missing}");
    // Not captured, so that it is seen in a run that passes.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "\nLEFT OUT: {missing}\n").unwrap();
    None
}

#[allow(
    clippy::disallowed_methods,
    reason = "tests are told where servers are"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where `cargo xtask engines` puts what it brings.
fn brought() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = variable("MMH_DEMO_CACHE").map_or_else(|| root.join(".demo"), PathBuf::from);
    cache.join("engines")
}

/// A program: brought, or installed.
pub(crate) fn program(name: &str, package: &str) -> Option<PathBuf> {
    let mut folders = vec![
        brought().join("root/usr/bin"),
        brought().join("root/usr/sbin"),
        brought().join("signing/bin"),
    ];
    let path = variable("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders.push("/usr/sbin".into());
    let postgres = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    folders.extend(postgres.flatten().map(|version| version.path().join("bin")));
    let found = folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.or_else(|| left_out(package))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl Server {
    /// Starts a program; `arguments` gets the port and the folder.
    fn start(program: &Path, dir: TempDir, arguments: impl Fn(u16, &Path) -> Vec<String>) -> Self {
        for _ in 0..5 {
            let port = free_port();
            let mut command = Command::new(program);
            command
                .args(arguments(port, dir.path()))
                .stdin(Stdio::null());
            let log = dir.path().join("server.log");
            let out = fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&log)
                .unwrap();
            command.stdout(out.try_clone().unwrap()).stderr(out);
            as_owner(&mut command, dir.path());
            let mut child = command.spawn().unwrap();
            if listens(port, &mut child) {
                return Self { child, port, dir };
            }
            let text = fs::read_to_string(&log).unwrap_or_default();
            // Only another process that took the port meanwhile is a reason to try again.
            assert!(text.contains("in use"), "{}: {text}", program.display());
        }
        panic!("{}: every port was taken", program.display());
    }

    /// Sends one HTTP request without a body and returns the status line.
    pub(crate) fn request(&self, line: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        let host = format!("127.0.0.1:{}", self.port);
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// moto, a model of Amazon's services, with a bucket `models`.
    pub(crate) fn moto() -> Option<Self> {
        let python = brought().join("python/bin/python");
        let python = if python.is_file() {
            Some(python)
        } else {
            left_out("moto (pip)")
        }?;
        let dir = tempfile::tempdir().unwrap();
        let server = Self::start(&python, dir, |port, _| {
            let port = port.to_string();
            ["-m", "moto.server", "-H", "127.0.0.1", "-p", &port]
                .map(String::from)
                .into()
        });
        let answer = server.request("PUT /models");
        assert!(answer.contains("200"), "{answer}");
        Some(server)
    }

    /// PostgreSQL with a database `logs` of the user `mmh`, who has a password.
    pub(crate) fn postgres() -> Option<Self> {
        let initdb = program("initdb", "postgresql (Debian)")?;
        let postgres = program("postgres", "postgresql (Debian)")?;
        let dir = tempfile::tempdir().unwrap();
        hand_over(dir.path());
        let password = dir.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        fs::set_permissions(
            &password,
            std::os::unix::fs::PermissionsExt::from_mode(0o644),
        )
        .unwrap();
        let mut init = Command::new(initdb);
        init.arg("-D")
            .arg(dir.path().join("data"))
            .arg("--pwfile")
            .arg(&password);
        init.args([
            "-U",
            "mmh",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        as_owner(&mut init, dir.path());
        let done = init.output().unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        Some(Self::start(&postgres, dir, |port, dir| {
            let (data, dir) = (
                dir.join("data").display().to_string(),
                dir.display().to_string(),
            );
            let port = port.to_string();
            // A server that is killed leaves no shared memory behind if that is files of its own.
            let memory = "dynamic_shared_memory_type=mmap";
            let place = ["-D", &data, "-h", "127.0.0.1", "-p", &port, "-k", &dir];
            place
                .into_iter()
                .chain(["-c", memory])
                .map(String::from)
                .collect()
        }))
    }

    /// etcd, one member.
    pub(crate) fn etcd() -> Option<Self> {
        let etcd = program("etcd", "etcd-server (Debian)")?;
        let dir = tempfile::tempdir().unwrap();
        Some(Self::start(&etcd, dir, |port, dir| {
            let client = format!("http://127.0.0.1:{port}");
            let peer = format!("http://127.0.0.1:{}", free_port());
            let data = dir.join("data").display().to_string();
            let cluster = format!("default={peer}");
            let pairs = [
                ("--data-dir", &data),
                ("--listen-client-urls", &client),
                ("--advertise-client-urls", &client),
                ("--listen-peer-urls", &peer),
                ("--initial-advertise-peer-urls", &peer),
                ("--initial-cluster", &cluster),
            ];
            pairs
                .iter()
                .flat_map(|(k, v)| [(*k).to_owned(), (*v).clone()])
                .collect()
        }))
    }

    /// NATS with JetStream.
    pub(crate) fn nats(arguments: &[&str]) -> Option<Self> {
        let nats = program("nats-server", "nats-server (Debian)")?;
        let dir = tempfile::tempdir().unwrap();
        Some(Self::start(&nats, dir, |port, dir| {
            let (port, dir) = (port.to_string(), dir.display().to_string());
            let own = ["-js", "-sd", &dir, "-a", "127.0.0.1", "-p", &port];
            own.iter()
                .chain(arguments)
                .map(|word| (*word).to_owned())
                .collect()
        }))
    }

    /// A folder that lives as long as the server.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Whether the server listens; `false` if it ended.
fn listens(port: u16, child: &mut Child) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let start = Instant::now();
    while start.elapsed() < START_TIMEOUT {
        if TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("no server listens on {port} after {START_TIMEOUT:?}");
}

/// PostgreSQL does not run as root: the folder, and then the server, become its user's.
fn hand_over(folder: &Path) {
    use std::os::unix::fs::{MetadataExt, chown};
    if fs::metadata(folder).unwrap().uid() != 0 {
        return;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let line = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("its package");
    let id = |n: usize| line.split(':').nth(n).unwrap().parse().unwrap();
    chown(folder, Some(id(2)), Some(id(3))).unwrap();
}

/// Runs a command as the owner of its folder.
fn as_owner(command: &mut Command, folder: &Path) {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;
    let meta = fs::metadata(folder).unwrap();
    if meta.uid() != 0 {
        command.uid(meta.uid()).gid(meta.gid()).current_dir(folder);
    }
}

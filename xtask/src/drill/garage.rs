//! A real Garage cluster of three nodes with the log in PostgreSQL: one node is killed in the
//! middle of `mmh add`, and everything that was acknowledged must be there, before, without and
//! after that node.
//!
//! Garage (AGPL, used as a program only) ignores `create only if absent`; the drill first makes
//! sure that `mmh init` refuses to keep a log there.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::compare;
use crate::engines;
use crate::fixture;
use crate::mmh::Mmh;
use crate::shell::{Context as _, Failure, Outcome, Scratch, cache, capture, run};

/// The version that the commands and the settings file below are written for.
const GARAGE_VERSION: &str = "2.5.0";
/// Each node has an address of this machine of its own.
const ADDRESSES: [&str; 3] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"];
/// The node that is killed; S3 requests go to the first.
const VICTIM: usize = 2;
const S3_PORT: u16 = 3900;
const RPC_PORT: u16 = 3901;
/// The database's port; not the usual one, which may be in use.
const LOG_PORT: u16 = 54_329;
/// The repository.
const PLACE: &str = "s3://models/drill";
/// Names that are added; the node dies while the middle one is under way.
const ADDS: usize = 9;
/// Length of the tree that each add brings: some seconds over three nodes.
const TREE_LEN: usize = 12 << 20;
/// How long an add runs until the node dies.
const KILL_AFTER: Duration = Duration::from_millis(700);
/// How long a server may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Exit code of Unsupported.
const UNSUPPORTED: i32 = 4;

/// A server that ends with the drill.
#[derive(Debug)]
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed on purpose.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// `cargo xtask drill garage [--install]`
pub(crate) fn garage(program: &Path, install: bool) -> Outcome {
    let garage = find_garage(install)?;
    let scratch = Scratch::new("drill-garage")?;
    let cluster = Cluster::start(&garage, scratch.path())?;
    let (_database, log) = database(&scratch.path().join("log"))?;
    let mmh = Mmh {
        program: program.to_path_buf(),
        repository: PLACE.into(),
    };
    let drill = Drill {
        mmh,
        cluster,
        log,
        folder: scratch.path().to_owned(),
    };
    drill.run()
}

/// A Garage that is there, or is built: some 20 minutes of one core.
fn find_garage(install: bool) -> Outcome<PathBuf> {
    let root = cache().join("engines/garage");
    let ours = root.join("bin/garage");
    if ours.is_file() {
        return Ok(ours);
    }
    if let Some(installed) = engines::find("garage") {
        return Ok(installed);
    }
    if !install {
        return Err(Failure::unavailable(
            "there is no `garage`; with --install the drill builds it, in about 20 minutes of one core",
        ));
    }
    let mut build = crate::shell::cargo();
    build.args([
        "install",
        "garage",
        "--version",
        GARAGE_VERSION,
        "--locked",
        "--root",
    ]);
    run(build.arg(&root))?;
    Ok(ours)
}

/// Three nodes and the keys to them.
#[derive(Debug)]
struct Cluster {
    garage: PathBuf,
    folder: PathBuf,
    nodes: std::cell::RefCell<Vec<Option<Server>>>,
    key: (String, String),
}

impl Cluster {
    fn start(garage: &Path, scratch: &Path) -> Outcome<Self> {
        let folder = scratch.join("garage");
        let mut cluster = Self {
            garage: garage.to_owned(),
            folder,
            nodes: std::cell::RefCell::new(vec![None, None, None]),
            key: Default::default(),
        };
        // A node has its id once it was started.
        let mut ids = Vec::new();
        for n in 0..ADDRESSES.len() {
            cluster.configure(n)?;
            cluster.start_node(n)?;
            ids.push(cluster.id(n)?);
        }
        for (id, address) in ids.iter().zip(ADDRESSES).skip(1) {
            cluster.ask(&["node", "connect", &format!("{id}@{address}:{RPC_PORT}")])?;
        }
        for id in &ids {
            cluster.ask(&["layout", "assign", "-z", "here", "-c", "10G", id])?;
        }
        cluster.ask(&["layout", "apply", "--version", "1"])?;
        cluster.ask(&["bucket", "create", "models"])?;
        let key = cluster.ask(&["key", "create", "drill"])?;
        cluster.ask(&[
            "bucket", "allow", "--read", "--write", "--owner", "models", "--key", "drill",
        ])?;
        cluster.key = (field(&key, "Key ID")?, field(&key, "Secret key")?);
        Ok(cluster)
    }

    fn settings(&self, n: usize) -> PathBuf {
        self.folder.join(format!("{n}.toml"))
    }

    /// Writes a node's settings.
    fn configure(&self, n: usize) -> Outcome {
        let (address, data) = (ADDRESSES[n], self.folder.join(n.to_string()));
        fs::create_dir_all(&data).context(data.display())?;
        let (data, secret) = (data.display(), "5a".repeat(32));
        let text = format!(
            "metadata_dir = \"{data}/meta\"\ndata_dir = \"{data}/data\"\ndb_engine = \"lmdb\"\n\
             replication_factor = {}\nrpc_secret = \"{secret}\"\n\
             rpc_bind_addr = \"{address}:{RPC_PORT}\"\nrpc_public_addr = \"{address}:{RPC_PORT}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"{address}:{S3_PORT}\"\n",
            ADDRESSES.len()
        );
        let path = self.settings(n);
        fs::write(&path, text).context(path.display())
    }

    fn id(&self, n: usize) -> Outcome<String> {
        let id = capture(self.command(n).args(["node", "id", "-q"]))?;
        Ok(id.trim().split('@').next().unwrap_or_default().to_owned())
    }

    fn command(&self, n: usize) -> Command {
        let mut command = Command::new(&self.garage);
        command.arg("-c").arg(self.settings(n)).stdin(Stdio::null());
        command
    }

    fn start_node(&self, n: usize) -> Outcome {
        let mut command = self.command(n);
        let child = quiet(command.arg("server"), &self.folder.join(format!("{n}.log")))?;
        self.nodes.borrow_mut()[n] = Some(Server(child));
        listens(ADDRESSES[n], S3_PORT)
    }

    /// Kills a node with -9.
    fn kill(&self, n: usize) {
        self.nodes.borrow_mut()[n] = None;
    }

    /// Asks the first node; right after the start the others may not have met it yet.
    fn ask(&self, words: &[&str]) -> Outcome<String> {
        let start = Instant::now();
        loop {
            match capture(self.command(0).args(words)) {
                Err(_) if start.elapsed() < START_TIMEOUT => {
                    std::thread::sleep(Duration::from_millis(500));
                }
                other => return other,
            }
        }
    }
}

/// The value of `NAME: value` in what Garage prints.
fn field(text: &str, name: &str) -> Outcome<String> {
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.trim().strip_prefix(':'));
    let missing = || Failure::failed(format!("Garage printed no `{name}`:\n{text}"));
    value
        .map(|value| value.trim().to_owned())
        .ok_or_else(missing)
}

/// A cluster of PostgreSQL of our own, and the URL of its database.
fn database(folder: &Path) -> Outcome<(Server, String)> {
    let missing = || Failure::unavailable("no PostgreSQL; `cargo xtask engines` brings it");
    let initdb = engines::find("initdb").ok_or_else(missing)?;
    let postgres = engines::find("postgres").ok_or_else(missing)?;
    fs::create_dir_all(folder).context(folder.display())?;
    // It does not run as root.
    let mut owner = None;
    if fs::metadata(folder).context(folder.display())?.uid() == 0 {
        let id = |flag: &str| -> Outcome<u32> {
            let text = capture(Command::new("id").args([flag, "postgres"]))?;
            text.trim().parse().context("id of postgres")
        };
        let (user, group) = (id("-u")?, id("-g")?);
        chown(folder, Some(user), Some(group)).context(folder.display())?;
        owner = Some((user, group));
    }
    let as_owner = |command: &mut Command| {
        command.current_dir("/");
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
    };
    let data = folder.join("data");
    let mut init = Command::new(initdb);
    init.arg("-D")
        .arg(&data)
        .args(["-U", "drill", "-A", "trust"]);
    as_owner(&mut init);
    capture(&mut init)?;
    let mut server = Command::new(postgres);
    server.arg("-D").arg(&data).arg("-k").arg(folder);
    server.args(["-h", "127.0.0.1", "-p", &LOG_PORT.to_string()]);
    server.args(["-c", "dynamic_shared_memory_type=mmap"]);
    as_owner(&mut server);
    let log = folder.with_extension("postgres.log");
    let server = Server(quiet(&mut server, &log)?);
    listens("127.0.0.1", LOG_PORT)?;
    Ok((
        server,
        format!("postgres://drill@127.0.0.1:{LOG_PORT}/postgres"),
    ))
}

/// Starts a server that writes into a file.
fn quiet(command: &mut Command, log: &Path) -> Outcome<Child> {
    let out = fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .context(log.display())?;
    let err = out.try_clone().context(log.display())?;
    command
        .stdout(out)
        .stderr(err)
        .spawn()
        .context(crate::shell::typed(command))
}

fn listens(address: &str, port: u16) -> Outcome {
    let place = format!("{address}:{port}");
    let socket: SocketAddr = place.parse().context(&place)?;
    let start = Instant::now();
    while start.elapsed() < START_TIMEOUT {
        if TcpStream::connect_timeout(&socket, Duration::from_millis(200)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(Failure::failed(format!("nothing listens at {place}")))
}

/// The trial.
struct Drill {
    mmh: Mmh,
    cluster: Cluster,
    log: String,
    folder: PathBuf,
}

impl Drill {
    fn run(&self) -> Outcome {
        self.refuses_a_log_in_garage()?;
        self.expect_success(self.command(&["--log", &self.log, "init"]))?;
        let mut acknowledged = Vec::new();
        for n in 0..ADDS {
            fixture::tree(&self.tree(n), n as u64 + 1, TREE_LEN)?;
            if self.add(n, n == ADDS / 2)? {
                acknowledged.push(n);
            }
        }
        self.all_there(&acknowledged, "with a node dead")?;
        self.cluster.start_node(VICTIM)?;
        self.all_there(&acknowledged, "with the node back")?;
        // What was written without the node must not hang on the two others.
        self.cluster.ask(&["repair", "-a", "--yes", "blocks"])?;
        self.cluster.kill(1);
        self.all_there(&acknowledged, "with another node dead")?;
        println!(
            "garage: {} of {ADDS} adds acknowledged, one node killed in the middle of add {}; \
             every acknowledged file came back byte for byte in all three states",
            acknowledged.len(),
            ADDS / 2
        );
        Ok(())
    }

    fn tree(&self, n: usize) -> PathBuf {
        self.folder.join(format!("tree-{n}"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.mmh.command(words);
        let (id, secret) = &self.cluster.key;
        command
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_REGION", "garage")
            .env("AWS_ENDPOINT_URL", format!("http://{}:{S3_PORT}", ADDRESSES[0]))
            .env("MMH_CACHE", self.folder.join("cache"))
            // Every read asks the cluster.
            .env("MMH_CACHE_GIB", "0")
            .env("PGUSER", "drill");
        command
    }

    fn expect_success(&self, mut command: Command) -> Outcome {
        capture(&mut command).map(drop)
    }

    fn refuses_a_log_in_garage(&self) -> Outcome {
        let out = crate::shell::output(&mut self.command(&["init"]))?;
        if out.status.code() == Some(UNSUPPORTED) {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "`mmh init` without --log ended with {}, not with {UNSUPPORTED}: this Garage honours \
             conditions, or the probe does not see that it does not",
            out.status
        )))
    }

    /// Adds a tree; with `killing`, the node dies on the way. Says whether it was acknowledged.
    fn add(&self, n: usize, killing: bool) -> Outcome<bool> {
        let (tree, name) = (self.tree(n).display().to_string(), format!("drill/m{n}"));
        let mut child = self
            .command(&["add", &tree, "--to", &name])
            .stdout(Stdio::null())
            .spawn()
            .context("mmh add")?;
        if killing {
            std::thread::sleep(KILL_AFTER);
            if child.try_wait().context("mmh add")?.is_some() {
                return Err(Failure::failed(
                    "the add ended before the node could be killed",
                ));
            }
            self.cluster.kill(VICTIM);
        }
        let done = child.wait().context("mmh add")?;
        let mut out = std::io::stdout();
        writeln!(
            out,
            "  add {n}: {done}{}",
            if killing { ", a node killed" } else { "" }
        )
        .context("stdout")?;
        Ok(done.success())
    }

    fn all_there(&self, acknowledged: &[usize], state: &str) -> Outcome {
        self.expect_success(self.command(&["verify"]))?;
        for n in acknowledged {
            let target = self.folder.join("restored");
            let (name, folder) = (format!("drill/m{n}"), target.display().to_string());
            self.expect_success(self.command(&["get", &name, &folder]))?;
            compare::trees(&self.tree(*n), &target)?;
            fs::remove_dir_all(&target).context(target.display())?;
        }
        println!("  {} names whole {state}", acknowledged.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_what_garage_prints() {
        let text =
            "==== ACCESS KEY INFORMATION ====\nKey ID:              GK12\nSecret key:  5f \n";
        assert_eq!(field(text, "Key ID").unwrap(), "GK12");
        assert_eq!(field(text, "Secret key").unwrap(), "5f");
        assert!(field(text, "Nothing").is_err());
    }
}

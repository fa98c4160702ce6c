//! `mmh serve` and its clients, all of them the program itself, or curl.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use crate::support::{Scratch, noise, ran};

/// A server that runs; it is stopped by [`Server::stop`], and killed if a test fails before.
pub(crate) struct Server {
    child: Option<Child>,
    /// Reads what it writes to standard error: a full pipe would stop it.
    errors: Option<JoinHandle<String>>,
    url: String,
    address: String,
    /// Where it speaks HTTP in the clear; empty if nowhere.
    pub(crate) http: String,
    /// Where it serves NFS; `None` if nowhere.
    pub(crate) nfs: Option<std::net::SocketAddr>,
}

impl Server {
    fn start(scratch: &Scratch, more: &[&str]) -> Self {
        Self::start_doors(scratch, &[&["--doors", "node"], more].concat())
    }

    pub(crate) fn start_doors(scratch: &Scratch, more: &[&str]) -> Self {
        Self::start_at(scratch, "127.0.0.1:0", more)
    }

    /// One that speaks HTTP in the clear at that address.
    pub(crate) fn start_at(scratch: &Scratch, http: &str, more: &[&str]) -> Self {
        let places = ["--listen", "127.0.0.1:0", "--http", http];
        let args = [&["serve", "--json"], &places[..], more].concat();
        Self::run(scratch.command(&args))
    }

    /// One with variables in its environment.
    pub(crate) fn start_in(scratch: &Scratch, more: &[&str], variables: &[(&str, &str)]) -> Self {
        let places = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let args = [&["serve", "--json"], &places[..], more].concat();
        let mut command = scratch.command(&args);
        command.envs(variables.iter().copied());
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // What it says is one document over several lines; the last begins with its brace.
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.ends_with("}\n") {
            if out.read_line(&mut text).unwrap() == 0 {
                let ran = ran(child.wait_with_output().unwrap());
                panic!("it ended: {ran:?}");
            }
        }
        child.stdout = Some(out.into_inner());
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            said
        });
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        let of = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
        Self {
            child: Some(child),
            errors: Some(errors),
            url: of("url"),
            address: of("address"),
            http: of("http"),
            nfs: said["nfs"]["address"]
                .as_str()
                .map(|at| at.parse().unwrap()),
        }
    }

    /// Asks it to stop, as systems do; gives what it wrote to standard error.
    pub(crate) fn stop(mut self) -> String {
        let mut child = self.child.take().unwrap();
        let id = child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(killed.success());
        let said = self.errors.take().unwrap().join().unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// With a token in the environment.
fn with_token(scratch: &Scratch, token: &str, args: &[&str]) -> crate::support::Ran {
    ran(scratch
        .command(args)
        .env("MMH_NODE_TOKEN", token)
        .output()
        .unwrap())
}

#[test]
fn a_repository_is_used_by_way_of_a_node() {
    let scratch = Scratch::new();
    scratch.write("in/a.bin", &noise(3_000_000, 1));
    let server = Server::start(&scratch, &["--anonymous", "write", "--requests"]);
    let at = ["-R", server.url.as_str()];
    let on = |args: &[&str]| scratch.ok(&[&at[..], args].concat());
    on(&["add", "in", "--to", "acme/m"]);
    on(&["verify"]);
    on(&["get", "acme/m", "out"]);
    let read = std::fs::read(scratch.path("out/a.bin")).unwrap();
    assert_eq!(read, noise(3_000_000, 1));
    on(&["rm", "acme/m"]);
    on(&["undo"]);
    on(&["gc", "--dry-run"]);
    let inside = scratch.ok(&["ls", "acme/m"]);
    assert!(
        inside.contains("a.bin"),
        "it lies in the node's folder: {inside}"
    );
    let said = server.stop();
    let lines: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let put = |line: &serde_json::Value| {
        line["request"]["method"] == "PUT" && line["request"]["status"] == 201
    };
    assert!(lines.iter().any(put), "{said}");
}

/// Two repositories push to a third at the same moment, and each pulls what the other brought.
#[test]
fn two_repositories_meet_on_a_node() {
    let scratch = Scratch::new();
    for (n, repo) in [(1, "one"), (2, "two")] {
        scratch.ok(&["init", repo]);
        scratch.write(&format!("in{n}/w.bin"), &noise(2_000_000, n));
        scratch.write(&format!("in{n}/same.bin"), &noise(1_000_000, 9));
    }
    scratch.ok(&["-R", "one", "add", "in1", "--to", "acme/one"]);
    scratch.ok(&["-R", "two", "add", "in2", "--to", "acme/two"]);
    let server = Server::start(&scratch, &["--anonymous", "write", "--requests"]);
    let url = server.url.as_str();
    let pushes = ["one", "two"].map(|repo| {
        let mut push = scratch.command(&["-R", repo, "push", url]);
        push.stdout(Stdio::piped()).stderr(Stdio::piped());
        push.spawn().unwrap()
    });
    for push in pushes {
        let ran = ran(push.wait_with_output().unwrap());
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    scratch.ok(&["verify"]);
    for (repo, other, n) in [("one", "acme/two", 2), ("two", "acme/one", 1)] {
        scratch.ok(&["-R", repo, "pull", url]);
        scratch.ok(&["-R", repo, "verify"]);
        let out = format!("out-{repo}");
        scratch.ok(&["-R", repo, "get", other, &out]);
        let read = std::fs::read(scratch.path(&format!("{out}/w.bin"))).unwrap();
        assert_eq!(read, noise(2_000_000, n));
    }
    let said = server.stop();
    assert!(
        said.contains("/mmh/v1/missing"),
        "what is missing is asked, not looked up: {said}"
    );
}

#[test]
fn tokens_are_made_kept_as_digests_and_asked_for() {
    let scratch = Scratch::new();
    let read = scratch.json(&["token", "read", "tokens", "laptop"]);
    let write = scratch.json(&["token", "write", "tokens"]);
    let file = std::fs::read_to_string(scratch.path("tokens")).unwrap();
    assert_eq!(file.lines().count(), 2);
    let (read, write) = (
        read["token"].as_str().unwrap(),
        write["token"].as_str().unwrap(),
    );
    assert!(!file.contains(read) && !file.contains(write));
    let server = Server::start(&scratch, &["--tokens", "tokens"]);
    scratch.write("a", b"a");
    let url = server.url.as_str();
    let nobody = scratch.run(&["-R", url, "ls"]);
    assert_eq!(nobody.code, 5, "{}", nobody.err);
    let add = ["-R", url, "add", "a", "--to", "acme/m"];
    let reader = with_token(&scratch, read, &add);
    assert_eq!(reader.code, 5, "{}", reader.err);
    assert!(!reader.err.contains(read), "{}", reader.err);
    let writer = with_token(&scratch, write, &add);
    assert_eq!(writer.code, 0, "{}", writer.err);
    let reader = with_token(&scratch, read, &["-R", url, "cat", "acme/m:a"]);
    assert_eq!(
        (reader.code, reader.out.as_str()),
        (0, "a"),
        "{}",
        reader.err
    );
    server.stop();
}

#[test]
fn a_node_has_one_pin_for_its_life_and_no_other_is_believed() {
    let scratch = Scratch::new();
    let first = Server::start(&scratch, &["--anonymous", "read"]);
    let pin = first.url.split(['/', '@']).nth(2).unwrap().to_owned();
    let wrong = format!("mmhs://{}@{}", "0".repeat(64), first.address);
    let refused = scratch.run(&["-R", &wrong, "ls"]);
    assert_eq!(refused.code, 7, "{}", refused.err);
    let denied = scratch.run(&["-R", &first.url, "init"]);
    assert_ne!(denied.code, 0, "only reading is for everybody");
    first.stop();
    let second = Server::start(&scratch, &["--anonymous", "read"]);
    assert!(second.url.contains(&pin), "{} {pin}", second.url);
    second.stop();
}

#[test]
fn a_server_that_makes_no_sense_does_not_start() {
    let scratch = Scratch::new();
    scratch.write("bad", b"hf_0123\n");
    for (args, code, says) in [
        (&["serve", "--listen", "0.0.0.0:0"][..], 2, "mmh token"),
        (
            &["serve", "--http", "0.0.0.0:0", "--anonymous", "read"],
            2,
            "in the clear",
        ),
        (
            &["serve", "--anonymous", "write", "--listen", "0.0.0.0:0"],
            2,
            "loopback",
        ),
        (&["serve", "--tokens", "none"], 3, "none"),
        (&["serve", "--tokens", "bad"], 2, "line 1"),
        (
            &["serve", "--anonymous", "read", "--node-key", "bad"],
            2,
            "bad",
        ),
        (
            &["serve", "--anonymous", "read", "--listen", "x"],
            2,
            "listen",
        ),
        (
            &["-R", "nowhere", "serve", "--anonymous", "read"],
            3,
            "nowhere",
        ),
        (&["token", "none", "f"], 2, "write"),
    ] {
        let ran = scratch.run(args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.err);
        let says = if says == "loopback" {
            "127.0.0.1"
        } else {
            says
        };
        assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
    }
}

/// A certificate of the usual kind, for clients that know no ML-KEM and no ML-DSA.
#[test]
fn curl_reads_from_a_node_that_lets_it_in() {
    let scratch = Scratch::new();
    let mut openssl = Command::new("openssl");
    openssl.current_dir(scratch.path("")).args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-days",
        "30",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
    ]);
    let made = openssl
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let curl = Command::new("curl").arg("--version").output().is_ok();
    if !made || !curl {
        eprintln!("SKIPPED: openssl and curl are needed");
        return;
    }
    let certificate = ["--certificate", "cert.pem", "--certificate-key", "key.pem"];
    let more = [&["--anonymous", "read", "--classic"], &certificate[..]].concat();
    let server = Server::start(&scratch, &more);
    let get = |path: &str| {
        let url = format!("https://{}/mmh/v1/{path}", server.address);
        let ca = scratch.path("cert.pem");
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--cacert"])
            .arg(ca)
            .args(["-w", "%{http_code}", &url]);
        ran(curl.output().unwrap())
    };
    let list = get("list");
    assert!(
        list.out.contains("mmh/config\n") && list.out.ends_with("end 1\n200"),
        "{list:?}"
    );
    let missing = get("objects/mmh/none");
    assert!(missing.out.ends_with("404"), "{missing:?}");
    server.stop();
}

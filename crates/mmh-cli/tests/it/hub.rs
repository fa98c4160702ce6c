//! `mmh serve` as a hub: stock clients in Python, and what their uploads become.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::served::Server;
use crate::support::{Scratch, noise};

#[allow(
    clippy::disallowed_methods,
    reason = "tests are told where stock tools are"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where `cargo xtask engines` puts what it brings.
fn engines() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = variable("MMH_DEMO_CACHE").map_or_else(|| root.join(".demo"), PathBuf::from);
    cache.join("engines")
}

/// Says that a tool is not there; where `MMH_ENGINES=all`, as in CI, it has to be.
fn left_out(what: &str) {
    let missing = format!("{what} is not installed; `cargo xtask engines` brings it");
    assert_ne!(variable("MMH_ENGINES").as_deref(), Some("all"), "{missing}");
    // Not captured, so that it is seen in a run that passes.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "\nLEFT OUT: {missing}\n").unwrap();
}

/// Python with `huggingface_hub`.
fn python() -> Option<PathBuf> {
    let python = engines().join("hub/bin/python");
    if python.is_file() {
        return Some(python);
    }
    left_out("huggingface_hub");
    None
}

/// A path on which git finds the real git-lfs.
fn git_lfs() -> Option<String> {
    let path = variable("PATH").unwrap_or_default();
    let brought = engines().join("root/usr/bin");
    let mut folders = std::env::split_paths(&path).chain([brought.clone()]);
    if folders.any(|folder| folder.join("git-lfs").is_file()) {
        return Some(format!("{path}:{}", brought.display()));
    }
    left_out("git-lfs");
    None
}

/// A client that knows the server, and nothing of this machine's.
fn client(python: &Path, scratch: &Scratch, server: &Server) -> Command {
    let mut command = Command::new(python);
    command
        .current_dir(scratch.path("."))
        .env("HF_ENDPOINT", &server.http)
        .env("HF_HOME", scratch.path("hf"))
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .env("HF_HUB_DISABLE_XET", "1")
        .env_remove("HF_TOKEN");
    command
}

fn run(command: &mut Command) {
    let ran = command.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    assert!(ran.status.success(), "{out}\n{err}");
}

#[test]
fn stock_clients_of_hubs_are_at_home() {
    let Some(python) = python() else {
        return;
    };
    let scratch = Scratch::new();
    let server = Server::start_doors(&scratch, &["--requests"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/stock.py");
    run(client(&python, &scratch, &server).arg(script));
    // What stock clients put there is what the program itself sees.
    let listed = scratch.ok(&["ls", "acme/tiny"]);
    assert!(listed.contains("weights.bin"), "{listed}");
    scratch.ok(&["verify"]);
    let said = server.stop();
    assert!(!said.contains("\"status\":500"), "{said}");
}

/// The client's command line, transformers, datasets, and the requests of llama.cpp.
#[test]
fn what_people_run_against_hubs_is_at_home() {
    let Some(python) = python() else {
        return;
    };
    let scratch = Scratch::new();
    scratch.write("work/empty", b"");
    let server = Server::start_doors(&scratch, &["--requests"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/users.py");
    let mut client = xet_client(&python, &scratch, &server, "hf");
    run(client.current_dir(scratch.path("work")).arg(script));
    scratch.ok(&["verify"]);
    let said = server.stop();
    assert!(!said.contains("\"status\":500"), "{said}");
}

/// Whole folders, patterns, revisions, the client's cache, and single files by `HfFileSystem`.
fn folders(client: fn(&Path, &Scratch, &Server) -> Command) {
    let Some(python) = python() else {
        return;
    };
    let scratch = Scratch::new();
    scratch.write("work/empty", b"");
    let server = Server::start_doors(&scratch, &["--doors", "hub", "--requests"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/folders.py");
    let mut client = client(&python, &scratch, &server);
    run(client.current_dir(scratch.path("work")).arg(script));
    scratch.ok(&["verify"]);
    let said = server.stop();
    assert!(!said.contains("\"status\":500"), "{said}");
}

#[test]
fn whole_folders_and_a_file_system_by_xet() {
    folders(|python, scratch, server| xet_client(python, scratch, server, "hf"));
}

#[test]
fn whole_folders_and_a_file_system_by_lfs() {
    folders(client);
}

/// Models of transformers with torch; the client of its time speaks Xet too.
#[test]
fn models_of_torch_come_back() {
    let python = engines().join("torch/bin/python");
    if !python.is_file() {
        return left_out("torch");
    }
    let scratch = Scratch::new();
    let server = Server::start_doors(&scratch, &["--requests"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/torch_models.py");
    run(xet_client(&python, &scratch, &server, "hf").arg(script));
    // The second version is kept as a difference from the first.
    let stat = scratch.json(&["stat", "acme/torch"]);
    let delta = stat["names"][0]["alone"]["delta"].as_u64().unwrap();
    assert!(delta > 500_000, "{stat}");
    scratch.ok(&["verify"]);
    let said = server.stop();
    assert!(!said.contains("\"status\":500"), "{said}");
}

/// A safetensors file with one BF16 tensor of that many elements; `step` is how far it was trained.
fn model(n: usize, step: u8) -> Vec<u8> {
    let header = format!(
        r#"{{"w":{{"dtype":"BF16","shape":[{n}],"data_offsets":[0,{}]}}}}"#,
        2 * n
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    for (at, pair) in noise(2 * n, 5).chunks_exact(2).enumerate() {
        // Near one, of either sign; the last bits move with training.
        let (mantissa, sign) = (pair[0], pair[1] & 0x80);
        let moved = if at % 3 == 0 {
            mantissa ^ step
        } else {
            mantissa
        };
        file.extend_from_slice(&[moved, sign | 0x3F]);
    }
    file
}

/// A fine-tune that a stock client pushes, with a card that names its base, is kept as differences.
#[test]
fn a_fine_tune_becomes_a_delta_of_its_base() {
    let Some(python) = python() else {
        return;
    };
    let scratch = Scratch::new();
    scratch.write("base/model.safetensors", &model(400_000, 0));
    scratch.write("tuned/model.safetensors", &model(400_000, 1));
    let card = b"---\nbase_model: acme/base\n---\n# Tuned\n";
    scratch.write("tuned/README.md", card);
    let server = Server::start_doors(&scratch, &[]);
    let script = "\
from huggingface_hub import HfApi, hf_hub_download
api = HfApi()
for name in ['base', 'tuned']:
    api.create_repo(f'acme/{name}')
    api.upload_folder(repo_id=f'acme/{name}', folder_path=name)
    got = hf_hub_download(f'acme/{name}', 'model.safetensors')
    assert open(got, 'rb').read() == open(f'{name}/model.safetensors', 'rb').read()
";
    run(client(&python, &scratch, &server).args(["-c", script]));
    drop(server);
    let stat = scratch.json(&["stat", "acme/tuned"]);
    let text = stat.to_string();
    assert!(text.contains("delta"), "{text}");
}

/// The client with its own way to upload and download: chunks, xorbs and shards. What it remembers is
/// below that folder.
fn xet_client(python: &Path, scratch: &Scratch, server: &Server, home: &str) -> Command {
    let mut command = client(python, scratch, server);
    command
        .env_remove("HF_HUB_DISABLE_XET")
        .env("HF_HOME", scratch.path(home));
    command
}

/// The client's own way to upload: chunks, xorbs and shards. Each process remembers the xorbs of
/// those before it; none may rely on one that is gone.
#[test]
fn stock_clients_upload_by_xet() {
    let Some(python) = python() else {
        return;
    };
    let scratch = Scratch::new();
    let server = Server::start_doors(&scratch, &["--requests"]);
    let script = "\
import os, random, sys
import hf_xet
from huggingface_hub import HfApi, hf_hub_download
step = int(sys.argv[1])
api = HfApi()
api.create_repo('acme/tiny', exist_ok=True)
os.makedirs('folder', exist_ok=True)
body = random.Random(7).randbytes(12_000_000)
for n in range(2):
    with open(f'folder/{n}.bin', 'wb') as file:
        file.write(body[:5_000_000 * n] + b'x' * 40 * step + body[5_000_000 * n:])
api.upload_file(repo_id='acme/tiny', path_or_fileobj='folder/0.bin', path_in_repo='0.bin')
api.upload_folder(repo_id='acme/tiny', folder_path='folder')
for n in range(2):
    got = hf_hub_download('acme/tiny', f'{n}.bin')
    assert open(got, 'rb').read() == open(f'folder/{n}.bin', 'rb').read()
";
    for step in ["1", "2"] {
        run(xet_client(&python, &scratch, &server, "hf").args(["-c", script, step]));
    }
    scratch.ok(&["verify"]);
    let said = server.stop();
    for path in ["/v1/xorbs/default/", "/v2/shards", "/v2/reconstructions/"] {
        assert!(said.contains(path), "{path}: {said}");
    }
    assert!(!said.contains("/info/lfs/objects/batch"), "{said}");
    assert!(!said.contains("\"status\":500"), "{said}");
}

/// git-lfs itself: it sends a file to the address of a repository, and gets it back by its pointer.
#[test]
fn git_lfs_sends_and_fetches_large_files() {
    let Some(path) = git_lfs() else {
        return;
    };
    let scratch = Scratch::new();
    let server = Server::start_doors(&scratch, &["--requests"]);
    let git = |folder: &str, args: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(scratch.path(folder))
            .env("PATH", &path)
            .env("HOME", scratch.path("."))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .args(args);
        git
    };
    let curl = |args: &[&str]| {
        run(Command::new("curl")
            .args(["-sS", "--fail-with-body"])
            .args(args));
    };
    let create = format!("{}/api/repos/create", server.http);
    curl(&["-X", "POST", &create, "-d", r#"{"name":"acme/tiny"}"#]);
    let bytes = noise(3_000_000, 3);
    scratch.write("one/w.bin", &bytes);
    let url = format!("{}/acme/tiny.git/info/lfs", server.http);
    let config = format!("lfs.url={url}");
    run(&mut git("one", &["init", "-q"]));
    run(&mut git(
        "one",
        &["lfs", "install", "--local", "--skip-repo"],
    ));
    run(&mut git("one", &["lfs", "track", "*.bin"]));
    run(&mut git("one", &["add", "."]));
    let who = [
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.com",
        "-c",
        &config,
    ];
    run(&mut git(
        "one",
        &[&who[..], &["commit", "-qm", "w"]].concat(),
    ));
    run(&mut git(
        "one",
        &[
            "remote",
            "add",
            "origin",
            &format!("{}/acme/tiny", server.http),
        ],
    ));
    run(&mut git(
        "one",
        &[&who[..], &["lfs", "push", "--all", "origin"]].concat(),
    ));
    let pointer = git("one", &["show", "HEAD:w.bin"]).output().unwrap();
    let pointer = String::from_utf8(pointer.stdout).unwrap();
    let oid = pointer.split("sha256:").nth(1).unwrap()[..64].to_owned();
    let commit = format!(
        "{{\"key\":\"header\",\"value\":{{\"summary\":\"s\"}}}}\n\
         {{\"key\":\"lfsFile\",\"value\":{{\"path\":\"w.bin\",\"algo\":\"sha256\",\"oid\":\"{oid}\"}}}}\n"
    );
    let to = format!("{}/api/models/acme/tiny/commit/main", server.http);
    curl(&["-X", "POST", &to, "--data-binary", &commit]);
    // Another clone has the pointer only.
    scratch.write("two/pointer", pointer.as_bytes());
    run(&mut git("two", &["init", "-q"]));
    run(&mut git(
        "two",
        &[
            "remote",
            "add",
            "origin",
            &format!("{}/acme/tiny", server.http),
        ],
    ));
    let mut smudge = git("two", &["-c", &config, "lfs", "smudge"]);
    smudge.stdin(std::fs::File::open(scratch.path("two/pointer")).unwrap());
    let got = smudge.output().unwrap();
    assert!(
        got.status.success(),
        "{}",
        String::from_utf8_lossy(&got.stderr)
    );
    assert!(got.stdout == bytes, "other bytes came back");
    let said = server.stop();
    assert!(!said.contains("\"status\":500"), "{said}");
}

/// Uploads a file by Xet and fetches it again; what is sent is as good as nothing where the server has
/// most of it: of the same name, of another one, from a client that remembers and from one that does
/// not, after a collection and after the server was started again.
#[test]
fn what_the_server_has_is_not_sent_again() {
    let Some(python) = python() else {
        return;
    };
    let scratch = Scratch::new();
    let body = noise(24 << 20, 11);
    let script = "\
import sys, urllib.request
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.constants import ENDPOINT
name, path, least, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def received():
    text = urllib.request.urlopen(ENDPOINT + '/metrics').read().decode()
    lines = [l for l in text.splitlines() if l.startswith('mmh_received_bytes_total{door=\"hub\"}')]
    return int(lines[0].split()[-1]) if lines else 0
api = HfApi()
api.create_repo(name, exist_ok=True)
before = received()
api.upload_file(repo_id=name, path_or_fileobj=path, path_in_repo='w.bin')
sent = received() - before
print('received', sent)
assert least <= sent < most, sent
got = hf_hub_download(name, 'w.bin')
assert open(got, 'rb').read() == open(path, 'rb').read()
";
    let inserted = |name: &str, at: usize| {
        let with = [&body[..at], &[b'x'; 40], &body[at..]].concat();
        scratch.write(name, &with);
    };
    scratch.write("0.bin", &body);
    inserted("1.bin", 5_000_000);
    inserted("2.bin", 0);
    inserted("3.bin", 20_000_000);
    inserted("4.bin", 1_000_000);
    let upload = |server: &Server, home: &str, name: &str, path: &str, bounds: [usize; 2]| {
        let [least, most] = bounds.map(|n| n.to_string());
        let mut command = xet_client(&python, &scratch, server, home);
        run(command.args(["-c", script, name, path, &least, &most]));
    };
    let (whole, hundredth) = (body.len(), body.len() / 100);
    let server = Server::start_doors(&scratch, &["--requests"]);
    let http = server.http.replace("http://localhost", "127.0.0.1");
    upload(&server, "hf", "acme/one", "0.bin", [whole, 2 * whole]);
    upload(&server, "hf", "acme/one", "1.bin", [1, hundredth]);
    // Where the file begins, too: the client remembers.
    upload(&server, "hf", "acme/one", "2.bin", [1, hundredth]);
    upload(&server, "cold", "acme/two", "3.bin", [1, hundredth]);
    let said = server.stop();
    assert!(said.contains("/v1/chunks/default/"), "{said}");
    assert!(!said.contains("\"status\":500"), "{said}");

    for _ in 0..2 {
        scratch.ok(&["gc", "--undo", "0", "--grace", "0"]);
    }
    let server = Server::start_at(&scratch, &http, &["--requests"]);
    upload(&server, "hf", "acme/one", "4.bin", [1, hundredth]);
    upload(&server, "colder", "acme/three", "1.bin", [1, hundredth]);
    let said = server.stop();
    assert!(!said.contains("\"status\":400"), "{said}");
    scratch.ok(&["verify"]);
}

/// A fine-tune that is pushed by Xet is kept as differences from its base, as others are.
#[test]
fn a_fine_tune_by_xet_becomes_a_delta_too() {
    let Some(python) = python() else {
        return;
    };
    let scratch = Scratch::new();
    scratch.write("base/model.safetensors", &model(400_000, 0));
    scratch.write("tuned/model.safetensors", &model(400_000, 1));
    scratch.write(
        "tuned/README.md",
        b"---\nbase_model: acme/base\n---\n# Tuned\n",
    );
    let server = Server::start_doors(&scratch, &["--requests"]);
    let script = "\
from huggingface_hub import HfApi, hf_hub_download
api = HfApi()
for name in ['base', 'tuned']:
    api.create_repo(f'acme/{name}')
    api.upload_folder(repo_id=f'acme/{name}', folder_path=name)
    got = hf_hub_download(f'acme/{name}', 'model.safetensors')
    assert open(got, 'rb').read() == open(f'{name}/model.safetensors', 'rb').read()
";
    run(xet_client(&python, &scratch, &server, "hf").args(["-c", script]));
    let said = server.stop();
    assert!(said.contains("/v1/xorbs/default/"), "{said}");
    let stat = scratch.json(&["stat", "acme/tuned"]).to_string();
    assert!(stat.contains("delta"), "{stat}");
}

/// A mirror of a hub, itself a hub: what was read through it is there when the other one is gone.
#[test]
fn a_mirror_serves_what_was_read_through_it() {
    let Some(python) = python() else {
        return;
    };
    let (there, here) = (Scratch::new(), Scratch::new());
    there.write("m/config.json", b"{}");
    there.write("m/w.safetensors", &model(400_000, 0));
    there.ok(&["add", "--to", "acme/m", "m"]);
    let other = Server::start_doors(&there, &["--doors", "hub"]);
    let server = Server::start_doors(&here, &["--doors", "hub", "--upstream", &other.http]);
    let script = "\
import os, sys
from huggingface_hub import snapshot_download
got = snapshot_download('acme/m', cache_dir=sys.argv[1])
assert sorted(os.listdir(got)) == ['config.json', 'w.safetensors'], os.listdir(got)
wanted = open(sys.argv[2], 'rb').read()
assert open(os.path.join(got, 'w.safetensors'), 'rb').read() == wanted
";
    let weights = there.path("m/w.safetensors").display().to_string();
    run(client(&python, &here, &server).args(["-c", script, "first", &weights]));
    other.stop();
    run(client(&python, &here, &server).args(["-c", script, "second", &weights]));
    server.stop();
    here.ok(&["verify"]);
}

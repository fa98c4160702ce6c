//! The tests that `huggingface_hub` brings with it, run against `mmh serve` as every hub.
//!
//! They come with the source distribution of the client that other tests use, are not changed but
//! for the address of the server, and are no part of this repository. What is out of scope stands,
//! with reasons, in `hub_suite/out_of_scope.txt`; everything else has to pass.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::engines;
use crate::mmh::{Mmh, Serving};
use crate::shell::{Context as _, Failure, Outcome, Scratch, cache, capture, typed};

/// What runs them, beside the client itself.
const TOOLS: &[&str] = &[
    "pytest==9.2.0",
    "pytest-mock==3.17.0",
    "pytest-timeout==2.4.0",
    "Jinja2==3.1.6",
];
/// The files that are run; the last is how this version uploads large folders.
const FILES: [&str; 7] = [
    "test_commit_api.py",
    "test_file_download.py",
    "test_hf_api.py",
    "test_hf_file_system.py",
    "test_lfs.py",
    "test_snapshot_download.py",
    "test_upload_pipeline.py",
];
/// Where the tests believe their hub to be.
const THEIR_HUB: &str = "https://hub-ci.huggingface.co";
/// The users of the tests: the variables with name and token, and what they may write to.
const USERS: [(&str, &str, &str); 3] = [
    ("TOKEN", "__DUMMY_HUB_USER__", "*/__DUMMY_HUB_USER__/*"),
    ("OTHER_TOKEN", "DVUser", "*/DVUser/*"),
    ("PUBLIC_TOKEN", "public", "*"),
];
/// Longest time of one test, in seconds.
const TEST_S_MAX: u32 = 120;

/// What the tests came to.
#[derive(Debug, Deserialize)]
struct Report {
    client: String,
    passed: Vec<String>,
    failed: Vec<String>,
    skipped: Vec<String>,
    /// Tests that sent requests.
    asked: Vec<String>,
    out_of_scope: BTreeMap<String, Vec<String>>,
    /// Lines of the list that fit no test.
    stale: Vec<String>,
}

/// `cargo xtask drill hub-suite`
pub(crate) fn hub_suite(program: &Path, only: Option<&str>) -> Outcome {
    let home = cache().join("engines/hub-suite");
    engines::python(&home, &[engines::HUB, TOOLS].concat())?;
    let source = source(&home)?;
    let scratch = Scratch::new("drill-hub-suite")?;
    let served = Served::start(program, scratch.path())?;
    let folder = scratch.path().join("suite");
    lay_out(&source, &folder.join("tests"), &served.serving.http)?;
    let report = folder.join("report.json");
    let suite = json!({
        "names": served.names, "report": report,
        "out_of_scope": out_of_scope(include_str!("hub_suite/out_of_scope.txt")),
    });
    let place = folder.join("suite.json");
    fs::write(&place, suite.to_string()).context(place.display())?;
    let mut pytest = Command::new(home.join("bin/python"));
    pytest
        .args([
            "-m",
            "pytest",
            "-q",
            "--tb=short",
            "-rfE",
            "-p",
            "no:cacheprovider",
        ])
        .args(["-W", "error::FutureWarning"])
        .arg(format!("--timeout={TEST_S_MAX}"))
        .args(FILES.map(|file| format!("tests/{file}")))
        .args(only.iter().flat_map(|only| ["-k", *only]))
        .current_dir(&folder)
        .env("HF_ENDPOINT", &served.serving.http)
        .env("MMH_SUITE", &place)
        .env("HF_HOME", folder.join("home"))
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env_remove("HF_TOKEN");
    // Some fail: what came of it stands in the report.
    let status = pytest.status();
    status.map_err(|error| Failure::unavailable(format!("{}: {error}", typed(&pytest))))?;
    let text = fs::read_to_string(&report).context(report.display())?;
    let report: Report = serde_json::from_str(&text).context(report.display())?;
    say(&report);
    match (
        report.failed.len(),
        only.is_none() && !report.stale.is_empty(),
    ) {
        (0, false) => Ok(()),
        (0, true) => Err(Failure::failed(format!(
            "out of scope, but not there: {:?}",
            report.stale
        ))),
        (n, _) => Err(Failure::failed(format!("{n} tests of the client failed"))),
    }
}

fn say(report: &Report) {
    for (reason, tests) in &report.out_of_scope {
        println!("out of scope {:>4}  {reason}", tests.len());
    }
    for test in &report.failed {
        println!("FAILED  {test}");
    }
    let count = |tests: &[String]| {
        let asked = tests.iter().filter(|test| report.asked.contains(test));
        (tests.len(), asked.count())
    };
    let ((passed, spoke), (failed, _)) = (count(&report.passed), count(&report.failed));
    let out: usize = report.out_of_scope.values().map(Vec::len).sum();
    println!(
        "huggingface_hub {}: {passed} passed ({spoke} of them spoke to the server), {failed} failed, \
         {} skipped by their own marks, {out} out of scope",
        report.client,
        report.skipped.len()
    );
}

/// The list of what is out of scope: reasons in lines that begin with `#`, each before parts of the
/// names of tests.
fn out_of_scope(text: &str) -> Vec<Value> {
    let (mut reason, mut all) = ("", Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix('#') {
            Some(said) => reason = said.trim(),
            None => all.push(json!({ "test": line, "reason": reason })),
        }
    }
    all
}

/// The source distribution of the client, unpacked.
fn source(home: &Path) -> Outcome<PathBuf> {
    let name = engines::HUB[0].replace("==", "-");
    let folder = home.join("source").join(&name);
    if folder.join("tests").is_dir() {
        return Ok(folder);
    }
    println!("fetching the source of {name}");
    let python = home.join("bin/python");
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        "huggingface_hub",
    ]);
    capture(pip.args(engines::HUB).arg("-d").arg(home.join("source")))?;
    let mut unpack = Command::new(python);
    unpack.args(["-m", "tarfile", "-e"]);
    let packed = home.join("source").join(format!("{name}.tar.gz"));
    capture(unpack.arg(packed).arg(home.join("source")))?;
    Ok(folder)
}

/// The tests with the server's address in the place of their hub's, and what they need around them.
fn lay_out(source: &Path, to: &Path, http: &str) -> Outcome {
    fs::create_dir_all(to).context(to.display())?;
    let tests = source.join("tests");
    for entry in fs::read_dir(&tests).context(tests.display())? {
        let from = entry.context(tests.display())?.path();
        let Some(name) = from.file_name().filter(|_| from.is_file()) else {
            continue;
        };
        let text = fs::read_to_string(&from).context(from.display())?;
        let place = to.join(name);
        fs::write(&place, text.replace(THEIR_HUB, http)).context(place.display())?;
    }
    for (name, text) in [
        ("conftest.py", include_str!("hub_suite/conftest.py")),
        ("__init__.py", ""),
    ] {
        let place = to.join(name);
        fs::write(&place, text).context(place.display())?;
    }
    Ok(())
}

/// A server that runs, and the names that its tokens have in the tests.
struct Served {
    serving: Serving,
    names: BTreeMap<String, String>,
}

impl Served {
    fn start(program: &Path, scratch: &Path) -> Outcome<Self> {
        let mmh = Mmh::init(program, &scratch.join("repository"))?;
        let tokens = scratch.join("tokens");
        let mut names = BTreeMap::new();
        for (variable, user, scope) in USERS {
            let mut token = mmh.command(["token", "admin", "--scope", scope, "--json"]);
            let said = capture(token.arg(&tokens).arg(user))?;
            let said: Value = serde_json::from_str(&said).context("what `mmh token` says")?;
            let token = said["token"].as_str().unwrap_or_default();
            names.insert(variable.to_owned(), token.to_owned());
        }
        let mut command = mmh.command(["serve", "--json", "--doors", "hub", "--anonymous", "read"]);
        command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        command.args(["--classic", "--tokens"]).arg(&tokens);
        command.arg("--uploads").arg(scratch.join("uploads"));
        let serving = Serving::start(&mut command)?;
        Ok(Self { serving, names })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line has a reason, and the conftest reads the fields that are written.
    #[test]
    fn what_is_out_of_scope_has_a_reason() {
        let all = out_of_scope(include_str!("hub_suite/out_of_scope.txt"));
        assert!(all.len() > 10);
        assert!(
            all.iter()
                .all(|line| line["reason"].as_str().unwrap().len() > 10)
        );
        let read = out_of_scope("# why\n\na\n b \n# else\nc");
        assert_eq!(read[1], json!({ "test": "b", "reason": "why" }));
        assert_eq!(read[2]["reason"], "else");
        let conftest = include_str!("hub_suite/conftest.py");
        for field in [
            "names",
            "report",
            "out_of_scope",
            "stale",
            "client",
            "asked",
        ] {
            assert!(conftest.contains(&format!("\"{field}\"")), "{field}");
        }
    }
}

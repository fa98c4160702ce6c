//! A session from `init` to `unpack`, as the README shows it.

use std::fs;

use mmh_core::Dtype;
use mmh_formats::samples::{SampleTensor, safetensors};

use crate::support::{Scratch, noise};

fn model() -> Vec<u8> {
    safetensors::file(&[SampleTensor::new("w", Dtype::BF16, &[640, 300])])
}

#[test]
fn a_model_goes_in_and_comes_out() {
    let s = Scratch::new();
    s.write("m/model.safetensors", &model());
    s.write("m/config.json", b"{\"a\": 1}");
    let added = s.ok(&["add", "m", "--to", "acme/mini", "-m", "first"]);
    assert!(
        added.contains("committed models/acme/mini@heads/main"),
        "{added}"
    );
    assert_eq!(s.ok(&["ls"]), "acme/mini\n");
    assert_eq!(
        s.ok(&["ls", "acme/mini"]),
        "config.json\nmodel.safetensors\n"
    );
    assert_eq!(s.ok(&["cat", "acme/mini:config.json"]), "{\"a\": 1}");
    assert_eq!(
        s.ok(&["cat", "acme/mini:config.json", "--range", "1-3"]),
        "\"a\""
    );
    assert_eq!(
        s.ok(&["cat", "acme/mini:config.json", "--range", "-1"]),
        "}"
    );
    let listed = s.json(&["ls", "acme/mini"]);
    assert_eq!(listed[0]["path"], "config.json");
    assert_eq!(listed[0]["node"]["file"]["size"], 8);
    s.ok(&["get", "acme/mini", "back"]);
    assert_eq!(fs::read(s.path("back/model.safetensors")).unwrap(), model());
    s.ok(&["get", "acme/mini:config.json", "c.json"]);
    assert_eq!(fs::read(s.path("c.json")).unwrap(), b"{\"a\": 1}");
    let verified = s.ok(&["verify"]);
    assert!(verified.starts_with("all right: 2 files"), "{verified}");
    let log = s.ok(&["log", "acme/mini"]);
    assert!(log.contains("tester") && log.contains("first"), "{log}");
}

#[test]
fn history_branches_and_undo() {
    let s = Scratch::new();
    s.write("one/a", b"1");
    s.write("two/a", b"22");
    s.ok(&["add", "one", "--to", "acme/m"]);
    s.ok(&["tag", "acme/m", "v1"]);
    s.ok(&["branch", "acme/m", "dev"]);
    s.ok(&["add", "two", "--to", "acme/m@dev"]);
    assert_eq!(
        s.ok(&["diff", "acme/m@v1", "acme/m@dev"]),
        "* a  1 B → 2 B\n"
    );
    assert!(s.ok(&["branch", "acme/m"]).starts_with("dev  "));
    assert!(s.ok(&["show", "acme/m@dev"]).contains("* a  1 B → 2 B"));
    s.ok(&["rm", "acme/m"]);
    assert!(s.ok(&["ls"]).contains("nothing here yet"));
    let undone = s.ok(&["undo"]);
    assert!(
        undone.contains("took back") && undone.contains("rm acme/m"),
        "{undone}"
    );
    assert_eq!(s.ok(&["cat", "acme/m@v1:a"]), "1");
    s.ok(&["tag", "acme/m", "v1", "--delete"]);
    assert_eq!(s.run(&["cat", "acme/m@v1:a"]).code, 3);
    assert_eq!(s.ok(&["log"]).lines().count(), 7);
}

#[test]
fn json_is_one_document_of_the_same_facts() {
    let s = Scratch::new();
    s.write("m/model.safetensors", &model());
    s.write("m/copy.safetensors", &model());
    let added = s.json(&["add", "m", "--to", "acme/m"]);
    assert_eq!(added["files"].as_array().unwrap().len(), 2);
    assert_eq!(added["raw"], 2 * model().len());
    let stat = s.json(&["stat", "acme/m"]);
    let of = |key: &str| stat["total"][key].as_i64().unwrap();
    assert_eq!(of("raw"), of("stored") + of("duplicates") + of("coding"));
    assert!(of("duplicates") > 380_000);
    let shown = s.json(&["show", "acme/m:model.safetensors"]);
    assert_eq!(shown["container"], "safetensors");
    assert_eq!(shown["tensors"][0]["dtype"], "BF16");
    let looked = s.json(&["inspect", "m/model.safetensors"]);
    assert_eq!(looked["parts"][0]["elements"], 640 * 300);
    let measured = s.json(&["bench", "-n", "1", "m/model.safetensors"]);
    let levels = measured.as_array().unwrap().iter().map(|r| &r["level"]);
    assert_eq!(levels.collect::<Vec<_>>(), ["fast", "default", "archive"]);
    assert_eq!(
        measured[1]["coded"], looked["coded"],
        "both code as add does"
    );
    assert!(measured[1]["decode_cpu_s"].as_f64().unwrap() > 0.0);
    let file = "m/model.safetensors";
    let given = s.json(&["bench", "-n", "1", "-l", "default", "--base", file, file]);
    let coded = |report: &serde_json::Value| report["coded"].as_u64().unwrap();
    assert!(4 * coded(&given[0]) < coded(&measured[1]), "{given}");
    assert_eq!(
        s.json(&["verify", "acme/m"])["findings"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert_eq!(s.json(&["log"])[0]["command"], "add acme/m");
    assert_eq!(s.json(&["doctor"])["names"], 1);
    let listed = s.json(&["ls", "acme/m", "-R"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let id = listed[1]["node"]["file"]["id"].as_str().unwrap();
    assert_eq!(id, shown["id"], "ids are written alike");
}

#[test]
fn a_portable_file_is_a_repository() {
    let s = Scratch::new();
    s.write("m/model.safetensors", &model());
    s.write("m/noise", &noise(100_000, 1));
    s.ok(&["pack", "-l", "fast", "-j", "2", "m", "m.mmh"]);
    s.ok(&["unpack", "m.mmh", "back"]);
    assert_eq!(fs::read(s.path("back/noise")).unwrap(), noise(100_000, 1));
    assert_eq!(s.ok(&["-R", "m.mmh", "ls"]), "trees/folder\n");
    assert_eq!(
        s.ok(&["-R", "m.mmh", "ls", "trees/folder"]),
        "model.safetensors\nnoise\n"
    );
    assert!(s.ok(&["-R", "m.mmh", "verify"]).starts_with("all right"));
}

#[test]
fn the_repository_is_found_from_below() {
    let s = Scratch::new();
    s.write("repo/deep/down/x", b"x");
    let mut command = s.command(&["ls"]);
    let output = command
        .env_remove("MMH_REPOSITORY")
        .current_dir(s.path("repo/deep/down"))
        .output();
    assert!(output.unwrap().status.success());
}

#[test]
fn help_and_completions_name_every_command() {
    let s = Scratch::new();
    let help = s.ok(&["--help"]);
    for command in [
        "init",
        "add",
        "get",
        "cat",
        "ls",
        "log",
        "show",
        "diff",
        "branch",
        "tag",
        "rm",
        "undo",
        "stat",
        "verify",
        "inspect",
        "pack",
        "unpack",
        "doctor",
        "completions",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command} is not in the help"
        );
        assert!(!s.ok(&[command, "--help"]).is_empty());
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(s.ok(&["completions", shell]).contains("mmh"));
    }
}

#[test]
fn quiet_is_quiet() {
    let s = Scratch::new();
    s.write("m/a", b"1");
    assert_eq!(s.ok(&["-q", "add", "m", "--to", "a/b"]), "");
    assert_eq!(s.ok(&["get", "-q", "a/b", "out"]), "");
}

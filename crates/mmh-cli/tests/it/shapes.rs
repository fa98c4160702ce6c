//! The JSON of every command: its keys and kinds are what scripts rely on.

use mmh_core::Dtype;
use mmh_formats::samples::{SampleTensor, safetensors};
use serde_json::Value;

use crate::support::{Scratch, noise};

/// The shape of a value: keys in order, kinds of leaves, the shape of a list's first item.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "n".to_owned(),
        Value::String(_) => "s".to_owned(),
        Value::Array(list) => format!("[{}]", list.first().map(shape).unwrap_or_default()),
        Value::Object(map) => {
            let field = |(key, value): (&String, &Value)| format!("{key}:{}", shape(value));
            let mut fields: Vec<String> = map.iter().map(field).collect();
            fields.sort();
            format!("{{{}}}", fields.join(" "))
        }
    }
}

fn has(s: &Scratch, args: &[&str], expected: &str) {
    assert_eq!(shape(&s.json(args)), expected, "{args:?}");
}

fn sample() -> Scratch {
    let s = Scratch::new();
    let model = safetensors::file(&[SampleTensor::new("w", Dtype::BF16, &[64, 30])]);
    s.write("m/model.safetensors", &model);
    s.write("m/sub/noise", &noise(5000, 1));
    s
}

const SAVING: &str = "{coding:n delta:n derived:n duplicates:n raw:n stored:n}";
const SNAPSHOT: &str = "author:s digest:s id:s message:s parents:[] time_ms:n tree:s";

#[test]
fn commands_that_write() {
    let s = sample();
    has(
        &s,
        &["init", "other"],
        "{repository:s sealed:bool stripe:null}",
    );
    let file = "{container:s new_raw:n new_stored:n note:null path:s size:n}";
    has(
        &s,
        &["add", "m", "--to", "a/b"],
        &format!(
            "{{changed:bool files:[{file}] name:s new_raw:n new_stored:n raw:n skipped:[] snapshot:s}}"
        ),
    );
    has(&s, &["branch", "a/b", "dev"], "{created:s snapshot:s}");
    has(&s, &["branch", "a/b"], "{dev:s main:s}");
    has(&s, &["branch", "a/b", "dev", "-d"], "{deleted:s}");
    has(&s, &["tag", "a/b"], "{}");
    has(&s, &["tag", "a/b", "v1"], "{created:s snapshot:s}");
    has(&s, &["tag", "a/b"], "{v1:s}");
    has(&s, &["rm", "a/b:sub"], "{operation:n}");
    has(&s, &["undo"], "{operation:n undoes:n}");
    has(&s, &["rm", "a/b:sub"], "{operation:n}");
    has(&s, &["op", "undo"], "{operation:n undoes:n}");
    has(
        &s,
        &["gc", "--dry-run"],
        "{buried_bytes:n buried_packs:n copied_bytes:n copied_chunks:n damaged_packs:n \
         dead_bytes:n deleted_bytes:n deleted_packs:n deleted_set_aside:n \
         deleted_set_aside_bytes:n dry_run:bool floor:n leases:n live_bytes:n \
         live_chunks:n log_entries:n mark_bytes:n pack_bytes:n packs:n pruned_snapshots:n \
         waiting_bytes:n waiting_packs:n}",
    );
    let restored = "{bytes:n kept:n skipped:[] written:n}";
    has(&s, &["get", "a/b", "out"], restored);
    let fetched = "{fetched:n fetched_bytes:n kept:n kept_bytes:n skipped:[]}";
    has(&s, &["prefetch", "a/b"], fetched);
    has(&s, &["cache", "pin", "a/b"], fetched);
    has(&s, &["cache", "unpin", "a/b"], "{unpinned:n}");
    has(
        &s,
        &["cache", "stat"],
        "{bytes:n bytes_max:n files:n folder:s partial_bytes:n pinned_bytes:n pinned_files:n}",
    );
    has(&s, &["cache", "clear"], "{bytes:n removed:n}");
    has(
        &s,
        &["pack", "m", "m.mmh"],
        "{files:n raw:n skipped:[] stored:n}",
    );
    has(&s, &["unpack", "m.mmh", "back"], restored);
}

#[test]
fn commands_that_read() {
    let s = sample();
    has(&s, &["ls"], "[]");
    s.ok(&["add", "m", "--to", "a/b"]);
    has(&s, &["ls"], "[{branches:{main:s} name:s tags:{}}]");
    has(&s, &["log", "a/b"], &format!("[{{{SNAPSHOT}}}]"));
    let change = "{new:s old:null ref:s}";
    has(
        &s,
        &["log"],
        &format!(
            "[{{author:s changes:[{change}] collected:null command:s seq:n time_ms:n undoes:null}}]"
        ),
    );
    let (first, rest) = SNAPSHOT.split_once(' ').unwrap();
    has(
        &s,
        &["show", "a/b"],
        &format!("{{{first} changes:[{{change:s path:s size:n}}] {rest}}}"),
    );
    has(
        &s,
        &["show", "a/b:model.safetensors"],
        "{blake3:s container:s id:s note:null sha256:s size:n \
         tensors:[{dtype:s name:s offset:n shape:[n]}]}",
    );
    has(
        &s,
        &["stat"],
        &format!(
            "{{chunks:n files:[{{container:s name:s note:null path:s saving:{SAVING}}}] \
             methods:{} names:[{{alone:{SAVING} name:s shared:n}}] on_disk:n total:{SAVING}}}",
            shape(&s.json(&["stat"])["methods"]),
        ),
    );
    for method in s.json(&["stat"])["methods"].as_object().unwrap().values() {
        assert_eq!(shape(method), "{chunks:n raw:n stored:n}");
    }
}

#[test]
fn commands_that_check() {
    let s = sample();
    s.ok(&["add", "m", "--to", "a/b"]);
    has(
        &s,
        &["verify"],
        "{bytes:n chunks:n files:n findings:[] packs:n remarks:[] snapshots:n}",
    );
    let part = "{base:null coded:n coders:[] dtype:s elements:n method:s name:s raw:n shape:[n]}";
    let looked = s.json(&["inspect", "m/model.safetensors"]);
    let parts = looked["parts"].as_array().unwrap();
    let tensor = parts.iter().find(|part| part["name"] == "w").unwrap();
    assert_eq!(shape(tensor), part);
    let mut keys: Vec<&String> = looked.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "coded",
            "container",
            "externals",
            "level",
            "note",
            "parts",
            "raw"
        ]
    );
    let facts = "{chunks:n format:n id:s log:null operations:n pack_bytes:n packs:n put_if_absent:bool sealed:bool}";
    has(
        &s,
        &["doctor"],
        &format!(
            "{{arch:s author:s engine:s engines:[s] facts:{facts} level:s names:n os:s repository:s threads:n version:s}}"
        ),
    );
    has(
        &s,
        &["doctor", "--rebuild-index"],
        "{chunks:n lost:[] missing:[] packs:n rescued:[]}",
    );
}

/// The three kinds of difference have keys of their own, and sizes tell old from new.
#[test]
fn differences_are_tagged() {
    let s = Scratch::new();
    s.write("one/stays", b"same");
    s.write("one/goes", b"12345");
    s.write("one/grows", b"1");
    s.write("two/stays", b"same");
    s.write("two/comes", b"123");
    s.write("two/grows", b"12");
    s.ok(&["add", "one", "--to", "a/one"]);
    s.ok(&["add", "two", "--to", "a/two"]);
    let expected = serde_json::json!([
        {"change": "added", "path": "comes", "size": 3},
        {"change": "removed", "path": "goes", "size": 5},
        {"change": "changed", "path": "grows", "old_size": 1, "new_size": 2},
    ]);
    assert_eq!(s.json(&["diff", "a/one", "a/two"]), expected);
    assert_eq!(s.json(&["diff", "a/one", "a/one"]), serde_json::json!([]));
}

/// A damaged repository is described on standard output in JSON too, and the status says so.
#[test]
fn findings_are_listed_when_a_pack_is_damaged() {
    let s = sample();
    s.ok(&["add", "m", "--to", "a/b"]);
    let pack = s.below("repo/mmh/packs").pop().unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    s.replace(&pack, &bytes);
    let ran = s.run(&["verify", "--json"]);
    assert_eq!(ran.code, 8, "{}", ran.err);
    assert_eq!(ran.err, "", "the report says it all");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert!(!findings.is_empty());
    for finding in findings {
        assert_eq!(shape(finding), "{problem:s target:s}");
    }
}

/// Nothing but the document is on standard output, whatever else is asked for.
#[test]
fn json_wins_over_quiet_and_verbose() {
    let s = sample();
    for flags in [
        &["--json", "-q", "ls"][..],
        &["-q", "ls", "--json"],
        &["-vv", "--json", "ls"],
    ] {
        let out = s.ok(flags);
        assert_eq!(
            serde_json::from_str::<Value>(&out).unwrap(),
            serde_json::json!([])
        );
        assert!(out.ends_with('\n'), "{flags:?}");
    }
    let added = s.json(&["-v", "add", "m", "--to", "a/b", "--level", "fast"]);
    assert_eq!(added["changed"], true);
    assert_eq!(s.json(&["add", "m", "--to", "a/b"])["changed"], false);
}

/// Errors in JSON carry kind, status, message and advice, for every kind that a user can meet.
#[test]
fn errors_are_documents_of_one_shape() {
    let s = sample();
    s.ok(&["add", "m", "--to", "a/b"]);
    s.ok(&["pack", "m", "m.mmh"]);
    for (args, kind, exit) in [
        (&["ls", "a/none"][..], "not_found", 3),
        (&["get", "a/b", "m/sub/noise"], "invalid", 2),
        (&["branch", "a/b", "main"], "conflict", 6),
        (&["-R", "ftp://host/x", "ls"], "unsupported", 4),
        (&["-R", "s3://bucket", "ls"], "denied", 5),
        (&["-R", "m.mmh", "undo"], "denied", 5),
        (&["--no-such-flag"], "invalid", 2),
    ] {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let ran = s.run(&args);
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (exit, ""),
            "{args:?}: {}",
            ran.err
        );
        let error: Value = serde_json::from_str(&ran.err).unwrap();
        let error = &error["error"];
        assert_eq!(
            (&error["kind"], &error["exit"]),
            (&kind.into(), &exit.into())
        );
        assert!(
            error["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{args:?}"
        );
        assert!(error.as_object().unwrap().contains_key("advice"));
        assert_eq!(error.as_object().unwrap().len(), 4, "{args:?}");
    }
}

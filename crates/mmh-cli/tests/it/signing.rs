//! Keys, signatures and trust at the command line, and the stock tool of OpenSSF Model Signing.

use std::process::Command;

use serde_json::Value;

use crate::server::program;
use crate::support::Scratch;

/// A repository with `acme/m`, and a plain key `alice`.
fn with_key() -> Scratch {
    let s = Scratch::new();
    s.write("m/a.bin", b"a\n");
    s.write("m/sub/b.bin", b"b\n");
    s.ok(&["add", "m", "--to", "acme/m"]);
    s.ok(&["key", "create", "alice", "--plain"]);
    s
}

fn id_of(s: &Scratch, name: &str) -> String {
    let list = s.json(&["key", "list"]);
    let keys = list["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["name"] == name).unwrap();
    key["id"].as_str().unwrap().to_owned()
}

/// The story of a user: from a rule that refuses, by a signature, to one revoked.
#[test]
fn a_name_that_must_be_signed_is_refused_until_it_is() {
    let s = with_key();
    let said = s.ok(&["trust", "add", "acme/*", "alice"]);
    assert!(
        said.contains("models/acme/* must be signed by alice ("),
        "{said}"
    );
    for args in [
        &["get", "acme/m", "out"][..],
        &["cat", "acme/m:a.bin"],
        &["ls", "acme/m"],
    ] {
        let ran = s.run(args);
        assert_eq!(ran.code, 5, "{args:?}: {}", ran.err);
        assert!(ran.err.contains("must be signed by alice ("), "{}", ran.err);
    }
    assert!(!s.path("out").exists());
    let failed = s.run(&["verify", "--signatures"]);
    assert_eq!(failed.code, 5, "{}", failed.err);
    assert!(failed.out.contains("refused"), "{}", failed.out);
    // To look at it before one signs: history at once, content if one insists.
    for args in [
        &["log", "acme/m"][..],
        &["show", "acme/m"],
        &["show", "acme/m:a.bin"],
        &["diff", "acme/m", "acme/m"],
        &["stat", "acme/m"],
        &["verify", "acme/m"],
        &["ls"],
        &["--untrusted", "get", "acme/m", "looked"],
    ] {
        s.ok(args);
    }

    let said = s.ok(&["sign", "acme/m"]);
    assert!(said.contains("by alice; one signature in all"), "{said}");
    s.ok(&["get", "acme/m", "out"]);
    assert_eq!(std::fs::read(s.path("out/sub/b.bin")).unwrap(), b"b\n");
    let said = s.ok(&["verify", "--signatures", "acme/m"]);
    assert!(
        said.contains("trusted") && said.contains("alice ("),
        "{said}"
    );
    let report = s.json(&["verify", "--signatures"]);
    assert_eq!(report[0]["status"], "trusted");
    assert_eq!(report[0]["signers"][0]["key"], id_of(&s, "alice").as_str());

    s.ok(&["trust", "revoke", "alice"]);
    let refused = s.run(&["cat", "acme/m:a.bin"]);
    assert_eq!(refused.code, 5);
    assert!(
        refused.err.contains("but the key was revoked"),
        "{}",
        refused.err
    );
    assert!(s.ok(&["trust", "list"]).contains("revoked: alice ("));
    s.ok(&["trust", "revoke", "alice", "--undo"]);
    assert_eq!(s.ok(&["cat", "acme/m:a.bin"]), "a\n");

    s.ok(&["sign", "acme/m", "--remove"]);
    assert_eq!(s.run(&["ls", "acme/m"]).code, 5);
    s.ok(&["undo"]);
    s.ok(&["ls", "acme/m"]);
}

/// A root that is elsewhere certifies: what goes between the machines is public.
#[test]
fn a_root_certifies_a_key_and_readers_know_the_root_alone() {
    let (office, vault, reader) = (with_key(), Scratch::new(), Scratch::new());
    vault.ok(&["key", "create", "root", "--type", "root", "--plain"]);
    let public = office.ok(&["key", "export", "alice"]);
    assert!(
        public.starts_with("-----BEGIN MMH PUBLIC KEY-----"),
        "{public}"
    );
    vault.write("alice.pub", public.as_bytes());
    vault.ok(&["key", "import", "alice.pub"]);
    assert_eq!(id_of(&vault, "alice"), id_of(&office, "alice"));
    let said = vault.ok(&[
        "key",
        "certify",
        "alice",
        "--root",
        "root",
        "--names",
        "acme/*",
        "-o",
        "alice.cert",
    ]);
    assert!(said.contains("certified alice by root until 2"), "{said}");
    let certificate = std::fs::read(vault.path("alice.cert")).unwrap();
    office.write("alice.cert", &certificate);
    office.ok(&["key", "import", "alice.cert"]);
    assert!(
        office
            .ok(&["key", "list"])
            .contains("may sign models/acme/* until 2")
    );
    office.ok(&["sign", "acme/m"]);
    office.ok(&["add", "m", "--to", "other/m"]);
    office.ok(&["sign", "other/m"]);

    reader.write("root.pub", vault.ok(&["key", "export", "root"]).as_bytes());
    reader.ok(&["key", "import", "root.pub", "--name", "acme-root"]);
    reader.ok(&["trust", "add", "*", "acme-root"]);
    let repo = office.path("repo");
    let repo = repo.to_str().unwrap();
    assert_eq!(reader.ok(&["-R", repo, "cat", "acme/m:a.bin"]), "a\n");
    let shown = reader.ok(&["-R", repo, "verify", "--signatures", "acme/m"]);
    assert!(shown.contains("certified by acme-root ("), "{shown}");
    let elsewhere = reader.run(&["-R", repo, "cat", "other/m:a.bin"]);
    assert_eq!(elsewhere.code, 5);
    assert!(
        elsewhere.err.contains("for other names"),
        "{}",
        elsewhere.err
    );
    // A composite key certifies nobody, and a root is certified by nobody.
    for (key, root) in [("root", "alice"), ("root", "root")] {
        let args = ["key", "certify", key, "--root", root, "--names", "*"];
        assert_eq!(vault.run(&args).code, if root == "alice" { 3 } else { 2 });
    }
}

#[test]
fn rules_are_changed_and_shown() {
    let s = with_key();
    s.ok(&["key", "create", "bob", "--plain"]);
    s.ok(&["trust", "add", "*", "alice"]);
    let said = s.ok(&["trust", "add", "acme/m", "alice", "bob", "--need", "2"]);
    assert!(said.contains("2 keys of: "), "{said}");
    s.ok(&["sign", "acme/m", "--key", "alice"]);
    assert_eq!(s.run(&["ls", "acme/m"]).code, 5);
    let signed = s.ok(&["sign", "acme/m", "--key", "bob"]);
    assert!(signed.contains("2 signatures in all"), "{signed}");
    s.ok(&["ls", "acme/m"]);
    let shown = s.json(&["trust", "show", "acme/m"]);
    assert_eq!(shown["rule"]["names"], "models/acme/m");
    assert_eq!(s.json(&["trust", "show", "gpt2"])["rule"]["names"], "*");
    let list = s.json(&["trust", "list"]);
    assert_eq!(list["rules"].as_array().map(Vec::len), Some(2));

    s.ok(&["trust", "rm", "acme/m", "bob"]);
    assert_eq!(s.run(&["ls", "acme/m"]).code, 5, "two of one key cannot be");
    s.ok(&["trust", "rm", "acme/m"]);
    s.ok(&["ls", "acme/m"]);
    for args in [
        &["trust", "rm", "acme/m"][..],
        &["trust", "rm", "*", "alice"],
        &["trust", "add", "*", "nobody"],
        &["trust", "add", "a b", "alice"],
        &["trust", "add", "*", "alice", "--need", "0"],
        &["trust", "revoke", "nobody"],
    ] {
        let ran = s.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
    }
    assert_eq!(
        s.json(&["trust", "list"])["rules"][0]["need"],
        1,
        "nothing was changed"
    );
    // Rules that cannot be read stop reading, not only what they would refuse.
    s.write(".config/mmh/trust.toml", b"rule = 1");
    let ran = s.run(&["cat", "acme/m:a.bin"]);
    assert_eq!(
        (ran.code, ran.err.contains("trust.toml")),
        (2, true),
        "{}",
        ran.err
    );
}

/// A sealed key asks for its passphrase, by a file here, and is exported sealed.
#[test]
fn a_passphrase_seals_a_key() {
    let s = with_key();
    s.write("pass", b"correct horse\n");
    let made = s.json(&["key", "create", "carol", "--key-passphrase-file", "pass"]);
    assert_eq!(made["secret"], "sealed");
    let refused = s.run(&["key", "create", "dave"]);
    assert_eq!(
        (refused.code, refused.err.contains("--plain")),
        (2, true),
        "{}",
        refused.err
    );
    let sign = ["sign", "acme/m", "--key", "carol"];
    let refused = s.run(&sign);
    assert_eq!(refused.code, 5, "{}", refused.err);
    assert!(
        refused.err.contains("--key-passphrase-file"),
        "{}",
        refused.err
    );
    s.ok(&[&sign[..], &["--key-passphrase-file", "pass"]].concat());
    s.ok(&["key", "export", "carol", "--secret", "carol.key"]);
    let text = std::fs::read_to_string(s.path("carol.key")).unwrap();
    assert!(text.contains("AGE ENCRYPTED FILE"), "{text}");
    let again = s.run(&["key", "export", "carol", "--secret", "carol.key"]);
    assert_ne!(again.code, 0, "nothing is written over");
    // Two keys could sign now.
    let asked = s.run(&["sign", "acme/m"]);
    assert_eq!(
        (asked.code, asked.err.contains("alice, carol")),
        (2, true),
        "{}",
        asked.err
    );
    s.ok(&["key", "delete", "carol"]);
    s.ok(&["sign", "acme/m"]);
}

#[test]
fn keys_and_targets_that_do_not_fit_are_refused() {
    let s = with_key();
    s.ok(&["key", "create", "stock", "--type", "p256", "--plain"]);
    for (args, code) in [
        (&["sign", "acme/m", "--key", "stock"][..], 2),
        (&["sign", "acme/m:a.bin"], 2),
        (&["sign", "acme/absent"], 3),
        (&["sign", "acme/m", "--bundle", "x"], 2),
        (
            &["sign", "acme/m", "--bundle", "x", "--bundle-key", "alice"],
            2,
        ),
        (&["sign", "acme/m", "--remove"], 3),
        (&["trust", "add", "*", "stock"], 2),
        (&["key", "create", "alice", "--plain"], 6),
        (&["key", "create", "x", "--plain", "--type", "rsa"], 2),
        (&["key", "import", "m/a.bin"], 2),
        (&["key", "import", "absent"], 3),
        (&["key", "import", "x", "y", "--name", "z"], 2),
        (&["verify", "--bundle", "x", "--bundle-key", "stock"], 2),
    ] {
        let ran = s.run(args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.err);
    }
    let mut homeless = s.command(&["key", "list"]);
    let ran = crate::support::ran(homeless.env_remove("HOME").output().unwrap());
    assert_eq!(
        (ran.code, ran.err.contains("HOME")),
        (3, true),
        "{}",
        ran.err
    );
}

/// What is exported here the stock tool verifies there, and refuses with one flipped byte; what
/// the stock tool has signed verifies here.
#[test]
fn the_stock_tool_verifies_our_bundle_and_we_verify_its() {
    let s = with_key();
    s.write("m/.gitattributes", b"* text\n");
    s.ok(&["add", "m", "--to", "acme/m"]);
    s.ok(&["key", "create", "stock", "--type", "p256", "--plain"]);
    s.ok(&[
        "sign",
        "acme/m",
        "--bundle",
        "model.sig",
        "--bundle-key",
        "stock",
        "--key",
        "alice",
    ]);
    let pem = s.write("stock.pem", s.ok(&["key", "export", "stock"]).as_bytes());
    s.ok(&["get", "acme/m", "out"]);
    let check = |bundle: &str, key: &str| {
        s.run(&["verify", "acme/m", "--bundle", bundle, "--bundle-key", key])
    };
    for key in ["stock.pem", "stock", "alice"] {
        let ran = check("model.sig", key);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    let report: Value = s.json(&[
        "verify",
        "acme/m",
        "--bundle",
        "model.sig",
        "--bundle-key",
        "stock",
    ]);
    assert_eq!(report["files"], 2);

    let Some(tool) = program("model_signing", "model-signing (pip)") else {
        return;
    };
    let stock = |verb: &str, option: &str, key: &std::path::Path, sig: &str| {
        let mut command = Command::new(&tool);
        command.args([verb, "key", option]).arg(key);
        command
            .arg("--signature")
            .args([s.path(sig), s.path("out")]);
        command.output().unwrap()
    };
    let said = stock("verify", "--public_key", &pem, "model.sig");
    assert!(said.status.success(), "{said:?}");

    s.ok(&["key", "export", "stock", "--secret", "stock.key"]);
    let said = stock("sign", "--private_key", &s.path("stock.key"), "theirs.sig");
    assert!(said.status.success(), "{said:?}");
    let ran = check("theirs.sig", "stock");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);

    s.write("out/sub/b.bin", b"c\n");
    let said = stock("verify", "--public_key", &pem, "model.sig");
    assert!(!said.status.success(), "a flipped byte: {said:?}");
    s.write("m/sub/b.bin", b"c\n");
    s.ok(&["add", "m", "--to", "acme/m"]);
    let ran = check("theirs.sig", "stock");
    assert_eq!(
        (ran.code, ran.out.contains("changed")),
        (8, true),
        "{}",
        ran.out
    );
}

//! A sealed repository at the command line: keys by files, seeds, shares, clones, and stock age.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::server::program;
use crate::support::{Ran, Scratch, noise, ran};

/// A scratch folder with a sealed repository in `vault`, opened by the identity in `id`.
struct Vault(Scratch);

impl Vault {
    fn new() -> Self {
        let s = Scratch::new();
        let recipient = s.ok(&["key", "generate", "id"]);
        assert!(recipient.starts_with("age1pq1"), "{recipient}");
        let to = recipient.trim();
        let said = s.ok(&[
            "init",
            "vault",
            "--encrypt",
            "--recipient",
            to,
            "--slot",
            "me",
        ]);
        assert!(said.contains("sealed repository"), "{said}");
        s.write("m/a.bin", &noise(300_000, 1));
        s.write("m/b.txt", b"hello");
        let vault = Self(s);
        vault.ok(&["add", "m", "--to", "acme/m"]);
        vault
    }

    /// Runs with the identity.
    fn run(&self, args: &[&str]) -> Ran {
        let all = [&["-R", "vault", "-i", "id"], args].concat();
        self.0.run(&all)
    }

    fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran.out
    }

    /// Runs without it, on another repository, with more variables.
    fn with(&self, vars: &[(&str, &str)], args: &[&str]) -> Ran {
        let mut command = self.0.command(args);
        for (name, value) in vars {
            command.env(name, value);
        }
        ran(command.stdin(Stdio::null()).output().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        self.0.write(name, text.as_bytes())
    }
}

#[test]
fn only_a_key_opens_it() {
    let v = Vault::new();
    assert_eq!(v.ok(&["cat", "acme/m:b.txt"]), "hello");
    v.ok(&["get", "acme/m", "out"]);
    assert_eq!(
        std::fs::read(v.0.path("out/a.bin")).unwrap(),
        noise(300_000, 1)
    );
    v.ok(&["verify"]);
    assert!(v.ok(&["doctor"]).contains("sealed"));
    let none = v.with(&[], &["-R", "vault", "ls"]);
    assert_eq!(none.code, 5, "{}", none.err);
    assert!(
        none.err.contains("sealed") && none.err.contains("--identity"),
        "{}",
        none.err
    );
    let by_env = v.with(&[("MMH_IDENTITY", "id")], &["-R", "vault", "ls"]);
    assert_eq!((by_env.code, by_env.out.contains("acme/m")), (0, true));
    v.0.ok(&["key", "generate", "stranger"]);
    let stranger = v.0.run(&["-R", "vault", "-i", "stranger", "ls"]);
    assert_eq!(stranger.code, 5, "{}", stranger.err);
    let not_sealed = v.0.run(&["-R", "repo", "-i", "id", "ls"]);
    assert_eq!(not_sealed.code, 5, "{}", not_sealed.err);
    assert!(not_sealed.err.contains("not sealed"), "{}", not_sealed.err);
    let open = v.0.run(&["-i", "id", "init", "x"]);
    assert_eq!(
        open.code, 2,
        "it could not be opened with that: {}",
        open.err
    );
}

/// One passphrase, at the price that it has.
#[test]
fn a_passphrase_opens_it() {
    let v = Vault::new();
    v.file("words", "correct horse battery staple\n");
    v.ok(&["key", "add", "--new-passphrase-file", "words"]);
    let opened = v.with(&[("MMH_PASSPHRASE_FILE", "words")], &["-R", "vault", "ls"]);
    assert_eq!(
        (opened.code, opened.out.contains("acme/m")),
        (0, true),
        "{}",
        opened.err
    );
    v.file("other", "wrong\n");
    let wrong = v.with(&[("MMH_PASSPHRASE_FILE", "other")], &["-R", "vault", "ls"]);
    assert_eq!(wrong.code, 5, "{}", wrong.err);
    let slots = v.ok(&["key", "slots"]);
    assert!(
        slots.contains("passphrase") && slots.contains("argon2id"),
        "{slots}"
    );
}

#[test]
fn slots_come_and_go() {
    let v = Vault::new();
    let bob = v.0.ok(&["key", "generate", "bob"]);
    let twice = v.0.run(&["key", "generate", "bob"]);
    assert_eq!(
        twice.code, 6,
        "an identity is never written over: {}",
        twice.err
    );
    v.file("recipients", &format!("# bob\n{bob}"));
    v.ok(&[
        "key",
        "add",
        "--recipients-file",
        "recipients",
        "--slot",
        "bob",
        "--read-only",
    ]);
    let listed =
        v.0.run(&["-R", "vault", "-i", "bob", "key", "slots", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(listed[0]["slot"], "bob");
    assert_eq!(listed[1]["recipients"][0], "mlkem768x25519");
    let written =
        v.0.run(&["-R", "vault", "-i", "bob", "add", "m", "--to", "acme/n"]);
    assert_eq!(written.code, 5, "{}", written.err);
    let removed = v.ok(&["key", "remove", "bob"]);
    assert!(removed.contains("reads on"), "honest: {removed}");
    assert_eq!(v.0.run(&["-R", "vault", "-i", "bob", "ls"]).code, 5);
    let last = v.run(&["key", "remove", "me"]);
    assert_eq!(last.code, 6, "{}", last.err);
    assert_eq!(v.run(&["key", "remove", "none"]).code, 3);
    assert_eq!(
        v.run(&["key", "add", "--recipient", "age1nonsense"]).code,
        2
    );
    let nobody = v.with(&[], &["-R", "vault", "-i", "id", "key", "add"]);
    assert_eq!(
        nobody.code, 2,
        "nobody is there to be asked: {}",
        nobody.err
    );
    let stray = v.0.run(&["init", "x", "--recipient", bob.trim()]);
    assert_eq!(stray.code, 2, "{}", stray.err);
}

/// All slots are lost, the card has four wrong characters: the repository opens again.
#[test]
fn a_badly_written_seed_restores_a_slot() {
    let v = Vault::new();
    let card = v.ok(&["seed", "show"]);
    let mut letters: Vec<char> = card.trim().chars().collect();
    for at in [9, 40, 77, 100] {
        letters[at] = if letters[at] == 'q' { 'p' } else { 'q' };
    }
    v.file("card", &letters.iter().collect::<String>());
    v.ok(&["key", "remove", "me", "--force"]);
    assert_eq!(v.run(&["ls"]).code, 5);
    let to = v.0.ok(&["key", "generate", "new"]);
    let args = [
        "-R",
        "vault",
        "seed",
        "restore",
        "card",
        "--recipient",
        to.trim(),
    ];
    let restored = v.0.ok(&args);
    assert!(restored.contains("10, 41, 78, 101"), "{restored}");
    let listed = v.0.ok(&["-R", "vault", "-i", "new", "cat", "acme/m:b.txt"]);
    assert_eq!(listed, "hello");
    let by_seed = v.with(&[("MMH_SEED_FILE", "card")], &["-R", "vault", "ls"]);
    assert_eq!(by_seed.code, 0, "{}", by_seed.err);
}

/// Three of five people make the whole repository again elsewhere.
#[test]
fn shares_make_a_seed_and_a_seed_a_clone() {
    let v = Vault::new();
    let shares = v.ok(&["seed", "split", "--shares", "3/5"]);
    let shares: Vec<&str> = shares.lines().collect();
    assert_eq!(shares.len(), 5);
    v.file("a", shares[4]);
    v.file("b", &format!("{}\n{}\n", shares[0], shares[2]));
    let place = v.0.path("vault").display().to_string();
    let args = ["seed", "combine", "a", "b", "--hint", &place];
    v.file("card", &v.0.ok(&args));
    let few = v.0.run(&["seed", "combine", "a"]);
    assert_eq!(few.code, 2, "{}", few.err);
    let cloned = v.0.json(&["clone", "card", "copy"]);
    assert_eq!(cloned["names"], 1);
    let log = |place: &str| {
        v.0.ok(&["-R", place, "-i", "id", "log", "acme/m", "--json"])
    };
    assert_eq!(log("vault"), log("copy"), "ids and history are the same");
    let files = |name: &str| -> Vec<Vec<u8>> {
        let all = v.0.below(name).into_iter();
        all.map(|path| std::fs::read(path).unwrap()).collect()
    };
    assert_eq!(files("vault"), files("copy"));
    assert_eq!(
        v.0.run(&["clone", "card", "copy"]).code,
        2,
        "there is one already"
    );
    let shown = v.0.run(&[
        "clone",
        std::fs::read_to_string(v.0.path("card")).unwrap().trim(),
        "x",
    ]);
    assert_eq!(shown.code, 2, "{}", shown.err);
    assert!(shown.err.contains("no argument"), "{}", shown.err);
}

#[test]
fn seeds_may_be_for_reading_a_name_or_a_snapshot() {
    let v = Vault::new();
    let read = v.0.run(&[
        "-R",
        "vault",
        "-i",
        "id",
        "seed",
        "show",
        "acme/m",
        "--read-only",
        "--json",
    ]);
    let read: serde_json::Value = serde_json::from_str(&read.out).unwrap();
    assert_eq!(
        (&read["scope"], &read["read_only"]),
        (&"models/acme/m".into(), &true.into())
    );
    v.file("card", read["seed"].as_str().unwrap());
    let by_seed = [("MMH_SEED_FILE", "card")];
    assert_eq!(
        v.with(&by_seed, &["-R", "vault", "cat", "acme/m:b.txt"])
            .out,
        "hello"
    );
    let added = v.with(&by_seed, &["-R", "vault", "add", "m", "--to", "acme/n"]);
    assert_eq!(added.code, 5, "{}", added.err);
    let plain = v.0.run(&["seed", "show"]);
    assert_eq!(plain.code, 2, "a repository without keys: {}", plain.err);
}

/// What lies on the disk tells nothing that was put in.
#[test]
fn nothing_known_lies_on_the_disk() {
    let v = Vault::new();
    let known: [&[u8]; 4] = [b"acme", b"b.txt", b"tester", &noise(300_000, 1)[1000..1032]];
    for path in v.0.below("vault") {
        let bytes = std::fs::read(&path).unwrap();
        for needle in known {
            let found = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!found, "{}: {needle:?}", path.display());
        }
    }
}

/// The slot is an age file like any other. Stock age of version 1.1 knows X25519 recipients and
/// scrypt, so the slot is for such a one.
#[test]
fn stock_age_opens_a_slot() {
    let v = Vault::new();
    let programs = ["age", "age-keygen"].map(|name| program(name, "age (Debian)"));
    let [Some(age), Some(keygen)] = programs else {
        return;
    };
    let generated = Command::new(keygen).output().unwrap();
    let identity = String::from_utf8(generated.stdout).unwrap();
    v.file("stock", &identity);
    let (_, recipient) = identity.split_once("public key: ").unwrap();
    let recipient = recipient.lines().next().unwrap();
    v.ok(&["key", "add", "--recipient", recipient, "--slot", "stock"]);
    let opened = Command::new(&age)
        .args(["--decrypt", "--identity"])
        .arg(v.0.path("stock"))
        .arg(v.0.path("vault/mmh/keys/stock"))
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&opened.stderr).into_owned();
    assert!(opened.status.success(), "{why}");
    assert_eq!(opened.stdout.len(), 32, "the root seed");
    assert_eq!(v.0.run(&["-R", "vault", "-i", "stock", "ls"]).code, 0);

    // The other way: a slot that stock age has written opens here.
    let seed = v.0.write("seed", &opened.stdout);
    std::fs::remove_file(v.0.path("vault/mmh/keys/stock")).unwrap();
    assert_eq!(v.0.run(&["-R", "vault", "-i", "stock", "ls"]).code, 5);
    let sealed = Command::new(&age)
        .args(["--recipient", recipient, "--output"])
        .args([v.0.path("vault/mmh/keys/theirs"), seed])
        .output()
        .unwrap();
    assert!(sealed.status.success(), "{sealed:?}");
    assert_eq!(v.0.run(&["-R", "vault", "-i", "stock", "ls"]).code, 0);
}

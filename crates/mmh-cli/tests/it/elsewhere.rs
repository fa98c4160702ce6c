//! Repositories beyond this machine, through the program: on S3 as moto speaks it, with the log
//! beside the packs or in PostgreSQL, and what is said to whoever asks for one wrongly.

use std::process::Command;

use crate::server::{PASSWORD, Server};
use crate::support::{Ran, Scratch, noise, ran};

/// The program with the variables that moto wants.
fn command(s: &Scratch, server: &Server, args: &[&str]) -> Command {
    let mut command = s.command(args);
    command
        .env_remove("MMH_REPOSITORY")
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "hush")
        .env(
            "AWS_ENDPOINT_URL",
            format!("http://127.0.0.1:{}", server.port),
        );
    command
}

fn ok(mut command: Command) -> String {
    let ran = ran(command.output().unwrap());
    assert_eq!(ran.code, 0, "{command:?}: {}", ran.err);
    ran.out
}

fn fails(s: &Scratch, args: &[&str], code: i32, says: &str) -> Ran {
    let ran = s.run(args);
    assert_eq!(ran.code, code, "{args:?}: {} {}", ran.out, ran.err);
    assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
    ran
}

/// Adds in one process, lists, reads a range, verifies and restores in others.
fn whole_path(s: &Scratch, run: impl Fn(&[&str]) -> Command) {
    let bytes = noise(3 << 20, 7);
    s.write("m/weights.bin", &bytes);
    s.write("m/README.md", b"# far away\n");
    ok(run(&["init"]));
    assert_eq!(
        ran(run(&["init"]).output().unwrap()).code,
        2,
        "there is one already"
    );
    ok(run(&["add", "m", "--to", "a/b"]));
    assert!(ok(run(&["ls", "a/b"])).contains("weights.bin"));
    assert_eq!(ok(run(&["cat", "a/b:README.md"])), "# far away\n");
    ok(run(&["verify"]));
    ok(run(&["get", "a/b", "out"]));
    assert_eq!(std::fs::read(s.path("out/weights.bin")).unwrap(), bytes);
    std::fs::remove_dir_all(s.path("out")).unwrap();
}

#[test]
fn a_repository_in_a_bucket() {
    let Some(server) = Server::moto() else { return };
    let s = Scratch::new();
    let place = ["-R", "s3://models/team/a"];
    whole_path(&s, |args| command(&s, &server, &[&place, args].concat()));
    let cached = s.below(".cache/mmh");
    assert!(
        cached
            .iter()
            .any(|path| path.to_string_lossy().contains("pieces")),
        "{cached:?}"
    );
    assert!(
        !cached
            .iter()
            .any(|path| path.to_string_lossy().contains("staging")),
        "{cached:?}"
    );
    let doctor = ok(command(&s, &server, &[&place[..], &["doctor"]].concat()));
    assert!(doctor.contains("only if absent works here"), "{doctor}");
    assert!(!doctor.contains("hush"), "{doctor}");
}

/// Between this machine and a bucket, one bucket and another; killed on the way.
#[test]
fn names_go_to_a_bucket_and_come_back() {
    let Some(server) = Server::moto() else { return };
    let s = Scratch::new();
    let run = |args: &[&str]| command(&s, &server, args);
    let (one, two) = ("s3://models/sync/one", "s3://models/sync/two");
    for place in ["here", one, two] {
        ok(run(&["-R", place, "init"]));
    }
    s.write("m/weights.bin", &noise(3 << 20, 7));
    s.write("m/README.md", b"# near\n");
    ok(run(&["-R", "here", "add", "m", "--to", "a/b"]));
    let mut killed = run(&["-R", "here", "push", one]);
    let mut child = killed.spawn().unwrap();
    // Whenever that is: nothing half is named there, and the next one goes on.
    child.kill().unwrap();
    child.wait().unwrap();
    let pushed = ok(run(&["-R", "here", "push", one]));
    assert!(pushed.contains("sent "), "{pushed}");
    ok(run(&["sync", one, two]));
    ok(run(&["-R", "back", "init"]));
    ok(run(&["-R", "back", "pull", two]));
    let log = |place: &str| ok(run(&["-R", place, "log", "a/b", "--json"]));
    for place in [one, two, "back"] {
        assert_eq!(log(place), log("here"), "{place}");
        assert!(ok(run(&["-R", place, "verify"])).starts_with("all right"));
    }
    let again: serde_json::Value =
        serde_json::from_str(&ok(run(&["-R", "here", "push", one, "--json"]))).unwrap();
    assert_eq!(
        (&again["report"]["chunks"], &again["report"]["same"]),
        (&0.into(), &1.into())
    );
    let cloned = ok(run(&["clone", one, "clone", "--name", "a/b"]));
    assert!(cloned.contains("1 name"), "{cloned}");
    assert_eq!(log("clone"), log("here"));
}

#[test]
fn a_repository_in_a_bucket_with_its_log_in_postgres() {
    let (Some(server), Some(database)) = (Server::moto(), Server::postgres()) else {
        return;
    };
    let s = Scratch::new();
    let url = format!("postgres://127.0.0.1:{}/postgres", database.port);
    let with_log = |args: &[&str], log: Option<&str>| {
        let place = ["-R", "s3://models/logged"];
        let mut command = command(&s, &server, &[&place, args].concat());
        command.env("PGUSER", "mmh").env("PGPASSWORD", PASSWORD);
        if let Some(log) = log {
            command.env("MMH_LOG", log);
        }
        command
    };
    whole_path(&s, |args| with_log(args, Some(&url)));
    // The configuration names the log; the variables open it.
    assert!(ok(with_log(&["ls"], None)).contains("a/b"));
    let doctor = ok(with_log(&["doctor"], None));
    assert!(
        doctor.contains(&format!("the log lives in {url}")),
        "{doctor}"
    );
    let mut stranger = with_log(&["ls"], None);
    let refused = ran(stranger.env("PGPASSWORD", "wrong").output().unwrap());
    assert_eq!(refused.code, 5, "{}", refused.err);
    assert!(refused.err.contains("PGPASSWORD"), "{}", refused.err);
}

#[test]
fn mistakes_about_places_elsewhere_say_what_to_do() {
    let s = Scratch::new();
    fails(
        &s,
        &["-R", "s3://bucket/prefix", "ls"],
        5,
        "AWS_ACCESS_KEY_ID",
    );
    fails(
        &s,
        &["-R", "az://container", "ls"],
        2,
        "cannot use `az://container`",
    );
    fails(&s, &["-R", "s3://b//c", "ls"], 4, "prefix");
    fails(&s, &["--log", "postgres://h/d", "ls"], 2, "leave out --log");
    let secret = "postgres://u:hush@127.0.0.1:1/d";
    let ran = fails(&s, &["--log", secret, "init", "other"], 7, "127.0.0.1:1");
    assert!(!ran.err.contains("hush"), "{}", ran.err);
    let mut plain = s.command(&["-R", "s3://bucket", "ls"]);
    plain
        .env("AWS_ACCESS_KEY_ID", "k")
        .env("AWS_SECRET_ACCESS_KEY", "hush");
    let refused = crate::support::ran(
        plain
            .env("AWS_ENDPOINT_URL", "http://far.example")
            .output()
            .unwrap(),
    );
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("AWS_ALLOW_HTTP"), "{}", refused.err);
}

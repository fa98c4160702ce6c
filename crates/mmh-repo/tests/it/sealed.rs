//! Sealed repositories as a user of the library meets them: the same files come back, nothing
//! known lies on the disk, and a seed or some shares bring everything back.

use std::path::Path;
use std::sync::Arc;

use mmh_core::{Dtype, ErrorKind};
use mmh_crypto::testing::Counter;
use mmh_formats::samples::{SampleTensor, safetensors};
use mmh_repo::clone::clone_seed;
use mmh_repo::keys::{
    self, Identity, KeySource, RootSeed, Sealing, Secret, Seed, SeedKey, SeedOptions,
};
use mmh_repo::{Backend, Components, Error, InitOptions, Repository, Result};

use crate::scratch::{Scratch, add, noise, read_tree, settings, target};

fn root() -> RootSeed {
    RootSeed::from_secret(Secret::from_bytes(&[42; 32]))
}

fn init(scratch: &Scratch) -> Repository {
    let sealing = Sealing {
        root: root(),
        slots: Vec::new(),
    };
    let backend = Backend::local(scratch.path("repo")).unwrap();
    let options = InitOptions {
        sealing: Some(sealing),
        ..InitOptions::default()
    };
    Repository::init_with(backend, options, settings(), scratch.components()).unwrap()
}

fn components(scratch: &Scratch, key: impl KeySource + 'static) -> Components {
    let key = Arc::new(key);
    Components {
        key,
        ..scratch.components()
    }
}

fn open(scratch: &Scratch, place: &Path, key: impl KeySource + 'static) -> Result<Repository> {
    let backend = Backend::local(place).unwrap();
    Repository::open(backend, settings(), components(scratch, key))
}

/// A model, text that is cut by content, and small files.
fn content(scratch: &Scratch) -> std::path::PathBuf {
    let tensors = [
        SampleTensor::new(
            "model.layers.0.secret_projection",
            Dtype::BF16,
            &[300, 1000],
        ),
        SampleTensor::new("bias", Dtype::F32, &[700]),
    ];
    scratch.files(
        "in",
        &[
            ("model.safetensors", safetensors::file(&tensors)),
            ("secret-config.json", b"{\"hidden_size\": 1000}".to_vec()),
            ("noise.bin", noise(2_500_000, 1)),
            ("notes/plan.txt", "the plan ".repeat(9000).into_bytes()),
            ("empty", Vec::new()),
        ],
    )
}

fn holds(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn a_tree_comes_back_and_nothing_known_lies_on_the_disk() {
    let scratch = Scratch::new();
    let folder = content(&scratch);
    let repo = init(&scratch);
    add(&repo, &folder, "acme/hidden-name");
    assert_eq!(
        scratch.restore(&repo, "acme/hidden-name"),
        read_tree(&folder)
    );
    assert!(repo.check_all().unwrap().is_clean());
    let again = open(&scratch, &scratch.path("repo"), root()).unwrap();
    assert_eq!(
        scratch.restore(&again, "acme/hidden-name"),
        read_tree(&folder)
    );
    assert!(again.facts().unwrap().sealed);
    let plain = Scratch::new();
    add(&plain.init(), &folder, "acme/hidden-name");
    let noise = noise(2_500_000, 1);
    let digest = blake3::hash(&noise);
    let known: [&[u8]; 6] = [
        b"hidden-name",
        b"a tester",
        b"secret-config.json",
        b"secret_projection",
        &noise[1_000_000..1_000_064],
        digest.as_bytes(),
    ];
    for (place, is_there) in [(scratch.path("repo"), false), (plain.path("repo"), true)] {
        let stored = read_tree(&place);
        let (mut all, mut in_names) = (Vec::new(), String::new());
        for (name, bytes) in &stored {
            all.extend_from_slice(bytes);
            in_names.push_str(name);
        }
        for needle in &known[..2] {
            // Refs and authors lie in the log as they are; trees are compressed.
            assert_eq!(holds(&all, needle), is_there, "{needle:?}");
        }
        assert_eq!(holds(&all, known[4]), is_there, "noise is stored as it is");
        if !is_there {
            for needle in known {
                assert!(!holds(&all, needle), "{}", String::from_utf8_lossy(needle));
            }
        }
        assert!(!in_names.contains("hidden"), "{in_names}");
    }
}

/// A second version is a difference from the first, and the third add writes nothing.
#[test]
fn equal_content_is_stored_once_and_versions_as_differences() {
    let scratch = Scratch::new();
    let folder = content(&scratch);
    let repo = init(&scratch);
    let first = add(&repo, &folder, "acme/m");
    assert!(first.new_raw > 0);
    let twin = add(&repo, &folder, "acme/twin");
    assert_eq!(twin.new_raw, 0, "the same content under another name");
    assert!(!add(&repo, &folder, "acme/m").changed);
    let other = open(&scratch, &scratch.path("repo"), root()).unwrap();
    assert!(
        !add(&other, &folder, "acme/m").changed,
        "cut by the same key"
    );
}

/// Content is cut by the key: elsewhere the same bytes have other lengths and ids.
#[test]
fn another_key_cuts_and_names_otherwise() {
    let scratch = Scratch::new();
    let folder = content(&scratch);
    let repo = init(&scratch);
    let ours = add(&repo, &folder, "acme/m");
    let plain = Scratch::new();
    let theirs = add(&plain.init(), &folder, "acme/m");
    assert_eq!(ours.raw, theirs.raw);
    assert_ne!(ours.snapshot, theirs.snapshot);
}

#[test]
fn a_read_key_restores_and_does_not_add() {
    let scratch = Scratch::new();
    let folder = content(&scratch);
    add(&init(&scratch), &folder, "acme/m");
    let read = SeedKey::Read(root().read_key());
    let repo = open(&scratch, &scratch.path("repo"), read).unwrap();
    assert_eq!(scratch.restore(&repo, "acme/m"), read_tree(&folder));
    let tried = repo.add(
        &[folder],
        &target("acme/n"),
        &mmh_repo::AddOptions::default(),
    );
    assert_eq!(tried.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(repo.undo().unwrap_err().kind(), ErrorKind::Denied);
    let options = SeedOptions::default();
    assert!(matches!(
        repo.seed(None, options).unwrap().key,
        SeedKey::Read(_)
    ));
}

/// The letters of a seed, with four of them wrong.
fn badly_written(text: &str) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for at in [9, 40, 77, letters.len() - 2] {
        letters[at] = if letters[at] == 'q' { 'p' } else { 'q' };
    }
    letters.into_iter().collect()
}

/// What a repository holds: refs with their snapshots, and the files.
fn all_of(scratch: &Scratch, repo: &Repository) -> impl PartialEq + std::fmt::Debug {
    let refs = repo.refs().unwrap();
    (
        refs.refs.clone(),
        refs.head,
        scratch.restore(repo, "acme/m"),
    )
}

#[test]
fn a_badly_written_seed_clones_an_identical_repository() {
    let scratch = Scratch::new();
    let folder = content(&scratch);
    let repo = init(&scratch);
    add(&repo, &folder, "acme/m");
    let seed = repo.seed(None, SeedOptions::default()).unwrap();
    let text = badly_written(&seed.to_text().unwrap());
    let parsed = Seed::parse(&text).unwrap();
    assert_eq!((parsed.corrected.len(), &parsed.seed), (4, &seed));
    // Work goes on after the seed was written down.
    add(
        &repo,
        &scratch.files("more", &[("x", vec![1; 100])]),
        "acme/more",
    );
    let dest = Backend::local(scratch.path("clone")).unwrap();
    let cloned = clone_seed(&parsed.seed, &[], dest, settings(), scratch.components()).unwrap();
    assert_eq!(
        all_of(&scratch, &cloned.repository),
        all_of(&scratch, &repo)
    );
    assert!(cloned.repository.check_all().unwrap().is_clean());
    assert_eq!(
        read_tree(&scratch.path("clone")),
        read_tree(&scratch.path("repo"))
    );
    // The clone is a repository of its own.
    add(
        &cloned.repository,
        &scratch.files("own", &[("y", vec![2; 100])]),
        "acme/own",
    );
    let twice = Backend::local(scratch.path("clone")).unwrap();
    let twice = clone_seed(&seed, &[], twice, settings(), scratch.components());
    assert_eq!(twice.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn three_of_five_shares_open_the_same_repository() {
    let scratch = Scratch::new();
    let folder = content(&scratch);
    let repo = init(&scratch);
    add(&repo, &folder, "acme/m");
    let shares = keys::split(repo.key().unwrap(), (3, 5)).unwrap();
    let text = [4, 1, 2].map(|i| shares[i].as_str()).join("\n");
    let key = keys::combine(&text, false).unwrap();
    let opened = open(&scratch, &scratch.path("repo"), key).unwrap();
    assert_eq!(all_of(&scratch, &opened), all_of(&scratch, &repo));
    add(&opened, &folder, "acme/twin");
}

/// A clone that was interrupted is no repository; begun again it ends as it should.
#[test]
fn a_clone_goes_on_where_it_stopped() {
    let scratch = Scratch::new();
    let repo = init(&scratch);
    add(&repo, &content(&scratch), "acme/m");
    let seed = repo.seed(None, SeedOptions::default()).unwrap();
    let clone_to = |components: Components| {
        let dest = Backend::local(scratch.path("clone")).unwrap();
        clone_seed(&seed, &[], dest, settings(), components)
    };
    let stopped = components(&scratch, root());
    stopped.cancel.cancel();
    assert!(clone_to(stopped).unwrap_err().is_cancelled());
    assert!(open(&scratch, &scratch.path("clone"), root()).is_err());
    // A half-written pack is noticed by its length, and written again.
    let pack = read_tree(&scratch.path("repo"));
    let name = pack.keys().find(|name| name.contains("packs")).unwrap();
    let half = scratch.path("clone").join(name);
    std::fs::create_dir_all(half.parent().unwrap()).unwrap();
    std::fs::write(&half, &pack[name][..1000]).unwrap();
    let cloned = clone_to(scratch.components()).unwrap();
    assert_eq!(
        all_of(&scratch, &cloned.repository),
        all_of(&scratch, &repo)
    );
}

#[test]
fn a_damaged_pack_is_not_cloned() {
    let scratch = Scratch::new();
    let repo = init(&scratch);
    add(&repo, &content(&scratch), "acme/m");
    let seed = repo.seed(None, SeedOptions::default()).unwrap();
    let stored = read_tree(&scratch.path("repo"));
    let name = stored.keys().find(|name| name.contains("packs")).unwrap();
    let mut bytes = stored[name].clone();
    bytes[100] ^= 1;
    let path = scratch.path("repo").join(name);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let dest = Backend::local(scratch.path("clone")).unwrap();
    let error = clone_seed(&seed, &[], dest, settings(), scratch.components()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!scratch.path("clone").join(name).exists());
}

/// A disk that shows last month's state is found out by whoever has a newer seed.
#[test]
fn an_older_copy_is_not_what_the_seed_names() {
    let scratch = Scratch::new();
    let repo = init(&scratch);
    let folder = content(&scratch);
    add(&repo, &folder, "acme/m");
    let old = read_tree(&scratch.path("repo"));
    let early = repo.seed(None, SeedOptions::default()).unwrap();
    add(
        &repo,
        &scratch.files("more", &[("x", vec![1; 100])]),
        "acme/m",
    );
    let late = repo.seed(None, SeedOptions::default()).unwrap();
    let of_name = repo.seed(Some(&target("acme/m")), SeedOptions::default());
    repo.check_state(&early).unwrap();
    repo.check_state(&late).unwrap();
    for (name, bytes) in old {
        let path = scratch.path("old").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let shown = open(&scratch, &scratch.path("old"), root()).unwrap();
    shown.check_state(&early).unwrap();
    for seed in [late, of_name.unwrap()] {
        let error = shown.check_state(&seed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn seeds_name_what_they_are_about_and_where_to_look() {
    let scratch = Scratch::new();
    let repo = init(&scratch);
    let report = add(&repo, &content(&scratch), "acme/m");
    let options = |hint: &str| SeedOptions {
        read_only: true,
        hints: vec![hint.to_owned()],
    };
    let name = repo.seed(Some(&target("acme/m")), options("/a")).unwrap();
    let short = &report.snapshot[..];
    let snapshot = repo.seed(Some(&target(&format!("acme/m@{short}"))), options("/b"));
    let snapshot = snapshot.unwrap();
    assert!(matches!(&name.scope, keys::Scope::Name(n) if n.short() == "acme/m"));
    assert_eq!(snapshot.scope, keys::Scope::Snapshot);
    assert_eq!(
        (&name.state, &snapshot.hints[..]),
        (&snapshot.state, &["/b".to_owned()][..])
    );
    assert_eq!(name.key, SeedKey::Read(root().read_key()));
    repo.check_state(&name).unwrap();
    let none = repo.seed(Some(&target("acme/none")), options("/a"));
    assert_eq!(none.unwrap_err().kind(), ErrorKind::NotFound);
    let lost = Seed {
        hints: vec!["/no/such/place".to_owned(), "s3://else/where".to_owned()],
        ..name
    };
    let dest = Backend::local(scratch.path("clone")).unwrap();
    let error = clone_seed(&lost, &[], dest, settings(), scratch.components()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[test]
fn slots_are_added_and_removed() {
    let scratch = Scratch::new();
    let repo = init(&scratch);
    let alice = Identity::generate_x25519(&Counter::new(1)).unwrap();
    repo.add_slot("alice", &[alice.recipient().unwrap()], true)
        .unwrap();
    assert_eq!(repo.slots().unwrap().len(), 1);
    repo.remove_slot("alice").unwrap();
    assert_eq!(
        repo.remove_slot("alice").unwrap_err().kind(),
        ErrorKind::NotFound
    );
}

#[test]
fn what_is_not_sealed_has_no_seed() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let error = repo.seed(None, SeedOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

/// A seed for one name or snapshot brings that and nothing else, and with a read key the clone is
/// brought up to date too.
#[test]
fn a_clone_has_what_its_seed_is_for() {
    let scratch = Scratch::new();
    let repo = init(&scratch);
    let put = |to: &str, seed: u64| {
        let folder = scratch.files(&format!("in{seed}"), &[("w", noise(100_000, seed))]);
        add(&repo, &folder, to);
    };
    put("acme/m", 1);
    let first = repo.resolve(&target("acme/m")).unwrap().id;
    let old = repo.seed(Some(&target("acme/m@main")), SeedOptions::default());
    put("acme/m", 2);
    put("acme/other", 3);
    let read_only = SeedOptions {
        read_only: true,
        ..SeedOptions::default()
    };
    let name = repo.seed(Some(&target("acme/m")), read_only).unwrap();
    let clone = |seed: &Seed, names: &[&str], to: &str| {
        let names: Vec<_> = names.iter().map(|name| target(name)).collect();
        let dest = Backend::local(scratch.path(to)).unwrap();
        clone_seed(seed, &names, dest, settings(), scratch.components())
    };
    let one = clone(&name, &[], "one").unwrap();
    assert!(one.report.is_some_and(|report| report.is_complete()));
    let one = one.repository;
    assert_eq!(one.names().unwrap().len(), 1);
    assert_eq!(scratch.restore(&one, "acme/m")["w"], noise(100_000, 2));
    assert!(one.check_all().unwrap().is_clean());
    put("acme/m", 4);
    let sent = repo.send(&one, &mmh_repo::SyncOptions::default()).unwrap();
    assert_eq!(sent.refs.len(), 2);
    assert_eq!(scratch.restore(&one, "acme/m")["w"], noise(100_000, 4));
    let folder = scratch.files("new", &[("w", noise(10, 9))]);
    let added = one.add(
        &[folder],
        &target("acme/x"),
        &mmh_repo::AddOptions::default(),
    );
    assert_eq!(
        added.unwrap_err().kind(),
        ErrorKind::Denied,
        "it still cannot cut"
    );
    let stranger = clone(&name, &["acme/other"], "stranger").unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::Denied, "{stranger}");
    // No name has the snapshot any more.
    let then = clone(&old.unwrap(), &[], "then").unwrap().repository;
    assert_eq!(then.resolve(&target("acme/m")).unwrap().id, first);
    assert_eq!(then.log(&target("acme/m")).unwrap().count(), 1);
    assert!(then.check_all().unwrap().is_clean());
}

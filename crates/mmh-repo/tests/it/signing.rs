//! Signatures on snapshots: found again, kept and copied like all else, and demanded where the
//! reader's rules say so, whatever the store shows.

use std::sync::{Arc, LazyLock};

use mmh_core::ErrorKind;
use mmh_core::name::{RefKind, RefName, RepoName};
use mmh_core::object::RefChange;
use mmh_core::ports::FixedClock;
use mmh_crypto::bundle::p256;
use mmh_crypto::sign::{
    AnyPublicKey, Certificate, PublicKey, Signer, Terms, composite, root, sign_record,
};
use mmh_repo::keys::{KeySource, RootSeed, Sealing, Secret, Seed, SeedKey, SeedOptions};
use mmh_repo::sync::What;
use mmh_repo::trust::{KnownKey, Policy, Rule};
use mmh_repo::{
    Backend, Components, ExportOptions, GcOptions, InitOptions, Keep, PackOptions, Repository,
    SyncOptions,
};

use crate::scratch::{Scratch, add, settings, target};

fn daily(byte: u8) -> composite::SigningKey {
    composite::SigningKey::from_seed(Secret::from_bytes(&[byte; 64]))
}

/// A root, and what it says of the key 1 for `acme/*` from 1000 to 2000. Made once.
static ROOT: LazyLock<(PublicKey, Certificate)> = LazyLock::new(|| {
    let root = root::SigningKey::from_seed(Secret::from_bytes(&[9; 48]));
    let terms = Terms {
        key: daily(1).public_key(),
        names: vec!["acme/*".parse().unwrap()],
        purposes: vec!["snapshot".to_owned()],
        not_before_ms: 1_000,
        not_after_ms: 2_000,
    };
    let certificate = Certificate::issue(&root, terms).unwrap();
    (root.public_key(), certificate)
});

/// Components of a reader who asks that `names` be signed by one of `keys`, at a moment.
fn reader(scratch: &Scratch, names: &str, keys: Vec<PublicKey>, now_ms: u64) -> Components {
    let rule = Rule {
        names: names.parse().unwrap(),
        keys: keys.iter().map(PublicKey::id).collect(),
        need: 1,
    };
    let known = keys.into_iter().map(|key| KnownKey {
        label: "key".to_owned(),
        key,
    });
    let policy = Policy::new(vec![rule], [].into(), known.collect(), Vec::new()).unwrap();
    Components {
        trust: Arc::new(policy),
        clock: Arc::new(FixedClock(now_ms)),
        ..scratch.components()
    }
}

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

/// A repository with two snapshots of `acme/m`, of which `v1` is the first.
fn with_content(scratch: &Scratch) -> Repository {
    let repo = scratch.init();
    add(&repo, &scratch.files("in", &[("a", vec![1])]), "acme/m");
    repo.create_tag(&target("acme/m"), "v1").unwrap();
    add(&repo, &scratch.files("in", &[("a", vec![2])]), "acme/m");
    repo
}

fn kind_of<T: std::fmt::Debug>(result: mmh_repo::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn what_must_be_signed_is_read_only_if_it_is() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let strict = scratch.open_with(reader(&scratch, "acme/*", vec![daily(1).public_key()], 0));
    for what in ["acme/m", "acme/m@v1", "acme/m:a"] {
        assert_eq!(kind_of(strict.resolve(&target(what))), ErrorKind::Denied);
        assert_eq!(kind_of(strict.node(&target(what))), ErrorKind::Denied);
        assert_eq!(kind_of(strict.list(&target(what), true)), ErrorKind::Denied);
        strict.find(&target(what)).unwrap();
    }
    let error = strict.node(&target("acme/m")).unwrap_err().to_string();
    assert!(
        error.contains("must be signed by key (") && error.contains("not signed"),
        "{error}"
    );

    // Somebody else's signature is not enough.
    repo.sign(&target("acme/m"), &daily(2), None).unwrap();
    assert_eq!(kind_of(strict.node(&target("acme/m"))), ErrorKind::Denied);
    let signed = repo.sign(&target("acme/m"), &daily(1), None).unwrap();
    assert_eq!(signed.signatures, 2);
    assert_eq!(scratch.restore(&strict, "acme/m")["a"], [2]);
    // The snapshot is signed, by whatever revision it is named; its parent is not.
    strict
        .node(&target(&format!("acme/m@{}", signed.snapshot)))
        .unwrap();
    assert_eq!(
        kind_of(strict.node(&target("acme/m@v1"))),
        ErrorKind::Denied
    );
    // What comes on top is another snapshot.
    add(&repo, &scratch.files("in", &[("a", vec![3])]), "acme/m");
    assert_eq!(kind_of(strict.node(&target("acme/m"))), ErrorKind::Denied);
    // Names that no rule fits are free.
    add(&repo, &scratch.path("in"), "other/m");
    assert_eq!(scratch.restore(&strict, "other/m")["a"], [3]);
}

#[test]
fn the_report_tells_of_every_branch_and_tag() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    repo.sign(&target("acme/m"), &daily(1), Some(&ROOT.1))
        .unwrap();
    let words = |components: Components, targets: &[mmh_core::name::Target]| -> Vec<_> {
        let all = scratch.open_with(components).signatures(targets).unwrap();
        all.into_iter().map(|n| (n.name, n.status)).collect()
    };
    let (main, tag) = ("models/acme/m@heads/main", "models/acme/m@tags/v1");
    let said = words(reader(&scratch, "*", vec![ROOT.0.clone()], 1_500), &[]);
    assert_eq!(
        said,
        [(main.to_owned(), "trusted"), (tag.to_owned(), "refused")]
    );
    let said = words(reader(&scratch, "*", vec![ROOT.0.clone()], 2_001), &[]);
    assert_eq!(said[0].1, "refused", "the certificate has expired");
    let said = words(
        scratch.components(),
        &[target("acme/m"), target("acme/m@v1")],
    );
    assert_eq!(said[0], ("acme/m".to_owned(), "signed"));
    assert_eq!(said[1].1, "unsigned");
}

/// Signatures are kept, undone, removed and collected like all else, and are no revisions.
#[test]
fn signatures_live_with_what_they_are_on() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let tip = repo.resolve(&target("acme/m")).unwrap().id;
    repo.sign(&target("acme/m"), &daily(1), None).unwrap();
    let is_signed = || {
        repo.signature_record(&name("acme/m"), tip)
            .unwrap()
            .is_some()
    };
    assert!(is_signed());
    let names = repo.names().unwrap();
    assert_eq!(
        (names.len(), names[0].branches.len(), names[0].tags.len()),
        (1, 1, 1)
    );
    assert_eq!(repo.log(&target("acme/m")).unwrap().count(), 2);
    let refs = repo.refs().unwrap();
    let at = refs.refs.iter().find(|(r, _)| r.kind == RefKind::Signature);
    let digits = at.unwrap().1.digest().to_string();
    let error = repo
        .find(&target(&format!("acme/m@{}", &digits[..12])))
        .unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::NotFound,
        "a signature is no revision"
    );
    assert!(repo.remove(&target(&format!("acme/m@{tip}"))).is_err());

    let options = GcOptions {
        grace_ms: 0,
        undo_ms: 0,
        ..GcOptions::default()
    };
    for _ in 0..2 {
        repo.gc(&Keep::default(), &options).unwrap();
    }
    assert!(is_signed() && repo.check_all().unwrap().is_clean());

    repo.sign(&target("acme/m"), &daily(2), None).unwrap();
    repo.undo().unwrap();
    let record = repo
        .signature_record(&name("acme/m"), tip)
        .unwrap()
        .unwrap();
    assert_eq!(record.signatures.len(), 1);
    repo.unsign(&target("acme/m")).unwrap();
    assert!(!is_signed());
    assert_eq!(kind_of(repo.unsign(&target("acme/m"))), ErrorKind::NotFound);
    repo.undo().unwrap();
    assert!(is_signed());
    repo.remove(&target("acme/m")).unwrap();
    assert!(!is_signed() && repo.names().unwrap().is_empty());
}

/// The store's holder cannot move signatures to another snapshot or name.
#[test]
fn signatures_are_bound_to_name_and_snapshot() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    repo.sign(&target("acme/m"), &daily(1), None).unwrap();
    add(&repo, &scratch.path("in"), "evil/m");
    let (tip, old) = (target("acme/m"), target("acme/m@v1"));
    let (tip, old) = (repo.find(&tip).unwrap().id, repo.find(&old).unwrap().id);
    let refs = repo.refs().unwrap();
    let signatures = refs.refs[&RefName::signature(name("acme/m"), tip)];
    let evil = repo.find(&target("evil/m")).unwrap().id;
    let moved = [
        RefName::signature(name("acme/m"), old),
        RefName::signature(name("evil/m"), evil),
        RefName::signature(name("evil/m"), tip),
    ];
    let mut changes: Vec<RefChange> = moved
        .into_iter()
        .map(|r#ref| RefChange {
            r#ref,
            old: None,
            new: Some(signatures),
        })
        .collect();
    // And a branch that leads to the signed snapshot under another name.
    changes.push(RefChange {
        r#ref: RefName::branch(name("evil/m"), "copy").unwrap(),
        old: None,
        new: Some(tip),
    });
    changes.sort_by(|a, b| a.r#ref.cmp(&b.r#ref));
    repo.transact(changes, "deceive", None).unwrap();

    let strict = scratch.open_with(reader(&scratch, "*", vec![daily(1).public_key()], 0));
    assert!(strict.node(&target("acme/m")).is_ok());
    for what in ["acme/m@v1", "evil/m", "evil/m@copy"] {
        let error = strict.node(&target(what)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
        assert!(
            error.to_string().contains("about something else"),
            "{error}"
        );
    }
    let free = scratch.open().signatures(&[target("evil/m")]).unwrap();
    assert_eq!(free[0].status, "damaged");
    // Whoever may sign there signs over it.
    repo.sign(&target("evil/m"), &daily(1), None).unwrap();
    assert!(strict.node(&target("evil/m")).is_ok());
}

#[test]
fn signatures_from_elsewhere_are_put_beside_ours() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let (what, tip) = (name("acme/m"), repo.find(&target("acme/m")).unwrap().id);
    repo.sign(&target("acme/m"), &daily(1), None).unwrap();
    let mut theirs = repo.signature_record(&what, tip).unwrap().unwrap();
    sign_record(&daily(2), None, &mut theirs).unwrap();
    let seq = || repo.refs().unwrap().seq;
    let before = seq();
    repo.merge_signatures(&what, tip, &theirs).unwrap();
    let merged = repo.signature_record(&what, tip).unwrap().unwrap();
    assert_eq!((merged, seq()), (theirs.clone(), before + 1));
    // Once more changes nothing and writes nothing.
    repo.merge_signatures(&what, tip, &theirs).unwrap();
    assert_eq!(seq(), before + 1);
    let error = repo.merge_signatures(&name("other/m"), tip, &theirs);
    assert_eq!(kind_of(error), ErrorKind::Invalid);
}

/// Two who sign the same on either side: each has both after syncing, whoever sends first.
#[test]
fn sync_unites_signatures() {
    let (here, there) = (Scratch::new(), Scratch::new());
    let (one, other) = (with_content(&here), there.init());
    let send = |from: &Repository, to: &Repository, dry_run| {
        let options = SyncOptions {
            dry_run,
            ..SyncOptions::default()
        };
        from.send(to, &options).unwrap()
    };
    assert!(send(&one, &other, false).is_complete());
    let signed = one.sign(&target("acme/m"), &daily(1), None).unwrap();
    other.sign(&target("acme/m"), &daily(2), None).unwrap();
    let snapshot = signed.snapshot.parse().unwrap();
    let keys = |repo: &Repository| {
        let record = repo.signature_record(&name("acme/m"), snapshot);
        let signatures = record.unwrap().unwrap().signatures;
        let mut ids: Vec<_> = signatures.into_iter().map(|s| s.key_id).collect();
        ids.sort();
        ids
    };
    assert!(send(&one, &other, true).is_complete());
    assert_eq!(keys(&other).len(), 1, "nothing was written");
    let report = send(&one, &other, false);
    assert!(report.is_complete());
    assert_eq!(report.refs_that(What::Moved).count(), 1);
    assert_eq!(keys(&other).len(), 2);
    let again = send(&one, &other, false);
    assert_eq!(again.refs_that(What::Ahead).count(), 1);
    assert!(send(&other, &one, false).is_complete());
    assert_eq!(keys(&one), keys(&other));
}

#[test]
fn only_whole_names_are_signed_and_only_in_repositories() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let key = daily(1);
    let sign = |what: &str| kind_of(repo.sign(&target(what), &key, None));
    assert_eq!(sign("acme/m:a"), ErrorKind::Invalid);
    assert_eq!(sign("acme/absent"), ErrorKind::NotFound);
    assert_eq!(sign("acme/m@nowhere"), ErrorKind::NotFound);
    /// A key that cannot be reached.
    #[derive(Debug)]
    struct Unplugged;
    impl Signer for Unplugged {
        fn public_key(&self) -> PublicKey {
            daily(3).public_key()
        }
        fn sign(&self, _context: &[u8], _message: &[u8]) -> mmh_crypto::Result<Vec<u8>> {
            Err(mmh_crypto::Error::NoMatch)
        }
    }
    let error = repo.sign(&target("acme/m"), &Unplugged, None);
    assert_eq!(kind_of(error), ErrorKind::Denied);

    let packed = scratch.path("packed.mmh");
    mmh_repo::pack(
        &scratch.path("in"),
        &packed,
        &PackOptions::default(),
        settings(),
        scratch.components(),
    )
    .unwrap();
    let archive = Repository::open_archive(&packed, settings(), scratch.components()).unwrap();
    let error = archive.sign(&target("trees/folder"), &key, None);
    assert_eq!(kind_of(error), ErrorKind::Denied);
    // An archive has no signatures, so a rule that fits its name refuses it; unpacking asks for none.
    let strict = reader(&scratch, "*", vec![key.public_key()], 0);
    let archive = Repository::open_archive(&packed, settings(), strict.clone()).unwrap();
    assert_eq!(
        kind_of(archive.node(&target("trees/folder"))),
        ErrorKind::Denied
    );
    let options = mmh_repo::UnpackOptions::default();
    mmh_repo::unpack(&packed, &scratch.path("out"), &options, settings(), strict).unwrap();
}

/// In a sealed repository signatures are sealed too; a read key reads them, and a clone has them.
#[test]
fn sealed_repositories_and_their_clones_keep_signatures() {
    let scratch = Scratch::new();
    let root = RootSeed::from_secret(Secret::from_bytes(&[42; 32]));
    let options = InitOptions {
        sealing: Some(Sealing {
            root: root.clone(),
            slots: Vec::new(),
        }),
        ..InitOptions::default()
    };
    let place = Backend::local(scratch.path("repo")).unwrap();
    let repo = Repository::init_with(place, options, settings(), scratch.components()).unwrap();
    add(&repo, &scratch.files("in", &[("a", vec![1])]), "acme/m");
    repo.sign(&target("acme/m"), &daily(1), None).unwrap();

    let strict = |place: &str, key: Arc<dyn KeySource>| {
        let components = Components {
            key,
            ..reader(&scratch, "acme/*", vec![daily(1).public_key()], 0)
        };
        let place = Backend::local(scratch.path(place)).unwrap();
        Repository::open(place, settings(), components).unwrap()
    };
    let read_only = strict("repo", Arc::new(SeedKey::Read(root.read_key())));
    assert!(read_only.node(&target("acme/m")).is_ok());
    let error = read_only.sign(&target("acme/m"), &daily(2), None);
    assert_eq!(kind_of(error), ErrorKind::Denied);

    let seed: Seed = repo.seed(None, SeedOptions::default()).unwrap();
    let dest = Backend::local(scratch.path("copy")).unwrap();
    mmh_repo::clone::clone_seed(&seed, &[], dest, settings(), scratch.components()).unwrap();
    let copy = strict("copy", Arc::new(root));
    assert!(copy.node(&target("acme/m")).is_ok());
}

/// A bundle lists what a folder holds but for what git keeps there, and says what differs.
#[test]
fn bundles_are_signed_and_compared() {
    let scratch = Scratch::new();
    let repo = scratch.init();
    let files = [
        ("a", vec![1]),
        ("sub/b", vec![2]),
        (".gitattributes", vec![3]),
    ];
    let folder = scratch.files("in", &files);
    add(&repo, &folder, "acme/m");
    let (key, second) = (p256::SigningKey::generate().unwrap(), daily(1));
    let main = target("acme/m");
    let bundle = repo.sign_bundle(&main, &key, Some(&second)).unwrap();
    let stock = AnyPublicKey::P256(p256::Signer::public_key(&key));
    let ours = AnyPublicKey::Signing(second.public_key());
    for key in [&stock, &ours] {
        let report = repo.check_bundle(&main, &bundle, key).unwrap();
        assert!(report.is_clean() && report.files == 2, "{report:?}");
        assert_eq!(report.model, "acme/m");
    }
    let other = AnyPublicKey::Signing(daily(2).public_key());
    assert_eq!(
        kind_of(repo.check_bundle(&main, &bundle, &other)),
        ErrorKind::Denied
    );
    assert_eq!(
        kind_of(repo.check_bundle(&main, "{}", &stock)),
        ErrorKind::Invalid
    );

    // Whatever is changed afterwards is named.
    std::fs::write(folder.join("a"), [9]).unwrap();
    std::fs::remove_dir_all(folder.join("sub")).unwrap();
    std::fs::write(folder.join("new"), [4]).unwrap();
    std::fs::write(folder.join(".gitattributes"), [5]).unwrap();
    let options = mmh_repo::AddOptions {
        replace: true,
        ..mmh_repo::AddOptions::default()
    };
    repo.add(std::slice::from_ref(&folder), &main, &options)
        .unwrap();
    let report = repo.check_bundle(&main, &bundle, &stock).unwrap();
    assert!(!report.is_clean() && report.files == 0);
    assert_eq!(report.changed, ["a"]);
    assert_eq!(report.missing, ["sub/b"]);
    assert_eq!(report.unsigned, ["new"]);
    assert_eq!(
        kind_of(repo.sign_bundle(&target("acme/m:a"), &key, None)),
        ErrorKind::Invalid
    );
}

/// Files whose digest nobody noted are read; links cannot be told to stock tools.
#[test]
fn bundles_of_archives_and_links() {
    let scratch = Scratch::new();
    let folder = scratch.files("in", &[("a", vec![7; 3_000_000])]);
    let packed = scratch.path("packed.mmh");
    let options = PackOptions::default();
    mmh_repo::pack(&folder, &packed, &options, settings(), scratch.components()).unwrap();
    let archive = Repository::open_archive(&packed, settings(), scratch.components()).unwrap();
    let key = p256::SigningKey::generate().unwrap();
    let public = AnyPublicKey::P256(p256::Signer::public_key(&key));
    let bundle = archive
        .sign_bundle(&target("trees/folder"), &key, None)
        .unwrap();
    let repo = scratch.init();
    add(&repo, &folder, "acme/m");
    assert!(
        repo.check_bundle(&target("acme/m"), &bundle, &public)
            .unwrap()
            .is_clean()
    );
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("a", folder.join("link")).unwrap();
        add(&repo, &folder, "acme/m");
        let error = repo.sign_bundle(&target("acme/m"), &key, None);
        assert_eq!(kind_of(error), ErrorKind::Unsupported);
        let report = repo
            .check_bundle(&target("acme/m"), &bundle, &public)
            .unwrap();
        assert_eq!(report.unsigned, ["link"]);
    }
}

/// What was exported before stays readable as files: a rule is about names of a repository.
#[test]
fn a_node_that_was_vetted_is_exported() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    repo.sign(&target("acme/m"), &daily(1), None).unwrap();
    let strict = scratch.open_with(reader(&scratch, "acme/m", vec![daily(1).public_key()], 0));
    let node = strict.node(&target("acme/m")).unwrap();
    let out = scratch.path("out");
    strict
        .export(&node, "", &out, ExportOptions::default())
        .unwrap();
    assert_eq!(std::fs::read(out.join("a")).unwrap(), [2]);
}

/// What is signed follows from name and snapshot alone: FORMAT.md, "Signatures".
#[test]
fn the_statement_is_what_the_format_says() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let id = repo.find(&target("acme/m")).unwrap().id;
    repo.sign(&target("acme/m"), &daily(1), Some(&ROOT.1))
        .unwrap();
    let record = repo.signature_record(&name("acme/m"), id).unwrap().unwrap();
    let (head, digest) = (
        r#"{"_type":"https://in-toto.io/Statement/v1","subject":"#,
        id.digest(),
    );
    let payload = format!(
        r#"{head}[{{"name":"models/acme/m","digest":{{"mmhSnapshot":"{digest}"}}}}],"predicateType":"https://mmh-rs/snapshot/v1","predicate":{{"snapshot":"{id}"}}}}"#
    );
    assert_eq!(String::from_utf8(record.payload.to_vec()).unwrap(), payload);
    assert_eq!(record.payload_type, "application/vnd.in-toto+json");
    assert_eq!(record.subject, id.object());
    let [signature] = record.signatures.as_slice() else {
        panic!("one signature");
    };
    assert_eq!(signature.algorithm, "MLDSA65-Ed25519-SHA512");
    assert_eq!(signature.key_id, daily(1).public_key().id().to_string());
    assert_eq!(
        signature.certificate.as_ref().unwrap().to_vec(),
        ROOT.1.to_bytes()
    );
}

/// Whoever is slower reads again: no signature is lost.
#[test]
fn signers_at_the_same_time_do_not_replace_each_other() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let id = repo.find(&target("acme/m")).unwrap().id;
    std::thread::scope(|scope| {
        for byte in 1..=3 {
            let own = scratch.open();
            scope.spawn(move || own.sign(&target("acme/m"), &daily(byte), None).unwrap());
        }
    });
    let record = repo.signature_record(&name("acme/m"), id).unwrap().unwrap();
    let mut keys: Vec<_> = record.signatures.into_iter().map(|s| s.key_id).collect();
    keys.sort();
    let mut expected: Vec<_> = (1..=3)
        .map(|b| daily(b).public_key().id().to_string())
        .collect();
    expected.sort();
    assert_eq!(keys, expected);
}

/// A ref that leads to no record, or to noise, is damage, and signing again mends it.
#[test]
fn signatures_that_cannot_be_read_are_damage() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let id = repo.find(&target("acme/m")).unwrap().id;
    let noise = scratch.files("noise", &[("record", vec![0xff; 100])]);
    add(&repo, &noise, "trees/noise");
    let strict = scratch.open_with(reader(&scratch, "acme/*", vec![daily(1).public_key()], 0));
    let mut old = None;
    for what in ["trees/noise", "acme/m@v1"] {
        let new = Some(repo.find(&target(what)).unwrap().id);
        let change = RefChange {
            r#ref: RefName::signature(name("acme/m"), id),
            old,
            new,
        };
        repo.transact(vec![change], "deceive", None).unwrap();
        old = new;
        assert!(strict.node(&target("acme/m")).is_err(), "{what}");
        let said = scratch.open().signatures(&[target("acme/m")]).unwrap();
        assert_eq!(
            (said[0].status, said[0].damage.is_some()),
            ("damaged", true),
            "{what}"
        );
        let said = strict.signatures(&[target("acme/m")]).unwrap();
        assert_eq!(said[0].status, "refused", "{what}");
    }
    repo.sign(&target("acme/m"), &daily(1), None).unwrap();
    assert!(strict.node(&target("acme/m")).is_ok());
}

/// Each byte of a record is part of what is signed, of a signature, or of its form.
#[test]
fn flipped_bytes_of_a_record_are_never_trusted() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let id = repo.find(&target("acme/m")).unwrap().id;
    repo.sign(&target("acme/m"), &daily(1), None).unwrap();
    let record = repo.signature_record(&name("acme/m"), id).unwrap().unwrap();
    let bytes = mmh_core::canonical::encode(&record).unwrap();
    let trust = reader(&scratch, "acme/*", vec![daily(1).public_key()], 0).trust;
    assert!(trust.judge(&name("acme/m"), Some(&record), 0).is_met());
    for at in (0..bytes.len()).step_by(bytes.len() / 300 + 1) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        if let Ok(changed) = mmh_core::canonical::decode(&changed) {
            let verdict = trust.judge(&name("acme/m"), Some(&changed), 0);
            assert!(!verdict.is_met(), "byte {at}");
        }
        let cut = mmh_core::canonical::decode::<mmh_core::object::Record>(&bytes[..at]);
        assert!(cut.is_err(), "cut {at}");
    }
}

//! Keys survive their folder, and nothing that is not theirs opens them.

use mmh_core::ErrorKind;
use mmh_crypto::age::Cost;
use mmh_crypto::sign::{KeyType, Terms};
use mmh_crypto::testing::Counter;
use tempfile::TempDir;

use super::*;

/// A folder whose owner answers with `passphrase` when asked.
fn folder(passphrase: &'static str) -> (TempDir, KeyFolder) {
    let dir = tempfile::tempdir().unwrap();
    let keys = at(&dir, passphrase);
    (dir, keys)
}

fn at(dir: &TempDir, passphrase: &'static str) -> KeyFolder {
    let unlock = move |_: &str| Ok(Zeroizing::new(passphrase.to_owned()));
    KeyFolder::new(dir.path().join("mmh/keys"), Box::new(unlock))
}

fn key(key_type: KeyType, start: u64) -> SecretKey {
    SecretKey::generate(key_type, &Counter::new(start)).unwrap()
}

fn quick(text: &str) -> Option<Passphrase> {
    Some(Passphrase::new(text).with_cost(Cost::TEST))
}

#[test]
fn keys_of_every_type_are_kept_and_sign() {
    let (dir, keys) = folder("open sesame");
    assert!(keys.list().unwrap().is_empty() && keys.certificates().unwrap().is_empty());
    for (start, key_type) in (1..).zip(KeyType::ALL) {
        let (name, made) = (key_type.name(), key(key_type, start));
        let info = keys.create(name, &made, quick("open sesame")).unwrap();
        assert_eq!((info.r#type, info.secret), (name, Some(Protection::Sealed)));
        assert_eq!(info.id, made.public().id());
        assert_eq!(keys.secret(name).unwrap().public(), made.public());
        let (signs, bundles) = (keys.signer(name).is_ok(), keys.bundle_signer(name).is_ok());
        assert_eq!(
            (signs, bundles),
            (key_type != KeyType::P256, key_type == KeyType::P256)
        );
    }
    assert_eq!(keys.list().unwrap().len(), 3);
    assert_eq!(keys.known().unwrap().len(), 2, "rules know no P-256");
    // Another passphrase opens nothing, and the public half needs none.
    let closed = at(&dir, "guess");
    assert_eq!(
        closed.secret("composite").unwrap_err().kind(),
        ErrorKind::Denied
    );
    assert_eq!(closed.list().unwrap(), keys.list().unwrap());
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, keys) = folder("");
    keys.create("alice", &key(KeyType::Composite, 1), None)
        .unwrap();
    for (path, mode) in [
        (keys.path("alice", "key"), 0o600),
        (keys.path("alice", "pub"), 0o600),
        (keys.folder.clone(), 0o700),
    ] {
        let found = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
}

/// Nothing of a sealed key lies in its file; a plain one says what it is.
#[test]
fn sealed_files_hold_nothing_known() {
    let (_dir, keys) = folder("x");
    let made = key(KeyType::Composite, 1);
    keys.create("sealed", &made, quick("x")).unwrap();
    let info = keys.create("plain", &made, None).unwrap();
    assert_eq!(info.secret, Some(Protection::Plain));
    assert_eq!(*keys.secret_text("plain").unwrap(), *made.to_pem());
    let sealed = keys.secret_text("sealed").unwrap();
    assert!(sealed.contains("AGE ENCRYPTED FILE"));
    assert!(
        !made
            .to_pem()
            .lines()
            .skip(1)
            .any(|line| sealed.contains(line))
    );
}

#[test]
fn names_are_taken_once_and_are_no_paths() {
    let (_dir, keys) = folder("");
    let (one, two) = (key(KeyType::Composite, 1), key(KeyType::Composite, 2));
    keys.create("alice", &one, None).unwrap();
    let error = keys.create("alice", &two, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(keys.secret("alice").unwrap().public(), one.public());
    for bad in [
        "",
        "../alice",
        "a/b",
        ".x",
        "-x",
        "a b",
        "é",
        &"x".repeat(65),
    ] {
        let error = keys.create(bad, &two, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        assert!(
            keys.public(bad).is_err() && keys.delete(bad).is_err(),
            "{bad}"
        );
    }
    keys.delete("alice").unwrap();
    assert!(keys.list().unwrap().is_empty() && keys.delete("alice").is_err());
}

#[test]
fn keys_are_found_by_name_or_beginning_of_their_id() {
    let (_dir, keys) = folder("");
    let info = keys
        .create("alice", &key(KeyType::Composite, 1), None)
        .unwrap();
    for text in ["alice", &info.id, &info.id[..8]] {
        assert_eq!(keys.find(text).unwrap(), info);
    }
    for text in ["bob", "", &info.id[..7], &info.id[1..]] {
        assert_eq!(keys.find(text).unwrap_err().kind(), ErrorKind::Invalid);
    }
    keys.create("again", &key(KeyType::Composite, 1), None)
        .unwrap();
    let error = keys.find(&info.id[..8]).unwrap_err();
    assert!(error.to_string().contains("several"), "{error}");
}

/// What one exports another imports; a secret key may come after its public half.
#[test]
fn keys_travel_as_text() {
    let (_dir, alice) = folder("secret");
    let (_other, bob) = folder("secret");
    let made = key(KeyType::Composite, 1);
    let info = alice.create("alice", &made, quick("secret")).unwrap();
    let public = alice.public("alice").unwrap().to_pem();
    let Imported::Key(imported) = bob.import(&public, "al").unwrap() else {
        panic!("a key");
    };
    assert_eq!(
        (imported.id.as_str(), imported.secret),
        (info.id.as_str(), None)
    );
    assert!(bob.signer("al").is_err(), "only the public half is here");
    let error = bob.import(&public, "al").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);

    let sealed = alice.secret_text("alice").unwrap();
    let Imported::Key(whole) = bob.import(&sealed, "al").unwrap() else {
        panic!("a key");
    };
    assert_eq!(whole.secret, Some(Protection::Sealed));
    assert_eq!(bob.secret("al").unwrap().public(), made.public());
    bob.import(&made.to_pem(), "plain").unwrap();
    assert_eq!(bob.secret("plain").unwrap().public(), made.public());
    for text in ["", "hello", &public[..50], &sealed[..200]] {
        assert!(bob.import(text, "x").is_err(), "{text}");
    }
    assert_eq!(
        bob.list().unwrap().len(),
        2,
        "what is refused leaves nothing"
    );
}

#[test]
fn certificates_are_kept_once_a_root_and_key() {
    let (_dir, keys) = folder("");
    let (root, daily) = (key(KeyType::Root, 1), key(KeyType::Composite, 2));
    let SecretKey::Root(signer) = &root else {
        panic!("a root");
    };
    let AnyPublicKey::Signing(public) = daily.public() else {
        panic!("a key of ours");
    };
    let issue = |not_after_ms| {
        let terms = Terms {
            key: public.clone(),
            names: vec!["acme/*".parse().unwrap()],
            purposes: vec!["snapshot".to_owned()],
            not_before_ms: 0,
            not_after_ms,
        };
        Certificate::issue(signer.as_ref(), terms).unwrap()
    };
    let (old, new) = (issue(1), issue(2));
    let id = daily.public().id();
    for certificate in [&old, &new] {
        let imported = keys.import(&certificate.to_pem(), "").unwrap();
        assert_eq!(imported, Imported::Certificate(id.clone()));
    }
    assert_eq!(
        keys.certificates().unwrap(),
        std::slice::from_ref(&new),
        "it was renewed"
    );
    assert_eq!(keys.certificate_for(&id).unwrap(), Some(new));
    assert_eq!(keys.certificate_for("0").unwrap(), None);
}

/// A damaged file is named; a key that was put beside another's public half is not used.
#[test]
fn damaged_files_are_named() {
    let (_dir, keys) = folder("");
    keys.create("alice", &key(KeyType::Composite, 1), None)
        .unwrap();
    keys.create("bob", &key(KeyType::Composite, 2), None)
        .unwrap();
    fs::copy(keys.path("bob", "key"), keys.path("alice", "key")).unwrap();
    let error = keys.secret("alice").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("alice"), "{error}");
    fs::write(keys.path("alice", "pub"), "nonsense").unwrap();
    fs::write(keys.folder.join("x.cert"), "nonsense").unwrap();
    for error in [keys.list().unwrap_err(), keys.known().unwrap_err()] {
        assert!(error.to_string().contains("alice.pub"), "{error}");
    }
    let error = keys.certificates().unwrap_err();
    assert!(error.to_string().contains("x.cert"), "{error}");
    let long = fs::File::create(keys.path("long", "pub")).unwrap();
    long.set_len(FILE_LEN_MAX + 1).unwrap();
    assert_eq!(keys.public("long").unwrap_err().kind(), ErrorKind::Invalid);
}

//! What signatures are worth, by every rule that there is.

use std::sync::LazyLock;

use mmh_core::object::RecordTag;
use mmh_core::{ErrorKind, ObjectId};
use mmh_crypto::Secret;
use mmh_crypto::sign::certificate::PURPOSE_SNAPSHOT;
use mmh_crypto::sign::{Signer as _, Terms, composite, root, sign_record};

use super::*;

fn daily(byte: u8) -> composite::SigningKey {
    composite::SigningKey::from_seed(Secret::from_bytes(&[byte; 64]))
}

/// A root, and what it says of the key 1: it may sign `acme/*` from 1000 to 2000. Made once, for
/// roots take their time.
static ROOT: LazyLock<(PublicKey, Certificate)> = LazyLock::new(|| {
    let root = root::SigningKey::from_seed(Secret::from_bytes(&[9; 48]));
    let terms = Terms {
        key: daily(1).public_key(),
        names: vec!["acme/*".parse().unwrap()],
        purposes: vec![PURPOSE_SNAPSHOT.to_owned()],
        not_before_ms: 1_000,
        not_after_ms: 2_000,
    };
    let certificate = Certificate::issue(&root, terms).unwrap();
    (root.public_key(), certificate)
});

fn known(label: &str, key: PublicKey) -> KnownKey {
    let label = label.to_owned();
    KnownKey { label, key }
}

/// Everybody that the reader knows: two people and a root.
fn everybody() -> Vec<KnownKey> {
    vec![
        known("alice", daily(1).public_key()),
        known("bob", daily(2).public_key()),
        known("root", ROOT.0.clone()),
    ]
}

fn rule(names: &str, keys: &[&PublicKey], need: usize) -> Rule {
    Rule {
        names: names.parse().unwrap(),
        keys: keys.iter().map(|key| key.id()).collect(),
        need,
    }
}

fn policy(rules: Vec<Rule>, revoked: &[&PublicKey]) -> Policy {
    let revoked = revoked.iter().map(|key| key.id()).collect();
    Policy::new(rules, revoked, everybody(), Vec::new()).unwrap()
}

fn name(text: &str) -> RepoName {
    text.parse().unwrap()
}

/// A record signed by these keys.
fn record(signers: &[u8], certificate: Option<&Certificate>) -> Record {
    let mut record = Record {
        r#type: RecordTag::Tag,
        subject: ObjectId::of(b"x"),
        payload_type: "t".to_owned(),
        payload: b"p".to_vec().into(),
        signatures: Vec::new(),
    };
    for byte in signers {
        sign_record(&daily(*byte), certificate, &mut record).unwrap();
    }
    record
}

fn standings(verdict: &Verdict) -> Vec<Standing> {
    verdict.signers.iter().map(|s| s.standing).collect()
}

#[test]
fn nothing_is_demanded_without_a_rule() {
    let policy = Policy::default();
    let verdict = policy.judge(&name("acme/m"), None, 0);
    assert_eq!((verdict.word(), verdict.is_met()), ("unsigned", true));
    let verdict = policy.judge(&name("acme/m"), Some(&record(&[1], None)), 0);
    assert_eq!(standings(&verdict), [Standing::Unknown]);
    assert_eq!((verdict.word(), verdict.is_met()), ("signed", true));
    verdict
        .enforce(&name("acme/m"), SnapshotId::of(b"x"))
        .unwrap();
}

#[test]
fn the_most_exact_rule_decides_alone() {
    let (alice, bob) = (daily(1).public_key(), daily(2).public_key());
    let rules = vec![
        rule("*", &[&alice], 1),
        rule("acme/*", &[&bob], 1),
        rule("acme/open", &[&alice], 1),
    ];
    let policy = policy(rules, &[]);
    let by_alice = record(&[1], None);
    for (text, is_met) in [("other", true), ("acme/m", false), ("acme/open", true)] {
        let verdict = policy.judge(&name(text), Some(&by_alice), 0);
        assert_eq!(verdict.is_met(), is_met, "{text}");
    }
    assert_eq!(
        policy.rule(&name("acme/m")).unwrap().names.as_str(),
        "models/acme/*"
    );
}

#[test]
fn a_refusal_says_who_would_have_had_to_sign_and_what_there_is() {
    let alice = daily(1).public_key();
    let policy = policy(vec![rule("acme/*", &[&alice], 1)], &[]);
    let refused = |record: Option<&Record>| {
        let verdict = policy.judge(&name("acme/m"), record, 0);
        assert_eq!((verdict.word(), verdict.is_met()), ("refused", false));
        let error = verdict
            .enforce(&name("acme/m"), SnapshotId::of(b"x"))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        error.to_string()
    };
    let unsigned = refused(None);
    assert!(
        unsigned.contains("by alice (") && unsigned.contains("not signed"),
        "{unsigned}"
    );
    let by_bob = refused(Some(&record(&[2], None)));
    assert!(
        by_bob.contains("bob (") && by_bob.contains("no rule names"),
        "{by_bob}"
    );
    let by_nobody = refused(Some(&record(&[7], None)));
    assert!(by_nobody.contains("not known here"), "{by_nobody}");
}

/// Two keys are two keys, however often one of them signed.
#[test]
fn so_many_different_keys_must_have_signed() {
    let (alice, bob) = (daily(1).public_key(), daily(2).public_key());
    let policy = policy(vec![rule("acme/*", &[&alice, &bob], 2)], &[]);
    let met = |record: &Record| policy.judge(&name("acme/m"), Some(record), 0).is_met();
    assert!(met(&record(&[1, 2], None)));
    let mut twice = record(&[1], None);
    let again = twice.signatures[0].clone();
    twice.signatures.push(again);
    assert!(!met(&twice));
    let verdict = policy.judge(&name("acme/m"), Some(&twice), 0);
    let error = verdict
        .enforce(&name("acme/m"), SnapshotId::of(b"x"))
        .unwrap_err();
    assert!(error.to_string().contains("by 2 keys: "), "{error}");
}

#[test]
fn a_root_vouches_for_names_and_times() {
    let root_alone = Policy::new(
        vec![rule("*", &[&ROOT.0], 1)],
        BTreeSet::new(),
        vec![known("root", ROOT.0.clone())],
        Vec::new(),
    )
    .unwrap();
    let signed = record(&[1], Some(&ROOT.1));
    let standing = |text: &str, now| {
        let verdict = root_alone.judge(&name(text), Some(&signed), now);
        assert_eq!(
            verdict.is_met(),
            verdict.signers[0].standing == Standing::Trusted
        );
        verdict.signers[0].standing
    };
    assert_eq!(standing("acme/m", 1_000), Standing::Trusted);
    assert_eq!(standing("acme/m", 999), Standing::Early(1_000));
    assert_eq!(standing("acme/m", 2_001), Standing::Expired(2_000));
    assert_eq!(standing("other/m", 1_500), Standing::Elsewhere);
    // Without the certificate nobody knows the key; with somebody else's it is worth nothing.
    let bare = record(&[1], None);
    let verdict = root_alone.judge(&name("acme/m"), Some(&bare), 1_500);
    assert_eq!(standings(&verdict), [Standing::Unknown]);
    let borrowed = record(&[2], Some(&ROOT.1));
    let verdict = root_alone.judge(&name("acme/m"), Some(&borrowed), 1_500);
    assert_eq!(standings(&verdict), [Standing::Unknown]);
}

/// A certificate that the reader has renews what the store shows.
#[test]
fn the_readers_own_certificates_count_too() {
    let policy = Policy::new(
        vec![rule("acme/*", &[&ROOT.0], 1)],
        BTreeSet::new(),
        vec![known("root", ROOT.0.clone())],
        vec![ROOT.1.clone()],
    )
    .unwrap();
    let bare = record(&[1], None);
    let verdict = policy.judge(&name("acme/m"), Some(&bare), 1_500);
    assert_eq!(standings(&verdict), [Standing::Trusted]);
    assert!(
        verdict.signers[0]
            .by
            .as_ref()
            .unwrap()
            .starts_with("root (")
    );
}

/// A root that no rule names vouches for nothing, though its key is known.
#[test]
fn a_root_counts_only_where_a_rule_names_it() {
    let bob = daily(2).public_key();
    let policy = policy(vec![rule("acme/*", &[&bob], 1)], &[]);
    let verdict = policy.judge(&name("acme/m"), Some(&record(&[1], Some(&ROOT.1))), 1_500);
    assert_eq!(standings(&verdict), [Standing::Valid]);
}

#[test]
fn revoked_keys_and_roots_count_no_more() {
    let (alice, now) = (daily(1).public_key(), 1_500);
    let signed = record(&[1], Some(&ROOT.1));
    for (keys, revoked) in [(&alice, &alice), (&ROOT.0, &alice), (&ROOT.0, &ROOT.0)] {
        let rules = || vec![rule("acme/*", &[keys], 1)];
        let before = policy(rules(), &[]).judge(&name("acme/m"), Some(&signed), now);
        assert_eq!(standings(&before), [Standing::Trusted]);
        let after = policy(rules(), &[revoked]).judge(&name("acme/m"), Some(&signed), now);
        assert_eq!(standings(&after), [Standing::Revoked]);
        assert!(!after.is_met());
    }
}

/// Somebody else's wrong signature does not take a good one away.
#[test]
fn wrong_signatures_are_told_and_count_nothing() {
    let alice = daily(1).public_key();
    let policy = policy(vec![rule("acme/*", &[&alice], 1)], &[]);
    let mut forged = record(&[1, 2], None);
    forged.signatures[1].signature[7] ^= 1;
    let verdict = policy.judge(&name("acme/m"), Some(&forged), 0);
    assert_eq!(standings(&verdict), [Standing::Trusted, Standing::Wrong]);
    assert_eq!(verdict.word(), "trusted");
    forged.signatures[0].signature[7] ^= 1;
    forged.signatures[1].key_id = "not a key".to_owned();
    let verdict = policy.judge(&name("acme/m"), Some(&forged), 0);
    assert_eq!(standings(&verdict), [Standing::Wrong, Standing::Unknown]);
    assert!(!verdict.is_met());
    let free = policy.judge(&name("other/m"), Some(&forged), 0);
    assert_eq!((free.word(), free.is_met()), ("wrong", true));
    // A certificate that is noise is as good as none.
    forged.signatures[1].certificate = Some(vec![0xff; 9].into());
    assert!(!policy.judge(&name("acme/m"), Some(&forged), 0).is_met());
}

#[test]
fn policies_without_sense_are_refused() {
    let (alice, stranger) = (daily(1).public_key(), daily(8).public_key());
    for rules in [
        vec![
            rule("acme/*", &[&alice], 1),
            rule("models/acme/*", &[&alice], 1),
        ],
        vec![rule("*", &[], 1)],
        vec![rule("*", &[&alice], 0)],
        vec![rule("*", &[&alice], NEED_MAX + 1)],
        vec![rule("*", &[&stranger], 1)],
    ] {
        let error = Policy::new(rules, BTreeSet::new(), everybody(), Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("the rule for"), "{error}");
    }
}

#[test]
fn every_standing_has_a_word_and_a_sentence() {
    let all = [
        Standing::Trusted,
        Standing::Valid,
        Standing::Unknown,
        Standing::Wrong,
        Standing::Revoked,
        Standing::Expired(1),
        Standing::Early(1),
        Standing::Elsewhere,
    ];
    let words: BTreeSet<&str> = all.iter().map(|s| s.word()).collect();
    let sentences: BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!((words.len(), sentences.len()), (all.len(), all.len()));
}

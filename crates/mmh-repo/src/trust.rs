//! Who may sign what: the reader's policy, and what it makes of the signatures on a snapshot.
//!
//! Rules, keys and revocations are the reader's own. Nothing that a store says about trust counts:
//! it may carry certificates, which count only if a root that the reader named has signed them.
//! Times are compared with the reader's clock at the moment of reading, so that whoever steals a key
//! cannot sign with an earlier date.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mmh_core::name::RepoName;
use mmh_core::object::{Record, RecordSignature};
use mmh_core::{NamePattern, SnapshotId};
use mmh_crypto::sign::{Certificate, KeyId, Objection, PublicKey, verify_record};
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// Most signatures that a rule may ask for.
pub const NEED_MAX: usize = 16;

/// Who may sign the names that a pattern means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which names.
    pub names: NamePattern,
    /// Keys whose signatures count, and roots that say so of other keys.
    pub keys: BTreeSet<KeyId>,
    /// How many different keys must have signed.
    pub need: usize,
}

/// A public key that the reader has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// What the reader calls it.
    pub label: String,
    /// The key.
    pub key: PublicKey,
}

/// Which names must be signed, and by whom. Without rules none must.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    rules: Vec<Rule>,
    revoked: BTreeSet<KeyId>,
    known: BTreeMap<KeyId, KnownKey>,
    certificates: Vec<Certificate>,
}

impl Policy {
    /// Puts a policy together from what the reader has.
    ///
    /// # Errors
    /// Invalid, if two rules are for one pattern, one names no key or asks for no signature or too
    /// many, or names a key that is not among `known`.
    pub fn new(
        rules: Vec<Rule>,
        revoked: BTreeSet<KeyId>,
        known: Vec<KnownKey>,
        certificates: Vec<Certificate>,
    ) -> Result<Self> {
        let known: BTreeMap<KeyId, KnownKey> = known.into_iter().map(|k| (k.key.id(), k)).collect();
        let mut patterns = BTreeSet::new();
        for Rule { names, keys, need } in &rules {
            let bad = |what: String| Err(Error::Invalid(format!("the rule for `{names}` {what}")));
            if !patterns.insert(names) {
                return bad("is there twice".to_owned());
            }
            if keys.is_empty() {
                return bad("names no key".to_owned());
            }
            if !(1..=NEED_MAX).contains(need) {
                return bad(format!("asks for {need} signatures: use 1 to {NEED_MAX}"));
            }
            if let Some(missing) = keys.iter().find(|id| !known.contains_key(id)) {
                return bad(format!(
                    "names key {missing}, which is not here: `mmh key import` its public key"
                ));
            }
        }
        Ok(Self {
            rules,
            revoked,
            known,
            certificates,
        })
    }

    /// The rules, as they were given.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Keys whose signatures count no more, whoever vouches for them.
    #[must_use]
    pub fn revoked(&self) -> &BTreeSet<KeyId> {
        &self.revoked
    }

    /// The rule that decides about a name: of those that fit it the most exact one, alone.
    #[must_use]
    pub fn rule(&self, name: &RepoName) -> Option<&Rule> {
        let fitting = self.rules.iter().filter(|rule| rule.names.matches(name));
        fitting.max_by_key(|rule| rule.names.exactness())
    }

    /// What the reader calls a key, with the beginning of its id.
    #[must_use]
    pub fn call(&self, id: &KeyId) -> String {
        let digits = id.to_string();
        let short = digits.get(..ID_SHOWN).unwrap_or(&digits);
        match self.known.get(id) {
            Some(known) => format!("{} ({short}…)", known.label),
            None => format!("{short}…"),
        }
    }

    /// What the signatures of `record` are worth for `name` at this moment. That the record is
    /// about the snapshot in question is the caller's to know.
    #[must_use]
    pub fn judge(&self, name: &RepoName, record: Option<&Record>, now_ms: u64) -> Verdict {
        let rule = self.rule(name);
        let signatures = record.into_iter().flat_map(|record| {
            let all = record.signatures.iter();
            all.map(move |signature| (record, signature))
        });
        let signers: Vec<Signer> = signatures
            .map(|(record, signature)| {
                let (standing, by) = self.standing((name, rule), (record, signature), now_ms);
                let id = signature.key_id.parse::<KeyId>();
                Signer {
                    key: mmh_core::error::shorten(&signature.key_id),
                    called: id.map_or_else(|_| "no key".to_owned(), |id| self.call(&id)),
                    standing,
                    by: by.map(|root| self.call(&root)),
                }
            })
            .collect();
        let demand = rule.map(|rule| Demand {
            names: rule.names.clone(),
            need: rule.need,
            keys: rule.keys.iter().map(|id| self.call(id)).collect(),
        });
        Verdict { demand, signers }
    }

    /// What one signature is worth, and which root says so.
    fn standing(
        &self,
        (name, rule): (&RepoName, Option<&Rule>),
        (record, signature): (&Record, &RecordSignature),
        now_ms: u64,
    ) -> (Standing, Option<KeyId>) {
        let Ok(id) = signature.key_id.parse::<KeyId>() else {
            return (Standing::Unknown, None);
        };
        let carried = signature.certificate.as_ref();
        let carried = carried.and_then(|bytes| Certificate::from_bytes(bytes).ok());
        let certificates = || {
            let all = self.certificates.iter().chain(&carried);
            all.filter(|certificate| certificate.claims().key.id() == id)
        };
        // A key is what its id says, wherever it was found.
        let known = self.known.get(&id).map(|known| &known.key);
        let Some(key) = known.or_else(|| certificates().map(|c| &c.claims().key).next()) else {
            return (Standing::Unknown, None);
        };
        if verify_record(record, signature, key).is_err() {
            return (Standing::Wrong, None);
        }
        if self.revoked.contains(&id) {
            return (Standing::Revoked, None);
        }
        let Some(rule) = rule else {
            return (Standing::Valid, None);
        };
        if rule.keys.contains(&id) {
            return (Standing::Trusted, None);
        }
        let mut best = (Standing::Valid, None);
        for certificate in certificates() {
            let issuer = certificate.issuer();
            let root = self.known.get(&issuer).map(|known| &known.key);
            let Some(root) = root.filter(|_| rule.keys.contains(&issuer)) else {
                continue;
            };
            let Ok(terms) = certificate.verify(root) else {
                continue;
            };
            let standing = match terms.objection(name, now_ms) {
                _ if self.revoked.contains(&issuer) => Standing::Revoked,
                None => return (Standing::Trusted, Some(issuer)),
                Some(Objection::Early(from)) => Standing::Early(from),
                Some(Objection::Expired(until)) => Standing::Expired(until),
                Some(Objection::Elsewhere) => Standing::Elsewhere,
            };
            best = (standing, Some(issuer));
        }
        best
    }
}

/// Digits of a key's id that are shown to people.
const ID_SHOWN: usize = 16;

/// What a rule demands, as people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Demand {
    /// The rule's pattern.
    pub names: NamePattern,
    /// How many different keys must have signed.
    pub need: usize,
    /// Whose signatures count.
    pub keys: Vec<String>,
}

/// What a signature is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Trusted,
    /// It verifies, by a key that no rule names for this.
    Valid,
    /// Nobody here knows the key.
    Unknown,
    /// It does not verify.
    Wrong,
    /// The key, or the root that vouches for it, was revoked by the reader.
    Revoked,
    /// The certificate held until this moment, in milliseconds since 1970.
    Expired(u64),
    /// The certificate holds from this moment on.
    Early(u64),
    /// The certificate is for other names.
    Elsewhere,
}

impl Standing {
    /// The word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
            Self::Revoked => "revoked",
            Self::Expired(_) => "expired",
            Self::Early(_) => "early",
            Self::Elsewhere => "elsewhere",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trusted => "trusted",
            Self::Valid => "no rule names this key here",
            Self::Unknown => "the key is not known here",
            Self::Wrong => "the signature does not verify",
            Self::Revoked => "the key was revoked",
            Self::Expired(_) => "the certificate has expired",
            Self::Early(_) => "the certificate does not hold yet",
            Self::Elsewhere => "the certificate is for other names",
        })
    }
}

impl Serialize for Standing {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// One signature and what it is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// The key's id, as the signature names it.
    pub key: String,
    /// What the reader calls it.
    pub called: String,
    /// What the signature is worth.
    pub standing: Standing,
    /// The root that vouches for the key, if that counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What a policy makes of the signatures on a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What must be; `None` if nothing must.
    pub demand: Option<Demand>,
    /// Every signature.
    pub signers: Vec<Signer>,
}

impl Verdict {
    /// How many different keys signed whose signatures count.
    #[must_use]
    pub fn counted(&self) -> usize {
        let trusted = self
            .signers
            .iter()
            .filter(|s| s.standing == Standing::Trusted);
        trusted.map(|s| &s.key).collect::<BTreeSet<_>>().len()
    }

    /// Whether what must be is.
    #[must_use]
    pub fn is_met(&self) -> bool {
        let need = self.demand.as_ref().map_or(0, |demand| demand.need);
        self.counted() >= need
    }

    /// One word for programs: `trusted`, `refused`, or where nothing is demanded `signed`,
    /// `unsigned` or `wrong`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        let has = |standing| self.signers.iter().any(|s| s.standing == standing);
        match &self.demand {
            Some(_) if self.is_met() => "trusted",
            Some(_) => "refused",
            None if has(Standing::Wrong) => "wrong",
            None if self.signers.is_empty() => "unsigned",
            None => "signed",
        }
    }

    /// The error of reading what the policy refuses: it says who would have had to sign.
    ///
    /// # Errors
    /// Denied, if what must be is not.
    pub fn enforce(&self, name: &RepoName, snapshot: SnapshotId) -> Result<()> {
        let Some(demand) = self.demand.as_ref().filter(|_| !self.is_met()) else {
            return Ok(());
        };
        let who = demand.keys.join(" or ");
        let who = match demand.need {
            1 => format!("by {who}"),
            need => format!("by {need} keys: {who}"),
        };
        let why: Vec<String> = self
            .signers
            .iter()
            .map(|s| match s.standing {
                Standing::Trusted => format!("signed by {}", s.called),
                standing => format!("signed by {}, but {standing}", s.called),
            })
            .collect();
        let why = match why.as_slice() {
            [] => "it is not signed".to_owned(),
            all => all.join(", "),
        };
        Err(Error::Untrusted {
            name: name.short().to_owned(),
            snapshot,
            who,
            why,
        })
    }
}

#[cfg(test)]
mod tests;

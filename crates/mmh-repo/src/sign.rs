//! Signatures on snapshots: made, found again and held against the reader's policy.
//!
//! All signatures on a snapshot under a name are in one record, which the ref
//! `NAME@signatures/SNAPSHOT` leads to: a snapshot of its own with the record as its one file. So
//! they are found by one look at the refs, and kept, copied, checked and undone like all else.
//! What is signed is the same for everybody and said by name and snapshot alone, so it is
//! written down again for comparison and never parsed. FORMAT.md, "Signatures".

use mmh_core::canonical;
use mmh_core::name::{RefName, RepoName, Target};
use mmh_core::object::{Record, RecordTag, RefChange};
use mmh_core::tree::Node;
use mmh_core::{ByteRange, ErrorKind, SnapshotId, limits};
use mmh_crypto::sign::{Certificate, Signer, sign_record};
use mmh_store::RefsView;
use serde::Serialize;

use crate::edit::{Edit, Edits};
use crate::error::{Error, Result};
use crate::objects;
use crate::repository::Repository;
use crate::trust::Verdict;

/// Media type of what is signed.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What kind of statement it is.
const PREDICATE_TYPE: &str = "https://mmh-rs/snapshot/v1";
/// The one file below a signature's ref.
const RECORD_NAME: &str = "record";
/// How often signing begins again because somebody else signed meanwhile.
const RACES_MAX: usize = 16;

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// The name.
    pub name: String,
    /// The snapshot.
    pub snapshot: String,
    /// The key's id.
    pub key: String,
    /// How many signatures are on the snapshot now.
    pub signatures: usize,
}

/// A branch or tag and what its signatures are worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NameSignatures {
    /// The name with its branch or tag, or as it was asked for.
    pub name: String,
    /// The snapshot.
    pub snapshot: String,
    /// One word: see [`Verdict::word`]; `damaged` if the signatures cannot be read.
    pub status: &'static str,
    /// What the policy makes of the signatures.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Why the signatures cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

impl Repository {
    /// Signs what a target names, beside whoever signed it before; an earlier signature of the same
    /// key is replaced. Whoever signs vouches for all files below.
    ///
    /// # Errors
    /// NotFound; Invalid for a target with a path, or if 64 others signed already; Denied for an
    /// archive or a read key; Conflict if others sign faster; what the signer says.
    pub fn sign(
        &self,
        target: &Target,
        signer: &dyn Signer,
        certificate: Option<&Certificate>,
    ) -> Result<Signed> {
        no_path(target)?;
        let id = self.find(target)?.id;
        let record = self.amend(&target.repo, id, &|record| {
            Ok(sign_record(signer, certificate, record)?)
        })?;
        Ok(Signed {
            name: target.repo.to_string(),
            snapshot: id.to_string(),
            key: signer.public_key().id().to_string(),
            signatures: record.signatures.len(),
        })
    }

    /// All signatures on a snapshot under a name, none of them checked: for carrying them elsewhere.
    ///
    /// # Errors
    /// Corrupt if they cannot be read, or are about something else.
    pub fn signature_record(&self, repo: &RepoName, signed: SnapshotId) -> Result<Option<Record>> {
        let refs = self.refs()?;
        self.record(&refs, repo, signed)
    }

    /// Puts signatures from elsewhere beside those that are here; of one key what is here stays.
    ///
    /// # Errors
    /// Invalid if `theirs` is about something else, or there are more than 64 in all; those of
    /// [`Self::sign`].
    pub fn merge_signatures(
        &self,
        repo: &RepoName,
        signed: SnapshotId,
        theirs: &Record,
    ) -> Result<()> {
        if !is_about(theirs, repo, signed) {
            let what = format!("these signatures are not on snapshot {signed} of `{repo}`");
            return Err(Error::Invalid(what));
        }
        self.amend(repo, signed, &|record| {
            for theirs in &theirs.signatures {
                if record
                    .signatures
                    .iter()
                    .all(|ours| ours.key_id != theirs.key_id)
                {
                    record.signatures.push(theirs.clone());
                }
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Changes the record of a snapshot under a name, again from its beginning if somebody else
    /// was faster. Nothing is written if nothing is changed.
    fn amend(
        &self,
        repo: &RepoName,
        id: SnapshotId,
        change: &dyn Fn(&mut Record) -> Result<()>,
    ) -> Result<Record> {
        for attempt in 0.. {
            let refs = self.refs()?;
            let before = match self.record(&refs, repo, id) {
                // What cannot be read is replaced.
                Err(e) if is_damage(&e) => None,
                read => read?,
            };
            let mut record = before.clone().unwrap_or_else(|| empty_record(repo, id));
            change(&mut record)?;
            if before.as_ref() == Some(&record) {
                return Ok(record);
            }
            match self.put_record(&refs, repo, id, &record) {
                Err(Error::Store(mmh_store::Error::RefConflict { .. })) if attempt < RACES_MAX => {}
                put => return put.map(|()| record),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// Takes all signatures off what a target names.
    ///
    /// # Errors
    /// NotFound if there is none; Invalid for a target with a path.
    pub fn unsign(&self, target: &Target) -> Result<()> {
        no_path(target)?;
        let id = self.find(target)?.id;
        self.remove_ref(RefName::signature(target.repo.clone(), id))
    }

    /// What the reader's policy makes of every branch and tag, or of some targets.
    ///
    /// # Errors
    /// NotFound for an unknown target; Unavailable. Damage is in the report.
    pub fn signatures(&self, targets: &[Target]) -> Result<Vec<NameSignatures>> {
        let refs = self.refs()?;
        if targets.is_empty() {
            let named = refs.refs.iter().filter(|(r, _)| r.is_by_people());
            return named
                .map(|(r, id)| self.signatures_of(&refs, &r.repo, *id, r.to_string()))
                .collect();
        }
        let one = |target: &Target| {
            let id = self.find(target)?.id;
            self.signatures_of(&refs, &target.repo, id, target.to_string())
        };
        targets.iter().map(one).collect()
    }

    fn signatures_of(
        &self,
        refs: &RefsView,
        repo: &RepoName,
        id: SnapshotId,
        name: String,
    ) -> Result<NameSignatures> {
        self.shop.components.cancel.check()?;
        let (record, damage) = match self.record(refs, repo, id) {
            Ok(record) => (record, None),
            Err(e) if is_damage(&e) => (None, Some(e.to_string())),
            Err(e) => return Err(e),
        };
        let verdict = self.judge(repo, record.as_ref());
        let status = match &damage {
            Some(_) if verdict.is_met() => "damaged",
            _ => verdict.word(),
        };
        Ok(NameSignatures {
            name,
            snapshot: id.to_string(),
            status,
            verdict,
            damage,
        })
    }

    /// Refuses a snapshot that is not signed as the reader's policy demands for this name.
    pub(crate) fn vet(&self, refs: &RefsView, repo: &RepoName, id: SnapshotId) -> Result<()> {
        if self.shop.components.trust.rule(repo).is_none() {
            return Ok(());
        }
        let record = self.record(refs, repo, id)?;
        self.judge(repo, record.as_ref()).enforce(repo, id)
    }

    fn judge(&self, repo: &RepoName, record: Option<&Record>) -> Verdict {
        let c = &self.shop.components;
        c.trust.judge(repo, record, c.clock.now_ms())
    }

    /// The signatures on a snapshot under a name, none of them checked; but that they are about
    /// this snapshot and name is.
    fn record(&self, refs: &RefsView, repo: &RepoName, id: SnapshotId) -> Result<Option<Record>> {
        let Some(at) = refs.refs.get(&RefName::signature(repo.clone(), id)) else {
            return Ok(None);
        };
        let damaged = |what: &str| {
            let repo = repo.short();
            Error::Corrupt(format!(
                "the signatures on snapshot {id} of `{repo}` {what}"
            ))
        };
        let tree = objects::snapshot(self.source(), *at)?.tree;
        let Some(Node::File { id: file, size, .. }) =
            objects::find(self.source(), tree, RECORD_NAME)?
        else {
            return Err(damaged("are missing"));
        };
        if size > limits::OBJECT_LEN_MAX as u64 {
            return Err(damaged("are too long"));
        }
        let reader = self.open_file(file)?;
        reader.check_size(size)?;
        let mut bytes = Vec::new();
        self.read_range(&reader, ByteRange::all(size), &mut |piece| {
            bytes.extend_from_slice(&piece);
            Ok(())
        })?;
        let record: Record = canonical::decode(&bytes)?;
        match is_about(&record, repo, id) {
            true => Ok(Some(record)),
            false => Err(damaged("are about something else")),
        }
    }

    fn put_record(
        &self,
        refs: &RefsView,
        repo: &RepoName,
        id: SnapshotId,
        record: &Record,
    ) -> Result<()> {
        let bytes = canonical::encode(record)?;
        let name = RefName::signature(repo.clone(), id);
        let command = format!("sign {} {id}", repo.short());
        self.again_if_collected(|| {
            let writer = self.store()?.writer(self.shop.components.runtime.clone());
            let writer = self.block_on(writer)?;
            let file = self.shop.ingest_bytes(&writer, bytes.clone())?;
            let node = Node::File {
                id: file.id,
                size: file.size,
                executable: false,
            };
            let edits = Edits::from_iter([(RECORD_NAME.into(), Edit::Put(node))]);
            let tree = self.edit_tree(&writer, None, &edits)?;
            let new = self
                .shop
                .write_snapshot(&writer, tree, Vec::new(), (&command, None))?;
            let change = RefChange {
                r#ref: name.clone(),
                old: refs.refs.get(&name).copied(),
                new: Some(new),
            };
            writer.commit(self.commit(vec![change], &command))?;
            writer.finish()?;
            Ok(())
        })
    }
}

/// The record of a snapshot under a name, before anybody signed it.
fn empty_record(repo: &RepoName, id: SnapshotId) -> Record {
    // Names and ids have no character that JSON would write otherwise.
    let payload = format!(
        "{{\"_type\":\"https://in-toto.io/Statement/v1\",\
         \"subject\":[{{\"name\":\"{repo}\",\"digest\":{{\"mmhSnapshot\":\"{}\"}}}}],\
         \"predicateType\":\"{PREDICATE_TYPE}\",\"predicate\":{{\"snapshot\":\"{id}\"}}}}",
        id.digest()
    );
    Record {
        r#type: RecordTag::Tag,
        subject: id.object(),
        payload_type: PAYLOAD_TYPE.to_owned(),
        payload: payload.into_bytes().into(),
        signatures: Vec::new(),
    }
}

/// Whether a record says what it must, to the byte.
fn is_about(record: &Record, repo: &RepoName, id: SnapshotId) -> bool {
    let expected = empty_record(repo, id);
    record.subject == expected.subject
        && record.payload_type == expected.payload_type
        && record.payload == expected.payload
}

fn no_path(target: &Target) -> Result<()> {
    match &target.path {
        None => Ok(()),
        Some(_) => Err(Error::Invalid(format!(
            "a signature is on all of a name, so `{target}` cannot have a path"
        ))),
    }
}

/// Whether it means that what is stored is not right, or not there.
fn is_damage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Invalid
    )
}

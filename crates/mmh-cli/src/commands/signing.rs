//! `key create`, `list`, `export`, `import`, `certify` and `delete`: the keys that sign.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use mmh_core::{ErrorKind, NamePattern};
use mmh_repo::key_folder::{Imported, KeyFolder, KeyInfo, KeyProvider, Protection};
use mmh_repo::keys::{
    AnyPublicKey, Certificate, KeyType, PURPOSE_SNAPSHOT, SecretKey, SystemEntropy, Terms,
};
use serde_json::{Value, json};

use crate::args::Span;
use crate::failure::Failure;
use crate::keys::read_secret;
use crate::output::{DIM, GOOD, ID, plain, styled, time};
use crate::session::Session;

/// Makes a key.
pub(crate) fn create(
    session: &Session,
    name: &str,
    key_type: KeyType,
    plain: bool,
) -> Result<(), Failure> {
    let folder = session.key_folder()?;
    let passphrase = match plain {
        true => None,
        false => Some(session.keyring.new_signing_passphrase()?),
    };
    let key = SecretKey::generate(key_type, &SystemEntropy).map_err(mmh_repo::Error::from)?;
    let info = folder.create(name, &key, passphrase)?;
    session.output.report(&info, |out| {
        writeln!(out, "{} {}", styled(GOOD, "created"), line(&info))
    })
}

/// A key in one line.
fn line(info: &KeyInfo) -> String {
    let secret = match info.secret {
        Some(Protection::Sealed) => "yours, sealed",
        Some(Protection::Plain) => "yours, plain",
        None => "public",
    };
    let (name, id) = (&info.name, styled(ID, &info.id));
    format!(
        "{name:<20} {:<9} {id}  {}",
        info.r#type,
        styled(DIM, secret)
    )
}

/// A certificate as it is shown. Nothing says here that its signature was checked.
fn shown(certificate: &Certificate, keys: &[KeyInfo]) -> Value {
    let terms = certificate.claims();
    let call = |id: String| {
        let known = keys.iter().find(|info| info.id == id);
        known.map_or(id, |info| info.name.clone())
    };
    json!({
        "key": call(terms.key.id().to_string()),
        "root": call(certificate.issuer().to_string()),
        "names": terms.names,
        "purposes": terms.purposes,
        "from_ms": terms.not_before_ms,
        "until_ms": terms.not_after_ms,
    })
}

/// Lists keys and certificates.
pub(crate) fn list(session: &Session) -> Result<(), Failure> {
    let folder = session.key_folder()?;
    let (keys, certificates) = (folder.list()?, folder.certificates()?);
    let certificates: Vec<Value> = certificates.iter().map(|c| shown(c, &keys)).collect();
    let value = json!({ "keys": keys, "certificates": certificates });
    session.output.report(&value, |out| {
        for info in &keys {
            writeln!(out, "{}", line(info))?;
        }
        for certificate in &certificates {
            let text = |field: &str| plain(certificate[field].as_str().unwrap_or_default());
            let names: Vec<&str> = certificate["names"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let until = certificate["until_ms"].as_u64().unwrap_or_default();
            let says = format!("may sign {} until {}", names.join(", "), time(until));
            writeln!(out, "{} says that {} {says}", text("root"), text("key"))?;
        }
        if keys.is_empty() {
            writeln!(out, "no signing keys yet; `mmh key create NAME` makes one")?;
        }
        Ok(())
    })
}

/// Prints a public key, or writes a secret one.
pub(crate) fn export(session: &Session, key: &str, secret: Option<&Path>) -> Result<(), Failure> {
    let folder = session.key_folder()?;
    let info = folder.find(key)?;
    let Some(path) = secret else {
        let public = folder.public(&info.name)?.to_pem();
        let value = json!({ "name": info.name, "id": info.id, "public": public });
        return session.output.report(&value, |out| write!(out, "{public}"));
    };
    write_new(path, &folder.secret_text(&info.name)?)?;
    let value = json!({ "name": info.name, "id": info.id, "file": path.display().to_string() });
    session.output.report(&value, |out| {
        let (name, path) = (&info.name, path.display());
        writeln!(
            out,
            "{} the secret key {name} to {path}",
            styled(GOOD, "wrote")
        )
    })
}

/// Writes a new file that only its owner may read.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|e| {
        let what = format!("cannot write {}: {e}", path.display());
        Failure::Other(ErrorKind::of_io(&e), what)
    })
}

/// Takes over keys and certificates.
pub(crate) fn import(
    session: &Session,
    files: &[std::path::PathBuf],
    name: Option<&str>,
) -> Result<(), Failure> {
    if name.is_some() && files.len() > 1 {
        let what = "one name is not for several files: import them one by one";
        return Err(Failure::invalid(what.to_owned()));
    }
    let folder = session.key_folder()?;
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for file in files {
        let stem = file.file_stem().map(|stem| stem.to_string_lossy());
        let name = name.map(str::to_owned).or_else(|| stem.map(Into::into));
        let text = read_secret(file)?;
        match folder.import(&text, &name.unwrap_or_default())? {
            Imported::Key(info) => {
                lines.push(line(&info));
                values.push(json!({ "key": info }));
            }
            Imported::Certificate(id) => {
                lines.push(format!("a certificate for the key {}", styled(ID, &id)));
                values.push(json!({ "certificate_for": id }));
            }
        }
    }
    session.output.report(&values, |out| {
        lines
            .iter()
            .try_for_each(|line| writeln!(out, "{} {line}", styled(GOOD, "imported")))
    })
}

/// What a root is asked to say.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) names: Vec<NamePattern>,
    pub(crate) valid: Span,
}

/// Certifies a key by a root.
pub(crate) fn certify(
    session: &Session,
    (key, root): (&str, &str),
    offer: Offer,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let folder = session.key_folder()?;
    let (key, root) = (folder.find(key)?, folder.find(root)?);
    let AnyPublicKey::Signing(public) = folder.public(&key.name)? else {
        let what = format!(
            "`{}` signs bundles for stock tools, which know no roots",
            key.name
        );
        return Err(Failure::invalid(what));
    };
    let now_ms = session.now_ms();
    let terms = Terms {
        key: public,
        names: offer.names,
        purposes: vec![PURPOSE_SNAPSHOT.to_owned()],
        not_before_ms: now_ms,
        not_after_ms: now_ms.saturating_add(offer.valid.ms),
    };
    let signer = folder.signer(&root.name)?;
    let issued = Certificate::issue(signer.as_ref(), terms).map_err(mmh_repo::Error::from)?;
    if let Some(path) = output {
        write_new(path, &issued.to_pem())?;
    }
    folder.add_certificate(&issued)?;
    let value = shown(&issued, &[key.clone(), root.clone()]);
    session.output.report(&value, |out| {
        let until = time(issued.claims().not_after_ms);
        writeln!(
            out,
            "{} {} by {} until {until}",
            styled(GOOD, "certified"),
            key.name,
            root.name
        )
    })
}

/// Deletes a key.
pub(crate) fn delete(session: &Session, name: &str) -> Result<(), Failure> {
    session.key_folder()?.delete(name)?;
    session.output.report(&json!({ "deleted": name }), |out| {
        writeln!(out, "{} the key {name}", styled(GOOD, "deleted"))
    })
}

/// The key that signs: the one that was named, else the user's one composite key.
pub(crate) fn chosen(folder: &KeyFolder, named: Option<&str>) -> Result<KeyInfo, Failure> {
    if let Some(named) = named {
        return Ok(folder.find(named)?);
    }
    let own = |info: &KeyInfo| info.secret.is_some() && info.r#type == KeyType::Composite.name();
    let own: Vec<KeyInfo> = folder.list()?.into_iter().filter(own).collect();
    match own.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::invalid(
            "you have no key that signs: `mmh key create NAME` makes one".to_owned(),
        )),
        several => {
            let names: Vec<&str> = several.iter().map(|info| info.name.as_str()).collect();
            let what = format!(
                "which key is to sign? Name one with --key: {}",
                names.join(", ")
            );
            Err(Failure::invalid(what))
        }
    }
}

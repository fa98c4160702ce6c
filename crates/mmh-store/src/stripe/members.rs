//! Which stores a stripe has: made at `init`, found again at opening.
//!
//! A store is known by the random id in its own note, never by its place or the order in which it
//! was given. Places in notes are hints: one store leads to the others. The note of the highest
//! epoch rules; a store that it does not seat was replaced, and is left alone.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use mmh_core::Digest;

use super::note::{Seat, StripeNote, StripeShape, StripeTag};
use super::{Away, Member, Stripe, StripeEngine, shard_path};
use crate::access::Access;
use crate::backend::Backend;
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::names;
use crate::objects::{is_taken, open_sealed, seal};
use crate::staging::{LocalStaging, Staging};

/// Longest note in bytes, its digest included.
const NOTE_LEN_MAX: usize = 65 << 10;

/// A store as somebody named it.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// Where.
    pub place: String,
    /// The store, or why it cannot be used.
    pub backend: std::result::Result<Backend, String>,
}

impl Given {
    /// A store that was opened.
    pub(crate) fn store(backend: Backend) -> Self {
        Self {
            place: backend.name().to_owned(),
            backend: Ok(backend),
        }
    }

    /// A place that should be there.
    pub(crate) fn existing(place: &str, access: &Access) -> Self {
        match Backend::parse_existing(place, access) {
            Ok(backend) => Self::store(backend),
            Err(error) => Self {
                place: place.to_owned(),
                backend: Err(match error {
                    // It needs an empty folder and a repair, not a repository.
                    Error::NotARepository { .. } => "it is not there".to_owned(),
                    error => error.to_string(),
                }),
            },
        }
    }
}

/// What a store turned out to be.
#[derive(Debug)]
enum Look {
    /// Part of a stripe.
    Part(Backend, Box<StripeNote>),
    /// Empty.
    Empty(Backend),
    /// Neither, or it cannot be read.
    Away(Away),
}

/// Writes the notes of a new stripe, and returns the backend that spreads over its stores.
pub(crate) async fn make(
    backend: Backend,
    shape: Option<StripeShape>,
    repository: &Digest,
    entropy: &dyn Entropy,
) -> Result<Backend> {
    let bad = |reason: String| Err(Error::BadStripe { reason });
    if backend.stripe().is_some() {
        return Ok(backend);
    }
    let given = backend.given();
    let shape = match shape {
        None if given.is_empty() => {
            if newest_note(&backend).await?.is_some() {
                let place = backend.name().to_owned();
                return Err(Error::AlreadyARepository { place });
            }
            return Ok(backend);
        }
        None => return bad("several stores make a stripe: say which with --stripe 2+1".to_owned()),
        Some(shape) if given.len() as u64 != u64::from(shape.stores()) => {
            let (n, needed) = (given.len().max(1), shape.stores());
            return bad(format!(
                "a stripe {shape} needs {needed} stores, not {n}: -R A,B,C"
            ));
        }
        Some(shape) => shape,
    };
    let mut stores = Vec::new();
    for one in given {
        match &one.backend {
            Ok(store) => stores.push(store.clone()),
            Err(why) => return bad(format!("{}: {why}", one.place)),
        }
    }
    clear_leftovers(&stores).await?;
    let mut seats = Vec::new();
    for store in &stores {
        seats.push(Seat {
            id: entropy.draw()?,
            place: place_of(store),
            filling: false,
        });
    }
    let note = StripeNote {
        r#type: StripeTag::Tag,
        repository: *repository,
        epoch: 1,
        data: shape.data,
        parity: shape.parity,
        home: 0,
        number: 0,
        stores: seats,
    };
    for (number, store) in stores.iter().enumerate() {
        if write_note(store, &note.of_seat(number)).await? {
            continue;
        }
        for written in &stores[..number] {
            written.delete(&names::stripe(1)).await?;
        }
        return bad(format!("{} was given twice", store.name()));
    }
    let members = stores.into_iter().map(|store| Member {
        place: place_of(&store),
        backend: Ok(store),
        told: true,
    });
    let stripe = Stripe::new(note, members.collect(), Vec::new(), Vec::new());
    Ok(backend_of(&backend, stripe))
}

/// Refuses stores that hold a repository, and removes the notes of an `init` that was broken off.
async fn clear_leftovers(stores: &[Backend]) -> Result<()> {
    let shard = shard_path(names::CONFIG).map(|path| path.to_string());
    for store in stores {
        let own = store.len(names::CONFIG).await?;
        let part = store.len(shard.as_deref().unwrap_or_default()).await?;
        if own.or(part).is_some() {
            let place = store.name().to_owned();
            return Err(Error::AlreadyARepository { place });
        }
    }
    for store in stores {
        for below in [names::STRIPES, names::SHARDS] {
            for (name, _) in store.list(below).await? {
                store.delete(&name).await?;
            }
        }
    }
    Ok(())
}

/// Makes a note; `false` if one of its epoch is there that says something else.
pub(super) async fn write_note(store: &Backend, note: &StripeNote) -> Result<bool> {
    let (bytes, _) = seal(note)?;
    let name = names::stripe(note.epoch);
    match store.create(&name, bytes.clone()).await {
        Ok(()) => Ok(true),
        Err(error) if is_taken(&error) => {
            let there = store.read(&name, NOTE_LEN_MAX).await?;
            Ok(there.as_ref() == Some(&bytes))
        }
        Err(error) => Err(Error::engine(store.place(&name))(error)),
    }
}

/// Where a store is, for notes: absolute, without user and password.
pub(super) fn place_of(store: &Backend) -> String {
    match store.root() {
        Some(root) => root.display().to_string(),
        None => store.name().to_owned(),
    }
}

/// The backend of a stripe, if the given one names stores of one; else as it was.
///
/// # Errors
/// NotFound if several stores were named and none is part of a stripe; Conflict if they are parts
/// of several; Unavailable if too few are there.
pub(crate) async fn attach(backend: Backend) -> Result<Backend> {
    if backend.stripe().is_some() {
        return Ok(backend);
    }
    match find(&backend).await? {
        Some(stripe) if stripe.present().count() < stripe.note.data as usize => {
            Err(too_few(&stripe))
        }
        Some(stripe) => Ok(backend_of(&backend, stripe)),
        None if backend.given().is_empty() => Ok(backend),
        None => Err(Error::NotARepository {
            place: backend.name().to_owned(),
        }),
    }
}

pub(super) fn too_few(stripe: &Stripe) -> Error {
    let there = stripe.present().count();
    let away: Vec<String> = stripe
        .away()
        .into_iter()
        .map(|away| format!("{}: {}", away.place, away.why))
        .collect();
    Error::StripeLost {
        reason: format!(
            "{there} of the {} stores are there, {} are needed to read ({})",
            stripe.n(),
            stripe.note.data,
            away.join("; ")
        ),
    }
}

/// The stripe that the stores of a backend, or the backend as one of them, are part of.
pub(super) async fn find(backend: &Backend) -> Result<Option<Stripe>> {
    let given = match backend.given() {
        [] => vec![Given::store(backend.clone())],
        given => given.to_vec(),
    };
    let mut tried: BTreeSet<String> = BTreeSet::new();
    let mut looks = look_at(&given, &mut tried).await;
    loop {
        let Some(note) = ruling(&looks)? else {
            return Ok(None);
        };
        let is_there = |seat: &Seat| {
            looks
                .iter()
                .any(|look| matches!(look, Look::Part(_, note) if note.own_id() == seat.id))
        };
        let hints = note.stores.iter().filter(|seat| !is_there(seat));
        let hints = hints.filter(|seat| !tried.contains(&seat.place));
        let access = backend.access();
        let hinted: Vec<Given> = hints.map(|s| Given::existing(&s.place, access)).collect();
        if hinted.is_empty() {
            return seat(note, looks).map(Some);
        }
        looks.extend(look_at(&hinted, &mut tried).await);
    }
}

async fn look_at(given: &[Given], tried: &mut BTreeSet<String>) -> Vec<Look> {
    let mut fresh = Vec::new();
    for one in given {
        let place = one.backend.as_ref().map_or(one.place.clone(), place_of);
        tried.insert(one.place.clone());
        tried.insert(place);
        fresh.push(look(one));
    }
    join_all(fresh).await
}

async fn look(given: &Given) -> Look {
    let away = |why: String| {
        let place = given.place.clone();
        Look::Away(Away { place, why })
    };
    let backend = match &given.backend {
        Ok(backend) => backend.clone(),
        Err(why) => return away(why.clone()),
    };
    match newest_note(&backend).await {
        Ok(Some(note)) => Look::Part(backend, Box::new(note)),
        Ok(None) => match backend.list("mmh").await {
            Ok(all) => match all
                .iter()
                .find(|(name, _)| !name.starts_with("mmh/staging/"))
            {
                None => Look::Empty(backend),
                Some(_) => away("it is not part of a stripe and not empty".to_owned()),
            },
            Err(error) => away(error.to_string()),
        },
        Err(error) => away(error.to_string()),
    }
}

/// The note of the highest epoch in a store.
async fn newest_note(store: &Backend) -> Result<Option<StripeNote>> {
    let listed = store.list(names::STRIPES).await?;
    let epochs = listed.iter().filter_map(|(name, _)| names::parse_seq(name));
    let Some(epoch) = epochs.max() else {
        return Ok(None);
    };
    let name = names::stripe(epoch);
    let Some(bytes) = store.read(&name, NOTE_LEN_MAX).await? else {
        return Ok(None);
    };
    let (note, _): (StripeNote, _) = open_sealed(&bytes, &store.place(&name))?;
    if note.epoch != epoch {
        return Err(Error::Corrupt {
            object: store.place(&name),
            reason: "it is the note of another epoch".to_owned(),
        });
    }
    Ok(Some(note))
}

/// The note that rules: of the highest epoch, and if two stores have different ones, as two
/// repairs at once can leave them, the one that more have.
fn ruling(looks: &[Look]) -> Result<Option<StripeNote>> {
    let parts = looks.iter().filter_map(|look| match look {
        Look::Part(backend, note) => Some((backend, note)),
        _ => None,
    });
    let mut best: Vec<(StripeNote, usize)> = Vec::new();
    let mut first: Option<(&Backend, Digest)> = None;
    for (backend, note) in parts {
        let (one, repository) = first.get_or_insert((backend, note.repository));
        if *repository != note.repository {
            let reason = format!(
                "{} and {} are parts of two repositories",
                one.name(),
                backend.name()
            );
            return Err(Error::StripeMixed { reason });
        }
        let note = note.of_seat(0);
        match best.iter_mut().find(|(known, _)| *known == note) {
            Some((_, n)) => *n += 1,
            None => best.push((note, 1)),
        }
    }
    best.sort_by_key(|(note, n)| std::cmp::Reverse((note.epoch, *n)));
    let mut best = best.into_iter();
    match (best.next(), best.next()) {
        (Some((a, n)), Some((b, m))) if a.epoch == b.epoch && n == m => Err(Error::StripeMixed {
            reason: "the stores do not agree about who belongs to the stripe; name more of them"
                .to_owned(),
        }),
        (best, _) => Ok(best.map(|(note, _)| note)),
    }
}

/// Gives every store its seat.
fn seat(note: StripeNote, looks: Vec<Look>) -> Result<Stripe> {
    let mut members: Vec<Option<Member>> = vec![None; note.stores.len()];
    let (mut strangers, mut spares, mut aways) = (Vec::new(), Vec::new(), Vec::new());
    for look in looks {
        match look {
            Look::Empty(backend) => spares.push(backend),
            Look::Away(away) => aways.push(away),
            Look::Part(backend, own) => {
                let place = place_of(&backend);
                let number = own.number as usize;
                let seated = (note.stores.get(number)).is_some_and(|seat| seat.id == own.own_id());
                if !seated {
                    let why = "it was replaced by another store".to_owned();
                    strangers.push(Away { place, why });
                    continue;
                }
                if let Some(other) = &members[number] {
                    let reason = format!(
                        "{} and {place} are the same store, or one is a copy of the other",
                        other.place
                    );
                    return Err(Error::BadStripe { reason });
                }
                let (backend, told) = (Ok(backend), own.of_seat(0) == note);
                members[number] = Some(Member {
                    place,
                    backend,
                    told,
                });
            }
        }
    }
    let lost = |(seat, member): (&Seat, Option<Member>)| {
        member.unwrap_or_else(|| {
            let place = seat.place.clone();
            let at = aways.iter().position(|away| away.place == place);
            let empty = spares.iter().any(|spare| place_of(spare) == place);
            let why = match at {
                Some(at) => aways.swap_remove(at).why,
                None if empty => "it is empty".to_owned(),
                None => "no store that was named is this one".to_owned(),
            };
            Member {
                place,
                backend: Err(why),
                told: false,
            }
        })
    };
    let members = note.stores.iter().zip(members).map(lost).collect();
    strangers.extend(aways);
    Ok(Stripe::new(note, members, strangers, spares))
}

/// The backend that spreads over a stripe. Packs grow in its first folder, else where that store
/// keeps what is staged on this machine.
fn backend_of(named: &Backend, stripe: Stripe) -> Backend {
    let there = || {
        stripe
            .members
            .iter()
            .filter_map(|m| m.backend.as_ref().ok())
    };
    let local = there().find_map(|backend| backend.root().map(staging_in));
    let first = there().next().map(|backend| Arc::clone(backend.staging()));
    let staging = local
        .or(first)
        .unwrap_or_else(|| Arc::clone(named.staging()));
    let places: Vec<&str> = stripe.members.iter().map(|m| m.place.as_str()).collect();
    let name = places.join(",");
    let elsewhere = there().any(Backend::is_elsewhere);
    let cache = there().find_map(Backend::shared_cache);
    let engine = Arc::new(StripeEngine(Some(Arc::new(stripe))));
    named.spread_over(&name, engine, staging, (elsewhere, cache))
}

fn staging_in(root: &Path) -> Arc<dyn Staging> {
    Arc::new(LocalStaging::in_folder(&root.join("mmh").join("staging")))
}

//! `scrub` and `repair`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use mmh_core::{Digest, PackId};
use mmh_repo::{Away, Healed, HealedShard, Replaced, ScrubOptions, ShardReport};
use serde_json::{Value, json};

use crate::config::{Process, cache_folder};
use crate::failure::Failure;
use crate::output::{BAD, DIM, GOOD, count, plain, size, styled, verb};
use crate::session::Session;

/// Reads every pack and heals what has rotted.
pub(crate) fn scrub(session: &Session, rate: Option<u64>, resume: bool) -> Result<(), Failure> {
    let repo = session.open()?;
    let id = repo.store()?.config().repository;
    let bookmark = cache_folder(&Process).map(|folder| Bookmark::of(&folder, &id));
    let after = bookmark
        .as_ref()
        .filter(|_| resume)
        .and_then(Bookmark::read);
    let options = ScrubOptions { rate, after };
    // A bookmark that cannot be kept costs reading again, no more.
    let unkept = Mutex::new(None);
    let done = |pack: PackId| {
        let kept = bookmark.as_ref().map_or(Ok(()), |mark| mark.write(&pack));
        if let (Err(error), Ok(mut unkept)) = (kept, unkept.lock()) {
            unkept.get_or_insert(error);
        }
    };
    let report = repo.scrub(options, &done)?;
    if let Some(bookmark) = &bookmark {
        bookmark.remove();
    }
    let damage: Vec<String> = report
        .damage
        .iter()
        .map(|damage| format!("{}: {}", damage.object, damage.reason))
        .collect();
    let value = json!({
        "packs": report.packs, "bytes": report.bytes, "resumed": after.is_some(),
        "without_parity": report.without_parity, "healed": healed(&report.healed),
        "damaged_packs": ids(&report.damaged_packs), "damage": damage,
        "shards": shards(&report.shards),
    });
    session.output.report(&value, |out| {
        let read = format!("{} in {}", size(report.bytes), count(report.packs, "pack"));
        writeln!(out, "{} {read}", styled(GOOD, "read"))?;
        print_healed(out, &report.healed)?;
        print_shards(out, &report.shards)?;
        for pack in &report.damaged_packs {
            writeln!(out, "{} pack {}", styled(BAD, "damaged"), pack.digest())?;
        }
        for damage in &damage {
            writeln!(out, "{} {}", styled(BAD, "damaged"), plain(damage))?;
        }
        if report.without_parity > 0 {
            let n = report.without_parity;
            let what = format!("{} {} no parity", count(n, "pack"), verb(n, "has", "have"));
            writeln!(out, "{}", styled(DIM, what))?;
        }
        if let Ok(Some(error)) = unkept.lock().as_deref() {
            let what = format!("cannot remember how far it came: {error}");
            writeln!(out, "{}", styled(DIM, plain(&what)))?;
        }
        if !report.is_clean() {
            writeln!(
                out,
                "{}",
                styled(DIM, "`mmh repair` mends what can be mended")
            )?;
        }
        Ok(())
    })?;
    if report.is_clean() {
        return Ok(());
    }
    let shards = &report.shards;
    let n = (report.damaged_packs.len() + report.damage.len() + shards.beyond.len()) as u64;
    let unseen = session.output.quiet && !session.output.json;
    let (objects, are) = (count(n, "object"), verb(n, "is", "are"));
    let what = match n {
        0 => "stores are missing, or something could not be written".to_owned(),
        _ => format!("{objects} {are} damaged still; `mmh repair` mends what it can"),
    };
    Err(Failure::Damaged(unseen.then_some(what)))
}

/// Mends what can be mended and says what is lost.
pub(crate) fn repair(session: &Session, from: &[String]) -> Result<(), Failure> {
    let (replaced, filled) = session.replace_lost()?;
    let repo = session.open()?;
    let sources = from.iter().map(|place| session.open_other(place));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let done = repo.repair(&sources)?;
    let (store, check) = (&done.store, &done.check);
    let lost: Vec<String> = store.lost_chunks.iter().map(ToString::to_string).collect();
    let value = json!({
        "packs": store.packs, "healed": healed(&store.healed),
        "set_aside": ids(&store.set_aside), "missing_packs": ids(&store.missing_packs),
        "kept_chunks": store.kept_chunks, "fetched_chunks": store.fetched_chunks,
        "lost_chunks": lost, "index_rebuilt": store.index_rebuilt, "findings": check.findings,
        "replaced": replaced.iter().map(|r| json!({ "lost": r.lost, "place": r.place }))
            .collect::<Vec<_>>(),
        "filled_shards": filled.healed.len(), "shards": shards(&store.shards),
    });
    session.output.report(&value, |out| {
        for Replaced { lost, place } in &replaced {
            let what = format!("{} takes the place of {}", plain(place), plain(lost));
            writeln!(out, "{} {what}", styled(GOOD, "replaced"))?;
        }
        if !filled.healed.is_empty() {
            let shards = count(filled.healed.len() as u64, "shard");
            let made = styled(GOOD, "made");
            writeln!(out, "{made} {shards} from the other stores")?;
        }
        writeln!(
            out,
            "{} {}",
            styled(GOOD, "read"),
            count(store.packs, "pack")
        )?;
        print_healed(out, &store.healed)?;
        print_shards(out, &store.shards)?;
        for pack in &store.set_aside {
            let what = format!("pack {} could not be healed", pack.digest());
            writeln!(out, "{} {what}", styled(BAD, "set aside"))?;
        }
        for pack in &store.missing_packs {
            writeln!(out, "{} pack {}", styled(BAD, "missing"), pack.digest())?;
        }
        let (kept, fetched) = (store.kept_chunks, store.fetched_chunks);
        if kept + fetched > 0 || !lost.is_empty() {
            let n = lost.len();
            let kept = count(kept, "chunk");
            let what = format!("{kept} kept, {fetched} fetched, {n} lost");
            writeln!(out, "{} {what}", styled(GOOD, "saved"))?;
        }
        if store.index_rebuilt {
            writeln!(out, "{} from the packs", styled(GOOD, "index made anew"))?;
        }
        for finding in &check.findings {
            let (target, problem) = (plain(&finding.target), plain(&finding.problem));
            let place = if target.is_empty() { "store" } else { &target };
            writeln!(out, "{} {place}: {problem}", styled(BAD, "hit still"))?;
        }
        if check.is_clean() && store.shards.is_clean() {
            return writeln!(out, "{}", styled(GOOD, "all right"));
        }
        if check.is_clean() {
            let advice =
                "put an empty store in the place of each that is missing, and repair again";
            return writeln!(out, "{}", styled(DIM, advice));
        }
        let advice = "add these files again, or repair `--from` a store that has them";
        writeln!(out, "{}", styled(DIM, advice))
    })?;
    if check.is_clean() && store.shards.is_clean() {
        return Ok(());
    }
    let n = check.findings.len() + store.shards.beyond.len() + store.shards.away.len();
    let (places, are) = (count(n as u64, "place"), verb(n as u64, "is", "are"));
    let unseen = session.output.quiet && !session.output.json;
    Err(Failure::Damaged(
        unseen.then(|| format!("{places} {are} hit still")),
    ))
}

fn ids(packs: &[PackId]) -> Vec<String> {
    packs.iter().map(|pack| pack.digest().to_string()).collect()
}

fn healed(all: &[Healed]) -> Vec<Value> {
    let value = |h: &Healed| {
        json!({
            "pack": h.pack.digest().to_string(), "blocks": h.blocks + h.parity_blocks,
            "block_len": h.block_len, "unwritten": h.unwritten,
        })
    };
    all.iter().map(value).collect()
}

fn print_healed(out: &mut dyn std::io::Write, all: &[Healed]) -> std::io::Result<()> {
    for h in all {
        let (pack, n, len) = (h.pack.digest(), h.blocks + h.parity_blocks, h.block_len);
        let blocks = count(n, "damaged block");
        let what = format!("pack {pack}: {blocks} of {len} bytes");
        match &h.unwritten {
            None => writeln!(out, "{} {what}", styled(GOOD, "healed"))?,
            Some(why) => writeln!(out, "{} {what}: {}", styled(BAD, "not written"), plain(why))?,
        }
    }
    Ok(())
}

fn shards(report: &ShardReport) -> Value {
    let healed =
        |h: &HealedShard| json!({ "object": h.object, "store": h.store, "unwritten": h.unwritten });
    let away = |a: &Away| json!({ "store": a.place, "why": a.why });
    json!({
        "objects": report.objects, "bytes": report.bytes, "beyond": report.beyond,
        "healed": report.healed.iter().map(healed).collect::<Vec<_>>(),
        "away": report.away.iter().map(away).collect::<Vec<_>>(),
    })
}

fn print_shards(out: &mut dyn std::io::Write, report: &ShardReport) -> std::io::Result<()> {
    if report.objects > 0 {
        let what = format!(
            "shards of {} objects, {}",
            report.objects,
            size(report.bytes)
        );
        writeln!(out, "{} {what}", styled(GOOD, "read"))?;
    }
    for h in &report.healed {
        let what = format!("{} on {}", h.object, plain(&h.store));
        match &h.unwritten {
            None => writeln!(out, "{} {what}", styled(GOOD, "made again"))?,
            Some(why) => writeln!(out, "{} {what}: {}", styled(BAD, "not written"), plain(why))?,
        }
    }
    for object in &report.beyond {
        let what = format!("too little is left of {object}");
        writeln!(out, "{} {what}", styled(BAD, "damaged"))?;
    }
    for Away { place, why } in &report.away {
        let what = format!("store {}: {}", plain(place), plain(why));
        writeln!(out, "{} {what}", styled(BAD, "without"))?;
    }
    Ok(())
}

/// How far a scrub has come: the id of the last pack, in a file that may be lost.
struct Bookmark(PathBuf);

impl Bookmark {
    fn of(cache: &Path, repository: &Digest) -> Self {
        Self(cache.join(format!("scrub-{repository}")))
    }

    /// The pack, if there is one and the file is what was written.
    fn read(&self) -> Option<PackId> {
        let text = fs::read_to_string(&self.0).ok()?;
        let digits = text.trim_end().as_bytes();
        let digit = |b: u8| {
            char::from(b)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(PackId::from_digest(Digest::from_bytes(bytes)))
    }

    fn write(&self, pack: &PackId) -> std::io::Result<()> {
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.0, format!("{}\n", pack.digest()))
    }

    fn remove(&self) {
        // A scrub that ended needs none; one that is left behind only makes a later one shorter.
        fs::remove_file(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_is_read_back_and_nonsense_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Bookmark::of(&dir.path().join("made"), &Digest::of(b"repository"));
        assert_eq!(mark.read(), None);
        let pack = PackId::of(b"pack");
        mark.write(&pack).unwrap();
        assert_eq!(mark.read(), Some(pack));
        for text in ["", "zz", &"g".repeat(64), &"a".repeat(66)] {
            fs::write(&mark.0, text).unwrap();
            assert_eq!(mark.read(), None, "{text}");
        }
        mark.remove();
        mark.remove();
        assert_eq!(mark.read(), None);
    }
}

//! What simulated processes do, and what an inspector finds.

use mmh_core::object::{Operation, RefChange};
use mmh_core::ports::{Cancel, Silent};
use mmh_core::{ChunkId, ErrorKind, SnapshotId};

use super::audit::Verdict;
use super::random::Random;
use super::weather::Kind;
use super::workload::{self, BRANCHES, universe};
use super::world::{Process, State, World};
use crate::block_on::block_on;
use crate::chunk::{ChunkSink, ChunkSource};
use crate::conformance::{change, commit};
use crate::error::{Error, Result};
use crate::gc::{GRACE_MS, GcOptions, GcRoots, Marks, UNDO_MS};
use crate::log::Commit;
use crate::rebuild::RebuildOptions;
use crate::store::{OpenOptions, Store};
use crate::verify::VerifyOptions;
use crate::writer::Writer;

/// Commits are tried again so often after a lost race.
const RACES_MAX: usize = 4;

/// When the mover of a story begins, in milliseconds; the collector comes after it.
const MOVER_WAITS_MS: u64 = 60 * 60 * 1000;

/// The program of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Writer,
    Reader,
    Recoverer,
    Rebuilder,
    Verifier,
    /// Collects garbage.
    Collector,
    /// Moves a branch to and fro, many times.
    Mover,
}

impl Role {
    /// Two to five processes, of which one at least writes.
    pub(super) fn draw(rng: &mut Random) -> Vec<Self> {
        use Role::{Collector, Reader, Rebuilder, Recoverer, Verifier, Writer};
        let all = [
            Writer, Writer, Writer, Reader, Reader, Recoverer, Rebuilder, Verifier, Collector,
            Collector,
        ];
        let mut roles = vec![Writer];
        for _ in 0..=rng.below(4) {
            roles.push(*rng.pick(&all));
        }
        roles
    }

    pub(super) fn run(self, process: &Process) {
        let rounds = process.look(|state| 1 + state.rng().below(3));
        let mut store = None;
        for _ in 0..rounds {
            process.sleep(process.look(|state| 1 + state.rng().below(3_000)));
            let done = self.round(process, &mut store);
            if let Err(error) = done {
                judge_error(process, self, &error);
                // Some go on with the store that they have, others begin anew.
                if process.look(|state| state.rng().one_in(2)) {
                    store = None;
                }
            }
        }
    }

    fn round(self, process: &Process, store: &mut Option<Store>) -> Result<()> {
        let store = match store {
            Some(store) => store,
            None => store.insert(open(process)?),
        };
        match self {
            Self::Writer if process.look(|state| state.rng().one_in(8)) => undo(process, store),
            Self::Writer => transaction(process, store),
            Self::Reader => read(process, store),
            Self::Recoverer => block_on(&process.handle(), store.recover()).map(drop),
            Self::Rebuilder => {
                let options = RebuildOptions::default();
                let (silent, cancel) = (Silent, Cancel::default());
                let job = store.rebuild_index(options, &silent, &cancel);
                block_on(&process.handle(), job).map(drop)
            }
            Self::Verifier => verify(process, store),
            Self::Collector => collect(process, store),
            Self::Mover => move_to_and_fro(process, store),
        }
    }
}

fn open(process: &Process) -> Result<Store> {
    let job = Store::open(process.backend(), process.components());
    block_on(&process.handle(), job)
}

/// An error that says of a sound repository that it is damaged, or that something is missing, is
/// a broken promise, unless something rotted or a list lied.
fn judge_error(process: &Process, role: Role, error: &Error) {
    let excused = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict);
    process.alive(|state| {
        let (weather, rotten) = (*state.weather(), !state.audit().rotten.is_empty());
        // Without a lease that holds, what is being read may be collected.
        let late = state.has_collector() && role != Role::Writer;
        if !excused && !rotten && !weather.lists_lie && !late {
            state.judge(Err(format!("{role:?} {process} was told: {error}")));
        }
    });
}

/// Stores a few chunks and a snapshot of them, and moves branches to it.
fn transaction(process: &Process, store: &Store) -> Result<()> {
    let handle = process.handle();
    let writer = block_on(&handle, store.writer(handle.clone()))?;
    let mut chunks = Vec::new();
    let n = process.look(|state| state.rng().below(7));
    for _ in 0..n {
        let (item, asks, flushes) = process.look(|state| {
            let rng = state.rng();
            (rng.pick(universe()), rng.one_in(2), rng.one_in(6))
        });
        if !(asks && writer.contains(&item.id)?) {
            item.put(&writer)?;
        }
        chunks.push(item.id);
        if flushes {
            writer.flush()?;
            promise(process, &chunks);
        }
    }
    let nonce = process.look(|state| state.rng().digest());
    let (id, root) = workload::snapshot(nonce, &chunks);
    chunks.push(root.id);
    process.alive(|state| state.audit().snapshot(id, chunks.clone()));
    root.put(&writer)?;
    writer.flush()?;
    promise(process, &chunks);
    move_branches(process, store, &writer, id)
}

/// Takes one of the last transactions back.
fn undo(process: &Process, store: &Store) -> Result<()> {
    let handle = process.handle();
    let view = block_on(&handle, store.refs())?;
    let mut last = block_on(&handle, store.operations(None, 3))?;
    let floors = last.iter().filter_map(|entry| entry.collected.as_ref());
    let floor = floors.map(|collected| collected.floor).max();
    last.retain(|entry| Some(entry.seq) >= floor && entry.collected.is_none());
    if last.is_empty() {
        return Ok(());
    }
    let undone = process.look(|state| state.rng().pick(&last).clone());
    let back = |taken: &RefChange| RefChange {
        old: view.refs.get(&taken.r#ref).copied(),
        new: taken.old,
        r#ref: taken.r#ref.clone(),
    };
    let commit = Commit {
        undoes: Some(undone.seq),
        since: Some(view.seq),
        ..commit(undone.changes.iter().map(back).collect())
    };
    let entry = block_on(&handle, store.commit(commit))?;
    acknowledge(process, &entry);
    Ok(())
}

fn acknowledge(process: &Process, entry: &Operation) {
    process.alive(|state| {
        let verdict = state.audit().acknowledge(entry);
        state.judge(verdict);
    });
}

fn promise(process: &Process, chunks: &[ChunkId]) {
    process.alive(|state| {
        let verdict = state.audit().promise(chunks);
        state.judge(verdict);
    });
}

/// Moves one or two branches to a snapshot, or deletes one of them.
fn move_branches(process: &Process, store: &Store, writer: &Writer, id: SnapshotId) -> Result<()> {
    let (first, two, deletes) = process.look(|state| {
        let rng = state.rng();
        (rng.index(BRANCHES.len()), rng.one_in(4), rng.one_in(10))
    });
    let mut lost = None;
    for _ in 0..RACES_MAX {
        let view = block_on(&process.handle(), store.refs())?;
        let to = |at: usize| {
            let new = if deletes && at != first {
                None
            } else {
                Some(id)
            };
            let unborn = change(BRANCHES[at % BRANCHES.len()], None, new);
            let old = view.refs.get(&unborn.r#ref).copied();
            RefChange { old, ..unborn }
        };
        let mut changes = vec![to(first)];
        if two {
            changes.push(to(first + 1));
        }
        changes.retain(|change| change.old.is_some() || change.new.is_some());
        match writer.commit(commit(changes)) {
            Ok(entry) => {
                acknowledge(process, &entry);
                return Ok(());
            }
            Err(error @ Error::RefConflict { .. }) => lost = Some(error),
            Err(error) => return Err(error),
        }
    }
    lost.map_or(Ok(()), Err)
}

/// Moves a branch to and fro so often that a checkpoint is passed.
fn move_to_and_fro(process: &Process, store: &Store) -> Result<()> {
    process.sleep(MOVER_WAITS_MS);
    for _ in 0..140 {
        let view = block_on(&process.handle(), store.refs())?;
        let Some((name, id)) = view.refs.first_key_value() else {
            return Ok(());
        };
        let same = RefChange {
            r#ref: name.clone(),
            old: Some(*id),
            new: Some(*id),
        };
        let commit = Commit {
            since: Some(view.seq),
            ..commit(vec![same])
        };
        acknowledge(process, &block_on(&process.handle(), store.commit(commit))?);
    }
    Ok(())
}

/// Collects garbage, with much patience or with none.
fn collect(process: &Process, store: &Store) -> Result<()> {
    let in_story = process.look(|state| state.is_story());
    if in_story {
        process.sleep(2 * MOVER_WAITS_MS);
    }
    let options = process.look(|state| {
        let rng = state.rng();
        GcOptions {
            grace_ms: if in_story {
                0
            } else {
                *rng.pick(&[0, 0, 1_000, GRACE_MS])
            },
            undo_ms: if in_story {
                0
            } else {
                *rng.pick(&[0, 0, 10_000, UNDO_MS])
            },
            ..GcOptions::default()
        }
    });
    let handle = process.handle();
    let reader = store.reader(handle.clone());
    let mut mark = |roots: &GcRoots, marks: &mut Marks| {
        let replaced = roots.window.iter().flat_map(|entry| &entry.changes);
        let replaced = replaced.filter_map(|change| change.old);
        for id in replaced.chain(roots.view.refs.values().copied()) {
            let root = ChunkId::from_digest(*id.digest());
            if marks.insert(root) {
                workload::listed(&reader.get(&root)?)
                    .into_iter()
                    .for_each(|chunk| {
                        marks.insert(chunk);
                    });
            }
        }
        Result::Ok(())
    };
    let (silent, cancel) = (Silent, Cancel::default());
    let job = store.gc(handle.clone(), &options, &mut mark, (&silent, &cancel));
    block_on(&handle, job).map(drop)
}

/// Reads everything that the refs name.
fn read(process: &Process, store: &Store) -> Result<()> {
    let handle = process.handle();
    let view = block_on(&handle, store.refs())?;
    let reader = store.reader(handle);
    for id in view.refs.values() {
        let root = reader.get(&ChunkId::from_digest(*id.digest()))?;
        for chunk in workload::listed(&root) {
            let _whole = reader.get(&chunk)?;
        }
    }
    Ok(())
}

/// Checks the whole store, which is sound.
fn verify(process: &Process, store: &Store) -> Result<()> {
    let options = VerifyOptions {
        parallel: 1,
        ..VerifyOptions::default()
    };
    let (silent, cancel) = (Silent, Cancel::default());
    let report = block_on(&process.handle(), store.verify(options, &silent, &cancel))?;
    process.alive(|state| {
        let (weather, rotten) = (*state.weather(), !state.audit().rotten.is_empty());
        // A writer that stalled may have named a pack in the index after it was collected.
        let collected = &state.audit().collected;
        let missing = report
            .missing_packs
            .iter()
            .find(|pack| !collected.contains(pack))
            .copied();
        let broken = missing.is_some() || !report.damage.is_empty();
        if broken && !rotten && !weather.lists_lie {
            let damage = &report.damage;
            state.judge(Err(format!(
                "{process} found damage: {damage:?} {missing:?}"
            )));
        }
    });
    Ok(())
}

/// Opens the repository from outside, at any moment, and compares it with the account.
pub(super) fn inspect(state: &mut State) -> Verdict {
    let handle = state.handle();
    let options = OpenOptions::default();
    let opened = block_on(&handle, Store::open(state.disk().raw().clone(), options));
    let store = opened.map_err(|e| format!("it does not open: {e}"))?;
    let view = block_on(&handle, store.refs());
    let view = view.map_err(|e| format!("its refs cannot be read: {e}"))?;
    if *view != *state.audit().view() {
        return Err(format!(
            "its refs are {view:?}, not {:?}",
            state.audit().view()
        ));
    }
    let reader = store.reader(handle);
    let audit = state.audit();
    for chunk in audit.live() {
        if let Err(error) = reader.get(chunk)
            && !audit.hurt.contains(chunk)
        {
            return Err(format!(
                "{} cannot be read: {error}",
                workload::describe(chunk)
            ));
        }
    }
    Ok(())
}

/// What happens at the end: on each machine one more writer, without faults, takes over what is
/// left; then everything is there, whole and indexed.
pub(super) fn settle(world: &World) {
    if world.is_broken() {
        return;
    }
    let settled = (0..world.n_machines()).try_for_each(|machine| last_writer(&world.calm(machine)));
    let mut state = world.lock();
    if let Err(error) = settled {
        state.judge(Err(format!("the last writer was told: {error}")));
    }
    drop(state);
    let staged = world.staged_files();
    let mut state = world.lock();
    // A merge of runs of which one rotted is given up, and what it began is left to the next.
    if staged > 0 && state.audit().rotten.is_empty() {
        state.judge(Err(format!("{staged} staged files are left")));
    }
    let verdict = inspect(&mut state).and_then(|()| check(&mut state));
    state.judge(verdict);
}

fn last_writer(process: &Process) -> Result<()> {
    let store = open(process)?;
    let handle = process.handle();
    let writer = block_on(&handle, store.writer(handle.clone()))?;
    writer.finish()?;
    process.step(Kind::Sleep, "settled", "", |_, _| ());
    Ok(())
}

/// The store's own check, from outside, finds what rotted and nothing else.
fn check(state: &mut State) -> Verdict {
    let handle = state.handle();
    let fails = |e: Error| format!("the last check fails: {e}");
    let job = Store::open(state.disk().raw().clone(), OpenOptions::default());
    let store = block_on(&handle, job).map_err(fails)?;
    let (silent, cancel) = (Silent, Cancel::default());
    let options = VerifyOptions {
        parallel: 1,
        ..VerifyOptions::default()
    };
    let report = block_on(&handle, store.verify(options, &silent, &cancel)).map_err(fails)?;
    let rotten = &state.audit().rotten;
    let sound = report.damage.iter().find(|at| !rotten.contains(&at.object));
    if let Some(damage) = sound.filter(|_| rotten.is_empty()) {
        return Err(format!("the last check finds {damage:?}"));
    }
    let mut missing = report.missing_packs.clone();
    let audit = state.audit();
    missing.retain(|pack| !audit.collected.contains(pack));
    let rotten = &audit.rotten;
    if !missing.is_empty() || (rotten.is_empty() && !report.unindexed_packs.is_empty()) {
        let unindexed = &report.unindexed_packs;
        return Err(format!(
            "missing packs {missing:?}, not indexed {unindexed:?}"
        ));
    }
    Ok(())
}

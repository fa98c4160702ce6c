//! Many threads at once on a real folder: writers move branches, collectors collect.

use std::sync::atomic::AtomicBool;
use std::thread;

use mmh_store::VerifyOptions;

use super::*;
use crate::common::runtime;

/// Writers, and how often each moves its branch.
const WRITERS: u64 = 8;
const MOVES: u64 = 6;

/// One writer's life: every book shares chunks with those of others and with its own last one.
fn write(store: &Store, writer_no: u64, handle: &Handle) {
    let name = format!("w{writer_no}");
    let mut old = None;
    for step in 0..MOVES {
        let seeds: Vec<u64> = (0..12)
            .map(|n| (step * 5 + n) % 40 + writer_no % 3 * 20)
            .collect();
        loop {
            let writer = handle.block_on(store.writer(handle.clone())).unwrap();
            let id = write_book(&writer, &seeds).unwrap();
            let moved = commit(vec![change(&name, old, Some(id))]);
            match writer.commit(moved) {
                Ok(_) => old = Some(id),
                Err(Error::Collected { .. }) => continue,
                Err(error) => panic!("{name}: {error}"),
            }
            break;
        }
    }
}

/// Collections with no grace and with clocks that run ahead, so that leases protect nobody and
/// only the log does.
fn collect(backend: Backend, handle: &Handle, stop: &AtomicBool) -> u64 {
    let clock = Turned::new();
    let options = OpenOptions {
        clock: Arc::new(clock.clone()),
        ..OpenOptions::default()
    };
    let store = handle.block_on(Store::open(backend, options)).unwrap();
    clock.turn(u64::from(u32::MAX) * 1000);
    let mut deleted = 0;
    while !stop.load(Ordering::SeqCst) {
        clock.turn_beyond_leases();
        match handle.block_on(gc(&store, &at_once())) {
            Ok(report) => deleted += report.deleted_packs,
            Err(error) if error.kind() == mmh_core::ErrorKind::Conflict => {}
            Err(error) => panic!("{error}"),
        }
    }
    deleted
}

#[test]
fn eight_writers_beside_two_collectors_lose_nothing() {
    let runtime = runtime();
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::local(dir.path()).unwrap();
    runtime.block_on(small_store(backend.clone()));
    let stop = AtomicBool::new(false);
    let deleted: u64 = thread::scope(|scope| {
        let collectors: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| collect(backend.clone(), runtime.handle(), &stop)))
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|no| {
                let open = Store::open(backend.clone(), OpenOptions::default());
                let store = runtime.block_on(open).unwrap();
                let handle = runtime.handle();
                scope.spawn(move || write(&store, no, handle))
            })
            .collect();
        let ended: Vec<_> = writers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        stop.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(std::result::Result::is_ok));
        collectors.into_iter().map(|c| c.join().unwrap()).sum()
    });
    assert!(deleted > 0, "the collectors had nothing to do");
    let store = runtime
        .block_on(Store::open(backend, OpenOptions::default()))
        .unwrap();
    let view = runtime.block_on(store.refs()).unwrap();
    assert_eq!(view.refs.len() as u64, WRITERS);
    let reader = store.reader(runtime.handle().clone());
    for (name, id) in &view.refs {
        for chunk in chapters(&reader, *id).unwrap() {
            let got = reader.get(&chunk);
            assert!(got.is_ok(), "{name}: {}", got.unwrap_err());
        }
    }
    let cancel = Cancel::default();
    let check = store.verify(VerifyOptions::default(), &Silent, &cancel);
    let report = runtime.block_on(check).unwrap();
    assert!(report.damage.is_empty(), "{report:?}");
}

//! The view by handles: they say the way, and never lead to anything else.

use mmh_mount::{Errno, HANDLE_LEN_MAX, Handles, Seat, Shown, View, ViewOptions};

use crate::scratch::Scratch;

fn walk(handles: &Handles, path: &str) -> Seat {
    let steps = path.split('/').filter(|name| !name.is_empty());
    steps.fold(handles.root(), |at, name| handles.step(&at, name).unwrap())
}

fn read(handles: &Handles, seat: &Seat) -> Vec<u8> {
    handles.read(seat, 0, 100).unwrap().to_vec()
}

/// Further down than a handle has room for.
fn deep() -> String {
    vec!["d"; 40].join("/")
}

fn sample() -> Scratch {
    let scratch = Scratch::new();
    let below = format!("{}/file", deep());
    scratch.add(
        &[("a", b"1".to_vec()), (&below, b"deep".to_vec())],
        "acme/m",
    );
    scratch
}

#[test]
fn handles_are_the_same_for_all_who_look() {
    let scratch = sample();
    let one = Handles::new(scratch.view(None, None));
    let two = Handles::new(scratch.view(None, None));
    for path in [
        "",
        "models",
        "models/acme",
        "models/acme/m",
        "models/acme/m/a",
    ] {
        let seat = walk(&one, path);
        let handle = one.handle(&seat);
        assert!(handle.len() <= HANDLE_LEN_MAX);
        let again = two.seat(&handle).unwrap();
        assert_eq!(again.attr(), seat.attr(), "{path}");
        assert_eq!(two.handle(&again), handle, "{path}");
    }
    let file = one.handle(&walk(&one, "models/acme/m/a"));
    assert_eq!(read(&two, &two.seat(&file).unwrap()), b"1");
}

#[test]
fn a_way_too_deep_is_known_while_the_process_lives() {
    let scratch = sample();
    let one = Handles::new(scratch.view(None, None));
    let seat = walk(&one, &format!("models/acme/m/{}/file", deep()));
    let handle = one.handle(&seat);
    assert!(handle.len() <= HANDLE_LEN_MAX);
    assert_eq!(read(&one, &one.seat(&handle).unwrap()), b"deep");
    let two = Handles::new(scratch.view(None, None));
    assert_eq!(two.seat(&handle).unwrap_err(), Errno::STALE);
    let above = one.step(&walk(&one, "models/acme/m/d/d"), "..").unwrap();
    assert_eq!(above.attr(), walk(&one, "models/acme/m/d").attr());
}

#[test]
fn what_is_hidden_has_no_handles() {
    let scratch = sample();
    let all = Handles::new(scratch.view(None, None));
    let file = all.handle(&walk(&all, "models/acme/m/a"));
    let options = ViewOptions {
        memory_len: 1 << 20,
        shown: Some(Shown::new(|_, name| name.as_str() != "models/acme/m")),
        ..ViewOptions::default()
    };
    let none = Handles::new(View::new(scratch.repo(), options).unwrap());
    assert_eq!(none.seat(&file).unwrap_err(), Errno::STALE);
    let models = walk(&none, "models");
    assert_eq!(none.step(&models, "acme").unwrap_err(), Errno::NOENT);
    for garbage in [
        &[][..],
        &[9],
        &[1, 0xff],
        &[3, 1, 2],
        &[0; HANDLE_LEN_MAX + 1],
    ] {
        assert_eq!(none.seat(garbage).unwrap_err(), Errno::BADF, "{garbage:?}");
    }
}

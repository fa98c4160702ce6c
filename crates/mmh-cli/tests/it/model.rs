//! Long sequences of commands against a model: maps from names to trees, and a stack of states.

use std::collections::BTreeMap;

use crate::support::Scratch;

/// The files of a branch or tag, by path.
type Tree = BTreeMap<String, String>;

/// What the repository should hold: trees by (name, revision).
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    branches: BTreeMap<(String, String), Tree>,
    tags: BTreeMap<(String, String), Tree>,
}

/// A fixed sequence of choices.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % n
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

struct Run {
    s: Scratch,
    now: State,
    /// States before each operation that can still be taken back.
    before: Vec<State>,
}

impl Run {
    /// Runs a command that should succeed exactly if `next` is a state.
    fn step(&mut self, args: &[&str], next: Option<State>) {
        let ran = self.s.run(args);
        match next {
            Some(next) => {
                assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
                self.before.push(std::mem::replace(&mut self.now, next));
            }
            None => assert!([2, 3, 6].contains(&ran.code), "{args:?}: {ran:?}"),
        }
    }

    fn add(&mut self, name: &str, rev: &str, files: &[(&str, &str)], replace: bool) {
        let dir = self.s.path("in");
        std::fs::remove_dir_all(&dir).ok();
        for (path, text) in files {
            self.s.write(&format!("in/{path}"), text.as_bytes());
        }
        let key = (name.to_owned(), rev.to_owned());
        let mut next = self.now.clone();
        let old = next.branches.get(&key).cloned();
        let mut tree = old.clone().filter(|_| !replace).unwrap_or_default();
        for (path, text) in files {
            tree.insert((*path).to_owned(), (*text).to_owned());
        }
        let to = format!("{name}@{rev}");
        let mut args = vec!["add", "in", "--to", &to];
        args.extend(replace.then_some("--replace"));
        if old.as_ref() == Some(&tree) {
            // Nothing new is no operation.
            assert!(self.s.ok(&args).contains("holds exactly this already"));
            return;
        }
        next.branches.insert(key.clone(), tree);
        let free = !self.now.tags.contains_key(&key);
        self.step(&args, free.then_some(next));
    }

    fn make_ref(&mut self, kind: &str, name: &str, at: &str, new: &str) {
        let from = (name.to_owned(), at.to_owned());
        let to = (name.to_owned(), new.to_owned());
        let now = &self.now;
        let tree = now.branches.get(&from).or_else(|| now.tags.get(&from));
        let free = !now.branches.contains_key(&to) && !now.tags.contains_key(&to);
        let next = tree.cloned().filter(|_| free).map(|tree| {
            let mut next = now.clone();
            let map = if kind == "branch" {
                &mut next.branches
            } else {
                &mut next.tags
            };
            map.insert(to, tree);
            next
        });
        self.step(&[kind, &format!("{name}@{at}"), new], next);
    }

    fn delete_ref(&mut self, kind: &str, name: &str, rev: &str) {
        let key = (name.to_owned(), rev.to_owned());
        let mut next = self.now.clone();
        let map = if kind == "branch" {
            &mut next.branches
        } else {
            &mut next.tags
        };
        let gone = map.remove(&key).is_some();
        self.step(&[kind, name, rev, "--delete"], gone.then_some(next));
    }

    fn rm_path(&mut self, name: &str, rev: &str, path: &str) {
        let key = (name.to_owned(), rev.to_owned());
        let mut next = self.now.clone();
        let below = format!("{path}/");
        let gone = next.branches.get_mut(&key).is_some_and(|tree| {
            let n = tree.len();
            tree.retain(|p, _| p != path && !p.starts_with(&below));
            tree.len() < n
        });
        self.step(
            &["rm", &format!("{name}@{rev}:{path}")],
            gone.then_some(next),
        );
    }

    fn rm_name(&mut self, name: &str) {
        let mut next = self.now.clone();
        next.branches.retain(|(n, _), _| n != name);
        next.tags.retain(|(n, _), _| n != name);
        let gone = next != self.now;
        self.step(&["rm", name], gone.then_some(next));
    }

    fn undo(&mut self) {
        let ran = self.s.run(&["undo"]);
        match self.before.pop() {
            Some(before) => {
                assert_eq!(ran.code, 0, "{}", ran.err);
                self.now = before;
            }
            None => assert_eq!(ran.code, 3, "{}", ran.err),
        }
    }

    /// Compares names, branches and tags with the model.
    fn names_agree(&self) {
        let mut expected: BTreeMap<String, [Vec<String>; 2]> = BTreeMap::new();
        for (i, map) in [&self.now.branches, &self.now.tags].into_iter().enumerate() {
            for (name, rev) in map.keys() {
                let entry = expected.entry(format!("models/{name}")).or_default();
                entry[i].push(rev.clone());
            }
        }
        let listed = self.s.json(&["ls"]);
        let keys = |v: &serde_json::Value| v.as_object().unwrap().keys().cloned().collect();
        let found: BTreeMap<String, [Vec<String>; 2]> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|n| {
                let name = n["name"].as_str().unwrap().to_owned();
                (name, [keys(&n["branches"]), keys(&n["tags"])])
            })
            .collect();
        assert_eq!(found, expected);
    }

    /// Compares the paths of every branch and tag with the model.
    fn paths_agree(&self) {
        for ((name, rev), tree) in self.now.branches.iter().chain(&self.now.tags) {
            let listed = self.s.ok(&["ls", "-R", &format!("{name}@{rev}")]);
            let files: Vec<&str> = listed.lines().filter(|l| !l.ends_with('/')).collect();
            assert_eq!(files, tree.keys().collect::<Vec<_>>(), "{name}@{rev}");
        }
    }

    /// Reads every file of every branch and tag.
    fn contents_agree(&self) {
        for ((name, rev), tree) in self.now.branches.iter().chain(&self.now.tags) {
            for (path, text) in tree {
                let target = format!("{name}@{rev}:{path}");
                assert_eq!(&self.s.ok(&["cat", &target]), text, "{target}");
            }
        }
    }
}

const NAMES: [&str; 2] = ["a/one", "a/two"];
const REVS: [&str; 3] = ["main", "dev", "v1"];
const PATHS: [&str; 4] = ["x", "y", "sub/x", "sub/deep/y"];
const TEXTS: [&str; 3] = ["", "first", "second text"];

fn sequence(start: u64, steps: usize) {
    let mut c = Choices(start);
    let mut run = Run {
        s: Scratch::new(),
        now: State::default(),
        before: Vec::new(),
    };
    for step in 0..steps {
        let (name, rev) = (c.of(&NAMES), c.of(&REVS));
        match c.below(12) {
            0..4 => {
                let first = c.below(PATHS.len());
                let files = [
                    (PATHS[first], c.of(&TEXTS)),
                    (PATHS[3 - first], c.of(&TEXTS)),
                ];
                run.add(name, rev, &files[..1 + c.below(2)], c.below(4) == 0);
            }
            4 => run.make_ref("branch", name, rev, c.of(&REVS)),
            5 => run.make_ref("tag", name, rev, c.of(&REVS)),
            6 => run.delete_ref(c.of(&["branch", "tag"]), name, rev),
            7 | 8 => run.rm_path(name, rev, c.of(&["x", "sub", "sub/x", "sub/deep/y"])),
            9 => run.rm_name(name),
            _ => run.undo(),
        }
        run.names_agree();
        if step % 8 == 7 {
            run.paths_agree();
        }
    }
    run.contents_agree();
    assert!(run.s.ok(&["verify"]).starts_with("all right"));
    while !run.before.is_empty() {
        run.undo();
    }
    run.undo();
    run.names_agree();
}

#[test]
fn sequences_behave_like_maps() {
    for start in 1..3 {
        sequence(start, 40);
    }
}

/// Two changes of one branch are taken back in their order, and what was undone is not redone.
#[test]
fn undo_goes_back_step_by_step() {
    let s = Scratch::new();
    for text in ["1", "22", "333"] {
        s.write("m/a", text.as_bytes());
        s.ok(&["add", "m", "--to", "a/b"]);
    }
    assert_eq!(s.json(&["undo"])["undoes"], 3);
    assert_eq!(s.ok(&["cat", "a/b:a"]), "22");
    assert_eq!(s.json(&["undo"])["undoes"], 2);
    s.ok(&["tag", "a/b", "v1"]);
    assert_eq!(s.json(&["undo"])["undoes"], 6);
    assert_eq!(s.json(&["undo"])["undoes"], 1);
    assert_eq!(s.run(&["undo"]).code, 3);
    assert_eq!(s.json(&["ls"]), serde_json::json!([]));
}

/// `log -n`, revisions by digest and by id, and history across branches.
#[test]
fn history_is_found_by_id() {
    let s = Scratch::new();
    for (i, text) in ["1", "22", "333"].iter().enumerate() {
        s.write("m/a", text.as_bytes());
        s.ok(&["add", "m", "--to", "a/b", "-m", &format!("step {i}")]);
    }
    let log = s.json(&["log", "a/b"]);
    let entries = log.as_array().unwrap();
    assert_eq!(entries.len(), 3);
    for (i, entry) in entries.iter().enumerate() {
        let message = format!("step {}", 2 - i);
        assert_eq!(entry["message"], message);
        assert_eq!(
            entry["parents"].get(0),
            entries.get(i + 1).map(|e| &e["id"])
        );
        let (id, digest) = (
            entry["id"].as_str().unwrap(),
            entry["digest"].as_str().unwrap(),
        );
        for rev in [id, digest, &digest[..12], &digest[..6]] {
            let text = s.ok(&["cat", &format!("a/b@{rev}:a")]);
            assert_eq!(text.len(), 3 - i, "{rev}");
        }
        for rev in [&digest[..5], &format!("{}x", &digest[..8]), "zzzzzz"] {
            assert_eq!(s.run(&["cat", &format!("a/b@{rev}:a")]).code, 3, "{rev}");
        }
        assert_eq!(
            s.json(&["log", &format!("a/b@{id}")])
                .as_array()
                .unwrap()
                .len(),
            3 - i
        );
    }
    for n in 0..5 {
        let n_text = n.to_string();
        let shown = s.json(&["log", "a/b", "-n", &n_text]);
        assert_eq!(shown.as_array().unwrap().len(), n.min(3));
        let shown = s.json(&["log", "--count", &n_text]);
        assert_eq!(shown.as_array().unwrap().len(), n.min(3));
    }
    assert_eq!(s.run(&["log", "-n", "-1"]).code, 2);
    assert_eq!(s.run(&["log", "-n", "x"]).code, 2);
    // The history of another name is not searched.
    s.ok(&["add", "m", "--to", "a/other", "-m", "other"]);
    let first = entries[2]["digest"].as_str().unwrap();
    assert_eq!(s.run(&["cat", &format!("a/other@{first}:a")]).code, 3);
}

//! Transcripts: what a person types and reads, word by word.
//!
//! A line that begins with `$` is typed; what follows is standard output, then standard error,
//! then the exit status in brackets if it is not 0. Ids, digests, times and the size of the
//! repository on the disk are masked.

use crate::support::Scratch;

/// Replaces what differs from run to run by its kind.
fn masked(text: &str) -> String {
    let hex = |word: &str| {
        word.bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let shape = |word: &str, like: &str| {
        word.len() == like.len()
            && word.bytes().zip(like.bytes()).all(|(b, l)| match l {
                b'0' => b.is_ascii_digit(),
                _ => b == l,
            })
    };
    let word = |word: &str| -> String {
        match word {
            _ if word.starts_with("bafyr4i") && word.len() == 59 => "CID".to_owned(),
            _ if word.len() == 64 && hex(word) => "DIGEST".to_owned(),
            _ if word.len() == 12 && hex(word) => "SHORT".to_owned(),
            _ if shape(word, "0000-00-00") => "DATE".to_owned(),
            _ if shape(word, "00:00:00") => "TIME".to_owned(),
            _ => word.to_owned(),
        }
    };
    let line = |line: &str| match line.split_once("history and indexes: ") {
        Some((head, _)) => format!("{head}history and indexes: SIZE"),
        None => line.split(' ').map(word).collect::<Vec<_>>().join(" "),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Types each line of the script and compares all that comes back.
fn plays(s: &Scratch, script: &str) {
    let mut played = String::new();
    for typed in script.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let args: Vec<&str> = typed.split_whitespace().collect();
        let ran = s.run(&args);
        let mut answer = masked(&format!("{}{}", ran.out, ran.err));
        if ran.code != 0 {
            answer.push_str(&format!("\n[{}]", ran.code));
        }
        played.push_str(&format!("$ {typed}\n{answer}\n"));
    }
    let tidy = |text: &str| {
        let lines = text.lines().map(str::trim_end).filter(|l| !l.is_empty());
        lines.collect::<Vec<_>>().join("\n")
    };
    let (played, script) = (tidy(&played), tidy(script));
    assert!(
        played == script,
        "what came:\n{played}\n\nexpected:\n{script}"
    );
}

/// A folder with a text, an empty folder, a program and a link.
fn sample() -> Scratch {
    let s = Scratch::new();
    s.write("m/c.json", b"{\"a\": 1}");
    let program = s.write("m/sub/z", &[0; 1000]);
    std::fs::create_dir(s.path("m/void")).unwrap();
    make_executable(&program);
    std::os::unix::fs::symlink("c.json", s.path("m/l")).unwrap();
    s
}

fn make_executable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn masks_hide_what_differs_and_nothing_else() {
    let cid = format!("bafyr4i{}", "a".repeat(52));
    let text = format!("a {cid} 0123456789ab 2026-01-31 23:59:59 UTC\n0123456789xy 26-01-31");
    let expected = "a CID SHORT DATE TIME UTC\n0123456789xy 26-01-31";
    assert_eq!(masked(&text), expected);
}

/// Adding, looking and comparing.
#[test]
fn a_first_session() {
    plays(
        &sample(),
        "\
$ add m --to acme/m -m first
2 files, 1.01 kB; new here 1.01 kB in 33 B (3.27 %)
committed models/acme/m@heads/main CID
$ add m --to acme/m
2 files, 1.01 kB; new here 0 B in 0 B (-)
models/acme/m@heads/main holds exactly this already
$ -v add m --to acme/m@dev
  text               8 B →       0 B new  c.json
  unknown        1.00 kB →       0 B new  sub/z
2 files, 1.01 kB; new here 0 B in 0 B (-)
committed models/acme/m@heads/dev CID
$ ls
acme/m
$ ls -l
acme/m  branches: dev, main
$ ls -l acme/m
file          8 B  CID  c.json
link                 l → c.json
folder             CID  sub/
folder             CID  void/
$ ls -R acme/m
c.json
l → c.json
sub/
sub/z
void/
$ ls acme/m:sub
z
$ ls acme/m:l -l
link                 l → c.json
$ log acme/m
SHORT  DATE TIME UTC  tester
    first
$ show acme/m
SHORT  DATE TIME UTC  tester
    first
    snapshot CID
+ c.json  8 B
+ sub/z  1.00 kB
$ show acme/m:c.json
text 8 B, 0 tensors
file   CID
blake3 DIGEST
sha256 DIGEST
$ show acme/m:sub
program   1.00 kB  CID  z
$ show acme/m:l
link to c.json
$ add m/sub --to acme/m:more/deep
1 file, 1.00 kB; new here 0 B in 0 B (-)
committed models/acme/m@heads/main CID
$ diff acme/m@dev acme/m
+ more/deep/z  1.00 kB
$ diff acme/m acme/m@dev
- more/deep/z  1.00 kB
$ diff acme/m:c.json acme/m:sub/z
* sub/z  8 B → 1.00 kB
$ diff acme/m:sub/z acme/m:more/deep/z
$ add m/c.json m/sub --to acme/m --replace
2 files, 1.01 kB; new here 0 B in 0 B (-)
committed models/acme/m@heads/main CID
$ show acme/m
SHORT  DATE TIME UTC  tester
    Add c.json, sub
    snapshot CID
- l  6 B
- more/deep/z  1.00 kB
$ get acme/m out
restored 2 files written; 1.01 kB, all verified
$ get acme/m out
restored 0 files written, 2 were there already; 1.01 kB, all verified
$ get acme/m@dev out
restored 0 files written, 2 were there already; 1.01 kB, all verified
",
    );
}

/// Branches, tags, removal and undo.
#[test]
fn names_come_and_go() {
    plays(
        &sample(),
        "\
$ add m --to acme/m
2 files, 1.01 kB; new here 1.01 kB in 33 B (3.27 %)
committed models/acme/m@heads/main CID
$ tag acme/m v1
created models/acme/m@tags/v1 at SHORT
$ tag acme/m@v1 v2
created models/acme/m@tags/v2 at SHORT
$ tag acme/m
v1  CID
v2  CID
$ branch acme/m dev
created models/acme/m@heads/dev at SHORT
$ branch acme/m
dev  CID
main  CID
$ branch acme/m dev -d
deleted models/acme/m@heads/dev; `mmh undo` brings it back
$ tag acme/m v2 --delete
deleted models/acme/m@tags/v2; `mmh undo` brings it back
$ rm acme/m:sub/z
removed acme/m:sub/z; `mmh undo` brings it back
$ ls acme/m -R
c.json
l → c.json
void/
$ undo
took back operation 7: rm acme/m:sub/z
$ undo
took back operation 6: rm models/acme/m@tags/v2
$ log -n 3
     9  DATE TIME UTC  undo 6: rm models/acme/m@tags/v2  tester
     8  DATE TIME UTC  undo 7: rm acme/m:sub/z  tester
     7  DATE TIME UTC  rm acme/m:sub/z  tester
$ rm acme/m@v1
removed acme/m@v1; `mmh undo` brings it back
$ rm acme/m
removed acme/m; `mmh undo` brings it back
$ ls
nothing here yet; `mmh add PATH --to NAME` adds something
$ undo
took back operation 11: rm acme/m
$ log
    12  DATE TIME UTC  undo 11: rm acme/m  tester
    11  DATE TIME UTC  rm acme/m  tester
    10  DATE TIME UTC  rm acme/m@v1  tester
     9  DATE TIME UTC  undo 6: rm models/acme/m@tags/v2  tester
     8  DATE TIME UTC  undo 7: rm acme/m:sub/z  tester
     7  DATE TIME UTC  rm acme/m:sub/z  tester
     6  DATE TIME UTC  rm models/acme/m@tags/v2  tester
     5  DATE TIME UTC  rm models/acme/m@heads/dev  tester
     4  DATE TIME UTC  branch acme/m dev  tester
     3  DATE TIME UTC  tag acme/m v2  tester
     2  DATE TIME UTC  tag acme/m v1  tester
     1  DATE TIME UTC  add acme/m  tester
$ --author someone tag acme/m v9
created models/acme/m@tags/v9 at SHORT
$ log -n 1
    13  DATE TIME UTC  tag acme/m v9  someone
",
    );
}

/// What goes wrong is told with what, where and what next.
#[test]
fn messages_say_what_where_and_what_next() {
    plays(
        &sample(),
        "\
$ ls acme/none
error: name `acme/none` is not in the repository
       check the spelling, or list what is there with `mmh ls`
[3]
$ add m --to acme/m
2 files, 1.01 kB; new here 1.01 kB in 33 B (3.27 %)
committed models/acme/m@heads/main CID
$ tag acme/m v1
created models/acme/m@tags/v1 at SHORT
$ ls acme/m:none
error: path `acme/m:none` is not in the repository
       check the spelling, or list what is there with `mmh ls`
[3]
$ cat acme/m@none:c.json
error: revision `acme/m@none` is not in the repository
       check the spelling, or list what is there with `mmh ls`
[3]
$ cat acme/m:sub
error: `acme/m:sub` is not a file; name one after `:`
[2]
$ cat acme/m:l
error: `acme/m:l` is not a file; name one after `:`
[2]
$ get acme/m:l x
error: `l` is a link to `c.json`; name that, or the folder it lies in
       correct the request and try again
[2]
$ branch acme/m none --delete
error: ref `models/acme/m@heads/none` is not in the repository
       check the spelling, or list what is there with `mmh ls`
[3]
$ branch acme/m main
error: `models/acme/m@heads/main` exists already
[6]
$ branch acme/m v1
error: `models/acme/m@tags/v1` exists already
[6]
$ tag acme/m main
error: `models/acme/m@heads/main` exists already
[6]
$ add m --to acme/m@v1
error: `acme/m@v1` is a tag, so it cannot be added to
       correct the request and try again
[2]
$ rm acme/m@v1:c.json
error: `acme/m@v1:c.json` is not a branch, so it cannot be changed
       correct the request and try again
[2]
$ rm acme/m:none
error: path `none` is not in the repository
       check the spelling, or list what is there with `mmh ls`
[3]
$ rm acme/none
error: name `acme/none` is not in the repository
       check the spelling, or list what is there with `mmh ls`
[3]
$ add m/c.json m/c.json --to acme/n
error: m/c.json and m/c.json would both be `c.json`
       correct the request and try again
[2]
$ add absent --to acme/n
error: cannot read absent: No such file or directory (os error 2)
       check the spelling of the path
[3]
$ get acme/m:sub m/c.json
error: m/c.json is in the way and is no folder; move it away
       correct the request and try again
[2]
$ -R absent ls
error: absent is not a repository; `mmh init` makes one
[3]
$ -R http://host/x ls
error: cannot open `http://host/x`: this build knows folders, `file://`, `s3://`, `gs://`, `az://` and `mmhs://`, not `http://`
       a newer version may support it
[4]
$ -R m/c.json ls
error: m/c.json is not an archive: it is too short
       correct the request and try again
[2]
$ -j 1025 ls
error: 1025 threads (command line): use 1 to 1024
[2]
$ unpack m/c.json x
error: m/c.json is not an archive: it is too short
       correct the request and try again
[2]
$ pack absent x.mmh
error: cannot read absent: No such file or directory (os error 2)
       check the spelling of the path
[3]
$ pack m repo
error: repo is not an archive: it is a directory
       correct the request and try again
[2]
$ init repo
error: repo is already a repository
       correct the request and try again
[2]
$ inspect m
error: m is a folder; name a file
       correct the request and try again
[2]
$ cat acme/m:c.json --range 8-
error: range 8- does not fit a length of 8 bytes
       correct the request and try again
[2]
",
    );
}

/// Portable files, statistics and checks.
#[test]
fn portable_files_statistics_and_checks() {
    plays(
        &sample(),
        "\
$ -q pack m/c.json c.mmh
$ unpack c.mmh c.out
restored 1 file written; 8 B, all verified
$ unpack c.mmh m
restored 0 files written, 1 was there already; 8 B, all verified
$ pack -q m m.mmh
$ pack -q m m.mmh
error: m.mmh exists already; replace it with `--force`
[6]
$ pack -q --force m m.mmh
$ -R m.mmh ls
trees/folder
$ -R m.mmh ls -R trees/folder
c.json
l → c.json
sub/
sub/z
void/
$ -R m.mmh log trees/folder
SHORT  DATE TIME UTC  tester
    pack
$ -R m.mmh log
$ -R m.mmh add m --to a/b
error: a .mmh archive is read-only; unpack it, or add it to a repository
[5]
$ -R m.mmh tag trees/folder v1
error: a .mmh archive is read-only; unpack it, or add it to a repository
[5]
$ unpack m.mmh back
restored 2 files written; 1.01 kB, all verified
$ unpack m.mmh back
restored 0 files written, 2 were there already; 1.01 kB, all verified
$ -R m.mmh get trees/folder:sub/z m/c.json
error: m/c.json exists with other content; move it away, or use `--overwrite`
[6]
$ -R m.mmh get trees/folder:sub/z m/c.json --overwrite
restored 1 file written; 1.00 kB, all verified
$ add m --to acme/m
2 files, 2.00 kB; new here 1.00 kB in 22 B (2.20 %)
committed models/acme/m@heads/main CID
$ tag acme/m v1
created models/acme/m@tags/v1 at SHORT
$ stat --files acme/m
file        raw  stored       %  duplicates  coding  deltas  container
c.json  1.00 kB    22 B  2.20 %         0 B   978 B     0 B  unknown
sub/z   1.00 kB     0 B  0.00 %     1.00 kB     0 B     0 B  unknown
together      raw  stored       %  duplicates  coding  deltas
          2.00 kB    22 B  1.10 %     1.00 kB   978 B     0 B
22 B of 2.00 kB kept: 1.00 kB saved as duplicates, 978 B by coding, 0 B by deltas, 0 B by derivation
  zstd             1 chunk    1.00 kB →      22 B  2.20 %
  on disk, with history and indexes: SIZE
$ verify
all right: 1 file, 6 chunks, 1.73 kB compared with their digests
$ verify acme/m:sub
all right: 1 file, 2 chunks, 1.20 kB compared with their digests
$ inspect m/sub/z
tensor         dtype  shape      raw   coded  bits  → bits  method  base  coders
(other bytes)                1.00 kB  2.20 %                zstd
unknown 1.00 kB → 22 B (2.20 %), level default
$ doctor --rebuild-index
indexed 6 chunks of 1 pack
",
    );
}

/// Removing frees nothing at once; two collections do.
#[test]
fn space_is_freed_in_two_steps() {
    let s = sample();
    s.write(
        "w/noise",
        &(0..4000u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect::<Vec<_>>(),
    );
    plays(
        &s,
        "\
$ add w --to acme/w
1 file, 16.0 kB; new here 16.0 kB in 16.0 kB (100.03 %)
committed models/acme/w@heads/main CID
$ rm acme/w
removed acme/w; `mmh undo` brings it back
$ gc
deleted 0 packs, 0 B
4 chunks, 16.4 kB are alive
$ gc --undo 0 --grace 0
deleted 0 packs, 0 B
marked 1 pack, 23.4 kB, for a later run to delete
0 chunks, 0 B are alive
$ gc --undo 0 --grace 0 --dry-run
would delete 1 pack, 23.4 kB
0 chunks, 0 B are alive
$ gc --undo 0 --grace 0
deleted 1 pack, 23.4 kB
0 chunks, 0 B are alive
$ undo
error: operation 2 cannot be undone: garbage collection keeps what operations before 3 replaced no longer
[3]
$ op undo 7
error: operation `7` is not in the repository
       check the spelling, or list what is there with `mmh ls`
[3]
$ op log -n 2
     3  DATE TIME UTC  gc: 1 packs  tester
     2  DATE TIME UTC  rm acme/w  tester
$ gc --keep hourly:3
error: invalid value 'hourly:3' for '--keep <RULES>': `hourly:3` does not say what to keep: an unknown rule; write `all`, or rules like `last:10,daily:7,weekly:4,monthly:12,yearly:5`
For more information, try '--help'.
[2]
",
    );
}

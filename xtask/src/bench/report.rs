//! From the driver's JSON to the tables in docs/benchmarks.md.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::shell::{Context as _, Failure, Outcome, capture, root};
use crate::table::{Table, bytes, percent};

/// Which measurement a report is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Single files, interleaved rounds.
    Files,
    /// Files given an older one, interleaved rounds.
    Delta,
    /// A whole folder, once.
    Corpus,
}

impl Kind {
    /// The name of its raw results and of its place in the document.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Delta => "delta",
            Self::Corpus => "corpus",
        }
    }
}

/// Puts the tables for these raw results into docs/benchmarks.md, and shows them.
pub(crate) fn write(kind: Kind, raw: &Path) -> Outcome {
    let text = fs::read_to_string(raw).context(raw.display())?;
    let mut results: Value = serde_json::from_str(&text).context(raw.display())?;
    results["machine"] = machine()?.into();
    let pretty = serde_json::to_string_pretty(&results).context(raw.display())?;
    fs::write(raw, pretty + "\n").context(raw.display())?;
    let section = section(kind, &results)?;
    print!("\n{section}");
    for (document, text) in [
        ("docs/benchmarks.md", section),
        ("README.md", summary(kind, &results)),
    ] {
        let path = root().join(document);
        let old = fs::read_to_string(&path).context(path.display())?;
        let new = replace(&old, kind.name(), &text).ok_or_else(|| {
            Failure::failed(format!("{document}: no markers for `{}`", kind.name()))
        })?;
        fs::write(&path, new).context(path.display())?;
    }
    write_targets()
}

/// Compares the newest results of files and of deltas with the targets.
fn write_targets() -> Outcome {
    let mut results = Vec::new();
    for kind in [Kind::Files, Kind::Delta] {
        let path = root().join(format!("bench/results/{}.json", kind.name()));
        if path.exists() {
            let text = fs::read_to_string(&path).context(path.display())?;
            results.push(serde_json::from_str(&text).context(path.display())?);
        }
    }
    let path = root().join("docs/benchmarks.md");
    let old = fs::read_to_string(&path).context(path.display())?;
    let new = replace(&old, "targets", &super::targets::section(&results))
        .ok_or_else(|| Failure::failed("docs/benchmarks.md: no markers for `targets`"))?;
    fs::write(&path, new).context(path.display())
}

/// The short table for the front page: sizes of all files beside each other, or one folder.
fn summary(kind: Kind, results: &Value) -> String {
    let rows: Vec<&Value> = results["results"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let measured = |row: &&&Value| !row["error"].is_string();
    if kind == Kind::Corpus {
        let mut short = Table::new(&["", "stored", "of raw", "store", "restore"]);
        for row in rows.iter().filter(measured) {
            let number = |key: &str| row[key].as_u64().unwrap_or(0);
            let time = |key: &str| {
                row[key]
                    .as_f64()
                    .map_or_else(|| "–".to_owned(), |s| format!("{s:.0} s"))
            };
            let of_raw = percent(number("size"), number("raw"));
            let peer = row["peer"].as_str().unwrap_or("?").to_owned();
            short.row([
                peer,
                bytes(number("size")),
                of_raw,
                time("pack_wall_s"),
                time("restore_wall_s"),
            ]);
        }
        return short.markdown();
    }
    let mut inputs: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["input"].as_str())
        .collect();
    inputs.dedup();
    let mut matrix = Table::new(&[
        "",
        "mmh",
        "decode MB/s",
        "mmh archive",
        "best peer",
        "",
        "decode MB/s",
        "zstd -3",
    ]);
    for input in inputs {
        let of_input = || {
            rows.iter()
                .filter(measured)
                .filter(|row| row["input"] == input)
        };
        let named = |name: &str| {
            of_input().find(|row| row["peer"].as_str().is_some_and(|p| p.starts_with(name)))
        };
        let peers =
            of_input().filter(|row| !row["peer"].as_str().is_some_and(|p| p.starts_with("mmh")));
        let best = peers.min_by_key(|row| row["size"].as_u64());
        let share = |row: Option<&&Value>| {
            row.map_or_else(
                || "–".to_owned(),
                |row| {
                    let number = |key: &str| row[key].as_u64().unwrap_or(0);
                    percent(number("size"), number("raw"))
                },
            )
        };
        let decode = |row: Option<&&Value>| {
            row.map_or_else(
                || "–".to_owned(),
                |row| {
                    speed(
                        row["raw"].as_u64().unwrap_or(0),
                        row["restore_cpu_s"].as_f64(),
                    )
                },
            )
        };
        let own = named("mmh codec default");
        matrix.row([
            input.to_owned(),
            share(own),
            decode(own),
            share(named("mmh codec archive")),
            best.map_or("–", |row| row["peer"].as_str().unwrap_or("?"))
                .to_owned(),
            share(best),
            decode(best),
            share(named("zstd -3")),
        ]);
    }
    matrix.markdown()
}

/// The text between the markers: machine and versions, then a table for each input.
fn section(kind: Kind, results: &Value) -> Outcome<String> {
    let rows = results["results"]
        .as_array()
        .filter(|rows| !rows.is_empty());
    let rows = rows.ok_or_else(|| Failure::failed("the driver measured nothing"))?;
    let mut out = format!(
        "Machine: {}.\n",
        results["machine"].as_str().unwrap_or("unknown")
    );
    let versions: Vec<String> = results["versions"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or("?")))
        .collect();
    if !versions.is_empty() {
        out.push_str(&format!("Peers: {}.\n", versions.join(", ")));
    }
    let mut inputs: Vec<&Value> = rows.iter().map(|row| &row["input"]).collect();
    inputs.dedup();
    for input in inputs {
        let rows: Vec<&Value> = rows.iter().filter(|row| row["input"] == *input).collect();
        out.push_str(&format!("\n{}\n\n", heading(kind, &rows)));
        out.push_str(&table(&rows).markdown());
        for row in rows.iter().filter(|row| row["error"].is_string()) {
            let [peer, error] = ["peer", "error"].map(|key| row[key].as_str().unwrap_or("?"));
            out.push_str(&format!(
                "\n{peer}: no result ({})\n",
                error.replace(['\n', '|'], " ")
            ));
        }
    }
    Ok(out)
}

fn heading(kind: Kind, rows: &[&Value]) -> String {
    let first = rows[0];
    let input = first["input"].as_str().unwrap_or("?");
    let raw = bytes(first["raw"].as_u64().unwrap_or(0));
    let threads = first["threads"].as_u64().unwrap_or(1);
    let rounds = rows
        .iter()
        .find_map(|row| row["rounds"].as_u64())
        .unwrap_or(1);
    match kind {
        Kind::Files | Kind::Delta => format!(
            "**{input}**, {raw}, {threads} thread(s), median of {rounds} interleaved rounds:"
        ),
        Kind::Corpus => format!("**{input}**, {raw}, {threads} thread(s), one run each:"),
    }
}

fn table(rows: &[&Value]) -> Table {
    let mut table = Table::new(&[
        "peer",
        "stored",
        "of raw",
        "pack MB/s",
        "restore MB/s",
        "pack MB/s CPU",
        "restore MB/s CPU",
        "peak memory",
        "identical",
    ]);
    for row in rows.iter().filter(|row| !row["error"].is_string()) {
        let number = |key: &str| row[key].as_u64().unwrap_or(0);
        let speed = |key: &str| speed(number("raw"), row[key].as_f64());
        let restored = row["restore_wall_s"].is_number();
        table.row([
            row["peer"].as_str().unwrap_or("?").to_owned(),
            bytes(number("size")),
            percent(number("size"), number("raw")),
            speed("pack_wall_s"),
            speed("restore_wall_s"),
            speed("pack_cpu_s"),
            speed("restore_cpu_s"),
            bytes(number("peak_rss_bytes")),
            if restored && row["identical"] == true {
                "yes"
            } else {
                "not tried"
            }
            .to_owned(),
        ]);
    }
    table
}

/// Raw megabytes in each second.
fn speed(raw: u64, time: Option<f64>) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown without decimals")]
    let megabytes = raw as f64 / 1e6;
    time.filter(|time| *time > 0.0)
        .map_or_else(|| "–".to_owned(), |time| format!("{:.0}", megabytes / time))
}

/// What a reader needs to place the numbers, from Linux' process file system and the tools.
pub(crate) fn machine() -> Outcome<String> {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpu =
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field("/proc/meminfo", "MemTotal").unwrap_or_else(|| "unknown".to_owned());
    let rustc = capture(Command::new("rustc").arg("--version"))?;
    let program = match std::env::var_os("MMH_PROGRAM") {
        Some(_) => "mmh built beforehand".to_owned(),
        None => {
            let mut git = Command::new("git");
            git.current_dir(root())
                .args(["describe", "--always", "--dirty"]);
            format!("mmh at commit {}", capture(&mut git)?.trim())
        }
    };
    let date = capture(Command::new("date").args(["-u", "+%F"]))?;
    Ok(format!(
        "{cpu}, {cores} cores, {memory} of memory, {}; {}; {program}; measured on {}",
        std::env::consts::OS,
        rustc.trim(),
        date.trim()
    ))
}

/// The document with new text between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.
pub(crate) fn replace(document: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- {name}:begin -->\n"),
        format!("<!-- {name}:end -->"),
    );
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Value {
        serde_json::json!({
            "machine": "test",
            "versions": { "zstandard": "1.0" },
            "results": [
                { "input": "a.bin", "raw": 2_000_000, "peer": "mmh", "threads": 1, "rounds": 3,
                  "size": 1_000_000, "pack_wall_s": 0.5, "pack_cpu_s": 1.0, "restore_wall_s": 0.01,
                  "restore_cpu_s": 0.02, "peak_rss_bytes": 5_000_000, "identical": true },
                { "input": "a.bin", "raw": 2_000_000, "peer": "xet", "threads": 1, "rounds": 3,
                  "size": 1_500_000, "pack_wall_s": 0.5, "pack_cpu_s": 1.0,
                  "peak_rss_bytes": 5_000_000, "identical": false },
                { "input": "a.bin", "raw": 2_000_000, "peer": "gone", "threads": 1, "error": "no | module" },
            ]
        })
    }

    #[test]
    fn a_section_has_numbers_and_honest_gaps() {
        let text = section(Kind::Files, &results()).unwrap();
        let row = |peer: &str| {
            text.lines()
                .find(|l| l.starts_with(&format!("| {peer} ")))
                .unwrap()
        };
        let cells: Vec<&str> = row("mmh").split('|').map(str::trim).collect();
        assert_eq!(
            cells[2..9],
            ["1.0 MB", "50.00 %", "4", "200", "2", "100", "5.0 MB"]
        );
        assert!(row("xet").contains("not tried"));
        assert!(text.contains("gone: no result (no   module)"), "{text}");
        assert!(text.contains("median of 3 interleaved rounds"));
        assert!(section(Kind::Files, &serde_json::json!({ "results": [] })).is_err());
    }

    #[test]
    fn only_the_text_between_the_markers_changes() {
        let document = "a\n<!-- files:begin -->\nold\n<!-- files:end -->\nb\n";
        let new = replace(document, "files", "new\n").unwrap();
        assert_eq!(new, "a\n<!-- files:begin -->\nnew\n<!-- files:end -->\nb\n");
        assert_eq!(replace(document, "corpus", "new\n"), None);
    }

    #[test]
    fn the_front_page_has_the_best_peer_beside_us() {
        let mut results = results();
        results["results"][0]["peer"] = "mmh codec default".into();
        let text = summary(Kind::Files, &results);
        let row = text.lines().find(|line| line.contains("a.bin")).unwrap();
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(
            cells[1..8],
            ["a.bin", "50.00 %", "100", "–", "xet", "75.00 %", "–"]
        );
        assert!(
            !text.contains("gone"),
            "a peer without a result has no row: {text}"
        );
        let text = summary(Kind::Corpus, &results);
        assert!(
            text.contains("1.0 MB") && text.lines().count() == 4,
            "{text}"
        );
    }

    #[test]
    fn the_documents_have_a_place_for_each_kind() {
        for document in ["docs/benchmarks.md", "README.md"] {
            let document = fs::read_to_string(root().join(document)).unwrap();
            for kind in [Kind::Files, Kind::Delta, Kind::Corpus] {
                assert!(replace(&document, kind.name(), "").is_some(), "{kind:?}");
            }
        }
    }

    #[test]
    fn the_machine_is_described() {
        let machine = machine().unwrap();
        assert!(
            machine.contains("cores") && machine.contains("rustc"),
            "{machine}"
        );
    }
}

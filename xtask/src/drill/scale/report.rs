//! From what was measured to tables, and whether the promises hold.

use std::fs;

use serde_json::Value;

use crate::bench::report::{machine, replace};
use crate::shell::{Context as _, Failure, Outcome, root};
use crate::table::{Table, bytes};

/// A repository opens within so many seconds if the system has it in its caches,
const WARM_S: f64 = 1.0;
/// and if it has not.
const COLD_S: f64 = 5.0;
/// Bytes of memory that no command exceeds.
const PEAK: u64 = 500_000_000;
/// What a file of the largest repository may cost, beside one of the repository with a tenth as many.
const GROWTH: f64 = 1.5;
/// Raw bytes that `verify` reads for each second of CPU time.
const VERIFY_RATE: f64 = 2e9;
/// CPU time of `add` to a sealed repository beside one that is not.
const SEALING: f64 = 1.15;

/// Shows the tables; with `save` puts them and the raw results into the repository.
pub(super) fn write(results: &Value, save: bool) -> Outcome {
    let mut results = results.clone();
    results["machine"] = machine()?.into();
    let text = section(&results);
    print!("\n{text}");
    if !save {
        return Ok(());
    }
    let raw = root().join("bench/results/scale.json");
    let pretty = serde_json::to_string_pretty(&results).context(raw.display())?;
    fs::write(&raw, pretty + "\n").context(raw.display())?;
    let path = root().join("docs/benchmarks.md");
    let old = fs::read_to_string(&path).context(path.display())?;
    let new = replace(&old, "scale", &text)
        .ok_or_else(|| Failure::failed("docs/benchmarks.md: no markers for `scale`"))?;
    fs::write(&path, new).context(path.display())
}

fn section(results: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!("Machine: {}.\n", text(&results["machine"]));
    out.push_str(&format!(
        "Caches are emptied by {}.\n\n",
        text(&results["cold"])
    ));
    let mut table = Table::new(&[
        "repository",
        "stored",
        "open cold",
        "open warm",
        "add",
        "verify",
        "gc",
        "peak memory",
    ]);
    for row in array(&results["rows"]) {
        table.row([
            text(&row["name"]),
            bytes(row["stored"].as_u64().unwrap_or(0)),
            wall(&row["cold"]),
            wall(&row["warm"]),
            cpu(&row["add"]),
            cpu(&row["verify"]),
            cpu(&row["gc"]),
            peak(row).map_or_else(
                || "–".to_owned(),
                |(of, len)| format!("{} ({of})", bytes(len)),
            ),
        ]);
    }
    out.push_str(&table.markdown());
    if results["speed"].is_null() {
        return out;
    }
    let speed = &results["speed"];
    let raw = bytes(speed["raw"].as_u64().unwrap_or(0));
    out.push_str(&format!(
        "\n{raw} of {}, from and to memory:\n\n",
        text(&speed["model"])
    ));
    let mut table = Table::new(&["", "stored", "add MB/s CPU", "verify MB/s CPU"]);
    for way in array(&speed["ways"]) {
        let stored = bytes(way["stored"].as_u64().unwrap_or(0));
        let shown = |command: &str| {
            rate(way, command).map_or_else(|| "–".to_owned(), |rate| format!("{:.0}", rate / 1e6))
        };
        table.row([text(&way["way"]), stored, shown("add"), shown("verify")]);
    }
    out + &table.markdown()
}

/// Says which promises do not hold.
pub(super) fn judge(results: &Value) -> Outcome {
    let mut broken = Vec::new();
    let rows: Vec<&Value> = array(&results["rows"]).collect();
    for row in &rows {
        let name = row["name"].as_str().unwrap_or_default();
        for (what, most) in [("warm", WARM_S), ("cold", COLD_S)] {
            let wall = row[what]["wall_s"].as_f64();
            if wall.is_none_or(|wall| wall > most) {
                broken.push(format!("{name}: opens {what} in {wall:?} s, not {most} s"));
            }
        }
        match peak(row) {
            Some((of, len)) if len > PEAK => {
                broken.push(format!("{name}: `{of}` holds {}", bytes(len)));
            }
            Some(_) => {}
            None => broken.push(format!("{name}: memory was not measured")),
        }
    }
    broken.extend(growth(&rows));
    for way in array(&results["speed"]["ways"]) {
        let (name, verify) = (way["way"].as_str().unwrap_or_default(), rate(way, "verify"));
        if name != "sealed" && verify.is_none_or(|rate| rate < VERIFY_RATE) {
            broken.push(format!(
                "{name}: verify reads {verify:?} bytes a CPU second"
            ));
        }
    }
    let ways = &results["speed"]["ways"];
    let add = |name: &str| {
        let way = array(ways).find(|way| way["way"] == name)?;
        way["add"]["cpu_s"].as_f64()
    };
    if let (Some(open), Some(sealed)) = (add("repository"), add("sealed"))
        && sealed > open * SEALING
    {
        broken.push(format!(
            "sealing makes `add` take {sealed} CPU seconds, not {open}"
        ));
    }
    match broken.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(broken.join("\n"))),
    }
}

/// What a file costs more in a repository than in one with a tenth as many.
fn growth(rows: &[&Value]) -> Vec<String> {
    let files = |row: &Value| row["files"].as_f64().filter(|_| row["flat"] == false);
    let mut broken = Vec::new();
    for large in rows.iter().filter(|row| files(row) >= Some(1e6)) {
        let tenth = files(large).map(|n| n / 10.0);
        let Some(small) = rows.iter().find(|row| files(row) == tenth) else {
            continue;
        };
        for command in ["add", "verify", "gc"] {
            let cpu = |row: &Value| row[command]["cpu_s"].as_f64().unwrap_or(f64::MAX);
            let more = cpu(large) / (10.0 * cpu(small));
            if more > GROWTH {
                broken.push(format!(
                    "`{command}` costs {more:.1} times as much for each file"
                ));
            }
        }
    }
    broken
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The command that held most memory, and how much.
fn peak(row: &Value) -> Option<(&'static str, u64)> {
    let commands = ["cold", "warm", "add", "verify", "gc"];
    let peaks = commands.map(|of| (of, row[of]["peak"].as_u64()));
    let known = peaks.into_iter().filter_map(|(of, len)| Some((of, len?)));
    known.max_by_key(|(_, len)| *len)
}

/// Raw bytes for each second of CPU time.
fn rate(way: &Value, command: &str) -> Option<f64> {
    let cpu = way[command]["cpu_s"].as_f64().filter(|cpu| *cpu > 0.0)?;
    Some(way["raw"].as_f64()? / cpu)
}

fn wall(value: &Value) -> String {
    let wall = value["wall_s"].as_f64();
    wall.map_or_else(|| "–".to_owned(), |wall| format!("{:.0} ms", wall * 1000.0))
}

fn cpu(value: &Value) -> String {
    let cpu = value["cpu_s"].as_f64();
    cpu.map_or_else(|| "–".to_owned(), |cpu| format!("{cpu:.1} s"))
}

/// A number with a comma between each three digits.
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    let mut out = digits[..first].to_owned();
    for three in digits.as_bytes()[first..].chunks(3) {
        if !out.is_empty() {
            out.push(',');
        }
        out.extend(three.iter().map(|digit| char::from(*digit)));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(name: &str, files: u64, cpu: f64) -> Value {
        let took = |cpu: f64| json!({ "wall_s": 0.5, "cpu_s": cpu, "peak": 1000 });
        json!({
            "name": name, "files": files, "flat": false, "stored": 5,
            "cold": took(0.1), "warm": took(0.1),
            "add": took(cpu), "verify": took(cpu), "gc": took(cpu),
        })
    }

    fn results(rows: Vec<Value>) -> Value {
        json!({ "machine": "m", "cold": "c", "rows": rows, "speed": null })
    }

    #[test]
    fn promises_that_hold_are_no_error() {
        let good = results(vec![row("a", 100_000, 1.0), row("b", 1_000_000, 12.0)]);
        judge(&good).unwrap();
        let text = section(&good);
        assert!(text.contains("| b ") && text.contains("500 ms"), "{text}");
    }

    #[test]
    fn each_broken_promise_is_named() {
        let mut slow = row("slow", 100_000, 1.0);
        slow["cold"]["wall_s"] = 9.0.into();
        slow["gc"]["peak"] = 600_000_000.into();
        let error = judge(&results(vec![slow, row("b", 1_000_000, 20.0)])).unwrap_err();
        for part in ["opens cold", "`gc` holds 600.0 MB", "2.0 times"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
        let mut speed = results(Vec::new());
        let way = |name: &str, add: f64, verify: f64| {
            json!({ "way": name, "raw": 1e9, "stored": 5,
                    "add": { "cpu_s": add }, "verify": { "cpu_s": verify } })
        };
        speed["speed"] = json!({ "ways": [way("repository", 1.0, 0.6), way("sealed", 1.2, 0.4)] });
        let error = judge(&speed).unwrap_err().message;
        assert!(
            error.contains("verify reads") && error.contains("sealing"),
            "{error}"
        );
        assert!(section(&speed).contains(" 1667 |"), "{}", section(&speed));
    }

    #[test]
    fn numbers_have_their_commas() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_000_000, "1,000,000"),
        ] {
            assert_eq!(thousands(n), text);
        }
    }
}

//! From what was read to tables, and whether the promises hold.

use std::fs;

use serde_json::Value;

use crate::bench::report::{machine, replace};
use crate::shell::{Context as _, Failure, Outcome, root};
use crate::table::{Table, bytes};

/// A file of the cache by HTTP, beside nginx with the plain file.
const KEPT_BESIDE_NGINX: f64 = 0.9;
/// Bytes a second that are decoded on the way to one client.
const DECODED: f64 = 1.5e9;
/// Bytes of memory for 64 clients.
const PEAK: u64 = 1_000_000_000;
/// A kept file of a mounted folder, beside the same file where the cache has it.
const KEPT_BESIDE_PLAIN: f64 = 0.95;
/// Bytes a second of a mounted file that is decoded.
const COLD: f64 = 1e9;
/// Loading tensors from a kept file may take so much of the time of the plain file.
const LOAD: f64 = 1.3;
/// Seconds to find 100,000 files.
const FIND_S: f64 = 10.0;

/// Shows the tables; with `save` puts them and the raw results into the repository.
pub(super) fn write(results: &Value, save: bool) -> Outcome {
    let mut results = results.clone();
    results["machine"] = machine()?.into();
    let text = section(&results);
    print!("\n{text}");
    if !save {
        return Ok(());
    }
    let raw = root().join("bench/results/reading.json");
    let pretty = serde_json::to_string_pretty(&results).context(raw.display())?;
    fs::write(&raw, pretty + "\n").context(raw.display())?;
    let path = root().join("docs/benchmarks.md");
    let old = fs::read_to_string(&path).context(path.display())?;
    let new = replace(&old, "reading", &text)
        .ok_or_else(|| Failure::failed("docs/benchmarks.md: no markers for `reading`"))?;
    fs::write(&path, new).context(path.display())
}

fn section(results: &Value) -> String {
    let mut out = format!(
        "Machine: {}. {} of BF16, medians of {}.\n\n",
        results["machine"].as_str().unwrap_or_default(),
        bytes(results["len"].as_u64().unwrap_or(0)),
        results["rounds"],
    );
    let mut table = Table::new(&["door", "GB/s"]);
    let mounted = &results["mounted"];
    for (door, rows) in [
        ("HTTP: ", &results["http"]),
        ("mounted: ", &mounted["warm"]),
        ("mounted: ", &mounted["cold"]),
        ("safetensors, mounted: ", &mounted["load"]),
    ] {
        for row in array(rows) {
            let way = row["way"].as_str().unwrap_or_default();
            table.row([format!("{door}{way}"), giga(&row["rate"])]);
        }
    }
    out.push_str(&table.markdown());
    let clients = &results["clients"];
    let seconds = |value: &Value| format!("{:.1} s", value.as_f64().unwrap_or(f64::NAN));
    out.push_str(&format!(
        "\n{} clients at once, {} each, decoded on the way: {} GB/s in all, {} failed, the fastest after {}, the \
         slowest after {}, {} of memory at most.\n",
        clients["n"],
        bytes(clients["len"].as_u64().unwrap_or(0)),
        giga(&clients["rate"]),
        clients["failed"],
        seconds(&clients["fastest_s"]),
        seconds(&clients["slowest_s"]),
        bytes(clients["peak"].as_u64().unwrap_or(0)),
    ));
    for row in array(&mounted["random"]) {
        out.push_str(&format!(
            "Random reads of 4 KiB, one at a time, {}: {:.0} a second.\n",
            row["way"].as_str().unwrap_or_default(),
            row["reads_a_second"].as_f64().unwrap_or(f64::NAN),
        ));
    }
    let find = seconds(&mounted["find_s"]);
    out + &format!("`find -type f -size +0` over 100,000 files of a mounted name: {find}.\n")
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn giga(rate: &Value) -> String {
    format!("{:.2}", rate.as_f64().unwrap_or(f64::NAN) / 1e9)
}

/// The rate of the row whose name has that word.
fn rate(rows: &Value, word: &str) -> Option<f64> {
    let row = array(rows).find(|row| row["way"].as_str().is_some_and(|way| way.contains(word)));
    row?["rate"].as_f64()
}

/// Says which promises do not hold. What could not be measured, as a tool is missing, is no broken
/// promise: its row is not there.
pub(super) fn judge(results: &Value) -> Outcome {
    let (http, mounted) = (&results["http"], &results["mounted"]);
    let mut broken = Vec::new();
    let mut at_least = |what: &str, got: Option<f64>, least: Option<f64>| {
        if let (Some(got), Some(least)) = (got, least)
            && got < least
        {
            let (got, least) = (got / 1e9, least / 1e9);
            broken.push(format!("{what}: {got:.2} GB/s, not {least:.2}"));
        }
    };
    let beside = |rows: &Value, word: &str, part: f64| Some(rate(rows, word)? * part);
    let nginx = beside(http, "nginx", KEPT_BESIDE_NGINX);
    at_least("kept, by HTTP", rate(http, "kept"), nginx);
    at_least("decoded, by HTTP", rate(http, "decoded"), Some(DECODED));
    let own = beside(&mounted["warm"], "own file", KEPT_BESIDE_PLAIN);
    at_least("kept, mounted", rate(&mounted["warm"], "kept"), own);
    at_least(
        "cold, mounted",
        rate(&mounted["cold"], "nothing"),
        Some(COLD),
    );
    let plain = beside(&mounted["load"], "plain", 1.0 / LOAD);
    at_least(
        "safetensors, mounted",
        rate(&mounted["load"], "kept"),
        plain,
    );
    let clients = &results["clients"];
    if clients["failed"] != 0 || clients["peak"].as_u64().is_some_and(|peak| peak > PEAK) {
        broken.push(format!("many clients: {clients}"));
    }
    if mounted["find_s"].as_f64().is_none_or(|s| s > FIND_S) {
        broken.push(format!("find takes {} s", mounted["find_s"]));
    }
    match broken.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(broken.join("\n"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn results(decoded: f64, peak: u64) -> Value {
        let way = |way: &str, rate: f64| json!({ "way": way, "rate": rate });
        json!({
            "http": [way("nginx, the plain file", 2e9), way("mmh, kept", 1.9e9), way("mmh, decoded", decoded)],
            "clients": { "failed": 0, "peak": peak },
            "mounted": {
                "warm": [way("the plain file", 6e9), way("own file", 5e9), way("kept", 4.9e9)],
                "cold": [way("nothing kept", 1.2e9)],
                "load": null, "random": null, "find_s": 2.0,
            },
        })
    }

    #[test]
    fn promises_are_judged_by_what_was_measured() {
        assert!(judge(&results(1.6e9, 500_000_000)).is_ok());
        let slow = judge(&results(1.4e9, 500_000_000)).unwrap_err();
        assert!(
            slow.message.contains("decoded, by HTTP: 1.40 GB/s"),
            "{}",
            slow.message
        );
        assert!(judge(&results(1.6e9, 2_000_000_000)).is_err());
        let mut kept = results(1.6e9, 0);
        kept["http"][1]["rate"] = 1.7e9.into();
        assert!(judge(&kept).is_err());
        kept["http"] = json!([]);
        assert!(judge(&kept).is_ok(), "nothing to compare with");
    }
}

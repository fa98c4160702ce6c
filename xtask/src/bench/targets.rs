//! What the codec is to reach, beside what it reached and what the peers reached in the same run.

use serde_json::Value;

use crate::table::{Table, percent};

/// One class of content. Sizes are per cent of the original, speeds 10^6 bytes of content for a CPU
/// second of one thread.
struct Target {
    /// What kind of content.
    class: &'static str,
    /// How the input's name begins in the results.
    input: &'static str,
    level: &'static str,
    size: f64,
    decode: f64,
    encode: f64,
}

const fn target(class: &'static str, input: &'static str, size: f64, decode: f64) -> Target {
    Target {
        class,
        input,
        level: "default",
        size,
        decode,
        encode: 0.0,
    }
}

const fn archive(class: &'static str, input: &'static str, size: f64) -> Target {
    Target {
        level: "archive",
        ..target(class, input, size, 30.0)
    }
}

const TARGETS: &[Target] = &[
    Target {
        encode: 1000.0,
        ..target("BF16 transformer", "derived/minilm-bf16.", 65.8, 4000.0)
    },
    archive("BF16 transformer", "derived/minilm-bf16.", 65.3),
    target("BF16 convolution", "derived/astra-bf16.", 66.2, 1200.0),
    archive("BF16 convolution", "derived/astra-bf16.", 65.7),
    target("F16", "derived/minilm-f16.", 84.5, 4000.0),
    archive("F16", "derived/minilm-f16.", 84.2),
    target("F32 transformer", "minilm/model.safetensors", 81.4, 4000.0),
    archive("F32 transformer", "minilm/model.safetensors", 81.1),
    target("F32 convolution", "derived/craft-f32.", 82.9, 4000.0),
    archive("F32 convolution", "derived/craft-f32.", 82.5),
    target(
        "F32 that was BF16",
        "derived/minilm-bf16-in-f32.",
        32.9,
        4000.0,
    ),
    archive("F32 that was BF16", "derived/minilm-bf16-in-f32.", 32.7),
    target("GGUF Q4_K_M", "qwen2.5-coder-0.5b-gguf/", 91.55, 1000.0),
    archive("GGUF Q4_K_M", "qwen2.5-coder-0.5b-gguf/", 90.8),
    target(
        "F16, container unknown to peers",
        "whisper-base/",
        85.0,
        0.0,
    ),
    target(
        "BF16 fine-tune given its base",
        "derived/tuned-80-bf16.safetensors given derived/minilm-bf16.",
        9.0,
        1200.0,
    ),
    target(
        "BF16 fine-tune given the step before",
        "derived/tuned-80-bf16.safetensors given derived/tuned-60-bf16.",
        5.4,
        1200.0,
    ),
    target(
        "F32 fine-tune given its base",
        "derived/tuned-80-f32.",
        41.5,
        1000.0,
    ),
    target(
        "Adam state given the one before",
        "derived/adam-80.safetensors given ",
        76.5,
        0.0,
    ),
    target("Adam state alone", "derived/adam-80.safetensors", 80.9, 0.0),
];

/// The table of targets, and the peers that are smaller somewhere.
pub(crate) fn section(results: &[Value]) -> String {
    let rows: Vec<&Value> = results
        .iter()
        .flat_map(|all| all["results"].as_array().into_iter().flatten())
        .filter(|row| !row["error"].is_string())
        .collect();
    let mut table = Table::new(&[
        "class",
        "level",
        "of raw",
        "at most",
        "encode MB/s",
        "at least",
        "decode MB/s",
        "at least",
        "met",
        "best peer",
    ]);
    for target in TARGETS {
        table.row(line(target, &rows));
    }
    format!("{}\n{}", table.markdown(), exceptions(&rows))
}

fn line(target: &Target, rows: &[&Value]) -> [String; 10] {
    let own = format!("mmh codec {}", target.level);
    let of_input = |row: &&&Value| {
        let input = row["input"].as_str().unwrap_or_default();
        input.starts_with(target.input)
            && input.contains(" given ") == target.class.contains(" given ")
    };
    let found = rows
        .iter()
        .filter(of_input)
        .find(|row| row["peer"] == own.as_str());
    let best = rows
        .iter()
        .filter(of_input)
        .filter(|row| !is_ours(row))
        .min_by_key(|row| row["size"].as_u64());
    let number = |wanted: f64| {
        if wanted > 0.0 {
            format!("{wanted:.0}")
        } else {
            "–".to_owned()
        }
    };
    let (size, encode, decode, met) = match found {
        None => (
            "not measured".to_owned(),
            String::new(),
            String::new(),
            String::new(),
        ),
        Some(row) => {
            let (share, encode, decode) = (
                share(row),
                rate(row, "pack_cpu_s"),
                rate(row, "restore_cpu_s"),
            );
            let met = [
                share <= target.size,
                encode >= target.encode,
                decode >= target.decode,
            ];
            let met = if met == [true; 3] { "yes" } else { "**no**" };
            let text = |rate: f64| format!("{rate:.0}");
            (
                format!("{share:.2} %"),
                text(encode),
                text(decode),
                met.to_owned(),
            )
        }
    };
    [
        target.class.to_owned(),
        target.level.to_owned(),
        size,
        format!("{} %", target.size),
        encode,
        number(target.encode),
        decode,
        number(target.decode),
        met,
        best.map_or_else(
            || "–".to_owned(),
            |row| {
                format!(
                    "{} {} at {:.0}",
                    row["peer"].as_str().unwrap_or("?"),
                    percent(
                        row["size"].as_u64().unwrap_or(0),
                        row["raw"].as_u64().unwrap_or(0)
                    ),
                    rate(row, "restore_cpu_s")
                )
            },
        ),
    ]
}

fn is_ours(row: &Value) -> bool {
    row["peer"]
        .as_str()
        .is_some_and(|peer| peer.starts_with("mmh"))
}

#[allow(clippy::cast_precision_loss, reason = "for display")]
fn share(row: &Value) -> f64 {
    let of = |key: &str| row[key].as_u64().unwrap_or(0) as f64;
    100.0 * of("size") / of("raw").max(1.0)
}

#[allow(clippy::cast_precision_loss, reason = "for display")]
fn rate(row: &Value, key: &str) -> f64 {
    let seconds = row[key].as_f64().unwrap_or(0.0);
    if seconds > 0.0 {
        row["raw"].as_u64().unwrap_or(0) as f64 / 1e6 / seconds
    } else {
        0.0
    }
}

/// Names every peer that is smaller than level `default` on an input, with how much slower it decodes.
fn exceptions(rows: &[&Value]) -> String {
    let mut lines = String::new();
    for own in rows.iter().filter(|row| row["peer"] == "mmh codec default") {
        let same = |row: &&&Value| row["input"] == own["input"] && !is_ours(row);
        for peer in rows.iter().filter(same) {
            if peer["size"].as_u64() >= own["size"].as_u64() {
                continue;
            }
            let slower = rate(own, "restore_cpu_s") / rate(peer, "restore_cpu_s").max(0.001);
            lines.push_str(&format!(
                "- {} is smaller than level `default` on {} ({:.2} % against {:.2} %), and decodes at 1/{slower:.1} of its speed.\n",
                peer["peer"].as_str().unwrap_or("?"),
                own["input"].as_str().unwrap_or("?"),
                share(peer),
                share(own),
            ));
        }
    }
    if lines.is_empty() {
        "No peer is smaller than level `default` on any of these inputs.\n".to_owned()
    } else {
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(input: &str, peer: &str, size: u64, seconds: f64) -> Value {
        json!({ "input": input, "peer": peer, "raw": 1_000_000_000u64, "size": size,
                "pack_cpu_s": seconds, "restore_cpu_s": seconds, "identical": true })
    }

    #[test]
    fn a_target_is_met_only_in_size_and_both_speeds() {
        let rate = |size, seconds| {
            let rows = json!({ "results": [row("derived/minilm-bf16.safetensors", "mmh codec default", size, seconds)] });
            let text = section(&[rows]);
            let line = text.lines().nth(2).unwrap().to_owned();
            line.contains("| yes ")
        };
        assert!(rate(657_000_000, 0.2));
        assert!(!rate(659_000_000, 0.2), "too large");
        assert!(!rate(657_000_000, 0.5), "too slow to decode");
    }

    #[test]
    fn what_was_not_measured_is_said_to_be_so() {
        let text = section(&[]);
        assert_eq!(text.matches("not measured").count(), TARGETS.len());
    }

    #[test]
    fn smaller_peers_are_named_with_their_speed() {
        let rows = json!({ "results": [
            row("a", "mmh codec default", 600, 1.0), row("a", "slow", 500, 30.0), row("a", "large", 700, 0.1),
            json!({ "input": "a", "peer": "broken", "error": "none" }),
        ] });
        let text = section(&[rows]);
        assert!(
            text.contains("- slow is smaller") && text.contains("1/30.0"),
            "{text}"
        );
        assert!(!text.contains("large is smaller"));
    }

    /// A file alone and the same file given another are two inputs.
    #[test]
    fn a_file_alone_is_not_taken_for_the_file_given_its_base() {
        let given = "derived/adam-80.safetensors given derived/adam-60.safetensors";
        let rows = json!({ "results": [
            row(given, "mmh codec default", 700_000_000, 1.0),
            row("derived/adam-80.safetensors", "mmh codec default", 800_000_000, 1.0),
        ] });
        let text = section(&[rows]);
        let line = |class: &str| text.lines().find(|l| l.contains(class)).unwrap().to_owned();
        assert!(line("Adam state alone").contains("80.00 %"), "{text}");
        assert!(line("Adam state given").contains("70.00 %"), "{text}");
    }
}

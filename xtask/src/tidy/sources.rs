//! Rust files: first lines, lengths of files and functions, ignored tests, tests beside code.

use std::collections::BTreeMap;

use super::Tracked;
use super::limits::Limits;
use crate::table::Table;

/// Findings about the sources; prints the figures that are only watched.
pub(crate) fn check(files: &[Tracked], limits: &Limits) -> Vec<String> {
    let sources: Vec<&Tracked> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
        .collect();
    let mut findings = Vec::new();
    for file in &sources {
        if !file.text.starts_with("//! ") {
            findings.push(format!(
                "{}: the first line must be a `//!` sentence",
                file.path
            ));
        }
        let lines = file.text.lines().count();
        if lines > limits.file_lines_max {
            let limit = limits.file_lines_max;
            findings.push(format!("{}: {lines} lines, more than {limit}", file.path));
        }
        let ignored = ["#[ign", "ore"].concat();
        for (idx, _) in file
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains(&ignored))
        {
            findings.push(format!("{}:{}: no test may be ignored", file.path, idx + 1));
        }
    }
    findings.extend(long_functions(&sources, limits));
    let counted: Vec<&Tracked> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs") || is_python(file))
        .collect();
    findings.extend(test_lines(&counted, limits));
    findings
}

/// The ratchet on function lengths.
fn long_functions(sources: &[&Tracked], limits: &Limits) -> Vec<String> {
    let mut count = 0usize;
    let mut long = Vec::new();
    for file in sources {
        for (name, line, lines) in functions(&file.text) {
            count += 1;
            if lines > limits.function_lines {
                long.push(format!("{}:{line}: `{name}` has {lines} lines", file.path));
            }
        }
    }
    let share = ratio(long.len(), count) * 100.0;
    println!(
        "functions: {count}, longer than {} lines: {} ({share:.1} %)",
        limits.function_lines,
        long.len()
    );
    if share > limits.long_functions_percent_max {
        long
    } else {
        Vec::new()
    }
}

/// Name, first line (from 1) and number of lines of each function with a body, in formatted code.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (idx, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        // The head ends in `{` (a body follows), `;` (none) or `}` (all on one line).
        let head = lines[idx..]
            .iter()
            .position(|line| line.ends_with(['{', ';', '}']));
        let Some(head) = head
            .map(|more| idx + more)
            .filter(|at| lines[*at].ends_with('{'))
        else {
            continue;
        };
        if let Some(body) = lines[head..].iter().position(|line| *line == close) {
            found.push((name, idx + 1, head + body - idx + 1));
        }
    }
    found
}

/// The name of the function that a line begins to define.
fn function_name(line: &str) -> Option<String> {
    let (before, after) = line
        .trim_start()
        .split_once("fn ")
        .filter(|(_, after)| after.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))?;
    let qualifiers = ["const", "async", "unsafe", "extern", "\"C\"", "default"];
    let mut words = before.split_whitespace();
    let plain = words
        .all(|word| word.starts_with("pub") || qualifiers.contains(&word) || word.ends_with(')'));
    plain.then(|| {
        after
            .split(['(', '<'])
            .next()
            .unwrap_or_default()
            .to_owned()
    })
}

/// Lines of code and of test, neither blank nor comment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Lines {
    code: usize,
    test: usize,
}

/// Whether a file is Python of the product: a crate's, or tests of one.
fn is_python(file: &Tracked) -> bool {
    file.path.starts_with("crates/") && file.path.ends_with(".py")
}

/// The ratchet on tests, with a table by crate.
fn test_lines(sources: &[&Tracked], limits: &Limits) -> Vec<String> {
    let marked: Vec<String> = sources.iter().flat_map(|file| test_modules(file)).collect();
    let mut by_crate: BTreeMap<&str, Lines> = BTreeMap::new();
    for file in sources {
        let folder = file.path.strip_prefix("crates/").unwrap_or(&file.path);
        let name = folder.split('/').next().unwrap_or(folder);
        let is_test = file.path.contains("/tests/")
            || marked.iter().any(|module| {
                let rest = file.path.strip_prefix(module.as_str());
                rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            });
        let lines = match is_python(file) {
            true => count_python(&file.text, is_test),
            false => count(&file.text, is_test),
        };
        let sum = by_crate.entry(name).or_default();
        sum.code += lines.code;
        sum.test += lines.test;
    }
    let mut table = Table::new(&["crate", "code", "test", "test / code"]);
    let mut all = Lines::default();
    let row = |name: &str, lines: Lines| {
        let share = format!("{:.2}", ratio(lines.test, lines.code));
        [
            name.to_owned(),
            lines.code.to_string(),
            lines.test.to_string(),
            share,
        ]
    };
    for (name, lines) in &by_crate {
        table.row(row(name, *lines));
        // Most of xtask is itself trials of the product, so it does not count on either side.
        if *name != "xtask" {
            all.code += lines.code;
            all.test += lines.test;
        }
    }
    table.row(row("product", all));
    print!("{}", table.text());
    let least = limits.test_lines_per_code_line_min;
    if all.code > 0 && ratio(all.test, all.code) < least {
        return vec![format!(
            "{} lines of test for {} of code, less than {least:.2}",
            all.test, all.code
        )];
    }
    Vec::new()
}

/// Whether an attribute makes what follows part of the tests.
fn is_test_mark(line: &str) -> bool {
    line.starts_with("#[cfg(")
        && (line.contains("test)") || line.contains("test,") || line.contains("\"testing\""))
}

/// Paths, without ending, of the modules that a file declares for tests only.
fn test_modules(file: &Tracked) -> Vec<String> {
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let stem = name.trim_end_matches(".rs");
    let inside = match stem {
        "lib" | "main" | "mod" => folder.to_owned(),
        _ => format!("{folder}/{stem}"),
    };
    let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
    let mut modules = Vec::new();
    for (idx, _) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| is_test_mark(line))
    {
        let declared = lines[idx + 1..]
            .iter()
            .find(|line| !line.starts_with("#[") && !line.starts_with("//"));
        let module = declared
            .and_then(|line| line.strip_suffix(';'))
            .and_then(|line| line.split_once("mod "));
        if let Some((_, name)) = module {
            modules.push(format!("{inside}/{name}"));
        }
    }
    modules
}

/// Counts a file's lines; blocks under a test mark belong to the tests.
fn count(text: &str, is_test: bool) -> Lines {
    let mut lines = Lines::default();
    let mut close: Option<String> = None;
    let mut marked = false;
    for line in text.lines() {
        let word = line.trim();
        if word.is_empty() || word.starts_with("//") {
            continue;
        }
        marked |= is_test_mark(word);
        if is_test || marked || close.is_some() {
            lines.test += 1;
        } else {
            lines.code += 1;
        }
        if marked && close.is_none() && !word.starts_with('#') {
            // The marked item begins here: a block lasts to its closing brace, anything else a line.
            let indent = line.len() - line.trim_start().len();
            close = word
                .ends_with('{')
                .then(|| format!("{}}}", " ".repeat(indent)));
            marked = false;
        } else if close.as_deref() == Some(line) {
            close = None;
        }
    }
    lines
}

/// Counts a file of Python; its documentation, which is text, does not count here either.
fn count_python(text: &str, is_test: bool) -> Lines {
    const QUOTES: &str = "\"\"\"";
    let (mut n, mut documents) = (0, false);
    for line in text.lines().map(str::trim) {
        let quotes = line.matches(QUOTES).count();
        if documents || line.starts_with(QUOTES) {
            documents ^= quotes == 1;
        } else if !line.is_empty() && !line.starts_with('#') {
            n += 1;
        }
    }
    match is_test {
        true => Lines { code: 0, test: n },
        false => Lines { code: n, test: 0 },
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "counts of lines and functions")]
    let (part, whole) = (part as f64, whole.max(1) as f64);
    part / whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Tracked {
        Tracked {
            path: path.into(),
            text: text.into(),
        }
    }

    #[test]
    fn functions_are_measured_from_head_to_brace() {
        let text = "fn one() {}\n\npub(crate) const fn two(\n    a: u8,\n) -> u8 {\n    a\n}\n\
                    trait T {\n    fn three(&self);\n    async fn four() {\n        5;\n    }\n}\n";
        let found = functions(text);
        assert_eq!(
            found,
            [("two".to_owned(), 3, 5), ("four".to_owned(), 10, 3)]
        );
    }

    #[test]
    fn words_that_only_look_like_functions_are_left_alone() {
        for line in [
            "// fn x() {",
            "type F = fn (u8);",
            "let f: fn (u8) = g;",
            "a_fn call()",
            "\"fn x\"",
        ] {
            assert_eq!(function_name(line), None, "{line}");
        }
        assert_eq!(
            function_name("    pub(super) unsafe extern \"C\" fn f<T>(t: T)").unwrap(),
            "f"
        );
    }

    #[test]
    fn documentation_of_python_is_no_code() {
        let text = "\"\"\"Of the\n\nmodule.\"\"\"\n\nimport os\n\n# Why.\ndef f():\n    \"\"\"One line.\"\"\"\n    return \"\"\"text\"\"\"\n";
        assert_eq!(count_python(text, false), Lines { code: 3, test: 0 });
        assert_eq!(count_python(text, true), Lines { code: 0, test: 3 });
        let python = |path: &str| is_python(&file(path, ""));
        assert!(python("crates/a/python/x.py") && python("crates/a/tests/x.py"));
        assert!(!python("bench/peers.py") && !python("crates/a/src/x.rs"));
    }

    #[test]
    fn tests_are_told_from_code() {
        let text = "//! A.\n\nfn code() {\n    1;\n}\n\n#[cfg(test)]\nmod tests {\n    // why\n    fn t() {}\n}\nfn more() {}\n";
        assert_eq!(count(text, false), Lines { code: 4, test: 4 });
        assert_eq!(count(text, true), Lines { code: 0, test: 8 });
        let one = "#[cfg(any(test, feature = \"testing\"))]\npub mod samples;\nfn code() {}\n";
        assert_eq!(count(one, false), Lines { code: 1, test: 2 });
        assert_eq!(
            test_modules(&file("crates/a/src/lib.rs", one)),
            ["crates/a/src/samples"]
        );
        assert_eq!(
            test_modules(&file("crates/a/src/b.rs", one)),
            ["crates/a/src/b/samples"]
        );
        assert!(test_modules(&file("crates/a/src/lib.rs", text)).is_empty());
    }

    #[test]
    fn each_rule_finds_its_offence() {
        let limits = Limits::read().unwrap();
        let found = |text: &str| check(&[file("crates/a/tests/it/a.rs", text)], &limits);
        assert!(found("//! Good.\n").is_empty());
        assert_eq!(found("// Bad.\n").len(), 1);
        let long = format!("//! Long.\n{}", "// x\n".repeat(limits.file_lines_max));
        assert_eq!(found(&long).len(), 1);
        let body = "    1;\n".repeat(limits.function_lines);
        assert_eq!(found(&format!("//! F.\nfn f() {{\n{body}}}\n")).len(), 1);
        let ignored = format!("//! I.\n{}{}]\n", "#[ign", "ore");
        assert_eq!(found(&ignored).len(), 1);
        let untested = check(
            &[file("crates/a/src/lib.rs", "//! C.\nfn f() {}\n")],
            &limits,
        );
        assert_eq!(untested.len(), 1, "{untested:?}");
    }
}

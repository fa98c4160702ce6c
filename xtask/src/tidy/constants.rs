//! The constants that FORMAT.md states, compared with those in the sources.

use super::Tracked;

/// The first lists every limit, too.
const DOCUMENTS: [&str; 2] = ["docs/FORMAT.md", "docs/PROTOCOL.md"];
const SECTION: &str = "Constants";
/// Every public constant of this file must be in the table.
const COMPLETE: &str = "crates/mmh-core/src/limits.rs";

/// A row `| NAME | value | crate::module |` of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    name: &'a str,
    value: &'a str,
    path: &'a str,
}

/// A constant's value, as far as this evaluator goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u128),
    Text(String),
}

/// Findings: rows without a constant, values that differ, limits that are not listed.
pub(crate) fn check(files: &[Tracked]) -> Vec<String> {
    let mut findings = Vec::new();
    for name in DOCUMENTS {
        let rows = match files.iter().find(|file| file.path == name) {
            Some(document) => rows(&document.text),
            None => {
                findings.push(format!("{name} is missing"));
                continue;
            }
        };
        if rows.is_empty() {
            findings.push(format!(
                "{name} has no table of constants in a section `{SECTION}`"
            ));
            continue;
        }
        for row in &rows {
            if let Err(why) = compare(row, files) {
                findings.push(format!("{name}: {}: {why}", row.name));
            }
        }
        if name == DOCUMENTS[0] {
            findings.extend(unlisted(name, &rows, files));
        }
    }
    findings
}

/// Limits that a document does not list.
fn unlisted(name: &str, rows: &[Row<'_>], files: &[Tracked]) -> Vec<String> {
    let limits = files.iter().find(|file| file.path == COMPLETE);
    let limits = limits.map(|file| constants(&file.text)).unwrap_or_default();
    let unlisted = limits
        .into_iter()
        .filter(|(limit, _)| !rows.iter().any(|row| row.name == limit));
    unlisted
        .map(|(limit, _)| format!("{name} does not list {limit} of {COMPLETE}"))
        .collect()
}

/// The rows of the tables in the section, without their heads.
fn rows(text: &str) -> Vec<Row<'_>> {
    let mut inside = false;
    let mut rows = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            let title = line.trim_start_matches('#').trim();
            inside = title.trim_start_matches(|c: char| c.is_ascii_digit() || ". ".contains(c))
                == SECTION;
        }
        let cells: Vec<&str> = line
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        if let ["", name, value, path, ..] = cells[..]
            && inside
            && is_name(name)
        {
            rows.push(Row { name, value, path });
        }
    }
    rows
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase())
        && text
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Compares one row with the constant it names.
fn compare(row: &Row<'_>, files: &[Tracked]) -> Result<(), String> {
    let candidates = module_files(row.path);
    let mut candidates = candidates.iter();
    let source = candidates.find_map(|path| files.iter().find(|file| file.path == *path));
    let source = source.ok_or_else(|| format!("no source file for `{}`", row.path))?;
    let all = constants(&source.text);
    let found = all.iter().find(|(name, _)| *name == row.name);
    let (_, expression) = found.ok_or_else(|| format!("no such constant in {}", source.path))?;
    let in_code = evaluate(expression, &all, 0)
        .ok_or_else(|| format!("cannot evaluate `{expression}` in {}", source.path))?;
    let stated = evaluate(&row.value.replace(',', ""), &all, 0);
    let stated = stated.unwrap_or_else(|| Value::Text(row.value.to_owned()));
    if stated == in_code {
        return Ok(());
    }
    Err(format!(
        "the document says `{}`, {} says `{expression}`",
        row.value, source.path
    ))
}

/// Where `mmh_core::limits` may lie.
fn module_files(path: &str) -> Vec<String> {
    let mut parts = path.split("::");
    let folder = format!(
        "crates/{}/src",
        parts.next().unwrap_or_default().replace('_', "-")
    );
    let module: Vec<&str> = parts.collect();
    match module.join("/") {
        root if root.is_empty() => vec![format!("{folder}/lib.rs")],
        module => vec![
            format!("{folder}/{module}.rs"),
            format!("{folder}/{module}/mod.rs"),
        ],
    }
}

/// Names and expressions of the constants of a source file.
fn constants(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (idx, _) in text.match_indices("const ") {
        let before = text[..idx].lines().next_back().unwrap_or_default().trim();
        let rest = &text[idx + "const ".len()..];
        let Some((head, tail)) = rest.split_once('=') else {
            continue;
        };
        let name = head.split(':').next().unwrap_or_default().trim();
        if is_name(name) && (before.is_empty() || before.starts_with("pub")) {
            let expression = tail.split(';').next().unwrap_or_default().trim();
            found.push((name.to_owned(), expression.to_owned()));
        }
    }
    found
}

/// Evaluates numbers, `+ - * <<`, parentheses, casts, texts and names of other constants.
fn evaluate(expression: &str, all: &[(String, String)], depth: u8) -> Option<Value> {
    let text = expression.trim().trim_start_matches('*');
    if let Some(text) = text.strip_prefix('b').unwrap_or(text).strip_prefix('"') {
        return text
            .strip_suffix('"')
            .map(|text| Value::Text(text.to_owned()));
    }
    let words = words(text)?;
    let mut rest = words.as_slice();
    let number = shift(&mut rest, all, depth)?;
    rest.is_empty().then_some(Value::Number(number))
}

/// Splits an expression into numbers, names and operators; casts vanish.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_ascii_alphanumeric() || c == '_' {
            let mut word = String::from(c);
            while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || "_:".contains(*c)) {
                word.push(c);
            }
            words.push(word);
        } else if c == '<' {
            (chars.next() == Some('<')).then(|| words.push("<<".into()))?;
        } else if "+-*()".contains(c) {
            words.push(c.to_string());
        } else if !c.is_whitespace() {
            return None;
        }
    }
    while let Some(idx) = words.iter().position(|word| word == "as") {
        words.drain(idx..(idx + 2).min(words.len()));
    }
    Some(words)
}

/// `sum (<< sum)*`, the weakest binding of the operators here.
fn shift(rest: &mut &[String], all: &[(String, String)], depth: u8) -> Option<u128> {
    let mut value = sum(rest, all, depth)?;
    while take(rest, "<<") {
        value = value.checked_shl(u32::try_from(sum(rest, all, depth)?).ok()?)?;
    }
    Some(value)
}

/// `product ((+|-) product)*`
fn sum(rest: &mut &[String], all: &[(String, String)], depth: u8) -> Option<u128> {
    let mut value = product(rest, all, depth)?;
    loop {
        if take(rest, "+") {
            value = value.checked_add(product(rest, all, depth)?)?;
        } else if take(rest, "-") {
            value = value.checked_sub(product(rest, all, depth)?)?;
        } else {
            return Some(value);
        }
    }
}

/// `atom (* atom)*`
fn product(rest: &mut &[String], all: &[(String, String)], depth: u8) -> Option<u128> {
    let mut value = atom(rest, all, depth)?;
    while take(rest, "*") {
        value = value.checked_mul(atom(rest, all, depth)?)?;
    }
    Some(value)
}

/// A number, another constant, or an expression in parentheses.
fn atom(rest: &mut &[String], all: &[(String, String)], depth: u8) -> Option<u128> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    if first == "(" {
        let value = shift(rest, all, depth)?;
        return take(rest, ")").then_some(value);
    }
    if first.starts_with(|c: char| c.is_ascii_digit()) {
        return number(first);
    }
    let name = first.rsplit("::").next().unwrap_or(first);
    let (_, expression) = all.iter().find(|(other, _)| other == name)?;
    // Constants cannot be circular; the depth only guards against text that merely looks like them.
    match evaluate(
        expression,
        all,
        depth.checked_add(1).filter(|depth| *depth < 16)?,
    )? {
        Value::Number(value) => Some(value),
        Value::Text(_) => None,
    }
}

fn take(rest: &mut &[String], word: &str) -> bool {
    let found = rest.first().is_some_and(|first| first == word);
    if found {
        *rest = &rest[1..];
    }
    found
}

/// A literal of Rust, with underscores and a type suffix.
fn number(word: &str) -> Option<u128> {
    let plain = word.replace('_', "");
    let suffix = ["usize", "u128", "u64", "u32", "u16", "u8", "i64", "i32"];
    let plain = suffix
        .iter()
        .find_map(|s| plain.strip_suffix(s))
        .unwrap_or(&plain);
    match plain.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => plain.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "//! C.\n/// A.\npub const A: usize = 4 << 20;\nconst B: u64 = A as u64 + 0x1_0;\n\
                          pub(crate) const MAGIC: [u8; 4] = *b\"MMHP\";\nconst LAST: u32 = (1 + 2) * 3 - 1;\n\
                          impl X { fn f() { const fn g() {} } }\n";

    fn files(table: &str, limits: &str) -> Vec<Tracked> {
        let file = |path: &str, text: &str| Tracked {
            path: path.into(),
            text: text.into(),
        };
        vec![
            file(
                DOCUMENTS[0],
                &format!("# Format\n## 9. Constants\n{table}\n## Next\n| OTHER | 1 | x |\n"),
            ),
            file(DOCUMENTS[1], "## Constants\n| `A` | 5 | `mmh_a::a` |\n"),
            file("crates/mmh-a/src/a.rs", "const A: u8 = 5;"),
            file("crates/mmh-a/src/b.rs", SOURCE),
            file("crates/mmh-a/src/lib.rs", "const A: u8 = 6;"),
            file(COMPLETE, limits),
        ]
    }

    #[test]
    fn expressions_are_evaluated_as_rust_does() {
        let all = constants(SOURCE);
        let value = |text: &str| evaluate(text, &all, 0);
        assert_eq!(all.len(), 4);
        for (text, number) in [
            ("A", 4 << 20),
            ("B", (4 << 20) + 16),
            ("LAST", 8),
            ("1 << 2 + 1", 8),
            ("7usize", 7),
        ] {
            assert_eq!(value(text), Some(Value::Number(number)), "{text}");
        }
        assert_eq!(value("MAGIC"), None, "a text is no number");
        assert_eq!(value("b\"MMHP\""), Some(Value::Text("MMHP".into())));
        for bad in [
            "", "1 +", "(1", "1)", "1 / 2", "NONE", "1 << 200", "1 - 2", "1 2", "<",
        ] {
            assert_eq!(value(bad), None, "{bad}");
        }
    }

    #[test]
    fn true_tables_pass_whatever_their_notation() {
        let table = "| name | value | where |\n|--|--|--|\n| `A` | 4,194,304 | `mmh_a::b` |\n\
                     | `B` | 0x400010 | `mmh_a::b` |\n| MAGIC | `MMHP` | mmh_a::b |\n| LAST | 8 | mmh_a::b |\n";
        assert_eq!(check(&files(table, "")), Vec::<String>::new());
    }

    #[test]
    fn drift_is_found() {
        let table = |row: &str| check(&files(row, "")).len();
        assert_eq!(table("| A | 5 | mmh_a::b |"), 1);
        assert_eq!(table("| MAGIC | MMHQ | mmh_a::b |"), 1);
        assert_eq!(table("| NONE | 5 | mmh_a::b |"), 1);
        assert_eq!(table("| A | 4 << 20 | mmh_a::c |"), 1);
        assert_eq!(table("| A | 6 | mmh_a |"), 0, "the crate's own root");
        assert_eq!(table("no table"), 1);
        let unlisted = check(&files(
            "| A | 4 << 20 | mmh_a::b |",
            "pub const NEW_MAX: u8 = 1;\n",
        ));
        assert_eq!(unlisted.len(), 1, "{unlisted:?}");
        assert_eq!(check(&[]).len(), 2, "no document at all");
    }

    #[test]
    fn circular_text_ends() {
        let all = vec![
            ("A".to_owned(), "B".to_owned()),
            ("B".to_owned(), "A".to_owned()),
        ];
        assert_eq!(evaluate("A", &all, 0), None);
    }
}

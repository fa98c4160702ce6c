//! Dependencies: licences, banned crates, and the number of locked packages.

use serde_json::Value;

use super::Tracked;
use super::limits::Limits;
use crate::shell::{Context as _, Failure, Outcome, capture, cargo};

/// What cargo knows about the workspace; `--no-deps` leaves the registry's packages out.
pub(crate) fn metadata(args: &[&str]) -> Outcome<Value> {
    let mut command = cargo();
    command
        .args(["metadata", "--format-version=1", "--locked"])
        .args(args);
    serde_json::from_str(&capture(&mut command)?).context("cargo metadata")
}

/// Findings about every package that the lockfile can bring in.
pub(crate) fn check(resolved: &Value, files: &[Tracked], limits: &Limits) -> Outcome<Vec<String>> {
    let packages = resolved["packages"]
        .as_array()
        .ok_or_else(|| Failure::failed("cargo metadata lists no packages"))?;
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if let Some(reason) = limits.banned.get(name) {
            findings.push(format!("{name} is banned: {reason}"));
        }
        match package["license"].as_str() {
            None => findings.push(format!("{name} declares no SPDX licence")),
            Some(licence) if !allowed(licence, &limits.licences) => {
                findings.push(format!(
                    "{name} comes under `{licence}`, which is not in the list"
                ));
            }
            Some(_) => {}
        }
    }
    let lock = files.iter().find(|file| file.path == "Cargo.lock");
    let locked = lock.map_or(0, |lock| lock.text.matches("[[package]]").count());
    if locked != limits.locked_packages {
        findings.push(format!(
            "Cargo.lock has {locked} packages, xtask/limits.toml says {}: change it on purpose",
            limits.locked_packages
        ));
    }
    Ok(findings)
}

/// Whether an SPDX expression can be met with allowed licences only. `/` is the old form of OR.
fn allowed(expression: &str, list: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest, list) == Some(true) && rest.is_empty()
}

/// `both (OR both)*`; nothing where the expression is malformed.
fn either(rest: &mut &[&str], list: &[String]) -> Option<bool> {
    let mut value = both(rest, list)?;
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        value |= both(rest, list)?;
    }
    Some(value)
}

/// `one (AND one)*`
fn both(rest: &mut &[&str], list: &[String]) -> Option<bool> {
    let mut value = one(rest, list)?;
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        value &= one(rest, list)?;
    }
    Some(value)
}

/// A licence id, perhaps `WITH` an exception, or an expression in parentheses.
fn one(rest: &mut &[&str], list: &[String]) -> Option<bool> {
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    if *first == "(" {
        let value = either(rest, list)?;
        let (close, tail) = rest.split_first()?;
        *rest = tail;
        return (*close == ")").then_some(value);
    }
    let mut id = (*first).to_owned();
    if let [with, exception, tail @ ..] = *rest
        && *with == "WITH"
    {
        id = format!("{id} WITH {exception}");
        *rest = tail;
    }
    Some(list.contains(&id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spdx_expressions_are_weighed() {
        let list = &[
            "MIT",
            "Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "Unicode-3.0",
        ];
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(allowed(good, &list), "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT WITH Odd-exception",
            "",
            "MIT OR",
            "(MIT",
            "MIT)",
            "MIT Apache-2.0",
            "LGPL-2.1 OR GPL-2.0",
        ] {
            assert!(!allowed(bad, &list), "{bad}");
        }
    }

    #[test]
    fn banned_unlicensed_and_surplus_packages_are_found() {
        let limits = Limits::read().unwrap();
        let lock = |count: usize| {
            vec![Tracked {
                path: "Cargo.lock".into(),
                text: "[[package]]\n".repeat(count),
            }]
        };
        let found = |name: &str, licence: Value, count: usize| {
            let packages =
                serde_json::json!({ "packages": [{ "name": name, "license": licence }] });
            check(&packages, &lock(count), &limits).unwrap().len()
        };
        let count = limits.locked_packages;
        assert_eq!(found("serde", "MIT".into(), count), 0);
        assert_eq!(found("bincode", "MIT".into(), count), 1);
        assert_eq!(found("serde", "GPL-3.0-only".into(), count), 1);
        assert_eq!(found("serde", Value::Null, count), 1);
        assert_eq!(found("serde", "MIT".into(), count + 1), 1);
    }
}

//! Who may depend on whom, over `cargo metadata --no-deps`.

use std::path::Path;

use serde_json::Value;

use super::limits::Limits;
use crate::shell::{Failure, Outcome};

/// Every arrow that the table does not allow, and every crate whose folder is named otherwise.
pub(crate) fn check(workspace: &Value, limits: &Limits) -> Outcome<Vec<String>> {
    let packages = workspace["packages"]
        .as_array()
        .ok_or_else(|| Failure::failed("cargo metadata lists no packages"))?;
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let folder = package["manifest_path"]
            .as_str()
            .map(Path::new)
            .and_then(Path::parent);
        if folder
            .and_then(Path::file_name)
            .is_none_or(|folder| folder != name)
        {
            findings.push(format!("{name}: the crate's folder must have its name"));
        }
        if !limits.arrows.contains_key(name) {
            findings.push(format!(
                "{name}: not in the table of arrows in xtask/limits.toml"
            ));
            continue;
        }
        let pure = limits.pure.crates.iter().any(|pure| pure == name);
        let used = package["dependencies"].as_array().into_iter().flatten();
        for used in used {
            let (used, dev) = (
                used["name"].as_str().unwrap_or_default(),
                used["kind"] == "dev",
            );
            let keeps = if dev { reaches } else { allows };
            if limits.arrows.contains_key(used) && !keeps(limits, name, used) {
                findings.push(format!("{name} must not depend on {used}"));
            }
            if pure && !dev && limits.pure.without.iter().any(|without| without == used) {
                findings.push(format!("{name} only computes, so it must not use {used}"));
            }
        }
    }
    Ok(findings)
}

/// Whether the table has this very arrow. The core is open to every crate of the product.
fn allows(limits: &Limits, name: &str, used: &str) -> bool {
    let open = used == "mmh-core" && name != "xtask";
    open || limits
        .arrows
        .get(name)
        .is_some_and(|allowed| allowed.iter().any(|one| one == used))
}

/// Whether arrows lead from one to the other: tests may use what lies anywhere below, and a crate
/// may depend on itself to turn on its features for tests.
fn reaches(limits: &Limits, name: &str, used: &str) -> bool {
    let allowed = limits.arrows.get(name).into_iter().flatten();
    name == used
        || allows(limits, name, used)
        || allowed.clone().any(|next| reaches(limits, next, used))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::packages::metadata;

    fn package(name: &str, folder: &str, uses: &[(&str, Option<&str>)]) -> Value {
        let uses: Vec<Value> = uses
            .iter()
            .map(|(name, kind)| serde_json::json!({ "name": name, "kind": kind }))
            .collect();
        serde_json::json!({
            "packages": [{
                "name": name,
                "manifest_path": format!("/x/crates/{folder}/Cargo.toml"),
                "dependencies": uses,
            }]
        })
    }

    /// The rule of the architecture, as a test over this very workspace.
    #[test]
    fn this_workspace_keeps_the_arrows() {
        let limits = Limits::read().unwrap();
        let findings = check(&metadata(&["--no-deps"]).unwrap(), &limits).unwrap();
        assert_eq!(findings, Vec::<String>::new());
    }

    #[test]
    fn wrong_arrows_are_found() {
        let limits = Limits::read().unwrap();
        let found = |package: Value| check(&package, &limits).unwrap();
        let good = package(
            "mmh-store",
            "mmh-store",
            &[("mmh-codec", None), ("mmh-core", None)],
        );
        assert!(found(good).is_empty());
        for bad in [
            package("mmh-store", "mmh-store", &[("mmh-formats", None)]),
            package("mmh-store", "mmh-store", &[("mmh-repo", Some("dev"))]),
            package("mmh-core", "mmh-core", &[("mmh-codec", None)]),
            package("mmh-codec", "mmh-codec", &[("tokio", None)]),
            package("xtask", "xtask", &[("mmh-store", None)]),
            package("mmh-store", "store", &[]),
            package("mmh-new", "mmh-new", &[]),
        ] {
            assert_eq!(found(bad.clone()).len(), 1, "{bad}");
        }
        let own = [("mmh-store", Some("dev")), ("mmh-codec", Some("dev"))];
        assert!(found(package("mmh-store", "mmh-store", &own)).is_empty());
        assert!(
            found(package(
                "mmh-cli",
                "mmh-cli",
                &[("mmh-formats", Some("dev"))]
            ))
            .is_empty()
        );
        assert_eq!(
            found(package("mmh-cli", "mmh-cli", &[("mmh-formats", None)])).len(),
            1
        );
        let dev = package("mmh-codec", "mmh-codec", &[("tokio", Some("dev"))]);
        assert!(
            found(dev).is_empty(),
            "tests of a pure crate may use what they need"
        );
    }

    /// The table itself must have no circle: each crate comes after those it may use.
    #[test]
    fn the_table_has_no_circle() {
        let limits = Limits::read().unwrap();
        let mut left: Vec<&String> = limits.arrows.keys().collect();
        while !left.is_empty() {
            let before = left.len();
            let waiting: Vec<&String> = left.clone();
            left.retain(|name| {
                limits.arrows[*name]
                    .iter()
                    .any(|used| waiting.contains(&used))
            });
            assert!(left.len() < before, "a circle among {left:?}");
        }
    }
}

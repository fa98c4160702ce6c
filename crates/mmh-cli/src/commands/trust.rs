//! `trust`: who may sign which names.

use std::io::{self, Write};

use mmh_core::NamePattern;
use mmh_core::name::RepoName;
use mmh_repo::key_folder::KeyFolder;
use mmh_repo::keys::{KeyId, KeyType};
use mmh_repo::trust::{Policy, Rule};
use serde_json::{Value, json};

use crate::args::sign::TrustCommand;
use crate::failure::Failure;
use crate::output::{DIM, GOOD, plain, styled};
use crate::session::Session;
use crate::trust::{Rules, file, policy_of};

/// Runs one of the commands.
pub(crate) fn trust(session: &Session, command: TrustCommand) -> Result<(), Failure> {
    match command {
        TrustCommand::Add { names, keys, need } => add(session, names, &keys, need),
        TrustCommand::List => list(session),
        TrustCommand::Rm { names, keys } => rm(session, &names, &keys),
        TrustCommand::Show { name } => show(session, &name),
        TrustCommand::Revoke { key, undo } => revoke(session, &key, undo),
    }
}

/// Changes the rules, unless what comes of it makes no sense.
fn change(
    session: &Session,
    change: impl FnOnce(&mut Rules, &KeyFolder) -> Result<(), Failure>,
) -> Result<Policy, Failure> {
    let (path, folder) = (file(session.folder()?), session.key_folder()?);
    let mut rules = Rules::read(&path)?;
    change(&mut rules, &folder)?;
    let policy = policy_of(rules.clone(), &folder)?;
    rules.write(&path)?;
    Ok(policy)
}

/// The id of a key that is here and that rules may name.
fn id_of(folder: &KeyFolder, text: &str) -> Result<KeyId, Failure> {
    let info = folder.find(text)?;
    if info.r#type == KeyType::P256.name() {
        let what = format!("`{text}` signs bundles for stock tools, which rules do not look at");
        return Err(Failure::invalid(what));
    }
    Ok(info.id.parse().map_err(mmh_repo::Error::from)?)
}

fn add(
    session: &Session,
    names: NamePattern,
    keys: &[String],
    need: Option<usize>,
) -> Result<(), Failure> {
    let pattern = names.clone();
    let policy = change(session, |rules, folder| {
        let ids = keys.iter().map(|key| id_of(folder, key));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        match rules.rules.iter_mut().find(|rule| rule.names == names) {
            Some(rule) => {
                rule.keys.extend(ids);
                rule.need = need.unwrap_or(rule.need);
            }
            None => rules.rules.push(Rule {
                names,
                keys: ids.into_iter().collect(),
                need: need.unwrap_or(1),
            }),
        }
        Ok(())
    })?;
    let rule = policy.rules().iter().find(|rule| rule.names == pattern);
    let value = rule.map(|rule| rule_json(&policy, rule));
    session.output.report(&value, |out| {
        write!(out, "{} ", styled(GOOD, "from now on:"))?;
        rule.map_or(Ok(()), |rule| print_rule(out, &policy, rule))
    })
}

fn called(policy: &Policy, rule: &Rule) -> Vec<String> {
    rule.keys.iter().map(|id| plain(&policy.call(id))).collect()
}

fn rule_json(policy: &Policy, rule: &Rule) -> Value {
    let ids: Vec<String> = rule.keys.iter().map(ToString::to_string).collect();
    let called = called(policy, rule);
    json!({ "names": rule.names, "need": rule.need, "keys": ids, "called": called })
}

fn print_rule(out: &mut dyn Write, policy: &Policy, rule: &Rule) -> io::Result<()> {
    let keys = called(policy, rule);
    let who = match rule.need {
        1 => keys.join(" or "),
        need => format!("{need} keys of: {}", keys.join(", ")),
    };
    writeln!(out, "{} must be signed by {who}", rule.names)
}

fn list(session: &Session) -> Result<(), Failure> {
    let policy = session.policy()?;
    let rules: Vec<Value> = policy
        .rules()
        .iter()
        .map(|r| rule_json(&policy, r))
        .collect();
    let revoked: Vec<String> = policy.revoked().iter().map(ToString::to_string).collect();
    let value = json!({ "rules": rules, "revoked": revoked });
    session.output.report(&value, |out| {
        for rule in policy.rules() {
            print_rule(out, &policy, rule)?;
        }
        for id in policy.revoked() {
            writeln!(out, "revoked: {}", plain(&policy.call(id)))?;
        }
        if policy.rules().is_empty() {
            let none = "no rules: nothing must be signed; `mmh trust add NAMES KEY` makes one";
            writeln!(out, "{}", styled(DIM, none))?;
        }
        Ok(())
    })
}

fn rm(session: &Session, names: &NamePattern, keys: &[String]) -> Result<(), Failure> {
    change(session, |rules, folder| {
        let at = rules.rules.iter().position(|rule| rule.names == *names);
        let Some(at) = at else {
            return Err(Failure::invalid(format!("there is no rule for `{names}`")));
        };
        if keys.is_empty() {
            rules.rules.remove(at);
            return Ok(());
        }
        for key in keys {
            let id = id_of(folder, key)?;
            if !rules
                .rules
                .get_mut(at)
                .is_some_and(|rule| rule.keys.remove(&id))
            {
                let what = format!("the rule for `{names}` does not name `{key}`");
                return Err(Failure::invalid(what));
            }
        }
        Ok(())
    })?;
    session.output.report(
        &json!({ "removed": names, "keys": keys }),
        |out| match keys {
            [] => writeln!(out, "{} the rule for {names}", styled(GOOD, "removed")),
            _ => writeln!(out, "{} from the rule for {names}", styled(GOOD, "removed")),
        },
    )
}

fn show(session: &Session, name: &RepoName) -> Result<(), Failure> {
    let policy = session.policy()?;
    let rule = policy.rule(name);
    let value = json!({ "name": name.as_str(), "rule": rule.map(|r| rule_json(&policy, r)) });
    session.output.report(&value, |out| match rule {
        None => writeln!(out, "{name} need not be signed: no rule fits it"),
        Some(rule) => {
            writeln!(out, "{name} is decided by the rule for {}:", rule.names)?;
            print_rule(out, &policy, rule)
        }
    })
}

fn revoke(session: &Session, key: &str, undo: bool) -> Result<(), Failure> {
    let mut done = None;
    let policy = change(session, |rules, folder| {
        let id = match key.parse::<KeyId>() {
            Ok(id) => id,
            Err(_) => id_of(folder, key)?,
        };
        match undo {
            true => rules.revoked.remove(&id),
            false => rules.revoked.insert(id),
        };
        done = Some(id);
        Ok(())
    })?;
    let called = done.map(|id| plain(&policy.call(&id))).unwrap_or_default();
    let value = json!({ "key": done.map(|id| id.to_string()), "revoked": !undo });
    session.output.report(&value, |out| {
        let what = if undo { "counts again:" } else { "revoked:" };
        writeln!(out, "{} {called}", styled(GOOD, what))
    })
}

//! What is different about a server's users of runs. Pure.
//!
//! Servers print a user's rules in words of their own, and each version in others. So rules are not compared with
//! ours but with what the same server printed for a user that we had just set: its [`Shape`], which all runs share.

use std::collections::{BTreeMap, BTreeSet};

use runcast_bus::AclUser;
use runcast_protocol::RunId;

/// A user's rules as a server prints them, without its run and its passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(String);

/// What is to be done with a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is to have these passwords and our rules.
    Set {
        /// The run.
        run: RunId,
        /// SHA-256 of its passwords.
        sums: Vec<String>,
        /// Why, for people.
        why: Why,
    },
    /// It should not be there.
    Delete {
        /// Its name.
        name: String,
    },
}

/// What was wrong about a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was not there.
    Missing,
    /// It lacked a password.
    Password,
    /// It had a password that is good no longer: who came in with it must go.
    OldPassword,
    /// It had other rules.
    Rules,
}

impl Why {
    /// As metrics and logs say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Password => "password",
            Self::OldPassword => "old password",
            Self::Rules => "rules",
        }
    }
}

/// A line of `ACL LIST`: `user <name> <flags, #sums and rules>`.
fn parse(line: &str) -> Option<(&str, BTreeSet<&str>, String)> {
    let (name, rest) = line.strip_prefix("user ")?.split_once(' ')?;
    let (sums, rules): (Vec<&str>, Vec<&str>) = rest.split(' ').partition(|word| word.starts_with('#'));
    Some((name, sums.into_iter().map(|sum| &sum[1..]).collect(), rules.join(" ")))
}

impl Shape {
    /// The shape of a run's user, if it is among the lines of `ACL LIST`.
    pub fn of(run: &RunId, lines: &[String]) -> Option<Self> {
        let name = AclUser::name_of(run);
        let found = lines.iter().filter_map(|line| parse(line)).find(|(of, _, _)| *of == name);
        found.map(|(_, _, rules)| Self::without(run, &rules))
    }

    // Both are unmistakable: no rule has braces but around a run, and names stand between colons.
    fn without(run: &RunId, rules: &str) -> Self {
        let name = format!(":{}:", AclUser::name_of(run));
        Self(rules.replace(&format!("{{{run}}}"), "{}").replace(&name, "::"))
    }
}

/// What differs from `wanted` (run → sums) among a server's users. Users that are not runs' are none of our business.
pub fn changes(
    lines: &[String],
    wanted: &BTreeMap<RunId, Vec<String>>,
    shape: Option<&Shape>,
) -> Vec<Change> {
    let (mut there, mut changes) = (BTreeSet::new(), Vec::new());
    for (name, sums, rules) in lines.iter().filter_map(|line| parse(line)) {
        let Some(run) = AclUser::run_of(name) else { continue };
        let Some((run, good)) = run.ok().and_then(|run| wanted.get_key_value(&run)) else {
            changes.push(Change::Delete { name: name.to_owned() });
            continue;
        };
        there.insert(run);
        let good_sums: BTreeSet<&str> = good.iter().map(String::as_str).collect();
        let why = if !sums.is_subset(&good_sums) {
            Some(Why::OldPassword)
        } else if sums != good_sums {
            Some(Why::Password)
        } else {
            shape.is_some_and(|shape| *shape != Shape::without(run, &rules)).then_some(Why::Rules)
        };
        changes.extend(why.map(|why| Change::Set { run: run.clone(), sums: good.clone(), why }));
    }
    let missing = wanted.iter().filter(|(run, _)| !there.contains(run));
    changes.extend(missing.map(|(run, sums)| Change::Set {
        run: run.clone(),
        sums: sums.clone(),
        why: Why::Missing,
    }));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_changed_and_only_of_runs() {
        let run = |id: &str| RunId::new(id).unwrap();
        let line = |id: &str, sums: &str, rules: &str| {
            format!("user runcast-run-{id} on {sums} &probe:runcast-run-{id}:* ~run:{{{id}}}:out {rules}")
        };
        let lines = [
            "user default on nopass ~* &* +@all".to_owned(),
            "user runcast-fanout on #ff +@all".to_owned(),
            line("a", "#01", "+get"),
            line("b", "#01 #02", "+get"),
            line("on", "#05", "+get"),
            line("wide", "#03", "+@all"),
            line("gone", "#04", "+get"),
            line("in/valid", "#04", "+get"),
        ];
        let wanted = [("a", "01"), ("b", "02"), ("on", "05"), ("wide", "03"), ("new", "06")];
        let wanted = wanted.iter().map(|(id, sum)| (run(id), vec![(*sum).to_owned()])).collect();
        let shape = Shape::of(&run("a"), &lines).unwrap();
        let set = |id: &str, sum: &str, why| Change::Set { run: run(id), sums: vec![sum.to_owned()], why };
        let delete = |id: &str| Change::Delete { name: format!("runcast-run-{id}") };
        assert_eq!(
            changes(&lines, &wanted, Some(&shape)),
            [
                set("b", "02", Why::OldPassword),
                set("wide", "03", Why::Rules),
                delete("gone"),
                delete("in/valid"),
                set("new", "06", Why::Missing),
            ]
        );
    }
}

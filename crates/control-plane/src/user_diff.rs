//! What is different about a server's users of runs. Pure.
//!
//! Servers tell a user's rules in words of their own, and each version in others. So rules are not compared with
//! ours but with what the same server told of a user that we had just set: its [`Shape`], which all runs share.

use std::collections::{BTreeMap, BTreeSet};

use runcast_bus::{AclUser, SeenUser};
use runcast_protocol::RunId;

/// A user's rules as a server tells them, without its run and its passwords.
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

impl Shape {
    /// The shape of a run's user that was just set.
    // Both are unmistakable: no rule has braces but around a run, and names stand between colons.
    pub fn of(run: &RunId, seen: &SeenUser) -> Self {
        let name = format!(":{}:", AclUser::name_of(run));
        Self(seen.rules.replace(&format!("{{{run}}}"), "{}").replace(&name, "::"))
    }
}

/// What the names of a server's users tell: what is to be changed, and which users are to be looked at. `wanted` is
/// run → sums, and `sure` what users were last known to have. Users that are not runs' are none of our business.
pub fn by_name(
    names: &[String],
    wanted: &BTreeMap<RunId, Vec<String>>,
    sure: &BTreeMap<RunId, Vec<String>>,
) -> (Vec<Change>, Vec<RunId>) {
    let (mut there, mut changes, mut unsure) = (BTreeSet::new(), Vec::new(), Vec::new());
    for name in names {
        let Some(run) = AclUser::run_of(name) else { continue };
        let Some((run, sums)) = run.ok().and_then(|run| wanted.get_key_value(&run)) else {
            changes.push(Change::Delete { name: name.clone() });
            continue;
        };
        there.insert(run);
        if sure.get(run) != Some(sums) {
            unsure.push(run.clone());
        }
    }
    let missing = wanted.iter().filter(|(run, _)| !there.contains(run));
    changes.extend(missing.map(|(run, sums)| Change::Set {
        run: run.clone(),
        sums: sums.clone(),
        why: Why::Missing,
    }));
    (changes, unsure)
}

/// What is wrong about a user that should have the passwords `sums`.
pub fn wrong(run: &RunId, sums: &[String], seen: &SeenUser, shape: &Shape) -> Option<Why> {
    let (has, good): (BTreeSet<_>, BTreeSet<_>) = (seen.sums.iter().collect(), sums.iter().collect());
    if !has.is_subset(&good) {
        Some(Why::OldPassword)
    } else if has != good {
        Some(Why::Password)
    } else {
        (*shape != Shape::of(run, seen)).then_some(Why::Rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str) -> RunId {
        RunId::new(id).unwrap()
    }

    #[test]
    fn names_tell_who_is_missing_or_stray_and_whom_to_look_at() {
        let names = ["default", "runcast-fanout", "a", "b", "gone", "in/valid"];
        let names = names.map(|name| {
            let of_run = !matches!(name, "default" | "runcast-fanout");
            if of_run { format!("runcast-run-{name}") } else { name.to_owned() }
        });
        let sums = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(id, sum)| (run(id), vec![(*sum).to_owned()])).collect::<BTreeMap<_, _>>()
        };
        let wanted = sums(&[("a", "01"), ("b", "02"), ("new", "03")]);
        let (changes, unsure) = by_name(&names, &wanted, &sums(&[("a", "01"), ("b", "01")]));
        let delete = |id: &str| Change::Delete { name: format!("runcast-run-{id}") };
        let set = Change::Set { run: run("new"), sums: vec!["03".into()], why: Why::Missing };
        assert_eq!(changes, [delete("gone"), delete("in/valid"), set]);
        assert_eq!(unsure, [run("b")]);
    }

    #[test]
    fn a_user_is_compared_with_the_shape_of_another() {
        let seen = |id: &str, sums: &[&str], rules: &str| SeenUser {
            sums: sums.iter().map(|sum| (*sum).to_owned()).collect(),
            rules: format!("on &probe:runcast-run-{id}:* ~run:{{{id}}}:out {rules}"),
        };
        let shape = Shape::of(&run("a"), &seen("a", &["01"], "+get"));
        for (sums, rules, expected) in [
            (&["02"][..], "+get", None),
            (&["02"], "+@all", Some(Why::Rules)),
            (&["02", "01"], "+get", Some(Why::OldPassword)),
            (&[], "+get", Some(Why::Password)),
        ] {
            let found = wrong(&run("on"), &["02".to_owned()], &seen("on", sums, rules), &shape);
            assert_eq!(found, expected, "{sums:?} {rules}");
        }
    }
}

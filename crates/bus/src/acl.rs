//! Redis users by least privilege: what each part of Runcast may do, and nothing else.
//!
//! The one place that says so. A command must be allowed, with all of its keys and channels, by one of a user's
//! selectors (Redis 7.0); what a script does is judged like what is sent. So reading, writing and publishing can be
//! told apart key by key, which a single list cannot: channel patterns have no `%R~` and `%W~`.

use std::fmt;

use runcast_protocol::{InvalidId, RunId, keys};

use crate::connection::PROBE;

/// What every connection needs: to begin, to be checked, and to find its way in a cluster or behind Sentinel.
const CONNECTION: [&str; 7] =
    ["+hello", "+ping", "+info", "+role", "+client|id", "+cluster|slots", "+cluster|info"];
/// What waits until an append is safe; Redis knows the second from 7.2 on, and refuses what it does not know.
const WAIT: [&str; 2] = ["+wait", "+waitaof"];
const SUBSCRIBE: &str = "+subscribe +unsubscribe +ssubscribe +sunsubscribe";
const READ: &str = "+hgetall +hget +xrange +xrevrange +evalsha_ro +eval_ro";

/// What agents write: each variation's own lanes, and what all of a run share.
const AGENTS: [&str; 6] = ["output:*", "logs:*", "status", "metrics", "acks", "letters"];
/// What a viewer may be shown.
const SHOWN: [&str; 11] = [
    "output:*",
    "logs:*",
    "status",
    "metrics",
    "acks",
    "letters",
    "control",
    "lanes",
    "snapshot:*",
    "past",
    "past:*",
];

/// What the names of runs' users begin with.
const OF_RUNS: &str = "runcast-run-";

/// A Redis user and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclUser {
    /// Its name.
    pub name: String,
    /// Rules of `ACL SETUSER`, an argument each; without a password.
    pub rules: Vec<String>,
}

impl AclUser {
    /// What the user of a run's sidecars is called.
    pub fn name_of(run: &RunId) -> String {
        format!("{OF_RUNS}{run}")
    }

    /// The run whose sidecars' user is called so: none if it is not a run's, and no valid one if it cannot be any's.
    pub fn run_of(name: &str) -> Option<Result<RunId, InvalidId>> {
        name.strip_prefix(OF_RUNS).map(RunId::new)
    }

    /// The sidecars of one run: they write this run's lanes, and nothing else.
    pub fn run(run: &RunId) -> Self {
        agents(Self::name_of(run), run.as_str()).finish()
    }

    /// `runcast-agents`: the sidecars of all runs, where nobody makes a user for each. One leaked password then tells
    /// of all runs, and lets its finder write them.
    pub fn all_runs() -> Self {
        agents("runcast-agents".into(), "*").finish()
    }

    /// `runcast-doctor`: sends messages the whole way, in runs of its own.
    pub fn doctor() -> Self {
        agents("runcast-doctor".into(), "doctor-*").select(SUBSCRIBE, &of_run("&", &["output:*"])).finish()
    }

    /// `runcast-fanout`: reads what viewers may be shown.
    pub fn fanout() -> Self {
        User::new("runcast-fanout".into(), "*")
            .select(&format!("{READ} +get"), &of_run("%R~", &SHOWN))
            .select("+exists", &named("%R~", &[keys::REPLAY_ALIVE]))
            .select("+publish +spublish", &named("&", &[keys::PAST_REQUESTS]))
            .select("+set +getdel", &named("~", &[&keys::ticket("*")]))
            .select(SUBSCRIBE, &of_run("&", &SHOWN[..7]).named("&", keys::REVOKED))
            .asks_of_tokens()
            .finish()
    }

    /// `runcast-control`: reads runs' control, acks and status, writes commands and what becomes of runs.
    pub fn control() -> Self {
        let ours = ["control", "status"];
        User::new("runcast-control".into(), "*")
            .add(&WAIT.join(" "))
            .add("+scan +time +cluster|shards")
            .select(
                &format!("{READ} +mget"),
                &of_run("%R~", &["control", "acks", "status", "lanes", "lease:*"]),
            )
            .select("+eval +evalsha +hget", &of_run("~", &ours).and("~", &["lanes"]))
            .select("+xadd +expire +publish +spublish", &of_run("%W~", &ours).and("&", &ours))
            .select("+hset +expire +hgetall", &of_run("~", &["lanes"]))
            .select(
                "+xadd +expire +publish +spublish",
                &named("%W~", &["runs:feed:*"]).named("&", "runs:feed:*"),
            )
            .select("+ttl +expire +del +memory|usage", &of_run("~", &["*"]))
            .select(SUBSCRIBE, &of_run("&", &["control", "acks", "status"]).named("&", keys::REVOKED))
            .asks_of_tokens()
            .select(
                "+set +publish +spublish",
                &named("%W~", &[&keys::revoked("*")]).named("&", keys::REVOKED),
            )
            .finish()
    }

    /// `runcast-replay`: reads everything of runs, writes read models, snapshots and what it lends from the archive,
    /// and puts dead letters back into their lanes. Writes no command.
    pub fn replay() -> Self {
        let models = ["snapshot:*", "summary"];
        let past = ["past", "past:*"];
        User::new("runcast-replay".into(), "*")
            .add("+scan")
            .select(&format!("{READ} +get +ttl +pttl"), &of_run("%R~", &["*"]))
            // Scripts over any keys of a run: letting it go takes them all. What they call is checked one by one.
            .select("+eval +evalsha +expire", &of_run("~", &["*"]))
            .select("+xadd +hset +pexpire", &of_run("%W~", &models))
            .select("+set +get +pexpire +del", &of_run("~", &["archiving"]))
            .select("+set +exists +unlink", &of_run("~", &past))
            .select("+set", &named("%W~", &[keys::REPLAY_ALIVE]))
            // Dead letters: the append script.
            .select("+xadd +publish +spublish", &of_run("%W~", &AGENTS).and("&", &AGENTS))
            .select("+hset", &of_run("%W~", &["lanes"]))
            .select("+xdel", &of_run("%W~", &["dead"]))
            .select(
                SUBSCRIBE,
                &of_run("&", &SHOWN[..7]).named("&", keys::PAST_REQUESTS).named("&", keys::REVOKED),
            )
            .asks_of_tokens()
            .finish()
    }

    /// May, besides, create and delete users: that is all that there is, for such a user can be given any right. Only
    /// for `runcast-control`, and only where it manages the users of runs.
    #[must_use]
    pub fn managing_users(mut self) -> Self {
        let commands = ["+acl|users", "+acl|getuser", "+acl|setuser", "+acl|deluser", "+client|kill"];
        self.rules.extend(commands.map(ToOwned::to_owned));
        self.rules.push(format!("(+eval +hget +hset +hdel +hgetall ~{})", keys::CREDENTIALS));
        self
    }

    /// The rules for a server that does not know `WAITAOF`: Redis before 7.2.
    #[must_use]
    pub fn before_7_2(mut self) -> Self {
        self.rules.retain(|rule| rule != WAIT[1]);
        self
    }
}

impl fmt::Display for AclUser {
    /// As it stands in `redis.conf` or an ACL file, but for the password: add `>password` or `#sha256` at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} {}", self.name, self.rules.join(" "))
    }
}

/// Those who write lanes, of one run or of several.
fn agents(name: String, run: &str) -> User {
    User::new(name, run)
        .add(&WAIT.join(" "))
        // The append script, and what it does.
        .select("+eval +evalsha +hget +xrevrange", &of_run("~", &AGENTS).and("~", &["lanes"]))
        .select("+xadd +expire +publish +spublish", &of_run("%W~", &AGENTS).and("&", &AGENTS))
        .select("+hset +expire +hgetall", &of_run("~", &["lanes"]))
        // Commands are read. They are heard, too, but that is no permission to say any.
        .select(READ, &of_run("%R~", &AGENTS).and("%R~", &["control", "lanes"]))
        .select(SUBSCRIBE, &of_run("&", &["control", "letters"]))
        .select("+set +del", &of_run("~", &["lease:*"]))
        .select("+xadd +expire", &of_run("%W~", &["dead"]))
}

/// Patterns of a selector; those of a run's keys are still to be told which run.
#[derive(Debug, Clone, Default)]
struct Patterns {
    of_run: Vec<(&'static str, String)>,
    named: Vec<String>,
}

fn of_run(prefix: &'static str, names: &[&str]) -> Patterns {
    Patterns::default().and(prefix, names)
}

fn named(prefix: &'static str, names: &[&str]) -> Patterns {
    names.iter().fold(Patterns::default(), |patterns, name| patterns.named(prefix, name))
}

impl Patterns {
    fn and(mut self, prefix: &'static str, names: &[&str]) -> Self {
        self.of_run.extend(names.iter().map(|name| (prefix, (*name).to_owned())));
        self
    }

    fn named(mut self, prefix: &'static str, name: &str) -> Self {
        self.named.push(format!("{prefix}{name}"));
        self
    }
}

/// A user in the making.
struct User {
    name: String,
    run: String,
    rules: Vec<String>,
}

impl User {
    /// Of one run, or of all with `*`.
    fn new(name: String, run: &str) -> Self {
        let rules = ["reset", "on"].into_iter().chain(CONNECTION).map(ToOwned::to_owned).collect();
        // Subscriptions are probed on a channel of the user's own.
        let probes = format!("(+publish {SUBSCRIBE} &{PROBE}{name}:*)");
        let mut user = Self { name, run: run.to_owned(), rules };
        user.rules.push(probes);
        user
    }

    fn add(mut self, rules: &str) -> Self {
        self.rules.extend(rules.split(' ').map(ToOwned::to_owned));
        self
    }

    fn select(mut self, commands: &str, patterns: &Patterns) -> Self {
        let run = &self.run;
        let of_run = patterns.of_run.iter().map(|(prefix, name)| format!("{prefix}run:{{{run}}}:{name}"));
        let patterns: Vec<String> = of_run.chain(patterns.named.iter().cloned()).collect();
        self.rules.push(format!("({commands} {})", patterns.join(" ")));
        self
    }

    /// What asks whether viewers' tokens were revoked.
    fn asks_of_tokens(self) -> Self {
        self.select("+exists", &named("%R~", &[&keys::revoked("*")]))
    }

    fn finish(self) -> AclUser {
        AclUser { name: self.name, rules: self.rules }
    }
}

//! The chart's Redis behind Sentinel, as it is in a cluster but for the pods: the scripts, configuration, users and TLS
//! that Helm renders, in a network that can be cut.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::proxy::{Cut, Proxy};
use crate::wait::eventually;

const PATIENCE: Duration = Duration::from_secs(90);

/// Three servers with a sentinel each, run by `scripts/chart/serve.py`. They end with this value.
#[derive(Debug)]
pub struct Chart {
    told: Value,
    proxies: Vec<Proxy>,
    servant: Mutex<Servant>,
}

#[derive(Debug)]
struct Servant {
    // Ends when its input does, and ends the servers before; if it were killed, they would stay.
    _process: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Servant {
    async fn answer(&mut self) -> Value {
        let line = self.answers.next_line().await.expect("a pipe").expect("serve.py has not ended");
        serde_json::from_str(&line).expect("JSON")
    }

    async fn order(&mut self, order: &Value) -> Value {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.expect("a pipe");
        self.answer().await
    }
}

impl Chart {
    /// Starts all, and waits until they know one another.
    ///
    /// # Panics
    /// If `scripts/tools.sh chart` was not called before, or there is no redis-server with TLS.
    pub async fn start() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut process = Command::new("python3")
            .arg(root.join("scripts/chart/serve.py"))
            .env("PYTHONPATH", root.join("target/tools/chart.python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let orders = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped")).lines();
        let mut servant = Servant { _process: process, orders, answers };
        let told = servant.answer().await;
        let port = told["port"].as_u64().and_then(|port| port.try_into().ok()).expect("a port");
        let address = |list: &str, index: usize| told[list][index].as_str().expect("an address").to_owned();
        let mut proxies = Vec::new();
        for index in 0..told["hosts"].as_array().expect("hosts").len() {
            let (at, to) = (address("hosts", index), address("behind", index));
            proxies.push(Proxy::start_at((&at, port), (&to, port)).await);
        }
        servant.order(&Value::Null).await;
        let chart = Self { told, proxies, servant: Mutex::new(servant) };
        chart.until_whole().await;
        chart
    }

    /// The address as the services take it.
    pub fn url(&self) -> String {
        self.text("url")
    }

    /// The authority that vouches for the servers.
    pub fn ca_file(&self) -> String {
        self.text("ca_file")
    }

    /// A user's password; none if the chart makes no such user.
    pub fn password(&self, user: &str) -> Option<String> {
        self.told["passwords"][user].as_str().map(ToOwned::to_owned)
    }

    /// What a service needs that is to be `user`, beside the address.
    ///
    /// # Panics
    /// If the chart makes no such user.
    pub fn settings(&self, user: &str) -> Vec<(String, String)> {
        let password = self.password(user).expect("a user that the chart makes");
        [("CA_FILE", self.ca_file()), ("USERNAME", user.to_owned()), ("PASSWORD", password)]
            .map(|(name, value)| (format!("RUNCAST__REDIS__{name}"), value))
            .into()
    }

    /// Which server the sentinels call the primary.
    pub async fn primary(&self) -> Option<usize> {
        self.order("primary", &[]).await.as_u64()?.try_into().ok()
    }

    /// kill -9 of a server.
    pub async fn kill9(&self, index: usize) {
        self.done("kill", &[&index.to_string()]).await;
    }

    /// kill -9 of a sentinel, and its restart.
    pub async fn restart_sentinel(&self, index: usize) {
        self.done("kill", &[&index.to_string(), "sentinel"]).await;
        self.done("start", &[&index.to_string(), "sentinel"]).await;
    }

    /// Ends a server and its sentinel as a rolling update does.
    pub async fn stop(&self, index: usize) {
        self.done("stop", &[&index.to_string()]).await;
    }

    /// Starts a server that was ended, or its sentinel (`sentinel`).
    pub async fn launch(&self, index: usize, script: &str) {
        self.done("start", &[&index.to_string(), script]).await;
    }

    /// SIGSTOP of a server, or SIGCONT.
    pub async fn freeze(&self, index: usize, frozen: bool) {
        self.done(if frozen { "freeze" } else { "thaw" }, &[&index.to_string()]).await;
    }

    /// Sends a server a command, as its administrator.
    pub async fn command(&self, index: usize, words: &[&str]) {
        let index = index.to_string();
        self.done("command", &[&[index.as_str()], words].concat()).await;
    }

    /// Cuts the network before a server, or mends it.
    pub fn cut(&self, index: usize, cut: Cut) {
        self.proxies[index].cut(cut);
    }

    /// Waits until another server than `old` is the primary.
    pub async fn until_promoted(&self, old: usize) {
        self.until("another primary was promoted", "promoted", &[&old.to_string()]).await;
    }

    /// Waits until all servers and sentinels are there and know one another.
    pub async fn until_whole(&self) {
        self.until("the release is whole", "whole", &[]).await;
    }

    /// What the servers refused to Runcast's users so far: nothing, if they are as they should be.
    pub async fn refusals(&self) -> Vec<String> {
        let refused = self.done("refusals", &[]).await;
        refused.as_array().expect("a list").iter().map(ToString::to_string).collect()
    }

    async fn until(&self, what: &str, name: &str, words: &[&str]) {
        eventually(what, PATIENCE, async || (self.order(name, words).await == true).then_some(())).await;
    }

    /// What must succeed.
    async fn done(&self, name: &str, words: &[&str]) -> Value {
        let answer = self.order(name, words).await;
        assert!(answer["error"].is_null(), "{name} {words:?}: {answer}");
        answer
    }

    async fn order(&self, name: &str, words: &[&str]) -> Value {
        let order = [&[name], words].concat();
        self.servant.lock().await.order(&json!(order)).await
    }

    fn text(&self, name: &str) -> String {
        self.told[name].as_str().expect("a text").to_owned()
    }
}

//! How each Redis server is can be seen at the control plane.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::collections::BTreeMap;
use std::time::Duration;

use runcast_bus::AclUser;
use runcast_testkit::{Cluster, Control, Redis, Sentinel, command, eventually, http_get};

const SOON: Duration = Duration::from_secs(60);
const OFTEN: (&str, &str) = ("RUNCAST__SERVERS__INTERVAL", "200ms");

/// What is told of the servers: a metric's name without its prefix, by port.
async fn told(control: &Control) -> BTreeMap<(String, u16), f64> {
    let (_, _, body) = http_get(&control.admin_url("/metrics"), &[]).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let lines = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("runcast_redis_server_")?.split_once('{')?;
        let (labels, value) = rest.split_once("} ")?;
        let port = labels.split_once("server_port=\"")?.1.split('"').next()?.parse().ok()?;
        Some(((name.to_owned(), port), value.trim().parse().ok()?))
    });
    lines.collect()
}

async fn until(control: &Control, what: &str, name: &str, wanted: &[(u16, f64)]) {
    eventually(what, SOON, async || {
        let told = told(control).await;
        let seen = told.iter().filter(|((of, _), _)| of == name).map(|((_, port), value)| (*port, *value));
        let mut wanted = wanted.to_vec();
        wanted.sort_by_key(|(port, _)| *port);
        seen.eq(wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_and_one_that_follows_nobody_are_seen() {
    let mut sentinel = Sentinel::start().await;
    let control = Control::start_with(&sentinel.url(), &[OFTEN]).await;
    let ports: Vec<u16> = sentinel.nodes.iter().map(Redis::port).collect();
    let all = |values: [f64; 3]| ports.iter().copied().zip(values).collect::<Vec<_>>();
    until(&control, "all are in step", "in_step", &all([1.0; 3])).await;
    let primary = sentinel.primary_index().await.unwrap();
    until(&control, "the primary has two replicas", "replicas", &[(ports[primary], 2.0)]).await;

    let replica = (primary + 1) % 3;
    sentinel.nodes[replica].kill9();
    let mut values = [1.0; 3];
    values[replica] = 0.0;
    until(&control, "one is away", "in_step", &all(values)).await;
    until(&control, "the primary has one replica", "replicas", &[(ports[primary], 1.0)]).await;
    sentinel.nodes[replica].restart().await;
    until(&control, "it is back", "in_step", &all([1.0; 3])).await;
    until(&control, "the primary has two again", "replicas", &[(ports[primary], 2.0)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_evictions_are_seen() {
    let redis = Redis::builder().set("maxmemory", "3mb").set("maxmemory-policy", "allkeys-lru").start().await;
    let control = Control::start_with(&redis.url(), &[OFTEN]).await;
    until(&control, "its limit", "memory_limit_bytes", &[(redis.port(), 3.0 * 1024.0 * 1024.0)]).await;
    until(&control, "nothing is evicted", "keys_evicted_total", &[(redis.port(), 0.0)]).await;
    let noise = "x".repeat(10_000);
    for number in 0..400 {
        redis.command(&["SET", &format!("key-{number}"), &noise]).await.unwrap();
    }
    eventually("keys are evicted, and memory is used", SOON, async || {
        let told = told(&control).await;
        let of = |name: &str| told[&(name.to_owned(), redis.port())];
        (of("keys_evicted_total") > 10.0 && of("memory_used_bytes") > 2e6).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_redis_user_may_ask_in_a_cluster_too() {
    let cluster = Cluster::start().await;
    let user = AclUser::control().before_7_2();
    for node in &cluster.nodes {
        let mut words = vec!["ACL".to_owned(), "SETUSER".into(), user.name.clone()];
        words.extend(user.rules.iter().cloned());
        words.push(">secret".into());
        assert_eq!(command(node.port(), &words).await.unwrap().text(), "OK");
    }
    let login =
        [("RUNCAST__REDIS__USERNAME", user.name.as_str()), ("RUNCAST__REDIS__PASSWORD", "secret"), OFTEN];
    let control = Control::start_with(&cluster.url(), &login).await;
    let all: Vec<_> = cluster.nodes.iter().map(|node| (node.port(), 1.0)).collect();
    until(&control, "all six are in step", "in_step", &all).await;
    for node in &cluster.nodes {
        let log = command(node.port(), &["ACL", "LOG"]).await.unwrap();
        assert!(log.items().is_empty(), "{}", log.text());
    }
}

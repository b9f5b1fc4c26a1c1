//! TLS with an authority of one's own, and ACL users.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use runcast_bus::{Appended, Bus, BusError, Incoming, Limits, RedisConfig, Subscriber};
use runcast_protocol::{Lane, RunId, Sequence};
use runcast_testkit::{Authority, Redis, eventually, free_port};

const LIMITS: Limits = Limits { ttl: Duration::from_secs(60), entries: 1000 };

#[tokio::test]
async fn tls_is_spoken_with_whom_the_authority_vouches_for_and_no_others() {
    let (authority, port) = (Authority::new(), free_port());
    let Some(redis) = Redis::builder().tls(port, &authority).start_if_able().await else { return };
    let url = format!("rediss://127.0.0.1:{port}");
    let ca_file = authority.ca_file().to_str().unwrap().to_owned();
    let bus = Bus::connect(&RedisConfig { ca_file, ..RedisConfig::new(&url) }).unwrap();
    eventually("it answers", Duration::from_secs(10), async || bus.ping().await.ok()).await;
    let mut inbox = Subscriber::connect(&bus).unwrap().inbox(8);
    inbox.subscribe(["news".to_owned()]).await;
    redis.command(&["PUBLISH", "news", "hello"]).await.unwrap();
    while inbox.next().await != Incoming::Payload("hello".into()) {}

    let other = Authority::new();
    for ca_file in [other.ca_file().to_str().unwrap(), ""] {
        let stranger =
            Bus::connect(&RedisConfig { ca_file: ca_file.into(), ..RedisConfig::new(&url) }).unwrap();
        assert!(stranger.ping().await.is_err(), "{ca_file:?} does not vouch for this server");
    }
    let plain = RedisConfig { ca_file: "ca.pem".into(), ..RedisConfig::new(redis.url()) };
    let Err(BusError::Config(why)) = Bus::connect(&plain) else { panic!("taken") };
    assert!(why.contains("rediss:"), "{why}");
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_lets_in_who_has_one() {
    let (authority, port) = (Authority::new(), free_port());
    let builder = Redis::builder().tls(port, &authority).set("tls-auth-clients", "yes");
    let Some(_redis) = builder.start_if_able().await else { return };
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let url = format!("rediss://127.0.0.1:{port}");
    let without = RedisConfig { ca_file: text(authority.ca_file()), ..RedisConfig::new(url) };
    let with = RedisConfig {
        cert_file: text(authority.cert_file()),
        key_file: text(authority.key_file()),
        ..without.clone()
    };
    let bus = Bus::connect(&with).unwrap();
    eventually("it answers", Duration::from_secs(10), async || bus.ping().await.ok()).await;
    assert!(Bus::connect(&without).unwrap().ping().await.is_err());
    let half = RedisConfig { key_file: String::new(), ..with };
    let Err(BusError::Config(why)) = Bus::connect(&half) else { panic!("taken") };
    assert!(why.contains("belong together"), "{why}");
}

#[tokio::test]
async fn an_acl_user_writes_its_run_and_is_refused_another() {
    let redis = Redis::start().await;
    let rules = ["ACL", "SETUSER", "agent", "on", ">secret", "~run:{mine}:*", "&run:{mine}:*"];
    let commands = [
        "+eval",
        "+evalsha",
        "+hget",
        "+hset",
        "+xadd",
        "+xrevrange",
        "+expire",
        "+publish",
        "+ping",
        "+hello",
    ];
    redis.command(&[&rules[..], &commands[..]].concat()).await.unwrap();
    let user = |password: &str| RedisConfig {
        username: "agent".into(),
        password: password.into(),
        ..RedisConfig::new(redis.url())
    };
    let lane: Lane = "output/var-1".parse().unwrap();
    let claim = async |bus: &Bus, run: &str| bus.claim(&RunId::new(run).unwrap(), &lane, LIMITS).await;
    let bus = Bus::connect(&user("secret")).unwrap();
    assert_eq!(claim(&bus, "mine").await.unwrap(), Appended::Done { last: Sequence::NONE, epoch: 1 });
    let refused = claim(&bus, "other").await.unwrap_err();
    assert!(matches!(refused, BusError::Rejected(_)), "{refused:?}");
    let wrong = Bus::connect(&user("guess")).unwrap();
    let error = claim(&wrong, "mine").await.unwrap_err();
    assert!(!format!("{error} {:?}", user("guess")).contains("guess"), "passwords are not shown");
}

#[tokio::test]
async fn a_password_in_a_file_can_change() {
    let redis = Redis::start().await;
    let user = async |password: &str| {
        let rules = ["ACL", "SETUSER", "agent", "reset", "on", password, "+@all", "~*", "&*"];
        redis.command(&rules).await.unwrap();
    };
    user(">first").await;
    let file = redis.folder().join("password");
    std::fs::write(&file, "first\n").unwrap();
    let config = RedisConfig {
        username: "agent".into(),
        password_file: file.to_str().unwrap().into(),
        ..RedisConfig::new(redis.url())
    };
    let bus = Bus::connect(&config).unwrap();
    bus.ping().await.unwrap();
    user(">second").await;
    redis.command(&["CLIENT", "KILL", "USER", "agent"]).await.unwrap();
    eventually("it is locked out", Duration::from_secs(10), async || bus.ping().await.err()).await;
    std::fs::write(&file, "second\n").unwrap();
    eventually("it is let in again", Duration::from_secs(10), async || bus.ping().await.ok()).await;

    let missing = RedisConfig { password_file: "/nowhere".into(), ..config };
    let Err(BusError::Config(why)) = Bus::connect(&missing) else { panic!("taken") };
    assert!(why.contains("redis.password_file") && why.contains("/nowhere"), "{why}");
}

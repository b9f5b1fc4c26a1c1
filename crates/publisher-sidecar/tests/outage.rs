//! Redis that comes late, goes and comes back; sidecars that are killed, restarted, doubled.

mod support;

use std::io::Write;

use runcast_protocol::State;
use runcast_testkit::{Cut, Redis, Sentinel, Sidecar, eventually};
use support::{Lanes, RUN, SOON, told};

fn sidecar(url: &str) -> Sidecar {
    Sidecar::new(url, RUN, "a")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_does_not_wait_for_a_redis_that_comes_late() {
    let mut redis = Redis::start().await;
    redis.kill9();
    let mut process = sidecar(&redis.url()).pipe();
    let mut stdin = process.child().stdin.take().expect("piped");
    // More than the pipe holds: it only goes in if somebody takes it out.
    let text = "0123456789abcdef\n".repeat(20_000);
    let said = text.clone();
    tokio::task::spawn_blocking(move || stdin.write_all(said.as_bytes()).expect("taken"))
        .await
        .expect("no panic");
    redis.restart().await;
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    let lanes = Lanes::of(&redis.url());
    assert!(lanes.text().await.expect("redis answers") == text, "not all of it");
    assert_eq!(lanes.states().await, [State::Running, State::Succeeded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_holds_the_agent_back_and_loses_nothing() {
    let mut redis = Redis::start().await;
    redis.kill9();
    // Where nothing but age makes safe, so small a queue would pass on 64 KiB every two seconds.
    let sidecar = sidecar(&redis.url()).set("RUNCAST__JOURNAL__FORGET_APPENDED", true);
    let mut process = sidecar.set("RUNCAST__QUEUE__MAX_BYTES", "64KiB").pipe();
    let mut stdin = process.child().stdin.take().expect("piped");
    let text = "0123456789abcdef\n".repeat(100_000);
    let said = text.clone();
    let agent = tokio::task::spawn_blocking(move || stdin.write_all(said.as_bytes()).expect("taken"));
    // The queue, what is being read, and the pipe hold nowhere near all of it.
    told(&process, "append failed").await;
    assert!(!agent.is_finished());
    redis.restart().await;
    agent.await.expect("no panic");
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert!(Lanes::of(&redis.url()).text().await.expect("redis answers") == text, "not all of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_when_redis_stays_away_is_told() {
    let mut redis = Redis::start().await;
    redis.kill9();
    let sidecar = sidecar(&redis.url()).set("RUNCAST__SHUTDOWN__DEADLINE", "500ms");
    let mut process = sidecar.exec(&["bash", "-c", "printf unheard; exit 4"]);
    assert_eq!(process.wait(SOON).await.code(), Some(4), "the agent's own code stays");
    // Running, and one word; the terminal status was not even begun.
    told(&process, "\"left\":2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_and_restarted_loses_nothing() {
    let mut redis = Redis::builder().appendonly().start().await;
    let lanes = Lanes::of(&redis.url());
    let mut process =
        sidecar(&redis.url()).exec(&["bash", "-c", "for i in {1..400}; do echo $i; sleep 0.005; done"]);
    for count in [20, 100] {
        let reached = async || lanes.messages("output/a").await.filter(|messages| messages.len() >= count);
        eventually("some output", SOON, reached).await;
        redis.kill9();
        redis.restart().await;
    }
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    let expected: String = (1..=400).map(|number| format!("{number}\n")).collect();
    assert_eq!(lanes.text().await.as_deref(), Some(expected.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_tell_is_asked_what_it_has_on_disk() {
    let redis = Redis::builder().appendonly().start().await;
    let mut process = sidecar(&redis.url()).exec(&["echo", "one"]);
    // It ends when all is safe.
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    let was_asked = !redis.info("cmdstat_waitaof").await.is_empty();
    assert_eq!(was_asked, redis.version().await >= (7, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_forgets_before_it_was_safe_is_sent_again() {
    for is_silent in [true, false] {
        let redis = Redis::start().await;
        let lanes = Lanes::of(&redis.url());
        let mut process = sidecar(&redis.url()).pipe();
        let mut stdin = process.child().stdin.take().expect("piped");
        stdin.write_all(b"one ").expect("taken");
        lanes.say("one ").await;
        redis.command(&["FLUSHALL"]).await.expect("flushed");
        if is_silent {
            // Nothing new is said: the loss is noticed all the same.
            lanes.say("one ").await;
        }
        stdin.write_all(b"two").expect("taken");
        lanes.say("one two").await;
        drop(stdin);
        assert_eq!(process.wait(SOON).await.code(), Some(0));
        assert_eq!(lanes.states().await, [State::Running, State::Succeeded]);
        told(&process, "sending again from there").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgot_what_was_let_go_of_is_gone_on_with() {
    let redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    let mut process = sidecar(&redis.url()).set("RUNCAST__JOURNAL__FORGET_APPENDED", true).pipe();
    let mut stdin = process.child().stdin.take().expect("piped");
    stdin.write_all(b"one").expect("taken");
    lanes.say("one").await;
    redis.command(&["FLUSHALL"]).await.expect("flushed");
    stdin.write_all(b"two").expect("taken");
    // Its number is 2 and stays 2: what was 1 is a hole that viewers are told of.
    let stream = format!("run:{{{RUN}}}:output:a");
    eventually("the next word", SOON, async || {
        let reply = redis.command(&["XRANGE", &stream, "2-0", "2-0"]).await.ok()?;
        reply.text().contains("two").then_some(())
    })
    .await;
    told(&process, "redis lost messages").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_continue_after_a_restart() {
    let redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    for word in ["one ", "two ", "three"] {
        let mut process = sidecar(&redis.url()).exec(&["printf", "%s", word]);
        assert_eq!(process.wait(SOON).await.code(), Some(0));
    }
    // `Lanes` checks the numbers.
    assert_eq!(lanes.text().await.as_deref(), Some("one two three"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_took_stays_when_the_sidecar_is_killed() {
    let redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    let mut process = sidecar(&redis.url()).exec(&["bash", "-c", "while :; do printf .; sleep 0.002; done"]);
    let said =
        eventually("some output", SOON, async || lanes.text().await.filter(|text| text.len() > 50)).await;
    process.kill9();
    let mut process = sidecar(&redis.url()).exec(&["printf", "again"]);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    let text = lanes.text().await.expect("redis answers");
    assert!(text.starts_with(&said) && text.ends_with(".again"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_dies_with_a_sidecar_that_is_killed() {
    let redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    let mut process = sidecar(&redis.url()).exec(&["bash", "-c", "printf $$; exec sleep 1000"]);
    let pid = eventually("its pid", SOON, async || lanes.text().await.filter(|text| !text.is_empty())).await;
    process.kill9();
    let gone = async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Dead, perhaps not yet collected by whoever inherited it.
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    };
    eventually("the agent is gone", SOON, gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sidecar_takes_over_from_the_first() {
    let redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    let mut first =
        sidecar(&redis.url()).exec(&["bash", "-c", "printf first; while :; do sleep 0.01; printf .; done"]);
    eventually("its output", SOON, async || lanes.text().await.filter(|text| text.contains("first."))).await;
    let mut second = sidecar(&redis.url()).exec(&["bash", "-c", "printf second; sleep 1000"]);
    assert_eq!(first.wait(SOON).await.code(), Some(69));
    told(&first, "another sidecar writes").await;
    eventually("its output", SOON, async || lanes.text().await.filter(|text| text.ends_with(".second")))
        .await;
    assert!(second.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_lost_in_a_failover_is_sent_again() {
    let mut sentinel = Sentinel::start_proxied().await;
    let lanes = Lanes::of(&sentinel.url());
    let mut process = sidecar(&sentinel.url()).pipe();
    let mut stdin = process.child().stdin.take().expect("piped");
    let mut said = String::new();
    let mut say = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let word = format!("{number} ");
            stdin.write_all(word.as_bytes()).expect("taken");
            said += &word;
        }
        said.clone()
    };
    lanes.say(&say(0..20)).await;
    let old = sentinel.primary_index().await.expect("a primary");
    // What the replicas do not get before it dies, the new primary never had.
    sentinel.proxies[old].cut(Cut { fellows: true, ..Cut::default() });
    lanes.say(&say(20..50)).await;
    sentinel.nodes[old].kill9();
    // The agent goes on all the while.
    say(50..100);
    sentinel.until_promoted(old).await;
    let all = say(100..150);
    drop(stdin);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert_eq!(lanes.text().await, Some(all));
    told(&process, "sending again from there").await;
}

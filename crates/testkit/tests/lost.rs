//! An agent whose container is gone: viewers are told that it is lost, in time and once.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

use std::time::{Duration, Instant};

use runcast_protocol::{Channel, State, Status};
use runcast_testkit::{Control, Fanout, Redis, Sidecar, eventually};

/// What is promised beside the lease.
const MARGIN: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_with_its_agent_is_lost_on_the_screen_within_the_lease_and_two_seconds() {
    let lease = std::env::var("RUNCAST_LEASE").unwrap_or_else(|_| "2s".into());
    let lease = lease.trim_end_matches('s').parse().map(Duration::from_secs).unwrap();
    let text = format!("{}s", lease.as_secs());
    let redis = Redis::start().await;
    let settings = [("RUNCAST__LEASE__GRACE", text.as_str())];
    let _replicas = [
        Control::start_with(&redis.url(), &settings).await,
        Control::start_with(&redis.url(), &settings).await,
    ];
    let fanout = Fanout::start(&redis.url()).await;
    let mut viewer = fanout.viewer("r", "channels=output,status");
    assert_eq!(viewer.connect().await.unwrap(), 200);
    let sidecar = Sidecar::new(&redis.url(), "r", "v").set("RUNCAST__LEASE__TTL", &text);
    let mut process = sidecar.exec(&["sh", "-c", "printf 'last words'; sleep 1000"]);
    while viewer.history.text("v") != "last words" {
        viewer.next().await.unwrap().expect("the stream goes on");
    }
    // The control-plane has had time to know the run, as it has of any that is not quite new.
    eventually("the lease was renewed", Duration::from_secs(30), async || {
        let left = redis.command(&["PTTL", "run:{r}:lease:v"]).await.ok()?.text().parse::<i64>().ok()?;
        (left > 0).then_some(())
    })
    .await;
    let known = Instant::now() + Duration::from_secs(4) + lease;
    tokio::time::sleep_until(known.into()).await;

    // The agent dies with its sidecar.
    process.kill9();
    let killed = Instant::now();
    viewer.watch_to_end(lease + 5 * MARGIN).await.unwrap();
    let took = killed.elapsed();
    assert!(took <= lease + MARGIN, "it took {took:?} with a lease of {lease:?}");
    assert_eq!(viewer.history.end.as_ref().unwrap().state, State::Lost);
    let lost = viewer.history.others.iter().filter(|message| {
        message.kind.channel() == Channel::Status
            && message.content.read::<Status>().is_ok_and(|status| status.state == State::Lost)
    });
    assert_eq!(lost.count(), 1, "once, although two replicas watch");
    println!("lost on the screen {took:.2?} after the kill, lease {lease:?}");
}

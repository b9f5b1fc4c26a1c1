//! Asking, through Redis, for what Redis no longer has.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use runcast_bus::{Bus, PastRequests, RedisConfig, Subscriber};
use runcast_protocol::{
    BatchWriter, Channel, Json, Lane, PastRequest, PastRun, RunId, Sequence, VariationId,
};
use runcast_testkit::{Cluster, Redis, eventually, message};

const SOON: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(60);

fn run() -> RunId {
    "run-1".parse().unwrap()
}

fn lane() -> Lane {
    "output/var-1".parse().unwrap()
}

fn page(first: u64, last: u64) -> Bytes {
    let (run, variation) = (run(), VariationId::new("var-1").unwrap());
    let mut writer = BatchWriter::default();
    for number in first..=last {
        let sequence = Sequence::new(number).unwrap();
        writer.push(&message(&run, &variation, Channel::Output, sequence, Json::string("word")).to_line());
    }
    writer.finish(1024)
}

async fn connect(url: &str) -> Bus {
    let bus = Bus::connect(&RedisConfig::new(url)).unwrap().asking_past(Duration::from_secs(20));
    eventually("redis answers", SOON, async || bus.lanes(&run()).await.ok()).await;
    bus
}

/// Two replicas that answer; each says when it took a request.
async fn answer(url: &str, taken: tokio::sync::mpsc::UnboundedSender<PastRequest>) {
    for _ in 0..2 {
        let bus = connect(url).await;
        let subscriber = Subscriber::connect(&bus).unwrap();
        let mut requests = PastRequests::listen(&subscriber).await;
        bus.tell_replay_alive(TTL).await.unwrap();
        let taken = taken.clone();
        tokio::spawn(async move {
            let _subscriber = subscriber;
            loop {
                let request = requests.next().await.unwrap();
                if bus.take_past(&request).await.unwrap() {
                    let _ = taken.send(request.clone());
                    let answer = match &request.page {
                        None => PastRun { expected: 7, ..PastRun::default() }.to_json().into(),
                        Some((lane, _)) if lane.channel == Channel::Logs => Bytes::new(),
                        Some((_, after)) => page(after.next().get(), after.get() + 100),
                    };
                    bus.answer_past(&request, answer, TTL).await.unwrap();
                }
            }
        });
    }
}

async fn asks_and_is_answered(url: &str) {
    let (sender, mut taken) = tokio::sync::mpsc::unbounded_channel();
    answer(url, sender).await;
    let buses = [connect(url).await, connect(url).await];
    let after = Sequence::new(40).unwrap();
    // All at once, in two processes as it were.
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..200 {
        let bus = buses[number % 2].clone();
        asking.spawn(async move { bus.past_page(&run(), &lane(), after).answer().await.unwrap().unwrap() });
    }
    for batch in asking.join_all().await {
        assert_eq!((batch.lane.clone(), batch.first().get(), batch.last().get()), (lane(), 41, 140));
    }
    assert_eq!(taken.recv().await, Some(PastRequest::page(run(), lane(), after)));
    // And later: the answer is still there.
    assert!(buses[0].past_page(&run(), &lane(), after).answer().await.unwrap().is_some());
    assert!(taken.try_recv().is_err(), "once in all");
    assert_eq!(buses[1].past_run(&run()).answer().await.unwrap().unwrap().expected, 7);
    assert_eq!(taken.recv().await, Some(PastRequest::run(run())));
    let nothing = buses[0].past_page(&run(), &"logs/var-1".parse().unwrap(), after).answer().await;
    assert!(nothing.unwrap().is_none());
    buses[0].withdraw_past(&PastRequest::run(run())).await.unwrap();
    assert!(buses[0].past_run(&run()).answer().await.unwrap().is_some(), "asked anew");
}

#[tokio::test]
async fn of_all_who_ask_and_answer_one_restores() {
    asks_and_is_answered(&Redis::start().await.url()).await;
}

#[tokio::test]
async fn in_a_cluster_too() {
    asks_and_is_answered(&Cluster::start().await.url()).await;
}

#[tokio::test]
async fn without_anybody_who_answers_nobody_waits() {
    let redis = Redis::start().await;
    let bus = connect(&redis.url()).await;
    let begun = Instant::now();
    assert!(bus.past_run(&run()).answer().await.unwrap().is_none());
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Nor with one who is there and silent, for longer than was said.
    bus.tell_replay_alive(TTL).await.unwrap();
    let impatient = bus.asking_past(Duration::from_millis(300));
    let begun = Instant::now();
    assert!(impatient.past_run(&run()).answer().await.unwrap().is_none());
    assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&begun.elapsed()));
}

#[tokio::test]
async fn who_may_not_ask_is_as_one_who_gets_no_answer() {
    let redis = Redis::start().await;
    connect(&redis.url()).await.tell_replay_alive(TTL).await.unwrap();
    let rules = ["ACL", "SETUSER", "old", "on", ">secret", "~run:*", "&run:*", "+@all"];
    redis.command(&rules).await.unwrap();
    let user =
        RedisConfig { username: "old".into(), password: "secret".into(), ..RedisConfig::new(redis.url()) };
    let bus = Bus::connect(&user).unwrap().asking_past(SOON);
    assert!(bus.past_run(&run()).answer().await.unwrap().is_none());
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_none() {
    let redis = Redis::start().await;
    let bus = connect(&redis.url()).await;
    let (whole, part) = (PastRequest::run(run()), PastRequest::page(run(), lane(), Sequence::NONE));
    bus.answer_past(&whole, "{\"cursor\":7}".into(), TTL).await.unwrap();
    bus.answer_past(&part, Bytes::from_static(&[0x28, 0xb5, 0x2f, 0xfd, 0]), TTL).await.unwrap();
    assert!(bus.past_run(&run()).answer().await.unwrap().is_none());
    assert!(bus.past_page(&run(), &lane(), Sequence::NONE).answer().await.unwrap().is_none());
}

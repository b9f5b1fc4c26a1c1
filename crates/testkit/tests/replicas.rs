//! Two replicas of the control-plane, one of which is killed again and again, and agents of which some
//! never answer: every command comes to one end, and none is done twice.
//!
//! `RUNCAST_KILLS` and `RUNCAST_COMMANDS` make more of it.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "this is test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use runcast_bus::{Bus, EntryId, RedisConfig};
use runcast_protocol::grpc::control as proto;
use runcast_protocol::grpc::control::CommandState;
use runcast_protocol::grpc::control::command::Action;
use runcast_protocol::grpc::control::command_service_client::CommandServiceClient;
use runcast_protocol::grpc::control::send_command_request::Expiration;
use runcast_protocol::{Batch, Channel, Control as Entry, Lane, Message, RunId, Writer};
use runcast_testkit::{Control, Redis, Sidecar, eventually, unix_get, unix_post};
use tonic::Code;
use tonic::transport::Channel as Connection;

const AGENTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);
/// No caller is held back here.
const UNLIMITED: [(&str, &str); 2] =
    [("RUNCAST__LIMITS__CALLS_PER_SECOND", "1000000"), ("RUNCAST__LIMITS__BURST", "1000000")];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How often each command was handed to an agent that did it, by id.
type Done = Arc<Mutex<BTreeMap<(usize, String), usize>>>;

/// Asks for commands and does them; every fourth it never answers, every eighth it rejects. A repeat is
/// recognised by its id.
async fn agent(index: usize, socket: PathBuf, done: Done, stop: Arc<AtomicBool>) {
    let (mut after, mut known) = (String::new(), BTreeSet::new());
    while !stop.load(Ordering::Relaxed) {
        let path = format!("/v1/commands?wait=1s&after={after}");
        let Ok((200, body)) = unix_get(&socket, &path).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        for event in answer["events"].as_array().unwrap() {
            let id = event["command"].as_str().unwrap().to_owned();
            let number = event["payload"].as_u64().unwrap();
            if !known.insert(id.clone()) {
                continue;
            }
            let step = match number % 8 {
                3 | 7 => continue,
                5 => "rejected",
                _ => {
                    *done.lock().unwrap().entry((index, id.clone())).or_default() += 1;
                    "applied"
                }
            };
            ack(&socket, &id, step).await;
        }
        after = answer["cursor"].as_str().unwrap_or_default().to_owned();
    }
}

async fn ack(socket: &Path, id: &str, step: &str) {
    let body = serde_json::json!({ "step": step }).to_string();
    let (status, body) =
        unix_post(socket, &format!("/v1/commands/{id}/ack"), "application/json", body).await.unwrap();
    // 409: it had expired.
    assert!(matches!(status, 200 | 409), "{status}: {}", String::from_utf8_lossy(&body));
}

fn order(number: u64, ttl: Duration) -> proto::SendCommandRequest {
    let payload = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(number as f64)) };
    let custom = proto::CustomAction { action_id: "count".into(), payload: Some(payload) };
    let ttl = prost_types::Duration { seconds: 0, nanos: ttl.as_millis() as i32 * 1_000_000 };
    let all = number.is_multiple_of(10);
    proto::SendCommandRequest {
        parent: "runs/r".into(),
        variation_ids: if all { Vec::new() } else { vec![format!("v{}", number % AGENTS as u64)] },
        command: Some(proto::Command { action: Some(Action::Custom(custom)), ..Default::default() }),
        expiration: Some(Expiration::Ttl(ttl)),
        request_id: format!("request-{number}"),
    }
}

fn client(url: &str) -> CommandServiceClient<Connection> {
    CommandServiceClient::new(Connection::from_shared(url.to_owned()).unwrap().connect_lazy())
}

/// Sends until one of the replicas says that it stands; the idempotency key makes that safe.
async fn insist(urls: &[String], request: &proto::SendCommandRequest) -> String {
    let begun = Instant::now();
    for url in urls.iter().cycle() {
        assert!(begun.elapsed() < PATIENCE, "no replica takes it");
        match client(url).send_command(request.clone()).await {
            Ok(sent) => return sent.into_inner().command.unwrap().name,
            Err(status) => assert!(
                matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled),
                "{status}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("it goes on for ever")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_loses_no_command_and_ends_none_twice() {
    let (kills, commands) = (number("RUNCAST_KILLS", 8), number("RUNCAST_COMMANDS", 120));
    let redis = Redis::start().await;
    let mut replicas = [
        Control::start_with(&redis.url(), &UNLIMITED).await,
        Control::start_with(&redis.url(), &UNLIMITED).await,
    ];
    let urls: Vec<String> = replicas.iter().map(Control::url).collect();
    let folder = tempfile::tempdir().unwrap();
    let (done, stop) = (Done::default(), Arc::new(AtomicBool::new(false)));
    let (mut sidecars, mut agents) = (Vec::new(), Vec::new());
    for index in 0..AGENTS {
        let socket = folder.path().join(format!("{index}.sock"));
        sidecars.push(Sidecar::new(&redis.url(), "r", &format!("v{index}")).serve(&socket).await);
        agents.push(tokio::spawn(agent(index, socket, done.clone(), stop.clone())));
    }
    eventually("all variations are known", PATIENCE, async || {
        let status = redis.command(&["HKEYS", "run:{r}:lanes"]).await.ok()?.text();
        (0..AGENTS).all(|index| status.contains(&format!("status/v{index}"))).then_some(())
    })
    .await;

    let (seed, begun) = (rand::random(), Instant::now());
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let urls = urls.clone();
            let mut rng = SmallRng::seed_from_u64(seed ^ (sender + 1));
            tokio::spawn(async move {
                let mut names = Vec::new();
                for number in (sender..commands).step_by(4) {
                    let ttl = Duration::from_millis(rng.random_range(100..900));
                    let mut urls = urls.clone();
                    urls.rotate_left(rng.random_range(0..2));
                    names.push((number, insist(&urls, &order(number, ttl)).await));
                    tokio::time::sleep(Duration::from_millis(rng.random_range(0..20))).await;
                }
                names
            })
        })
        .collect();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..250))).await;
        replicas[rng.random_range(0..2)].kill9_and_start();
    }
    let mut names = BTreeMap::new();
    for sender in senders {
        names.extend(sender.await.unwrap());
    }
    assert_eq!(names.values().collect::<BTreeSet<_>>().len() as u64, commands, "each request is one command");

    // The replicas may have been killed last: whoever is there ends what expires.
    let mut outcomes = BTreeMap::new();
    for (number, name) in &names {
        let command = eventually(&format!("{name} ends"), PATIENCE, async || {
            let request = proto::GetCommandRequest { name: name.clone() };
            let command = client(&urls[0]).get_command(request).await.ok()?.into_inner().command?;
            command.outcomes.iter().all(|outcome| is_terminal(outcome.state())).then_some(command)
        })
        .await;
        for outcome in &command.outcomes {
            let ends = outcome.steps.iter().filter(|step| is_terminal(step.state())).count();
            assert_eq!(ends, 1, "{name}: {outcome:?}");
            if matches!(number % 8, 3 | 7) {
                assert_eq!(outcome.state(), CommandState::Expired, "nobody answers {name}");
            }
            *outcomes.entry(outcome.state().as_str_name()).or_insert(0) += 1;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for agent in agents {
        agent.await.unwrap();
    }
    let twice: Vec<_> = done.lock().unwrap().clone().into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "done twice: {twice:?}");
    let expired = expiries(&redis.url()).await;
    assert!(expired.values().all(|times| *times == 1), "expired twice: {expired:?}");
    println!("{kills} kills, {commands} commands in {:.1?}: {outcomes:?}", begun.elapsed());
}

fn is_terminal(state: CommandState) -> bool {
    !matches!(
        state,
        CommandState::Unspecified | CommandState::Issued | CommandState::Delivered | CommandState::Accepted
    )
}

/// How often each command expired with each variation, as the stream has it.
async fn expiries(url: &str) -> BTreeMap<(String, String), usize> {
    let bus = Bus::connect(&RedisConfig::new(url)).unwrap();
    let (run, lane) = (RunId::new("r").unwrap(), Lane { channel: Channel::Control, writer: Writer::Control });
    let (mut found, mut after) = (BTreeMap::new(), EntryId::default());
    loop {
        let page = bus.read(&run, &lane, after, 1000).await.unwrap();
        after = page.end;
        for batch in page.batches {
            for entry in Batch::parse(batch).unwrap().entries {
                let message = Message::parse(&entry.line).unwrap();
                if let Ok(Entry::Expired(ended)) = message.content.read() {
                    let key = (ended.command.to_string(), message.variation_id.to_string());
                    *found.entry(key).or_default() += 1;
                }
            }
        }
        if page.is_last {
            return found;
        }
    }
}

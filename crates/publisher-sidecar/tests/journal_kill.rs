//! The journal under kill -9 at random instants, and on a file system that refuses to write.
//!
//! The victims are this very program, started again with one of its ignored tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runcast_protocol::{Channel, RunId, Sequence, VariationId};
use runcast_publisher_sidecar::journal::{Journal, JournalError, Limits, Recovered};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const FOLDER: &str = "RUNCAST_TEST_JOURNAL";
const CHANNELS: [Channel; 2] = [Channel::Output, Channel::Status];
const KILLS: usize = 150;

fn open(folder: &Path) -> (Journal, Recovered) {
    let limits = Limits { bytes: 8 << 20, segment_bytes: 256 << 10 };
    let (run, variation) = (RunId::new("run").expect("valid"), VariationId::new("v").expect("valid"));
    Journal::open(folder, limits, &run, &variation).expect("opens whatever it finds")
}

fn folder() -> std::path::PathBuf {
    std::env::var_os(FOLDER).expect("the parent names the folder").into()
}

/// The channel's `count`th message: nobody else has it, and its length varies from bytes to 64 KiB.
fn line(channel: Channel, count: u64) -> Vec<u8> {
    let scattered = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let length = if scattered.is_multiple_of(50) { scattered % 65_536 } else { scattered % 500 };
    let mut line = format!("{channel} {count} ").into_bytes();
    line.resize(line.len() + length as usize, b'.');
    line
}

fn origin(channel: Channel) -> Sequence {
    Sequence::new(1_000 * channel.as_str().len() as u64).expect("is small")
}

/// Said by a victim after the journal's call has returned.
#[derive(Default)]
struct Said {
    claimed: bool,
    taken: u64,
    safe: u64,
}

impl Said {
    fn read(output: impl std::io::Read) -> BTreeMap<Channel, Self> {
        let mut lanes: BTreeMap<_, Self> = CHANNELS.map(|channel| (channel, Self::default())).into();
        for text in BufReader::new(output).lines().map_while(Result::ok) {
            // What the test harness prints, and a line cut short by the kill, end otherwise.
            let Some(text) = text.strip_suffix('.') else { continue };
            let words: Vec<_> = text.split(' ').collect();
            let [what, channel, count] = words[..] else { continue };
            let Some(said) = channel.parse().ok().and_then(|channel| lanes.get_mut(&channel)) else {
                continue;
            };
            let count = count.parse().expect("victims count");
            match what {
                "claimed" => said.claimed = true,
                "taken" => said.taken = count,
                "safe" => said.safe = count,
                _ => panic!("victims say no such thing: {text}"),
            }
        }
        lanes
    }
}

fn victim(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test has a program"));
    command.args(["--ignored", "--exact", "--nocapture", test]).env(FOLDER, folder);
    command
}

#[test]
#[ignore = "the victim of the kill test"]
fn appends_until_killed() {
    let mut output = std::io::stdout();
    let mut say = |what: &str, channel, count| {
        output.write_all(format!("{what} {channel} {count}.\n").as_bytes()).expect("the parent listens");
    };
    let (mut journal, recovered) = open(&folder());
    let mut lanes = CHANNELS.map(|channel| {
        let lane = recovered.lanes.get(&channel);
        (lane.map_or(0, |lane| lane.taken), lane.map_or(0, |lane| lane.safe))
    });
    for channel in CHANNELS {
        journal.origin(channel, origin(channel)).expect("marks have room");
        say("claimed", channel, 0);
    }
    for turn in 0_u64.. {
        let place = (turn % 3 / 2) as usize;
        let (channel, (taken, safe)) = (CHANNELS[place], &mut lanes[place]);
        if turn.is_multiple_of(7) {
            let (first, second) = (line(channel, *taken + 1), line(channel, *taken + 2));
            journal.append_all(&[(channel, &first), (channel, &second)]).expect("has room");
            *taken += 2;
        } else {
            journal.append(channel, &line(channel, *taken + 1)).expect("has room");
            *taken += 1;
        }
        say("taken", channel, *taken);
        if turn % 16 == place as u64 && *taken > *safe + 200 {
            *safe = *taken - 100;
            journal.safe(channel, *safe).expect("marks have room");
            say("safe", channel, *safe);
        }
    }
}

#[test]
fn whatever_was_accepted_is_there_after_kill_9() {
    let parent = tempfile::tempdir().expect("a folder for the test");
    let folder = parent.path().join("journal");
    let random = std::hash::RandomState::new();
    let (mut torn, mut taken) = (0, 0);
    let began = Instant::now();
    for kill in 0..KILLS {
        let mut child =
            victim("appends_until_killed", &folder).stdout(Stdio::piped()).spawn().expect("starts again");
        let output = child.stdout.take().expect("is piped");
        let listener = std::thread::spawn(move || Said::read(output));
        let wait = std::hash::BuildHasher::hash_one(&random, kill) % 40_000;
        std::thread::sleep(Duration::from_micros(wait));
        child.kill().expect("is still there");
        child.wait().expect("is dead now");
        let said = listener.join().expect("the output was read");

        let (journal, recovered) = open(&folder);
        assert_eq!(recovered.damaged, [], "kill {kill}");
        torn += usize::from(recovered.torn.is_some());
        taken = 0;
        for (channel, said) in said {
            let lane = recovered.lanes.get(&channel).cloned().unwrap_or_default();
            taken += lane.taken;
            assert!(lane.taken >= said.taken, "kill {kill}: {channel} {} < {}", lane.taken, said.taken);
            assert!(lane.safe >= said.safe, "kill {kill}: {channel} {} < {}", lane.safe, said.safe);
            if said.claimed || lane.origin.is_some() {
                assert_eq!(lane.origin, Some(origin(channel)), "kill {kill}");
            }
            assert_eq!(lane.lost, 0, "kill {kill}");
            let counts = lane.messages.iter().map(|message| message.count);
            assert!(counts.eq(lane.safe + 1..=lane.taken), "kill {kill}: {:?}", lane.messages);
            for message in &lane.messages {
                let read = journal.read(message.position).expect("is readable");
                assert_eq!(read, line(channel, message.count), "kill {kill}");
            }
        }
    }
    println!("{KILLS} kills in {:?}: {taken} messages, {torn} torn ends", began.elapsed());
    assert!(taken > 0, "no victim lived long enough to write");
}

#[test]
#[ignore = "the victim of the test with limited files"]
fn goes_on_after_refused_writes() {
    let (mut journal, _) = open(&folder());
    let mut taken = 0;
    let mut refused = 0;
    for turn in 0..400 {
        // Just as a disk that is full writes what it can, and refuses the rest.
        match journal.append(Channel::Output, &line(Channel::Output, taken + 1)) {
            Ok(_) => taken += 1,
            Err(JournalError::Io { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        // Something shorter where something longer was begun.
        if journal.append(Channel::Status, format!("{turn}").as_bytes()).is_err() {
            refused += 1;
            let soft = getrlimit(Resource::Fsize);
            let current = soft.current.map(|bytes| bytes + 3_000);
            setrlimit(Resource::Fsize, Rlimit { current, ..soft }).expect("the soft limit may be raised");
        }
    }
    println!("{taken} {refused}.");
}

#[test]
fn a_refused_write_leaves_nothing_behind() {
    let parent = tempfile::tempdir().expect("a folder for the test");
    let folder = parent.path().join("journal");
    let victim = victim("goes_on_after_refused_writes", &folder);
    // The shell lets the signal be ignored that comes with the refusal; this needs unsafe code otherwise.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -S -f 2; exec \"$0\" \"$@\""]);
    limited.arg(victim.get_program()).args(victim.get_args()).env(FOLDER, &folder);
    let output = limited.output().expect("there is a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    let counts: Vec<u64> = text
        .lines()
        .find_map(|line| line.strip_suffix('.')?.split(' ').map(|count| count.parse().ok()).collect())
        .expect("the victim counts");
    let [taken, refused] = counts[..] else { panic!("{counts:?}") };
    assert!(refused > 20, "only {refused} writes were refused");

    let (journal, recovered) = open(&folder);
    assert_eq!((recovered.torn, &recovered.damaged[..]), (None, &[][..]));
    assert_eq!(recovered.lanes[&Channel::Output].taken, taken);
    for message in &recovered.lanes[&Channel::Output].messages {
        let read = journal.read(message.position).expect("is readable");
        assert_eq!(read, line(Channel::Output, message.count));
    }
}

use super::*;

const GRACE: Duration = Duration::from_secs(10);

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn order(id: &str, what: What) -> Order {
    Order { command: CommandId::new(id).unwrap(), caller: "anna".into(), what }
}

fn counted(processes: u32, stopped: u32) -> impl FnOnce() -> Census {
    move || Census { processes, stopped }
}

fn never() -> Census {
    panic!("nobody need look now")
}

/// Effects in short: signals by name, answers as `id step`.
fn short(effects: &[Effect]) -> Vec<String> {
    let short = effects.iter().map(|effect| match effect {
        Effect::Signal(signal) => format!("{signal:?}"),
        Effect::Answer(answer) => format!("{} {}", answer.command, answer.step),
    });
    short.map(|text| text.replace("Signal::", "").replace("Signal(", "").replace(')', "")).collect()
}

fn result(effects: &[Effect]) -> Option<Value> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer(answer) => answer.result.clone(),
        Effect::Signal(_) => None,
    })
}

fn is_signal(effects: &[Effect], signals: &[Signal]) -> bool {
    let sent = effects.iter().filter_map(|effect| match effect {
        Effect::Signal(signal) => Some(*signal),
        Effect::Answer(_) => None,
    });
    sent.eq(signals.iter().copied())
}

#[test]
fn a_pause_is_applied_when_the_last_process_stands_still() {
    let mut steering = Steering::new(None);
    assert!(is_signal(&steering.order(order("p", What::Pause), at(0)), &[Signal::STOP]));
    assert_eq!(steering.wake_at(), Some(at(0)), "the first look is at once");
    assert_eq!(steering.tick(at(0), counted(3, 2)), []);
    let next = steering.wake_at().unwrap();
    assert!(next > at(0));
    assert_eq!(steering.tick(at(0), never), []);
    // Somebody who is asked twice is told twice, when it is so.
    assert!(is_signal(&steering.order(order("q", What::Pause), next), &[Signal::STOP]));
    let applied = steering.tick(next, counted(3, 3));
    assert_eq!(short(&applied), ["p applied", "q applied"]);
    assert_eq!(result(&applied), Some(json!({"processes": 3})));
    assert_eq!(steering.wake_at(), None);

    assert!(is_signal(&steering.order(order("r", What::Resume), at(9)), &[Signal::CONT]));
    assert_eq!(steering.tick(at(9), counted(3, 1)), []);
    assert_eq!(short(&steering.tick(at(99), counted(3, 0))), ["r applied"]);
}

#[test]
fn what_is_not_seen_to_be_done_has_failed() {
    let mut steering = Steering::new(None);
    steering.order(order("p", What::Pause), at(0));
    assert_eq!(steering.tick(at(4_000), counted(2, 1)), []);
    let failed = steering.tick(at(5_000), counted(2, 1));
    assert_eq!(short(&failed), ["p failed"]);
    assert_eq!(result(&failed), Some(json!({"processes": 2, "stopped": 1})));

    steering.order(order("p", What::Pause), at(6_000));
    let effects = steering.order(order("r", What::Resume), at(6_000));
    assert_eq!(short(&effects)[0], "p failed");
    assert!(is_signal(&effects, &[Signal::CONT]));
    // An agent of which nothing can be seen is not known to go on.
    assert_eq!(steering.tick(at(6_000), counted(0, 0)), []);
    assert_eq!(short(&steering.exited(json!({"exit_code": 0}), at(6_001))), ["r failed"]);
    assert!(steering.is_over() && steering.cause().is_none());
}

#[test]
fn a_stop_waits_for_all_that_the_agent_started_and_kills_what_is_left() {
    let mut steering = Steering::new(None);
    steering.order(order("p", What::Pause), at(0));
    let told = steering.order(order("s", What::Stop(GRACE)), at(0));
    assert!(is_signal(&told, &[Signal::TERM, Signal::CONT]));
    assert_eq!(short(&told)[0], "p failed");
    assert_eq!(short(&steering.order(order("q", What::Pause), at(1))), ["q rejected"]);
    assert_eq!(steering.wake_at(), Some(GRACE));
    assert_eq!(steering.exited(json!({"exit_code": 0}), at(50)), []);
    assert_eq!(steering.tick(at(50), counted(1, 0)), []);
    assert!(!steering.is_over());
    // Another stop makes it shorter, never longer.
    assert_eq!(short(&steering.order(order("t", What::Stop(at(100))), at(100))), ["t accepted"]);
    assert_eq!(short(&steering.order(order("u", What::Stop(GRACE)), at(100))), ["u accepted"]);
    assert!(is_signal(&steering.tick(at(200), counted(1, 0)), &[Signal::KILL]));
    let gone = steering.tick(at(300), counted(0, 0));
    assert_eq!(short(&gone), ["s applied", "t applied", "u applied"]);
    assert_eq!(result(&gone), Some(json!({"exit_code": 0})));
    assert!(steering.is_over());
    assert!(matches!(steering.cause(), Some(Cause::Command(_, caller)) if caller == "anna"));
}

#[test]
fn what_cannot_even_be_killed_is_said_to_be_left() {
    let mut steering = Steering::new(None);
    steering.order(order("s", What::Stop(Duration::ZERO)), at(0));
    assert!(is_signal(&steering.tick(at(0), never), &[Signal::KILL]), "no grace, no waiting");
    assert_eq!(steering.wake_at(), None, "but for the agent's end");
    steering.exited(json!({"signal": 9}), at(1));
    assert_eq!(steering.tick(at(1), counted(1, 0)), []);
    let given_up = steering.tick(at(2_000), counted(1, 0));
    assert_eq!(result(&given_up), Some(json!({"signal": 9, "left": 1})));
    assert!(steering.is_over());
}

#[test]
fn a_signal_to_us_ends_the_agent_though_it_stands_still() {
    let mut steering = Steering::new(None);
    let effects = steering.told("SIGTERM", Some(Signal::TERM), GRACE, at(0));
    assert!(is_signal(&effects, &[Signal::TERM, Signal::CONT]));
    assert_eq!(short(&steering.order(order("s", What::Stop(at(10))), at(5))), ["s accepted"]);
    assert!(is_signal(&steering.tick(at(15), never), &[Signal::KILL]));
    assert_eq!(steering.cause(), Some(&Cause::Signal("SIGTERM")), "who came first");
    // Without a command, what the agent leaves behind is not waited for.
    let mut alone = Steering::new(None);
    alone.told("SIGINT", Some(Signal::INT), GRACE, at(0));
    assert_eq!(alone.exited(json!({"exit_code": 0}), at(1)), []);
    assert!(alone.is_over());
}

#[test]
fn on_a_terminal_the_answer_says_whom_it_was_about() {
    let mut steering = Steering::new(Some(77));
    steering.order(order("p", What::Pause), at(0));
    let applied = steering.tick(at(0), counted(1, 1));
    assert_eq!(result(&applied), Some(json!({"processes": 1, "pids": [77]})));
    steering.order(order("s", What::Stop(GRACE)), at(1));
    assert_eq!(short(&steering.exited(json!({"signal": 15}), at(2))), ["s applied"]);
    assert!(steering.is_over());
}

//! `exec` and `pipe`: what the agent writes is what viewers read.

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use runcast_protocol::State;
use runcast_testkit::{Redis, Sidecar, eventually};
use serde_json::json;
use support::{Lanes, RUN, SOON};

fn sidecar(redis: &Redis) -> Sidecar {
    Sidecar::new(&redis.url(), RUN, "a")
}

/// Runs a shell script as the agent to its end; returns the sidecar's output.
async fn exec(redis: &Redis, script: &str) -> std::process::Output {
    let mut command = sidecar(redis).command("exec");
    command.args(["--", "bash", "-c", script]).stdin(Stdio::null());
    output(command).await
}

async fn output(mut command: Command) -> std::process::Output {
    tokio::task::spawn_blocking(move || command.output().expect("the sidecar starts"))
        .await
        .expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_byte_for_byte_what_the_agent_wrote() {
    let redis = Redis::start().await;
    // Blank lines, trailing spaces, colours, an emoji in two writes, invalid bytes, no newline at the
    // end; braces that are no log records.
    let script = r#"printf '\n\n a  \n\t\033[31mred\033[0m\r\n'; printf '\360\237'; sleep 0.05; printf '\232\200';
        printf '\377x\303'; printf '(\000\n{\n{}\n{"a":1}\n'; printf '{'; sleep 0.2; printf '} end '"#;
    let ended = exec(&redis, script).await;
    let expected =
        b"\n\n a  \n\t\x1b[31mred\x1b[0m\r\n\xf0\x9f\x9a\x80\xffx\xc3(\0\n{\n{}\n{\"a\":1}\n{} end ";
    assert_eq!(ended.stdout.escape_ascii().to_string(), expected.escape_ascii().to_string());
    assert_eq!(
        Lanes::of(&redis.url()).text().await.expect("redis answers"),
        String::from_utf8_lossy(expected)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_is_complete() {
    let redis = Redis::start().await;
    let ended = exec(&redis, "seq 1 300000").await;
    let text = Lanes::of(&redis.url()).text().await.expect("redis answers");
    assert!(text.as_bytes() == ended.stdout, "{} bytes published of {}", text.len(), ended.stdout.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_newline_is_there_while_the_agent_thinks() {
    let redis = Redis::start().await;
    let mut process = sidecar(&redis).exec(&["bash", "-c", "printf tok; sleep 1000"]);
    Lanes::of(&redis.url()).say("tok").await;
    assert!(process.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_and_the_exit_code_say_how_the_agent_ended() {
    for (script, code, state, exit_code, signal) in [
        ("true", 0, State::Succeeded, Some(0), None),
        ("exit 3", 3, State::Failed, Some(3), None),
        ("kill -KILL $$", 137, State::Failed, None, Some(9)),
    ] {
        let redis = Redis::start().await;
        assert_eq!(exec(&redis, script).await.status.code(), Some(code), "{script}");
        let statuses = Lanes::of(&redis.url()).statuses().await;
        assert_eq!(statuses[0].state, State::Running);
        let last = &statuses[1];
        assert_eq!((last.state, last.exit_code, last.signal), (state, exit_code, signal), "{script}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_start_fails_with_a_reason() {
    let redis = Redis::start().await;
    for (program, code) in [("no-such-command", 127), ("/dev/null", 126)] {
        let mut command = sidecar(&redis).command("exec");
        command.args(["--", program]);
        let ended = output(command).await;
        assert_eq!(ended.status.code(), Some(code));
        let status = Lanes::of(&redis.url()).statuses().await.pop().expect("a status");
        assert_eq!(status.state, State::Failed);
        assert!(status.reason.expect("a reason").contains(program));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_reaches_the_agent_and_its_last_words_reach_redis() {
    let redis = Redis::start().await;
    let script = "trap 'printf bye; exit 0' TERM; printf hello; while :; do sleep 0.05; done";
    let mut process = sidecar(&redis).exec(&["bash", "-c", script]);
    let lanes = Lanes::of(&redis.url());
    lanes.say("hello").await;
    process.terminate();
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert_eq!(lanes.text().await.as_deref(), Some("hellobye"));
    assert_eq!(lanes.states().await, [State::Running, State::Cancelled]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_listen_is_killed_in_time() {
    let redis = Redis::start().await;
    let sidecar = sidecar(&redis).set("RUNCAST__SHUTDOWN__DEADLINE", "1s");
    let mut process =
        sidecar.exec(&["bash", "-c", "trap '' TERM; printf deaf; while :; do sleep 0.05; done"]);
    let lanes = Lanes::of(&redis.url());
    lanes.say("deaf").await;
    process.terminate();
    assert_eq!(process.wait(SOON).await.code(), Some(137));
    assert_eq!(lanes.states().await, [State::Running, State::Cancelled]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_left_behind_does_not_hold_the_sidecar_for_ever() {
    let redis = Redis::start().await;
    let sidecar = sidecar(&redis).set("RUNCAST__SHUTDOWN__DEADLINE", "500ms");
    let mut process = sidecar.exec(&["bash", "-c", "(sleep 30; printf late) & printf early"]);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert_eq!(Lanes::of(&redis.url()).text().await.as_deref(), Some("early"));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_records_and_standard_error_are_logs() {
    let redis = Redis::start().await;
    let script = r#"echo before; echo '{"timestamp": "t", "level": "info", "n": 1}'; echo after
        printf 'one\n\n{"timestamp":"t","level":"warn"}\n' >&2; printf 'password: ' >&2; sleep 0.3; echo ok >&2"#;
    // Our own log lines share standard error with the agent.
    let mut command = sidecar(&redis).set("RUNCAST__TELEMETRY__LOG", "off").command("exec");
    command.args(["--", "bash", "-c", script]);
    let passed_on = output(command).await.stderr;
    assert_eq!(passed_on, b"one\n\n{\"timestamp\":\"t\",\"level\":\"warn\"}\npassword: ok\n");
    let lanes = Lanes::of(&redis.url());
    assert_eq!(lanes.text().await.as_deref(), Some("before\nafter\n"));
    let (mut from_stdout, mut from_stderr) = (Vec::new(), Vec::new());
    for (content, metadata) in lanes.logs().await {
        if metadata["stream"] == "stdout" {
            from_stdout.push(content);
        } else {
            from_stderr.push((content, metadata));
        }
    }
    assert_eq!(from_stdout, [json!({"timestamp": "t", "level": "info", "n": 1})]);
    let (whole, partial) = (json!({"stream": "stderr"}), json!({"stream": "stderr", "partial": true}));
    let message = |text: &str| json!({"message": text});
    let expected = [
        (message("one"), whole.clone()),
        (message(""), whole.clone()),
        (json!({"timestamp": "t", "level": "warn"}), whole.clone()),
        (message("password: "), partial),
        (message("ok"), whole),
    ];
    assert_eq!(from_stderr, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn detection_can_be_switched_off_and_the_trace_travels_along() {
    let redis = Redis::start().await;
    let record = "{\"timestamp\":1,\"level\":2}\n";
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut command = sidecar(&redis).set("RUNCAST__LOGS__DETECT", false).command("exec");
    command.args(["--", "printf", "%s", record]).env("TRACEPARENT", trace);
    assert!(output(command).await.status.success());
    let lanes = Lanes::of(&redis.url());
    assert_eq!(lanes.text().await.as_deref(), Some(record));
    let messages = lanes.messages("output/a").await.expect("redis answers");
    assert_eq!(messages[0].metadata.as_str(), format!("{{\"traceparent\":\"{trace}\"}}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipe_publishes_standard_input_as_it_comes() {
    let redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    let mut process = sidecar(&redis).set("RUNCAST__RUN__VARIATIONS", 3).pipe();
    let mut stdin = process.child().stdin.take().expect("piped");
    stdin.write_all(b"tok").expect("written");
    lanes.say("tok").await;
    stdin.write_all(b"en\n").expect("written");
    drop(stdin);
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert_eq!(lanes.text().await.as_deref(), Some("token\n"));
    let statuses = lanes.statuses().await;
    let said: Vec<_> = statuses.iter().map(|status| (status.state, status.variations)).collect();
    assert_eq!(said, [(State::Running, Some(3)), (State::Succeeded, Some(3))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_is_stopped_is_cancelled() {
    let redis = Redis::start().await;
    let lanes = Lanes::of(&redis.url());
    let mut process = sidecar(&redis).pipe();
    eventually("running", SOON, async || lanes.messages("status/a").await.filter(|said| !said.is_empty()))
        .await;
    process.terminate();
    assert_eq!(process.wait(SOON).await.code(), Some(0));
    assert_eq!(lanes.states().await, [State::Running, State::Cancelled]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_named_before_anything_starts() {
    let mut command =
        Sidecar::new("redis://127.0.0.1:1", RUN, "a").set("RUNCAST__BATCH__LINGER", "2").command("exec");
    command.args(["--", "sh", "-c", "echo started"]);
    let ended = output(command).await;
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(78), 0));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        said.contains("`batch.linger`") && said.contains("`2`") && said.contains("such as `15s`"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_does_not_inherit_the_way_into_redis() {
    let redis = Redis::start().await;
    redis.command(&["ACL", "SETUSER", "agent", "on", ">hunter2", "+@all", "~*", "&*"]).await.expect("a user");
    let sidecar = sidecar(&redis).set("RUNCAST__REDIS__USERNAME", "agent");
    let mut command = sidecar.set("RUNCAST__REDIS__PASSWORD", "hunter2").command("exec");
    command.env("ITS_OWN", "kept").args(["--", "env"]).stdin(Stdio::null());
    let seen = String::from_utf8(output(command).await.stdout).expect("text");
    assert!(seen.contains("ITS_OWN=kept"), "{seen}");
    assert!(!seen.contains("REDIS") && !seen.contains("hunter2"), "{seen}");
}

//! One trace from an agent's words to its viewers, as a collector sees it.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::time::Duration;

use runcast_testkit::{Collector, ExportedSpan, Fanout, Process, Redis, Sidecar, unix_post};

const GIVEN: (&str, &str) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
const FANOUT: &str = "runcast-fanout";
const SIDECAR: &str = "runcast-sidecar";

struct Stage {
    collector: Collector,
    fanout: Fanout,
    _redis: Redis,
    _sidecar: Process,
    folder: tempfile::TempDir,
}

impl Stage {
    /// A sidecar that begins traces with that share of its messages, and a fan-out that begins none.
    async fn set(ratio: f64) -> Self {
        let (redis, collector) = (Redis::start().await, Collector::start().await);
        let settings = collector.settings(0.0);
        let settings = settings.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
        let fanout = Fanout::start_with(&redis.url(), &settings).await;
        let mut sidecar = Sidecar::new(&redis.url(), "run-1", "var-1");
        // So that what is said at once is one batch.
        sidecar = sidecar.set("RUNCAST__BATCH__LINGER", "200ms");
        for (name, value) in collector.settings(ratio) {
            sidecar = sidecar.set(&name, value);
        }
        let folder = tempfile::tempdir().unwrap();
        let _sidecar = sidecar.serve(&folder.path().join("sidecar.sock")).await;
        Self { collector, fanout, _redis: redis, _sidecar, folder }
    }

    async fn say(&self, lines: &[String]) {
        let socket = self.folder.path().join("sidecar.sock");
        let body = lines.join("\n");
        let (status, body) = unix_post(&socket, "/v1/messages", "application/x-ndjson", body).await.unwrap();
        assert_eq!(status, 200, "{body:?}");
    }

    async fn span(&self, service: &str, name: &str, parent: &str) -> ExportedSpan {
        let is_it =
            |span: &ExportedSpan| span.service == service && span.name == name && span.parent == parent;
        self.collector.span(&format!("{name} by {service} under `{parent}`"), is_it).await
    }
}

fn message(text: &str, metadata: &str) -> String {
    format!(r#"{{"type":"output","content":"{text}","metadata":{metadata}}}"#)
}

fn traceparent(span: &str) -> String {
    format!(r#"{{"traceparent":"00-{}-{span}-01"}}"#, GIVEN.0)
}

async fn watch(stage: &Stage, text: &str) {
    let mut viewer = stage.fanout.viewer("run-1", "channels=output&variations=var-1");
    viewer.connect().await.unwrap();
    while !viewer.history.text("var-1").ends_with(text) {
        viewer.next().await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_trace_goes_on_to_the_viewers_socket() {
    let stage = Stage::set(0.0).await;
    let mut viewer = stage.fanout.viewer("run-1", "channels=output");
    viewer.connect().await.unwrap();
    let another = "00f067aa0ba902b8";
    let lines = [
        message("hello ", &traceparent(GIVEN.1)),
        message("and ", "{}"),
        message("goodbye", &traceparent(another)),
    ];
    stage.say(&lines).await;
    while viewer.history.text("var-1") != "hello and goodbye" {
        viewer.next().await.unwrap().unwrap();
    }

    let accept = stage.span(SIDECAR, "accept output", GIVEN.1).await;
    let second = stage.span(SIDECAR, "accept output", another).await;
    let append = stage.span(SIDECAR, "append output", GIVEN.1).await;
    let receive = stage.span(FANOUT, "receive output", GIVEN.1).await;
    let encode = stage.span(FANOUT, "encode output", &receive.id).await;
    let deliver = stage.span(FANOUT, "deliver output", &receive.id).await;
    for span in [&accept, &second, &append, &receive, &encode, &deliver] {
        assert_eq!(span.trace, GIVEN.0, "{span:?}");
        assert_eq!(span.attributes["messaging.system"], "redis");
        assert_eq!(span.attributes["messaging.destination.name"], "run:{run-1}:output:var-1");
        assert!(span.start <= span.end, "{span:?}");
    }
    for span in [&append, &receive] {
        assert_eq!(span.links, [(GIVEN.0.to_owned(), another.to_owned())]);
        assert_eq!(span.attributes["messaging.batch.message_count"], "3");
    }
    assert!(accept.start <= append.start && append.start <= receive.start && receive.start <= deliver.end);
    let accepted = stage.collector.spans().iter().filter(|span| span.name.starts_with("accept")).count();
    assert_eq!(accepted, 2, "no trace begins with a message that has none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_that_begins_in_the_sidecar_is_told_to_who_reads_the_message() {
    let stage = Stage::set(1.0).await;
    let mut viewer = stage.fanout.viewer("run-1", "channels=output");
    viewer.connect().await.unwrap();
    stage.say(&[message("hello", r#"{"n":1.0}"#)]).await;
    let event = viewer.next().await.unwrap().unwrap();

    let accept = stage.span(SIDECAR, "accept output", "").await;
    let parent = format!("00-{}-{}-01", accept.trace, accept.id);
    assert!(event.data.contains(&format!(r#""metadata":{{"traceparent":"{parent}","n":1.0}}"#)), "{event:?}");
    let append = stage.span(SIDECAR, "append output", &accept.id).await;
    let receive = stage.span(FANOUT, "receive output", &accept.id).await;
    let deliver = stage.span(FANOUT, "deliver output", &receive.id).await;
    for span in [append, receive, deliver] {
        assert_eq!(span.trace, accept.trace);
    }
    // A view that begins later reads it from the stream.
    watch(&stage, "hello").await;
    let read = stage.span(FANOUT, "read output", &accept.id).await;
    assert_eq!(read.trace, accept.trace);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_sampled_leaves_no_span_and_stays_as_it_was() {
    let stage = Stage::set(0.0).await;
    let unsampled = traceparent(GIVEN.1).replace("-01\"", "-00\"");
    stage
        .say(&[message("one ", "{}"), message("two ", &unsampled), message("three", &traceparent(GIVEN.1))])
        .await;
    watch(&stage, "three").await;
    // The last one's spans come after the others' would have.
    stage.span(SIDECAR, "append output", GIVEN.1).await;
    let accepted = stage.collector.spans().into_iter().filter(|span| span.name == "accept output");
    assert_eq!(accepted.count(), 1);
    let metrics = async || Some(stage.collector.metrics(SIDECAR)).filter(|names| !names.is_empty());
    let names = runcast_testkit::eventually("metrics", Duration::from_secs(20), metrics).await;
    assert!(names.iter().any(|name| name == "runcast.sidecar.messages"), "{names:?}");
}

//! Reading a run back, in pages, as a stream, and as text.

#![allow(clippy::unwrap_used, reason = "this is test code")]

mod support;

use runcast_protocol::{Channel, Json};
use runcast_testkit::{Pen, Redis, Replay};

use support::{assert_whole, get, pages, tell, text_of};

const ALL: &str = "/v1/runs/r/messages?limit=all&channels=output,status,metrics";

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_all_of_a_run_in_both_directions() {
    let redis = Redis::start().await;
    tell(&redis.url(), "r", 300, 1).await;
    let replay = Replay::start(&redis.url()).await;
    let all = get(&replay, ALL, &[]).await.messages();
    assert_whole(&all);
    assert!(all.len() > 600);
    let mut times: Vec<_> = all.iter().map(|message| message.timestamp).collect();
    assert!(times.is_sorted(), "the lanes are put in the order of time");
    times.dedup();
    assert!(times.len() > 2);
    let query = "channels=output,status,metrics";
    for limit in [7, 100, 1000] {
        assert_eq!(pages(&replay, "r", query, limit, "after").await, all);
        let mut back = pages(&replay, "r", &format!("{query}&order=desc"), limit, "before").await;
        back.reverse();
        assert_whole(&back);
        assert_eq!(back.len(), all.len());
    }
    let as_json = get(&replay, &format!("{ALL}&format=json"), &[]).await;
    let page: serde_json::Value = serde_json::from_str(&as_json.2).unwrap();
    assert_eq!(page["messages"].as_array().unwrap().len(), all.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_is_what_comes() {
    let redis = Redis::start().await;
    tell(&redis.url(), "r", 50, 2).await;
    let replay = Replay::start(&redis.url()).await;
    let all = get(&replay, ALL, &[]).await.messages();
    let ask = async |query: &str| {
        get(&replay, &format!("/v1/runs/r/messages?limit=all&{query}"), &[]).await.messages()
    };
    let b = ask("variations=b&channels=output").await;
    assert!(b.len() == 50 && b.iter().all(|message| message.variation_id.as_str() == "b"));
    assert_eq!(ask("variations=b&types=output&first=11&last=20").await, b[10..20]);
    let half = all[all.len() / 2].timestamp;
    let (before, since) = (
        ask(&format!("types=output,status,metric&until={half}")).await,
        ask(&format!("types=output,status,metric&since={half}")).await,
    );
    assert_eq!(before.len() + since.len(), all.len());
    assert!(before.iter().all(|message| message.timestamp < half));
    let found = ask("search=17:%20GR%C3%9CSSE").await;
    assert!(found.is_empty(), "ß is not ss");
    let found = ask("search=17:%20gr%C3%BC%C3%9FE").await;
    assert_eq!(found.len(), 2, "both variations said it");
    for (path, status) in [
        ("/v1/runs/nobody/messages", 404),
        ("/v1/runs/a%20b/messages", 400),
        ("/v1/runs/r/messages?after=x", 400),
        ("/v1/runs/r/messages?limit=100000000", 400),
        ("/v1/runs/r/messages?format=text", 400),
        ("/v1/nothing", 404),
    ] {
        assert_eq!(get(&replay, path, &[]).await.0, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_words_are_text_with_ranges() {
    let redis = Redis::start().await;
    tell(&redis.url(), "r", 200, 3).await;
    let replay = Replay::start(&redis.url()).await;
    let text = text_of(&get(&replay, ALL, &[]).await.messages(), "a");
    let path = "/v1/runs/r/messages?variations=a";
    let whole = get(&replay, path, &[("accept", "text/plain")]).await;
    assert_eq!((whole.0, whole.2.as_str()), (200, text.as_str()));
    assert_eq!(whole.header("content-type"), Some("text/plain; charset=utf-8"));
    let tag = whole.header("etag").unwrap().to_owned();
    let length = text.len();
    let range = async |range: &str, more: &[(&str, &str)]| {
        let mut headers = vec![("accept", "text/plain"), ("range", range)];
        headers.extend(more);
        let (status, headers, body) = runcast_testkit::http_get(&replay.url(path), &headers).await.unwrap();
        (status, headers, body)
    };
    for (asked, first, last) in [
        ("bytes=0-0".to_owned(), 0, 0),
        ("bytes=10-999".to_owned(), 10, 999),
        (format!("bytes={}-", length - 5), length - 5, length - 1),
        ("bytes=-7".to_owned(), length - 7, length - 1),
    ] {
        let (status, headers, body) = range(&asked, &[("if-range", &tag)]).await;
        assert_eq!(status, 206, "{asked}");
        assert_eq!(headers["content-range"], format!("bytes {first}-{last}/{length}"));
        assert_eq!(body, text.as_bytes()[first..=last]);
    }
    let (status, headers, _) = range(&format!("bytes={length}-"), &[]).await;
    assert_eq!((status, headers["content-range"].to_str().unwrap()), (416, &*format!("bytes */{length}")));
    assert_eq!(range("bytes=0-0", &[("if-range", "\"old\"")]).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_no_longer_change_may_be_kept() {
    let redis = Redis::start().await;
    let replay = Replay::start(&redis.url()).await;
    let mut pen = Pen::new(&redis.url(), "live", "v");
    pen.say("so far").await;
    let live = get(&replay, "/v1/runs/live/messages", &[]).await;
    assert_eq!(live.header("cache-control"), Some("private, no-cache"));
    let tag = live.header("etag").unwrap();
    let again = get(&replay, "/v1/runs/live/messages", &[("if-none-match", tag)]).await;
    assert_eq!((again.0, again.2.as_str()), (304, ""));
    pen.say("and on").await;
    assert_eq!(get(&replay, "/v1/runs/live/messages", &[("if-none-match", tag)]).await.0, 200);

    tell(&redis.url(), "r", 5, 4).await;
    let over = get(&replay, "/v1/runs/r/messages", &[]).await;
    assert!(over.header("cache-control").unwrap().contains("immutable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_told() {
    let redis = Redis::start().await;
    let mut pen = Pen::new(&redis.url(), "r", "v");
    pen.limits.entries = 100;
    for number in 0..600 {
        pen.write(Channel::Output, &[Json::string(&number.to_string())]).await;
    }
    let replay = Replay::start(&redis.url()).await;
    let all = get(&replay, "/v1/runs/r/messages?limit=all", &[]).await;
    let lines: Vec<serde_json::Value> =
        all.2.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["type"], &lines[0]["first"]), (&"gap".into(), &1.into()));
    assert_eq!(lines[1]["sequence"], lines[0]["last"].as_u64().unwrap() + 1);
    assert_eq!(lines.last().unwrap()["sequence"], 600);
    let back = get(&replay, "/v1/runs/r/messages?limit=1000&order=desc", &[]).await;
    let mut back: Vec<serde_json::Value> =
        back.2.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    back.reverse();
    assert_eq!(back, lines);
}

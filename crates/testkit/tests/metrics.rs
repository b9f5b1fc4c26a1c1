//! docs/observability.md tells of the metrics that there are, of all of them and of no others.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runcast_testkit::{Fanout, Redis, Sidecar, eventually, free_port, http_get};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The document's rows: a metric, and how Prometheus spells it.
fn documented() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(workspace().join("docs/observability.md")).unwrap();
    let rows = text.lines().filter_map(|line| {
        let mut cells =
            line.strip_prefix("| `")?.split('|').map(|cell| cell.trim().trim_matches('`').to_owned());
        Some((cells.next()?, cells.next()?))
    });
    rows.filter(|(name, _)| is_metric(name)).collect()
}

fn is_metric(name: &str) -> bool {
    ["runcast.", "rpc."].iter().any(|root| name.starts_with(root))
}

/// The constants that name metrics.
fn named_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            named_in(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let constants = text.lines().filter(|line| line.contains("const "));
            let values = constants.filter_map(|line| line.split_once(": &str = \"")?.1.strip_suffix("\";"));
            names.extend(values.filter(|value| is_metric(value)).map(str::to_owned));
        }
    }
}

#[test]
fn the_document_names_the_metrics_that_the_code_names() {
    let mut named = BTreeSet::new();
    for entry in std::fs::read_dir(workspace().join("crates")).unwrap() {
        named_in(&entry.unwrap().path().join("src"), &mut named);
    }
    let documented: BTreeSet<_> = documented().into_iter().map(|(name, _)| name).collect();
    assert!(named.len() > 50, "{named:?}");
    let missing: Vec<_> = named.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&named).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "not documented: {missing:?}; not in the code: {stale:?}"
    );
}

/// What `/metrics` says, by family; ours only.
async fn exported(url: &str) -> BTreeSet<String> {
    let (status, _, body) = http_get(url, &[]).await.unwrap();
    assert_eq!(status, 200);
    let text = String::from_utf8(body.to_vec()).unwrap();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    families.filter(|name| *name != "target_info").map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_spells_them_as_the_document_says() {
    let redis = Redis::start().await;
    let fanout = Fanout::start(&redis.url()).await;
    let (admin, folder) = (free_port(), tempfile::tempdir().unwrap());
    let sidecar = Sidecar::new(&redis.url(), "run-1", "var-1")
        .set("RUNCAST__ADMIN__LISTEN", format!("127.0.0.1:{admin}"))
        .set("RUNCAST__JOURNAL__FOLDER", folder.path().display());
    let mut agent = sidecar.pipe();
    agent.child().stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    let mut viewer = fanout.viewer("run-1", "");
    viewer.connect().await.unwrap();
    while viewer.history.text("var-1").is_empty() {
        viewer.next().await.unwrap().unwrap();
    }
    agent.child().stdin.as_mut().unwrap().write_all(b"goodbye\n").unwrap();
    while !viewer.history.text("var-1").contains("goodbye") {
        viewer.next().await.unwrap().unwrap();
    }

    let documented: BTreeSet<_> = documented().into_iter().map(|(_, spelt)| spelt).collect();
    let urls = [fanout.admin_url("/metrics"), format!("http://127.0.0.1:{admin}/metrics")];
    let expected = [
        ["runcast_fanout_viewers", "runcast_fanout_messages_total", "runcast_fanout_latency_seconds"],
        [
            "runcast_sidecar_journal_depth",
            "runcast_sidecar_appended_total",
            "runcast_sidecar_lease_age_seconds",
        ],
    ];
    for (url, expected) in urls.iter().zip(expected) {
        let has_all = async || {
            let families = exported(url).await;
            expected.iter().all(|name| families.contains(*name)).then_some(families)
        };
        let families = eventually(&format!("{expected:?} at {url}"), Duration::from_secs(20), has_all).await;
        let strange: Vec<_> = families.difference(&documented).collect();
        assert!(strange.is_empty(), "not documented: {strange:?}");
    }
}

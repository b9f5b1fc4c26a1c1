//! Publishing is measured, and all of it arrives.

use runcast_bench::publish::{PublishOptions, run};
use runcast_testkit::binary;

#[test]
fn every_way_of_publishing_is_measured_and_loses_nothing() {
    let sidecar = binary("runcast-sidecar");
    let options = PublishOptions { quick: true, sidecar, messages: 20_000, rates: vec![1_000], seconds: 5 };
    let report = run(&options).expect("measured");
    assert!(report.rows.len() >= 6, "{report}");
    for row in &report.rows {
        assert!(row.lost == 0 && row.messages >= 500 && row.redis_us > 0.0 && row.seconds > 0.0, "{report}");
        assert!(row.entries > 0 && row.entries <= row.messages, "{report}");
    }
    // What makes the sidecar cheap for Redis: many messages in an entry.
    let fastest = report.rows.last().expect("rows");
    assert!(fastest.batch() > 16.0, "{report}");
}

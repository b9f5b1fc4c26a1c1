//! The chart's file of Redis users says what the code says.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use runcast_bus::AclUser;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/runcast/files/users.acl");

#[test]
fn the_chart_sets_up_the_users_of_the_code() {
    let file = std::fs::read_to_string(FILE).unwrap();
    let users = [
        AclUser::fanout(),
        AclUser::control(),
        AclUser::replay(),
        AclUser::doctor(),
        AclUser::all_runs(),
        // Once more, where it makes the users of runs; the chart takes one of the two.
        AclUser::control().managing_users(),
    ];
    let in_code: Vec<_> = users.iter().map(ToString::to_string).collect();
    assert_eq!(file.lines().collect::<Vec<_>>(), in_code, "cargo run -p runcast-bus --example acl > {FILE}");
}

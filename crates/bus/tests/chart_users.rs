//! The chart's file of Redis users says what the code says.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use runcast_bus::AclUser;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/runcast/files/users.acl");

#[test]
fn the_chart_sets_up_the_users_of_the_code() {
    let file = std::fs::read_to_string(FILE).unwrap();
    let users =
        [AclUser::fanout(), AclUser::control(), AclUser::replay(), AclUser::doctor(), AclUser::all_runs()];
    assert_eq!(in_chart.len(), users.len(), "cargo run -p runcast-bus --example acl > {FILE}");
    for user in users {
        let line = in_chart.get(user.name.as_str());
        assert_eq!(line, Some(&user.to_string()), "cargo run -p runcast-bus --example acl > {FILE}");
    }
}

//! Prints the users that the chart sets up in Redis, a line of an ACL file each, without passwords:
//! `cargo run -p runcast-bus --example acl > charts/runcast/files/users.acl`. The last is `runcast-control` once more, where it
//! manages the users of runs; the chart takes one of the two.

#![expect(clippy::print_stdout, reason = "it is for printing")]

use runcast_bus::AclUser;

fn main() {
    for user in [
        AclUser::fanout(),
        AclUser::control(),
        AclUser::replay(),
        AclUser::doctor(),
        AclUser::all_runs(),
        AclUser::control().managing_users(),
    ] {
        println!("{user}");
    }
}

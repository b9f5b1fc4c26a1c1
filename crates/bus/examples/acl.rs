//! Prints the users that the chart sets up in Redis, a line of an ACL file each, without passwords:
//! `cargo run -p runcast-bus --example acl > charts/runcast/files/users.acl`.

#![expect(clippy::print_stdout, reason = "it is for printing")]

use runcast_bus::AclUser;

fn main() {
    for user in
        [AclUser::fanout(), AclUser::control(), AclUser::replay(), AclUser::doctor(), AclUser::all_runs()]
    {
        println!("{user}");
    }
}

//! What may depend on what.

#![allow(clippy::unwrap_used, reason = "this is test code")]

use std::collections::BTreeMap;
use std::path::Path;

/// The services meet only in Redis: any of them can die, restart or be upgraded alone.
const SERVICES: [&str; 4] =
    ["runcast-publisher-sidecar", "runcast-sse-fanout", "runcast-control-plane", "runcast-replay"];
/// What they share.
const SHARED: [&str; 4] = ["runcast-protocol", "runcast-bus", "runcast-runtime", "runcast-auth"];

/// Package → the workspace's packages that it is built with; what its tests use does not count.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manifests =
        std::fs::read_dir(crates).unwrap().map(|folder| folder.unwrap().path().join("Cargo.toml"));
    manifests
        .map(|path| {
            let manifest = std::fs::read_to_string(path).unwrap();
            let (package, sections) = manifest.split_once("\n[").unwrap();
            let name =
                package.lines().find_map(|line| line.strip_prefix("name = ")).unwrap().trim_matches('"');
            let built =
                sections.split("\n[").find_map(|section| section.strip_prefix("dependencies]")).unwrap_or("");
            let built =
                built.split("\n[").next().unwrap().lines().filter(|line| line.starts_with("runcast-"));
            let built = built.map(|line| line.split(['.', ' ']).next().unwrap().to_owned());
            (name.to_owned(), built.collect())
        })
        .collect()
}

#[test]
fn services_do_not_know_each_other() {
    let dependencies = dependencies();
    assert!(dependencies["runcast-sse-fanout"].len() >= 3, "{dependencies:?}");
    for (package, built) in dependencies.iter().filter(|(package, _)| SERVICES.contains(&package.as_str())) {
        let strange: Vec<_> = built.iter().filter(|name| !SHARED.contains(&name.as_str())).collect();
        assert!(strange.is_empty(), "{package} depends on {strange:?}");
    }
}

#[test]
fn only_the_bus_speaks_redis() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in std::fs::read_dir(crates).unwrap().map(|folder| folder.unwrap().path()) {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let speaks = manifest.lines().any(|line| line.starts_with("fred"));
        assert_eq!(speaks, folder.ends_with("bus"), "{}", folder.display());
    }
}

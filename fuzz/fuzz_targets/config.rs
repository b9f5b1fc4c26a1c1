//! What an operator may write into a configuration file, and into the environment, is an error that names it or a
//! configuration; never a panic. What comes before the first NUL is the file, each line after it a variable.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use libfuzzer_sys::fuzz_target;
use runcast_runtime::config::load_from;

fuzz_target!(|bytes: &[u8]| {
    let (file, variables) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    let environment = variables.split(|byte| *byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let name = [b"RUNCAST__", &line[..at]].concat();
        Some((OsString::from_vec(name), OsString::from_vec(line[at + 1..].to_vec())))
    });
    let environment: Vec<_> = environment.collect();
    // In memory, where there is such a folder.
    let path = std::path::Path::new("/dev/shm").join(format!("runcast-fuzz-{}.toml", std::process::id()));
    let file = std::fs::write(&path, file).is_ok().then_some(path.as_path());
    let told = [
        load_from::<runcast_sse_fanout::config::Config>(
            runcast_sse_fanout::config::DEFAULTS,
            file,
            environment.clone(),
            &[],
        )
        .err(),
        load_from::<runcast_control_plane::config::Config>(
            runcast_control_plane::config::DEFAULTS,
            file,
            environment.clone(),
            &[],
        )
        .err(),
        load_from::<runcast_replay::config::Config>(
            runcast_replay::config::DEFAULTS,
            file,
            environment.clone(),
            &[],
        )
        .err(),
        load_from::<runcast_publisher_sidecar::config::Config>(
            runcast_publisher_sidecar::config::DEFAULTS,
            file,
            environment,
            &[],
        )
        .err(),
    ];
    for error in told.into_iter().flatten() {
        assert!(!error.to_string().is_empty());
    }
});

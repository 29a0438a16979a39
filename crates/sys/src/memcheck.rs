//! Has valgrind look at what handles raw memory.

use std::process::Command;

/// Parts of the names of tests that need no kernel: what they do is the same each time.
const TESTS: [&str; 2] = ["packet_socket::ring::", "bytes::"];

#[test]
fn raw_memory_is_used_within_its_bounds() {
    let run = Command::new("valgrind")
        .args(["--quiet", "--error-exitcode=99"])
        .arg(std::env::current_exe().unwrap())
        .arg("--test-threads=1")
        .args(TESTS)
        .output()
        .expect("valgrind, which `cargo xtask test` installs");
    let (out, err) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{out}{err}");
    assert!(!out.contains(" 0 passed"), "{out}");
}

//! Tests and lints.

use std::process::Command;

use ferrovs_testkit::apt;

use crate::{bin, cycles, unused};

/// Installs what tests need, builds the programs that they run, and runs them all.
pub fn test(args: &[String]) -> Result<(), String> {
    apt::ensure(apt::TOOLS)?;
    let dir = bin::for_tests()?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command
        .args(["test", "--workspace", "--quiet"])
        .args(args)
        .env("FERROVS_BIN", dir);
    bin::run(&mut command)
}

/// Formatting, circles, what nobody uses, clippy, and whether the fuzz targets still compile.
pub fn lint() -> Result<(), String> {
    bin::cargo(&["fmt", "--all", "--check"])?;
    cycles::check()?;
    unused::check()?;
    bin::cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])?;
    fuzz()
}

/// Checks the workspace of fuzz targets, which nothing else builds. The fuzzer's runtime, which takes a C++ compiler,
/// is only wanted by who links it: it is said to be there.
fn fuzz() -> Result<(), String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command
        .args(["check", "--quiet", "--all-targets"])
        .args(["--manifest-path", "fuzz/Cargo.toml"])
        .arg("--target-dir")
        .arg(bin::target().join("fuzz"))
        .env("CUSTOM_LIBFUZZER_PATH", "/nowhere/libfuzzer.a");
    bin::run(&mut command)
}

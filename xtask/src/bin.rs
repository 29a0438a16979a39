//! Builds the programs and lays them out under their Open vSwitch names.

use std::path::{Path, PathBuf};
use std::process::Command;

use ferrovs_testkit::programs;

const PACKAGES: [&str; 3] = [
    "ferrovs-ovs-vswitchd",
    "ferrovs-ovsdb-server",
    "ferrovs-ovs-tools",
];

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs cargo in the workspace.
pub fn cargo(args: &[&str]) -> Result<(), String> {
    run(Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into())).args(args))
}

/// Runs a command in the workspace; its failure as text.
pub fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .current_dir(root())
        .status()
        .map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}"))
    }
}

/// Release build into `target/ovs/bin`.
pub fn release() -> Result<PathBuf, String> {
    build("release", &root().join("target/ovs/bin"))
}

/// Build for tests into `target/ovs/test-bin`.
pub fn for_tests() -> Result<PathBuf, String> {
    build("dev", &root().join("target/ovs/test-bin"))
}

fn build(profile: &str, dir: &Path) -> Result<PathBuf, String> {
    let mut args = vec!["build", "--quiet", "--profile", profile];
    for package in PACKAGES {
        args.extend(["-p", package]);
    }
    cargo(&args)?;
    let built = target().join(if profile == "dev" { "debug" } else { profile });
    let fail = |e: std::io::Error| format!("{}: {e}", dir.display());
    programs::link(&built, dir).map_err(fail)?;
    for name in ["vswitch", "vtep", "local-config"] {
        std::fs::write(
            dir.join(format!("{name}.ovsschema")),
            schema(profile, name)?,
        )
        .map_err(fail)?;
    }
    Ok(dir.to_path_buf())
}

/// The text of one of the schemas.
fn schema(profile: &str, name: &str) -> Result<Vec<u8>, String> {
    let run = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["run", "--quiet", "--profile", profile, "-p", "ferrovs-idl"])
        .args(["--example", "schema", "--", name])
        .current_dir(root())
        .output()
        .map_err(|e| e.to_string())?;
    if !run.status.success() {
        return Err(String::from_utf8_lossy(&run.stderr).into_owned());
    }
    Ok(run.stdout)
}

//! Installs Debian packages that a test or the lab needs and the machine lacks, and says so.

use std::process::Command;

/// Programs and the packages that hold them.
pub const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("ethtool", "ethtool"),
    ("dpkg-deb", "dpkg"),
    ("ps", "procps"),
    ("openssl", "openssl"),
    ("valgrind", "valgrind"),
];

fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path)
        .chain(extra)
        .any(|dir| dir.join(program).exists())
}

/// Makes sure that the programs are there; fails with the text of what went wrong.
pub fn ensure(tools: &[(&str, &str)]) -> Result<(), String> {
    let missing: Vec<&str> = tools
        .iter()
        .filter(|(program, _)| !have(program))
        .map(|(_, p)| *p)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing by apt: {}", missing.join(" "));
    run(&["update", "-qq"])?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(&missing);
    run(&args)
}

fn run(args: &[&str]) -> Result<(), String> {
    let output = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output();
    let output = output.map_err(|e| format!("cannot run apt-get: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "apt-get {}: {}",
            args[0],
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

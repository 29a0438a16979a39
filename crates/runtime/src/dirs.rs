//! Where things live, and what the running program is called.
//!
//! Each directory has Open vSwitch's default as a distribution builds it and an environment
//! variable that replaces it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

fn dir(variable: &str, default: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(v) if !v.is_empty() => PathBuf::from(v),
        _ => PathBuf::from(default),
    }
}

/// Sockets and pidfiles: `OVS_RUNDIR` or `/var/run/openvswitch`.
pub fn rundir() -> PathBuf {
    dir("OVS_RUNDIR", "/var/run/openvswitch")
}

/// Log files: `OVS_LOGDIR` or `/var/log/openvswitch`.
pub fn logdir() -> PathBuf {
    dir("OVS_LOGDIR", "/var/log/openvswitch")
}

/// Databases: `OVS_DBDIR`, else `<sysconfdir>/openvswitch`.
pub fn dbdir() -> PathBuf {
    match std::env::var_os("OVS_DBDIR") {
        Some(v) if !v.is_empty() => PathBuf::from(v),
        _ => sysconfdir().join("openvswitch"),
    }
}

/// Configuration: `OVS_SYSCONFDIR` or `/etc`.
pub fn sysconfdir() -> PathBuf {
    dir("OVS_SYSCONFDIR", "/etc")
}

/// Schemas and scripts: `OVS_PKGDATADIR` or `/usr/share/openvswitch`.
pub fn pkgdatadir() -> PathBuf {
    dir("OVS_PKGDATADIR", "/usr/share/openvswitch")
}

static NAME: OnceLock<String> = OnceLock::new();

/// Says what the program is called. The first call counts; a program that is one of several in a
/// binary calls it before anything else.
pub fn set_program_name(name: &str) {
    let _ = NAME.set(name.to_string());
}

/// The last component of the name that the program was called by.
pub fn program_name() -> &'static str {
    NAME.get_or_init(|| {
        let arg0 = std::env::args_os().next().unwrap_or_default();
        Path::new(&arg0)
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_else(|| "unknown".to_string())
    })
}

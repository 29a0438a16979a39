//! Controllers: from their rows to connections, and the state of those back to the rows.

use std::path::{Component, Path};
use std::time::{Duration, Instant};

use ferrovs_idl::open_vswitch::Controller;
use ferrovs_idl::{Idl, Txn};
use ferrovs_ofproto::connmgr::{ConnKind, ConnMgr, ControllerSettings};
use ferrovs_openflow::version::Versions;
use ferrovs_runtime::vlog::modules::BRIDGE;
use ferrovs_runtime::vlog::{self, RateLimit};
use ferrovs_runtime::{daemon, dirs};
use ferrovs_stream::{verify_active, verify_passive};

use crate::config::{BridgeConfig, ControllerConfig, get_int};
use crate::write::{put, put_map};

/// The targets of a bridge, as its rows describe them.
pub(crate) fn settings(config: &BridgeConfig, versions: Versions) -> Vec<ControllerSettings> {
    let mut all: Vec<ControllerSettings> = Vec::new();
    // What each bridge listens on by itself.
    let own = ["mgmt", "snoop"].map(|n| format!("punix:{}{n}", socket_prefix(&config.name)));
    for c in &config.controllers {
        if own.contains(&c.target) || all.iter().any(|s| s.target == c.target) {
            vlog::warn_rl!(
                RL,
                BRIDGE,
                "bridge {}: Duplicate controllers \"{}\".",
                config.name,
                c.target
            );
        } else if !verify_active(&c.target) && !verify_passive(&c.target) {
            vlog::warn_rl!(
                RL,
                vlog::modules::CONNMGR,
                "{}: unsupported controller \"{}\"",
                config.name,
                c.target
            );
        } else if allowed(&config.name, &c.target) {
            all.push(one(config, c, versions));
        }
    }
    all
}

static RL: RateLimit = RateLimit::new(5, 1);

/// How the sockets of a bridge begin.
fn socket_prefix(bridge: &str) -> String {
    dirs::rundir()
        .join(format!("{bridge}."))
        .display()
        .to_string()
}

/// Sockets of the file system are confined: a bridge listens only at places of its own, and connects
/// only into the run directory, unless `--no-self-confinement` says that others see to it. Otherwise who may write the
/// database could reach any socket.
fn allowed(bridge: &str, target: &str) -> bool {
    if !daemon::is_confined() {
        return true;
    }
    let rundir = dirs::rundir();
    let prefix = socket_prefix(bridge);
    if let Some(path) = target.strip_prefix("unix:") {
        if connects_inside(&rundir, path) {
            return true;
        }
        vlog::err_rl!(
            RL,
            BRIDGE,
            "bridge {bridge}: Not connecting to socket controller \"{target}\" due to possibility for remote exploit.  Instead, specify socket in permitted directory \"unix:{}/\" or connect to \"unix:{prefix}mgmt\" (which is always available without special configuration).",
            rundir.display()
        );
        return false;
    }
    if let Some(path) = target.strip_prefix("punix:") {
        if path
            .strip_prefix(&prefix)
            .is_some_and(|rest| !rest.contains('/'))
        {
            return true;
        }
        vlog::err_rl!(
            RL,
            BRIDGE,
            "bridge {bridge}: Not adding Unix domain socket controller \"{target}\" due to possibility of overwriting local files. Instead, specify path in permitted format \"punix:{prefix}*\" or connect to \"unix:{prefix}mgmt\" (which is always available without special configuration)."
        );
        return false;
    }
    true
}

/// A name without a slash stands for one in the run directory.
fn connects_inside(rundir: &Path, path: &str) -> bool {
    let path = Path::new(path);
    let up = path.components().any(|c| c == Component::ParentDir);
    !up && (!path.as_os_str().as_encoded_bytes().contains(&b'/') || path.starts_with(rundir))
}

fn one(config: &BridgeConfig, c: &ControllerConfig, versions: Versions) -> ControllerSettings {
    let mut s = ControllerSettings::new(&c.target);
    s.kind = match c.kind.as_deref() {
        Some("primary") => Some(ConnKind::Primary),
        Some("service") => Some(ConnKind::Service),
        _ => None,
    };
    if let Some(backoff) = c.max_backoff_ms {
        // The connection counts whole seconds.
        s.max_backoff = Duration::from_secs((backoff / 1000).max(1) as u64);
    }
    s.probe_interval = probe_interval(c.inactivity_probe_ms);
    s.enable_async_messages = c.enable_async_messages.unwrap_or(true);
    s.allowed_versions = versions;
    let limit = |n: Option<i64>, least: i64| n.map_or(0, |n| n.max(least) as u32);
    s.rate_limit = limit(c.rate_limit, 100);
    s.burst_limit = limit(c.burst_limit, 25);
    let queue = c.queue_size.or_else(|| {
        let n = get_int(&config.other_config, "controller-queue-size", 0);
        (n > 0).then_some(n)
    });
    s.max_pktq_size = queue.map_or(0, |n| n.clamp(1, 512) as u32);
    if let Some(dscp) = c
        .other_config
        .get("dscp")
        .and_then(|d| d.trim().parse::<u8>().ok())
    {
        s.dscp = dscp.min(63);
    }
    s
}

/// How long a controller may be silent before it is probed, in whole seconds: 5 unless a longer time is asked for.
/// 0 turns probes off.
fn probe_interval(wanted_ms: Option<i64>) -> Option<Duration> {
    const LEAST: i64 = 5;
    match wanted_ms {
        Some(0) => None,
        wanted => {
            let secs = wanted.map_or(LEAST, |n| n / 1000);
            Some(Duration::from_secs(secs.max(LEAST) as u64))
        }
    }
}

/// Writes the state of a bridge's controllers.
pub(crate) fn refresh(
    txn: &mut Txn,
    idl: &Idl,
    connmgr: &ConnMgr,
    config: &BridgeConfig,
    now: Instant,
) {
    let states = connmgr.controller_status(now);
    for c in &config.controllers {
        let state = states.get(&c.target);
        let connected = state.is_some_and(|s| s.is_connected);
        put(txn, idl, c.uuid, Controller::IS_CONNECTED, connected);
        let role = state.map(|s| s.role).filter(|r| !r.is_empty());
        put(txn, idl, c.uuid, Controller::ROLE, role);
        let pairs = state.map(|s| s.pairs.clone()).unwrap_or_default();
        put_map(txn, idl, c.uuid, Controller::STATUS, &pairs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_reached_in_the_run_directory_only() {
        let inside = |path| connects_inside(Path::new("/run/o"), path);
        for path in ["x", "/run/o/x", "/run/o/sub/x", "/run/o//x"] {
            assert!(inside(path), "{path}");
        }
        for path in [
            "/x",
            "sub/x",
            "/run/oo/x",
            "/run/o/../x",
            "..",
            "../run/o/x",
        ] {
            assert!(!inside(path), "{path}");
        }
    }

    #[test]
    fn controllers_are_probed_after_five_seconds_at_the_earliest() {
        let secs = |ms| probe_interval(ms).map(|d| d.as_secs());
        for (ms, expected) in [
            (None, Some(5)),
            (Some(0), None),
            (Some(1), Some(5)),
            (Some(-3), Some(5)),
            (Some(4999), Some(5)),
            (Some(6999), Some(6)),
            (Some(60_000), Some(60)),
        ] {
            assert_eq!(secs(ms), expected, "{ms:?}");
        }
    }

    #[test]
    fn a_bridge_listens_at_its_own_names_only() {
        let prefix = socket_prefix("br0");
        for (path, good) in [
            (format!("{prefix}controller"), true),
            (format!("{prefix}a.b"), true),
            (format!("{prefix}a/b"), false),
            ("/x".to_string(), false),
            ("br0.x".to_string(), false),
            (socket_prefix("br1") + "x", false),
        ] {
            assert_eq!(allowed("br0", &format!("punix:{path}")), good, "{path}");
        }
    }
}

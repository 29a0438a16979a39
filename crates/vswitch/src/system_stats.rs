//! `Open_vSwitch.statistics`: what the host is doing, from /proc; see ovs-vswitchd.conf.db(5).

use std::collections::BTreeMap;
use std::fs;

use ferrovs_runtime::{clock, daemon, dirs};

/// Everything that can be told now.
pub(crate) fn collect() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    all.insert("cpu".to_string(), cpus.to_string());
    let entries = [
        ("load_average", load_average()),
        ("memory", memory()),
        ("file_systems", file_systems()),
    ];
    for (key, value) in entries {
        if let Some(value) = value {
            all.insert(key.to_string(), value);
        }
    }
    processes(&mut all);
    all
}

fn load_average() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let loads: Vec<&str> = text.split_whitespace().take(3).collect();
    (loads.len() == 3).then(|| loads.join(","))
}

fn memory() -> Option<String> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let mut kb = BTreeMap::new();
    for line in text.lines() {
        let (name, rest) = line.split_once(':')?;
        let value = rest
            .split_whitespace()
            .next()
            .and_then(|n| n.parse::<i64>().ok());
        kb.insert(name, value.unwrap_or(0));
    }
    let get = |name: &str| kb.get(name).copied().unwrap_or(0);
    let total = get("MemTotal");
    let used = total - get("MemFree");
    let cached = get("Buffers") + get("Cached");
    let swap = get("SwapTotal");
    let swap_used = swap - get("SwapFree");
    Some(format!("{total},{used},{cached},{swap},{swap_used}"))
}

/// Size and use of each mounted disk, in kilobytes.
fn file_systems() -> Option<String> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mut parts = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [device, point, ..] = fields[..] else {
            continue;
        };
        if !device.starts_with('/') || device.starts_with("/dev/loop") {
            continue;
        }
        if let Some((total, used)) = ferrovs_sys::process::disk_usage(std::path::Path::new(point))
            && total > 0
        {
            let point = point.replace([',', '\\'], "_");
            parts.push(format!("{point},{},{}", total / 1024, used / 1024));
        }
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The daemons that have pidfiles in the run directory.
fn processes(all: &mut BTreeMap<String, String>) {
    let Ok(dir) = fs::read_dir(dirs::rundir()) else {
        return;
    };
    for entry in dir.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".pid") else {
            continue;
        };
        if let Some(text) = daemon::pidfile_contents(&entry.path()).and_then(process) {
            all.insert(format!("process_{name}"), text);
        }
    }
}

/// Sizes, CPU time, crashes, for how long the process and its monitor have run, and the core that it ran on last.
fn process(pid: i32) -> Option<String> {
    let stat = Stat::of(pid)?;
    let (mut crashes, mut booted) = (0, stat.uptime_ms);
    // A monitor tells of itself in its command line.
    if let Ok(title) = fs::read_to_string(format!("/proc/{}/cmdline", stat.parent))
        && let Some((_, rest)) = title.split_once(": monitoring pid ")
    {
        crashes = rest
            .split_once('(')
            .and_then(|(_, r)| r.split_once(" crashes"))
            .and_then(|(n, _)| n.parse().ok())
            .unwrap_or(0);
        booted = Stat::of(stat.parent).map_or(booted, |s| s.uptime_ms);
    }
    Some(format!(
        "{},{},{},{crashes},{booted},{},{}",
        stat.vsz_kb, stat.rss_kb, stat.cpu_ms, stat.uptime_ms, stat.core
    ))
}

struct Stat {
    parent: i32,
    vsz_kb: u64,
    rss_kb: u64,
    cpu_ms: u64,
    uptime_ms: u64,
    core: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Stat> {
        /// Clock ticks that the kernel counts in a second, for every architecture's user space.
        const TICKS: u64 = 100;
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The first field after the name is the third of the file.
        let n = |field: usize| fields.get(field - 3).and_then(|f| f.parse::<u64>().ok());
        let started_ms = n(22)? * 1000 / TICKS;
        Some(Stat {
            parent: n(4)? as i32,
            vsz_kb: n(23)? / 1024,
            rss_kb: n(24)? * 4,
            cpu_ms: (n(14)? + n(15)?) * 1000 / TICKS,
            core: n(39)?,
            uptime_ms: (clock::boot_ms().max(0) as u64).saturating_sub(started_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_and_this_process_can_be_told() {
        let all = collect();
        assert_eq!(all["memory"].split(',').count(), 5);
        assert_eq!(all["load_average"].split(',').count(), 3);
        let me = process(std::process::id() as i32).unwrap();
        assert_eq!(me.split(',').count(), 7);
    }
}

//! Network namespaces and hosts in them.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::command::{Outcome, run, sh};

/// A number that no other name of this process has.
fn serial() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Relaxed)
}

/// A name that no other test uses at the same time, at most 15 bytes long.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{:x}x{:x}", std::process::id() & 0xf_ffff, serial())
}

/// A network namespace, removed with its devices when dropped.
#[derive(Debug)]
pub struct Netns {
    pub name: String,
}

impl Netns {
    #[track_caller]
    pub fn new(prefix: &str) -> Netns {
        let name = unique(prefix);
        sh(&format!(
            "ip netns add {name} && ip -n {name} link set lo up"
        ));
        Netns { name }
    }

    /// Runs a command line in the namespace.
    pub fn run(&self, line: &str) -> Outcome {
        run("ip", &["netns", "exec", &self.name, "sh", "-c", line], &[])
    }

    /// The same, and it must succeed.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        self.run(line).ok()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "del", &self.name], &[]);
    }
}

/// A host: a namespace with a device `eth0` whose other end is a port of a switch.
#[derive(Debug)]
pub struct Host {
    pub netns: Netns,
    /// The device in the switch's namespace.
    pub port: String,
    pub ip: String,
}

impl Host {
    /// Makes a host with this address (`10.0.0.1/24`) whose other end `port` is in the namespace `switch`.
    #[track_caller]
    pub fn new(switch: &Netns, port: &str, ip: &str) -> Host {
        let netns = Netns::new("fh");
        sh(&format!(
            "ip link add {port} netns {sw} type veth peer name eth0 netns {h}
             ip -n {sw} link set {port} up
             ip netns exec {h} sysctl -qw net.ipv6.conf.all.disable_ipv6=1
             ip -n {h} addr add {ip} dev eth0
             ip -n {h} link set eth0 up",
            sw = switch.name,
            h = netns.name
        ));
        let ip = ip.split('/').next().unwrap_or(ip).to_string();
        Host {
            netns,
            port: port.to_string(),
            ip,
        }
    }

    /// Whether `n` echo requests to `ip` are all answered, with a few attempts before for ARP to settle.
    pub fn pings(&self, ip: &str, n: u32) -> bool {
        self.netns.run(&format!(
            "ping -n -q -c 1 -W 2 {ip} || ping -n -q -c 1 -W 2 {ip}"
        ));
        let out = self
            .netns
            .run(&format!("ping -n -q -c {n} -i 0.05 -W 1 {ip}"));
        out.stdout
            .contains(&format!("{n} packets transmitted, {n} received"))
    }
}

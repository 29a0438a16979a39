//! One of the two that race: its switch, and how it does a case.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use ferrovs_testkit::command::{run, sh};
use ferrovs_testkit::switch::{Cast, Switch, wait_for};
use ferrovs_testkit::{Programs, isolation};

use super::cases::{Caches, Case, Frames, Ports, Rules};
use super::frames::{LOCAL_IP, LOCAL_MAC, REMOTE_IP, REMOTE_MAC, VNI};
use super::measure::{self, Counts};

/// The processor that polls; the other threads stay on the first.
const POLLING_MASK: &str = "0x2";
/// Megabytes for DPDK's packets, and the huge pages of 2 MB that they take with some to spare.
const DPDK_MB: &str = "1536";
const HUGE_PAGES: u64 = 1280;
const HUGE_PAGES_FILE: &str = "/proc/sys/vm/nr_hugepages";

/// How long caches may fill before a measurement, and how long that takes.
const WARM: Duration = Duration::from_millis(1500);
const MEASURED: Duration = Duration::from_secs(1);

/// See the module's text.
pub struct Side {
    /// Name and version of the switch.
    pub name: String,
    switch: Switch,
    load: Load,
    /// Ports had so far: DPDK's devices have names of their own.
    ports: u32,
}

/// What packets come from and go to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// DPDK's devices.
    Dpdk,
    /// Those of Ferrovs, without DPDK.
    Replay,
}

impl Side {
    /// Starts a switch; `drivers` are DPDK's, unless it finds them itself.
    pub fn start(label: &str, programs: Programs, drivers: Option<&Path>) -> Result<Side, String> {
        let version = run(&programs.path("ovs-vswitchd"), &["--version"], &[]).result()?;
        let load = match version.lines().any(|line| line.starts_with("DPDK ")) {
            true => Load::Dpdk,
            false => Load::Replay,
        };
        let mut settings = vec![
            format!("other_config:pmd-cpu-mask={POLLING_MASK}"),
            "other_config:n-revalidator-threads=1".to_owned(),
            "other_config:n-handler-threads=1".to_owned(),
        ];
        if load == Load::Dpdk {
            reserve_huge_pages()?;
            let drivers = drivers.map_or_else(String::new, |d| format!(" -d {}", d.display()));
            settings.extend([
                "other_config:dpdk-init=true".to_owned(),
                "other_config:dpdk-lcore-mask=0x1".to_owned(),
                format!("other_config:dpdk-socket-mem={DPDK_MB}"),
                format!("other_config:dpdk-extra=\"--in-memory --iova-mode=va --no-pci{drivers}\""),
            ]);
        }
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let switch = Switch::try_start(Cast::all(programs), &settings, &[])?;
        let side = Side {
            name: name(label, &version),
            switch,
            load,
            ports: 0,
        };
        side.wait_for_dpdk()?;
        Ok(side)
    }

    fn wait_for_dpdk(&self) -> Result<(), String> {
        let get = |column: &str| {
            let args = ["--timeout=5", "get", "Open_vSwitch", ".", column];
            self.switch.client("ovs-vsctl", &args).stdout
        };
        let is_up = || self.load == Load::Replay || get("dpdk_initialized").trim() == "true";
        if wait_for(Duration::from_secs(20), is_up) {
            return Ok(());
        }
        let log = self.switch.log("ovs-vswitchd");
        let tail: Vec<&str> = log
            .lines()
            .filter(|l| l.contains("dpdk") || l.contains("EAL"))
            .collect();
        Err(format!("DPDK does not start:\n{}", tail.join("\n")))
    }

    /// Does one case with the frames of this file, and says what its packets cost. `rules` is a file too.
    pub fn race(&mut self, case: &Case, pcap: &Path, rules: &Path) -> Result<Counts, String> {
        let result = self
            .set_up(case, rules)
            .and_then(|()| self.measure(case, pcap));
        let away = self.vsctl("--if-exists del-br br-int -- --if-exists del-br br-phy");
        let counts = result?;
        away.map(|_| counts)
    }

    fn set_up(&mut self, case: &Case, rules: &Path) -> Result<(), String> {
        let (share, signatures) = match case.caches {
            Caches::Default => (100, false),
            Caches::Exact => (1, false),
            Caches::Signature => (0, true),
            Caches::None => (0, false),
        };
        let caches = format!(
            "set Open_vSwitch . other_config:emc-insert-inv-prob={share} other_config:smc-enable={signatures}"
        );
        let sink = self.sink();
        let bridge = "-- add-br br-int -- set Bridge br-int datapath_type=netdev fail_mode=secure";
        let out = |bridge: &str| format!("-- add-port {bridge} out -- set Interface out {sink}");
        let [a, b, c, d, e, f] = LOCAL_MAC;
        let tunnel = format!(
            "-- add-br br-phy -- set Bridge br-phy datapath_type=netdev \
             other_config:hwaddr={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} \
             -- add-port br-int vx -- set Interface vx type=vxlan options:remote_ip={} options:key={VNI}",
            ip(REMOTE_IP)
        );
        let ports = match case.ports {
            Ports::Forward => format!("{} ofport_request=2", out("br-int")),
            Ports::Encapsulate => format!("{tunnel} ofport_request=2 {}", out("br-phy")),
            // The rules are those from port 1 to port 2, as elsewhere.
            Ports::Decapsulate => {
                format!(
                    "{tunnel} ofport_request=1 {} ofport_request=2",
                    out("br-int")
                )
            }
        };
        self.vsctl(&format!("{caches} {bridge} {ports}"))?;
        if case.ports != Ports::Forward {
            self.set_up_underlay()?;
        }
        let rules = rules.to_string_lossy();
        self.client("ovs-ofctl", &["add-flows", "br-int", &rules])?;
        Ok(())
    }

    /// The tunnel's address, its route, and who is at its other end.
    fn set_up_underlay(&self) -> Result<(), String> {
        let (local, remote) = (ip(LOCAL_IP), ip(REMOTE_IP));
        let line = format!("ip addr add {local}/24 dev br-phy && ip link set br-phy up");
        self.switch.netns.run(&line).result()?;
        let [a, b, c, d, e, f] = REMOTE_MAC;
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        self.client("ovs-appctl", &["tnl/arp/set", "br-phy", &remote, &mac])?;
        Ok(())
    }

    fn measure(&mut self, case: &Case, pcap: &Path) -> Result<Counts, String> {
        let bridge = match case.ports {
            Ports::Decapsulate => "br-phy",
            Ports::Forward | Ports::Encapsulate => "br-int",
        };
        let again = case.frames != Frames::Once;
        let source = self.source(pcap, again);
        let number = match case.ports {
            Ports::Decapsulate => "",
            Ports::Forward | Ports::Encapsulate => "ofport_request=1",
        };
        self.clear()?;
        self.vsctl(&format!(
            "add-port {bridge} in -- set Interface in {source} {number}"
        ))?;
        if again {
            sleep(WARM);
            self.clear()?;
            sleep(MEASURED);
        } else {
            // Until all have come.
            wait_for(Duration::from_secs(10), || {
                sleep(Duration::from_millis(200));
                self.counts()
                    .is_ok_and(|c| c.received >= u64::from(case.flows))
            });
        }
        let counts = self.counts()?;
        if counts.received == 0 {
            return Err(format!("no packet was received\n{}", self.last_words()));
        }
        // The work that is raced is to send them.
        let text = self.client("ovs-appctl", &["dpif-netdev/pmd-perf-show"])?;
        let share = measure::sent_share(&text);
        if case.rules != Rules::Drop && !(0.99..1.01).contains(&share) {
            let percent = share * 100.0;
            return Err(format!(
                "only {percent:.0} % of the packets were sent on, which does not count"
            ));
        }
        Ok(counts)
    }

    fn clear(&self) -> Result<(), String> {
        self.client("ovs-appctl", &["dpif-netdev/pmd-stats-clear"])?;
        Ok(())
    }

    fn counts(&self) -> Result<Counts, String> {
        let text = self.client("ovs-appctl", &["dpif-netdev/pmd-stats-show"])?;
        Ok(Counts::parse(&text))
    }

    fn last_words(&self) -> String {
        let log = self.switch.log("ovs-vswitchd");
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// An interface's settings where packets end.
    fn sink(&mut self) -> String {
        self.ports += 1;
        match self.load {
            Load::Dpdk => format!(
                "type=dpdk options:dpdk-devargs=net_null{},size=64,no-rx=1",
                self.ports
            ),
            Load::Replay => "type=null".to_owned(),
        }
    }

    /// An interface's settings where the frames of a file come from.
    fn source(&mut self, pcap: &Path, again: bool) -> String {
        self.ports += 1;
        let (n, file) = (self.ports, pcap.display());
        match self.load {
            Load::Dpdk => {
                let again = if again { ",infinite_rx=1" } else { "" };
                format!("type=dpdk options:dpdk-devargs=net_pcap{n},rx_pcap={file}{again}")
            }
            Load::Replay => format!("type=replay options:pcap={file} options:loop={again}"),
        }
    }

    fn vsctl(&self, line: &str) -> Result<String, String> {
        let mut args = vec!["--timeout=30"];
        args.extend(line.split_whitespace());
        self.client("ovs-vsctl", &args)
    }

    fn client(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let outcome = self.switch.client(program, args);
        outcome
            .result()
            .map_err(|e| format!("{program} {}: {e}", args.join(" ")))
    }
}

/// "Open vSwitch 3.5.0, DPDK 24.11.8".
fn name(label: &str, version: &str) -> String {
    let number = version.lines().next().and_then(|l| l.rsplit(' ').next());
    let dpdk = version.lines().find(|line| line.starts_with("DPDK "));
    let dpdk = dpdk.map_or_else(String::new, |d| format!(", {d}"));
    format!("{label} {}{dpdk}", number.unwrap_or_default())
}

fn ip(address: [u8; 4]) -> String {
    address.map(|byte| byte.to_string()).join(".")
}

/// Makes as many huge pages as DPDK takes; how many there were before comes back at the end.
fn reserve_huge_pages() -> Result<(), String> {
    let read = || -> Option<u64> {
        std::fs::read_to_string(HUGE_PAGES_FILE)
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let before = read().ok_or("this kernel has no huge pages")?;
    if before >= HUGE_PAGES {
        return Ok(());
    }
    let undo = format!("echo {before} > {HUGE_PAGES_FILE}\n");
    std::fs::write(isolation::UNDO, undo).map_err(|e| format!("{}: {e}", isolation::UNDO))?;
    // What could not be had shows in the number, not as an error.
    let _ = std::fs::write(HUGE_PAGES_FILE, HUGE_PAGES.to_string());
    match read().unwrap_or_default() {
        now if now >= HUGE_PAGES => Ok(()),
        now => Err(format!(
            "DPDK takes {HUGE_PAGES} huge pages of 2 MB, and this machine gives {now}"
        )),
    }
}

/// Lays the programs of a peer into `bin`: of a folder with them, or of a tree into which packages have been unpacked.
pub fn peer_programs(peer: &Path, bin: PathBuf) -> Result<Programs, String> {
    match peer.join("ovs-vsctl").exists() {
        true => Ok(Programs::of(peer.to_path_buf())),
        false => ferrovs_testkit::debian::lay(peer, bin),
    }
}

/// DPDK's drivers in a tree; none where DPDK looks for them by itself.
pub fn peer_drivers(peer: &Path) -> Option<PathBuf> {
    let find = format!(
        "find {}/usr/lib -maxdepth 3 -type d -path '*/dpdk/pmds-*' | head -1",
        peer.display()
    );
    let found = PathBuf::from(sh(&find).trim());
    let inside = found.strip_prefix(peer).ok()?;
    (!Path::new("/").join(inside).exists()).then_some(found)
}

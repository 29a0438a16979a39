//! Devices of the Linux host: `system` (any Ethernet device, by packet sockets), `tap` (a device
//! that this process creates and whose host side is the host's IP stack) and `internal` (a device
//! that a datapath of the kernel created).
//!
//! ```text
//!   system:  wire ---> PacketRx (ring) ---> switch ---> PacketTx ---> wire
//!   tap:     host's stack transmits ---> read ---> switch ---> write ---> host's stack receives
//! ```
//!
//! A tap's counters are therefore those of the host with receive and transmit exchanged.
//!
//! A `system` device may vanish while it is open. Its sockets stay; when a device of that name
//! returns (under a new index) they are bound to it, so a thread that polls a queue's descriptor
//! notices nothing but the pause.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::vlog::modules::{NETDEV, NETDEV_LINUX};
use ferrovs_runtime::vlog::{self, RateLimit};
use ferrovs_sync::Counter;
use ferrovs_sys::ethtool;
use ferrovs_sys::ifreq::{self, IFF_LOOPBACK, IFF_PROMISC, IFF_RUNNING, IFF_UP};
use ferrovs_sys::packet_socket::Binder;
use ferrovs_sys::rtnetlink::{self, Rtnl};
use ferrovs_sys::tap::{Tap, TapOptions};

use crate::changes::changed;
use crate::{
    Capabilities, Features, Flags, Layout, Loss, LossCounters, LossSums, Netdev, Rxq, Stats, Txq,
    offload,
};

pub(crate) mod closing;
mod features;
mod link_stats;
mod links;
mod rxq;
mod txq;

pub use link_stats::LinkStats;
pub use links::{link_came, link_went, links_are};

use closing::HostTap;

const ENODEV: i32 = 19;

/// A device as its users hold it; queues share the inside.
#[derive(Debug)]
struct Device(Arc<Linux>);

#[derive(Debug)]
struct Linux {
    name: String,
    kind: &'static str,
    ethernet: bool,
    numa_id: u32,
    io: Io,
    /// 0 while the device is away.
    ifindex: AtomicU32,
    /// `IFF_*` as last heard.
    flags: AtomicU32,
    /// As last heard; 0 when unknown.
    mtu: AtomicU32,
    /// As last heard; 0 when unknown.
    mac: AtomicU64,
    carrier_resets: AtomicU64,
    seq: AtomicU64,
    tx_dropped: Counter,
    rx_losses: LossCounters,
    /// We turned promiscuous mode on and turn it off when the device is closed.
    promisc: AtomicBool,
}

#[derive(Debug)]
enum Io {
    /// The sockets of all queues.
    Socket(Mutex<Vec<Binder>>),
    Tap(HostTap),
}

/// Opens a device that exists.
pub fn open_existing(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    Ok(links::listen(existing(name, kind)?))
}

/// Creates a tap, or takes over the one that an earlier process left.
pub fn open_tap(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    Ok(links::listen(tap(name, kind)?))
}

fn existing(name: &str, kind: &'static str) -> io::Result<Device> {
    const ENAMETOOLONG: i32 = 36;
    let flags = ifreq::flags(name).map_err(|e| match e.raw_os_error() {
        // A name that no device can have is simply not there.
        Some(ENAMETOOLONG) => io::Error::from_raw_os_error(ENODEV),
        _ => e,
    })?;
    let ifindex = ifreq::ifindex(name)?;
    // Frames of the loopback device have an Ethernet header too.
    let hw_type = ifreq::hwaddr(name)?.0;
    let ethernet = matches!(hw_type, ifreq::ARPHRD_ETHER | ifreq::ARPHRD_LOOPBACK);
    let io = Io::Socket(Mutex::default());
    Ok(Device::new(name, kind, ethernet, io, ifindex, flags))
}

fn tap(name: &str, kind: &'static str) -> io::Result<Device> {
    let tap = Tap::open(
        name,
        TapOptions {
            vnet_hdr: true,
            ..TapOptions::default()
        },
    )?;
    tap.set_persistent(true)?;
    tap.set_best_offload();
    let ifindex = ifreq::ifindex(name)?;
    let flags = ifreq::flags(name)?;
    let io = Io::Tap(HostTap::new(tap));
    Ok(Device::new(name, kind, true, io, ifindex, flags))
}

impl Device {
    fn new(
        name: &str,
        kind: &'static str,
        ethernet: bool,
        io: Io,
        ifindex: u32,
        flags: u32,
    ) -> Device {
        Device(Arc::new(Linux {
            name: name.to_owned(),
            kind,
            ethernet,
            // A tap is near to no card.
            numa_id: match &io {
                Io::Socket(_) => numa_node(name),
                Io::Tap(_) => 0,
            },
            io,
            ifindex: ifindex.into(),
            flags: flags.into(),
            mtu: 0.into(),
            mac: 0.into(),
            carrier_resets: 0.into(),
            seq: 1.into(),
            tx_dropped: Counter::new(),
            rx_losses: LossCounters::default(),
            promisc: false.into(),
        }))
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        links::forget(&self.name);
        let stays = matches!(self.io, Io::Socket(_)) || closing::keep_devices();
        if stays && self.promisc.load(Ordering::Relaxed) {
            // A failure means that the device is gone already.
            let _ = ifreq::change_flags(&self.name, 0, IFF_PROMISC);
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Linux {
    fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Relaxed);
        changed(&self.name);
    }

    fn iff(&self) -> io::Result<u32> {
        let now = ifreq::flags(&self.name)?;
        self.note_flags(now);
        Ok(now)
    }

    /// Remembers the flags; true if they differ in something that matters.
    fn note_flags(&self, now: u32) -> bool {
        const SEEN: u32 = IFF_UP | IFF_RUNNING | IFF_PROMISC;
        let old = self.flags.swap(now, Ordering::Relaxed);
        if (old ^ now) & IFF_RUNNING != 0 {
            self.carrier_resets.fetch_add(1, Ordering::Relaxed);
        }
        (old ^ now) & SEEN != 0
    }

    /// The device is (again) there, under index `index`.
    fn appear(&self, index: u32) {
        if self.ifindex.swap(index, Ordering::Relaxed) == index {
            return;
        }
        if let Io::Socket(binders) = &self.io {
            for b in lock(binders).iter() {
                let _ = b.bind(index);
            }
            if self.promisc.load(Ordering::Relaxed) {
                let _ = ifreq::change_flags(&self.name, IFF_PROMISC, 0);
            }
        }
    }
}

impl Linux {
    /// What was lost behind the device: its sockets count what found no room in their rings.
    fn losses(&self) -> LossSums {
        if let Io::Socket(binders) = &self.io {
            for b in lock(binders).iter() {
                self.rx_losses.add(Loss::QueueFull, b.take_drops());
            }
        }
        self.rx_losses.sums()
    }

    /// The device's counters, by those of its link.
    fn stats_of(&self, s: &rtnetlink::LinkStats) -> Stats {
        let mut out = Stats {
            rx_packets: Some(s.rx_packets),
            tx_packets: Some(s.tx_packets),
            rx_bytes: Some(s.rx_bytes),
            tx_bytes: Some(s.tx_bytes),
            rx_errors: Some(s.rx_errors),
            tx_errors: Some(s.tx_errors),
            rx_dropped: Some(s.rx_dropped),
            tx_dropped: Some(s.tx_dropped),
            multicast: Some(s.multicast),
            collisions: Some(s.collisions),
            rx_length_errors: Some(s.rx_length_errors),
            rx_over_errors: Some(s.rx_over_errors),
            rx_crc_errors: Some(s.rx_crc_errors),
            rx_frame_errors: Some(s.rx_frame_errors),
            rx_fifo_errors: Some(s.rx_fifo_errors),
            rx_missed_errors: Some(s.rx_missed_errors),
            custom: Vec::new(),
        };
        match &self.io {
            Io::Tap(_) => {
                // What the host transmits is what the switch receives.
                out.rx_packets = Some(s.tx_packets);
                out.tx_packets = Some(s.rx_packets);
                out.rx_bytes = Some(s.tx_bytes);
                out.tx_bytes = Some(s.rx_bytes);
                out.rx_errors = Some(s.tx_errors);
                out.tx_errors = Some(s.rx_errors);
                out.rx_dropped = Some(s.tx_dropped + self.losses().total());
                // The kernel may count a write to a device that is down; so do we, each time.
                out.tx_dropped = Some(s.rx_dropped.max(self.tx_dropped.sum()));
            }
            Io::Socket(_) => {
                out.rx_dropped = Some(s.rx_dropped + self.losses().total());
                out.tx_dropped = Some(s.tx_dropped + self.tx_dropped.sum());
            }
        }
        out
    }
}

/// The memory node that a card is near to, as the host tells it; 0 where that makes no difference.
fn numa_node(name: &str) -> u32 {
    let file = format!("/sys/class/net/{name}/device/numa_node");
    let node = std::fs::read_to_string(file).ok();
    node.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

impl Netdev for Device {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn kind(&self) -> &'static str {
        self.0.kind
    }

    fn is_ethernet(&self) -> bool {
        self.0.ethernet
    }

    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), String> {
        // Devices of the host are configured by the host's tools; as in Open vSwitch they take
        // no options.
        if !options.is_empty() {
            vlog::warn!(
                NETDEV,
                "{}: arguments provided to device that is not configurable",
                self.0.name
            );
        }
        Ok(())
    }

    fn config(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn layout(&self) -> Layout {
        Layout {
            numa_id: self.0.numa_id,
            ..Layout::SINGLE
        }
    }

    fn rxq_open(&self, _queue: usize) -> io::Result<Box<dyn Rxq>> {
        rxq::open(&self.0)
    }

    fn txq_open(&self, _queue: usize) -> io::Result<Box<dyn Txq>> {
        txq::open(&self.0)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::KERNEL
    }

    fn etheraddr(&self) -> io::Result<MacAddr> {
        let known = self.0.mac.load(Ordering::Relaxed);
        if known != 0 {
            return Ok(MacAddr::from_u64(known));
        }
        let mac = MacAddr(ifreq::hwaddr(&self.0.name)?.1);
        self.0.mac.store(mac.to_u64(), Ordering::Relaxed);
        Ok(mac)
    }

    fn set_etheraddr(&self, mac: MacAddr) -> io::Result<()> {
        if self.etheraddr()? == mac {
            return Ok(());
        }
        ifreq::set_hwaddr(&self.0.name, mac.0)?;
        self.0.mac.store(mac.to_u64(), Ordering::Relaxed);
        self.0.changed();
        Ok(())
    }

    fn mtu(&self) -> io::Result<u32> {
        let known = self.0.mtu.load(Ordering::Relaxed);
        if known != 0 {
            return Ok(known);
        }
        let mtu = ifreq::mtu(&self.0.name)?;
        self.0.mtu.store(mtu, Ordering::Relaxed);
        Ok(mtu)
    }

    fn set_mtu(&self, mtu: u32) -> io::Result<()> {
        if self.mtu()? == mtu {
            return Ok(());
        }
        ifreq::set_mtu(&self.0.name, mtu)?;
        self.0.mtu.store(mtu, Ordering::Relaxed);
        self.0.changed();
        Ok(())
    }

    fn flags(&self) -> io::Result<Flags> {
        // A device that is away is down.
        let iff = match self.0.iff() {
            Err(_) if self.ifindex().is_none() => 0,
            iff => iff?,
        };
        let mut f = Flags::empty();
        f.set(Flags::UP, iff & IFF_UP != 0);
        f.set(Flags::PROMISC, iff & IFF_PROMISC != 0);
        f.set(Flags::LOOPBACK, iff & IFF_LOOPBACK != 0);
        Ok(f)
    }

    fn update_flags(&self, off: Flags, on: Flags) -> io::Result<()> {
        let d = &*self.0;
        let bits = |f: Flags| {
            let mut b = 0;
            if f.contains(Flags::UP) {
                b |= IFF_UP;
            }
            if f.contains(Flags::PROMISC) {
                b |= IFF_PROMISC;
            }
            b
        };
        let old = d.iff()?;
        let new = (old | bits(on)) & !bits(off);
        if new == old {
            return Ok(());
        }
        ifreq::change_flags(&d.name, bits(on), bits(off))?;
        if (old ^ new) & IFF_PROMISC != 0 {
            d.promisc.store(new & IFF_PROMISC != 0, Ordering::Relaxed);
        }
        d.changed();
        Ok(())
    }

    fn carrier(&self) -> bool {
        self.0.iff().is_ok_and(|f| f & IFF_RUNNING != 0)
    }

    fn carrier_resets(&self) -> u64 {
        self.0.carrier_resets.load(Ordering::Relaxed)
    }

    fn ifindex(&self) -> Option<u32> {
        match self.0.ifindex.load(Ordering::Relaxed) {
            0 => None,
            i => Some(i),
        }
    }

    fn stats(&self) -> io::Result<Stats> {
        Ok(self.0.stats_of(&Rtnl::open()?.link(&self.0.name)?.stats))
    }

    fn rx_losses(&self) -> LossSums {
        let mut losses = self.0.losses();
        if let Io::Tap(_) = &self.0.io
            && let Ok(link) = Rtnl::open().and_then(|mut rtnl| rtnl.link(&self.0.name))
        {
            // What the host sent and nobody read in time.
            losses.add(Loss::QueueFull, link.stats.tx_dropped);
        }
        losses
    }

    fn stats_among(&self, links: &LinkStats) -> io::Result<Stats> {
        match self.ifindex().and_then(|index| links.of(index)) {
            Some(s) => Ok(self.0.stats_of(s)),
            None => self.stats(),
        }
    }

    fn features(&self) -> io::Result<Features> {
        Ok(features::from_link(&ethtool::link_settings(&self.0.name)?))
    }

    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        let index = self
            .ifindex()
            .ok_or_else(|| io::Error::from_raw_os_error(ENODEV))?;
        let addrs = Rtnl::open()?.addrs()?;
        Ok(addrs
            .iter()
            .filter(|a| a.index == index)
            .map(|a| (a.addr, a.prefix_len))
            .collect())
    }

    fn status(&self) -> BTreeMap<String, String> {
        // Taps, as Open vSwitch's, say nothing of it.
        let mut status = match self.0.io {
            Io::Socket(_) => offload::status(self.capabilities()),
            Io::Tap(_) => BTreeMap::new(),
        };
        match ethtool::driver_info(&self.0.name) {
            Ok(d) => {
                let driver = [
                    ("driver_name", d.driver),
                    ("driver_version", d.version),
                    ("firmware_version", d.fw_version),
                ];
                status.extend(driver.map(|(k, v)| (k.to_owned(), v)));
            }
            Err(e) if e.raw_os_error() == Some(ENODEV) => {
                static RL: RateLimit = RateLimit::new(9, 1);
                vlog::warn_rl!(
                    RL,
                    NETDEV_LINUX,
                    "ethtool command ETHTOOL_GDRVINFO on network device {} failed: {}",
                    self.0.name,
                    ferrovs_runtime::text::errno(&e)
                );
                // Nothing is true of a device that is gone.
                status.clear();
            }
            Err(_) => {}
        }
        status
    }

    fn change_seq(&self) -> u64 {
        self.0.seq.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Losses;
    use ferrovs_packet::buffer::{Batch, Checksum, Packet};

    /// A namespace of the test's own with the veth pair a0 - b0, both up.
    fn veth() {
        ferrovs_sys::netns::unshare().unwrap();
        sh("ip link add a0 type veth peer name b0; ip link set a0 up; ip link set b0 up");
    }

    fn sh(script: &str) {
        let status = ferrovs_sys::children::sh(script).unwrap();
        assert!(status.success(), "{script}");
    }

    fn send(device: &Device, packets: &mut Batch) -> Losses {
        device.txq_open(0).unwrap().send(packets)
    }

    fn frame(mark: u8) -> Packet {
        let mut f = [mark; 60];
        f[..6].fill(0xff);
        f[12..14].copy_from_slice(&[0x88, 0xb5]);
        Packet::from_slice(&f)
    }

    /// Waits for the next frame of an EtherType.
    fn next_of(q: &mut dyn Rxq, ethertype: [u8; 2]) -> Option<Packet> {
        use std::os::fd::AsRawFd;

        use ferrovs_sys::fd::{Events, PollEntry, poll};
        let mut batch = Batch::new();
        loop {
            q.recv(&mut batch).unwrap();
            let mut found = batch.drain(..).filter(|p| p.data()[12..14] == ethertype);
            if let Some(p) = found.next() {
                assert!(found.next().is_none());
                return Some(p);
            }
            let mut ready = [PollEntry::new(q.fd()?.as_raw_fd(), Events::IN)];
            if poll(&mut ready, Some(std::time::Duration::from_secs(10))).unwrap() == 0 {
                return None;
            }
        }
    }

    fn next(q: &mut dyn Rxq) -> Option<Packet> {
        next_of(q, [0x88, 0xb5])
    }

    #[test]
    fn frames_cross_a_pair_of_system_devices_with_their_checksum_state() {
        veth();
        let (a, b) = (
            existing("a0", "system").unwrap(),
            existing("b0", "system").unwrap(),
        );
        let mut q = b.rxq_open(0).unwrap();
        let mut p = frame(7);
        p.offload.checksum = Checksum::Partial {
            start: 34,
            offset: 6,
        };
        let mut batch: Batch = [p].into_iter().collect();
        assert!(send(&a, &mut batch).is_empty());
        assert!(batch.is_empty());
        let got = next(&mut *q).unwrap();
        assert_eq!((got.size(), got.data()[59]), (60, 7));
        assert_eq!(
            got.offload.checksum,
            Checksum::Partial {
                start: 34,
                offset: 6
            }
        );
        assert!(a.is_ethernet() && a.carrier());
        assert_eq!(a.status()["driver_name"], "veth");
        assert_eq!(a.features().unwrap().speed_current, 10000);
        // A VLAN tag that the kernel strips is back in the frame.
        let mut tagged = vec![0xffu8; 12];
        tagged.extend_from_slice(&[0x81, 0, 0x20, 5, 0x88, 0xb5]);
        tagged.resize(64, 9);
        send(&a, &mut [Packet::from_slice(&tagged)].into_iter().collect());
        let got = next_of(&mut *q, [0x81, 0]).unwrap();
        assert_eq!(got.data(), tagged);
    }

    #[test]
    fn a_device_that_vanishes_and_returns_goes_on_with_the_same_queue() {
        veth();
        // The registry's monitor may be in the namespace of another test; this one is in ours.
        use ferrovs_sys::rtnetlink::{Groups, Monitor};
        let links = Groups {
            links: true,
            ..Groups::default()
        };
        let mut monitor = Monitor::open(links).unwrap();
        let mut hear = || crate::registry::deliver(monitor.recv().unwrap());
        let b = crate::open("b0", "").unwrap();
        b.update_flags(Flags::empty(), Flags::PROMISC).unwrap();
        let mut q = b.rxq_open(0).unwrap();
        let seq = b.change_seq();
        sh("ip link del a0");
        hear();
        assert_eq!((b.ifindex(), b.flags().unwrap()), (None, Flags::empty()));
        assert_ne!(b.change_seq(), seq);
        assert!(!b.carrier() && b.status().is_empty());
        sh("ip link add a0 type veth peer name b0; ip link set a0 up; ip link set b0 up");
        hear();
        assert!(b.ifindex().is_some() && b.carrier());
        sh("ip link set b0 mtu 1400 address 02:00:00:00:00:0b");
        hear();
        assert_eq!(
            (b.mtu().unwrap(), b.etheraddr().unwrap().0[5]),
            (1400, 0x0b)
        );
        assert!(b.flags().unwrap().contains(Flags::PROMISC));
        let a = existing("a0", "system").unwrap();
        send(&a, &mut [frame(3)].into_iter().collect());
        assert_eq!(next(&mut *q).unwrap().data()[59], 3);
        assert!(crate::lookup("b0").is_some());
        drop(b);
        assert!(crate::lookup("b0").is_none());
    }

    #[test]
    fn a_tap_goes_with_its_last_holder_and_counts_what_a_downed_device_refuses() {
        ferrovs_sys::netns::unshare().unwrap();
        let t = tap("t0", "tap").unwrap();
        let mut q = t.rxq_open(0).unwrap();
        let losses = send(&t, &mut [frame(1), frame(2)].into_iter().collect());
        assert_eq!(losses, Losses::all(Loss::Down, 2));
        assert_eq!(t.stats().unwrap().tx_dropped, Some(2));
        t.update_flags(Flags::empty(), Flags::UP).unwrap();
        send(&t, &mut [frame(1)].into_iter().collect());
        let s = t.stats().unwrap();
        assert_eq!((s.tx_packets, s.tx_bytes), (Some(1), Some(60)));
        // The host sends a large packet: it arrives in one piece.
        sh("ip link set t0 mtu 9000; ip addr add 192.0.2.1/24 dev t0;
            ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev t0");
        let socket = std::net::UdpSocket::bind("192.0.2.1:0").unwrap();
        socket.send_to(&[0; 6000], "192.0.2.2:9").unwrap();
        let mut batch = Batch::new();
        let mut large = false;
        while q.recv(&mut batch).unwrap() > 0 {
            large |= batch.drain(..).any(|p| p.size() == 6042);
        }
        assert!(large);
        let _guard = ferrovs_sys::children::none_starting();
        drop((t, q));
        closing::wait_for(Some("t0"));
        assert!(!crate::exists("t0"));
    }

    #[test]
    fn opening_what_is_not_there_says_so() {
        let errno = |name: &str, kind: &str| crate::open(name, kind).err().unwrap().raw_os_error();
        assert_eq!(errno("nosuchdev", ""), Some(19));
        assert_eq!(errno("a-name-much-too-long", "system"), Some(19));
        assert_eq!(errno("x", "foo"), Some(97));
    }
}

//! Ports beside a front-end that is not ours: that of rust-vmm.

use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use ferrovs_sys::fd::{Events, PollEntry, poll};
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::{Flags, Layout, Netdev};

/// A guest with one pair of queues, and who runs it.
struct Machine {
    frontend: Frontend,
    file: OwnedFd,
    /// What it receives from, and sends to.
    rings: [Driver; 2],
    kick: EventFd,
}

const FEATURES: Features = Features::VERSION_1
    .union(Features::MRG_RXBUF)
    .union(Features::PROTOCOL_FEATURES)
    .union(Features::GUEST_CSUM)
    .union(Features::MQ);

impl Machine {
    fn new(stream: UnixStream, packed: bool) -> Machine {
        let (file, memory) = memory();
        let rings = [0, 1].map(|n| Driver::new(&memory, n, 64, packed));
        let frontend = Frontend::from_stream(stream, 2);
        let kick = EventFd::new(0).unwrap();
        Machine {
            frontend,
            file,
            rings,
            kick,
        }
    }

    /// Tells the switch all that it has to know.
    fn boot(&mut self, mut features: Features) {
        let f = &mut self.frontend;
        f.set_owner().unwrap();
        let offered = f.get_features().unwrap();
        assert_eq!(offered & features.bits(), features.bits());
        if self.rings[0].packed {
            features |= Features::RING_PACKED;
        }
        f.set_features(features.bits()).unwrap();
        let protocol = f.get_protocol_features().unwrap();
        let wanted = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
        assert!(protocol.contains(wanted));
        f.set_protocol_features(wanted).unwrap();
        f.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        assert_eq!(f.get_queue_num().unwrap(), 128);
        self.share_memory();
        for (index, ring) in self.rings.iter().enumerate() {
            let parts = ring.parts();
            let f = &mut self.frontend;
            f.set_vring_num(index, ring.size).unwrap();
            f.set_vring_base(index, ring.base()).unwrap();
            let config = VringConfigData {
                queue_max_size: 64,
                queue_size: ring.size,
                flags: 0,
                desc_table_addr: parts.desc,
                used_ring_addr: parts.used,
                avail_ring_addr: parts.avail,
                log_addr: None,
            };
            f.set_vring_addr(index, &config).unwrap();
            f.set_vring_kick(index, &self.kick).unwrap();
            f.set_vring_call(index, &self.kick).unwrap();
            f.set_vring_enable(index, true).unwrap();
        }
    }

    fn share_memory(&self) {
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST,
            memory_size: SIZE,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        };
        self.frontend.set_mem_table(&[region]).unwrap();
    }

    /// Frames cross both ways.
    fn exchange(&mut self, port: &dyn Netdev) {
        let (mut rxq, mut txq) = (port.rxq_open(0).unwrap(), port.txq_open(0).unwrap());
        let [to, from] = &mut self.rings;
        from.put(0x10_000c + 0x1000, &frame(8, 64));
        from.offer(&[(GUEST + 0x10_1000, 76, false)], None);
        let mut batch = Batch::new();
        assert_eq!(rxq.recv(&mut batch).unwrap(), 1);
        assert_eq!(batch[0].data(), frame(8, 64));
        to.offer(&[(GUEST + 0x10_2000, 2048, true)], None);
        let losses = txq.send(&mut batch);
        assert!(losses.is_empty() && batch.is_empty());
        assert_eq!((from.used().len(), to.used()[0].1), (1, 76));
        assert_eq!(to.get(0x10_200c, 64), frame(8, 64));
    }
}

fn client(path: &Path) -> Arc<dyn Netdev> {
    let port = crate::vhost::open_client("vhost-test", "dpdkvhostuserclient").unwrap();
    let options = [(
        "vhost-server-path".to_owned(),
        path.to_string_lossy().into_owned(),
    )];
    port.set_config(&options.into()).unwrap();
    port
}

/// Waits until something is as wanted.
fn until(what: impl Fn() -> bool) {
    for _ in 0..2000 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it did not become so");
}

fn accept(listener: &UnixListener) -> UnixStream {
    let mut ready = [PollEntry::new(listener.as_raw_fd(), Events::IN)];
    assert_eq!(poll(&mut ready, Some(Duration::from_secs(10))).unwrap(), 1);
    listener.accept().unwrap().0
}

#[test]
fn a_guest_comes_goes_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let port = client(&path);
    assert_eq!(port.status()["status"], "disconnected");
    let listener = UnixListener::bind(&path).unwrap();
    for packed in [false, true] {
        let mut machine = Machine::new(accept(&listener), packed);
        machine.boot(FEATURES);
        until(|| port.carrier());
        let two = Layout {
            n_rxq: 1,
            n_txq: 1,
            numa_id: 0,
        };
        assert_eq!(port.requested(), two);
        port.reconfigure().unwrap();
        for _ in 0..100 {
            machine.exchange(&*port);
        }
        let status = port.status();
        assert_eq!(
            (&*status["status"], &*status["mode"]),
            ("connected", "client")
        );
        assert_eq!(
            (&*status["num_of_vrings"], &*status["vring_1_size"]),
            ("2", "64")
        );
        assert_eq!(status["tx_tcp_csum_offload"], "true");
        let stats = port.stats().unwrap();
        assert_eq!((stats.rx_packets, stats.tx_bytes), (Some(100), Some(6400)));
        // Memory that is shared anew does not lose the place.
        machine.share_memory();
        machine.exchange(&*port);
        // A port that is down neither sends nor receives.
        port.update_flags(Flags::UP, Flags::empty()).unwrap();
        assert!(!port.carrier());
        let mut batch: Batch = [Packet::from_slice(&frame(2, 60))].into_iter().collect();
        assert_eq!(port.txq_open(0).unwrap().send(&mut batch).total(), 1);
        port.update_flags(Flags::empty(), Flags::UP).unwrap();
        machine.frontend.get_vring_base(0).unwrap();
        assert!(!port.carrier());
        drop(machine);
        until(|| port.status()["status"] == "disconnected");
        assert_eq!(port.stats().unwrap_err().raw_os_error(), Some(71));
    }
    drop(port);
}

#[test]
fn a_queue_that_is_stopped_is_not_touched_and_goes_on_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let port = client(&path);
    let mut machine = Machine::new(accept(&listener), false);
    machine.boot(FEATURES);
    machine.exchange(&*port);
    machine.frontend.set_vring_enable(1, false).unwrap();
    assert!(!port.rxq_enabled(0));
    let from = &mut machine.rings[1];
    from.offer(&[(GUEST + 0x10_1000, 76, false)], None);
    let mut batch = Batch::new();
    assert_eq!(port.rxq_open(0).unwrap().recv(&mut batch).unwrap(), 0);
    machine.frontend.set_vring_enable(1, true).unwrap();
    assert_eq!(port.rxq_open(0).unwrap().recv(&mut batch).unwrap(), 1);
    // A guest that breaks its ring is not served before it sets it up anew.
    let from = &mut machine.rings[1];
    let at = from.at() + AVAIL_AT + 2;
    from.area.store_u16(at, 5000, SeqCst);
    assert_eq!(port.rxq_open(0).unwrap().recv(&mut batch).unwrap(), 0);
    assert!(!port.rxq_enabled(0));
    machine.frontend.set_vring_enable(0, true).unwrap();
    assert!(!port.rxq_enabled(0));
    machine.frontend.set_vring_enable(1, false).unwrap();
    machine.frontend.set_vring_enable(1, true).unwrap();
    assert!(port.rxq_enabled(0));
}

#[test]
fn what_makes_no_sense_ends_the_connection_and_the_next_one_is_served() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let port = client(&path);
    let message = |request: u32, flags: u32, payload: &[u8]| {
        let words = [request, flags, payload.len() as u32].map(u32::to_ne_bytes);
        [&words.concat(), payload].concat()
    };
    let table = [1u32, 0].map(u32::to_ne_bytes).concat();
    for bytes in [
        message(1, 2, &[]),
        message(77, 1, &[]),
        message(2, 1, &u64::MAX.to_ne_bytes()),
        message(8, 1, &[1, 0, 0, 0, 0, 0, 1, 0]),
        message(18, 1, &[0, 1, 0, 0, 1, 0, 0, 0]),
        message(5, 1, &[&table[..], &[0; 32]].concat()),
        message(12, 1, &0u64.to_ne_bytes()),
        [0xff; 12].to_vec(),
    ] {
        let mut stream = accept(&listener);
        stream.write_all(&bytes).unwrap();
        let mut rest = Vec::new();
        // Closed, whatever was answered before.
        _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{bytes:?}");
    }
    let mut machine = Machine::new(accept(&listener), true);
    machine.boot(FEATURES);
    machine.exchange(&*port);
}

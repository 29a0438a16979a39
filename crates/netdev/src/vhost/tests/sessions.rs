//! Ports beside a front-end that is not ours: that of rust-vmm.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferrovs_sys::fd::{Events, PollEntry, poll};
use ferrovs_sys::guest::{GuestMemory, Region};
use ferrovs_testkit::guest::{
    GUEST_CSUM, MQ, MRG_RXBUF, Machine, PROTOCOL_FEATURES, USER, VERSION_1,
};
use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;

use super::*;
use crate::vhost::guest::Guest;
use crate::vhost::queue::{VhostRxq, VhostTxq};
use crate::vhost::session::Session;
use crate::vhost::wire::{HEADER, Header};
use crate::{Flags, Layout, Loss, Netdev, Rxq, Txq};

const FEATURES: u64 = VERSION_1 | MRG_RXBUF | PROTOCOL_FEATURES | GUEST_CSUM | MQ;

/// Frames cross both ways.
fn exchange(machine: &mut Machine, port: &dyn Netdev) {
    let (mut rxq, mut txq) = (port.rxq_open(0).unwrap(), port.txq_open(0).unwrap());
    let [to, from, ..] = &mut machine.rings[..] else {
        panic!("no rings")
    };
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
        let mut machine = Machine::new(accept(&listener), packed, 1);
        machine.boot(FEATURES);
        until(|| port.carrier());
        assert_eq!(port.requested(), Layout::SINGLE);
        port.reconfigure().unwrap();
        for _ in 0..100 {
            exchange(&mut machine, &*port);
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
        exchange(&mut machine, &*port);
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
    let mut machine = Machine::new(accept(&listener), false, 1);
    machine.boot(FEATURES);
    exchange(&mut machine, &*port);
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
fn a_guest_with_several_queues_is_served_by_as_many() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let port = client(&path);
    let mut machine = Machine::new(accept(&listener), true, 2);
    machine.boot(FEATURES);
    let queues = |layout: Layout| (layout.n_rxq, layout.n_txq);
    assert_eq!(
        (queues(port.layout()), queues(port.requested())),
        ((1, 1), (2, 2))
    );
    port.reconfigure().unwrap();
    assert_eq!(queues(port.layout()), (2, 2));
    // From the second queue.
    machine.rings[3].offer(&[(GUEST + 0x10_1000, 76, false)], None);
    let mut batch = Batch::new();
    assert_eq!(port.rxq_open(0).unwrap().recv(&mut batch).unwrap(), 0);
    assert_eq!(port.rxq_open(1).unwrap().recv(&mut batch).unwrap(), 1);
    for ring in [0, 2] {
        let at = GUEST + 0x11_0000 + ring as u64 * 4096;
        for _ in 0..2 {
            machine.rings[ring].offer(&[(at, 2048, true)], None);
        }
    }
    // To the second, and to the first when the guest does not use the second.
    let mut txq = port.txq_open(1).unwrap();
    for (enabled, ring) in [(true, 2), (false, 0), (true, 2)] {
        machine.frontend.set_vring_enable(2, enabled).unwrap();
        let packet = Packet::from_slice(&frame(2, 60));
        assert!(txq.send(&mut [packet].into_iter().collect()).is_empty());
        assert_eq!(machine.rings[ring].used().len(), 1, "{ring}");
    }
}

#[test]
fn what_a_guest_does_not_take_is_counted_by_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sock");
    let listener = UnixListener::bind(&path).unwrap();
    let port = client(&path);
    let packet = |size| Packet::from_slice(&frame(2, size));
    let mut txq = port.txq_open(0).unwrap();
    let mut send = |sizes: &[usize]| {
        let losses = txq.send(&mut sizes.iter().map(|n| packet(*n)).collect());
        losses.iter().collect::<Vec<_>>()
    };
    let mut machine = Machine::new(accept(&listener), false, 1);
    assert_eq!(send(&[60]), [(Loss::Down, 1)]);
    machine.boot(FEATURES);
    for n in 0..3 {
        let at = GUEST + 0x11_0000 + n * 4096;
        machine.rings[0].offer(&[(at, 2048, true)], None);
    }
    let losses = send(&[60, 1519, 1518, 60, 60, 60]);
    assert_eq!(losses, [(Loss::QueueFull, 2), (Loss::OverMtu, 1)]);
    port.set_mtu(9000).unwrap();
    machine.rings[0].offer(&[(GUEST + 0x12_0000, 8192, true)], None);
    assert!(send(&[5000]).is_empty());
    let stats = port.stats().unwrap();
    assert_eq!((stats.tx_packets, stats.tx_dropped), (Some(4), Some(4)));
    let custom = |name: &str| stats.custom.iter().find(|(n, _)| n == name).unwrap().1;
    let names = ["tx_retries", "tx_failure_drops", "tx_mtu_exceeded_drops"];
    assert_eq!(names.map(|n| custom(&format!("ovs_{n}"))), [1, 3, 1]);
    assert_eq!(
        (
            custom("tx_1_to_64_packets"),
            custom("tx_q0_size_1519_max_packets")
        ),
        (2, 1)
    );
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
    let mut machine = Machine::new(accept(&listener), true, 1);
    machine.boot(FEATURES);
    exchange(&mut machine, &*port);
}

/// Has a session hear a message; its answer's payload.
fn say(session: &mut Session, request: u32, payload: &[u8], fds: Vec<OwnedFd>) -> Vec<u8> {
    let words = [request, 1, payload.len() as u32].map(u32::to_ne_bytes);
    let header = Header::parse(words.concat().first_chunk().unwrap()).unwrap();
    let answer = session.input(&header, payload, fds).unwrap();
    answer.map_or(Vec::new(), |a| a[HEADER..].to_vec())
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

#[test]
fn what_is_written_is_logged_while_a_guest_is_moved() {
    let guest = Arc::new(Guest::new("vhost-log"));
    let mut session = Session::new(guest.clone(), "log");
    let (file, memory) = memory();
    let features = VERSION_1 | MRG_RXBUF;
    say(&mut session, 2, &words(&[features]), vec![]);
    let table = words(&[1, GUEST, SIZE, USER, 0]);
    say(&mut session, 5, &table, vec![file]);
    let mut rings = [0, 1].map(|n| Driver::new(&memory, n, 64, false));
    let both = |index: u64, num: u64| words(&[index | num << 32]);
    let address = |index: u64, log: u64| {
        let [desc, avail, used] = [0, 1].map(|n| rings[n].parts())[index as usize];
        words(&[index | log << 32, desc, used, avail, GUEST + (used - USER)])
    };
    let addresses = [0, 1].map(|i| [address(i, 0), address(i, 1)]);
    for index in 0..2 {
        say(&mut session, 8, &both(index, 64), vec![]);
        say(&mut session, 9, &addresses[index as usize][0], vec![]);
        let kick = ferrovs_sys::guest::file(0).unwrap();
        say(&mut session, 12, &words(&[index]), vec![kick]);
    }
    assert!(guest.is_running());
    // One byte is for eight pages.
    let log = ferrovs_sys::guest::file(4096).unwrap();
    let answer = say(
        &mut session,
        6,
        &words(&[4096, 0]),
        vec![log.try_clone().unwrap()],
    );
    assert_eq!(answer, [0; 8]);
    let region = Region {
        guest: 0,
        size: 4096,
        user: 0,
        offset: 0,
    };
    let shared = GuestMemory::map([(region, log)]).unwrap();
    let logged = || {
        let mut bits = vec![0; 4096];
        shared.at(0, 4096).unwrap().read(&mut bits);
        shared.at(0, 4096).unwrap().write(&[0; 4096]);
        let pages = (0..8 * 4096).filter(|p| bits[p / 8] & (1 << (p % 8)) != 0);
        let address = |page: usize| (page as u64 * 4096).wrapping_sub(GUEST);
        pages.map(address).collect::<Vec<u64>>()
    };
    let mut exchange = || {
        rings[0].offer(&[(GUEST + 0x20_0ff0, 100, true)], None);
        rings[1].offer(&[(GUEST + 0x30_0000, 100, false)], None);
        let packet = Packet::from_slice(&frame(2, 60));
        let (mut rxq, mut txq) = (queue(&guest, 1), sender(&guest));
        assert!(txq.send(&mut [packet].into_iter().collect()).is_empty());
        assert_eq!(rxq.recv(&mut Batch::new()).unwrap(), 1);
        assert_eq!(rxq.recv(&mut Batch::new()).unwrap(), 0);
    };
    exchange();
    assert!(logged().is_empty());
    // The driver's features change while it runs, in this alone.
    say(&mut session, 2, &words(&[features | 1 << 26]), vec![]);
    exchange();
    assert_eq!(logged(), [0x20_0000, 0x20_1000]);
    for addresses in &addresses {
        say(&mut session, 9, &addresses[1], vec![]);
    }
    exchange();
    assert_eq!(logged(), [0xc000, 0x1_c000, 0x20_0000, 0x20_1000]);
    say(&mut session, 2, &words(&[features]), vec![]);
    exchange();
    assert!(logged().is_empty());
}

fn queue(guest: &Arc<Guest>, index: usize) -> VhostRxq {
    let guest = guest.clone();
    VhostRxq { guest, index }
}

fn sender(guest: &Arc<Guest>) -> VhostTxq {
    VhostTxq {
        guest: guest.clone(),
        queue: 0,
        n: 1,
    }
}

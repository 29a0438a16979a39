//! Load for measurements: `replay` receives the frames of a capture file as fast as they are taken, `null`
//! sends packets nowhere.
//!
//! Both are polled devices. Every packet that `replay` receives is a fresh copy in a pooled buffer, as one from
//! a card would be; with `options:loop=true` the file begins anew when it has ended. `options:pps=N` receives so many
//! packets in a second as they come, and loses, as a card would, those that wait behind [`RING`] others. Neither is
//! told in the list of device types.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ferrovs_packet::buffer::{self, Batch};
use ferrovs_packet::types::MacAddr;
use ferrovs_runtime::clock;

use crate::changes::changed;
use crate::virt::{VirtualStats, fresh_mac};
use crate::{Features, Flags, Layout, Losses, Netdev, Rxq, Stats, Txq};

struct Device {
    name: String,
    kind: &'static str,
    state: Mutex<State>,
    stats: Arc<VirtualStats>,
    up: AtomicBool,
    seq: AtomicU64,
}

#[derive(Default)]
struct State {
    options: BTreeMap<String, String>,
    mac: MacAddr,
    frames: Arc<[Box<[u8]>]>,
    again: bool,
    pps: Option<u64>,
}

pub fn open(name: &str, kind: &'static str) -> io::Result<Arc<dyn Netdev>> {
    Ok(Arc::new(Device {
        name: name.to_owned(),
        kind,
        state: Mutex::new(State {
            mac: fresh_mac(),
            ..State::default()
        }),
        stats: Arc::default(),
        up: AtomicBool::new(true),
        seq: AtomicU64::new(1),
    }))
}

/// The frames of a capture file in the classic format, of either byte order.
fn read_pcap(path: &str) -> Result<Arc<[Box<[u8]>]>, String> {
    const MICROSECONDS: u32 = 0xa1b2_c3d4;
    const NANOSECONDS: u32 = 0xa1b2_3c4d;
    let bytes = std::fs::read(path).map_err(|e| format!("{path}: {e}"))?;
    let malformed = || format!("{path}: not a capture file");
    let word = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
    let magic = word(0).ok_or_else(malformed)?;
    let read: fn([u8; 4]) -> u32 = match magic {
        m if matches!(u32::from_le_bytes(m), MICROSECONDS | NANOSECONDS) => u32::from_le_bytes,
        m if matches!(u32::from_be_bytes(m), MICROSECONDS | NANOSECONDS) => u32::from_be_bytes,
        _ => return Err(malformed()),
    };
    let mut frames = Vec::new();
    let mut at = 24;
    // A record that is cut short ends the file.
    while let Some(len) = word(at + 8).map(|w| read(w) as usize)
        && let Some(frame) = bytes.get(at + 16..at + 16 + len)
    {
        if frame.len() >= 14 {
            frames.push(frame.into());
        }
        at += 16 + len;
    }
    Ok(frames.into())
}

impl Device {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.seq.fetch_add(1, Ordering::Relaxed);
        changed(&self.name);
    }
}

/// Packets that wait for a reader when they come at a rate.
const RING: u64 = 1024;

/// Packets that come at a rate.
#[derive(Debug)]
struct Pace {
    pps: u64,
    begun: Instant,
    /// Packets that have come, those too that nobody took in time.
    gone: u64,
}

impl Pace {
    fn new(pps: u64, now: Instant) -> Pace {
        Pace {
            pps,
            begun: now,
            gone: 0,
        }
    }

    /// How many packets wait.
    fn waiting(&mut self, now: Instant) -> usize {
        let nanos = now.saturating_duration_since(self.begun).as_nanos();
        let come = nanos * u128::from(self.pps) / 1_000_000_000;
        let come = u64::try_from(come).unwrap_or(u64::MAX);
        self.gone = self.gone.max(come.saturating_sub(RING));
        (come - self.gone) as usize
    }

    fn take(&mut self, n: usize) {
        self.gone += n as u64;
    }
}

struct Queue {
    frames: Arc<[Box<[u8]>]>,
    next: usize,
    again: bool,
    pace: Option<Pace>,
    stats: Arc<VirtualStats>,
}

impl Queue {
    /// Receives the next frames, as many as there is room for but not more than told.
    fn fill(&mut self, batch: &mut Batch, mut most: usize) {
        while !batch.is_full() && most > 0 {
            if self.next == self.frames.len() {
                if !self.again || self.frames.is_empty() {
                    break;
                }
                self.next = 0;
            }
            let had = batch.len();
            let next = self.frames[self.next..].iter().take(most);
            buffer::copy(next.map(|f| &f[..]), batch);
            let n = batch.len() - had;
            (self.next, most) = (self.next + n, most - n);
        }
    }
}

impl Rxq for Queue {
    fn recv(&mut self, batch: &mut Batch) -> io::Result<usize> {
        let before = batch.len();
        let most = match &mut self.pace {
            Some(pace) => pace.waiting(clock::now()),
            None => usize::MAX,
        };
        self.fill(batch, most);
        if let Some(pace) = &mut self.pace {
            pace.take(batch.len() - before);
        }
        let new = &batch[before..];
        let (n, bytes) = (new.len(), new.iter().map(|p| p.size() as u64).sum());
        if n > 0 {
            self.stats.account((n as u64, bytes), (0, 0));
        }
        Ok(n)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn drain(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Sink(Arc<VirtualStats>);

impl Txq for Sink {
    fn send(&mut self, batch: &mut Batch) -> Losses {
        let bytes = batch.iter().map(|p| p.size() as u64).sum();
        self.0.account((0, 0), (batch.len() as u64, bytes));
        buffer::free(batch);
        Losses::default()
    }
}

impl Netdev for Device {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        self.kind
    }

    fn is_pmd(&self) -> bool {
        true
    }

    fn set_config(&self, options: &BTreeMap<String, String>) -> Result<(), String> {
        let mut state = self.state();
        if state.options == *options {
            return Ok(());
        }
        if self.kind == "replay" {
            let path = options
                .get("pcap")
                .ok_or_else(|| format!("{}: replay needs options:pcap", self.name))?;
            state.frames = read_pcap(path)?;
            state.again = options.get("loop").is_some_and(|v| v == "true");
            state.pps = match options.get("pps").map(|v| v.parse()) {
                Some(Ok(pps)) if pps > 0 => Some(pps),
                Some(_) => return Err(format!("{}: options:pps is no rate", self.name)),
                None => None,
            };
        }
        state.options.clone_from(options);
        drop(state);
        self.changed();
        Ok(())
    }

    fn config(&self) -> BTreeMap<String, String> {
        self.state().options.clone()
    }

    fn layout(&self) -> Layout {
        Layout {
            n_rxq: usize::from(self.kind == "replay"),
            ..Layout::SINGLE
        }
    }

    fn rxq_open(&self, _queue: usize) -> io::Result<Box<dyn Rxq>> {
        let state = self.state();
        Ok(Box::new(Queue {
            frames: state.frames.clone(),
            next: 0,
            again: state.again,
            pace: state.pps.map(|pps| Pace::new(pps, clock::now())),
            stats: self.stats.clone(),
        }))
    }

    fn txq_open(&self, _queue: usize) -> io::Result<Box<dyn Txq>> {
        Ok(Box::new(Sink(self.stats.clone())))
    }

    fn etheraddr(&self) -> io::Result<MacAddr> {
        Ok(self.state().mac)
    }

    fn set_etheraddr(&self, mac: MacAddr) -> io::Result<()> {
        self.state().mac = mac;
        self.changed();
        Ok(())
    }

    fn mtu(&self) -> io::Result<u32> {
        Ok(1500)
    }

    fn set_mtu(&self, _mtu: u32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(95)) // EOPNOTSUPP
    }

    fn flags(&self) -> io::Result<Flags> {
        let up = self.up.load(Ordering::Relaxed);
        Ok(if up { Flags::UP } else { Flags::empty() })
    }

    fn update_flags(&self, off: Flags, on: Flags) -> io::Result<()> {
        if on.contains(Flags::UP) {
            self.up.store(true, Ordering::Relaxed);
        } else if off.contains(Flags::UP) {
            self.up.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    fn stats(&self) -> io::Result<Stats> {
        Ok(self.stats.stats())
    }

    fn features(&self) -> io::Result<Features> {
        Ok(Features::default())
    }

    fn addresses(&self) -> io::Result<Vec<(IpAddr, u8)>> {
        Ok(Vec::new())
    }

    fn status(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn change_seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn packets_come_at_their_rate_and_do_not_wait_for_ever() {
        let begun = clock::now();
        let at = |us| begun + Duration::from_micros(us);
        let mut pace = Pace::new(500_000, begun);
        assert_eq!((pace.waiting(begun), pace.waiting(at(9))), (0, 4));
        pace.take(3);
        assert_eq!((pace.waiting(at(9)), pace.waiting(at(20))), (1, 7));
        let late = at(60_000_000);
        assert_eq!(pace.waiting(late), RING as usize);
        pace.take(RING as usize);
        assert_eq!(pace.waiting(late), 0);
        assert_eq!(pace.waiting(at(60_000_010)), 5);
    }

    #[test]
    fn a_capture_is_replayed_in_order_and_begins_anew() {
        let mut file = 0xa1b2_c3d4u32.to_le_bytes().to_vec();
        file.resize(24, 0);
        for n in 0..3u8 {
            file.extend([0; 8]);
            file.extend(20u32.to_le_bytes());
            file.extend(20u32.to_le_bytes());
            file.extend([n; 20]);
        }
        // A record that is cut short.
        file.extend([0, 0, 0, 0, 0, 0, 0, 0, 99]);
        let path = std::env::temp_dir().join(format!("replay-{}.pcap", std::process::id()));
        std::fs::write(&path, file).unwrap();
        let dev = open("r0", "replay").unwrap();
        let path = path.to_string_lossy().into_owned();
        let options = |again: &str| {
            BTreeMap::from([
                ("pcap".to_owned(), path.clone()),
                ("loop".to_owned(), again.to_owned()),
            ])
        };
        for (again, count) in [("false", 3), ("true", 32)] {
            dev.set_config(&options(again)).unwrap();
            let mut batch = Batch::new();
            assert_eq!(dev.rxq_open(0).unwrap().recv(&mut batch).unwrap(), count);
            for (i, packet) in batch.iter().enumerate() {
                assert_eq!(packet.data(), [(i % 3) as u8; 20]);
            }
        }
        let mut slow = options("true");
        slow.insert("pps".to_owned(), "no".to_owned());
        assert!(dev.set_config(&slow).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(dev.set_config(&options("x")).is_err());
    }
}

//! The back-end's half of the vhost-user protocol with one front-end: what it says, and what becomes of the guest's
//! rings.
//!
//! A ring is used once the front-end has said where its memory is, how large it is and where its parts are, has given
//! a descriptor to be kicked by (which we never look at, since rings are polled) and has enabled it. The guest is there
//! ("running") once its first pair of rings is, and its driver is done if the front-end tells.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ferrovs_runtime::vlog;
use ferrovs_runtime::vlog::modules::NETDEV_DPDK;
use ferrovs_sys::doorbell::Doorbell;
use ferrovs_sys::guest::{GuestMemory, Region};

use super::guest::{Facts, Guest, MAX_PAIRS, MAX_VRINGS};
use super::log::Log;
use super::split::Parts;
use super::vring::{Logged, Ring};
use super::wire::{Features, Header, Malformed, Protocol, Request, VringAddr, VringFd, VringState};

/// What we offer.
pub const FEATURES: Features = Features::all();
pub const PROTOCOL: Protocol = Protocol::all();
/// In the device's status: the driver is done with its preparations.
const DRIVER_OK: u64 = 4;

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("features {0:#x}, which were not offered")]
    NotOffered(u64),
    #[error("features change while queues are in use")]
    InUse,
    #[error("there is no queue {0}")]
    NoVring(u32),
    #[error("{0} regions of memory with {1} descriptors")]
    Descriptors(usize, usize),
    #[error("cannot map the guest's memory: {0}")]
    Memory(std::io::Error),
    #[error("a descriptor that should have come with a message did not")]
    NoDescriptor,
    #[error("queue {0} makes no sense")]
    Vring(u32),
}

/// A ring as the front-end has described it so far.
#[derive(Debug, Default)]
struct Setup {
    size: u16,
    parts: Option<Parts>,
    base: u16,
    /// Where what is given back is logged.
    log: Option<u64>,
    kicked: bool,
    enabled: bool,
    call: Option<Doorbell>,
    /// It was put in use. If it is not any more, it was broken.
    started: bool,
}

#[derive(Debug)]
pub struct Session {
    guest: Arc<Guest>,
    /// Where the front-end is, for the log.
    path: String,
    features: Features,
    protocol: Protocol,
    status: u64,
    memory: Option<Arc<GuestMemory>>,
    log: Option<Log>,
    setups: Vec<Setup>,
    running: bool,
}

impl Session {
    pub fn new(guest: Arc<Guest>, path: &str) -> Session {
        Session {
            guest,
            path: path.to_owned(),
            features: Features::empty(),
            protocol: Protocol::empty(),
            status: 0,
            memory: None,
            log: None,
            setups: Vec::new(),
            running: false,
        }
    }

    /// Does what a message says; the answer, if it wants one.
    pub fn input(
        &mut self,
        header: &Header,
        payload: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Vec<u8>>, Error> {
        let request = Request::parse(header, payload)?;
        let answer = self.handle(request, fds)?;
        self.look_again();
        Ok(match answer {
            Answer::Word(word) => Some(header.reply(&word.to_ne_bytes())),
            Answer::State(index, num) => {
                let payload = [index.to_ne_bytes(), num.to_ne_bytes()].concat();
                Some(header.reply(&payload))
            }
            Answer::Done if header.needs_reply() && self.protocol.contains(Protocol::REPLY_ACK) => {
                Some(header.reply(&0u64.to_ne_bytes()))
            }
            Answer::Done => None,
        })
    }

    fn handle(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, Error> {
        match request {
            Request::GetFeatures => return Ok(Answer::Word(FEATURES.bits())),
            Request::SetFeatures(bits) => self.set_features(bits)?,
            Request::SetOwner => {}
            Request::ResetOwner | Request::ResetDevice => self.reset(),
            Request::SetMemTable(regions) => self.set_memory(regions, fds)?,
            Request::SetLogBase(size, offset) => {
                let file = fds.into_iter().next().ok_or(Error::NoDescriptor)?;
                self.log = Some(Log::map(size, offset, file).map_err(Error::Memory)?);
                self.set_logs();
                // The front-end waits until it is used.
                return Ok(Answer::Word(0));
            }
            Request::SetLogFd => {}
            Request::SetVringNum(VringState { index, num }) => {
                let size = u16::try_from(num).map_err(|_| Error::Vring(index))?;
                self.setup(index)?.size = size;
            }
            Request::SetVringAddr(addr) => self.set_addr(addr)?,
            Request::SetVringBase(VringState { index, num }) => {
                // Of a packed ring the upper half is where we were to give back, which is the same place.
                self.setup(index)?.base = num as u16;
            }
            Request::GetVringBase(VringState { index, .. }) => {
                self.stop_ring(index)?;
                let setup = self.setup(index)?;
                setup.kicked = false;
                setup.call = None;
                return Ok(Answer::State(index, setup.base.into()));
            }
            Request::SetVringKick(VringFd { index, has_fd }) => {
                if has_fd && fds.is_empty() {
                    return Err(Error::NoDescriptor);
                }
                let always = !self.features.contains(Features::PROTOCOL_FEATURES);
                let setup = self.setup(index)?;
                setup.kicked = true;
                // Without the feature nobody says more.
                setup.enabled |= always;
            }
            Request::SetVringCall(fd) => self.set_call(fd, fds)?,
            Request::SetVringErr(VringFd { index, .. }) => {
                self.setup(index)?;
            }
            Request::GetProtocolFeatures => return Ok(Answer::Word(PROTOCOL.bits())),
            Request::SetProtocolFeatures(bits) => {
                self.protocol = Protocol::from_bits(bits).ok_or(Error::NotOffered(bits))?;
            }
            Request::GetQueueNum => return Ok(Answer::Word(MAX_PAIRS as u64)),
            Request::SetVringEnable(VringState { index, num }) => {
                self.setup(index)?.enabled = num != 0;
            }
            Request::SetStatus(status) => {
                self.status = status;
                if status == 0 {
                    self.reset();
                }
            }
            Request::GetStatus => return Ok(Answer::Word(self.status)),
        }
        Ok(Answer::Done)
    }

    fn setup(&mut self, index: u32) -> Result<&mut Setup, Error> {
        let at = index as usize;
        if at >= MAX_VRINGS {
            return Err(Error::NoVring(index));
        }
        if self.setups.len() <= at {
            self.setups.resize_with(at + 1, Setup::default);
        }
        Ok(&mut self.setups[at])
    }

    fn set_features(&mut self, bits: u64) -> Result<(), Error> {
        let features = Features::from_bits(bits).ok_or(Error::NotOffered(bits))?;
        if features == self.features {
            return Ok(());
        }
        let in_use = features ^ self.features != Features::LOG_ALL
            && self.guest.slots().any(|(_, slot)| slot.is_active());
        if in_use {
            return Err(Error::InUse);
        }
        self.features = features;
        self.set_logs();
        Ok(())
    }

    fn set_memory(&mut self, regions: Vec<Region>, fds: Vec<OwnedFd>) -> Result<(), Error> {
        if regions.len() != fds.len() {
            return Err(Error::Descriptors(regions.len(), fds.len()));
        }
        let memory = GuestMemory::map(regions.into_iter().zip(fds)).map_err(Error::Memory)?;
        // Rings are made anew in the new memory, from where they were.
        self.stop_rings();
        self.memory = Some(Arc::new(memory));
        Ok(())
    }

    fn set_addr(&mut self, addr: VringAddr) -> Result<(), Error> {
        self.stop_ring(addr.index)?;
        let setup = self.setup(addr.index)?;
        setup.log = addr.log;
        setup.parts = Some(Parts {
            desc: addr.desc,
            avail: addr.avail,
            used: addr.used,
        });
        Ok(())
    }

    /// How a ring is to be logged.
    fn logged(&self, setup: &Setup) -> Option<Logged> {
        let wanted = self.features.contains(Features::LOG_ALL);
        let log = self.log.clone().filter(|_| wanted);
        log.map(|log| Logged {
            log,
            ring: setup.log,
        })
    }

    /// Tells the rings how they are to be logged.
    fn set_logs(&self) {
        for (index, setup) in self.setups.iter().enumerate() {
            let slot = self.guest.slot(index);
            if let Some(Some(ring)) = slot.map(|slot| slot.lock()).as_deref_mut() {
                ring.set_log(self.logged(setup));
            }
        }
    }

    fn set_call(&mut self, fd: VringFd, mut fds: Vec<OwnedFd>) -> Result<(), Error> {
        let call = match (fd.has_fd, fds.pop()) {
            (true, Some(fd)) => Some(Doorbell::new(fd).map_err(|_| Error::NoDescriptor)?),
            (true, None) => return Err(Error::NoDescriptor),
            (false, _) => None,
        };
        let guest = self.guest.clone();
        let setup = self.setup(fd.index)?;
        let slot = guest.slot(fd.index as usize);
        match slot.map(|slot| slot.lock()).as_deref_mut() {
            Some(Some(ring)) => ring.set_call(call),
            _ => setup.call = call,
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.stop_rings();
        for setup in &mut self.setups {
            setup.enabled = false;
        }
    }

    fn stop_rings(&mut self) {
        for index in 0..self.setups.len() {
            // Rings that were set up have numbers that rings can have.
            _ = self.stop_ring(index as u32);
        }
    }

    /// Puts a ring out of use, whoever put it in use; nobody touches it any more when this returns.
    fn stop_ring(&mut self, index: u32) -> Result<(), Error> {
        let slot = self.guest.slot(index as usize);
        let stopped = slot.and_then(|slot| slot.set(None)).map(|ring| ring.stop());
        let was_active = stopped.is_some();
        let setup = self.setup(index)?;
        setup.started = false;
        if let Some((base, call)) = stopped {
            (setup.base, setup.call) = (base, call);
        }
        if was_active {
            self.tell(index as usize, false);
        }
        Ok(())
    }

    /// Starts what can be, stops what is not wanted any more.
    fn look_again(&mut self) {
        for index in 0..self.setups.len() {
            self.look_at(index);
        }
        let done = self.status & DRIVER_OK != 0 || !self.protocol.contains(Protocol::STATUS);
        let active = |index| self.guest.slot(index).is_some_and(|slot| slot.is_active());
        let memory = self.memory.clone();
        match memory.filter(|_| done && active(0) && active(1)) {
            Some(memory) if self.running => self.guest.update(self.facts(&memory)),
            Some(memory) => self.start(&memory),
            None if self.running && self.setups.iter().take(2).any(|s| !s.kicked) => self.end(),
            None => {}
        }
    }

    fn look_at(&mut self, index: usize) {
        let setup = &mut self.setups[index];
        let slot = self.guest.make_slot(index);
        let (Some(slot), Some(memory)) = (slot, &self.memory) else {
            return;
        };
        let wanted = setup.kicked && setup.enabled;
        if setup.started == wanted {
            return;
        }
        if !wanted {
            _ = self.stop_ring(index as u32);
            return;
        }
        let Some(parts) = setup.parts else { return };
        let Some(mut ring) = Ring::new(memory, self.features, setup.size, parts, setup.base) else {
            // It may still be described better.
            return;
        };
        ring.set_log(self.logged(&self.setups[index]));
        let setup = &mut self.setups[index];
        ring.set_call(setup.call.take());
        setup.started = true;
        slot.set(Some(Box::new(ring)));
        self.tell(index, true);
    }

    fn facts(&self, memory: &GuestMemory) -> Facts {
        Facts {
            features: self.features.bits(),
            numa: memory.numa_node(),
            sizes: self.setups.iter().map(|s| s.size).collect(),
        }
    }

    /// The guest is there.
    fn start(&mut self, memory: &GuestMemory) {
        for (_, slot) in self.guest.slots() {
            let _held = slot.lock();
            self.guest.malformed.add(slot.sums.read().malformed);
            slot.sums.clear();
        }
        let facts = self.facts(memory);
        vlog::info!(
            NETDEV_DPDK,
            "vHost Device '{}' has been added on numa node {}",
            self.path,
            facts.numa
        );
        self.running = true;
        for index in 0..self.setups.len() {
            if self.guest.slot(index).is_some_and(|slot| slot.is_active()) {
                self.tell(index, true);
            }
        }
        self.guest.run(facts);
    }

    /// It is not there any more.
    fn end(&mut self) {
        self.running = false;
        self.guest.stop();
        vlog::info!(NETDEV_DPDK, "vHost Device '{}' has been removed", self.path);
    }

    /// Says what became of a queue.
    fn tell(&self, index: usize, enabled: bool) {
        if !self.running {
            return;
        }
        let kind = if index.is_multiple_of(2) { "tx" } else { "rx" };
        vlog::info!(
            NETDEV_DPDK,
            "State of queue {index} ( {kind}_qid {} ) of vhost device '{}' changed to '{}'",
            index / 2,
            self.path,
            if enabled { "enabled" } else { "disabled" }
        );
    }
}

impl Drop for Session {
    /// The front-end is gone: its memory is not touched any more.
    fn drop(&mut self) {
        self.stop_rings();
        if self.running {
            self.end();
        }
        vlog::info!(
            NETDEV_DPDK,
            "vHost Device '{}' connection has been destroyed",
            self.path
        );
    }
}

enum Answer {
    /// Nothing but that it is done, for who wants to know.
    Done,
    Word(u64),
    State(u32, u32),
}

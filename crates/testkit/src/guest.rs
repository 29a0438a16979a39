//! A guest for ports that serve guests: the driver's half of virtio rings, in memory that is shared, and the front-end
//! that tells the switch of them, which is rust-vmm's and none of ours.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use ferrovs_sys::guest::{GuestArea, GuestMemory, Region, file};
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

/// Flags of a descriptor.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;
/// Bytes of a descriptor.
pub const DESC: usize = 16;
/// Virtio's features, by their bits.
pub const GUEST_CSUM: u64 = 1 << 1;
pub const MRG_RXBUF: u64 = 1 << 15;
pub const MQ: u64 = 1 << 22;
pub const PROTOCOL_FEATURES: u64 = 1 << 30;
pub const VERSION_1: u64 = 1 << 32;
pub const RING_PACKED: u64 = 1 << 34;
/// Where the guest, and who runs it, see its memory.
pub const GUEST: u64 = 0x10_0000;
pub const USER: u64 = 0x7f00_0000_0000;
pub const SIZE: u64 = 4 << 20;
/// Bytes that the parts of a ring may take.
const RING_SPACE: usize = 0x1_0000;
pub const AVAIL_AT: usize = 0x8000;
const USED_AT: usize = 0xc000;

/// A guest's memory.
pub fn memory() -> (OwnedFd, Arc<GuestMemory>) {
    let file = file(SIZE).unwrap();
    let region = Region {
        guest: GUEST,
        size: SIZE,
        user: USER,
        offset: 0,
    };
    let memory = GuestMemory::map([(region, file.try_clone().unwrap())]).unwrap();
    (file, Arc::new(memory))
}

/// A ring as the guest's driver has it.
pub struct Driver {
    pub area: GuestArea,
    memory: Arc<GuestMemory>,
    number: usize,
    pub size: u16,
    pub packed: bool,
    next: u16,
    wrap: bool,
    seen: u16,
    seen_wrap: bool,
    /// The descriptor that is used next.
    pub free: u16,
    /// Places of what is offered and was not seen back.
    places: VecDeque<u16>,
}

/// A piece of a buffer: where in the guest's memory, how long, and whether it is for us to write.
pub type Piece = (u64, u32, bool);

impl Driver {
    pub fn new(memory: &Arc<GuestMemory>, number: usize, size: u16, packed: bool) -> Driver {
        Driver {
            area: memory.area(USER, SIZE as usize, 16).unwrap(),
            memory: memory.clone(),
            number,
            size,
            packed,
            next: 0,
            wrap: true,
            seen: 0,
            seen_wrap: true,
            free: 0,
            places: VecDeque::new(),
        }
    }

    /// Where its parts begin in the memory.
    pub fn at(&self) -> usize {
        self.number * RING_SPACE
    }

    /// Where the front-end sees the descriptors, what is offered and what was used.
    pub fn parts(&self) -> [u64; 3] {
        let at = USER + self.at() as u64;
        [at, at + AVAIL_AT as u64, at + USED_AT as u64]
    }

    pub fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// Where it begins, as front-ends say it.
    pub fn base(&self) -> u16 {
        if self.packed { 1 << 15 } else { 0 }
    }

    pub fn write_desc(&self, at: usize, piece: (u64, u32), words: [u16; 2]) {
        self.area.store_u64(at, piece.0, SeqCst);
        self.area.store_u32(at + 8, piece.1, SeqCst);
        self.area.store_u16(at + 12, words[0], SeqCst);
        self.area.store_u16(at + 14, words[1], SeqCst);
    }

    /// Offers a buffer, through a table at an offset of the memory if one is given.
    pub fn offer(&mut self, pieces: &[Piece], table: Option<u64>) {
        let Some(table) = table else {
            let flagged: Vec<_> = pieces.iter().map(|p| (p.0, p.1, write_flag(p))).collect();
            return self.offer_descs(&flagged);
        };
        for (i, piece) in pieces.iter().enumerate() {
            let more = i + 1 < pieces.len();
            let flags = write_flag(piece) | if more && !self.packed { NEXT } else { 0 };
            let words = match self.packed {
                true => [0, flags],
                false => [flags, i as u16 + 1],
            };
            self.write_desc(table as usize + i * DESC, (piece.0, piece.1), words);
        }
        self.offer_descs(&[(GUEST + table, (pieces.len() * DESC) as u32, INDIRECT)]);
    }

    pub fn offer_descs(&mut self, descs: &[(u64, u32, u16)]) {
        if self.packed {
            self.offer_packed(descs);
        } else {
            self.offer_split(descs);
        }
        self.places.push_back(descs.len() as u16);
    }

    fn offer_split(&mut self, descs: &[(u64, u32, u16)]) {
        let head = self.free;
        for (i, (address, size, flags)) in descs.iter().enumerate() {
            let index = self.free;
            self.free = (self.free + 1) % self.size;
            let more = if i + 1 < descs.len() { NEXT } else { 0 };
            let at = self.at() + usize::from(index) * DESC;
            self.write_desc(at, (*address, *size), [flags | more, self.free]);
        }
        let slot = self.at() + AVAIL_AT + 4 + 2 * usize::from(self.next % self.size);
        self.area.store_u16(slot, head, SeqCst);
        self.next = self.next.wrapping_add(1);
        self.area
            .store_u16(self.at() + AVAIL_AT + 2, self.next, SeqCst);
    }

    fn offer_packed(&mut self, descs: &[(u64, u32, u16)]) {
        let (id, mut first) = (self.next, None);
        for (i, (address, size, flags)) in descs.iter().enumerate() {
            let more = if i + 1 < descs.len() { NEXT } else { 0 };
            let ours = if self.wrap { 1 << 7 } else { 1 << 15 };
            let at = self.at() + usize::from(self.next) * DESC;
            let flags = flags | more | ours;
            let old = self.area.load_u16(at + 14, SeqCst);
            let shown = if first.is_none() { old } else { flags };
            first.get_or_insert((at + 14, flags));
            self.write_desc(at, (*address, *size), [id, shown]);
            self.next += 1;
            if self.next == self.size {
                (self.next, self.wrap) = (0, !self.wrap);
            }
        }
        let (at, flags) = first.unwrap();
        self.area.store_u16(at, flags, SeqCst);
    }

    /// What was given back since the last time: ids and bytes written.
    pub fn used(&mut self) -> Vec<(u16, u32)> {
        let mut used = Vec::new();
        loop {
            let found = if self.packed {
                self.used_packed()
            } else {
                self.used_split()
            };
            match found {
                Some(found) => used.push(found),
                None => return used,
            }
        }
    }

    fn used_split(&mut self) -> Option<(u16, u32)> {
        let base = self.at() + USED_AT;
        if self.area.load_u16(base + 2, SeqCst) == self.seen {
            return None;
        }
        let at = base + 4 + 8 * usize::from(self.seen % self.size);
        self.seen = self.seen.wrapping_add(1);
        self.places.pop_front();
        let id = self.area.load_u32(at, SeqCst) as u16;
        Some((id, self.area.load_u32(at + 4, SeqCst)))
    }

    fn used_packed(&mut self) -> Option<(u16, u32)> {
        let at = self.at() + usize::from(self.seen) * DESC;
        let flags = self.area.load_u16(at + 14, SeqCst);
        let both = (1 << 7) | (1 << 15);
        if flags & both != if self.seen_wrap { both } else { 0 } {
            return None;
        }
        self.seen += self.places.pop_front()?;
        if self.seen >= self.size {
            (self.seen, self.seen_wrap) = (self.seen - self.size, !self.seen_wrap);
        }
        let id = self.area.load_u16(at + 12, SeqCst);
        Some((id, self.area.load_u32(at + 8, SeqCst)))
    }

    /// Bytes at an offset of the memory.
    pub fn put(&self, at: u64, bytes: &[u8]) {
        assert_eq!(
            self.memory
                .at(GUEST + at, bytes.len())
                .unwrap()
                .write(bytes),
            bytes.len()
        );
    }

    pub fn get(&self, at: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        assert_eq!(
            self.memory.at(GUEST + at, size).unwrap().read(&mut bytes),
            size
        );
        bytes
    }
}

fn write_flag(piece: &Piece) -> u16 {
    if piece.2 { WRITE } else { 0 }
}

/// A frame that begins with its own number.
pub fn frame(number: u8, size: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
    frame[0] = number & !1;
    frame[6] = number;
    frame
}

/// A guest with pairs of queues, and who runs it.
pub struct Machine {
    pub frontend: Frontend,
    file: OwnedFd,
    /// What it receives from, and sends to, in turn.
    pub rings: Vec<Driver>,
    kick: EventFd,
}

impl Machine {
    pub fn new(stream: UnixStream, packed: bool, pairs: usize) -> Machine {
        let (file, memory) = memory();
        let rings = (0..2 * pairs).map(|n| Driver::new(&memory, n, 64, packed));
        let rings = rings.collect();
        let frontend = Frontend::from_stream(stream, 2 * pairs as u64);
        let kick = EventFd::new(0).unwrap();
        Machine {
            frontend,
            file,
            rings,
            kick,
        }
    }

    /// Tells the switch all that it has to know.
    pub fn boot(&mut self, mut features: u64) {
        let f = &mut self.frontend;
        f.set_owner().unwrap();
        let offered = f.get_features().unwrap();
        assert_eq!(offered & features, features);
        if self.rings[0].packed {
            features |= RING_PACKED;
        }
        f.set_features(features).unwrap();
        let protocol = f.get_protocol_features().unwrap();
        let wanted = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
        assert!(protocol.contains(wanted));
        f.set_protocol_features(wanted).unwrap();
        f.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        assert_eq!(f.get_queue_num().unwrap(), 128);
        self.share_memory();
        for (index, ring) in self.rings.iter().enumerate() {
            let [desc, avail, used] = ring.parts();
            let f = &mut self.frontend;
            f.set_vring_num(index, ring.size).unwrap();
            f.set_vring_base(index, ring.base()).unwrap();
            let config = VringConfigData {
                queue_max_size: 64,
                queue_size: ring.size,
                flags: 0,
                desc_table_addr: desc,
                used_ring_addr: used,
                avail_ring_addr: avail,
                log_addr: None,
            };
            f.set_vring_addr(index, &config).unwrap();
            f.set_vring_kick(index, &self.kick).unwrap();
            f.set_vring_call(index, &self.kick).unwrap();
            f.set_vring_enable(index, true).unwrap();
        }
    }

    /// Says where the memory is, as at the beginning.
    pub fn share_memory(&self) {
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: GUEST,
            memory_size: SIZE,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        };
        self.frontend.set_mem_table(&[region]).unwrap();
    }
}

//! A ring of a guest with what the switch makes of it: frames that come out of buffers, and frames that go into them.
//!
//! ```text
//!   a buffer:   | virtio-net header, 10 or 12 bytes | frame ... |
//! ```
//!
//! Batches are handled in passes, so that what the guest wrote on another core is on its way into the cache when it
//! is needed. Each byte is copied once.

use std::sync::Arc;

use arrayvec::ArrayVec;
use ferrovs_packet::buffer::{self, BATCH, Batch, MAX_DATA, Maker, Packet};
use ferrovs_sys::doorbell::Doorbell;
use ferrovs_sys::guest::{GuestMemory, GuestSlice};
use ferrovs_sys::vnet::{VNET_F_NEEDS_CSUM, VNET_GSO_ECN, VNET_HDR_SIZE, VnetHdr};

use super::format::{Body, Broken, Direction, Format, Found, Pieces};
use super::log::Log;
use super::packed::Packed;
use super::split::{Parts, Split};
use super::tally::Tally;
use super::wire::Features;
use crate::{Loss, Losses, offload};

/// The header when it says how many buffers a frame fills.
const LONG_HEADER: usize = VNET_HDR_SIZE + 2;
/// Buffers that one frame may fill.
const MAX_BUFFERS: usize = 128;
/// No frame is shorter.
const MIN_FRAME: usize = 14;

/// A ring that is in use.
#[derive(Debug)]
pub struct Ring {
    either: Either,
    memory: Arc<GuestMemory>,
    header: usize,
    features: Features,
    call: Option<Doorbell>,
    log: Option<Logged>,
    /// Bytes of the ring that we write.
    written: u64,
}

/// Where what is written is logged.
#[derive(Debug)]
pub struct Logged {
    pub log: Log,
    /// The guest's address of what we write of the ring.
    pub ring: Option<u64>,
}

#[derive(Debug)]
enum Either {
    Split(Split),
    Packed(Packed),
}

macro_rules! either {
    ($ring:expr, $format:ident => $with:expr) => {
        match &mut $ring {
            Either::Split($format) => $with,
            Either::Packed($format) => $with,
        }
    };
}

impl Ring {
    /// None if the ring makes no sense, or is not all in the memory.
    pub fn new(
        memory: &Arc<GuestMemory>,
        features: Features,
        size: u16,
        parts: Parts,
        base: u16,
    ) -> Option<Ring> {
        const MAX_SIZE: u16 = 1 << 15;
        if size == 0 || size > MAX_SIZE {
            return None;
        }
        let packed = features.contains(Features::RING_PACKED);
        let either = if packed {
            Either::Packed(Packed::new(memory, size, parts, base)?)
        } else if size.is_power_of_two() {
            let event_idx = features.contains(Features::EVENT_IDX);
            Either::Split(Split::new(memory, size, parts, event_idx)?)
        } else {
            return None;
        };
        let long = features.intersects(Features::VERSION_1.union(Features::MRG_RXBUF));
        Some(Ring {
            either,
            memory: memory.clone(),
            header: if long { LONG_HEADER } else { VNET_HDR_SIZE },
            features,
            call: None,
            log: None,
            written: match packed {
                true => 16 * u64::from(size),
                false => 4 + 8 * u64::from(size),
            },
        })
    }

    /// How the guest is told of buffers that were used, if at all.
    pub fn set_call(&mut self, call: Option<Doorbell>) {
        self.call = call;
    }

    /// Whether, and where, what is written is logged from now on.
    pub fn set_log(&mut self, log: Option<Logged>) {
        self.log = log;
    }

    /// Stops using the ring; returns where it can go on, and how the guest is told.
    pub fn stop(self) -> (u16, Option<Doorbell>) {
        let base = match &self.either {
            Either::Split(ring) => ring.base(),
            Either::Packed(ring) => ring.base(),
        };
        (base, self.call)
    }

    /// Adds the frames that the guest has sent, as many as find room.
    pub fn receive(&mut self, batch: &mut Batch, tally: &mut Tally) -> Result<(), Broken> {
        let (memory, header) = (&*self.memory, self.header);
        either!(self.either, ring => receive(ring, memory, header, batch, tally))?;
        self.publish(tally);
        Ok(())
    }

    /// Sends frames to the guest, from the first on; returns how many are done with, be they sent or lost.
    pub fn send(
        &mut self,
        packets: &[Packet],
        tally: &mut Tally,
        losses: &mut Losses,
    ) -> Result<usize, Broken> {
        let out = Out {
            memory: &self.memory,
            header: self.header,
            features: self.features,
            log: self.log.as_ref().map(|logged| &logged.log),
        };
        let done = either!(self.either, ring => send(ring, &out, packets, tally, losses))?;
        self.publish(tally);
        Ok(done)
    }

    fn publish(&mut self, tally: &mut Tally) {
        let asks = self.call.is_some();
        let (given, wants) =
            either!(self.either, ring => (ring.is_unpublished(), ring.publish(asks)));
        if !given {
            return;
        }
        if let Some(Logged {
            log,
            ring: Some(ring),
        }) = &self.log
        {
            // All of it, which is few pages; after it was written, lest that be missed.
            log.mark(*ring, self.written);
        }
        if let Some(call) = self.call.as_ref().filter(|_| wants) {
            call.ring();
            tally.told += 1;
        }
    }
}

fn receive<F: Format>(
    ring: &mut F,
    memory: &GuestMemory,
    header: usize,
    batch: &mut Batch,
    tally: &mut Tally,
) -> Result<(), Broken> {
    ring.begin()?;
    let room = batch.remaining_capacity();
    let mut place = ring.place();
    ring.prefetch(place, room);
    let mut found: ArrayVec<(F::Place, Found<'_>), BATCH> = ArrayVec::new();
    while found.len() < room {
        let buffer = match ring.look(memory, place, Direction::FromGuest) {
            Ok(Some(buffer)) => buffer,
            // What comes before it is good.
            Err(_) if !found.is_empty() => break,
            Ok(None) => break,
            Err(why) => return Err(why),
        };
        if let Body::One(slice) = buffer.body {
            slice.prefetch();
            slice.prefetch_at(64);
        }
        found.push((place, buffer));
        place = ring.after(place, buffer.places);
    }
    if found.is_empty() {
        return Ok(());
    }
    buffer::make(batch, |maker| {
        for (place, buffer) in &found {
            let taken = match buffer.body {
                Body::One(slice) => take(maker, header, slice),
                Body::Many => {
                    let mut pieces = Pieces::new();
                    ring.walk(memory, *place, buffer, Direction::FromGuest, &mut pieces)
                        .then(|| take_pieces(maker, header, &pieces))
                        .flatten()
                }
                Body::Bad => None,
            };
            match taken {
                Some(packet) => tally.note(packet.data()),
                None => tally.malformed += 1,
            }
            ring.give_back(buffer, 0);
        }
    });
    Ok(())
}

/// What a header says of a frame of that size; None for one that cannot be carried.
#[inline]
fn offload_of(
    header: &[u8; VNET_HDR_SIZE],
    size: usize,
) -> Option<ferrovs_packet::buffer::Offload> {
    let mut vnet = VnetHdr::from_bytes(header);
    // Nobody takes a guest's word for a checksum.
    vnet.flags &= VNET_F_NEEDS_CSUM;
    offload::from_vnet(&vnet, size, 0)
}

/// A packet from a buffer in one piece.
#[inline]
fn take<'a>(maker: &'a mut Maker<'_>, header: usize, slice: GuestSlice<'_>) -> Option<&'a Packet> {
    let size = slice.size().checked_sub(header)?;
    if !(MIN_FRAME..=MAX_DATA).contains(&size) {
        return None;
    }
    let mut bytes = [0; VNET_HDR_SIZE];
    slice.read(&mut bytes);
    let offload = offload_of(&bytes, size)?;
    let frame = slice.behind(header);
    let packet = maker.add(size, |room| {
        frame.read(room);
    });
    packet.offload = offload;
    Some(packet)
}

/// A packet from a buffer in several pieces.
fn take_pieces<'a>(
    maker: &'a mut Maker<'_>,
    header: usize,
    pieces: &Pieces<'_>,
) -> Option<&'a Packet> {
    let total: usize = pieces.iter().map(GuestSlice::size).sum();
    let size = total.checked_sub(header)?;
    if !(MIN_FRAME..=MAX_DATA).contains(&size) {
        return None;
    }
    let mut bytes = [0; LONG_HEADER];
    read(pieces, 0, &mut bytes[..header]);
    let offload = offload_of(bytes.first_chunk()?, size)?;
    let packet = maker.add(size, |room| read(pieces, header, room));
    packet.offload = offload;
    Some(packet)
}

/// Copies out what is `skip` bytes behind the beginning of the pieces.
fn read(pieces: &Pieces<'_>, mut skip: usize, to: &mut [u8]) {
    let mut at = 0;
    for piece in pieces {
        let rest = piece.behind(skip);
        skip = skip.saturating_sub(piece.size());
        at += rest.read(&mut to[at..]);
    }
}

/// What is the same for all frames that are sent.
struct Out<'m> {
    memory: &'m GuestMemory,
    header: usize,
    features: Features,
    log: Option<&'m Log>,
}

/// Buffers for what is sent: those that were looked at ahead, and those behind.
struct Buffers<'m, F: Format> {
    ahead: ArrayVec<(F::Place, Found<'m>), BATCH>,
    taken: usize,
    next: F::Place,
}

impl<'m, F: Format> Buffers<'m, F> {
    /// The next buffer; None if the guest has offered no more.
    #[inline]
    fn take(
        &mut self,
        ring: &F,
        memory: &'m GuestMemory,
    ) -> Result<Option<(F::Place, Found<'m>)>, Broken> {
        if let Some(found) = self.ahead.get(self.taken) {
            self.taken += 1;
            return Ok(Some(*found));
        }
        let place = self.next;
        let found = ring.look(memory, place, Direction::ToGuest)?;
        if let Some(found) = &found {
            self.next = ring.after(place, found.places);
        }
        Ok(found.map(|found| (place, found)))
    }
}

fn send<F: Format>(
    ring: &mut F,
    out: &Out<'_>,
    packets: &[Packet],
    tally: &mut Tally,
    losses: &mut Losses,
) -> Result<usize, Broken> {
    ring.begin()?;
    let first = ring.place();
    ring.prefetch(first, packets.len());
    let mut buffers = Buffers::<F> {
        ahead: ArrayVec::new(),
        taken: 0,
        next: first,
    };
    while buffers.ahead.len() < packets.len().min(BATCH) {
        let place = buffers.next;
        let found = match ring.look(out.memory, place, Direction::ToGuest) {
            Ok(Some(found)) => found,
            Err(_) if !buffers.ahead.is_empty() => break,
            Ok(None) => break,
            Err(why) => return Err(why),
        };
        if let Body::One(slice) = found.body {
            slice.prefetch_for_write(0);
            slice.prefetch_for_write(64);
        }
        buffers.next = ring.after(place, found.places);
        buffers.ahead.push((place, found));
    }
    for (done, packet) in packets.iter().enumerate() {
        match put(ring, out, &mut buffers, packet) {
            Ok(Put::Sent) => tally.note(packet.data()),
            Ok(Put::TooLong) => losses.add(Loss::OverMtu),
            Ok(Put::NoRoom) => return Ok(done),
            Err(why) if done == 0 => return Err(why),
            // What was sent was; the next call finds it again.
            Err(_) => return Ok(done),
        }
    }
    Ok(packets.len())
}

enum Put {
    Sent,
    /// The guest has to offer more.
    NoRoom,
    /// It will never fit.
    TooLong,
}

/// Sends a frame.
#[inline]
fn put<'m, F: Format>(
    ring: &mut F,
    out: &Out<'m>,
    buffers: &mut Buffers<'m, F>,
    packet: &Packet,
) -> Result<Put, Broken> {
    let size = out.header + packet.size();
    let Some((place, found)) = buffers.take(ring, out.memory)? else {
        return Ok(Put::NoRoom);
    };
    match found.body {
        Body::One(slice) if slice.size() >= size => {
            let header = out.header_of(packet, 1);
            slice.write(&header[..out.header]);
            slice.behind(out.header).write(packet.data());
            if let Some(log) = out.log {
                log.mark_slice(out.memory, slice, size);
            }
            ring.give_back(&found, size as u32);
            Ok(Put::Sent)
        }
        _ => spread(ring, out, buffers, (place, found), packet),
    }
}

/// Sends a frame into as many pieces and buffers as it takes, the first of which is at hand.
#[cold]
fn spread<'m, F: Format>(
    ring: &mut F,
    out: &Out<'m>,
    buffers: &mut Buffers<'m, F>,
    first: (F::Place, Found<'m>),
    packet: &Packet,
) -> Result<Put, Broken> {
    let size = out.header + packet.size();
    let merges = out.features.contains(Features::MRG_RXBUF);
    let mut pieces = Pieces::new();
    let mut used: ArrayVec<(Found<'m>, u32), MAX_BUFFERS> = ArrayVec::new();
    let mut left = size;
    let mut buffer = first;
    loop {
        let (place, found) = buffer;
        let had = pieces.len();
        let good = match found.body {
            Body::One(slice) => pieces.try_push(slice).is_ok(),
            Body::Many => ring.walk(out.memory, place, &found, Direction::ToGuest, &mut pieces),
            Body::Bad => false,
        };
        if !good {
            // It takes nothing, and goes back with the others.
            pieces.truncate(had);
        }
        let room: usize = pieces[had..].iter().map(GuestSlice::size).sum();
        let bytes = room.min(left);
        left -= bytes;
        _ = used.try_push((found, bytes as u32));
        if left == 0 {
            break;
        }
        let goes_on = (merges || used.iter().all(|(_, bytes)| *bytes == 0)) && !used.is_full();
        if !goes_on {
            // The buffers stay, for what is shorter.
            buffers.ahead.clear();
            (buffers.taken, buffers.next) = (0, ring.place());
            return Ok(Put::TooLong);
        }
        buffer = match buffers.take(ring, out.memory)? {
            Some(next) => next,
            None => return Ok(Put::NoRoom),
        };
    }
    let header = out.header_of(packet, used.len() as u16);
    let mut write = Writer {
        pieces: &pieces,
        at: 0,
        written: 0,
    };
    write.put(&header[..out.header]);
    write.put(packet.data());
    if let Some(log) = out.log {
        // What was written of the last piece at least.
        let written = pieces.iter().take(write.at + 1);
        written.for_each(|piece| log.mark_slice(out.memory, *piece, piece.size()));
    }
    for (found, bytes) in &used {
        ring.give_back(found, *bytes);
    }
    Ok(Put::Sent)
}

/// Copies into pieces, one after the other.
struct Writer<'a, 'm> {
    pieces: &'a Pieces<'m>,
    at: usize,
    /// Bytes of that piece.
    written: usize,
}

impl Writer<'_, '_> {
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty()
            && let Some(piece) = self.pieces.get(self.at)
        {
            let n = piece.behind(self.written).write(bytes);
            bytes = &bytes[n..];
            self.written += n;
            if self.written == piece.size() {
                (self.at, self.written) = (self.at + 1, 0);
            }
        }
    }
}

impl Out<'_> {
    /// The header of a frame that fills so many buffers.
    #[inline]
    fn header_of(&self, packet: &Packet, buffers: u16) -> [u8; LONG_HEADER] {
        let trusts = self.features.contains(Features::GUEST_CSUM);
        let mut vnet = offload::to_vnet(&packet.offload, trusts);
        if !self.features.contains(Features::GUEST_ECN) {
            vnet.gso_type &= !VNET_GSO_ECN;
        }
        let mut header = [0; LONG_HEADER];
        header[..VNET_HDR_SIZE].copy_from_slice(&vnet.to_bytes());
        header[VNET_HDR_SIZE..].copy_from_slice(&buffers.to_le_bytes());
        header
    }
}

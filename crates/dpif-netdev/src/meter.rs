//! Meters: token buckets that drop what exceeds them.
//!
//! A meter has a few bands, each a bucket that fills at its rate; of the bands that a packet exceeds, the one
//! with the highest rate drops it. Threads share a meter under its own lock, which only packets of flows with a
//! `meter` action take.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use ferrovs_datapath::dpif::{Errno, Meter, MeterBand};
use ferrovs_packet::buffer::Batch;
use ferrovs_runtime::coverage;

/// Numbers that meters can have.
pub const MAX_METERS: u32 = 262_144;
/// Bands that a meter can have.
pub const MAX_BANDS: usize = 8;

/// Bits of `Meter::flags` (`OFPMF_*`).
const KBPS: u16 = 1 << 0;
const PKTPS: u16 = 1 << 1;
const BURST: u16 = 1 << 2;
const STATS: u16 = 1 << 3;

#[derive(Debug)]
struct Band {
    rate: u32,
    burst_size: u32,
    /// What the bucket holds, in thousandths of a packet or in bits.
    bucket: u64,
    n_packets: u64,
    n_bytes: u64,
}

#[derive(Debug)]
struct State {
    flags: u16,
    bands: Vec<Band>,
    used: Instant,
    n_packets: u64,
    n_bytes: u64,
}

/// Meters that lie together.
const CHUNK: usize = 512;
const CHUNKS: usize = MAX_METERS as usize / CHUNK;

type Place = ArcSwapOption<Mutex<State>>;

/// All meters of a datapath, each at its number, so that packets find theirs without a hash or a lock.
#[derive(Debug)]
pub struct Meters(Box<[OnceLock<Box<[Place]>>]>);

impl Default for Meters {
    fn default() -> Meters {
        Meters((0..CHUNKS).map(|_| OnceLock::new()).collect())
    }
}

impl Meters {
    #[inline]
    fn place(&self, id: u32) -> Option<&Place> {
        let chunk = self.0.get(id as usize / CHUNK)?.get()?;
        chunk.get(id as usize % CHUNK)
    }

    fn get(&self, id: u32) -> Option<Arc<Mutex<State>>> {
        self.place(id)?.load_full()
    }

    fn report(&self, id: u32) -> Result<Meter, Errno> {
        let meter = self.get(id).ok_or(Errno::ENOENT)?;
        let state = meter.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.report())
    }

    /// Drops the packets of a batch that exceed the meter. An unknown meter drops nothing.
    pub fn run(&self, id: u32, batch: &mut Batch, now: Instant) {
        let Some(place) = self.place(id) else { return };
        if let Some(meter) = &*place.load() {
            let mut state = meter.lock().unwrap_or_else(PoisonError::into_inner);
            state.run(batch, now);
        }
    }
}

impl ferrovs_datapath::dpif::Meters for Meters {
    fn set(&self, id: u32, meter: &Meter, now: Instant) -> Result<(), Errno> {
        coverage::DPIF_METER_SET.inc();
        let chunk = self.0.get(id as usize / CHUNK).ok_or(Errno::EFBIG)?;
        // Bits that are not understood cannot be honoured.
        if meter.flags & !(KBPS | PKTPS | BURST | STATS) != 0
            || meter.bands.is_empty()
            || meter.bands.len() > MAX_BANDS
        {
            return Err(Errno::EINVAL);
        }
        let bands = meter.bands.iter().map(|b| {
            // Without a burst size the bucket holds what flows in a second.
            let burst_size = match meter.flags & BURST {
                0 => b.rate,
                _ => b.burst_size.max(1),
            };
            Band {
                rate: b.rate,
                burst_size,
                bucket: u64::from(burst_size) * 1000,
                n_packets: 0,
                n_bytes: 0,
            }
        });
        let state = Arc::new(Mutex::new(State {
            flags: meter.flags,
            bands: bands.collect(),
            used: now,
            n_packets: 0,
            n_bytes: 0,
        }));
        let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| Place::empty()).collect());
        chunk[id as usize % CHUNK].store(Some(state));
        Ok(())
    }

    fn stats(&self, id: u32) -> Result<Meter, Errno> {
        coverage::DPIF_METER_GET.inc();
        self.report(id)
    }

    fn delete(&self, id: u32) -> Result<Meter, Errno> {
        coverage::DPIF_METER_DEL.inc();
        let meter = self.report(id)?;
        if let Some(place) = self.place(id) {
            place.store(None);
        }
        Ok(meter)
    }
}

impl State {
    fn report(&self) -> Meter {
        Meter {
            flags: self.flags,
            n_packets: self.n_packets,
            n_bytes: self.n_bytes,
            bands: self
                .bands
                .iter()
                .map(|b| MeterBand {
                    rate: b.rate,
                    burst_size: b.burst_size,
                    n_packets: b.n_packets,
                    n_bytes: b.n_bytes,
                })
                .collect(),
        }
    }

    fn run(&mut self, batch: &mut Batch, now: Instant) {
        let passed = now.saturating_duration_since(self.used);
        let ms = passed.as_millis() as u64;
        // Parts of a millisecond count when they have become one.
        self.used += std::time::Duration::from_millis(ms);
        let packets = self.flags & PKTPS != 0;
        for band in &mut self.bands {
            // Kilobits a second are bits a millisecond; packets are counted in thousandths.
            let full = u64::from(band.burst_size) * 1000;
            let flow = u64::from(band.rate).saturating_mul(ms);
            band.bucket = band.bucket.saturating_add(flow).min(full);
        }
        self.n_packets += batch.len() as u64;
        batch.retain(|packet| {
            let size = packet.size() as u64;
            self.n_bytes += size;
            let cost = if packets { 1000 } else { size * 8 };
            let mut exceeded: Option<usize> = None;
            for i in 0..self.bands.len() {
                if self.bands[i].bucket >= cost {
                    self.bands[i].bucket -= cost;
                } else if exceeded.is_none_or(|e| self.bands[i].rate > self.bands[e].rate) {
                    exceeded = Some(i);
                }
            }
            let Some(worst) = exceeded else { return true };
            let band = &mut self.bands[worst];
            band.n_packets += 1;
            band.n_bytes += size;
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use ferrovs_packet::buffer::Packet;
    use ferrovs_runtime::clock;

    use ferrovs_datapath::dpif::Meters as _;

    use super::*;

    #[test]
    fn meters_are_where_their_numbers_say() {
        let (meters, now) = (Meters::default(), clock::now());
        let meter = |rate| Meter {
            flags: PKTPS,
            n_packets: 0,
            n_bytes: 0,
            bands: vec![MeterBand {
                rate,
                burst_size: 0,
                n_packets: 0,
                n_bytes: 0,
            }],
        };
        let last = MAX_METERS - 1;
        for (id, rate) in [(0, 1), (511, 2), (512, 3), (last, 4)] {
            meters.set(id, &meter(rate), now).unwrap();
        }
        assert_eq!(meters.set(MAX_METERS, &meter(1), now), Err(Errno::EFBIG));
        let batch = || (0..6).map(|_| Packet::from_slice(&[0; 60])).collect();
        for (id, left) in [
            (0, 1),
            (511, 2),
            (512, 3),
            (last, 4),
            (7, 6),
            (MAX_METERS, 6),
        ] {
            let mut batch: Batch = batch();
            meters.run(id, &mut batch, now);
            assert_eq!(batch.len(), left, "{id}");
        }
        assert_eq!(meters.delete(511).unwrap().n_packets, 6);
        assert_eq!(meters.stats(511).unwrap_err(), Errno::ENOENT);
        assert_eq!(meters.stats(512).unwrap().bands[0].n_packets, 3);
    }
}

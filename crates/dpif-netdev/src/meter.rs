//! Meters: token buckets that drop what exceeds them.
//!
//! A meter has a few bands, each a bucket that fills at its rate; of the bands that a packet exceeds, the one
//! with the highest rate drops it. Threads share a meter under its own lock, which only packets of flows with a
//! `meter` action take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
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

/// All meters of a datapath.
#[derive(Debug, Default)]
pub struct Meters {
    all: ArcSwap<HashMap<u32, Arc<Mutex<State>>>>,
}

impl Meters {
    fn get(&self, id: u32) -> Option<Arc<Mutex<State>>> {
        self.all.load().get(&id).cloned()
    }

    pub fn set(&self, id: u32, meter: &Meter, now: Instant) -> Result<(), Errno> {
        if id >= MAX_METERS {
            return Err(Errno::EFBIG);
        }
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
        self.all.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(id, state.clone());
            all
        });
        Ok(())
    }

    pub fn stats(&self, id: u32) -> Result<Meter, Errno> {
        let meter = self.get(id).ok_or(Errno::ENOENT)?;
        let state = meter.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(state.report())
    }

    pub fn delete(&self, id: u32) -> Result<Meter, Errno> {
        let meter = self.stats(id)?;
        self.all.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.remove(&id);
            all
        });
        Ok(meter)
    }

    /// Drops the packets of a batch that exceed the meter. An unknown meter drops nothing.
    pub fn run(&self, id: u32, batch: &mut Batch, now: Instant) {
        let Some(meter) = self.get(id) else { return };
        let before = batch.len();
        let mut state = meter.lock().unwrap_or_else(PoisonError::into_inner);
        state.run(batch, now);
        if batch.len() != before {
            coverage::DATAPATH_DROP_METER.add((before - batch.len()) as u64);
        }
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
            coverage::DATAPATH_DROP_METER.inc();
            false
        });
    }
}

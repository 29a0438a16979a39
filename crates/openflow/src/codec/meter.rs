//! Meter messages (1.3 and later).

use crate::codec::{Dec, Enc};
use crate::error::OfpErr;
use crate::message::Message;
use crate::meter::*;
use crate::raw::Kind;
use crate::wire::{Put, Reader};

impl Dec<'_, '_> {
    pub(super) fn meter_id(&self, mut r: Reader<'_>) -> Result<u32, OfpErr> {
        r.u32()
    }

    fn bands(&self, mut r: Reader<'_>) -> Result<Vec<MeterBand>, OfpErr> {
        let mut out = Vec::new();
        while !r.is_empty() {
            let (type_, len) = (r.u16()?, r.u16()?);
            if len != 16 {
                return Err(OfpErr::OFPBRC_BAD_LEN);
            }
            let (rate, burst_size) = (r.u32()?, r.u32()?);
            let prec_level = r.u8()?;
            r.skip(3)?;
            let type_ = match type_ {
                1 => MeterBandType::Drop,
                2 => MeterBandType::DscpRemark,
                _ => return Err(OfpErr::OFPMMFC_BAD_BAND),
            };
            let prec_level = if type_ == MeterBandType::Drop {
                0
            } else {
                prec_level
            };
            out.push(MeterBand {
                type_,
                prec_level,
                rate,
                burst_size,
            });
        }
        Ok(out)
    }

    pub(super) fn meter_mod(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let (command, flags, meter_id) = (r.u16()?, r.u16()?, r.u32()?);
        let command = match command {
            0 => MeterCommand::Add,
            1 => MeterCommand::Modify,
            2 => MeterCommand::Delete,
            _ => return Err(OfpErr::OFPMMFC_BAD_COMMAND),
        };
        let mut meter = MeterConfig {
            meter_id,
            ..Default::default()
        };
        if command != MeterCommand::Delete {
            meter.flags = MeterFlags::from_bits_retain(flags);
            // One unit, not both.
            let units = MeterFlags::KBPS | MeterFlags::PKTPS;
            if meter.flags.contains(units) {
                return Err(OfpErr::OFPMMFC_BAD_FLAGS);
            }
            meter.bands = self.bands(r)?;
        }
        Ok(Message::MeterMod(MeterMod { command, meter }))
    }

    pub(super) fn meter_stats_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let one = |r: &mut Reader<'_>| {
            let mut h = *r;
            h.skip(4)?;
            let len = usize::from(h.u16()?);
            if len < 40 || len > r.len() {
                return Err(OfpErr::OFPBRC_BAD_LEN);
            }
            let mut b = r.sub(len)?;
            let mut s = MeterStats {
                meter_id: b.u32()?,
                ..Default::default()
            };
            b.skip(8)?;
            s.flow_count = b.u32()?;
            s.packet_in_count = b.u64()?;
            s.byte_in_count = b.u64()?;
            s.duration_sec = b.u32()?;
            s.duration_nsec = b.u32()?;
            while !b.is_empty() {
                s.bands.push(MeterBandStats {
                    packet_count: b.u64()?,
                    byte_count: b.u64()?,
                });
            }
            Ok(s)
        };
        Ok(Message::MeterStatsReply {
            meters: self.list(r, one)?,
            more: self.parsed.more,
        })
    }

    pub(super) fn meter_config_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let one = |r: &mut Reader<'_>| {
            let mut h = *r;
            let len = usize::from(h.u16()?);
            if len < 8 || len > r.len() {
                return Err(OfpErr::OFPBRC_BAD_LEN);
            }
            let mut b = r.sub(len)?;
            b.skip(2)?;
            let flags = MeterFlags::from_bits_retain(b.u16()?);
            Ok(MeterConfig {
                meter_id: b.u32()?,
                flags,
                bands: self.bands(b)?,
            })
        };
        Ok(Message::MeterConfigReply {
            meters: self.list(r, one)?,
            more: self.parsed.more,
        })
    }

    pub(super) fn meter_features_reply(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        Ok(Message::MeterFeaturesReply(MeterFeatures {
            max_meters: r.u32()?,
            band_types: r.u32()?,
            capabilities: r.u32()?,
            max_bands: r.u8()?,
            max_color: r.u8()?,
        }))
    }
}

fn put_bands(bands: &[MeterBand], o: &mut Vec<u8>) {
    for b in bands {
        o.put_u16(b.type_ as u16);
        o.put_u16(16);
        o.put_u32(b.rate);
        o.put_u32(b.burst_size);
        o.put_u8(b.prec_level);
        o.put_zeros(3);
    }
}

impl Enc<'_, '_> {
    pub(super) fn meter_mod(&self, m: &MeterMod, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::MeterMod)?, out, |o| {
            o.put_u16(m.command as u16);
            o.put_u16(m.meter.flags.bits());
            o.put_u32(m.meter.meter_id);
            put_bands(&m.meter.bands, o);
        });
        Some(())
    }

    pub(super) fn meter_request(&self, kind: Kind, meter: u32, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(kind)?, out, |o| {
            o.put_u32(meter);
            o.put_zeros(4);
        });
        Some(())
    }

    pub(super) fn meter_stats_reply(
        &self,
        meters: &[MeterStats],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::MeterStatsReply)?;
        self.parts(raw, meters, more, out, |s, o| {
            o.put_u32(s.meter_id);
            o.put_u16((40 + 16 * s.bands.len()) as u16);
            o.put_zeros(6);
            o.put_u32(s.flow_count);
            o.put_u64(s.packet_in_count);
            o.put_u64(s.byte_in_count);
            o.put_u32(s.duration_sec);
            o.put_u32(s.duration_nsec);
            for b in &s.bands {
                o.put_u64(b.packet_count);
                o.put_u64(b.byte_count);
            }
        });
        Some(())
    }

    pub(super) fn meter_config_reply(
        &self,
        meters: &[MeterConfig],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::MeterConfigReply)?;
        self.parts(raw, meters, more, out, |m, o| {
            o.put_u16((8 + 16 * m.bands.len()) as u16);
            o.put_u16(m.flags.bits());
            o.put_u32(m.meter_id);
            put_bands(&m.bands, o);
        });
        Some(())
    }

    pub(super) fn meter_features_reply(&self, f: &MeterFeatures, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::MeterFeaturesReply)?, out, |o| {
            o.put_u32(f.max_meters);
            o.put_u32(f.band_types);
            o.put_u32(f.capabilities);
            o.put_u8(f.max_bands);
            o.put_u8(f.max_color);
            o.put_zeros(2);
        });
        Some(())
    }
}

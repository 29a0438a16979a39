//! Ports and queues: descriptions, status, modification, statistics.

use ferrovs_packet::types::OfPort;

use crate::action::{decode::props, encode::prop};
use crate::codec::{Dec, Enc, port32, put_port32};
use crate::error::OfpErr;
use crate::message::Message;
use crate::port::*;
use crate::raw::{Carrier, Kind};
use crate::version::Version;
use crate::wire::{Put, Reader};

const CONFIG_11: PortConfig = PortConfig::DOWN
    .union(PortConfig::NO_RECV)
    .union(PortConfig::NO_FWD)
    .union(PortConfig::NO_PACKET_IN);

/// Vendor of custom counters, and its two kinds.
const INTEL_VENDOR: u32 = 0x0000_aa01;
const INTEL_RFC2819: u32 = 1;
const INTEL_CUSTOM: u32 = 2;

/// 1.0 has no 40 Gb, 100 Gb, 1 Tb and other; what follows them is moved down.
fn features_from10(n: u32) -> PortFeatures {
    PortFeatures::from_bits_truncate(n & 0x7f | (n & 0xf80) << 4)
}

fn features_to10(f: PortFeatures) -> u32 {
    f.bits() & 0x7f | (f.bits() & 0xf800) >> 4
}

fn bad_port(r: &mut Reader<'_>) -> Result<OfPort, OfpErr> {
    port32(r, OfpErr::OFPBAC_BAD_OUT_PORT)
}

fn check_len(ok: bool) -> Result<(), OfpErr> {
    if ok {
        Ok(())
    } else {
        Err(OfpErr::OFPBRC_BAD_LEN)
    }
}

fn state(n: u32) -> PortState {
    PortState::from_bits_retain(n)
}

/// Reads one port description.
pub(super) fn pull_port(r: &mut Reader<'_>, version: Version) -> Result<PortDesc, OfpErr> {
    let mut p = PortDesc::default();
    if version == Version::V10 {
        p.port_no = OfPort(r.u16()?);
        p.hw_addr = r.mac()?;
        p.name = r.name(16)?;
        p.config = PortConfig::from_bits_truncate(r.u32()?);
        p.state = state(r.u32()? & (1 | PortState::STP_MASK));
        for f in [
            &mut p.curr,
            &mut p.advertised,
            &mut p.supported,
            &mut p.peer,
        ] {
            *f = features_from10(r.u32()?);
        }
        p.curr_speed = (p.curr.max_bps() / 1000) as u32;
        p.max_speed = (p.supported.max_bps() / 1000) as u32;
        return Ok(p);
    }
    p.port_no = bad_port(r)?;
    let mut rest = Reader::new(&[]);
    if version >= Version::V14 {
        let len = usize::from(r.u16()?);
        r.skip(2)?;
        check_len(len >= 40 && len - 8 <= r.len())?;
        let mut body = r.sub(len - 8)?;
        std::mem::swap(r, &mut body);
        rest = body;
    } else {
        r.skip(4)?;
    }
    p.hw_addr = r.mac()?;
    r.skip(2)?;
    p.name = r.name(16)?;
    p.config = PortConfig::from_bits_truncate(r.u32()?) & CONFIG_11;
    p.state = state(r.u32()? & 7);
    let speeds = |p: &mut PortDesc, r: &mut Reader<'_>| -> Result<(), OfpErr> {
        for f in [
            &mut p.curr,
            &mut p.advertised,
            &mut p.supported,
            &mut p.peer,
        ] {
            *f = PortFeatures::from_bits_truncate(r.u32()?);
        }
        p.curr_speed = r.u32()?;
        p.max_speed = r.u32()?;
        Ok(())
    };
    if version >= Version::V14 {
        for prop in props(*r) {
            let (type_, mut b) = prop?;
            if type_ == 0 {
                b.skip(4)?;
                speeds(&mut p, &mut b)?;
            }
        }
        *r = rest;
    } else {
        speeds(&mut p, r)?;
    }
    Ok(p)
}

/// Appends one port description.
pub(super) fn put_port(p: &PortDesc, version: Version, o: &mut Vec<u8>) {
    if version == Version::V10 {
        o.put_u16(p.port_no.0);
        o.put(&p.hw_addr.0);
        o.put_string(&p.name, 16);
        o.put_u32(p.config.bits());
        o.put_u32(p.state.bits() & (1 | PortState::STP_MASK));
        for f in [p.curr, p.advertised, p.supported, p.peer] {
            o.put_u32(features_to10(f));
        }
        return;
    }
    put_port32(o, p.port_no);
    if version >= Version::V14 {
        o.put_u16(72);
        o.put_zeros(2);
    } else {
        o.put_zeros(4);
    }
    o.put(&p.hw_addr.0);
    o.put_zeros(2);
    o.put_string(&p.name, 16);
    o.put_u32((p.config & CONFIG_11).bits());
    o.put_u32(p.state.bits() & 7);
    if version >= Version::V14 {
        o.put_u16(0);
        o.put_u16(32);
        o.put_zeros(4);
    }
    for f in [p.curr, p.advertised, p.supported, p.peer] {
        o.put_u32(f.bits());
    }
    o.put_u32(p.curr_speed);
    o.put_u32(p.max_speed);
}

impl Dec<'_, '_> {
    pub(super) fn port_status(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let reason = match r.u8()? {
            0 => PortReason::Add,
            1 => PortReason::Delete,
            2 => PortReason::Modify,
            _ => return Err(OfpErr::NXBRC_BAD_REASON),
        };
        r.skip(7)?;
        let desc = pull_port(&mut r, self.version)?;
        check_len(r.is_empty())?;
        Ok(Message::PortStatus(PortStatus { reason, desc }))
    }

    pub(super) fn port_mod(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let mut m = PortMod::default();
        match self.version {
            Version::V10 => {
                m.port_no = OfPort(r.u16()?);
                m.hw_addr = r.mac()?;
                m.config = PortConfig::from_bits_truncate(r.u32()?);
                m.mask = PortConfig::from_bits_truncate(r.u32()?);
                m.advertise = features_from10(r.u32()?);
            }
            v => {
                m.port_no = bad_port(&mut r)?;
                r.skip(4)?;
                m.hw_addr = r.mac()?;
                r.skip(2)?;
                m.config = PortConfig::from_bits_truncate(r.u32()?) & CONFIG_11;
                m.mask = PortConfig::from_bits_truncate(r.u32()?) & CONFIG_11;
                if v >= Version::V14 {
                    for prop in props(r) {
                        let (type_, mut b) = prop?;
                        if type_ == 0 {
                            m.advertise = PortFeatures::from_bits_truncate(b.u32()?);
                        }
                    }
                } else {
                    m.advertise = PortFeatures::from_bits_truncate(r.u32()?);
                }
            }
        }
        m.config &= m.mask;
        Ok(Message::PortMod(m))
    }

    pub(super) fn port_stats_request(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let port = if self.version == Version::V10 {
            OfPort(r.u16()?)
        } else {
            bad_port(&mut r)?
        };
        Ok(Message::PortStatsRequest { port })
    }

    pub(super) fn port_stats_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        Ok(Message::PortStatsReply {
            ports: self.list(r, |r| self.one_port_stats(r))?,
            more: self.parsed.more,
        })
    }

    fn one_port_stats(&self, r: &mut Reader<'_>) -> Result<PortStats, OfpErr> {
        let mut s = PortStats {
            duration_sec: u32::MAX,
            duration_nsec: u32::MAX,
            ..Default::default()
        };
        if self.version >= Version::V14 {
            let mut h = *r;
            let len = usize::from(h.u16()?);
            check_len(len >= 80 && len <= r.len())?;
            let mut b = r.sub(len)?;
            b.skip(4)?;
            s.port_no = bad_port(&mut b)?;
            s.duration_sec = b.u32()?;
            s.duration_nsec = b.u32()?;
            for n in s.first_eight() {
                *n = b.u64()?;
            }
            for n in s.last_four() {
                *n = u64::MAX;
            }
            for prop in props(b) {
                let (type_, mut p) = prop?;
                match type_ {
                    0 => {
                        p.skip(4)?;
                        for n in s.last_four() {
                            *n = p.u64()?;
                        }
                    }
                    0xffff => {
                        let (vendor, kind) = (p.u32()?, p.u32()?);
                        if vendor == INTEL_VENDOR && kind == INTEL_CUSTOM {
                            p.skip(2)?;
                            for _ in 0..p.u16()? {
                                let n = usize::from(p.u8()?);
                                let name = String::from_utf8_lossy(p.take(n)?).into_owned();
                                s.custom.push(CustomStat {
                                    name,
                                    value: p.u64()?,
                                });
                            }
                        } else if vendor == INTEL_VENDOR && kind == INTEL_RFC2819 {
                            p.skip(4)?;
                            while p.len() >= 8 {
                                s.rfc2819.push(p.u64()?);
                            }
                        }
                    }
                    _ => {}
                }
            }
            return Ok(s);
        }
        if self.version == Version::V10 {
            s.port_no = OfPort(r.u16()?);
            r.skip(6)?;
        } else {
            s.port_no = bad_port(r)?;
            r.skip(4)?;
        }
        for n in s.first_eight() {
            *n = r.u64()?;
        }
        for n in s.last_four() {
            *n = r.u64()?;
        }
        if self.version >= Version::V13 {
            s.duration_sec = r.u32()?;
            s.duration_nsec = r.u32()?;
        }
        Ok(s)
    }

    pub(super) fn port_desc_request(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let port = if self.version >= Version::V15 {
            bad_port(&mut r)?
        } else {
            OfPort::NONE
        };
        Ok(Message::PortDescRequest { port })
    }

    pub(super) fn port_desc_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        Ok(Message::PortDescReply {
            ports: self.list(r, |r| pull_port(r, self.version))?,
            more: self.parsed.more,
        })
    }

    pub(super) fn queue_config_request(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let mut q = QueueRequest {
            port: OfPort::NONE,
            queue: QUEUE_ALL,
        };
        match self.version {
            Version::V10 => q.port = OfPort(r.u16()?),
            v => {
                q.port = bad_port(&mut r)?;
                if v >= Version::V14 {
                    q.queue = r.u32()?;
                }
            }
        }
        // 1.0 cannot ask for all ports, and before 1.4 reserved ports have no queues.
        let any = self.version > Version::V10 && q.port == OfPort::NONE;
        if self.version < Version::V14 && q.port >= OfPort::MAX && !any {
            return Err(OfpErr::OFPQOFC_BAD_PORT);
        }
        Ok(Message::QueueGetConfigRequest(q))
    }

    pub(super) fn queue_config_reply(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let v = self.version;
        let mut port = OfPort::NONE;
        if v < Version::V14 {
            port = if v == Version::V10 {
                OfPort(r.u16()?)
            } else {
                bad_port(&mut r)?
            };
            r.skip(if v == Version::V10 { 6 } else { 4 })?;
        }
        Ok(Message::QueueGetConfigReply {
            port,
            queues: self.list(r, |r| self.queue_config(r, port))?,
            more: self.parsed.more,
        })
    }

    fn queue_config(&self, r: &mut Reader<'_>, port: OfPort) -> Result<QueueConfig, OfpErr> {
        let v = self.version;
        let start = r.len();
        let mut q = QueueConfig {
            port,
            queue: 0,
            min_rate: None,
            max_rate: None,
        };
        let header = if v >= Version::V14 {
            q.port = bad_port(r)?;
            q.queue = r.u32()?;
            16
        } else {
            q.queue = r.u32()?;
            if v >= Version::V12 {
                r.skip(4)?;
                16
            } else {
                8
            }
        };
        let len = usize::from(r.u16()?);
        check_len(len >= header && len <= start)?;
        r.skip(if header == 16 { 6 } else { 2 })?;
        for prop in props(r.sub(len - header)?) {
            let (type_, mut b) = prop?;
            if v < Version::V14 {
                b.skip(4)?;
            }
            match type_ {
                1 => q.min_rate = Some(b.u16()?),
                2 => q.max_rate = Some(b.u16()?),
                _ => {}
            }
        }
        // The highest rate stands for none.
        q.min_rate = q.min_rate.filter(|r| *r != u16::MAX);
        q.max_rate = q.max_rate.filter(|r| *r != u16::MAX);
        Ok(q)
    }

    pub(super) fn queue_stats_request(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let port = if self.version == Version::V10 {
            let port = OfPort(r.u16()?);
            r.skip(2)?;
            // 1.0 says "all" where later versions say "any".
            if port == OfPort::ALL {
                OfPort::NONE
            } else {
                port
            }
        } else {
            bad_port(&mut r)?
        };
        Ok(Message::QueueStatsRequest(QueueRequest {
            port,
            queue: r.u32()?,
        }))
    }

    pub(super) fn queue_stats_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        Ok(Message::QueueStatsReply {
            queues: self.list(r, |r| self.one_queue_stats(r))?,
            more: self.parsed.more,
        })
    }

    fn one_queue_stats(&self, r: &mut Reader<'_>) -> Result<QueueStats, OfpErr> {
        let v = self.version;
        let mut body = *r;
        if v >= Version::V14 {
            let mut h = *r;
            let len = usize::from(h.u16()?);
            check_len(len >= 48 && len <= r.len())?;
            body = r.sub(len)?;
            body.skip(8)?;
        }
        let b = &mut body;
        let port = if v == Version::V10 {
            let port = OfPort(b.u16()?);
            b.skip(2)?;
            port
        } else {
            bad_port(b)?
        };
        let mut q = QueueStats {
            port,
            queue: b.u32()?,
            tx_bytes: b.u64()?,
            tx_packets: b.u64()?,
            tx_errors: b.u64()?,
            duration_sec: u32::MAX,
            duration_nsec: u32::MAX,
        };
        if v >= Version::V13 {
            q.duration_sec = b.u32()?;
            q.duration_nsec = b.u32()?;
        }
        if v < Version::V14 {
            *r = body;
        }
        Ok(q)
    }
}

impl PortStats {
    fn first_eight(&mut self) -> [&mut u64; 8] {
        [
            &mut self.rx_packets,
            &mut self.tx_packets,
            &mut self.rx_bytes,
            &mut self.tx_bytes,
            &mut self.rx_dropped,
            &mut self.tx_dropped,
            &mut self.rx_errors,
            &mut self.tx_errors,
        ]
    }

    fn last_four(&mut self) -> [&mut u64; 4] {
        [
            &mut self.rx_frame_err,
            &mut self.rx_over_err,
            &mut self.rx_crc_err,
            &mut self.collisions,
        ]
    }
}

impl Enc<'_, '_> {
    pub(super) fn port_status(&self, s: &PortStatus, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::PortStatus)?, out, |o| {
            o.put_u8(s.reason as u8);
            o.put_zeros(7);
            put_port(&s.desc, self.version, o);
        });
        Some(())
    }

    pub(super) fn port_mod(&self, m: &PortMod, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::PortMod)?, out, |o| {
            if self.version == Version::V10 {
                o.put_u16(m.port_no.0);
                o.put(&m.hw_addr.0);
                o.put_u32(m.config.bits());
                o.put_u32(m.mask.bits());
                o.put_u32(features_to10(m.advertise));
                o.put_zeros(4);
                return;
            }
            put_port32(o, m.port_no);
            o.put_zeros(4);
            o.put(&m.hw_addr.0);
            o.put_zeros(2);
            o.put_u32((m.config & CONFIG_11).bits());
            o.put_u32((m.mask & CONFIG_11).bits());
            if self.version < Version::V14 {
                o.put_u32(m.advertise.bits());
                o.put_zeros(4);
            } else if !m.advertise.is_empty() {
                prop(o, 0, |o| o.put_u32(m.advertise.bits()));
            }
        });
        Some(())
    }

    pub(super) fn port_stats_request(&self, port: OfPort, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::PortStatsRequest)?, out, |o| {
            if self.version == Version::V10 {
                o.put_u16(port.0);
                o.put_zeros(6);
            } else {
                put_port32(o, port);
                o.put_zeros(4);
            }
        });
        Some(())
    }

    pub(super) fn port_stats_reply(
        &self,
        ports: &[PortStats],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::PortStatsReply)?;
        let v = self.version;
        self.parts(raw, ports, more, out, |s, o| {
            let mut s = s.clone();
            if v >= Version::V14 {
                let start = o.len();
                o.put_zeros(4);
                put_port32(o, s.port_no);
                o.put_u32(s.duration_sec);
                o.put_u32(s.duration_nsec);
                for n in s.first_eight() {
                    o.put_u64(*n);
                }
                prop(o, 0, |o| {
                    o.put_zeros(4);
                    for n in s.last_four() {
                        o.put_u64(*n);
                    }
                });
                if !s.rfc2819.is_empty() {
                    prop(o, 0xffff, |o| {
                        o.put_u32(INTEL_VENDOR);
                        o.put_u32(INTEL_RFC2819);
                        o.put_zeros(4);
                        s.rfc2819.iter().for_each(|&n| o.put_u64(n));
                    });
                }
                if !s.custom.is_empty() {
                    prop(o, 0xffff, |o| {
                        o.put_u32(INTEL_VENDOR);
                        o.put_u32(INTEL_CUSTOM);
                        o.put_zeros(2);
                        o.put_u16(s.custom.len() as u16);
                        for c in &s.custom {
                            let name = &c.name.as_bytes()[..c.name.len().min(63)];
                            o.put_u8(name.len() as u8);
                            o.put(name);
                            o.put_u64(c.value);
                        }
                    });
                }
                let len = o.len() - start;
                o.set_u16(start, len as u16);
                return;
            }
            if v == Version::V10 {
                o.put_u16(s.port_no.0);
                o.put_zeros(6);
            } else {
                put_port32(o, s.port_no);
                o.put_zeros(4);
            }
            for n in s.first_eight() {
                o.put_u64(*n);
            }
            for n in s.last_four() {
                o.put_u64(*n);
            }
            if v >= Version::V13 {
                o.put_u32(s.duration_sec);
                o.put_u32(s.duration_nsec);
            }
        });
        Some(())
    }

    pub(super) fn port_desc_request(&self, port: OfPort, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::PortDescRequest)?, out, |o| {
            if self.version >= Version::V15 {
                put_port32(o, port);
                o.put_zeros(4);
            }
        });
        Some(())
    }

    pub(super) fn port_desc_reply(
        &self,
        ports: &[PortDesc],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::PortDescReply)?;
        self.parts(raw, ports, more, out, |p, o| put_port(p, self.version, o));
        Some(())
    }

    pub(super) fn queue_config_request(&self, q: &QueueRequest, out: &mut Vec<u8>) -> Option<()> {
        self.one(
            self.raw(Kind::QueueGetConfigRequest)?,
            out,
            |o| match self.version {
                Version::V10 => {
                    o.put_u16(q.port.0);
                    o.put_zeros(2);
                }
                v => {
                    put_port32(o, q.port);
                    o.put_u32(if v >= Version::V14 { q.queue } else { 0 });
                }
            },
        );
        Some(())
    }

    pub(super) fn queue_config_reply(
        &self,
        port: OfPort,
        queues: &[QueueConfig],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::QueueGetConfigReply)?;
        let v = self.version;
        let queue = |q: &QueueConfig, o: &mut Vec<u8>| {
            let start = o.len();
            if v >= Version::V14 {
                put_port32(o, q.port);
                o.put_u32(q.queue);
            } else {
                o.put_u32(q.queue);
                if v >= Version::V12 {
                    put_port32(o, port);
                }
            }
            let at = o.len();
            o.put_u16(0);
            o.put_zeros(if v >= Version::V12 { 6 } else { 2 });
            for (type_, rate) in [(1, q.min_rate), (2, q.max_rate)] {
                let Some(rate) = rate else { continue };
                prop(o, type_, |o| {
                    if v < Version::V14 {
                        o.put_zeros(4);
                    }
                    o.put_u16(rate);
                    o.put_zeros(if v < Version::V14 { 6 } else { 2 });
                });
            }
            let len = o.len() - start;
            o.set_u16(at, len as u16);
        };
        if raw.carrier == Carrier::Std {
            self.one(raw, out, |o| {
                if v == Version::V10 {
                    o.put_u16(port.0);
                    o.put_zeros(6);
                } else {
                    put_port32(o, port);
                    o.put_zeros(4);
                }
                queues.iter().for_each(|q| queue(q, o));
            });
        } else {
            self.parts(raw, queues, more, out, queue);
        }
        Some(())
    }

    pub(super) fn queue_stats_request(&self, q: &QueueRequest, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::QueueStatsRequest)?, out, |o| {
            if self.version == Version::V10 {
                let port = if q.port == OfPort::NONE {
                    OfPort::ALL
                } else {
                    q.port
                };
                o.put_u16(port.0);
                o.put_zeros(2);
            } else {
                put_port32(o, q.port);
            }
            o.put_u32(q.queue);
        });
        Some(())
    }

    pub(super) fn queue_stats_reply(
        &self,
        queues: &[QueueStats],
        more: bool,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let raw = self.raw(Kind::QueueStatsReply)?;
        let v = self.version;
        self.parts(raw, queues, more, out, |q, o| {
            if v >= Version::V14 {
                o.put_u16(48);
                o.put_zeros(6);
            }
            if v == Version::V10 {
                o.put_u16(q.port.0);
                o.put_zeros(2);
            } else {
                put_port32(o, q.port);
            }
            o.put_u32(q.queue);
            o.put_u64(q.tx_bytes);
            o.put_u64(q.tx_packets);
            o.put_u64(q.tx_errors);
            if v >= Version::V13 {
                o.put_u32(q.duration_sec);
                o.put_u32(q.duration_nsec);
            }
        });
        Some(())
    }
}

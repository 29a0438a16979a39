//! Switch features and configuration, roles, asynchronous configuration, bundles, Nicira's small messages.

use std::net::IpAddr;

use crate::action::{decode::props, encode::prop};
use crate::codec::port::{pull_port, put_port};
use crate::codec::{Dec, Enc, exactly};
use crate::error::OfpErr;
use crate::message::{Message, Msg};
use crate::packet_in::PacketInFormat;
use crate::raw::{self, Carrier, Kind};
use crate::switch::*;
use crate::version::Version;
use crate::wire::{Put, Reader};

const ASYNC: [AsyncType; 6] = [
    AsyncType::PacketIn,
    AsyncType::PortStatus,
    AsyncType::FlowRemoved,
    AsyncType::RoleStatus,
    AsyncType::TableStatus,
    AsyncType::RequestForward,
];

/// The property of 1.4 for a kind of message; secondary roles have even numbers.
fn async_prop(kind: AsyncType, secondary: bool) -> u16 {
    kind as u16 * 2 + u16::from(!secondary)
}

impl Dec<'_, '_> {
    pub(super) fn features(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let mut f = SwitchFeatures {
            datapath_id: r.u64()?,
            n_buffers: r.u32()?,
            n_tables: r.u8()?,
            auxiliary_id: r.u8()?,
            ..Default::default()
        };
        r.skip(2)?;
        let capabilities = r.u32()?;
        let actions = r.u32()?;
        if self.version < Version::V13 {
            f.auxiliary_id = 0;
        }
        let v10 = self.version == Version::V10;
        let known = match self.version {
            Version::V10 | Version::V11 => 0xef,
            Version::V12 | Version::V13 => 0x16f,
            _ => 0x76f,
        };
        f.capabilities = Capabilities::from_bits_truncate(capabilities & known);
        if v10 {
            // Bit 3 is the spanning tree's in 1.0.
            if f.capabilities.contains(Capabilities::GROUP_STATS) {
                f.capabilities -= Capabilities::GROUP_STATS;
                f.capabilities |= Capabilities::STP;
            }
            f.actions = actions;
        }
        f.ports = self.list(r, |r| pull_port(r, self.version))?;
        Ok(Message::FeaturesReply(f))
    }

    pub(super) fn config(&self, mut r: Reader<'_>) -> Result<SwitchConfig, OfpErr> {
        let (flags, miss_send_len) = (r.u16()?, r.u16()?);
        const INVALID_TTL: u16 = 1 << 2;
        let ttl_in_flags = self.version < Version::V13;
        let known = 3 | if ttl_in_flags { INVALID_TTL } else { 0 };
        if self.parsed.raw.kind == Kind::SetConfig && flags & !known != 0 {
            return Err(OfpErr::OFPSCFC_BAD_FLAGS);
        }
        let frag = FragHandling::ALL[usize::from(flags & 3)].0;
        let invalid_ttl_to_controller = ttl_in_flags.then_some(flags & INVALID_TTL != 0);
        Ok(SwitchConfig {
            frag,
            invalid_ttl_to_controller,
            miss_send_len,
        })
    }

    pub(super) fn desc(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        Ok(Message::DescReply(DescStats {
            mfr_desc: r.string(256)?,
            hw_desc: r.string(256)?,
            sw_desc: r.string(256)?,
            serial_num: r.string(32)?,
            dp_desc: r.string(256)?,
        }))
    }

    pub(super) fn role(&self, mut r: Reader<'_>) -> Result<RoleRequest, OfpErr> {
        let n = r.u32()?;
        if self.is_nx() {
            // other, master, slave.
            let role = match n {
                0 => Role::Equal,
                1 => Role::Primary,
                2 => Role::Secondary,
                _ => return Err(OfpErr::OFPRRFC_BAD_ROLE),
            };
            return Ok(RoleRequest {
                role,
                generation_id: None,
                nicira: true,
            });
        }
        let role = role_from(n)?;
        r.skip(4)?;
        let generation = r.u64()?;
        // Who only asks for its role has no generation.
        let asks = role == Role::NoChange && self.parsed.raw.kind == Kind::RoleRequest;
        let generation_id = (!asks && generation != u64::MAX).then_some(generation);
        Ok(RoleRequest {
            role,
            generation_id,
            nicira: false,
        })
    }

    pub(super) fn role_status(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let role = role_from(r.u32()?)?;
        let reason = match r.u8()? {
            0 => RoleReason::PrimaryRequest,
            1 => RoleReason::Config,
            2 => RoleReason::Experimenter,
            _ if self.for_show() => RoleReason::Unknown,
            _ => return Err(OfpErr::NXBRC_BAD_REASON),
        };
        r.skip(3)?;
        Ok(Message::RoleStatus(RoleStatus {
            role,
            generation_id: r.u64()?,
            reason,
        }))
    }

    fn async13(&self, mut r: Reader<'_>) -> Result<Vec<(AsyncType, bool, u32)>, OfpErr> {
        let mut out = Vec::new();
        for kind in &ASYNC[..3] {
            out.push((*kind, false, r.u32()?));
            out.push((*kind, true, r.u32()?));
        }
        Ok(out)
    }

    /// `unknown`: what a property that nobody knows is; `None`: nothing to care about, and unknown reasons are not
    /// either.
    fn async14(
        &self,
        r: Reader<'_>,
        unknown: Option<OfpErr>,
    ) -> Result<Vec<(AsyncType, bool, u32)>, OfpErr> {
        let mut out = Vec::new();
        for p in props(r) {
            let (type_, mut b) = p?;
            match (ASYNC.get(usize::from(type_ / 2)), unknown) {
                (Some(kind), _) => {
                    let mask = b.u32()?;
                    let known = match kind {
                        AsyncType::PacketIn | AsyncType::FlowRemoved => 0x3f,
                        AsyncType::PortStatus | AsyncType::RoleStatus => 0x7,
                        AsyncType::TableStatus => 0x18,
                        AsyncType::RequestForward => 0x3,
                    };
                    if unknown.is_some() && mask & !known != 0 {
                        return Err(OfpErr::OFPACFC_INVALID);
                    }
                    out.push((*kind, type_ % 2 == 0, mask));
                }
                (None, Some(e)) => return Err(e),
                (None, None) => {}
            }
        }
        Ok(out)
    }

    pub(super) fn get_async_reply(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let changes = if self.version >= Version::V14 {
            self.async14(r, None)?
        } else {
            self.async13(r)?
        };
        let mut c = AsyncConfig::default();
        c.apply(&AsyncMod { changes });
        Ok(Message::GetAsyncReply(c))
    }

    pub(super) fn set_async(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let nicira = self.is_nx();
        let by_props = self.parsed.raw.extra_unit != 0;
        let changes = if by_props {
            self.async14(r, Some(OfpErr::OFPACFC_UNSUPPORTED))?
        } else {
            self.async13(r)?
        };
        Ok(Message::SetAsync {
            change: AsyncMod { changes },
            nicira,
        })
    }

    /// Unknown flags are an error, but one that can be shown.
    fn bundle_flags(&self, bits: u16) -> Result<BundleFlags, OfpErr> {
        if self.for_show() {
            return Ok(BundleFlags::from_bits_retain(bits));
        }
        BundleFlags::from_bits(bits).ok_or(OfpErr::OFPBFC_BAD_FLAGS)
    }

    pub(super) fn bundle_control(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let (bundle_id, type_, flags) = (r.u32()?, r.u16()?, r.u16()?);
        use BundleCtrlType::*;
        let types = [
            OpenRequest,
            OpenReply,
            CloseRequest,
            CloseReply,
            CommitRequest,
            CommitReply,
            DiscardRequest,
            DiscardReply,
        ];
        let type_ = *types
            .get(usize::from(type_))
            .ok_or(OfpErr::OFPBFC_BAD_TYPE)?;
        let flags = self.bundle_flags(flags)?;
        Ok(Message::BundleControl(BundleCtrl {
            bundle_id,
            type_,
            flags,
        }))
    }

    pub(super) fn bundle_add(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let bundle_id = r.u32()?;
        r.skip(2)?;
        let flags = self.bundle_flags(r.u16()?)?;
        let msg = r.rest();
        let header = msg.first_chunk::<8>().ok_or(OfpErr::OFPBFC_MSG_BAD_LEN)?;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[0] != self.version.wire() {
            return Err(OfpErr::OFPBFC_BAD_VERSION);
        }
        if len < 8 || len > msg.len() {
            return Err(OfpErr::OFPBFC_MSG_BAD_LEN);
        }
        if header[4..] != self.parsed.xid.to_be_bytes() {
            return Err(OfpErr::OFPBFC_MSG_BAD_XID);
        }
        let inner = raw::parse(&msg[..len]).map_err(|_| OfpErr::OFPBFC_MSG_UNSUP)?;
        if !bundlable(inner.raw.kind) {
            return Err(OfpErr::OFPBFC_MSG_UNSUP);
        }
        Ok(Message::BundleAdd(BundleAdd {
            bundle_id,
            flags,
            msg: msg[..len].to_vec(),
        }))
    }

    pub(super) fn request_forward(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let inner = r.rest();
        let header = inner.first_chunk::<8>().ok_or(OfpErr::OFPBRC_BAD_LEN)?;
        if header[0] != self.version.wire() {
            return Err(OfpErr::OFPBRC_BAD_VERSION);
        }
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if len < 8 || len > inner.len() {
            return Err(OfpErr::OFPBFC_MSG_BAD_LEN);
        }
        let p = raw::parse(&inner[..len])?;
        if !matches!(p.raw.kind, Kind::GroupMod | Kind::MeterMod) {
            return Err(OfpErr::OFPBFC_MSG_UNSUP);
        }
        let msg = Msg::decode(&inner[..len], self.tun)?;
        Ok(Message::RequestForward {
            xid: msg.xid,
            request: Box::new(msg.body),
        })
    }

    pub(super) fn flow_mod_table_id(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let set = r.u8()?;
        Ok(Message::FlowModTableId(set != 0))
    }

    pub(super) fn set_flow_format(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        match r.u32()? {
            0 => Ok(Message::SetFlowFormat { nxm: false }),
            2 => Ok(Message::SetFlowFormat { nxm: true }),
            _ => Err(OfpErr::OFPBRC_EPERM),
        }
    }

    pub(super) fn set_packet_in_format(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        PacketInFormat::from_wire(r.u32()?)
            .map(Message::SetPacketInFormat)
            .ok_or(OfpErr::OFPBRC_EPERM)
    }

    pub(super) fn set_controller_id(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        if !r.zeros(6)? {
            return Err(OfpErr::NXBRC_MUST_BE_ZERO);
        }
        Ok(Message::SetControllerId(r.u16()?))
    }

    fn tlv_maps(&self, mut r: Reader<'_>, fields: u16) -> Result<Vec<TlvMap>, OfpErr> {
        let mut out = Vec::new();
        while !r.is_empty() {
            let m = TlvMap {
                option_class: r.u16()?,
                option_type: r.u8()?,
                option_len: r.u8()?,
                index: r.u16()?,
            };
            r.skip(2)?;
            if !m.option_len.is_multiple_of(4) || m.option_len > 124 || m.option_len == 0 {
                return Err(OfpErr::NXTTMFC_BAD_OPT_LEN);
            }
            if m.index >= fields {
                return Err(OfpErr::NXTTMFC_BAD_FIELD_IDX);
            }
            out.push(m);
        }
        Ok(out)
    }

    pub(super) fn tlv_table_mod(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let command = match r.u16()? {
            0 => TlvTableCommand::Add,
            1 => TlvTableCommand::Delete,
            2 => TlvTableCommand::Clear,
            _ => return Err(OfpErr::NXTTMFC_BAD_COMMAND),
        };
        r.skip(6)?;
        Ok(Message::TlvTableMod(TlvTableMod {
            command,
            maps: self.tlv_maps(r, 64)?,
        }))
    }

    pub(super) fn tlv_table_reply(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let (max_option_space, max_fields) = (r.u32()?, r.u16()?);
        r.skip(10)?;
        let maps = self.tlv_maps(r, max_fields)?;
        Ok(Message::TlvTableReply(TlvTableReply {
            max_option_space,
            max_fields,
            maps,
        }))
    }

    pub(super) fn ct_flush_zone(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        if !r.zeros(6)? {
            return Err(OfpErr::NXBRC_MUST_BE_ZERO);
        }
        Ok(Message::CtFlushZone(r.u16()?))
    }

    pub(super) fn ct_flush(&self, mut r: Reader<'_>) -> Result<Message, OfpErr> {
        let mut f = CtFlush {
            ip_proto: r.u8()?,
            ..Default::default()
        };
        if !r.zeros(7)? {
            return Err(OfpErr::NXBRC_MUST_BE_ZERO);
        }
        for p in props(r) {
            let (type_, mut b) = p?;
            match type_ {
                0 => f.orig = ct_tuple(b)?,
                1 => f.reply = ct_tuple(b)?,
                2 => f.zone = Some(exactly(&mut b, Reader::u16)?),
                3 => f.mark = exactly(&mut b, Reader::u32)?,
                4 => f.mark_mask = exactly(&mut b, Reader::u32)?,
                5 => f.labels = label(b)?,
                6 => f.labels_mask = label(b)?,
                _ => return Err(OfpErr::OFPBPC_BAD_TYPE),
            }
        }
        if f.mark != 0 && f.mark_mask == 0 {
            f.mark_mask = u32::MAX;
        }
        if f.labels != 0 && f.labels_mask == 0 {
            f.labels_mask = u128::MAX;
        }
        Ok(Message::CtFlush(Box::new(f)))
    }

    pub(super) fn ipfix_bridge(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        let stats = ipfix(r)?;
        Ok(Message::IpfixBridgeReply(
            stats.first().copied().unwrap_or_default(),
        ))
    }

    pub(super) fn ipfix_flow(&self, r: Reader<'_>) -> Result<Message, OfpErr> {
        Ok(Message::IpfixFlowReply(ipfix(r)?))
    }
}

fn role_from(n: u32) -> Result<Role, OfpErr> {
    match n {
        0 => Ok(Role::NoChange),
        1 => Ok(Role::Equal),
        2 => Ok(Role::Primary),
        3 => Ok(Role::Secondary),
        _ => Err(OfpErr::OFPRRFC_BAD_ROLE),
    }
}

/// Whether a message may be part of a bundle.
fn bundlable(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::FlowMod | Kind::GroupMod | Kind::PortMod | Kind::PacketOut | Kind::CtFlushZone
    )
}

fn ipfix(mut r: Reader<'_>) -> Result<Vec<IpfixStats>, OfpErr> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let mut n = [0; 10];
        for n in &mut n {
            *n = r.u64()?;
        }
        let collector_set_id = r.u32()?;
        r.skip(4)?;
        out.push(IpfixStats {
            collector_set_id,
            total_flows: n[0],
            current_flows: n[1],
            pkts: n[2],
            ipv4_pkts: n[3],
            ipv6_pkts: n[4],
            error_pkts: n[5],
            ipv4_error_pkts: n[6],
            ipv6_error_pkts: n[7],
            tx_pkts: n[8],
            tx_errors: n[9],
        });
    }
    Ok(out)
}

/// All of a property as a label.
fn label(r: Reader<'_>) -> Result<u128, OfpErr> {
    let bytes = r.rest().try_into().map_err(|_| OfpErr::OFPBPC_BAD_LEN)?;
    Ok(u128::from_be_bytes(bytes))
}

/// Nested properties of a tuple: addresses are 16 bytes with IPv4 mapped. Ports and ICMP's numbers share their
/// place: the type is the low byte of what is a destination port otherwise.
fn ct_tuple(mut r: Reader<'_>) -> Result<CtTuple, OfpErr> {
    let mut t = CtTuple::default();
    r.skip(4)?;
    let addr = |b: &mut Reader<'_>| -> Result<Option<IpAddr>, OfpErr> {
        let v6 = std::net::Ipv6Addr::from(b.array::<16>()?);
        let addr = v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4);
        Ok((!v6.is_unspecified()).then_some(addr))
    };
    for p in props(r) {
        let (type_, mut b) = p?;
        match type_ {
            0 => t.src = addr(&mut b)?,
            1 => t.dst = addr(&mut b)?,
            2 | 4 => t.src_port = exactly(&mut b, Reader::u16)?,
            3 => t.dst_port = exactly(&mut b, Reader::u16)?,
            5 => t.dst_port = t.dst_port & 0xff00 | u16::from(exactly(&mut b, Reader::u8)?),
            6 => t.dst_port = t.dst_port & 0xff | u16::from(exactly(&mut b, Reader::u8)?) << 8,
            _ => return Err(OfpErr::OFPBPC_BAD_TYPE),
        }
    }
    t.icmp_id = t.src_port;
    [t.icmp_code, t.icmp_type] = t.dst_port.to_be_bytes();
    Ok(t)
}

fn put_ct_tuple(t: &CtTuple, proto: u8, type_: u16, o: &mut Vec<u8>) {
    let icmp = proto == 1 || proto == 58;
    // ICMP's numbers are always there.
    if *t == CtTuple::default() && !icmp {
        return;
    }
    // Like Open vSwitch's, the length of a 16-bit property counts its padding.
    let prop16 = |o: &mut Vec<u8>, type_: u16, n: u16| {
        prop(o, type_, |o| {
            o.put_u16(n);
            o.put_zeros(2);
        });
    };
    prop(o, type_, |o| {
        o.put_zeros(4);
        for (type_, addr) in [(0, t.src), (1, t.dst)] {
            if let Some(addr) = addr {
                let v6 = match addr {
                    IpAddr::V4(a) => a.to_ipv6_mapped(),
                    IpAddr::V6(a) => a,
                };
                prop(o, type_, |o| o.put(&v6.octets()));
            }
        }
        if icmp {
            prop16(o, 4, t.icmp_id);
            prop(o, 5, |o| o.put_u8(t.icmp_type));
            prop(o, 6, |o| o.put_u8(t.icmp_code));
        } else {
            if t.src_port != 0 {
                prop16(o, 2, t.src_port);
            }
            if t.dst_port != 0 {
                prop16(o, 3, t.dst_port);
            }
        }
    });
}

impl Enc<'_, '_> {
    pub(super) fn features(&self, f: &SwitchFeatures, out: &mut Vec<u8>) -> Option<()> {
        let v = self.version;
        self.one(self.raw(Kind::FeaturesReply)?, out, |o| {
            o.put_u64(f.datapath_id);
            o.put_u32(f.n_buffers);
            o.put_u8(f.n_tables);
            o.put_u8(if v >= Version::V13 { f.auxiliary_id } else { 0 });
            o.put_zeros(2);
            let mut c = f.capabilities.bits();
            c &= match v {
                Version::V10 => 0xe7,
                Version::V11 => 0xef,
                Version::V12 | Version::V13 => 0x16f,
                _ => 0x76f,
            };
            if v == Version::V10 && f.capabilities.contains(Capabilities::STP) {
                c |= 8;
            }
            o.put_u32(c);
            o.put_u32(if v == Version::V10 { f.actions } else { 0 });
            if v < Version::V13 {
                f.ports.iter().for_each(|p| put_port(p, v, o));
            }
        });
        Some(())
    }

    pub(super) fn config(&self, kind: Kind, c: &SwitchConfig, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(kind)?, out, |o| {
            let mut flags = c.frag as u16;
            let has_ttl = self.version < Version::V13;
            if has_ttl && c.invalid_ttl_to_controller == Some(true) {
                flags |= 1 << 2;
            }
            o.put_u16(flags);
            o.put_u16(c.miss_send_len);
        });
        Some(())
    }

    pub(super) fn desc(&self, d: &DescStats, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::DescReply)?, out, |o| {
            o.put_string(&d.mfr_desc, 256);
            o.put_string(&d.hw_desc, 256);
            o.put_string(&d.sw_desc, 256);
            o.put_string(&d.serial_num, 32);
            o.put_string(&d.dp_desc, 256);
        });
        Some(())
    }

    pub(super) fn role(&self, kind: Kind, r: &RoleRequest, out: &mut Vec<u8>) -> Option<()> {
        let raw = self.raw_nx(kind, r.nicira)?;
        self.one(raw, out, |o| {
            if raw.carrier == Carrier::Nx {
                o.put_u32(match r.role {
                    Role::Primary => 1,
                    Role::Secondary => 2,
                    _ => 0,
                });
            } else {
                o.put_u32(r.role as u32);
                o.put_zeros(4);
                let unset = if kind == Kind::RoleReply { u64::MAX } else { 0 };
                o.put_u64(r.generation_id.unwrap_or(unset));
            }
        });
        Some(())
    }

    pub(super) fn role_status(&self, r: &RoleStatus, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::RoleStatus)?, out, |o| {
            o.put_u32(r.role as u32);
            o.put_u8(r.reason as u8);
            o.put_zeros(3);
            o.put_u64(r.generation_id);
        });
        Some(())
    }

    pub(super) fn get_async_reply(&self, c: &AsyncConfig, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::GetAsyncReply)?, out, |o| {
            if self.version < Version::V14 {
                for i in 0..3 {
                    o.put_u32(c.primary[i]);
                    o.put_u32(c.secondary[i]);
                }
            } else {
                for kind in ASYNC {
                    let i = kind as usize;
                    prop(o, async_prop(kind, true), |o| o.put_u32(c.secondary[i]));
                    prop(o, async_prop(kind, false), |o| o.put_u32(c.primary[i]));
                }
            }
        });
        Some(())
    }

    pub(super) fn set_async(&self, c: &AsyncMod, nicira: bool, out: &mut Vec<u8>) -> Option<()> {
        // The form with properties can say a part; use it where the version has no other.
        let raw = self.raw_nx(Kind::SetAsync, nicira)?;
        self.one(raw, out, |o| {
            if raw.extra_unit != 0 {
                for &(kind, secondary, mask) in &c.changes {
                    prop(o, async_prop(kind, secondary), |o| o.put_u32(mask));
                }
            } else {
                let mut all = AsyncConfig::default();
                all.apply(c);
                for i in 0..3 {
                    o.put_u32(all.primary[i]);
                    o.put_u32(all.secondary[i]);
                }
            }
        });
        Some(())
    }

    pub(super) fn bundle_control(&self, b: &BundleCtrl, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::BundleControl)?, out, |o| {
            o.put_u32(b.bundle_id);
            o.put_u16(b.type_ as u16);
            o.put_u16(b.flags.bits());
        });
        Some(())
    }

    pub(super) fn bundle_add(&self, b: &BundleAdd, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::BundleAdd)?, out, |o| {
            o.put_u32(b.bundle_id);
            o.put_zeros(2);
            o.put_u16(b.flags.bits());
            o.put(&b.msg);
        });
        Some(())
    }

    pub(super) fn request_forward(
        &self,
        xid: u32,
        request: &Message,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let inner = Msg {
            version: self.version,
            xid,
            body: request.clone(),
        };
        let mut bytes = Vec::new();
        inner.encode(self.tun, &mut bytes).ok()?;
        self.one(self.raw(Kind::RequestForward)?, out, |o| o.put(&bytes));
        Some(())
    }

    pub(super) fn flow_mod_table_id(&self, on: bool, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::FlowModTableId)?, out, |o| {
            o.put_u8(on.into());
            o.put_zeros(7);
        });
        Some(())
    }

    pub(super) fn set_flow_format(&self, nxm: bool, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::SetFlowFormat)?, out, |o| {
            o.put_u32(if nxm { 2 } else { 0 })
        });
        Some(())
    }

    pub(super) fn set_packet_in_format(&self, f: PacketInFormat, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::SetPacketInFormat)?, out, |o| {
            o.put_u32(f as u32)
        });
        Some(())
    }

    pub(super) fn set_controller_id(&self, id: u16, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::SetControllerId)?, out, |o| {
            o.put_zeros(6);
            o.put_u16(id);
        });
        Some(())
    }

    pub(super) fn tlv_table_mod(&self, m: &TlvTableMod, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::TlvTableMod)?, out, |o| {
            o.put_u16(m.command as u16);
            o.put_zeros(6);
            put_tlv_maps(&m.maps, o);
        });
        Some(())
    }

    pub(super) fn tlv_table_reply(&self, r: &TlvTableReply, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::TlvTableReply)?, out, |o| {
            o.put_u32(r.max_option_space);
            o.put_u16(r.max_fields);
            o.put_zeros(10);
            put_tlv_maps(&r.maps, o);
        });
        Some(())
    }

    pub(super) fn ct_flush_zone(&self, zone: u16, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::CtFlushZone)?, out, |o| {
            o.put_zeros(6);
            o.put_u16(zone);
        });
        Some(())
    }

    pub(super) fn ct_flush(&self, f: &CtFlush, out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(Kind::CtFlush)?, out, |o| {
            o.put_u8(f.ip_proto);
            o.put_zeros(7);
            put_ct_tuple(&f.orig, f.ip_proto, 0, o);
            put_ct_tuple(&f.reply, f.ip_proto, 1, o);
            if let Some(zone) = f.zone {
                prop(o, 2, |o| {
                    o.put_u16(zone);
                    o.put_zeros(2);
                });
            }
            if f.mark_mask != 0 {
                prop(o, 3, |o| o.put_u32(f.mark));
                if f.mark_mask != u32::MAX {
                    prop(o, 4, |o| o.put_u32(f.mark_mask));
                }
            }
            if f.labels_mask != 0 {
                prop(o, 5, |o| o.put(&f.labels.to_be_bytes()));
                if f.labels_mask != u128::MAX {
                    prop(o, 6, |o| o.put(&f.labels_mask.to_be_bytes()));
                }
            }
        });
        Some(())
    }

    pub(super) fn ipfix(&self, kind: Kind, stats: &[IpfixStats], out: &mut Vec<u8>) -> Option<()> {
        self.one(self.raw(kind)?, out, |o| {
            for s in stats {
                for n in [
                    s.total_flows,
                    s.current_flows,
                    s.pkts,
                    s.ipv4_pkts,
                    s.ipv6_pkts,
                    s.error_pkts,
                    s.ipv4_error_pkts,
                    s.ipv6_error_pkts,
                    s.tx_pkts,
                    s.tx_errors,
                ] {
                    o.put_u64(n);
                }
                o.put_u32(s.collector_set_id);
                o.put_zeros(4);
            }
        });
        Some(())
    }
}

fn put_tlv_maps(maps: &[TlvMap], o: &mut Vec<u8>) {
    for m in maps {
        o.put_u16(m.option_class);
        o.put_u8(m.option_type);
        o.put_u8(m.option_len);
        o.put_u16(m.index);
        o.put_zeros(2);
    }
}

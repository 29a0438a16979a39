//! Matches as lists of extensible match entries (NXM and OXM), and single entries and headers in actions.
//!
//! An entry is a header ([`OxmHeader`]), a value and, if the header says so, a mask. A match's entries come in
//! any order that puts prerequisites first; we write them in Open vSwitch's order.

use ferrovs_packet::field::{Field, FieldId, FieldValue, Maskable, OxmHeader, Prereq};
use ferrovs_packet::flow::{Match, PT_ETH, VLAN_CFI, VLAN_PCP_MASK, VLAN_VID_MASK};
use ferrovs_packet::miniflow::FlowMap;
use ferrovs_packet::types::{eth_type, ip_proto};

use crate::error::OfpErr;
use crate::text::format::hex;
use crate::tun::Tun;
use crate::version::Version;
use crate::warn::{Topic, warn};
use crate::wire::{Put, Reader};

/// Nicira's pseudo field that carries a cookie in matches.
const COOKIE: OxmHeader = OxmHeader {
    class: 1,
    experimenter: 0,
    number: 30,
    has_mask: false,
    len: 8,
};
const COOKIE_W: OxmHeader = OxmHeader {
    class: 1,
    experimenter: 0,
    number: 30,
    has_mask: true,
    len: 16,
};

/// Which code points to write: NXM (OpenFlow 1.0 flavour) or those of an OXM version.
pub type Flavor = Option<Version>;

fn wire(flavor: Flavor) -> u8 {
    flavor.map_or(0, Version::wire)
}

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub field: &'static Field,
    pub value: FieldValue,
    pub mask: FieldValue,
    pub header: OxmHeader,
}

/// How strict reading a list of entries is.
#[derive(Debug, Default)]
pub struct PullOptions {
    /// Skip entries of unknown fields, and do not insist on prerequisites.
    pub lenient: bool,
    /// Only fields that a packet has without its headers.
    pub pipeline_only: bool,
    /// Whether a cookie may be among the entries.
    pub cookie: bool,
}

/// What a list of entries holds.
#[derive(Clone, Debug, Default)]
pub struct Pulled {
    pub match_: Match,
    pub cookie: u64,
    pub cookie_mask: u64,
}

/// The header at the beginning of `data`.
pub(crate) fn peek_header(data: &[u8]) -> Result<OxmHeader, OfpErr> {
    OxmHeader::read(data).ok_or_else(|| {
        if let Some(&[0xff, 0xff, number, len, a, b, c, d]) = data.first_chunk::<8>() {
            // The length of a vendor's field includes the vendor.
            warn(Topic::NxMatch, || {
                let vendor = hex(u32::from_be_bytes([a, b, c, d]).into());
                let (number, masked) = (number >> 1, number & 1);
                format!(
                    "OXM header {vendor}:65535:{number}:{masked}:{len} has invalid length {len} (minimum is 8)"
                )
            });
        }
        OfpErr::OFPBMC_BAD_LEN
    })
}

/// Reads a header; the field is `None` when nobody knows it.
pub fn pull_header(r: &mut Reader<'_>) -> Result<(OxmHeader, Option<&'static Field>), OfpErr> {
    let header = peek_header(r.rest())?;
    r.skip(header.size()).map_err(|_| OfpErr::OFPBMC_BAD_LEN)?;
    if header.has_mask && header.len % 2 != 0 {
        return Err(OfpErr::OFPBMC_BAD_LEN);
    }
    Ok((header, Field::by_oxm(header).map(|(f, _)| f)))
}

/// Reads a header in a list of such; the field is `None` when nobody knows a field of exactly this size.
pub fn pull_any_header(r: &mut Reader<'_>) -> Result<(OxmHeader, Option<&'static Field>), OfpErr> {
    let header = OxmHeader::read(r.rest()).ok_or(OfpErr::OFPBMC_BAD_LEN)?;
    r.skip(header.size()).map_err(|_| OfpErr::OFPBMC_BAD_LEN)?;
    let field = Field::by_oxm(header).map(|(f, _)| f).filter(|f| {
        let len = usize::from(f.n_bytes) << u8::from(header.has_mask);
        f.id.tun_metadata_index().is_some() || len == usize::from(header.len)
    });
    Ok((header, field))
}

/// Reads one entry with a known field.
pub fn pull_entry(r: &mut Reader<'_>, tun: &Tun<'_>) -> Result<Entry, OfpErr> {
    let (header, field) = pull_header(r)?;
    let bytes = r
        .take(header.len.into())
        .map_err(|_| OfpErr::OFPBMC_BAD_LEN)?;
    let field = field.ok_or(OfpErr::OFPBMC_BAD_FIELD)?;
    entry(field, header, bytes, tun)
}

fn entry(
    field: &'static Field,
    header: OxmHeader,
    bytes: &[u8],
    tun: &Tun<'_>,
) -> Result<Entry, OfpErr> {
    let width = if header.has_mask {
        bytes.len() / 2
    } else {
        bytes.len()
    };
    let variable = field.id.tun_metadata_index().is_some();
    if variable {
        // No value at all asks whether the option is there.
        if width > usize::from(field.n_bytes) {
            return Err(OfpErr::OFPBMC_BAD_LEN);
        }
        tun.ensure(field, width)?;
    } else if width != usize::from(field.n_bytes) {
        return Err(OfpErr::OFPBMC_BAD_LEN);
    }
    let value = FieldValue::from_be_bytes(&bytes[..width]);
    let mask = if header.has_mask {
        let mask = FieldValue::from_be_bytes(&bytes[width..]);
        if value.and(&mask) != value {
            return Err(bad_wildcards(header));
        }
        if field.maskable == Maskable::No && !mask.is_ones(width * 8) {
            return Err(OfpErr::OFPBMC_BAD_MASK);
        }
        mask
    } else if variable && width > 0 && !tun.is_auto() {
        // Leading zeros were left out.
        FieldValue::ones(tun.bits(field))
    } else {
        FieldValue::ones(width * 8)
    };
    Ok(Entry {
        field,
        value,
        mask,
        header,
    })
}

/// The error for an entry whose value has bits that its mask does not have.
pub(crate) fn bad_wildcards(h: OxmHeader) -> OfpErr {
    warn(Topic::NxMatch, || {
        let (masked, len) = (u8::from(h.has_mask), h.len);
        format!(
            "Rejecting NXM/OXM entry {}:{}:{}:{masked}:{len} with 1-bits in value for bits wildcarded by the mask.",
            hex(h.experimenter.into()),
            h.class,
            h.number
        )
    });
    OfpErr::OFPBMC_BAD_WILDCARDS
}

/// Whether a packet has the field even before its headers are looked at.
pub fn is_pipeline_field(id: FieldId) -> bool {
    use FieldId::*;
    id.is_tunnel()
        || id.is_register()
        || matches!(
            id,
            Metadata | InPort | InPortOxm | ActsetOutput | PacketType
        )
}

/// Reads entries to the end of `data`.
pub fn pull_entries(data: &[u8], opt: &PullOptions, tun: &Tun<'_>) -> Result<Pulled, OfpErr> {
    let mut out = Pulled::default();
    (out.cookie, out.cookie_mask) = read_entries(data, opt, tun, &mut out.match_)?;
    Ok(out)
}

/// The same, into a match without any; gives the cookie and its mask.
fn read_entries(
    data: &[u8],
    opt: &PullOptions,
    tun: &Tun<'_>,
    m: &mut Match,
) -> Result<(u64, u64), OfpErr> {
    let mut r = Reader::with_error(data, OfpErr::OFPBMC_BAD_LEN);
    let (mut cookie, mut cookie_mask) = (0, 0);
    let mut have_cookie = false;
    while !r.is_empty() {
        let (header, field) = pull_header(&mut r)?;
        let bytes = r.take(header.len.into())?;
        if header == COOKIE || header == COOKIE_W {
            if !opt.cookie && opt.lenient {
                continue;
            }
            if !opt.cookie {
                return Err(OfpErr::OFPBMC_BAD_FIELD);
            }
            if have_cookie {
                return Err(OfpErr::OFPBMC_DUP_FIELD);
            }
            have_cookie = true;
            let mut b = Reader::new(bytes);
            cookie = b.u64()?;
            cookie_mask = if header.has_mask { b.u64()? } else { u64::MAX };
            if cookie & !cookie_mask != 0 {
                return Err(bad_wildcards(header));
            }
            continue;
        }
        let (value, mask) = bytes.split_at(bytes.len() / 2);
        if header.has_mask && value.iter().zip(mask).any(|(v, m)| v & !m != 0) {
            return Err(bad_wildcards(header));
        }
        // A field of another length is a field that nobody knows.
        let width = header.len >> u8::from(header.has_mask);
        let field = field.filter(|f| f.id.tun_metadata_index().is_some() || width == f.n_bytes);
        let Some(field) = field else {
            if opt.lenient {
                continue;
            }
            return Err(OfpErr::OFPBMC_BAD_FIELD);
        };
        let e = entry(field, header, bytes, tun)?;
        if !field.is_value_valid(&e.value) {
            return Err(OfpErr::OFPBMC_BAD_VALUE);
        }
        if opt.pipeline_only && !is_pipeline_field(field.id) {
            return Err(OfpErr::OFPBRC_PIPELINE_FIELDS_ONLY);
        }
        if !opt.lenient && !field.match_prereqs_ok(m) {
            return Err(OfpErr::OFPBMC_BAD_PREREQ);
        }
        if !field.is_all_wild(&m.wc) {
            return Err(OfpErr::OFPBMC_DUP_FIELD);
        }
        tun.with(|t| field.set_match_in(&e.value, &e.mask, m, t));
        if let Some(i) = field.id.tun_metadata_index() {
            // An option may be matched for being there at all.
            m.flow.tunnel.metadata.present |= 1 << i;
            m.wc.masks.tunnel.metadata.present |= 1 << i;
        }
    }
    Ok((cookie, cookie_mask))
}

/// Appends one entry.
pub fn put_entry(
    field: &'static Field,
    value: &FieldValue,
    mask: &FieldValue,
    flavor: Flavor,
    tun: &Tun<'_>,
    out: &mut Vec<u8>,
) {
    let mut n = tun.bytes(field);
    if tun.is_auto() && field.id.tun_metadata_index().is_some() {
        // Places are whole words; the option itself may be shorter.
        n = option_len(mask).unwrap_or(n);
    }
    put_entry_of(field, value, mask, n, flavor, out);
}

/// The length in bytes of an option that is matched or set as a whole.
pub(crate) fn option_len(mask: &FieldValue) -> Option<usize> {
    (1..=124)
        .find(|n| mask.is_ones(n * 8) && !mask.bit(n * 8))
        .filter(|n| mask.extract(n * 8, 1024 - n * 8).is_zero())
}

/// Appends one entry of `n` bytes.
pub fn put_entry_of(
    field: &'static Field,
    value: &FieldValue,
    mask: &FieldValue,
    n: usize,
    flavor: Flavor,
    out: &mut Vec<u8>,
) {
    let Some(oxm) = field.oxm(wire(flavor)) else {
        return;
    };
    let exact = field.maskable == Maskable::No
        || mask.is_ones(n * 8)
        || (field.id.tun_metadata_index().is_none()
            && mask.is_ones(field.n_bits.into())
            && field.id != FieldId::VlanVid);
    oxm.header(n as u8, !exact).write(out);
    out.put(value.low_bytes(n));
    if !exact {
        out.put(mask.low_bytes(n));
    }
}

/// Appends the header that names `field`, without value.
pub fn put_header(field: FieldId, flavor: Flavor, out: &mut Vec<u8>) {
    let f = field.field();
    if let Some(h) = f.oxm_header(wire(flavor), false) {
        h.write(out);
    }
}

/// The order in which entries are written, up to the fields whose presence depends on others.
const BEFORE_L2: [FieldId; 3] = [FieldId::DpHash, FieldId::RecircId, FieldId::ConjId];
const TUNNEL: [FieldId; 15] = [
    FieldId::TunId,
    FieldId::TunFlags,
    FieldId::TunSrc,
    FieldId::TunDst,
    FieldId::TunIpv6Src,
    FieldId::TunIpv6Dst,
    FieldId::TunGbpId,
    FieldId::TunGbpFlags,
    FieldId::TunErspanVer,
    FieldId::TunErspanIdx,
    FieldId::TunErspanDir,
    FieldId::TunErspanHwid,
    FieldId::TunGtpuFlags,
    FieldId::TunGtpuMsgtype,
    FieldId::PktMark,
];
const NSH: [FieldId; 10] = [
    FieldId::NshFlags,
    FieldId::NshTtl,
    FieldId::NshMdtype,
    FieldId::NshNp,
    FieldId::NshSpi,
    FieldId::NshSi,
    FieldId::NshC1,
    FieldId::NshC2,
    FieldId::NshC3,
    FieldId::NshC4,
];
const CT: [FieldId; 11] = [
    FieldId::CtState,
    FieldId::CtZone,
    FieldId::CtMark,
    FieldId::CtLabel,
    FieldId::CtNwSrc,
    FieldId::CtNwDst,
    FieldId::CtIpv6Src,
    FieldId::CtIpv6Dst,
    FieldId::CtNwProto,
    FieldId::CtTpSrc,
    FieldId::CtTpDst,
];

struct Writer<'a, 'b> {
    m: &'a Match,
    /// The words that the match says anything of: most fields are known to be wild by it.
    map: FlowMap,
    flavor: Flavor,
    tun: &'a Tun<'b>,
    out: &'a mut Vec<u8>,
    /// Whether a field was written that only Ethernet frames have.
    implied: bool,
}

impl Writer<'_, '_> {
    fn field(&mut self, id: FieldId) {
        let f = id.field();
        let (m, tun) = (self.m, self.tun);
        if !f.words.intersects(self.map) || f.is_all_wild(&m.wc) {
            return;
        }
        self.implied |= !matches!(f.prereq, Prereq::None);
        let (value, mask) = tun.with(|t| (f.value_in(&m.flow, t), f.mask_of_in(&m.wc, t)));
        put_entry(f, &value, &mask, self.flavor, tun, self.out);
    }

    fn fields(&mut self, ids: &[FieldId]) {
        for &id in ids {
            self.field(id);
        }
    }

    fn vlan(&mut self) {
        if self.flavor.is_none() {
            return self.field(FieldId::VlanTci);
        }
        let vlan = self.m.flow.vlans[0].tci.get();
        let mask = self.m.wc.masks.vlans[0].tci.get();
        if mask == 0 {
            return;
        }
        let bits = VLAN_VID_MASK | VLAN_CFI;
        let f = FieldId::VlanVid.field();
        if mask & bits != 0 {
            self.implied = true;
            let full = mask & bits == bits;
            let wire_mask = if full {
                FieldValue::ones(16)
            } else {
                u64::from(mask & bits).into()
            };
            put_entry(
                f,
                &u64::from(vlan & bits).into(),
                &wire_mask,
                self.flavor,
                self.tun,
                self.out,
            );
        }
        if vlan & bits != 0 && mask & VLAN_PCP_MASK != 0 {
            self.field(FieldId::VlanPcp);
        }
    }

    fn ip(&mut self) {
        use FieldId::*;
        self.field(IpFrag);
        if self.flavor.is_some() {
            self.field(IpDscp);
        } else {
            self.field(NwTos);
        }
        self.fields(&[NwEcn, NwTtl]);
        let flow = &self.m.flow;
        if self.m.wc.masks.nw_proto == 0 {
            return;
        }
        self.field(NwProto);
        match flow.nw_proto {
            ip_proto::TCP => self.fields(&[TcpSrc, TcpDst, TcpFlags]),
            ip_proto::UDP => self.fields(&[UdpSrc, UdpDst]),
            ip_proto::SCTP => self.fields(&[SctpSrc, SctpDst]),
            ip_proto::ICMP if flow.ether_type() == eth_type::IP => {
                self.fields(&[IcmpType, IcmpCode]);
            }
            ip_proto::ICMPV6 if flow.ether_type() == eth_type::IPV6 => {
                self.fields(&[Icmpv6Type, Icmpv6Code]);
                if [135, 136].contains(&flow.tp_src.get())
                    && (flow.tp_dst.get() == 0)
                    && self.m.wc.masks.tp_src.get() != 0
                {
                    self.fields(&[NdTarget]);
                    if flow.tp_src.get() == 135 {
                        self.field(NdSll);
                    } else {
                        self.field(NdTll);
                    }
                    self.fields(&[NdReserved, NdOptionsType]);
                }
            }
            _ => {}
        }
    }

    fn all(&mut self) {
        use FieldId::*;
        let start = self.out.len();
        self.fields(&BEFORE_L2);
        self.field(if self.flavor.is_some() {
            InPortOxm
        } else {
            InPort
        });
        self.field(ActsetOutput);
        // That the packet is an Ethernet frame is said below, if nothing else implies it.
        let frame = self.m.flow.packet_type.get() == PT_ETH;
        let typed = self.m.wc.masks.packet_type.get() != 0;
        if typed && !frame {
            self.field(PacketType);
        }
        self.fields(&[EthSrc, EthDst, EthType]);
        self.vlan();
        // What is wild is zero, and zero is no type.
        let ty = self.m.flow.ether_type();
        match ty {
            eth_type::MPLS | eth_type::MPLS_MCAST => {
                self.fields(&[MplsTc, MplsBos, MplsTtl, MplsLabel]);
            }
            eth_type::IP => {
                self.fields(&[IpSrc, IpDst]);
                self.ip();
            }
            eth_type::IPV6 => {
                self.fields(&[Ipv6Src, Ipv6Dst]);
                self.ip();
                self.field(Ipv6Label);
            }
            eth_type::ARP | eth_type::RARP => {
                self.fields(&[ArpOp, ArpSpa, ArpTpa, ArpSha, ArpTha]);
            }
            eth_type::NSH => self.fields(&NSH),
            _ => {}
        }
        self.fields(&TUNNEL[..TUNNEL.len() - 1]);
        if self.m.wc.masks.tunnel.metadata.present != 0 {
            for i in 0..64 {
                if self.m.wc.masks.tunnel.metadata.present & 1 << i != 0 {
                    self.fields(FieldId::tun_metadata(i).as_slice());
                }
            }
        }
        if self.flavor.is_some_and(|v| v >= Version::V15) {
            for i in 0..16 {
                self.field(FieldId::ALL[FieldId::Xreg0 as usize + i]);
            }
        } else {
            for i in 0..32 {
                self.fields(FieldId::reg(i).as_slice());
            }
        }
        self.field(PktMark);
        self.fields(&CT);
        self.field(Metadata);
        if typed && frame && !self.implied {
            let end = self.out.len();
            self.field(PacketType);
            let len = self.out.len() - end;
            self.out[start..].rotate_right(len);
        }
    }
}

/// Appends the entries of a match and a cookie (if its mask is not zero).
pub fn put_entries(
    m: &Match,
    flavor: Flavor,
    cookie: u64,
    cookie_mask: u64,
    tun: &Tun<'_>,
    out: &mut Vec<u8>,
) {
    Writer {
        m,
        map: FlowMap::of(&m.wc.masks),
        flavor,
        tun,
        out,
        implied: false,
    }
    .all();
    if cookie_mask != 0 {
        if cookie_mask == u64::MAX {
            COOKIE.write(out);
            out.put_u64(cookie);
        } else {
            COOKIE_W.write(out);
            out.put_u64(cookie & cookie_mask);
            out.put_u64(cookie_mask);
        }
    }
}

/// Type of the match structure of OpenFlow 1.1 and of OXM.
const OFPMT_STANDARD: u16 = 0;
const OFPMT_OXM: u16 = 1;

/// Appends `struct ofp_match` of OpenFlow 1.2 and later, padded.
pub fn put_oxm_match(m: &Match, version: Version, tun: &Tun<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.put_u16(OFPMT_OXM);
    out.put_u16(0);
    put_entries(m, Some(version), 0, 0, tun, out);
    out.set_u16(start + 2, (out.len() - start) as u16);
    out.pad8(start);
}

/// Appends Nicira's match, padded, and gives its length without padding.
pub fn put_nx_match(
    m: &Match,
    cookie: u64,
    cookie_mask: u64,
    tun: &Tun<'_>,
    out: &mut Vec<u8>,
) -> u16 {
    let start = out.len();
    put_entries(m, None, cookie, cookie_mask, tun, out);
    let len = out.len() - start;
    out.pad8(start);
    len as u16
}

/// Reads `len` bytes of Nicira's match and its padding.
pub fn pull_nx_match(
    r: &mut Reader<'_>,
    len: u16,
    opt: &PullOptions,
    tun: &Tun<'_>,
) -> Result<Pulled, OfpErr> {
    let len = usize::from(len);
    let padded = r
        .take(len.next_multiple_of(8))
        .map_err(|_| OfpErr::OFPBMC_BAD_LEN)?;
    pull_entries(&padded[..len], opt, tun)
}

/// Reads `struct ofp_match` with OXM entries only, and its padding.
pub(crate) fn pull_oxm_match(
    r: &mut Reader<'_>,
    opt: &PullOptions,
    tun: &Tun<'_>,
) -> Result<Match, OfpErr> {
    let mut m = Match::default();
    read_oxm_match(r, opt, tun, &mut m)?;
    Ok(m)
}

/// The same, into a match without any.
fn read_oxm_match(
    r: &mut Reader<'_>,
    opt: &PullOptions,
    tun: &Tun<'_>,
    m: &mut Match,
) -> Result<(), OfpErr> {
    let mut h = Reader::with_error(r.rest(), OfpErr::OFPBMC_BAD_LEN);
    let (type_, len) = (h.u16()?, usize::from(h.u16()?));
    if len < 4 || r.len() < len.next_multiple_of(8) {
        return Err(OfpErr::OFPBMC_BAD_LEN);
    }
    if type_ != OFPMT_OXM {
        return Err(OfpErr::OFPBMC_BAD_TYPE);
    }
    let padded = r.take(len.next_multiple_of(8))?;
    read_entries(&padded[4..len], opt, tun, m)?;
    Ok(())
}

/// Reads `struct ofp_match` of OpenFlow 1.1 and later in either form.
pub fn pull_ofp11_match(
    r: &mut Reader<'_>,
    opt: &PullOptions,
    tun: &Tun<'_>,
) -> Result<Match, OfpErr> {
    let mut m = Match::default();
    read_ofp11_match(r, opt, tun, &mut m)?;
    Ok(m)
}

/// The same, into a match without any.
pub(crate) fn read_ofp11_match(
    r: &mut Reader<'_>,
    opt: &PullOptions,
    tun: &Tun<'_>,
    m: &mut Match,
) -> Result<(), OfpErr> {
    let mut h = Reader::with_error(r.rest(), OfpErr::OFPBMC_BAD_LEN);
    match h.u16()? {
        OFPMT_STANDARD => {
            if usize::from(h.u16()?) != super::legacy::OFP11_MATCH_LEN {
                return Err(OfpErr::OFPBMC_BAD_LEN);
            }
            let body = r
                .take(super::legacy::OFP11_MATCH_LEN)
                .map_err(|_| OfpErr::OFPBMC_BAD_LEN)?;
            *m = super::legacy::match_from_ofp11(body)?;
            Ok(())
        }
        OFPMT_OXM => read_oxm_match(r, opt, tun, m),
        _ => Err(OfpErr::OFPBMC_BAD_TYPE),
    }
}

/// Appends the match structure of OpenFlow 1.1 and later.
pub fn put_ofp11_match(m: &Match, version: Version, tun: &Tun<'_>, out: &mut Vec<u8>) {
    if version == Version::V11 {
        out.put_u16(OFPMT_STANDARD);
        out.put_u16(super::legacy::OFP11_MATCH_LEN as u16);
        super::legacy::match_to_ofp11(m, out);
    } else {
        put_oxm_match(m, version, tun, out);
    }
}

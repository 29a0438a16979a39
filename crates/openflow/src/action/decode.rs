//! Actions from bytes.
//!
//! ```text
//! standard: type2 len2 ...           Nicira: ffff len2 00002320 subtype2 ...          len: a multiple of 8
//! ```
//!
//! Numbers that versions give differently are told apart by version; deprecated encodings are still read where
//! Open vSwitch reads them. Whether actions suit the match and the switch is checked later, in `check`.

mod nested;

use self::nested::{encap, nat};
use ferrovs_packet::field::{Field, FieldId, FieldValue, NoPorts, SubField, port_from_ofp11};
use ferrovs_packet::flow::{IP_DSCP_MASK, IP_ECN_MASK, VLAN_CFI};
use ferrovs_packet::types::{OfPort, eth_type};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use super::check::check_out_port;
use super::raw;
use super::verify::{Place, verify_decoded};
use super::*;
use crate::error::{NX_VENDOR, ONF_VENDOR, OfpErr};
use crate::oxm;
use crate::text::format::hex;
use crate::text::print::hex_dump;
use crate::tun::Tun;
use crate::version::Version;
use crate::wire::Reader;

/// Nesting of `clone`, `ct` and action sets that is read.
const MAX_DEPTH: usize = 64;

/// The type of actions that a vendor defines.
const VENDOR_ACTION: u16 = 0xffff;

const BAD_LEN: OfpErr = OfpErr::OFPBAC_BAD_LEN;

/// Whether the actions that only serve tests are understood.
static DEBUG_ACTIONS: AtomicBool = AtomicBool::new(false);

/// Lets `debug_slow` and `debug_recirc` be used, as a daemon with dummy devices does.
pub fn enable_debug_actions() {
    DEBUG_ACTIONS.store(true, Ordering::Relaxed);
}

/// Reads the actions of a flow in OpenFlow 1.0, where some stand for instructions of later versions.
pub fn actions(data: &[u8], version: Version, tun: &Tun<'_>) -> Result<Vec<Action>, OfpErr> {
    pull(data, version, tun, Place::Flow, 0)
}

/// Reads a list in which only actions may stand: a bucket's, a packet-out's.
pub fn action_list(data: &[u8], version: Version, tun: &Tun<'_>) -> Result<Vec<Action>, OfpErr> {
    pull(data, version, tun, Place::Actions, 0)
}

/// Reads the `len` bytes of such a list and leaves what follows them.
pub(crate) fn pull_action_list(
    r: &mut Reader<'_>,
    len: u16,
    version: Version,
    tun: &Tun<'_>,
) -> Result<Vec<Action>, OfpErr> {
    let (len, room) = (usize::from(len), r.len());
    check_multiple(len)?;
    let data = r.take(len).map_err(|_| {
        warn(Topic::Actions, || {
            format!(
                "OpenFlow message actions length {len} exceeds remaining message length ({room})"
            )
        });
        OfpErr::OFPBRC_BAD_LEN
    })?;
    action_list(data, version, tun)
}

fn check_multiple(n: usize) -> Result<(), OfpErr> {
    if !n.is_multiple_of(8) {
        warn(Topic::Actions, || {
            format!("OpenFlow message actions length {n} is not a multiple of 8")
        });
        return Err(OfpErr::OFPBRC_BAD_LEN);
    }
    Ok(())
}

fn pull(
    data: &[u8],
    version: Version,
    tun: &Tun<'_>,
    place: Place,
    depth: usize,
) -> Result<Vec<Action>, OfpErr> {
    check_multiple(data.len())?;
    let list = list(data, version, tun, depth)?;
    verify_decoded(&list, place, version)?;
    Ok(list)
}

/// Reads actions one by one, without a look at how they fit together.
pub(super) fn list(
    data: &[u8],
    version: Version,
    tun: &Tun<'_>,
    depth: usize,
) -> Result<Vec<Action>, OfpErr> {
    if depth > MAX_DEPTH {
        return Err(OfpErr::OFPBAC_TOO_MANY);
    }
    let d = Decoder {
        version,
        tun,
        depth,
    };
    let mut out = Vec::new();
    let mut r = Reader::with_error(data, OfpErr::OFPBAC_BAD_LEN);
    while !r.is_empty() {
        let at = data.len() - r.len();
        d.next(&mut r, &mut out).inspect_err(|e| {
            warn(Topic::Actions, || {
                let mut text = format!("bad action at offset {at} ({}):\n", e.name());
                hex_dump(data, false, &mut text);
                text.truncate(text.trim_end().len());
                // In the log a row of exactly eight keeps the hyphen that would join the next half.
                if data.len() % 16 == 8 {
                    text.push('-');
                }
                text
            });
        })?;
    }
    Ok(out)
}

struct Decoder<'a, 'b> {
    version: Version,
    tun: &'a Tun<'b>,
    depth: usize,
}

fn port11(n: u32) -> Result<OfPort, OfpErr> {
    match port_from_ofp11(n) {
        Some(port) => Ok(OfPort(port)),
        None => {
            warn(Topic::Port, || {
                format!(
                    "port {n} is outside the supported range 0 through {} or {:#x} through {:#x}",
                    OfPort::MAX.0 - 1,
                    0xffff_ff00_u32,
                    u32::MAX
                )
            });
            Err(OfpErr::OFPBAC_BAD_OUT_PORT)
        }
    }
}

fn must(ok: bool, e: OfpErr) -> Result<(), OfpErr> {
    if ok { Ok(()) } else { Err(e) }
}

fn zeros(r: &mut Reader<'_>) -> Result<(), OfpErr> {
    let n = r.len();
    let ok = r.zeros(n)?;
    must(ok, OfpErr::NXBRC_MUST_BE_ZERO)
}

/// Offset and number of bits from Nicira's packed form.
fn ofs_nbits(n: u16) -> (u16, u16) {
    (n >> 6, (n & 0x3f) + 1)
}

impl Decoder<'_, '_> {
    fn next(&self, r: &mut Reader<'_>, out: &mut Vec<Action>) -> Result<(), OfpErr> {
        let mut h = *r;
        let type_ = h.u16()?;
        let len = usize::from(h.u16()?);
        if type_ != VENDOR_ACTION {
            raw::check(0, type_, self.version, len, r.len())?;
            let whole = r.take(len)?;
            return self.standard(type_, Reader::with_error(&whole[4..], BAD_LEN), out);
        }
        let vendor = h.u32()?;
        if vendor != NX_VENDOR && vendor != ONF_VENDOR {
            warn(Topic::Actions, || {
                format!("OpenFlow action has unknown vendor {}", hex(vendor.into()))
            });
            return Err(OfpErr::OFPBAC_BAD_VENDOR);
        }
        let subtype = h.u16()?;
        raw::check(vendor, subtype, self.version, len, r.len())?;
        let whole = r.take(len)?;
        let body = Reader::with_error(&whole[10..], BAD_LEN);
        out.push(match vendor {
            NX_VENDOR => self.nicira(subtype, body)?,
            _ => self.copy_field(body)?,
        });
        Ok(())
    }

    fn nested(&self, data: &[u8], place: Place) -> Result<Vec<Action>, OfpErr> {
        pull(data, self.version, self.tun, place, self.depth + 1)
    }

    fn standard(&self, type_: u16, mut r: Reader<'_>, out: &mut Vec<Action>) -> Result<(), OfpErr> {
        use Version::*;
        let v = self.version;
        // What the number means: 1.0's numbering differs from that of 1.1 and later.
        let a = match (v.minor(), type_) {
            (0, 0) => {
                let (port, max_len) = (OfPort(r.u16()?), r.u16()?);
                check_out_port(port, OfPort::MAX)?;
                Action::Output { port, max_len }
            }
            (_, 0) => {
                let (port, max_len) = (port11(r.u32()?)?, r.u16()?);
                check_out_port(port, OfPort::MAX)?;
                Action::Output { port, max_len }
            }
            (_, 1) => {
                let vid = r.u16()?;
                must(vid & !0xfff == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
                Action::SetVlanVid {
                    vid,
                    push_if_needed: v == V10,
                    flow_has_vlan: false,
                }
            }
            (_, 2) => {
                let pcp = r.u8()?;
                must(pcp & !7 == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
                Action::SetVlanPcp {
                    pcp,
                    push_if_needed: v == V10,
                    flow_has_vlan: false,
                }
            }
            (0, 3) => Action::StripVlan { pop: false },
            (0, 4) | (1.., 3) => Action::SetEthSrc(r.mac()?),
            (0, 5) | (1.., 4) => Action::SetEthDst(r.mac()?),
            (0, 6) | (1.., 5) => Action::SetIpv4Src(r.u32()?.into()),
            (0, 7) | (1.., 6) => Action::SetIpv4Dst(r.u32()?.into()),
            (0, 8) | (1.., 7) => {
                let tos = r.u8()?;
                must(tos & !IP_DSCP_MASK == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
                Action::SetIpDscp(tos)
            }
            (1.., 8) => {
                let ecn = r.u8()?;
                must(ecn & !IP_ECN_MASK == 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
                Action::SetIpEcn(ecn)
            }
            (_, 9) => Action::SetL4SrcPort {
                port: r.u16()?,
                flow_ip_proto: 0,
            },
            (_, 10) => Action::SetL4DstPort {
                port: r.u16()?,
                flow_ip_proto: 0,
            },
            (0, 11) => {
                let port = OfPort(r.u16()?);
                r.skip(6)?;
                must(
                    port < OfPort::MAX || port == OfPort::IN_PORT || port == OfPort::LOCAL,
                    OfpErr::OFPBAC_BAD_OUT_PORT,
                )?;
                Action::Enqueue {
                    port,
                    queue: r.u32()?,
                }
            }
            (_, 13) => Action::SetMplsLabel(r.u32()?),
            (_, 14) => Action::SetMplsTc(r.u8()?),
            (_, 15) => Action::SetMplsTtl(r.u8()?),
            (_, 16) => Action::DecMplsTtl,
            (_, 17) => {
                let ty = r.u16()?;
                // Only the standard tag types; 1.1 knows one.
                must(
                    ty == eth_type::VLAN_8021Q || ty == eth_type::VLAN_8021AD,
                    OfpErr::OFPBAC_BAD_ARGUMENT,
                )?;
                Action::PushVlan(ty.into())
            }
            (_, 18) => Action::StripVlan { pop: true },
            (_, 19) => push_mpls(r.u16()?)?,
            (_, 20) => Action::PopMpls(r.u16()?.into()),
            (_, 21) => Action::SetQueue(r.u32()?),
            (_, 22) => Action::Group(r.u32()?),
            (_, 23) => Action::SetIpTtl(r.u8()?),
            (_, 24) => Action::DecTtl {
                ids: vec![0],
                explicit_ids: false,
            },
            (2.., 25) => self.set_field(r, v >= V15)?,
            (5, 28) => {
                let n_bits = r.u16()?;
                let (src_ofs, dst_ofs) = (r.u16()?, r.u16()?);
                r.skip(2)?;
                self.reg_move(r, n_bits, src_ofs, dst_ofs, false)?
            }
            (5, 29) => Action::Meter(r.u32()?),
            _ => return Err(OfpErr::OFPBAC_BAD_TYPE),
        };
        out.push(a);
        Ok(())
    }

    /// The form of 1.5's action that ONF has for earlier versions.
    fn copy_field(&self, mut r: Reader<'_>) -> Result<Action, OfpErr> {
        r.skip(2)?;
        let n_bits = r.u16()?;
        let (src_ofs, dst_ofs) = (r.u16()?, r.u16()?);
        r.skip(2)?;
        self.reg_move(r, n_bits, src_ofs, dst_ofs, true)
    }

    fn nicira(&self, subtype: u16, mut r: Reader<'_>) -> Result<Action, OfpErr> {
        Ok(match subtype {
            1 => Action::Resubmit(Resubmit {
                in_port: OfPort(r.u16()?),
                table: TABLE_ALL,
                with_ct_orig: false,
                port_only: true,
            }),
            14 | 44 => {
                let a = Resubmit {
                    in_port: OfPort(r.u16()?),
                    table: r.u8()?,
                    with_ct_orig: subtype == 44,
                    port_only: false,
                };
                zeros(&mut r)?;
                Action::Resubmit(a)
            }
            2 => {
                r.skip(2)?;
                Action::SetTunnel {
                    id: r.u32()?.into(),
                    wide: false,
                }
            }
            9 => {
                r.skip(6)?;
                Action::SetTunnel {
                    id: r.u64()?,
                    wide: true,
                }
            }
            4 => {
                r.skip(2)?;
                Action::SetQueue(r.u32()?)
            }
            5 => Action::PopQueue,
            6 => {
                let n_bits = r.u16()?;
                let (src_ofs, dst_ofs) = (r.u16()?, r.u16()?);
                self.reg_move(r, n_bits, src_ofs, dst_ofs, false)?
            }
            7 => {
                let (ofs, n_bits) = ofs_nbits(r.u16()?);
                let dst = self.subfield(&mut r, ofs, n_bits)?;
                self.check_dst(&dst)?;
                let value = r.u64()?;
                // Values that do not fit the bits cannot be meant.
                must(
                    n_bits >= 64 || value >> n_bits == 0,
                    OfpErr::OFPBAC_BAD_ARGUMENT,
                )?;
                let mut full = FieldValue::ZERO;
                full.insert(ofs.into(), n_bits.into(), &value.into());
                Action::SetField(Box::new(SetField {
                    field: dst.field,
                    value: full,
                    mask: dst.mask(),
                    form: SetFieldForm::RegLoad,
                    flow_has_vlan: false,
                }))
            }
            33 => self.set_field_with(r, true, SetFieldForm::RegLoad2)?,
            8 => Action::Note(r.rest().to_vec()),
            10 => self.multipath(r)?,
            12 => self.bundle(r, false)?,
            13 => self.bundle(r, true)?,
            15 => {
                let (ofs, n_bits) = ofs_nbits(r.u16()?);
                let src = self.subfield(&mut r, ofs, n_bits)?;
                let max_len = r.u16()?;
                zeros(&mut r)?;
                check_bits(&src)?;
                Action::OutputReg { src, max_len }
            }
            32 => {
                let (ofs, n_bits) = ofs_nbits(r.u16()?);
                let max_len = r.u16()?;
                let src = self.subfield(&mut r, ofs, n_bits)?;
                zeros(&mut r)?;
                check_bits(&src)?;
                Action::OutputReg { src, max_len }
            }
            16 => self.learn(r, false)?,
            45 => self.learn(r, true)?,
            17 => Action::Exit,
            18 => Action::DecTtl {
                ids: vec![0],
                explicit_ids: false,
            },
            21 => {
                let n = usize::from(r.u16()?);
                must(r.zeros(4)?, OfpErr::NXBRC_MUST_BE_ZERO)?;
                must(n != 0, OfpErr::OFPBAC_BAD_ARGUMENT)?;
                must(r.len() >= n * 2, OfpErr::OFPBAC_BAD_LEN)?;
                let ids = (0..n).map(|_| r.u16()).collect::<Result<_, _>>()?;
                Action::DecTtl {
                    ids,
                    explicit_ids: true,
                }
            }
            19 => Action::FinTimeout {
                idle: r.u16()?,
                hard: r.u16()?,
            },
            20 => {
                let (max_len, controller_id, reason) = (r.u16()?, r.u16()?, r.u8()?);
                must(r.u8()? == 0, OfpErr::NXBRC_MUST_BE_ZERO)?;
                Action::Controller(Box::new(Controller {
                    max_len,
                    controller_id,
                    reason: reason_from(reason)?,
                    pause: false,
                    userdata: Vec::new(),
                    meter_id: None,
                    provider_meter_id: None,
                    controller2: false,
                }))
            }
            37 => self.controller2(r)?,
            22 => {
                must(r.zeros(6)?, OfpErr::NXBRC_MUST_BE_ZERO)?;
                Action::WriteMetadata {
                    metadata: r.u64()?,
                    mask: r.u64()?,
                }
            }
            23 => push_mpls(r.u16()?)?,
            24 => Action::PopMpls(r.u16()?.into()),
            25 => Action::SetMplsTtl(r.u8()?),
            26 => Action::DecMplsTtl,
            30 => {
                r.skip(2)?;
                Action::SetMplsLabel(r.u32()?)
            }
            31 => Action::SetMplsTc(r.u8()?),
            40 => {
                r.skip(2)?;
                Action::Group(r.u32()?)
            }
            27 | 28 => {
                let ofs = r.u16()?;
                let field = self.header(&mut r)?;
                let n_bits = r.u16()?;
                zeros(&mut r)?;
                let sf = SubField { field, ofs, n_bits };
                check_bits(&sf)?;
                if subtype == 27 {
                    Action::StackPush(sf)
                } else {
                    self.check_dst(&sf)?;
                    Action::StackPop(sf)
                }
            }
            29 | 38 | 41 | 51 => self.sample(subtype, r)?,
            34 => {
                let (clause, n_clauses, id) = (r.u8()?, r.u8()?, r.u32()?);
                must(
                    (2..=64).contains(&n_clauses) && clause < n_clauses,
                    OfpErr::NXBAC_BAD_CONJUNCTION,
                )?;
                Action::Conjunction {
                    id,
                    clause,
                    n_clauses,
                }
            }
            35 => self.ct(r)?,
            36 => nat(r)?,
            39 => {
                let (port, max_len) = (OfPort(r.u16()?), r.u32()?);
                must(
                    port < OfPort::MAX || port == OfPort::IN_PORT || port == OfPort::LOCAL,
                    OfpErr::OFPBAC_BAD_OUT_PORT,
                )?;
                must(max_len >= 14, OfpErr::OFPBAC_BAD_ARGUMENT)?;
                Action::OutputTrunc { port, max_len }
            }
            42 => {
                r.skip(6)?;
                Action::Clone(self.nested(r.rest(), Place::Clone)?)
            }
            43 => Action::CtClear,
            46 => encap(r)?,
            47 => {
                r.skip(2)?;
                Action::Decap {
                    new_packet_type: r.u32()?,
                }
            }
            48 => Action::DecNshTtl,
            49 => {
                let (pkt_len, ofs) = (r.u16()?, r.u16()?);
                let field = self.header(&mut r)?;
                zeros(&mut r)?;
                let dst = SubField {
                    field,
                    ofs,
                    n_bits: 1,
                };
                self.check_dst(&dst)?;
                Action::CheckPktLarger { pkt_len, dst }
            }
            50 => {
                let field = self.header(&mut r)?;
                zeros(&mut r)?;
                Action::DeleteField(field)
            }
            254 | 255 if !DEBUG_ACTIONS.load(Ordering::Relaxed) => {
                return Err(OfpErr::OFPBAC_BAD_VENDOR_TYPE);
            }
            254 => Action::DebugSlow,
            255 => Action::DebugRecirc,
            _ => return Err(OfpErr::OFPBAC_BAD_VENDOR_TYPE),
        })
    }

    /// A header without value names a field.
    fn header(&self, r: &mut Reader<'_>) -> Result<FieldId, OfpErr> {
        let (header, field) = oxm::pull_header(r).map_err(|_| OfpErr::OFPBAC_BAD_SET_LEN)?;
        let field = field.ok_or(OfpErr::OFPBAC_BAD_SET_TYPE)?;
        must(!header.has_mask, OfpErr::OFPBAC_BAD_SET_TYPE)?;
        if field.id.tun_metadata_index().is_some() {
            self.tun.ensure(field, header.len.into())?;
        } else {
            must(header.len == field.n_bytes, OfpErr::OFPBAC_BAD_SET_TYPE)?;
        }
        Ok(field.id)
    }

    fn subfield(&self, r: &mut Reader<'_>, ofs: u16, n_bits: u16) -> Result<SubField, OfpErr> {
        Ok(SubField {
            field: self.header(r)?,
            ofs,
            n_bits,
        })
    }

    fn check_dst(&self, sf: &SubField) -> Result<(), OfpErr> {
        check_bits(sf)?;
        check_writable(sf)
    }

    fn set_field(&self, r: Reader<'_>, may_mask: bool) -> Result<Action, OfpErr> {
        self.set_field_with(r, may_mask, SetFieldForm::SetField)
    }

    fn set_field_with(
        &self,
        mut r: Reader<'_>,
        may_mask: bool,
        form: SetFieldForm,
    ) -> Result<Action, OfpErr> {
        let header = oxm::peek_header(r.rest())?;
        let field = Field::by_oxm(header).map(|(f, _)| f);
        // A header without a value means no field at all; the vendor's number counts as a part of the value. Of a
        // field that nobody knows, too, Open vSwitch says as a rule that its length is bad.
        let width = header.len >> u8::from(header.has_mask);
        let empty = width == 0 && header.size() == 4;
        must(!empty, OfpErr::OFPBAC_BAD_SET_TYPE)?;
        let field = field.ok_or(OfpErr::OFPBAC_BAD_SET_LEN)?;
        let any_width = field.id.tun_metadata_index().is_some();
        let fits = any_width || width == field.n_bytes;
        must(fits, OfpErr::OFPBAC_BAD_SET_LEN)?;
        let e = oxm::pull_entry(&mut r, self.tun).map_err(|e| match e {
            OfpErr::OFPBMC_BAD_MASK => OfpErr::OFPBAC_BAD_SET_MASK,
            e => e,
        })?;
        must(may_mask || !header.has_mask, OfpErr::OFPBAC_BAD_SET_MASK)?;
        // What follows is padding only.
        let rest = r.len();
        must(r.zeros(rest)?, OfpErr::OFPBAC_BAD_SET_ARGUMENT)?;
        // The port that a packet came in by cannot be set in this way.
        must(
            field.id != FieldId::InPortOxm,
            OfpErr::OFPBAC_BAD_SET_ARGUMENT,
        )?;
        if !field.writable {
            warn(Topic::Actions, || {
                format!("destination field {} is not writable", field.name)
            });
            return Err(OfpErr::OFPBAC_BAD_SET_ARGUMENT);
        }
        // A VLAN ID is set in a tag that is there.
        let no_tag = field.id == FieldId::VlanVid
            && (e.value.to_u64() & e.mask.to_u64()) as u16 & VLAN_CFI == 0;
        if no_tag || !field.is_value_valid(&e.value) {
            warn(Topic::Actions, || {
                let mut value = String::new();
                field.format(&e.value, None, &NoPorts, &mut value);
                format!("Invalid value for set field {}: {value}", field.name)
            });
            return Err(OfpErr::OFPBAC_BAD_SET_ARGUMENT);
        }
        Ok(Action::SetField(Box::new(SetField {
            field: field.id,
            value: e.value,
            mask: e.mask,
            form,
            flow_has_vlan: false,
        })))
    }

    fn reg_move(
        &self,
        mut r: Reader<'_>,
        n_bits: u16,
        src_ofs: u16,
        dst_ofs: u16,
        onf: bool,
    ) -> Result<Action, OfpErr> {
        let src = self.subfield(&mut r, src_ofs, n_bits)?;
        let dst = self.subfield(&mut r, dst_ofs, n_bits)?;
        let rest = r.len();
        must(rest < 8 && r.zeros(rest)?, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        check_bits(&src)?;
        self.check_dst(&dst)?;
        Ok(Action::RegMove { src, dst, onf })
    }

    fn multipath(&self, mut r: Reader<'_>) -> Result<Action, OfpErr> {
        let fields = HashFields::from_number(r.u16()?);
        let basis = r.u16()?;
        r.skip(2)?;
        let algorithm = MultipathAlgorithm::ALL
            .get(usize::from(r.u16()?))
            .map(|p| p.0);
        let max_link = r.u16()?;
        let arg = r.u32()?;
        r.skip(2)?;
        let (ofs, n_bits) = ofs_nbits(r.u16()?);
        let dst = self.subfield(&mut r, ofs, n_bits)?;
        let fields = fields.ok_or(OfpErr::OFPBAC_BAD_ARGUMENT)?;
        let algorithm = algorithm.ok_or(OfpErr::OFPBAC_BAD_ARGUMENT)?;
        must(
            n_bits >= 16 || u32::from(max_link) < 1 << n_bits,
            OfpErr::OFPBAC_BAD_ARGUMENT,
        )?;
        self.check_dst(&dst)?;
        Ok(Action::Multipath(Box::new(Multipath {
            fields,
            basis,
            algorithm,
            max_link,
            arg,
            dst,
        })))
    }

    fn bundle(&self, mut r: Reader<'_>, load: bool) -> Result<Action, OfpErr> {
        let algorithm = match r.u16()? {
            0 => Ok(BundleAlgorithm::ActiveBackup),
            1 => Ok(BundleAlgorithm::Hrw),
            _ => Err(OfpErr::OFPBAC_BAD_ARGUMENT),
        };
        let fields = HashFields::from_number(r.u16()?).ok_or(OfpErr::OFPBAC_BAD_ARGUMENT);
        let basis = r.u16()?;
        let member_type = r.u32()?;
        let n = usize::from(r.u16()?);
        let (ofs, n_bits) = ofs_nbits(r.u16()?);
        let mut dst_reader = r.sub(4)?;
        must(r.zeros(4)?, OfpErr::NXBRC_MUST_BE_ZERO)?;
        must(n <= 2048, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        let (fields, algorithm) = (fields?, algorithm?);
        // Members are ports, named as NXM_OF_IN_PORT.
        must(member_type == 0x0000_0002, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        let dst = if load {
            let dst = self.subfield(&mut dst_reader, ofs, n_bits)?;
            self.check_dst(&dst)?;
            if n_bits < 16 {
                warn(Topic::Actions, || {
                    "bundle_load action requires at least 16 bit destination.".to_owned()
                });
                return Err(OfpErr::OFPBAC_BAD_ARGUMENT);
            }
            Some(dst)
        } else {
            must(
                dst_reader.zeros(4)? && (ofs, n_bits) == (0, 1),
                OfpErr::OFPBAC_BAD_ARGUMENT,
            )?;
            None
        };
        must(r.len() >= n * 2, OfpErr::OFPBAC_BAD_LEN)?;
        let members = (0..n)
            .map(|_| Ok(OfPort(r.u16()?)))
            .collect::<Result<Vec<_>, OfpErr>>()?;
        Ok(Action::Bundle(Box::new(Bundle {
            fields,
            basis,
            algorithm,
            dst,
            members,
        })))
    }

    fn controller2(&self, mut r: Reader<'_>) -> Result<Action, OfpErr> {
        must(r.zeros(6)?, OfpErr::NXBRC_MUST_BE_ZERO)?;
        let mut c = Controller {
            max_len: MAX_LEN_NO_BUFFER,
            controller_id: 0,
            reason: PacketInReason::Action,
            pause: false,
            userdata: Vec::new(),
            meter_id: None,
            provider_meter_id: None,
            controller2: true,
        };
        for prop in props(r) {
            let (type_, mut p) = prop?;
            match type_ {
                0 => c.max_len = p.u16()?,
                1 => c.controller_id = p.u16()?,
                2 => c.reason = reason_from(p.u8()?)?,
                3 => c.userdata = p.rest().to_vec(),
                4 => c.pause = true,
                5 => c.meter_id = Some(p.u32()?),
                _ => return Err(OfpErr::OFPBPC_BAD_TYPE),
            }
        }
        Ok(Action::Controller(Box::new(c)))
    }

    fn ct(&self, mut r: Reader<'_>) -> Result<Action, OfpErr> {
        let flags = r.u16()?;
        let mut zone_src = r.sub(4)?;
        let zone = r.u16()?;
        let recirc_table = r.u8()?;
        r.skip(3)?;
        let alg = r.u16()?;
        let zone = if zone_src.rest() == [0; 4] {
            CtZone::Immediate(zone)
        } else {
            let (ofs, n_bits) = ofs_nbits(zone);
            let sf = self.subfield(&mut zone_src, ofs, n_bits)?;
            check_bits(&sf)?;
            if n_bits != 16 {
                warn(Topic::Actions, || {
                    format!("zone n_bits {n_bits} not within valid range [16..16]")
                });
                return Err(OfpErr::OFPBAC_BAD_SET_LEN);
            }
            CtZone::Field(sf)
        };
        let (commit, force) = (flags & 1 != 0, flags & 2 != 0);
        let actions = self.nested(r.rest(), Place::Ct)?;
        must(commit || !force, OfpErr::OFPBAC_BAD_ARGUMENT)?;
        // Without commit only a plain "nat" may be nested.
        let plain_nat = |a: &Action| matches!(a, Action::Nat(n) if **n == Nat::default());
        if !commit && !actions.iter().all(plain_nat) {
            warn(Topic::Actions, || {
                "CT action requires commit flag if actions other than NAT without arguments are \
                 specified."
                    .to_owned()
            });
            return Err(OfpErr::OFPBAC_BAD_ARGUMENT);
        }
        Ok(Action::Ct(Box::new(Ct {
            commit,
            force,
            zone,
            recirc_table,
            alg,
            actions,
        })))
    }
}

fn check_bits(sf: &SubField) -> Result<(), OfpErr> {
    let bits = sf.field.field().n_bits;
    must(
        sf.n_bits != 0 && u32::from(sf.ofs) + u32::from(sf.n_bits) <= bits.into(),
        OfpErr::OFPBAC_BAD_SET_LEN,
    )
}

fn reason_from(n: u8) -> Result<PacketInReason, OfpErr> {
    PacketInReason::from_wire(n).ok_or(OfpErr::OFPBAC_BAD_ARGUMENT)
}

fn push_mpls(ty: u16) -> Result<Action, OfpErr> {
    must(
        ty == eth_type::MPLS || ty == eth_type::MPLS_MCAST,
        OfpErr::OFPBAC_BAD_ARGUMENT,
    )?;
    Ok(Action::PushMpls(ty.into()))
}

/// The properties (type2 len2 value, padded to 8) to the end of `r`.
pub(crate) fn props(mut r: Reader<'_>) -> impl Iterator<Item = Result<(u16, Reader<'_>), OfpErr>> {
    std::iter::from_fn(move || {
        if r.is_empty() {
            return None;
        }
        let mut one = || {
            let mut h = Reader::with_error(r.rest(), OfpErr::OFPBPC_BAD_LEN);
            let (type_, len) = (h.u16()?, usize::from(h.u16()?));
            let padded = len.next_multiple_of(8);
            // An experimenter's says who that is and what it means.
            let least = if type_ >= 0xfffe { 12 } else { 4 };
            if len < least || padded > r.len() {
                return Err(OfpErr::OFPBPC_BAD_LEN);
            }
            let bytes = r.take(padded)?;
            Ok((
                type_,
                Reader::with_error(&bytes[4..len], OfpErr::OFPBPC_BAD_LEN),
            ))
        };
        let item = one();
        if item.is_err() {
            r = Reader::new(&[]);
        }
        Some(item)
    })
}

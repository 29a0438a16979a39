//! The table of match fields: one row for each of the 211 fields, in Open vSwitch's order.
//!
//! A row reads `Id: "name" "alias", bytes / bits, mask rule, text format, prerequisite, rw|ro, exact or masked in
//! an OpenFlow 1.0 / 1.1 match, usable in a prefix trie, place in the flow key, [OXM and NXM code points]`, and a
//! code point reads `(name, number, first OpenFlow version, first Open vSwitch version)`; its class follows from
//! the name. Everything that knows fields (codec, text, masks, documentation) reads this table.

use std::mem::offset_of;

use super::location::{Location, be, host};
use super::oxm::{Oxm, V10, V12, V13, V15};
use super::{Field, Format, LegacyMatch, Maskable, Prereq};
use crate::flow::{Flow, FlowNsh, FlowTnl};

const TNL: usize = offset_of!(Flow, tunnel);
const NSH: usize = offset_of!(Flow, nsh);

macro_rules! access {
    (rw) => {
        true
    };
    (ro) => {
        false
    };
}

macro_rules! trie {
    (trie) => {
        true
    };
    (-) => {
        false
    };
}

macro_rules! fields {
    ($($id:ident: $name:literal $alias:literal, $bytes:literal / $bits:literal, $mask:ident, $format:ident,
       $prereq:ident, $access:ident, $of10:ident / $of11:ident, $trie:tt, $location:expr,
       [$(($oxm:literal, $nr:literal, $min:ident, $since:literal)),*];)*) => {
        /// Identifies a field; the discriminant indexes [`FIELDS`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum FieldId { $($id),* }

        /// All fields by [`FieldId`].
        pub static FIELDS: [Field; FieldId::COUNT] = [$(Field {
            id: FieldId::$id,
            name: $name,
            alias: if $alias.is_empty() { None } else { Some($alias) },
            n_bytes: $bytes,
            n_bits: $bits,
            maskable: Maskable::$mask,
            format: Format::$format,
            prereq: Prereq::$prereq,
            writable: access!($access),
            of10: LegacyMatch::$of10,
            of11: LegacyMatch::$of11,
            prefix_trie: trie!($trie),
            location: $location,
            words: $location.words(),
            place: $location.place(),
            oxms: &[$(Oxm::new($oxm, $nr, $min, $since)),*],
        }),*];

        impl FieldId {
            /// Number of fields.
            pub const COUNT: usize = [$($name),*].len();
            /// All identifiers in order.
            pub const ALL: [FieldId; FieldId::COUNT] = [$(FieldId::$id),*];
        }
    };
}

#[rustfmt::skip]
mod rows {
use super::*;
fields! {
    DpHash: "dp_hash" "", 4 / 32, Bitwise, Hex, None, ro, No / No, -, host(offset_of!(Flow, dp_hash), 4), [("NXOXM_ET_DP_HASH", 0, V10, "2.4"), ("NXM_NX_DP_HASH", 35, V10, "2.2")];
    RecircId: "recirc_id" "", 4 / 32, No, Dec, None, ro, No / No, -, host(offset_of!(Flow, recirc_id), 4), [("NXM_NX_RECIRC_ID", 36, V10, "2.2")];
    PacketType: "packet_type" "", 4 / 32, No, PacketType, None, ro, No / No, -, be(offset_of!(Flow, packet_type), 4), [("OXM_OF_PACKET_TYPE", 44, V15, "2.8")];
    ConjId: "conj_id" "", 4 / 32, No, Dec, None, ro, No / No, -, host(offset_of!(Flow, conj_id), 4), [("NXM_NX_CONJ_ID", 37, V10, "2.4")];
    TunId: "tun_id" "tunnel_id", 8 / 64, Bitwise, Hex, None, rw, No / No, trie, be(TNL + offset_of!(FlowTnl, tun_id), 8), [("OXM_OF_TUNNEL_ID", 38, V13, "1.10"), ("NXM_NX_TUN_ID", 16, V10, "1.1")];
    TunSrc: "tun_src" "", 4 / 32, Bitwise, Ipv4, None, rw, No / No, trie, be(TNL + offset_of!(FlowTnl, ip_src), 4), [("NXM_NX_TUN_IPV4_SRC", 31, V10, "2.0")];
    TunDst: "tun_dst" "", 4 / 32, Bitwise, Ipv4, None, rw, No / No, trie, be(TNL + offset_of!(FlowTnl, ip_dst), 4), [("NXM_NX_TUN_IPV4_DST", 32, V10, "2.0")];
    TunIpv6Src: "tun_ipv6_src" "", 16 / 128, Bitwise, Ipv6, None, rw, No / No, trie, be(TNL + offset_of!(FlowTnl, ipv6_src), 16), [("NXM_NX_TUN_IPV6_SRC", 109, V10, "2.5")];
    TunIpv6Dst: "tun_ipv6_dst" "", 16 / 128, Bitwise, Ipv6, None, rw, No / No, trie, be(TNL + offset_of!(FlowTnl, ipv6_dst), 16), [("NXM_NX_TUN_IPV6_DST", 110, V10, "2.5")];
    TunFlags: "tun_flags" "", 2 / 1, Bitwise, TnlFlags, None, rw, No / No, -, host(TNL + offset_of!(FlowTnl, flags), 2).bits(0, 0x1), [("NXM_NX_TUN_FLAGS", 104, V10, "2.5")];
    TunTtl: "tun_ttl" "", 1 / 8, No, Dec, None, ro, No / No, -, be(TNL + offset_of!(FlowTnl, ip_ttl), 1), [];
    TunTos: "tun_tos" "", 1 / 8, No, Dec, None, ro, No / No, -, be(TNL + offset_of!(FlowTnl, ip_tos), 1), [];
    TunGbpId: "tun_gbp_id" "", 2 / 16, Bitwise, Dec, None, rw, No / No, -, be(TNL + offset_of!(FlowTnl, gbp_id), 2), [("NXM_NX_TUN_GBP_ID", 38, V10, "2.4")];
    TunGbpFlags: "tun_gbp_flags" "", 1 / 8, Bitwise, Hex, None, rw, No / No, -, be(TNL + offset_of!(FlowTnl, gbp_flags), 1), [("NXM_NX_TUN_GBP_FLAGS", 39, V10, "2.4")];
    TunErspanIdx: "tun_erspan_idx" "", 4 / 20, Bitwise, Hex, None, rw, No / No, -, host(TNL + offset_of!(FlowTnl, erspan_idx), 4).bits(0, 0xfffff), [("NXOXM_ET_ERSPAN_IDX", 11, V10, "2.10")];
    TunErspanVer: "tun_erspan_ver" "", 1 / 4, Bitwise, Dec, None, rw, No / No, -, be(TNL + offset_of!(FlowTnl, erspan_ver), 1).bits(0, 0xf), [("NXOXM_ET_ERSPAN_VER", 12, V10, "2.10")];
    TunErspanDir: "tun_erspan_dir" "", 1 / 1, Bitwise, Dec, None, rw, No / No, -, be(TNL + offset_of!(FlowTnl, erspan_dir), 1).bits(0, 0x1), [("NXOXM_ET_ERSPAN_DIR", 13, V10, "2.10")];
    TunErspanHwid: "tun_erspan_hwid" "", 1 / 6, Bitwise, Hex, None, rw, No / No, -, be(TNL + offset_of!(FlowTnl, erspan_hwid), 1).bits(0, 0x3f), [("NXOXM_ET_ERSPAN_HWID", 14, V10, "2.10")];
    TunGtpuFlags: "tun_gtpu_flags" "", 1 / 8, Bitwise, Hex, None, ro, No / No, -, be(TNL + offset_of!(FlowTnl, gtpu_flags), 1), [("NXOXM_ET_GTPU_FLAGS", 15, V10, "2.13")];
    TunGtpuMsgtype: "tun_gtpu_msgtype" "", 1 / 8, Bitwise, Dec, None, ro, No / No, -, be(TNL + offset_of!(FlowTnl, gtpu_msgtype), 1), [("NXOXM_ET_GTPU_MSGTYPE", 16, V10, "2.13")];
    TunMetadata0: "tun_metadata0" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(0), [("NXM_NX_TUN_METADATA0", 40, V10, "2.5")];
    TunMetadata1: "tun_metadata1" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(1), [("NXM_NX_TUN_METADATA1", 41, V10, "2.5")];
    TunMetadata2: "tun_metadata2" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(2), [("NXM_NX_TUN_METADATA2", 42, V10, "2.5")];
    TunMetadata3: "tun_metadata3" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(3), [("NXM_NX_TUN_METADATA3", 43, V10, "2.5")];
    TunMetadata4: "tun_metadata4" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(4), [("NXM_NX_TUN_METADATA4", 44, V10, "2.5")];
    TunMetadata5: "tun_metadata5" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(5), [("NXM_NX_TUN_METADATA5", 45, V10, "2.5")];
    TunMetadata6: "tun_metadata6" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(6), [("NXM_NX_TUN_METADATA6", 46, V10, "2.5")];
    TunMetadata7: "tun_metadata7" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(7), [("NXM_NX_TUN_METADATA7", 47, V10, "2.5")];
    TunMetadata8: "tun_metadata8" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(8), [("NXM_NX_TUN_METADATA8", 48, V10, "2.5")];
    TunMetadata9: "tun_metadata9" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(9), [("NXM_NX_TUN_METADATA9", 49, V10, "2.5")];
    TunMetadata10: "tun_metadata10" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(10), [("NXM_NX_TUN_METADATA10", 50, V10, "2.5")];
    TunMetadata11: "tun_metadata11" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(11), [("NXM_NX_TUN_METADATA11", 51, V10, "2.5")];
    TunMetadata12: "tun_metadata12" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(12), [("NXM_NX_TUN_METADATA12", 52, V10, "2.5")];
    TunMetadata13: "tun_metadata13" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(13), [("NXM_NX_TUN_METADATA13", 53, V10, "2.5")];
    TunMetadata14: "tun_metadata14" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(14), [("NXM_NX_TUN_METADATA14", 54, V10, "2.5")];
    TunMetadata15: "tun_metadata15" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(15), [("NXM_NX_TUN_METADATA15", 55, V10, "2.5")];
    TunMetadata16: "tun_metadata16" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(16), [("NXM_NX_TUN_METADATA16", 56, V10, "2.5")];
    TunMetadata17: "tun_metadata17" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(17), [("NXM_NX_TUN_METADATA17", 57, V10, "2.5")];
    TunMetadata18: "tun_metadata18" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(18), [("NXM_NX_TUN_METADATA18", 58, V10, "2.5")];
    TunMetadata19: "tun_metadata19" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(19), [("NXM_NX_TUN_METADATA19", 59, V10, "2.5")];
    TunMetadata20: "tun_metadata20" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(20), [("NXM_NX_TUN_METADATA20", 60, V10, "2.5")];
    TunMetadata21: "tun_metadata21" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(21), [("NXM_NX_TUN_METADATA21", 61, V10, "2.5")];
    TunMetadata22: "tun_metadata22" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(22), [("NXM_NX_TUN_METADATA22", 62, V10, "2.5")];
    TunMetadata23: "tun_metadata23" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(23), [("NXM_NX_TUN_METADATA23", 63, V10, "2.5")];
    TunMetadata24: "tun_metadata24" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(24), [("NXM_NX_TUN_METADATA24", 64, V10, "2.5")];
    TunMetadata25: "tun_metadata25" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(25), [("NXM_NX_TUN_METADATA25", 65, V10, "2.5")];
    TunMetadata26: "tun_metadata26" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(26), [("NXM_NX_TUN_METADATA26", 66, V10, "2.5")];
    TunMetadata27: "tun_metadata27" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(27), [("NXM_NX_TUN_METADATA27", 67, V10, "2.5")];
    TunMetadata28: "tun_metadata28" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(28), [("NXM_NX_TUN_METADATA28", 68, V10, "2.5")];
    TunMetadata29: "tun_metadata29" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(29), [("NXM_NX_TUN_METADATA29", 69, V10, "2.5")];
    TunMetadata30: "tun_metadata30" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(30), [("NXM_NX_TUN_METADATA30", 70, V10, "2.5")];
    TunMetadata31: "tun_metadata31" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(31), [("NXM_NX_TUN_METADATA31", 71, V10, "2.5")];
    TunMetadata32: "tun_metadata32" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(32), [("NXM_NX_TUN_METADATA32", 72, V10, "2.5")];
    TunMetadata33: "tun_metadata33" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(33), [("NXM_NX_TUN_METADATA33", 73, V10, "2.5")];
    TunMetadata34: "tun_metadata34" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(34), [("NXM_NX_TUN_METADATA34", 74, V10, "2.5")];
    TunMetadata35: "tun_metadata35" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(35), [("NXM_NX_TUN_METADATA35", 75, V10, "2.5")];
    TunMetadata36: "tun_metadata36" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(36), [("NXM_NX_TUN_METADATA36", 76, V10, "2.5")];
    TunMetadata37: "tun_metadata37" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(37), [("NXM_NX_TUN_METADATA37", 77, V10, "2.5")];
    TunMetadata38: "tun_metadata38" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(38), [("NXM_NX_TUN_METADATA38", 78, V10, "2.5")];
    TunMetadata39: "tun_metadata39" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(39), [("NXM_NX_TUN_METADATA39", 79, V10, "2.5")];
    TunMetadata40: "tun_metadata40" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(40), [("NXM_NX_TUN_METADATA40", 80, V10, "2.5")];
    TunMetadata41: "tun_metadata41" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(41), [("NXM_NX_TUN_METADATA41", 81, V10, "2.5")];
    TunMetadata42: "tun_metadata42" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(42), [("NXM_NX_TUN_METADATA42", 82, V10, "2.5")];
    TunMetadata43: "tun_metadata43" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(43), [("NXM_NX_TUN_METADATA43", 83, V10, "2.5")];
    TunMetadata44: "tun_metadata44" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(44), [("NXM_NX_TUN_METADATA44", 84, V10, "2.5")];
    TunMetadata45: "tun_metadata45" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(45), [("NXM_NX_TUN_METADATA45", 85, V10, "2.5")];
    TunMetadata46: "tun_metadata46" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(46), [("NXM_NX_TUN_METADATA46", 86, V10, "2.5")];
    TunMetadata47: "tun_metadata47" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(47), [("NXM_NX_TUN_METADATA47", 87, V10, "2.5")];
    TunMetadata48: "tun_metadata48" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(48), [("NXM_NX_TUN_METADATA48", 88, V10, "2.5")];
    TunMetadata49: "tun_metadata49" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(49), [("NXM_NX_TUN_METADATA49", 89, V10, "2.5")];
    TunMetadata50: "tun_metadata50" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(50), [("NXM_NX_TUN_METADATA50", 90, V10, "2.5")];
    TunMetadata51: "tun_metadata51" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(51), [("NXM_NX_TUN_METADATA51", 91, V10, "2.5")];
    TunMetadata52: "tun_metadata52" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(52), [("NXM_NX_TUN_METADATA52", 92, V10, "2.5")];
    TunMetadata53: "tun_metadata53" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(53), [("NXM_NX_TUN_METADATA53", 93, V10, "2.5")];
    TunMetadata54: "tun_metadata54" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(54), [("NXM_NX_TUN_METADATA54", 94, V10, "2.5")];
    TunMetadata55: "tun_metadata55" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(55), [("NXM_NX_TUN_METADATA55", 95, V10, "2.5")];
    TunMetadata56: "tun_metadata56" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(56), [("NXM_NX_TUN_METADATA56", 96, V10, "2.5")];
    TunMetadata57: "tun_metadata57" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(57), [("NXM_NX_TUN_METADATA57", 97, V10, "2.5")];
    TunMetadata58: "tun_metadata58" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(58), [("NXM_NX_TUN_METADATA58", 98, V10, "2.5")];
    TunMetadata59: "tun_metadata59" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(59), [("NXM_NX_TUN_METADATA59", 99, V10, "2.5")];
    TunMetadata60: "tun_metadata60" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(60), [("NXM_NX_TUN_METADATA60", 100, V10, "2.5")];
    TunMetadata61: "tun_metadata61" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(61), [("NXM_NX_TUN_METADATA61", 101, V10, "2.5")];
    TunMetadata62: "tun_metadata62" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(62), [("NXM_NX_TUN_METADATA62", 102, V10, "2.5")];
    TunMetadata63: "tun_metadata63" "", 124 / 992, Bitwise, Hex, None, rw, No / No, -, Location::TunMetadata(63), [("NXM_NX_TUN_METADATA63", 103, V10, "2.5")];
    Metadata: "metadata" "", 8 / 64, Bitwise, Hex, None, rw, No / Bitwise, -, be(offset_of!(Flow, metadata), 8), [("OXM_OF_METADATA", 2, V12, "1.8")];
    InPort: "in_port" "", 2 / 16, No, OfPort, None, rw, Exact / Exact, -, Location::InPort, [("NXM_OF_IN_PORT", 0, V10, "1.1")];
    InPortOxm: "in_port_oxm" "", 4 / 32, No, OfPortOxm, None, rw, No / Exact, -, Location::InPortOxm, [("OXM_OF_IN_PORT", 0, V12, "1.7")];
    ActsetOutput: "actset_output" "", 4 / 32, No, OfPortOxm, None, ro, No / No, -, Location::ActsetOutput, [("ONFOXM_ET_ACTSET_OUTPUT", 43, V13, "2.4"), ("OXM_OF_ACTSET_OUTPUT", 43, V15, "2.4")];
    SkbPriority: "skb_priority" "", 4 / 32, No, Hex, None, ro, No / No, -, host(offset_of!(Flow, skb_priority), 4), [];
    PktMark: "pkt_mark" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, pkt_mark), 4), [("NXM_NX_PKT_MARK", 33, V10, "2.0")];
    CtState: "ct_state" "", 4 / 32, Bitwise, CtState, None, ro, No / No, -, be(offset_of!(Flow, ct_state), 1), [("NXM_NX_CT_STATE", 105, V10, "2.5")];
    CtZone: "ct_zone" "", 2 / 16, No, Hex, None, ro, No / No, -, host(offset_of!(Flow, ct_zone), 2), [("NXM_NX_CT_ZONE", 106, V10, "2.5")];
    CtMark: "ct_mark" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, ct_mark), 4), [("NXM_NX_CT_MARK", 107, V10, "2.5")];
    CtLabel: "ct_label" "", 16 / 128, Bitwise, Hex, None, rw, No / No, -, be(offset_of!(Flow, ct_label), 16), [("NXM_NX_CT_LABEL", 108, V10, "2.5")];
    CtNwProto: "ct_nw_proto" "", 1 / 8, No, Dec, Ct, ro, No / No, -, be(offset_of!(Flow, ct_nw_proto), 1), [("NXM_NX_CT_NW_PROTO", 119, V10, "2.8")];
    CtNwSrc: "ct_nw_src" "", 4 / 32, Bitwise, Ipv4, Ct, ro, No / No, trie, be(offset_of!(Flow, ct_nw_src), 4), [("NXM_NX_CT_NW_SRC", 120, V10, "2.8")];
    CtNwDst: "ct_nw_dst" "", 4 / 32, Bitwise, Ipv4, Ct, ro, No / No, trie, be(offset_of!(Flow, ct_nw_dst), 4), [("NXM_NX_CT_NW_DST", 121, V10, "2.8")];
    CtIpv6Src: "ct_ipv6_src" "", 16 / 128, Bitwise, Ipv6, Ct, ro, No / No, trie, be(offset_of!(Flow, ct_ipv6_src), 16), [("NXM_NX_CT_IPV6_SRC", 122, V10, "2.8")];
    CtIpv6Dst: "ct_ipv6_dst" "", 16 / 128, Bitwise, Ipv6, Ct, ro, No / No, trie, be(offset_of!(Flow, ct_ipv6_dst), 16), [("NXM_NX_CT_IPV6_DST", 123, V10, "2.8")];
    CtTpSrc: "ct_tp_src" "", 2 / 16, Bitwise, Dec, Ct, ro, No / No, -, be(offset_of!(Flow, ct_tp_src), 2), [("NXM_NX_CT_TP_SRC", 124, V10, "2.8")];
    CtTpDst: "ct_tp_dst" "", 2 / 16, Bitwise, Dec, Ct, ro, No / No, -, be(offset_of!(Flow, ct_tp_dst), 2), [("NXM_NX_CT_TP_DST", 125, V10, "2.8")];
    Reg0: "reg0" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 0, 4), [("NXM_NX_REG0", 0, V10, "1.1")];
    Reg1: "reg1" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 4, 4), [("NXM_NX_REG1", 1, V10, "1.1")];
    Reg2: "reg2" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 8, 4), [("NXM_NX_REG2", 2, V10, "1.1")];
    Reg3: "reg3" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 12, 4), [("NXM_NX_REG3", 3, V10, "1.1")];
    Reg4: "reg4" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 16, 4), [("NXM_NX_REG4", 4, V10, "1.3")];
    Reg5: "reg5" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 20, 4), [("NXM_NX_REG5", 5, V10, "1.7")];
    Reg6: "reg6" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 24, 4), [("NXM_NX_REG6", 6, V10, "1.7")];
    Reg7: "reg7" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 28, 4), [("NXM_NX_REG7", 7, V10, "1.7")];
    Reg8: "reg8" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 32, 4), [("NXM_NX_REG8", 8, V10, "2.6")];
    Reg9: "reg9" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 36, 4), [("NXM_NX_REG9", 9, V10, "2.6")];
    Reg10: "reg10" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 40, 4), [("NXM_NX_REG10", 10, V10, "2.6")];
    Reg11: "reg11" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 44, 4), [("NXM_NX_REG11", 11, V10, "2.6")];
    Reg12: "reg12" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 48, 4), [("NXM_NX_REG12", 12, V10, "2.6")];
    Reg13: "reg13" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 52, 4), [("NXM_NX_REG13", 13, V10, "2.6")];
    Reg14: "reg14" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 56, 4), [("NXM_NX_REG14", 14, V10, "2.6")];
    Reg15: "reg15" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 60, 4), [("NXM_NX_REG15", 15, V10, "2.6")];
    Reg16: "reg16" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 64, 4), [("NXOXM_ET_REG16", 17, V10, "3.7")];
    Reg17: "reg17" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 68, 4), [("NXOXM_ET_REG17", 18, V10, "3.7")];
    Reg18: "reg18" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 72, 4), [("NXOXM_ET_REG18", 19, V10, "3.7")];
    Reg19: "reg19" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 76, 4), [("NXOXM_ET_REG19", 20, V10, "3.7")];
    Reg20: "reg20" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 80, 4), [("NXOXM_ET_REG20", 21, V10, "3.7")];
    Reg21: "reg21" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 84, 4), [("NXOXM_ET_REG21", 22, V10, "3.7")];
    Reg22: "reg22" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 88, 4), [("NXOXM_ET_REG22", 23, V10, "3.7")];
    Reg23: "reg23" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 92, 4), [("NXOXM_ET_REG23", 24, V10, "3.7")];
    Reg24: "reg24" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 96, 4), [("NXOXM_ET_REG24", 25, V10, "3.7")];
    Reg25: "reg25" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 100, 4), [("NXOXM_ET_REG25", 26, V10, "3.7")];
    Reg26: "reg26" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 104, 4), [("NXOXM_ET_REG26", 27, V10, "3.7")];
    Reg27: "reg27" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 108, 4), [("NXOXM_ET_REG27", 28, V10, "3.7")];
    Reg28: "reg28" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 112, 4), [("NXOXM_ET_REG28", 29, V10, "3.7")];
    Reg29: "reg29" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 116, 4), [("NXOXM_ET_REG29", 30, V10, "3.7")];
    Reg30: "reg30" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 120, 4), [("NXOXM_ET_REG30", 31, V10, "3.7")];
    Reg31: "reg31" "", 4 / 32, Bitwise, Hex, None, rw, No / No, -, host(offset_of!(Flow, regs) + 124, 4), [("NXOXM_ET_REG31", 32, V10, "3.7")];
    Xreg0: "xreg0" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(0), [("OXM_OF_PKT_REG0", 0, V13, "2.4")];
    Xreg1: "xreg1" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(1), [("OXM_OF_PKT_REG1", 1, V13, "2.4")];
    Xreg2: "xreg2" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(2), [("OXM_OF_PKT_REG2", 2, V13, "2.4")];
    Xreg3: "xreg3" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(3), [("OXM_OF_PKT_REG3", 3, V13, "2.4")];
    Xreg4: "xreg4" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(4), [("OXM_OF_PKT_REG4", 4, V13, "2.4")];
    Xreg5: "xreg5" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(5), [("OXM_OF_PKT_REG5", 5, V13, "2.4")];
    Xreg6: "xreg6" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(6), [("OXM_OF_PKT_REG6", 6, V13, "2.4")];
    Xreg7: "xreg7" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(7), [("OXM_OF_PKT_REG7", 7, V13, "2.4")];
    Xreg8: "xreg8" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(8), [("OXM_OF_PKT_REG8", 8, V13, "3.7")];
    Xreg9: "xreg9" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(9), [("OXM_OF_PKT_REG9", 9, V13, "3.7")];
    Xreg10: "xreg10" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(10), [("OXM_OF_PKT_REG10", 10, V13, "3.7")];
    Xreg11: "xreg11" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(11), [("OXM_OF_PKT_REG11", 11, V13, "3.7")];
    Xreg12: "xreg12" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(12), [("OXM_OF_PKT_REG12", 12, V13, "3.7")];
    Xreg13: "xreg13" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(13), [("OXM_OF_PKT_REG13", 13, V13, "3.7")];
    Xreg14: "xreg14" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(14), [("OXM_OF_PKT_REG14", 14, V13, "3.7")];
    Xreg15: "xreg15" "", 8 / 64, Bitwise, Hex, None, rw, No / No, -, Location::Xreg(15), [("OXM_OF_PKT_REG15", 15, V13, "3.7")];
    Xxreg0: "xxreg0" "", 16 / 128, Bitwise, Hex, None, rw, No / No, -, Location::Xxreg(0), [("NXM_NX_XXREG0", 111, V10, "2.6")];
    Xxreg1: "xxreg1" "", 16 / 128, Bitwise, Hex, None, rw, No / No, -, Location::Xxreg(1), [("NXM_NX_XXREG1", 112, V10, "2.6")];
    Xxreg2: "xxreg2" "", 16 / 128, Bitwise, Hex, None, rw, No / No, -, Location::Xxreg(2), [("NXM_NX_XXREG2", 113, V10, "2.6")];
    Xxreg3: "xxreg3" "", 16 / 128, Bitwise, Hex, None, rw, No / No, -, Location::Xxreg(3), [("NXM_NX_XXREG3", 114, V10, "2.6")];
    Xxreg4: "xxreg4" "", 16 / 128, Bitwise, Hex, None, rw, No / No, -, Location::Xxreg(4), [("NXOXM_ET_XXREG4", 33, V10, "3.7")];
    Xxreg5: "xxreg5" "", 16 / 128, Bitwise, Hex, None, rw, No / No, -, Location::Xxreg(5), [("NXOXM_ET_XXREG5", 34, V10, "3.7")];
    Xxreg6: "xxreg6" "", 16 / 128, Bitwise, Hex, None, rw, No / No, -, Location::Xxreg(6), [("NXOXM_ET_XXREG6", 35, V10, "3.7")];
    Xxreg7: "xxreg7" "", 16 / 128, Bitwise, Hex, None, rw, No / No, -, Location::Xxreg(7), [("NXOXM_ET_XXREG7", 36, V10, "3.7")];
    EthSrc: "eth_src" "dl_src", 6 / 48, Bitwise, Ethernet, Ethernet, rw, Exact / Bitwise, -, be(offset_of!(Flow, dl_src), 6), [("OXM_OF_ETH_SRC", 4, V12, "1.7"), ("NXM_OF_ETH_SRC", 2, V10, "1.1")];
    EthDst: "eth_dst" "dl_dst", 6 / 48, Bitwise, Ethernet, Ethernet, rw, Exact / Bitwise, -, be(offset_of!(Flow, dl_dst), 6), [("OXM_OF_ETH_DST", 3, V12, "1.7"), ("NXM_OF_ETH_DST", 1, V10, "1.1")];
    EthType: "eth_type" "dl_type", 2 / 16, No, Hex, Ethernet, ro, Exact / Exact, -, be(offset_of!(Flow, dl_type), 2), [("OXM_OF_ETH_TYPE", 5, V12, "1.7"), ("NXM_OF_ETH_TYPE", 3, V10, "1.1")];
    VlanTci: "vlan_tci" "", 2 / 16, Bitwise, Hex, Ethernet, rw, Exact / Exact, -, Location::VlanTci, [("NXM_OF_VLAN_TCI", 4, V10, "1.1")];
    DlVlan: "dl_vlan" "", 2 / 12, No, Dec, Ethernet, rw, Exact / Exact, -, Location::DlVlan, [];
    VlanVid: "vlan_vid" "", 2 / 12, Bitwise, Dec, Ethernet, rw, Exact / Exact, -, Location::VlanVid, [("OXM_OF_VLAN_VID", 6, V12, "1.7")];
    DlVlanPcp: "dl_vlan_pcp" "", 1 / 3, No, Dec, Ethernet, rw, Exact / Exact, -, Location::VlanPcp, [];
    VlanPcp: "vlan_pcp" "", 1 / 3, No, Dec, VlanVid, rw, Exact / Exact, -, Location::VlanPcp, [("OXM_OF_VLAN_PCP", 7, V12, "1.7")];
    MplsLabel: "mpls_label" "", 4 / 20, No, Dec, Mpls, rw, No / Exact, -, be(offset_of!(Flow, mpls_lse), 4).bits(12, 0xfffff), [("OXM_OF_MPLS_LABEL", 34, V12, "1.11")];
    MplsTc: "mpls_tc" "", 1 / 3, No, Dec, Mpls, rw, No / Exact, -, be(offset_of!(Flow, mpls_lse), 4).bits(9, 0x7), [("OXM_OF_MPLS_TC", 35, V12, "1.11")];
    MplsBos: "mpls_bos" "", 1 / 1, No, Dec, Mpls, ro, No / No, -, be(offset_of!(Flow, mpls_lse), 4).bits(8, 0x1), [("OXM_OF_MPLS_BOS", 36, V13, "1.11")];
    MplsTtl: "mpls_ttl" "", 1 / 8, No, Dec, Mpls, rw, No / No, -, be(offset_of!(Flow, mpls_lse), 4).bits(0, 0xff), [("NXM_NX_MPLS_TTL", 30, V10, "2.6")];
    IpSrc: "ip_src" "nw_src", 4 / 32, Bitwise, Ipv4, Ipv4, rw, Cidr / Bitwise, trie, be(offset_of!(Flow, nw_src), 4), [("OXM_OF_IPV4_SRC", 11, V12, "1.7"), ("NXM_OF_IP_SRC", 7, V10, "1.1")];
    IpDst: "ip_dst" "nw_dst", 4 / 32, Bitwise, Ipv4, Ipv4, rw, Cidr / Bitwise, trie, be(offset_of!(Flow, nw_dst), 4), [("OXM_OF_IPV4_DST", 12, V12, "1.7"), ("NXM_OF_IP_DST", 8, V10, "1.1")];
    Ipv6Src: "ipv6_src" "", 16 / 128, Bitwise, Ipv6, Ipv6, rw, No / No, trie, be(offset_of!(Flow, ipv6_src), 16), [("OXM_OF_IPV6_SRC", 26, V12, "1.1"), ("NXM_NX_IPV6_SRC", 19, V10, "1.1")];
    Ipv6Dst: "ipv6_dst" "", 16 / 128, Bitwise, Ipv6, Ipv6, rw, No / No, trie, be(offset_of!(Flow, ipv6_dst), 16), [("OXM_OF_IPV6_DST", 27, V12, "1.1"), ("NXM_NX_IPV6_DST", 20, V10, "1.1")];
    Ipv6Label: "ipv6_label" "", 4 / 20, Bitwise, Hex, Ipv6, rw, No / No, -, be(offset_of!(Flow, ipv6_label), 4).bits(0, 0xfffff), [("OXM_OF_IPV6_FLABEL", 28, V12, "1.7"), ("NXM_NX_IPV6_LABEL", 27, V10, "1.4")];
    NwProto: "nw_proto" "ip_proto", 1 / 8, No, Dec, IpAny, ro, Exact / Exact, -, be(offset_of!(Flow, nw_proto), 1), [("OXM_OF_IP_PROTO", 10, V12, "1.7"), ("NXM_OF_IP_PROTO", 6, V10, "1.1")];
    NwTos: "nw_tos" "", 1 / 8, No, Dec, IpAny, rw, Exact / Exact, -, be(offset_of!(Flow, nw_tos), 1).bits(0, 0xfc), [("NXM_OF_IP_TOS", 5, V10, "1.1")];
    IpDscp: "ip_dscp" "", 1 / 6, No, Dec, IpAny, rw, Exact / Exact, -, be(offset_of!(Flow, nw_tos), 1).bits(2, 0x3f), [("OXM_OF_IP_DSCP", 8, V12, "1.7")];
    NwEcn: "nw_ecn" "ip_ecn", 1 / 2, No, Dec, IpAny, rw, No / Exact, -, be(offset_of!(Flow, nw_tos), 1).bits(0, 0x3), [("OXM_OF_IP_ECN", 9, V12, "1.7"), ("NXM_NX_IP_ECN", 28, V10, "1.4")];
    NwTtl: "nw_ttl" "", 1 / 8, No, Dec, IpAny, rw, No / No, -, be(offset_of!(Flow, nw_ttl), 1), [("NXM_NX_IP_TTL", 29, V10, "1.4")];
    IpFrag: "ip_frag" "nw_frag", 1 / 2, Bitwise, Frag, IpAny, ro, No / No, -, be(offset_of!(Flow, nw_frag), 1).bits(0, 0x3), [("NXM_NX_IP_FRAG", 26, V10, "1.3")];
    ArpOp: "arp_op" "", 2 / 16, No, Dec, Arp, rw, Exact / Exact, -, Location::ArpOp, [("OXM_OF_ARP_OP", 21, V12, "1.7"), ("NXM_OF_ARP_OP", 15, V10, "1.1")];
    ArpSpa: "arp_spa" "", 4 / 32, Bitwise, Ipv4, Arp, rw, Cidr / Bitwise, -, be(offset_of!(Flow, nw_src), 4), [("OXM_OF_ARP_SPA", 22, V12, "1.7"), ("NXM_OF_ARP_SPA", 16, V10, "1.1")];
    ArpTpa: "arp_tpa" "", 4 / 32, Bitwise, Ipv4, Arp, rw, Cidr / Bitwise, -, be(offset_of!(Flow, nw_dst), 4), [("OXM_OF_ARP_TPA", 23, V12, "1.7"), ("NXM_OF_ARP_TPA", 17, V10, "1.1")];
    ArpSha: "arp_sha" "", 6 / 48, Bitwise, Ethernet, Arp, rw, No / No, -, be(offset_of!(Flow, arp_sha), 6), [("OXM_OF_ARP_SHA", 24, V12, "1.7"), ("NXM_NX_ARP_SHA", 17, V10, "1.1")];
    ArpTha: "arp_tha" "", 6 / 48, Bitwise, Ethernet, Arp, rw, No / No, -, be(offset_of!(Flow, arp_tha), 6), [("OXM_OF_ARP_THA", 25, V12, "1.7"), ("NXM_NX_ARP_THA", 18, V10, "1.1")];
    TcpSrc: "tcp_src" "tp_src", 2 / 16, Bitwise, Dec, Tcp, rw, Exact / Exact, -, be(offset_of!(Flow, tp_src), 2), [("OXM_OF_TCP_SRC", 13, V12, "1.7"), ("NXM_OF_TCP_SRC", 9, V10, "1.1")];
    TcpDst: "tcp_dst" "tp_dst", 2 / 16, Bitwise, Dec, Tcp, rw, Exact / Exact, -, be(offset_of!(Flow, tp_dst), 2), [("OXM_OF_TCP_DST", 14, V12, "1.7"), ("NXM_OF_TCP_DST", 10, V10, "1.1")];
    TcpFlags: "tcp_flags" "", 2 / 12, Bitwise, TcpFlags, Tcp, ro, No / No, -, be(offset_of!(Flow, tcp_flags), 2).bits(0, 0xfff), [("ONFOXM_ET_TCP_FLAGS", 42, V13, "2.4"), ("OXM_OF_TCP_FLAGS", 42, V15, "2.3"), ("NXM_NX_TCP_FLAGS", 34, V10, "2.1")];
    UdpSrc: "udp_src" "", 2 / 16, Bitwise, Dec, Udp, rw, Exact / Exact, -, be(offset_of!(Flow, tp_src), 2), [("OXM_OF_UDP_SRC", 15, V12, "1.7"), ("NXM_OF_UDP_SRC", 11, V10, "1.1")];
    UdpDst: "udp_dst" "", 2 / 16, Bitwise, Dec, Udp, rw, Exact / Exact, -, be(offset_of!(Flow, tp_dst), 2), [("OXM_OF_UDP_DST", 16, V12, "1.7"), ("NXM_OF_UDP_DST", 12, V10, "1.1")];
    SctpSrc: "sctp_src" "", 2 / 16, Bitwise, Dec, Sctp, rw, No / Exact, -, be(offset_of!(Flow, tp_src), 2), [("OXM_OF_SCTP_SRC", 17, V12, "2.0")];
    SctpDst: "sctp_dst" "", 2 / 16, Bitwise, Dec, Sctp, rw, No / Exact, -, be(offset_of!(Flow, tp_dst), 2), [("OXM_OF_SCTP_DST", 18, V12, "2.0")];
    IcmpType: "icmp_type" "", 1 / 8, No, Dec, Icmpv4, rw, Exact / Exact, -, Location::LowByte(offset_of!(Flow, tp_src) as u16), [("OXM_OF_ICMPV4_TYPE", 19, V12, "1.7"), ("NXM_OF_ICMP_TYPE", 13, V10, "1.1")];
    IcmpCode: "icmp_code" "", 1 / 8, No, Dec, Icmpv4, rw, Exact / Exact, -, Location::LowByte(offset_of!(Flow, tp_dst) as u16), [("OXM_OF_ICMPV4_CODE", 20, V12, "1.7"), ("NXM_OF_ICMP_CODE", 14, V10, "1.1")];
    Icmpv6Type: "icmpv6_type" "", 1 / 8, No, Dec, Icmpv6, rw, No / No, -, Location::LowByte(offset_of!(Flow, tp_src) as u16), [("OXM_OF_ICMPV6_TYPE", 29, V12, "1.7"), ("NXM_NX_ICMPV6_TYPE", 21, V10, "1.1")];
    Icmpv6Code: "icmpv6_code" "", 1 / 8, No, Dec, Icmpv6, rw, No / No, -, Location::LowByte(offset_of!(Flow, tp_dst) as u16), [("OXM_OF_ICMPV6_CODE", 30, V12, "1.7"), ("NXM_NX_ICMPV6_CODE", 22, V10, "1.1")];
    NdTarget: "nd_target" "", 16 / 128, Bitwise, Ipv6, Nd, rw, No / No, -, be(offset_of!(Flow, nd_target), 16), [("OXM_OF_IPV6_ND_TARGET", 31, V12, "1.7"), ("NXM_NX_ND_TARGET", 23, V10, "1.1")];
    NdSll: "nd_sll" "", 6 / 48, Bitwise, Ethernet, NdSolicit, rw, No / No, -, be(offset_of!(Flow, arp_sha), 6), [("OXM_OF_IPV6_ND_SLL", 32, V12, "1.7"), ("NXM_NX_ND_SLL", 24, V10, "1.1")];
    NdTll: "nd_tll" "", 6 / 48, Bitwise, Ethernet, NdAdvert, rw, No / No, -, be(offset_of!(Flow, arp_tha), 6), [("OXM_OF_IPV6_ND_TLL", 33, V12, "1.7"), ("NXM_NX_ND_TLL", 25, V10, "1.1")];
    NdReserved: "nd_reserved" "", 4 / 32, No, Dec, Nd, rw, No / No, -, be(offset_of!(Flow, igmp_group_ip4), 4), [("ERICOXM_OF_ICMPV6_ND_RESERVED", 1, V10, "2.11")];
    NdOptionsType: "nd_options_type" "", 1 / 8, No, Dec, Nd, rw, No / No, -, Location::LowByte(offset_of!(Flow, tcp_flags) as u16), [("ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE", 2, V10, "2.11")];
    NshFlags: "nsh_flags" "", 1 / 8, Bitwise, Dec, Nsh, rw, No / No, -, be(NSH + offset_of!(FlowNsh, flags), 1), [("NXOXM_NSH_FLAGS", 1, V10, "2.8")];
    NshMdtype: "nsh_mdtype" "", 1 / 8, No, Dec, Nsh, ro, No / No, -, be(NSH + offset_of!(FlowNsh, mdtype), 1), [("NXOXM_NSH_MDTYPE", 2, V10, "2.8")];
    NshNp: "nsh_np" "", 1 / 8, No, Dec, Nsh, ro, No / No, -, be(NSH + offset_of!(FlowNsh, np), 1), [("NXOXM_NSH_NP", 3, V10, "2.8")];
    NshSpi: "nsh_spi" "nsp", 4 / 24, No, Hex, Nsh, rw, No / No, -, be(NSH + offset_of!(FlowNsh, path_hdr), 4).bits(8, 0xffffff), [("NXOXM_NSH_SPI", 4, V10, "2.8")];
    NshSi: "nsh_si" "nsi", 1 / 8, No, Dec, Nsh, rw, No / No, -, be(NSH + offset_of!(FlowNsh, path_hdr), 4).bits(0, 0xff), [("NXOXM_NSH_SI", 5, V10, "2.8")];
    NshC1: "nsh_c1" "nshc1", 4 / 32, Bitwise, Hex, Nsh, rw, No / No, -, be(NSH + offset_of!(FlowNsh, context), 4), [("NXOXM_NSH_C1", 6, V10, "2.8")];
    NshC2: "nsh_c2" "nshc2", 4 / 32, Bitwise, Hex, Nsh, rw, No / No, -, be(NSH + offset_of!(FlowNsh, context) + 4, 4), [("NXOXM_NSH_C2", 7, V10, "2.8")];
    NshC3: "nsh_c3" "nshc3", 4 / 32, Bitwise, Hex, Nsh, rw, No / No, -, be(NSH + offset_of!(FlowNsh, context) + 8, 4), [("NXOXM_NSH_C3", 8, V10, "2.8")];
    NshC4: "nsh_c4" "nshc4", 4 / 32, Bitwise, Hex, Nsh, rw, No / No, -, be(NSH + offset_of!(FlowNsh, context) + 12, 4), [("NXOXM_NSH_C4", 9, V10, "2.8")];
    NshTtl: "nsh_ttl" "", 1 / 8, No, Dec, Nsh, rw, No / No, -, be(NSH + offset_of!(FlowNsh, ttl), 1), [("NXOXM_NSH_TTL", 10, V10, "2.9")];
}
}

pub use rows::{FIELDS, FieldId};

use proptest::prelude::*;

use super::*;
use crate::types::OfPort;

fn parse_format(id: FieldId, s: &str) -> Result<String, String> {
    let field = id.field();
    let (value, mask) = field.parse(s, &NoPorts)?;
    let mut m = Match::catchall();
    field.set_match(&value, &mask, &mut m);
    let mut out = String::new();
    field.format(
        &field.value(&m.flow),
        Some(&field.mask_of(&m.wc)),
        &NoPorts,
        &mut out,
    );
    Ok(out)
}

#[test]
fn the_registry_has_the_fields_of_open_vswitch() {
    assert_eq!(FieldId::COUNT, 211);
    assert_eq!(
        FIELDS
            .iter()
            .filter(|f| f.maskable == Maskable::Bitwise)
            .count(),
        175
    );
    assert_eq!(FIELDS.iter().filter(|f| f.writable).count(), 185);
    for (i, field) in FIELDS.iter().enumerate() {
        assert_eq!(field.id as usize, i);
        assert_eq!(Field::by_name(field.name).map(|f| f.id), Some(field.id));
        assert!(usize::from(field.n_bits) <= usize::from(field.n_bytes) * 8);
    }
    assert_eq!(
        Field::by_name("dl_src").map(|f| f.id),
        Some(FieldId::EthSrc)
    );
    assert_eq!(FieldId::reg(31), Some(FieldId::Reg31));
    assert_eq!(FieldId::tun_metadata(63), Some(FieldId::TunMetadata63));
}

#[test]
fn text_is_read_and_written_as_open_vswitch_does() {
    use FieldId::*;
    for (id, text, want) in [
        (EthSrc, "1:2:3:4:5:6", "01:02:03:04:05:06"),
        (
            EthSrc,
            "1:2:3:4:5:6/ff:ff:ff:00:00:00",
            "01:02:03:00:00:00/ff:ff:ff:00:00:00",
        ),
        (IpSrc, "1.2.3.4/24", "1.2.3.0/24"),
        (IpSrc, "1.2.3.4/255.0.255.0", "1.0.3.0/255.0.255.0"),
        (IpSrc, "300.1.1.1", "44.1.1.1"),
        (Ipv6Src, "fe80::1/64", "fe80::/64"),
        (Ipv6Src, "fe80::1/ffff::1", "fe80::1/ffff::1"),
        (Reg0, "5/0xf", "0x5/0xf"),
        (Reg0, "010", "0x8"),
        (Reg0, "0x", "0"),
        (Reg0, "*", "ANY"),
        (Xxreg0, "-1", "0xffffffffffffffff"),
        (TcpSrc, "1/0xf0", "0/0xf0"),
        (InPort, "LOCAL", "LOCAL"),
        (InPort, "any", "ANY"),
        (InPortOxm, "4294967294", "LOCAL"),
        (CtState, "+trk-new", "-new+trk"),
        (CtState, "0x21/0x21", "+new+trk"),
        (IpFrag, "later", "later"),
        (IpFrag, "not_later", "not_later"),
        (TcpFlags, "syn|ack", "syn|ack"),
        (TcpFlags, "+syn-ack", "+syn-ack"),
        (TunFlags, "oam", "oam"),
        (PacketType, "(1,0x800)", "(1,0x800)"),
        (PacketType, "(2,0x9)", "(2,9)"),
        (PacketType, "(10,0xf)", "(0xa,0xf)"),
        (DlVlan, "5", "5"),
        (VlanTci, "0x1005", "0x1005"),
        (NwTos, "3", "0"),
        (NdTarget, "::1", "::1"),
        (IcmpType, "3", "3"),
        (ArpOp, "2", "2"),
        (TunGbpId, "17/0x1f", "17/0x1f"),
        (NshSpi, "0x123456", "0x123456"),
    ] {
        assert_eq!(parse_format(id, text).as_deref(), Ok(want), "{id} {text}");
    }
}

#[test]
fn bad_text_gets_open_vswitch_s_words() {
    use FieldId::*;
    for (id, text, want) in [
        (EthSrc, "xx", "xx: invalid Ethernet address"),
        (
            EthSrc,
            "1:2:3:4:5:6/1",
            "1:2:3:4:5:6/1: invalid Ethernet address",
        ),
        (IpSrc, "1.2.3", "1.2.3: invalid IP address"),
        (
            IpSrc,
            "1.2.3.4/33",
            "1.2.3.4/33: IPv4 network prefix bits not between 0 and 32, inclusive",
        ),
        (Ipv6Src, "::1/", "::1/: invalid IPv6 address"),
        (
            Ipv6Src,
            "::1/129",
            "::1/129: IPv6 network prefix bits not between 0 and 128, inclusive",
        ),
        (Reg0, "zz", "zz: bad syntax for reg0 value"),
        (Reg0, "1/zz", "1/zz: bad syntax for reg0 mask"),
        (Reg0, "-1", "-1: value too large for 4-byte field reg0"),
        (
            Reg0,
            "1/0x1ffffffff",
            "1/0x1ffffffff: mask too large for 4-byte field reg0",
        ),
        (
            EthType,
            "0x1ffff",
            "0x1ffff: value too large for 2-byte field eth_type",
        ),
        (NwProto, "6/1", "6/1: invalid mask for field nw_proto"),
        (InPort, "foo", "foo: invalid or unknown port for in_port"),
        (
            InPortOxm,
            "70000",
            "70000: port value out of range for in_port_oxm",
        ),
        (CtState, "+foo", "foo: unknown ct_state flag(s)"),
        (CtState, "+trk-", ": unknown ct_state flag(s)"),
        (
            CtState,
            "+trk+trk",
            "trk: Each ct_state flag can be specified only once",
        ),
        (TcpFlags, "0xffff", "0xffff: unknown TCP flag(s)"),
        (
            PacketType,
            "(1)",
            "1): bad syntax for packet type missing ','",
        ),
        (
            PacketType,
            "(70000,1)",
            "70000,1): bad syntax for packet type ns",
        ),
    ] {
        assert_eq!(parse_format(id, text), Err(want.to_owned()), "{id}");
    }
}

#[test]
fn subfields_read_and_write_both_ways() {
    for (text, want) in [
        ("reg0", "NXM_NX_REG0[]"),
        ("reg0[0..15]", "NXM_NX_REG0[0..15]"),
        ("NXM_NX_REG0[5]", "NXM_NX_REG0[5]"),
        ("OXM_OF_ETH_SRC[]", "NXM_OF_ETH_SRC[]"),
        ("metadata[0..31]", "OXM_OF_METADATA[0..31]"),
    ] {
        assert_eq!(
            SubField::parse(text).map(|sf| sf.to_string()).as_deref(),
            Ok(want)
        );
    }
    for (text, want) in [
        ("foo[]", "foo[]: unknown field `foo'"),
        (
            "reg0[",
            "reg0[: syntax error expecting [] or [<bit>] or [<start>..<end>]",
        ),
        (
            "reg0[0..32]",
            "reg0[0..32]: ending bit 32 is not valid because field is only 32 bits wide",
        ),
        (
            "reg0[5..2]",
            "reg0[5..2]: starting bit 5 is after ending bit 2",
        ),
    ] {
        assert_eq!(SubField::parse(text), Err(want.to_owned()));
    }
    let mut flow = Flow::default();
    let high = SubField::parse("xxreg1[64..79]").unwrap();
    high.set(&FieldValue::from(0x1abcd_u64), &mut flow);
    assert_eq!((flow.regs[5], high.value_u64(&flow)), (0xabcd, 0xabcd));
    let dst = SubField::parse("eth_src[0..15]").unwrap();
    high.copy_to(&dst, &mut flow, &NO_TUN_TABLE);
    assert_eq!(flow.dl_src.to_u64(), 0xabcd);
}

#[test]
fn vlan_views_agree_on_the_tag() {
    let mut m = Match::catchall();
    FieldId::DlVlan
        .field()
        .set_match_exact(&FieldValue::from(5_u64), &mut m);
    assert_eq!(m.flow.vlans[0].tci.get(), 0x1005);
    assert_eq!(m.wc.masks.vlans[0].tci.get(), 0x1fff);
    FieldId::VlanPcp
        .field()
        .set_match_exact(&FieldValue::from(3_u64), &mut m);
    assert_eq!(m.flow.vlans[0].tci.get(), 0x7005);
    assert_eq!(m.wc.masks.vlans[0].tci.get(), 0xffff);
    FieldId::DlVlanPcp.field().set_wild(&mut m);
    assert_eq!(
        (m.flow.vlans[0].tci.get(), m.wc.masks.vlans[0].tci.get()),
        (0x1005, 0x1fff)
    );
    FieldId::DlVlan
        .field()
        .set_match_exact(&FieldValue::from(0xffff_u64), &mut m);
    assert_eq!(
        (m.flow.vlans[0].tci.get(), m.wc.masks.vlans[0].tci.get()),
        (0, 0xffff)
    );
    let mut flow = Flow::default();
    FieldId::VlanVid
        .field()
        .set_value(&FieldValue::from(0x1007_u64), &mut flow);
    assert_eq!(flow.vlans[0].tpid.get(), 0x8100);
}

#[test]
fn port_names_come_from_the_map_and_are_quoted_when_ambiguous() {
    struct Map;
    impl PortMap for Map {
        fn port_by_name(&self, name: &str) -> Option<OfPort> {
            (name == "br 0").then_some(OfPort(3))
        }
        fn name_of(&self, port: OfPort) -> Option<std::borrow::Cow<'_, str>> {
            Some(["br 0", "eth-1", "eth1"][usize::from(port.0) - 3].into())
        }
    }
    let mut out = String::new();
    format_port(OfPort(3), &Map, &mut out);
    assert_eq!(parse_port(&out, &Map), Some(OfPort(3)));
    assert_eq!(out, "\"br 0\"");
    out.clear();
    format_port(OfPort(4), &Map, &mut out);
    assert_eq!(out, "\"eth-1\"");
    out.clear();
    format_port(OfPort(5), &Map, &mut out);
    assert_eq!(out, "eth1");
}

fn any_field() -> impl Strategy<Value = &'static Field> {
    prop::sample::select(FieldId::ALL.to_vec()).prop_map(FieldId::field)
}

proptest! {
    #[test]
    fn a_value_set_is_the_value_read(field in any_field(), bytes in prop::array::uniform16(any::<u8>())) {
        prop_assume!(field.id.tun_metadata_index().is_none());
        let n_bits = usize::from(field.n_bits);
        let mut value = FieldValue::from_be_bytes(&bytes).extract(0, n_bits);
        if field.id == FieldId::NwTos {
            value = value.and(&FieldValue::from(0xfc_u64));
        }
        prop_assume!(field.is_value_valid(&value));
        let mut flow = Flow::default();
        field.set_value(&value, &mut flow);
        prop_assert_eq!(field.value(&flow), value);
    }

    #[test]
    fn bits_change_where_the_number_is(
        field in any_field(),
        [old, value, mask] in prop::array::uniform3(any::<u128>()),
        ones: bool,
    ) {
        prop_assume!(matches!(field.location, Location::Bits { .. }));
        let mut flow = Flow::default();
        flow.words_mut().fill(if ones { u64::MAX } else { 0 });
        field.location.write_number(&mut flow, old);
        let mut wc = FlowWildcards { masks: flow };
        let old = field.location.number(&flow);
        let mut want = [flow, flow];
        field.location.write_number(&mut want[0], old & !mask | value & mask);
        field.location.write_number(&mut want[1], old | mask);
        let (value, mask) = (FieldValue::from(value), FieldValue::from(mask));
        let mut looked_at = wc;
        field.mask_field_bits_in(&mask, &mut looked_at, &NO_TUN_TABLE);
        field.set_bits_in(&value, &mask, &mut flow, &mut wc, &NO_TUN_TABLE);
        prop_assert!([flow, wc.masks] == want && looked_at == wc);
    }

    #[test]
    fn a_match_is_exact_wild_or_as_masked(field in any_field(), bytes in prop::array::uniform16(any::<u8>())) {
        prop_assume!(field.id.tun_metadata_index().is_none());
        let mut m = Match::catchall();
        field.set_match_exact(&FieldValue::ZERO, &mut m);
        prop_assert!(field.is_all_exact(&m.wc) && !field.is_all_wild(&m.wc));
        prop_assert!(field.mask_of(&m.wc).is_ones(usize::from(field.n_bytes) * 8));
        field.set_wild(&mut m);
        prop_assert!(field.is_all_wild(&m.wc));
        if field.maskable == Maskable::Bitwise {
            let n_bits = usize::from(field.n_bits);
            let mask = FieldValue::from_be_bytes(&bytes).extract(0, n_bits);
            prop_assume!(!mask.is_ones(n_bits));
            let mut m = Match::catchall();
            field.set_match(&FieldValue::ones(n_bits), &mask, &mut m);
            if field.format != Format::CtState {
                prop_assert_eq!(field.mask_of(&m.wc), mask);
            }
            prop_assert_eq!(Match::new(&m.flow, &m.wc), m);
        }
    }

    #[test]
    fn no_text_panics(field in any_field(), text in "[0-9a-fx:./+|()*,-]{0,20}") {
        let _ = field.parse(&text, &NoPorts);
        let _ = SubField::parse(&text);
    }
}

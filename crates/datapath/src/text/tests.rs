//! Text that Open vSwitch prints for what it is given, both ways.

use super::*;
use crate::dpif::Errno;

fn actions(input: &str) -> Result<String, ActionsError> {
    let mut out = String::new();
    format_actions(&mut out, &parse_actions(input, None)?, None);
    Ok(out)
}

/// Actions that print as they were written.
const SAME: &str = include_str!("tests/actions.txt");

#[test]
fn actions_print_as_they_were_read() {
    for line in SAME.lines() {
        assert_eq!(actions(line).as_deref(), Ok(line));
    }
}

#[test]
fn actions_are_normalised_as_open_vswitch_does() {
    for (input, want) in [
        ("", "drop"),
        ("1 2", "1,2"),
        ("clone()", "clone(drop)"),
        ("recirc(1)", "recirc(0x1)"),
        ("set(skb_priority(5))", "set(skb_priority(0x5))"),
        ("push_vlan(vid=13,pcp=5,cfi=1)", "push_vlan(vid=13,pcp=5)"),
        (
            "sample(sample=100%,actions(1))",
            "sample(sample=100.0%,actions(1))",
        ),
        (
            "userspace(pid=7,userdata(0102030405),actions)",
            "userspace(pid=7,userdata(0102030405000000),actions)",
        ),
        (
            "userspace(pid=1,slow_path(cfm|bfd))",
            "userspace(pid=1,slow_path(cfm,bfd))",
        ),
        (
            "userspace(pid=7,userdata(010203040506070809))",
            "userspace(pid=7,userdata(010203040506070809))",
        ),
        (
            "userspace(pid=1,slow_path()),userspace(pid=1,slow_path(0x30))",
            "userspace(pid=1,slow_path(0)),userspace(pid=1,slow_path(lldp,action))",
        ),
        (
            "psample(group=1,cookie=0x0102),psample(group=2,cookie=0xabc),psample(group=3,cookie=0x1)",
            "psample(group=1,cookie=0x102),psample(group=2,cookie=0xab),psample(group=3)",
        ),
        (
            "set(arp(op=1/0xff)),set(arp(op=255))",
            "set(arp(op=1/0xff)),set(arp(op=255))",
        ),
        (
            "set(tunnel(dst=1.1.1.1,ttl=64,geneve({class=0,type=0,len=4,0x1}),flags(df)))",
            "set(tunnel(dst=1.1.1.1,ttl=64,geneve({class=0,type=0,len=4,0x1}),flags(df)))",
        ),
        (
            "push_nsh(flags=0,mdtype=2,np=3,spi=0x1,si=255,md2=0x0a)",
            "push_nsh(flags=0,ttl=63,mdtype=2,np=3,spi=0x1,si=255,md2=0xa000000)",
        ),
        (
            "set(nsh(flags=2/3,ttl=5,spi=0,c1=0/0xff,c3=0x7734/0xff00))",
            "set(nsh(flags=0x02/0x03,ttl=5,spi=0x0,c1=0x0/0x000000ff,c3=0x7700/0x0000ff00))",
        ),
    ] {
        assert_eq!(actions(input).as_deref(), Ok(want), "{input}");
    }
}

#[test]
fn actions_that_open_vswitch_refuses_are_refused() {
    for bad in [
        "foo",
        "1,foo",
        "1;2",
        "trunc(",
        "set(foo(1))",
        "push_vlan(vid=5000)",
        "ct(commit",
        "userspace(pid=6,slow_path(cfm,bfd))",
        "clone(1",
        "sample(sample=101%,actions(1))",
        "userspace(pid=1,slow_path(0x80))",
        "psample(group=1,cookie=0x)",
        "psample(group=1,cookie=12)",
        "set(tunnel(tun_id=1,ttl=64,flags(key)))",
    ] {
        assert_eq!(actions(bad), Err(ActionsError), "{bad}");
    }
    // A packet has one outermost label.
    let two = "set(mpls(label=1,bos=0,label=2,bos=1))";
    assert_eq!(actions(two), Err(ActionsError));
    let deep = "clone(".repeat(10_000);
    assert_eq!(actions(&deep), Err(ActionsError));
}

fn key(input: &str, verbose: bool) -> Result<String, Errno> {
    let parsed = parse_key(input, None).expect("syntax");
    let m = parsed.into_match()?;
    let mut out = String::new();
    format_match(&mut out, &m.flow, Some(&m.wc), None, verbose);
    Ok(out)
}

/// Keys that print as they were written.
const KEYS: &str = include_str!("tests/keys.txt");

#[test]
fn keys_print_as_they_were_read() {
    for line in KEYS.lines() {
        assert_eq!(key(line, false).as_deref(), Ok(line));
    }
}

#[test]
fn verbose_keys_show_wild_members_too() {
    assert_eq!(
        key(
            "in_port(1),eth(),eth_type(0x0800),ipv4(proto=6,frag=no),tcp()",
            true
        )
        .unwrap(),
        "recirc_id(0),dp_hash(0/0),skb_priority(0/0),in_port(1),skb_mark(0/0),ct_state(0/0),ct_zone(0/0),\
         ct_mark(0/0),ct_label(0/0),packet_type(ns=0/0,id=0/0),\
         eth(src=00:00:00:00:00:00/00:00:00:00:00:00,dst=00:00:00:00:00:00/00:00:00:00:00:00),\
         eth_type(0x0800),ipv4(src=0.0.0.0/0.0.0.0,dst=0.0.0.0/0.0.0.0,proto=6,tos=0/0,ttl=0/0,\
         frag=no),tcp(src=0/0,dst=0/0)"
    );
}

#[test]
fn keys_without_what_their_protocol_needs_are_refused() {
    for bad in [
        "in_port(1)",
        "in_port(1),eth()",
        "in_port(1),eth(),eth_type(0x0800)",
        "in_port(1),eth(),eth_type(0x0800),ipv4(proto=17,frag=no),tcp(src=1)",
        "in_port(2),eth(),eth_type(0x8847),mpls(label=10,tc=1,ttl=64,bos=0)",
        "in_port(1),eth(),eth_type(0x8100),vlan(vid=5),encap(eth_type(0x0806))",
        "in_port(1),eth(),eth_type(0x8100)",
        "in_port(1),eth(),eth_type(0x88a8),vlan(vid=5),encap(eth_type(0x8100),vlan(vid=6),encap(eth_type(0x1234)))",
        "in_port(1),eth(),eth_type(0x86dd),ipv6(proto=58,frag=no),icmpv6(type=135,code=0)",
        "in_port(1),eth(),eth_type(0x86dd),ipv6(proto=58,frag=no),icmpv6(type=135,code=0),nd_ext()",
        "eth(),eth_type(0x1234)",
        "in_port(1/0xff),eth(),eth_type(0x1234)",
        "in_port(1),in_port(2),eth(),eth_type(0x1234)",
        "in_port(1),eth(),eth_type(0x0806),arp(op=300)",
        "in_port(1),tunnel(dst=1.2.3.4,flags(key)),eth(),eth_type(0x1234)",
    ] {
        assert_eq!(key(bad, false), Err(Errno::EINVAL), "{bad}");
    }
    for (bad, at) in [
        (
            "in_port(1),eth(),foo(),ipv4(frag=no)",
            "foo(),ipv4(frag=no)",
        ),
        ("in_port(1),eth_type(0x0800),ipv4(frag=no", "ipv4(frag=no"),
        ("recirc_id(5/0xf),in_port(1)", "recirc_id(5/0xf),in_port(1)"),
        (
            "in_port(1),mpls(label=1,label=2,label=3,label=4)",
            "mpls(label=1,label=2,label=3,label=4)",
        ),
    ] {
        let error = parse_key(bad, None).unwrap_err().to_string();
        assert_eq!(error, format!("syntax error at {at}"));
    }
}

#[test]
fn a_traced_key_may_leave_out_what_follows_and_is_cut_to_the_tags_that_packets_have() {
    let flow = |text| parse_key(text, None).unwrap().into_flow().unwrap();
    let f = flow("in_port(1),eth(),ipv4(src=1.2.3.4,proto=6),udp(src=5)");
    assert_eq!((f.dl_type.get(), f.tp_src.get()), (0x800, 0));
    let f = flow(
        "in_port(1),eth(),eth_type(0x8100),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=6,pcp=0),encap(eth_type(0xabcd)))",
    );
    assert_eq!((f.dl_type.get(), f.vlans[0].tci.get()), (0x8100, 0x1005));
    assert_eq!(f.vlans[1].tci.get(), 0);
    assert_eq!(flow("in_port(1),eth(),eth_type(0x8100)").dl_type.get(), 0);
    let f = flow("in_port(1),eth_type(0x1234)");
    assert_eq!(f.packet_type.get(), 0x1_1234);
    assert_eq!(flow("in_port(1),eth(),eth_type(0x0800)").nw_proto, 0);
    // Key, type of packet, EtherType, first tag, protocol.
    for (text, want) in [
        // Only what has a type and no Ethernet header begins behind it.
        ("in_port(1)", (0, 0x5ff, 0, 0)),
        ("in_port(1),ipv4(src=1.2.3.4,proto=6)", (0, 0x800, 0, 6)),
        ("in_port(1),arp(op=1)", (0, 0x5ff, 0, 0)),
        ("in_port(1),eth_type(0x0800)", (0x1_0800, 0x800, 0, 0)),
        // Headers of another type do not count.
        ("eth(),eth_type(0x86dd),ipv4(proto=6)", (0, 0x86dd, 0, 0)),
        ("eth(),eth_type(0x0800),arp(op=1)", (0, 0x800, 0, 0)),
        // Nor do tags that no type announces.
        ("eth(),vlan(vid=5,pcp=0)", (0, 0x5ff, 0, 0)),
        (
            "eth(),vlan(vid=5,pcp=0),encap(eth_type(0x0800))",
            (0, 0x5ff, 0, 0),
        ),
        ("eth(),eth_type(0x0800),vlan(vid=5,pcp=0)", (0, 0x800, 0, 0)),
        (
            "eth(),eth_type(0x8100),vlan(vid=5,pcp=0)",
            (0, 0, 0x1005, 0),
        ),
    ] {
        let f = flow(text);
        let tci = f.vlans[0].tci.get();
        let got = (f.packet_type.get(), f.dl_type.get(), tci, f.nw_proto);
        assert_eq!(got, want, "{text}");
    }
}

#[test]
fn a_packet_is_written_without_masks_and_with_white_space_before_numbers() {
    let packet = |text: &str| packet_from_text(text, None).map(|p| p.data().to_vec());
    let whole = "eth(),eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6),tcp(src=1,dst=2)";
    let want = packet(whole).unwrap();
    for same in [
        "ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6),tcp(src=1,dst=2)",
        "eth(),eth_type( 0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=\n6),tcp(src=\t1,dst=2)",
    ] {
        assert_eq!(packet(same).as_ref(), Ok(&want), "{same}");
    }
    assert_eq!(
        packet("eth(),ipv4(proto=6/0xf),tcp(src=1)"),
        Err("syntax error at ipv4(proto=6/0xf),tcp(src=1)".to_owned())
    );
}

#[test]
fn what_no_packet_can_have_is_told_with_the_key() {
    let ip = "eth(),eth_type(0x0800),ipv4(src=1.1.1.1,proto=6,frag=no)";
    let arp = "eth(),eth_type(0x0806),arp(sip=1.1.1.1,op=300)";
    for (text, reason, key) in [
        (
            "in_port(1), in_port(1),eth_type(0x800)",
            "duplicate in_port attribute in flow key",
            "in_port(1),in_port(1),eth_type(0x0800)",
        ),
        (
            &format!("ct_mark(1/0xf),ct_mark(2),{ip}"),
            "duplicate ct_mark attribute in flow key",
            "ct_mark(0x1),ct_mark(0x2),eth(src=00:00:00:00:00:00,dst=00:00:00:00:00:00),eth_type(0x0800),\
             ipv4(src=1.1.1.1,dst=0.0.0.0,proto=6,tos=0,ttl=0,frag=no)",
        ),
        (
            "in_port(1),tunnel(tun_id=0x1,src=1.1.1.1,dst=2.2.2.2),eth_type(0x1234)",
            "tunnel options missing TTL",
            "in_port(1),tunnel(tun_id=0x1,src=1.1.1.1,dst=2.2.2.2,flags(key)),eth_type(0x1234)",
        ),
        (
            "eth_type(0x8100),vlan(vid=5,cfi=0),encap(eth_type(0x1234))",
            "OVS_KEY_ATTR_VLAN 0x0005 is nonzero but CFI bit is not set",
            "eth_type(0x8100),vlan(vid=5,pcp=0,cfi=0),encap(eth_type(0x1234))",
        ),
        (
            "in_port(1),eth_type(1)",
            "invalid Ethertype 1 in flow key",
            "in_port(1),eth_type(0x0001)",
        ),
        (
            arp,
            "unsupported ARP opcode 300 in flow key",
            "eth(src=00:00:00:00:00:00,dst=00:00:00:00:00:00),eth_type(0x0806),arp(sip=1.1.1.1,op=300)",
        ),
    ] {
        let want = format!("{reason}; the flow key in error is: {key}");
        let parsed = parse_key(text, None).unwrap();
        assert_eq!(parsed.fit(), Err(Misfit::Wrong(want.clone())), "{text}");
        assert_eq!(parsed.into_flow().unwrap_err(), want);
        if !text.contains('/') {
            assert_eq!(packet_from_text(text, None).map(|_| ()), Err(want));
        }
    }
    for (text, misfit) in [
        ("eth_type(0x0800)", Misfit::TooLittle),
        ("eth(),eth_type(0x8100),vlan(vid=1)", Misfit::TooLittle),
        ("eth(),eth_type(0x1234),ipv4()", Misfit::TooMuch),
        ("eth(),vlan(vid=1),encap(eth_type(0x1234))", Misfit::TooMuch),
    ] {
        assert_eq!(parse_key(text, None).unwrap().fit(), Err(misfit), "{text}");
    }
}

#[test]
fn a_key_repeats_neighbour_discovery_whole() {
    let ip = "eth_type(0x86dd),ipv6(src=::1,dst=::2,label=0,proto=58,tclass=0,hlimit=0,frag=no)";
    let icmp = "icmpv6(type=135,code=0)";
    let key = parse_key(
        &format!("{ip},{icmp},nd(sll=00:00:00:00:00:01/ff:ff:ff:ff:ff:00),nd_ext()"),
        None,
    );
    let want = format!(
        "{ip},{icmp},nd(target=::,sll=00:00:00:00:00:01,tll=00:00:00:00:00:00),\
         nd_ext(nd_reserved=0x0,nd_options_type=0)"
    );
    assert_eq!(key.unwrap().written(), want);
}

#[test]
fn words_of_a_mask_are_counted_as_open_vswitch_keeps_them() {
    for (addresses, low) in [
        ("ipv6_src=::1,ipv6_dst=::2", 7),
        ("ipv6_dst=::2", 5),
        ("ipv6_src=::1,ipv6_dst=::2/::", 4),
        ("ipv6_dst=2000::2/ffff::", 3),
        ("ipv6_src=::1/::ffff:ffff,ipv6_dst=::2/::ffff:ffff", 4),
        ("src=1.1.1.1,dst=2.2.2.2", 4),
        ("dst=2.2.2.2", 3),
    ] {
        let key =
            format!("tunnel({addresses},ttl=64,flags(key)),in_port(1),eth(),eth_type(0x1234)");
        let m = parse_key(&key, None).unwrap().into_match().unwrap();
        assert_eq!(miniflow_bits(&m), (low, 2), "{key}");
    }
}

#[test]
fn a_tunnel_identifier_in_a_key_sets_the_key_flag() {
    let text = "recirc_id(0),tunnel(tun_id=0x0,src=1.1.1.1,dst=2.2.2.2,ttl=64),in_port(1),eth(),eth_type(0x1234)";
    let got = key(text, false).unwrap();
    let tunnel = "tunnel(tun_id=0x0,src=1.1.1.1,dst=2.2.2.2,ttl=64,flags(+key))";
    assert!(got.contains(tunnel), "{got}");
}

#[test]
fn tcp_flags_without_a_name_are_told_by_their_value() {
    let mut out = String::new();
    format_tcp_flags_short(&mut out, 0xfff);
    assert_eq!(out, "SFPRU.ECN[200][400][800]");
}

#[test]
fn statistics_print_in_milliseconds() {
    let base = test_instant();
    let mut stats = FlowStats {
        n_packets: 1,
        n_bytes: 42,
        used: Some(base),
        tcp_flags: 0x12,
    };
    let mut out = String::new();
    format_flow_stats(
        &mut out,
        &stats,
        base + std::time::Duration::from_millis(1500),
    );
    assert_eq!(out, "packets:1, bytes:42, used:1.500s, flags:S.");
    stats = FlowStats::default();
    out.clear();
    format_flow_stats(&mut out, &stats, base);
    assert_eq!(out, "packets:0, bytes:0, used:never");
}

/// Some instant; tests may read no clock.
fn test_instant() -> Instant {
    #[allow(clippy::disallowed_methods)]
    Instant::now()
}

proptest::proptest! {
    #[test]
    fn junk_is_refused_and_never_fatal(parts in proptest::collection::vec(proptest::sample::select(&[
        "in_port(", "1", ")", ",", "(", "/", "0x", "ffffffffffffffffffff", "eth(", "src=", "dst=", "tunnel(",
        "geneve({", "class=1,type=2,len=124,", "0xffffffffff", "}", "mpls(", "label=1", "bos=", "vlan(", "encap(",
        "eth_type(0x8100)", "flags(", "+df-", "csum|", "nsh(", "spi=0xffffff", "ct_label(", "tcp_flags(", "é", " ",
        "ufid:", "clone(", "sample(sample=", "50.5%,actions(", "userspace(pid=1,", "userdata(0", "set(", "ct(", "nat(",
        "src=[::1]:", "push_nsh(", "md2=0x", "tnl_push(tnl_port(1),header(size=50,type=4,", "ipv4(", "trunc(", "-1",
    ][..]), 0..40)) {
        let text = parts.concat();
        if let Ok(key) = parse_key(&text, None) {
            let mut out = String::new();
            format_match(&mut out, &key.flow, Some(&key.wc), None, true);
            _ = key.into_match();
        }
        if let Ok(actions) = parse_actions(&text, None) {
            let mut out = String::new();
            format_actions(&mut out, &actions, None);
            // What is printed can be read again.
            proptest::prop_assert!(parse_actions(&out, None).is_ok(), "{out}");
        }
    }
}

//! Bytes as Open vSwitch's own programs send and read them.

use ferrovs_openflow::error::OfpErr;
use ferrovs_openflow::flow::FlowModCommand;
use ferrovs_openflow::group::{GroupDesc, GroupProps, GroupStats, GroupType};
use ferrovs_openflow::legacy;
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::switch::{CtFlush, CtTuple};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::flow::parse_flow_mod;
use ferrovs_openflow::text::print::{Print, format_entries, format_message, hex_dump};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version};
use ferrovs_packet::flow::Match;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    digits
        .chunks(2)
        .map(|d| digit(d[0]) << 4 | digit(d[1]))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn show(bytes: &[u8], verbosity: u8) -> String {
    let tun = Tun::auto();
    let mut out = String::new();
    let names = Names::none(&tun);
    format_message(bytes, Print { names, verbosity }, &mut out);
    out
}

/// The message is read as `body` in `version`, and written as it is.
fn same(wire: &str, version: Version, body: &Message) {
    let (wire, tun) = (bytes(wire), Tun::none());
    let xid = u32::from_be_bytes([wire[4], wire[5], wire[6], wire[7]]);
    let msg = Msg::new(version, xid, body.clone());
    assert_eq!(hex(&msg.to_bytes(&tun)), hex(&wire));
    assert_eq!(Msg::decode(&wire, &tun), Ok(msg));
}

fn ct_flush(f: CtFlush) -> Message {
    Message::CtFlush(Box::new(f))
}

#[test]
fn connection_tracking_flushes_pad_their_properties() {
    let ip = |s: &str| Some(s.parse().unwrap());
    let orig = CtTuple {
        src: ip("10.1.1.1"),
        dst: ip("10.1.1.2"),
        src_port: 1,
        dst_port: 2,
        icmp_id: 1,
        icmp_type: 2,
        ..Default::default()
    };
    let tcp = CtFlush {
        zone: Some(5),
        ip_proto: 6,
        orig,
        ..Default::default()
    };
    same(
        "01040068000000020000232000000020060000000000000000000048000000000000001400000000000000000000ffff0a0101010000\
         00000001001400000000000000000000ffff0a0101020000000000020008000100000003000800020000000200080005\
         0000",
        Version::V10,
        &ct_flush(tcp),
    );
    let orig = CtTuple {
        src: ip("::1"),
        src_port: 9,
        dst_port: 0x0403,
        icmp_id: 9,
        icmp_type: 3,
        icmp_code: 4,
        ..Default::default()
    };
    let icmp6 = CtFlush {
        ip_proto: 58,
        orig,
        mark: 5,
        mark_mask: u32::MAX,
        ..Default::default()
    };
    same(
        "010400780000000200002320000000203a0000000000000000000038000000000000001400000000000000000000000000000001\
         0000000000040008000900000005000503000000000600050400000000010020000000000004000800000000000500050000\
         000000060005000000000003000800000005",
        Version::V10,
        &ct_flush(icmp6),
    );
    // The length may also leave the padding out.
    let short = bytes("0404002000000007000023200000002006000000000000000002000600050000");
    let read = Msg::decode(&short, &Tun::none()).unwrap();
    assert!(matches!(read.body, Message::CtFlush(f) if f.zone == Some(5)));
}

#[test]
fn niciras_group_statistics_have_a_duration() {
    let groups = vec![GroupStats {
        group_id: 9,
        ref_count: 2,
        packet_count: 3,
        byte_count: 4,
        duration_sec: 5,
        duration_nsec: 6_000_000,
        buckets: Vec::new(),
    }];
    let body = Message::GroupStatsReply {
        groups,
        more: false,
    };
    let wire = "0111004000000007ffff000000002320000000070000000000280000000000090000000200000000\
                00000000000000030000000000000004 00000005 005b8d80";
    same(wire, Version::V10, &body);
    let text = " group_id=9,duration=5.006s,ref_count=2,packet_count=3,byte_count=4";
    assert_eq!(
        show(&bytes(wire), 2),
        format!("NXST_GROUP reply (xid=0x7):\n{text}\n")
    );
}

#[test]
fn a_packet_type_stands_for_the_ethertype() {
    let tun = Tun::auto();
    let names = Names::none(&tun);
    for text in [
        "packet_type=(1,0x800),nw_dst=10.9.8.7",
        "packet_type=(1,0x800),nw_dst=10.9.8.7,nw_proto=6,tp_dst=80",
        "packet_type=(1,0x806),arp_op=1",
        "packet_type=(1,0x86dd),nw_proto=58,icmp_type=135,nd_target=::1",
        "packet_type=(1,0x8847),mpls_label=5",
        "packet_type=(1,0x894f),nsh_spi=0x5",
    ] {
        let mut usable = Protocol::all();
        let flow = format!("{text} actions=drop");
        let fm = parse_flow_mod(&flow, FlowModCommand::Add, &names, &mut usable).unwrap();
        for version in [Version::V13, Version::V15] {
            let body = Message::FlowMod {
                flow_mod: Box::new(fm.clone()),
                nxm: false,
            };
            let wire = Msg::new(version, 1, body).to_bytes(&tun);
            let shown = show(&wire, 2);
            assert!(shown.ends_with(&format!("ADD {flow}\n")), "{shown}");
        }
    }
}

#[test]
fn selection_methods_are_known_by_both_vendor_numbers() {
    let wire = |vendor: &str| {
        bytes(&format!(
            "0613004800000007000700000000000000380100000000010000000000000000 ffff0028{vendor}0000000100000000\
             68617368000000000000000000000000 0000000000000005"
        ))
    };
    let groups = vec![GroupDesc {
        type_: GroupType::Select,
        group_id: 1,
        buckets: Vec::new(),
        props: GroupProps {
            selection_method: "hash".to_owned(),
            selection_method_param: 5,
            fields: Vec::new(),
        },
    }];
    for vendor in ["0000154d", "00001540"] {
        let read = Msg::decode(&wire(vendor), &Tun::none()).unwrap();
        let want = Message::GroupDescReply {
            groups: groups.clone(),
            more: false,
        };
        assert_eq!(read.body, want, "{vendor}");
    }
    let error = |vendor: &str| Msg::decode(&wire(vendor), &Tun::none()).map(|_| ());
    assert_eq!(error("00000001"), Err(OfpErr::OFPBPC_BAD_EXPERIMENTER));
}

#[test]
fn texts_are_open_vswitchs() {
    let golden = include_str!("texts.txt");
    let mut cases = 0;
    for case in golden.split("> ").skip(1) {
        let (message, text) = case.split_once('\n').unwrap();
        assert_eq!(show(&bytes(message), 2), text, "{message}");
        cases += 1;
    }
    assert!(cases > 200, "{cases} texts");
}

#[test]
fn verbosity_shows_matches_and_messages_as_they_are() {
    let nxm = bytes(
        "0104004000000007000023200000000d 0000000000000000 0000 0000 0000 0064 ffffffff ffff 0000 000e 000000000000 \
         000006020800 00000e040a010105 0000",
    );
    let want = "NXT_FLOW_MOD (xid=0x7): ADD NXM_OF_ETH_TYPE(0800), NXM_OF_IP_SRC(0a010105) pri:100 actions=drop\n";
    assert_eq!(show(&nxm, 3), want);
    let plain = "NXT_FLOW_MOD (xid=0x7): ADD priority=100,ip,nw_src=10.1.1.5 actions=drop\n";
    assert_eq!(show(&nxm, 2), plain);
    let mut dump = String::new();
    hex_dump(&nxm, true, &mut dump);
    assert_eq!(show(&nxm, 5), format!("{want}{dump}"));
    let mut short = String::new();
    hex_dump(&bytes("0500000800000001"), false, &mut short);
    assert_eq!(short, "00000000  05 00 00 08 00 00 00 01\n");
}

#[test]
fn ends_of_nat_ranges_need_their_beginnings() {
    // What is there: ends of the range of IPv4, of IPv6 and of ports, in this order and in pairs.
    let parts = [
        "01010101",
        "01010109",
        "00000000000000000000000000000001",
        "00000000000000000000000000000005",
        "0005",
        "0009",
    ];
    let sound: Vec<u16> = (0..64)
        .filter(|present| {
            let there = parts.iter().enumerate();
            let there = there.filter(|(i, _)| present & 1 << i != 0);
            let range: String = there.map(|(_, part)| *part).collect();
            let size = 16 + range.len() / 2;
            let (pad, nat_size) = (size.next_multiple_of(8) - size, size.next_multiple_of(8));
            let nat = format!(
                "ffff{nat_size:04x}00002320002400000001{present:04x}{range}{}",
                "00".repeat(pad)
            );
            let ct_size = 24 + nat_size;
            let ct = format!("ffff{ct_size:04x}00002320002300010000000000 00ff0000000000{nat}");
            let ct = ct.replace(' ', "");
            // A packet-out of OpenFlow 1.3.
            let message = format!(
                "040d{:04x}00000001ffffffffffffffff{ct_size:04x}000000000000{ct}",
                24 + ct_size
            );
            !show(&bytes(&message), 0).contains("OFPBAC_BAD_ARGUMENT")
        })
        .collect();
    assert_eq!(sound, [0, 1, 3, 4, 12, 17, 19, 20, 28, 49, 51, 52, 60]);
}

/// The match of a flow mod of OpenFlow 1.3, without its padding.
fn match_13(text: &str) -> String {
    let tun = Tun::auto();
    let mut usable = Protocol::all();
    let flow = format!("{text} actions=drop");
    let add = FlowModCommand::Add;
    let flow_mod = Box::new(parse_flow_mod(&flow, add, &Names::none(&tun), &mut usable).unwrap());
    let body = Message::FlowMod {
        flow_mod,
        nxm: false,
    };
    let wire = Msg::new(Version::V13, 1, body).to_bytes(&tun);
    let size = usize::from(u16::from_be_bytes([wire[50], wire[51]]));
    hex(&wire[52..48 + size])
}

#[test]
fn what_only_frames_have_spares_their_packet_type() {
    for (text, want) in [
        ("eth", "8000580400000000"),
        ("dl_vlan=5", "80000c021005"),
        ("vlan_tci=0x1000/0x1000", "80000d0410001000"),
        ("vlan_tci=0", "80000c020000"),
        ("dl_vlan_pcp=3", "80000d041000100080000e0103"),
        ("dl_src=01:02:03:04:05:06", "80000806010203040506"),
    ] {
        assert_eq!(match_13(text), want, "{text}");
    }
}

#[test]
fn an_untagged_packet_of_openflow_10_leaves_its_priority_out_of_the_wildcards() {
    let mut m = Match::default();
    m.wc.masks.vlans[0].tci = 0xffff.into();
    let mut wire = Vec::new();
    legacy::match_to_ofp10(&m, &mut wire);
    assert_eq!(hex(&wire[..4]), "002820fd", "{}", hex(&wire));
    assert_eq!(hex(&wire[18..21]), "ffff00");
    assert_eq!(legacy::match_from_ofp10(&wire), Ok(m));
}

#[test]
fn entries_whose_values_exceed_their_masks_end_the_text() {
    let say = |wire: &str| {
        let mut out = String::new();
        format_entries(&bytes(wire), &mut out);
        out
    };
    assert_eq!(say("80000d0400011000 80000e0103"), "<5 invalid bytes>");
    assert_eq!(say("0000090400011000"), "");
    assert_eq!(
        say("000006020800 0000090400011000 000006020800"),
        "NXM_OF_ETH_TYPE(0800), <6 invalid bytes>"
    );
}

#[test]
fn deleting_without_a_table_means_the_first_in_version_11() {
    let tun = Tun::auto();
    let mut usable = Protocol::all();
    let delete = FlowModCommand::Delete;
    let fm = parse_flow_mod("in_port=1", delete, &Names::none(&tun), &mut usable).unwrap();
    for (version, table) in [
        (Version::V11, 0),
        (Version::V12, 0xff),
        (Version::V15, 0xff),
    ] {
        let body = Message::FlowMod {
            flow_mod: Box::new(fm.clone()),
            nxm: false,
        };
        let wire = Msg::new(version, 1, body).to_bytes(&tun);
        assert_eq!(wire[24], table, "{version:?}");
    }
}

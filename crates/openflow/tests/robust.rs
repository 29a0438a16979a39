//! Bytes and text from anybody: never a panic, and what is read comes back the same.

use ferrovs_openflow::action::{decode, encode, instructions};
use ferrovs_openflow::codec::decode_hello;
use ferrovs_openflow::flow::FlowModCommand;
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::raw::{self, Carrier, RAWS};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::flow::parse_flow_mod;
use ferrovs_openflow::text::print::{Print, format_message};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version};
use proptest::prelude::*;

fn show(bytes: &[u8]) -> String {
    show_at(bytes, 2)
}

fn show_at(bytes: &[u8], verbosity: u8) -> String {
    let tun = Tun::auto();
    let mut out = String::new();
    let p = Print {
        names: Names::none(&tun),
        verbosity,
    };
    format_message(bytes, p, &mut out);
    out
}

/// What must hold of the text of any bytes.
fn check_text(bytes: &[u8]) {
    let text = show(bytes);
    assert!(text.ends_with('\n'), "{text:?}");
    // A message that nothing is said of comes as a dump, and only then.
    let announced = bytes
        .get(2..4)
        .map(|b| usize::from(u16::from_be_bytes([b[0], b[1]])));
    let whole = announced == Some(bytes.len()) && bytes.len() >= 8;
    assert!(whole || text.contains("***") || text.contains("too short") || bytes.is_empty());
    if text.contains("***decode error") || !whole && !bytes.is_empty() {
        let first: Vec<String> = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
        assert!(
            text.contains(&format!("\n00000000  {}", first.join(" "))),
            "{text}"
        );
    }
    // More verbosity says no less, at last the whole message.
    for verbosity in [0, 1, 3, 4] {
        show_at(bytes, verbosity);
    }
    let dump = show_at(bytes, 5);
    assert!(bytes.is_empty() || dump.contains("\n00000000  "), "{dump}");
}

/// What must hold of a message that can be read: written again it is read as the same, and shown as the same.
fn check_message(bytes: &[u8]) {
    let tun = Tun::auto();
    let whole =
        bytes.len() >= 8 && usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) == bytes.len();
    let m = match Msg::decode(bytes, &tun) {
        Ok(m) if whole => m,
        _ => return,
    };
    let again = m.to_bytes(&tun);
    // Not every version that is understood is also spoken, and a long list becomes several messages.
    if again.is_empty() || again.len() > 65535 {
        return;
    }
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let read = Msg::decode(&again, &tun).unwrap_or_else(|e| panic!("{hex} {}: {e}", show(&again)));
    // Bits without a meaning and defaults that were spelled out fall away the first time, nothing later.
    assert_eq!(read.to_bytes(&tun), again, "{hex}");
    assert_eq!(show(&again), show(&read.to_bytes(&tun)));
    let kind = |b: &[u8]| raw::parse(b).map(|p| p.raw.kind);
    assert_eq!(kind(bytes), kind(&again), "{hex}");
}

/// A message with a valid header of any encoding, and any body.
fn message() -> impl Strategy<Value = Vec<u8>> {
    (
        0..RAWS.len(),
        1u8..=6,
        prop::collection::vec(any::<u8>(), 0..200),
        any::<bool>(),
    )
        .prop_map(|(i, version, body, fit)| {
            let raw = &RAWS[i];
            let version = Version::from_wire(version).unwrap_or(Version::V10);
            let (request, reply) = raw::multipart_types(version);
            let mut m = vec![version.wire(), 0, 0, 0, 0, 0, 0, 1];
            let vendor = |v: u32, n: u32| [v.to_be_bytes(), n.to_be_bytes()].concat();
            let pad = if version == Version::V10 { 0 } else { 4 };
            match raw.carrier {
                Carrier::Std => m[1] = raw.number as u8,
                Carrier::Nx => {
                    m[1] = 4;
                    m.extend(vendor(0x2320, raw.number));
                }
                Carrier::Onf => {
                    m[1] = 4;
                    m.extend(vendor(0x4f4e_4600, raw.number));
                }
                Carrier::Mp { reply: r } => {
                    m[1] = if r { reply } else { request };
                    m.extend((raw.number as u16).to_be_bytes());
                    m.extend(vec![0; 2 + pad]);
                }
                Carrier::NxMp { reply: r } | Carrier::OnfMp { reply: r } => {
                    m[1] = if r { reply } else { request };
                    m.extend([0xff, 0xff, 0, 0]);
                    m.extend(vec![0; pad]);
                    let onf = matches!(raw.carrier, Carrier::OnfMp { .. });
                    m.extend(vendor(if onf { 0x4f4e_4600 } else { 0x2320 }, raw.number));
                    m.extend(vec![0; 4 - pad]);
                }
            }
            let mut body = body;
            if fit {
                // A length that the encoding accepts, so that the body is looked at.
                let unit = raw.extra_unit.max(1);
                let n = if raw.extra_unit == 0 {
                    raw.min_body
                } else {
                    raw.min_body + body.len() / unit * unit
                };
                body.resize(n, 0);
            }
            m.extend(body);
            let len = (m.len() as u16).to_be_bytes();
            m[2..4].copy_from_slice(&len);
            m
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_bytes_are_shown_whatever_they_are(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Msg::decode(&bytes, &Tun::auto());
        let _ = Msg::decode(&bytes, &Tun::none());
        let _ = decode_hello(&bytes);
        check_text(&bytes);
        check_message(&bytes);
    }

    #[test]
    fn any_message_that_is_read_can_be_written_and_read_again(bytes in message()) {
        check_text(&bytes);
        check_message(&bytes);
    }

    #[test]
    fn any_actions_are_read_without_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        subtype in 0u16..60,
        version in 1u8..=6,
    ) {
        let version = Version::from_wire(version).unwrap_or(Version::V10);
        let tun = Tun::auto();
        let mut nx = vec![0xff, 0xff, 0, 0, 0, 0, 0x23, 0x20];
        nx.extend(subtype.to_be_bytes());
        nx.extend(&bytes);
        nx.resize(nx.len().next_multiple_of(8), 0);
        let len = (nx.len() as u16).to_be_bytes();
        nx[2..4].copy_from_slice(&len);
        if let Ok(list) = decode::actions(&nx, version, &tun) {
            let mut out = Vec::new();
            encode::actions(&list, version, &tun, &mut out);
        }
        let _ = instructions::decode(&bytes, version, &tun);
    }

    #[test]
    fn any_text_is_read_without_panic(text in "[ -~]{0,80}", tail in "[a-z_0-9=:,()/>\\[\\].-]{0,60}") {
        let tun = Tun::auto();
        let mut usable = Protocol::all();
        let _ = parse_flow_mod(&text, FlowModCommand::Add, &Names::none(&tun), &mut usable);
        let flow = format!("ip,actions={tail}");
        let _ = parse_flow_mod(&flow, FlowModCommand::Add, &Names::none(&tun), &mut usable);
        let _ = parse_flow_mod(&tail, FlowModCommand::Delete, &Names::none(&tun), &mut usable);
    }
}

#[test]
fn flows_read_from_text_come_back_from_every_format_that_can_carry_them() {
    let flows = [
        "in_port=1 actions=output:2",
        "priority=5,tcp,nw_src=10.0.0.0/8,tp_dst=80 actions=drop",
        "icmp6,icmp_type=135,nd_target=fe80::1,nd_sll=00:01:02:03:04:05 actions=CONTROLLER:65535",
        "reg0=0x1,reg1=0x2/0xf,tun_id=0x3,metadata=0x5/0xf actions=load:0x5->NXM_NX_REG0[0..3]",
        "ct_state=+est+trk,ip actions=ct(commit,table=3,zone=NXM_NX_REG0[0..15],nat(src=10.0.0.1-10.0.0.5:100-200,random))",
        "dl_vlan=5,dl_vlan_pcp=3 actions=resubmit(,2),resubmit(1,3)",
        "actions=learn(table=1,hard_timeout=10,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])",
        "ip actions=conjunction(1,2/3),conjunction(2,1/2)",
        "actions=multipath(symmetric_l4,50,modulo_n,1,0,NXM_NX_REG0[]),note:00.01.02.03.04.05,exit",
        "actions=controller(reason=no_match,max_len=100,id=5,userdata=01.02.03,pause)",
        "actions=bundle(eth_src,50,hrw,ofport,members:1,2),check_pkt_larger(1500)->NXM_NX_REG0[0]",
    ];
    for text in flows {
        let tun = Tun::auto();
        let mut usable = Protocol::all();
        let fm = parse_flow_mod(text, FlowModCommand::Add, &Names::none(&tun), &mut usable)
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        // 1.5 writes loads as set-field and has its own text for them.
        for p in (usable - Protocol::OF15_OXM).each() {
            let body = Message::FlowMod {
                flow_mod: Box::new(fm.clone()),
                nxm: p.is_nxm(),
            };
            let bytes = Msg::new(p.version(), 1, body).to_bytes(&tun);
            let shown = show(&bytes);
            assert!(shown.trim_end().ends_with(text), "{text}\n{shown}");
            let read = Msg::decode(&bytes, &tun).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(read.to_bytes(&tun), bytes, "{text}");
        }
    }
}

#[test]
fn a_long_reply_is_split_into_parts_that_say_more() {
    let tun = Tun::none();
    let ports = vec![ferrovs_openflow::port::PortStats::default(); 2000];
    let body = Message::PortStatsReply { ports, more: false };
    let bytes = Msg::new(Version::V13, 9, body).to_bytes(&tun);
    let mut rest = &bytes[..];
    let (mut total, mut parts) = (0, 0);
    while !rest.is_empty() {
        let len = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        let m = Msg::decode(&rest[..len], &tun).unwrap();
        let Message::PortStatsReply { ports, more } = m.body else {
            panic!()
        };
        rest = &rest[len..];
        assert_eq!(more, !rest.is_empty());
        total += ports.len();
        parts += 1;
    }
    assert_eq!((total, parts), (2000, 4));
}

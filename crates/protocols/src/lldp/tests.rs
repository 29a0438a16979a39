use super::*;

/// An instant to count from.
fn start() -> Instant {
    // No test reads the clock: it only needs some instant.
    #[allow(clippy::disallowed_methods)]
    Instant::now()
}

fn on(now: Instant) -> Lldp {
    let mut lldp = Lldp::new("p1");
    lldp.set_mac(MacAddr([0xaa, 0x55, 0xaa, 0x55, 0, 6]));
    lldp.set_identity(&Identity {
        system_name: None,
        system_description: "openvswitch 4.0.0".into(),
    });
    lldp.set_on(true, now);
    lldp
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

const HEADER: &str = "0180c200000e 001122334455 88cc";
const CHASSIS: &str = "0207 04 001122334455";
const PORT: &str = "0403 05 7031";
const TTL: &str = "0602 0078";
const ELEMENT: &str = "fe32 00040d0b 0000000000000000000000000000000000000000000000000000000000000000 \
                       0c0fff77 001122334455 51234567";

fn frame(tlvs: &[&str]) -> Vec<u8> {
    bytes(&format!("{HEADER} {}", tlvs.concat()))
}

/// A TLV with mappings: status, VLAN and I-SID.
fn mappings(words: &[(u8, u16, u32)]) -> String {
    let words: String = (words.iter())
        .map(|(status, vlan, isid)| format!("{status:x}{vlan:03x}{isid:06x}"))
        .collect();
    let header = 127 << 9 | (36 + words.len() / 2);
    format!("{header:04x} 00040d0c {} {words}", "00".repeat(32))
}

fn events(lldp: &mut Lldp) -> Vec<Event> {
    std::iter::from_fn(|| lldp.poll_event()).collect()
}

#[test]
fn a_frame_is_what_open_vswitch_sends() {
    let now = start();
    let mut lldp = on(now);
    let want = "0180c200000e aa55aa550006 88cc 020704aa55aa550006 0403057031 06020078 \
         0c116f70656e7673776974636820342e302e30 0e0400040004 fe3200040d0b \
         0000000000000000000000000000000000000000000000000000000000000000 \
         38000000aa55aa550006000000000000";
    assert_eq!(lldp.poll_transmit(now + TX_INTERVAL), Some(bytes(want)));
    lldp.set_identity(&Identity {
        system_name: Some("sys".into()),
        system_description: "adesc".into(),
    });
    assert!(lldp.add_mapping(100, 10) && lldp.add_mapping(200, 20));
    let want = "0180c200000e aa55aa550006 88cc 020704aa55aa550006 0403057031 06020078 0a03737973 \
         0c056164657363 0e0400040004 fe3200040d0b \
         0000000000000000000000000000000000000000000000000000000000000000 \
         38000000aa55aa55000600000000 fe2e00040d0c \
         0000000000000000000000000000000000000000000000000000000000000000 000a000064 00140000c8 0000";
    assert_eq!(lldp.poll_transmit(now + TX_INTERVAL * 2), Some(bytes(want)));
}

#[test]
fn frames_go_out_at_the_interval_while_it_is_on() {
    let now = start();
    let at = |ms| now + Duration::from_millis(ms);
    let mut lldp = on(now);
    assert_eq!(lldp.poll_transmit(at(4999)), None);
    let mut sent = Vec::new();
    for ms in (0..60_001).step_by(250) {
        while lldp.poll_transmit(at(ms)).is_some() {
            sent.push(ms);
        }
    }
    assert_eq!(sent, (1..=12).map(|i| i * 5000).collect::<Vec<u64>>());
    // A driver that was away for long sends one frame, not all that it missed.
    assert!(lldp.poll_transmit(at(100_000)).is_some());
    assert_eq!(lldp.poll_transmit(at(100_000)), None);
    assert_eq!(lldp.poll_timeout(), Some(at(105_000)));
    lldp.set_on(false, at(101_000));
    assert_eq!(
        (lldp.poll_timeout(), lldp.poll_transmit(at(200_000))),
        (None, None)
    );
    lldp.set_on(true, at(200_000));
    assert_eq!(
        (lldp.poll_timeout(), lldp.counters().tx),
        (Some(at(205_000)), 13)
    );
}

#[test]
fn a_neighbour_is_what_it_said_last() {
    let now = start();
    let mut lldp = on(now);
    lldp.input(
        now,
        &frame(&[CHASSIS, PORT, TTL, "0c03626172", ELEMENT, "0000"]),
    );
    let other = "0207 04 001122334466";
    lldp.input(now, &frame(&[other, PORT, TTL, "0000"]));
    // Another port of the first: its chassis has no description any more.
    lldp.input(now, &frame(&[CHASSIS, "0403057032", TTL, "0000"]));
    let first = &lldp.neighbours()[0];
    let element = first.element.unwrap();
    assert_eq!((element.kind, element.management_vlan), (3, 0xfff));
    assert_eq!(
        (element.connection, element.smlt, element.mlt),
        (2, 0x123, [0x45, 0x67])
    );
    assert_eq!(first.system_description, None);
    assert_eq!((lldp.counters().rx, lldp.counters().insert), (3, 3));
    // What it leaves out now it has no more, and who spoke last is last.
    lldp.input(now, &frame(&[CHASSIS, PORT, "0602 0000", "0000"]));
    let last = lldp.neighbours().last().unwrap();
    assert_eq!(
        (&last.chassis, last.element),
        (&bytes("04001122334455"), None)
    );
    assert_eq!((lldp.neighbours().len(), lldp.counters().insert), (3, 3));
}

#[test]
fn a_server_decides_about_mappings() {
    let now = start();
    let mut lldp = on(now);
    assert!(lldp.add_mapping(1, 10) && lldp.add_mapping(2, 20));
    let told = mappings(&[(2, 10, 1), (3, 30, 3)]);
    lldp.input(now, &frame(&[CHASSIS, PORT, TTL, &told, "0000"]));
    let names: Vec<_> = (lldp.mappings().iter())
        .map(|m| (m.isid, status_name(m.status)))
        .collect();
    assert_eq!(names, [(1, "Active"), (2, "Pending")]);
    let heard = events(&mut lldp);
    assert!(
        matches!(heard[..], [Event::Heard(_), Event::Set(_), Event::Heard(_)]),
        "{heard:?}"
    );
    // One that is wanted twice keeps its VLAN and its status.
    assert!(!lldp.add_mapping(1, 11));
    let removed = lldp.remove_mapping(2).map(|m| m.vlan);
    assert_eq!((removed, lldp.remove_mapping(2)), (Some(20), None));
    assert_eq!(
        (lldp.mappings()[0].vlan, lldp.mappings()[0].status),
        (10, Some(2))
    );
}

#[test]
fn what_neighbours_make_up_is_remembered_up_to_a_bound() {
    let now = start();
    let mut lldp = on(now);
    assert!(lldp.add_mapping(0xfff_fff, 10));
    let many: Vec<_> = (0..90).map(|isid| (2, 10, isid)).collect();
    let many = mappings(&many);
    for n in 0..1100 {
        let chassis = format!("0207 04 00112233 {n:04x}");
        lldp.input(now, &frame(&[&chassis, PORT, TTL, &many, "0000"]));
        let heard = events(&mut lldp).len();
        assert_eq!(heard, (90 * (n + 1)).min(MAX_HEARD));
    }
    assert_eq!(lldp.neighbours().len(), MAX_NEIGHBOURS);
    // One that is known already keeps its place.
    let known = format!("0207 04 00112233 {:04x}", 0);
    lldp.input(now, &frame(&[&known, PORT, TTL, &many, "0000"]));
    assert_eq!(events(&mut lldp).len(), MAX_HEARD);
}

#[test]
fn malformed_frames_are_discarded_with_a_reason() {
    let short = ["02", "0200", "020000", "020700"];
    let too_short = short.map(|tlvs| (vec![tlvs], Malformed::TooShort));
    let head = [CHASSIS, PORT, TTL];
    let with = |tlvs: &[&'static str]| [&head, tlvs].concat();
    let cases = [
        (vec!["02000000"], Malformed::Id),
        (vec!["02070400"], Malformed::TlvBeyondFrame),
        (vec!["020704001122334455", "04"], Malformed::TlvHeader),
        (vec![PORT, CHASSIS, TTL, "0000"], Malformed::Place(2, 1)),
        (vec![CHASSIS, TTL, PORT, "0000"], Malformed::Place(3, 2)),
        (vec![CHASSIS, PORT, "0000"], Malformed::Missing),
        (vec!["0201", CHASSIS, PORT, TTL, "0000"], Malformed::Id),
        (with(&[CHASSIS, "0000"]), Malformed::Place(1, 4)),
        (
            with(&[&["0800"; 300][..], &[TTL]].concat()),
            Malformed::Place(3, 304),
        ),
        (with(&["fe0200040000"]), Malformed::Organisation),
        (with(&["fe0400040d0b0000"]), Malformed::Element),
        (with(&["fe0400040d0c0000"]), Malformed::Mappings),
        (with(&["08ff00"]), Malformed::TlvBeyondFrame),
        (with(&["0a000e020004", "0000"]), Malformed::Capabilities),
        (with(&["0a03666f6f"]), Malformed::Missing),
        (with(&["1000", "0000"]), Malformed::Management),
        (with(&["1002 0100", "0000"]), Malformed::Management),
        (with(&["1004 02010101", "0000"]), Malformed::Management),
        (
            with(&["1007 00020000000100", "0000"]),
            Malformed::ManagementAddress,
        ),
        (
            with(&["1005 2102000000", "0000"]),
            Malformed::ManagementAddress,
        ),
        (with(&["00010000"]), Malformed::End),
    ];
    let mut lldp = on(start());
    let mut n = 0;
    for (tlvs, why) in too_short.into_iter().chain(cases) {
        lldp.input(start(), &frame(&tlvs));
        n += 1;
        assert_eq!(lldp.counters().rx_discarded, n, "{tlvs:?}");
        assert!(
            events(&mut lldp).contains(&Event::Discarded(why)),
            "{tlvs:?}: {why:?}"
        );
    }
    let odd = mappings(&[(2, 10, 1)]).replace("fe29", "fe28");
    lldp.input(start(), &frame(&[CHASSIS, PORT, TTL, &odd]));
    assert!(events(&mut lldp).contains(&Event::Discarded(Malformed::MappingsOdd)));
    assert!(lldp.neighbours().is_empty());
}

#[test]
fn what_is_odd_or_too_much_is_taken() {
    let mut lldp = on(start());
    for tlvs in [
        vec!["0c000a000e0400000000", "0000"],
        vec!["100c 050101020304020000000100", "0000"],
        vec!["100b 0501010203040200000001", "0000"],
        vec!["0000", "ffff"],
        vec![ELEMENT, "0000"],
        vec![
            "fe04 00120f01",
            "fe04 0080c201",
            "fe05 00040d0d01",
            "1200",
            "0000",
        ],
    ] {
        lldp.input(
            start(),
            &frame(&[&[CHASSIS, PORT, TTL], &tlvs[..]].concat()),
        );
        assert_eq!(lldp.counters().rx_discarded, 0, "{tlvs:?}");
    }
    assert_eq!(lldp.counters().rx_unrecognized, 4);
    let tagged = format!("0180c200000e 001122334455 8100 0005 88cc {CHASSIS}{PORT}{TTL}0000");
    lldp.input(start(), &bytes(&tagged));
    assert_eq!((lldp.counters().rx, lldp.counters().rx_discarded), (7, 0));
}

#[test]
fn what_is_too_long_for_a_tlv_is_cut_and_the_longest_is_read() {
    let now = start();
    let mut lldp = on(now);
    lldp.set_identity(&Identity {
        system_name: Some(String::new()),
        system_description: "x".repeat(600),
    });
    assert!((0..200).all(|isid| lldp.add_mapping(isid, 4095)));
    let frame = lldp.poll_transmit(now + TX_INTERVAL).unwrap();
    let mut remarks = Vec::new();
    let read = wire::decode(&frame, &mut remarks).unwrap();
    assert_eq!(read.system_description, Some(vec![b'x'; 511]));
    assert_eq!((read.mappings.len(), read.mappings[94].isid), (95, 94));
    assert!(matches!(remarks[..], [Remark::Element(_)]));
}

#[test]
fn no_beginning_of_a_frame_is_read_beyond_its_end() {
    let told = mappings(&[(2, 10, 1)]);
    let management = "100c 050101020304020000000100";
    let whole = frame(&[CHASSIS, PORT, TTL, management, ELEMENT, &told, "0000"]);
    let mut lldp = on(start());
    for len in 0..whole.len() {
        lldp.input(start(), &whole[..len]);
    }
    assert_eq!(lldp.counters().rx_discarded, whole.len() as u64);
    // Nor does a length or a type that is wrong lead there.
    for at in 0..whole.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut frame = whole.clone();
            frame[at] = byte;
            lldp.input(start(), &frame);
        }
    }
    assert_eq!(lldp.counters().rx, whole.len() as u64 * 6);
}

//! Every packet that comes into a datapath leaves it, is held, or is dropped for a reason that is told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use ferrovs_datapath::action::Action;
use ferrovs_datapath::dpif::{Dpif, Execute, Meter, MeterBand, PackedMatch, PmdId, Ufid};
use ferrovs_datapath::text::{packet_from_text, parse_actions};
use ferrovs_datapath::upcall::{Install, Upcall, UpcallHandler, UpcallKind, UpcallReply, complete};
use ferrovs_dpif_netdev::{Account, Dummy, classes};
use ferrovs_netdev::Loss;
use ferrovs_packet::buffer::{Checksum, Gso, GsoType, Offload, Packet};
use ferrovs_packet::flow::{Flow, FlowWildcards, Match};
use ferrovs_packet::types::{DpPort, MacAddr};
use ferrovs_testkit::memory::{self, Answers, device};

/// A generator that is the same for ever (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

const PUSH: &str = "tnl_push(tnl_port(4789),header(size=50,type=4,\
                    eth(dst=02:00:00:00:00:08,src=02:00:00:00:00:09,dl_type=0x0800),\
                    ipv4(src=1.1.2.88,dst=1.1.2.92,proto=17,tos=0,ttl=64,frag=0x4000),\
                    udp(src=0,dst=4789,csum=0x0),vxlan(flags=0x8000000,vni=0x1c7)),out_port(1))";

/// Recirculation identifiers that the switch knows; the last one begins again with itself.
const IDS: u64 = 3;

/// Some list of actions for packets that were recirculated as `id`.
fn actions(r: &mut Random, id: u64, depth: u64) -> String {
    let n = r.below(5);
    let mut list = Vec::new();
    for _ in 0..n {
        let inner = |r: &mut Random| match depth {
            2 => "2".to_owned(),
            _ => actions(r, id, depth + 1),
        };
        list.push(match r.below(22) {
            // Some ports do not exist, or only sometimes.
            0..5 => (1 + r.below(6)).to_string(),
            5 => format!("trunc({}),{}", 20 + r.below(60), 1 + r.below(4)),
            6 => "push_vlan(vid=5,pcp=0)".to_owned(),
            7 => "pop_vlan".to_owned(),
            8 | 20 | 21 => format!("recirc({})", (id + 1).min(IDS)),
            9 => format!("clone({})", inner(r)),
            10 => format!("sample(sample={}%,actions({}))", r.one_of(&["0.0", "50.0", "100.0"]), inner(r)),
            11 => format!("check_pkt_len(size=100,gt({}),le({}))", inner(r), inner(r)),
            12 => "meter(1)".to_owned(),
            13 => format!("ct({}),recirc({})", r.one_of(&["", "commit", "zone=3"]), (id + 1).min(IDS)),
            14 => format!("{PUSH},{}", r.one_of(&["2", "tnl_pop(4789)", "tnl_pop(2)", "99"])),
            15 => PUSH.replace("tnl_port(4789)", "tnl_port(2)"),
            16 => format!(
                "userspace(pid=0,{})",
                r.one_of(&[
                    "slow_path(action)",
                    "userdata(01)",
                    "controller(reason=1,dont_send=0,continuation=0,recirc_id=1,rule_cookie=0,controller_id=0,max_len=65535)"
                ])
            ),
            17 => "pop_nsh()".to_owned(),
            18 => "set(ipv4(ttl=9))".to_owned(),
            _ => r.one_of(&["lb_output(7)", "tnl_pop(9)", "tnl_pop(4789)", "hash(sym_l4(0))"]).to_owned(),
        });
    }
    match list.is_empty() {
        true => "drop".to_owned(),
        false => list.join(","),
    }
}

/// A switch that answers anything, and nothing now and then.
struct Any {
    random: Mutex<Random>,
    tables: Mutex<Vec<Arc<[Action]>>>,
}

impl Any {
    fn new(seed: u64) -> Any {
        let any = Any {
            random: Mutex::new(Random(seed)),
            tables: Mutex::default(),
        };
        any.change();
        any
    }

    /// Other actions from now on.
    fn change(&self) {
        let mut r = self.random.lock().unwrap();
        let mut table = |id| {
            let text = actions(&mut r, id, 0);
            parse_actions(&text, None).expect(&text).into()
        };
        *self.tables.lock().unwrap() = (0..=IDS).map(&mut table).collect();
    }
}

impl UpcallHandler for Any {
    fn upcall(&self, upcall: Upcall<'_>) -> Option<UpcallReply> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut reply = UpcallReply {
            actions: Arc::default(),
            flow_actions: None,
            install: None,
        };
        let chance = self.random.lock().unwrap().below(8);
        if chance == 0 {
            return None;
        }
        if let UpcallKind::Action { .. } = upcall.kind {
            if chance < 3 {
                reply.actions = parse_actions("3", None).unwrap().into();
            }
            return Some(reply);
        }
        let tables = self.tables.lock().unwrap();
        reply.actions = tables.get(upcall.flow.recirc_id as usize)?.clone();
        let mut wc = FlowWildcards::default();
        wc.masks.dl_dst = MacAddr::BROADCAST;
        wc.masks.dl_type = u16::MAX.into();
        complete(&mut wc);
        reply.install = (chance < 6).then(|| Install {
            ufid: Ufid(NEXT.fetch_add(1, SeqCst).into()),
            match_: Arc::new(PackedMatch::new(&Match {
                flow: *upcall.flow,
                wc,
            })),
            ticket: 1,
        });
        Some(reply)
    }

    fn installed(&self, _: Install, _: PmdId, _: bool) {}
}

/// Some frame: whole, cut short, or a fragment.
fn frame(r: &mut Random) -> Vec<u8> {
    let dst = r.below(4);
    let text = format!(
        "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:0{dst}),eth_type(0x0800),\
         ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,ttl=64,frag=no),udp(src={},dst=2)",
        r.below(3)
    );
    let mut frame = packet_from_text(&text, Some(60 + r.below(90) as usize))
        .unwrap()
        .data()
        .to_vec();
    match r.below(8) {
        0 => frame.truncate(13),
        1 => frame.truncate(20),
        // A fragment whose others never come.
        2 => frame[20] = 0x20,
        _ => {}
    }
    frame
}

/// A TCP packet that stands for several.
fn large() -> Packet {
    let text = "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),\
                ipv4(src=10.0.0.1,dst=10.0.0.2,proto=6,ttl=64,frag=no),tcp(src=1,dst=2)";
    let mut packet = packet_from_text(text, Some(54 + 2500)).unwrap();
    packet.offload = Offload {
        checksum: Checksum::Partial {
            start: 34,
            offset: 16,
        },
        gso: Some(Gso {
            kind: GsoType::Tcp4,
            size: 1000,
            hdr_len: 54,
            ecn: false,
        }),
    };
    packet
}

fn execute(dp: &Arc<dyn Dpif>, packet: Packet, text: &str) {
    let flow = Flow {
        in_port: 1,
        ..Flow::default()
    };
    dp.execute(Execute {
        packet,
        flow: Box::new(flow),
        actions: parse_actions(text, None).unwrap().into(),
        mtu: 0,
        needs_help: false,
    })
    .unwrap();
}

fn meter(dp: &Arc<dyn Dpif>, rate: u32) {
    let band = MeterBand {
        rate,
        burst_size: 5,
        ..MeterBand::default()
    };
    let meter = Meter {
        flags: 2 | 4,
        bands: vec![band],
        ..Meter::default()
    };
    let now = ferrovs_runtime::clock::now();
    dp.meters().unwrap().set(1, &meter, now).unwrap();
}

#[test]
fn every_packet_that_comes_is_sent_taken_held_or_dropped_for_a_reason() {
    let mut reasons = BTreeSet::new();
    for seed in 1..=12u64 {
        let mut r = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let name = format!("dp-any{seed}");
        // The numbers of a dummy's ports are in their names.
        let letter = char::from(b'a' + seed as u8);
        let port = |n: u64| format!("any{letter}{n}");
        let ports: Vec<String> = (1..=4).map(port).collect();
        let kinds = ["memory", "memory", "memory-pmd", "memory"];
        let mut list: Vec<_> = ports.iter().map(String::as_str).zip(kinds).collect();
        list.push(("vxlan_sys_4789", "vxlan"));
        let dp = memory::datapath(&classes(Dummy::Normal), &name, &list);
        for port in &ports {
            device(port).become_sink();
        }
        let switch = Arc::new(Any::new(r.next() | 1));
        dp.set_upcall_handler(Some(switch.clone()));
        let (mut given, mut executed) = (0, 0);
        for _ in 0..100 {
            match r.below(10) {
                0..5 => {
                    let n = 1 + r.below(40);
                    for _ in 0..n {
                        device(&ports[r.below(4) as usize]).receive_one(&frame(&mut r));
                    }
                    given += n;
                }
                5 => {
                    let text = actions(&mut r, 0, 0);
                    let packet = match r.below(3) {
                        0 => large(),
                        _ => Packet::from_slice(&[2; 70]),
                    };
                    execute(&dp, packet, &text);
                    executed += 1;
                }
                6 => {
                    switch.change();
                    dp.flow_flush();
                }
                7 => meter(&dp, 1 + r.below(3) as u32),
                8 => {
                    let losses = [Loss::QueueFull, Loss::Down, Loss::OverMtu];
                    let device = device(&ports[r.below(4) as usize]);
                    device.lose(r.below(5), losses[r.below(3) as usize]);
                }
                _ => {
                    // The port that goes has nothing waiting that it would take along.
                    wait_all_read(&dp, &name, given);
                    let number = dp.port_by_name(&ports[3]).unwrap().port;
                    dp.port_del(number).unwrap();
                    // Its queue is closed then.
                    dp.quiesce();
                    dp.port_add(&ports[3], "memory", Some(DpPort(4))).unwrap();
                }
            }
        }
        wait_all_read(&dp, &name, given);
        let account = Account::of(&name).unwrap();
        assert!(account.is_even(), "{seed}: {account:#?}");
        assert_eq!((account.received, account.executed), (given, executed));
        let sent: u64 = ports.iter().map(|port| device(port).n_sent()).sum();
        let local = device(&name).n_sent();
        assert_eq!(account.sent, sent + local, "{seed}");
        reasons.extend(account.dropped.iter().map(|d| d.reason.name()));
        dp.destroy();
    }
    // It has been about something.
    for reason in [
        "rx-invalid",
        "upcall-error",
        "recirc-error",
        "meter",
        "nsh-decap-error",
        "sample-error",
        "userspace-action-error",
        "userspace-copy-lost",
        "invalid-bond",
        "invalid-port",
        "invalid-tnl-port",
        "tunnel-push-error",
        "tunnel-pop-error",
        "no-output",
        "tx-queue-full",
        "tx-down",
        "tx-over-mtu",
        "of-pipeline",
    ] {
        assert!(
            reasons.contains(reason),
            "{reason} is not among {reasons:?}"
        );
    }
}

/// Waits until the datapath has read what its devices received, and is done with it.
fn wait_all_read(dp: &Arc<dyn Dpif>, name: &str, given: u64) {
    // A polled queue whose thread is told of it late is read late.
    for _ in 0..1000 {
        dp.quiesce();
        if Account::of(name).unwrap().received == given {
            return;
        }
    }
    panic!("not all was read");
}

#[test]
fn drops_are_told_by_reason_and_port_also_of_ports_that_are_gone() {
    let ports = [("told1", "memory"), ("told2", "memory")];
    let dp = memory::datapath(&classes(Dummy::Normal), "dp-told", &ports);
    dp.set_upcall_handler(Some(Arc::new(Answers::new(&[(0, "2,9")]))));
    device("told2").lose(2, Loss::OverMtu);
    let mut r = Random(7);
    let whole = loop {
        let frame = frame(&mut r);
        if frame.len() > 20 {
            break frame;
        }
    };
    for _ in 0..10 {
        device("told1").receive_one(&whole);
    }
    device("told2").receive_one(&whole[..13]);
    dp.quiesce();
    let told = || {
        let account = Account::of("dp-told").unwrap();
        assert!(account.is_even());
        let row = |d: &ferrovs_dpif_netdev::Dropped| {
            let port = d.port.as_ref().map_or("-", |(_, name)| name);
            format!("{} {port} {}", d.reason.name(), d.packets)
        };
        account.dropped.iter().map(row).collect::<Vec<_>>()
    };
    let before = [
        "rx-invalid told2 1",
        "invalid-port told1 10",
        "tx-over-mtu told2 5",
    ];
    assert_eq!(told(), before);
    dp.port_del(DpPort(2)).unwrap();
    dp.quiesce();
    let after = ["rx-invalid - 1", "invalid-port told1 10", "tx-over-mtu - 5"];
    assert_eq!(told(), after);
    dp.destroy();
}

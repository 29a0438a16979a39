//! What a switch is and counts: features, ports, tables, queues; its configuration; probing.

use std::time::Duration;

use ferrovs_openflow::message::Message;
use ferrovs_openflow::port::{PortConfig, PortDesc, PortMod, QUEUE_ALL, QueueRequest};
use ferrovs_openflow::switch::{FragHandling, SwitchConfig, TableMiss, TableMod, Vacancy};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::print::Print;
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Version, Versions};
use ferrovs_packet::field::{NoPorts, parse_port};
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::{clock, fatal};

use super::names::{self, SwitchNames};
use super::vconn::{self, Vconn};
use super::{Options, dump_print, expect, noreply_one, print_message};

fn transact(v: &mut Vconn, m: Message) -> Vec<u8> {
    let tun = Tun::auto();
    match v.transact(m, &tun) {
        Ok(r) => r,
        Err(e) => vconn::talking(v, &e),
    }
}

/// Asks and prints, without names.
fn dump_trivial(switch: &str, m: Message, opt: &Options) {
    let mut v = vconn::open_switch(switch, opt);
    let tun = Tun::auto();
    dump_print(&mut v, m, Names::none(&tun), opt);
}

pub fn show(args: &[String], opt: &mut Options) {
    let mut v = vconn::open_switch(&args[0], opt);
    let reply = transact(&mut v, Message::FeaturesRequest);
    let tun = Tun::auto();
    let ports = expect(&reply, &tun, |m| match m {
        Message::FeaturesReply(f) => Some(f.ports.len()),
        _ => None,
    });
    print_message(&reply, opt.verbosity + 1);
    // Later versions leave the ports out of the reply, and a full one may have been cut.
    if v.version >= Version::V13 || ports >= 1000 {
        dump_print(
            &mut v,
            Message::PortDescRequest { port: OfPort::NONE },
            Names::none(&tun),
            opt,
        );
    }
    let reply = get_config(&mut v);
    print_message(&reply, opt.verbosity + 1);
}

fn get_config(v: &mut Vconn) -> Vec<u8> {
    // The barrier's number is skipped as Open vSwitch skips it.
    let _ = vconn::next_xid();
    transact(v, Message::GetConfigRequest)
}

pub fn dump_desc(args: &[String], opt: &mut Options) {
    dump_trivial(&args[0], Message::DescRequest, opt);
}

pub fn dump_tables(args: &[String], opt: &mut Options) {
    let shown = SwitchNames::to_show(&args[0], opt);
    let mut v = vconn::open_switch(&args[0], opt);
    dump_print(&mut v, Message::TableStatsRequest, shown.names(), opt);
}

pub fn dump_table_features(args: &[String], opt: &mut Options) {
    let mut v = vconn::open_switch(&args[0], opt);
    if v.version < Version::V13 {
        fatal("dump-table-features needs OpenFlow 1.3 or later ('-O OpenFlow13')");
    }
    let shown = SwitchNames::to_show(&args[0], opt);
    let mut printer = ferrovs_openflow::text::print::FeaturePrinter::default();
    let mut out = String::new();
    let p = Print {
        names: shown.names(),
        verbosity: opt.verbosity + 1,
    };
    let m = Message::TableFeaturesRequest {
        tables: Vec::new(),
        more: false,
    };
    names::dump(&mut v, m, &shown.tun, |m| {
        if let Message::TableFeaturesReply { tables, .. } = m {
            for t in &tables {
                printer.add(t, p, &mut out);
            }
        }
    });
    printer.finish(&mut out);
    out.push('\n');
    super::put(&out);
}

pub fn dump_table_desc(args: &[String], opt: &mut Options) {
    let mut v = vconn::open_switch(&args[0], opt);
    if v.version < Version::V14 {
        fatal("dump-table-desc needs OpenFlow 1.4 or later ('-O OpenFlow14')");
    }
    let shown = SwitchNames::to_show(&args[0], opt);
    dump_print(&mut v, Message::TableDescRequest, shown.names(), opt);
}

/// The number of a port given by number or name; names are asked from the switch.
fn port_number(switch: &str, text: &str, opt: &Options) -> OfPort {
    if let Some(p) = parse_port(text, &NoPorts) {
        return p;
    }
    let d = find_port(switch, text, opt);
    match d {
        Some(d) => d.port_no,
        None => fatal(format_args!("{switch}: unknown port `{text}'")),
    }
}

fn find_port(switch: &str, text: &str, opt: &Options) -> Option<PortDesc> {
    let mut v = vconn::open_switch(switch, opt);
    let by_number = parse_port(text, &NoPorts);
    names::fetch_ports(&mut v)
        .into_iter()
        .find(|d| by_number.map_or(d.name == text, |n| d.port_no == n))
}

pub fn dump_ports(args: &[String], opt: &mut Options) {
    let port = args
        .get(1)
        .map_or(OfPort::NONE, |p| port_number(&args[0], p, opt));
    let mut v = vconn::open_switch(&args[0], opt);
    let shown = SwitchNames::to_show(&args[0], opt);
    dump_print(
        &mut v,
        Message::PortStatsRequest { port },
        shown.names(),
        opt,
    );
}

pub fn dump_ports_desc(args: &[String], opt: &mut Options) {
    let port = args
        .get(1)
        .map_or(OfPort::NONE, |p| port_number(&args[0], p, opt));
    dump_trivial(&args[0], Message::PortDescRequest { port }, opt);
}

pub fn queue_stats(args: &[String], opt: &mut Options) {
    let mut q = QueueRequest {
        port: OfPort::NONE,
        queue: QUEUE_ALL,
    };
    if let Some(p) = args.get(1).filter(|p| !p.eq_ignore_ascii_case("all")) {
        q.port = port_number(&args[0], p, opt);
    }
    if let Some(n) = args.get(2).filter(|n| !n.eq_ignore_ascii_case("all")) {
        q.queue = ferrovs_openflow::text::cursor::atoi(n) as u32;
    }
    let mut v = vconn::open_switch(&args[0], opt);
    let shown = SwitchNames::to_show(&args[0], opt);
    dump_print(&mut v, Message::QueueStatsRequest(q), shown.names(), opt);
}

pub fn queue_get_config(args: &[String], opt: &mut Options) {
    let port = match args.get(1) {
        Some(p) if !p.eq_ignore_ascii_case("any") => port_number(&args[0], p, opt),
        _ => OfPort::NONE,
    };
    let queue = match args.get(2) {
        Some(q) if !q.eq_ignore_ascii_case("all") => ferrovs_openflow::text::cursor::atoi(q) as u32,
        _ => QUEUE_ALL,
    };
    let mut v = vconn::open_switch(&args[0], opt);
    let tun = Tun::auto();
    if port == OfPort::NONE && v.version == Version::V10 {
        // 1.0 must be asked port by port.
        let mut other = vconn::open_switch(&args[0], opt);
        for d in names::fetch_ports(&mut other) {
            if d.port_no >= OfPort::MAX {
                continue;
            }
            let q = QueueRequest {
                port: d.port_no,
                queue: QUEUE_ALL,
            };
            let reply = transact(&mut v, Message::QueueGetConfigRequest(q));
            print_message(&reply, opt.verbosity + 1);
        }
        return;
    }
    let q = QueueRequest { port, queue };
    dump_print(
        &mut v,
        Message::QueueGetConfigRequest(q),
        Names::none(&tun),
        opt,
    );
}

pub fn mod_port(args: &[String], opt: &mut Options) {
    const ACTIONS: [(&str, PortConfig, bool); 18] = [
        ("up", PortConfig::DOWN, false),
        ("down", PortConfig::DOWN, true),
        ("stp", PortConfig::NO_STP, false),
        ("receive", PortConfig::NO_RECV, false),
        ("receive-stp", PortConfig::NO_RECV_STP, false),
        ("flood", PortConfig::NO_FLOOD, false),
        ("forward", PortConfig::NO_FWD, false),
        ("packet-in", PortConfig::NO_PACKET_IN, false),
        ("no-stp", PortConfig::NO_STP, true),
        ("no-receive", PortConfig::NO_RECV, true),
        ("no-receive-stp", PortConfig::NO_RECV_STP, true),
        ("no-flood", PortConfig::NO_FLOOD, true),
        ("noflood", PortConfig::NO_FLOOD, true),
        ("no-forward", PortConfig::NO_FWD, true),
        ("no-packet-in", PortConfig::NO_PACKET_IN, true),
        ("no-up", PortConfig::DOWN, true),
        ("no-down", PortConfig::DOWN, false),
        ("no-noflood", PortConfig::NO_FLOOD, false),
    ];
    let Some(d) = find_port(&args[0], &args[1], opt) else {
        fatal(format_args!(
            "{}: couldn't find port `{}'",
            args[0], args[1]
        ));
    };
    let Some((_, bit, on)) = ACTIONS.iter().find(|a| a.0.eq_ignore_ascii_case(&args[2])) else {
        fatal(format_args!("unknown mod-port command '{}'", args[2]));
    };
    let m = PortMod {
        port_no: d.port_no,
        hw_addr: d.hw_addr,
        config: if *on { *bit } else { PortConfig::empty() },
        mask: *bit,
        advertise: Default::default(),
    };
    let mut v = vconn::open_switch(&args[0], opt);
    let tun = Tun::auto();
    noreply_one(&mut v, Message::PortMod(m), Names::none(&tun), opt);
}

/// The thresholds of `vacancy:LOW,HIGH`, from behind the word on.
fn vacancy(v: &str) -> Vacancy {
    let mut parts = v.trim_start_matches([':', '=']).split(',');
    let number = |s: Option<&str>| s.and_then(|s| s.trim().parse::<u16>().ok());
    let (Some(down), Some(up)) = (number(parts.next()), number(parts.next())) else {
        fatal("\"vacancy\" syntax is \"vacancy:LOW,HIGH\"");
    };
    if down > up || down > 100 {
        fatal(
            format_args!(
                "Invalid vacancy threshold \"{down}\" should be less than or equal to {up}"
            )
            .to_string()
            .as_str(),
        );
    }
    if up > 100 {
        fatal(
            format_args!("Invalid vacancy threshold \"{up}\"")
                .to_string()
                .as_str(),
        );
    }
    Vacancy {
        down: down as u8,
        up: up as u8,
        vacancy: 0,
    }
}

pub fn mod_table(args: &[String], opt: &mut Options) {
    let (table, setting) = (&args[1], &args[2]);
    let n = SwitchNames::to_accept(&args[0], opt);
    let mut m = TableMod::default();
    m.table_id = if table.eq_ignore_ascii_case("all") {
        0xff
    } else {
        match ferrovs_openflow::text::parse_table(table, &n.names()) {
            Some(t) => t,
            None => fatal(format_args!("unknown table \"{table}\"")),
        }
    };
    let miss = Versions::of(Version::V11).union(Versions::of(Version::V12));
    let new = Versions::of(Version::V14).union(Versions::of(Version::V15));
    let usable = match setting.as_str() {
        "controller" => {
            m.miss = TableMiss::Controller;
            miss
        }
        "continue" => {
            m.miss = TableMiss::Continue;
            miss
        }
        "drop" => {
            m.miss = TableMiss::Drop;
            miss
        }
        "evict" | "noevict" => {
            m.eviction = Some(setting == "evict");
            new
        }
        "novacancy" => {
            m.vacancy = Some(None);
            new
        }
        s => match s.strip_prefix("vacancy") {
            Some(v) => {
                m.vacancy = Some(Some(vacancy(v)));
                new
            }
            None => fatal(format_args!("invalid table_mod setting {setting}")),
        },
    };
    let allowed = opt.versions.intersect(usable);
    if allowed.is_empty() {
        fatal(format_args!(
            "table_mod '{setting}' requires one of the OpenFlow versions {}",
            super::version_names(usable)
        ));
    }
    let mut v = vconn::open(&args[0], "mgmt", allowed);
    if v.version >= Version::V14 {
        // The rest of the configuration stays as it is.
        let tun = Tun::auto();
        let mut found = None;
        names::dump(&mut v, Message::TableDescRequest, &tun, |r| {
            if let Message::TableDescReply { tables, .. } = r {
                found = found.or_else(|| {
                    tables
                        .into_iter()
                        .find(|t| m.table_id == 0xff || t.table_id == m.table_id)
                });
            }
        });
        let Some(t) = found else {
            fatal(
                format_args!("table {table} not found on switch")
                    .to_string()
                    .as_str(),
            );
        };
        if m.eviction.is_none() {
            m.eviction = t.eviction;
        }
        if m.vacancy.is_none() {
            m.vacancy = t.vacancy;
        }
        if m.eviction == Some(true) {
            m.eviction_flags = None;
        }
    }
    let tun = Tun::auto();
    noreply_one(&mut v, Message::TableMod(m), Names::none(&tun), opt);
}

fn fetch_config(v: &mut Vconn) -> SwitchConfig {
    let reply = transact(v, Message::GetConfigRequest);
    let tun = Tun::auto();
    expect(&reply, &tun, |m| match m {
        Message::GetConfigReply(c) => Some(c),
        _ => None,
    })
}

pub fn get_frags(args: &[String], opt: &mut Options) {
    let mut v = vconn::open_switch(&args[0], opt);
    println!("{}", fetch_config(&mut v).frag.name());
}

pub fn set_frags(args: &[String], opt: &mut Options) {
    let Some(mode) = FragHandling::from_name(&args[1]) else {
        fatal(format_args!("{}: unknown fragment handling mode", args[1]));
    };
    let mut v = vconn::open_switch(&args[0], opt);
    let mut c = fetch_config(&mut v);
    if c.frag == mode {
        return;
    }
    c.frag = mode;
    let tun = Tun::auto();
    noreply_one(&mut v, Message::SetConfig(c), Names::none(&tun), opt);
    // The switch may not have taken it.
    let now = fetch_config(&mut v).frag;
    if now != mode {
        fatal(format_args!(
            "{}: setting fragment handling mode failed (this switch probably doesn't support mode \"{}\")",
            args[0],
            mode.name()
        ));
    }
}

pub fn probe(args: &[String], opt: &mut Options) {
    let mut v = vconn::open_switch(&args[0], opt);
    let reply = transact(&mut v, Message::EchoRequest(Vec::new()));
    if reply.len() != 8 {
        fatal("reply does not match request");
    }
}

pub fn ping(args: &[String], opt: &mut Options) {
    let payload = args
        .get(1)
        .map_or(64, |n| ferrovs_openflow::text::cursor::atoi(n));
    if !(0..=65535 - 8).contains(&payload) {
        fatal(format_args!(
            "payload must be between 0 and {} bytes",
            65535 - 8
        ));
    }
    let mut v = vconn::open_switch(&args[0], opt);
    for i in 0..10 {
        // Any bytes do; the same seed gives the same ones.
        let data: Vec<u8> = (0..payload).map(|k| (k * 7 + i * 13) as u8).collect();
        let tun = Tun::none();
        let (xid, bytes) = v.encode(Message::EchoRequest(data.clone()), &tun);
        let start = clock::now();
        if let Err(e) = v.send_bytes(&bytes) {
            vconn::talking(&v, &e);
        }
        let reply = match v.recv_xid(xid) {
            Ok(r) => r,
            Err(e) => vconn::talking(&v, &e),
        };
        let ms = clock::now().duration_since(start).as_secs_f64() * 1000.0;
        if reply[1] != 3 || reply[8..] != data[..] {
            println!("Reply does not match request.  Request:");
            print_message(&bytes, opt.verbosity + 2);
            println!("Reply:");
            print_message(&reply, opt.verbosity + 2);
        }
        println!(
            "{} bytes from {}: xid={xid:08x} time={ms:.1} ms",
            reply.len() - 8,
            args[0]
        );
    }
}

pub fn benchmark(args: &[String], opt: &mut Options) {
    let payload = ferrovs_openflow::text::cursor::atoi(&args[1]);
    if !(0..=65535 - 8).contains(&payload) {
        fatal(format_args!(
            "payload must be between 0 and {} bytes",
            65535 - 8
        ));
    }
    let count = ferrovs_openflow::text::cursor::atoi(&args[2]).max(0);
    let size = payload + 8;
    println!(
        "Sending {count} packets * {size} bytes (with header) = {} bytes total",
        count * size
    );
    let mut v = vconn::open_switch(&args[0], opt);
    let start = clock::now();
    for _ in 0..count {
        let data = vec![0; payload as usize];
        let tun = Tun::none();
        if let Err(e) = v.transact(Message::EchoRequest(data), &tun) {
            vconn::talking(&v, &e);
        }
    }
    let elapsed = clock::now()
        .duration_since(start)
        .max(Duration::from_nanos(1));
    let secs = elapsed.as_secs_f64();
    println!(
        "Finished in {:.1} ms ({:.0} packets/s) ({:.0} bytes/s)",
        secs * 1000.0,
        count as f64 / secs,
        (count * size) as f64 / secs
    );
}

pub fn dump_ipfix_bridge(args: &[String], opt: &mut Options) {
    dump_trivial(&args[0], Message::IpfixBridgeRequest, opt);
}

pub fn dump_ipfix_flow(args: &[String], opt: &mut Options) {
    dump_trivial(&args[0], Message::IpfixFlowRequest, opt);
}

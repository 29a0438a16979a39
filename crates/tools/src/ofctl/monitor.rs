//! Listening to a switch: `monitor` and `snoop`, with the control socket that drives them.

use std::fs::File;
use std::io::Write as _;

use ferrovs_openflow::flow::{FlowMonitorCommand, FlowMonitorFlags, FlowMonitorRequest, GROUP_ANY};
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::packet_in::PacketInFormat;
use ferrovs_openflow::switch::SwitchConfig;
use ferrovs_openflow::text::flow::parse_match_field;
use ferrovs_openflow::text::print::{Print, format_message};
use ferrovs_openflow::text::{Names, cursor, parse_table};
use ferrovs_openflow::version::{Protocol, Version, Versions};
use ferrovs_packet::field::{Field, parse_port};
use ferrovs_packet::types::OfPort;
use ferrovs_runtime::daemon::Access;
use ferrovs_runtime::unixctl::{Commands, Output, Reply, Request, Server};
use ferrovs_runtime::{Poller, clock, fatal, fatal_io};

use super::names::SwitchNames;
use super::vconn::{self, Vconn};
use super::{Options, expect, noreply_one};

/// What the commands on the control socket work on.
struct State {
    vconn: Vconn,
    exiting: bool,
    blocked: bool,
    output: Option<File>,
    /// A barrier that a client waits for.
    barrier: Option<u32>,
}

fn hex(s: &str) -> Option<Vec<u8>> {
    let s: String = s.chars().filter(|c| !c.is_whitespace()).collect();
    if !s.len().is_multiple_of(2) {
        return None;
    }
    (0..s.len() / 2)
        .map(|i| u8::from_str_radix(s.get(i * 2..i * 2 + 2)?, 16).ok())
        .collect()
}

fn commands() -> Commands<State> {
    let mut c: Commands<State> = Commands::new();
    c.register("exit", "", 0, 0, exit);
    c.register("ofctl/send", "OFMSG...", 1, usize::MAX, send);
    let usage = "\"in_port=<port> packet=<hex data> actions=...\"";
    c.register("ofctl/packet-out", usage, 1, 1, packet_out);
    c.register("ofctl/barrier", "", 0, 0, barrier);
    c.register("ofctl/set-output-file", "FILE", 1, 1, set_output_file);
    c.register("ofctl/block", "", 0, 0, block);
    c.register("ofctl/unblock", "", 0, 0, unblock);
    c
}

fn exit(s: &mut State, _: &Request) -> Reply {
    s.exiting = true;
    Ok(Output::Text(String::new()))
}

fn send(s: &mut State, r: &Request) -> Reply {
    let mut out = String::new();
    let mut ok = true;
    for arg in &r.argv[1..] {
        let Some(msg) = hex(arg).filter(|m| m.len() >= 8) else {
            out.push_str("Trailing garbage in hex data\n");
            ok = false;
            break;
        };
        print_prefixed("send: ", &msg, s, 0);
        match s.vconn.send_bytes(&msg) {
            Ok(()) => out.push_str("sent\n"),
            Err(e) => {
                out.push_str(&format!("{}\n", ferrovs_stream::error_text(&e)));
                ok = false;
                break;
            }
        }
    }
    if ok { Ok(Output::Text(out)) } else { Err(out) }
}

fn packet_out(s: &mut State, r: &Request) -> Reply {
    let n = SwitchNames::none();
    let mut usable = Protocol::all();
    let po = super::flows::parse_packet_out(&r.argv[1], &n.names(), &mut usable)?;
    let (_, bytes) = s.vconn.encode(Message::PacketOut(Box::new(po)), &n.tun);
    print_prefixed("send: ", &bytes, s, 0);
    match s.vconn.send_bytes(&bytes) {
        Ok(()) => Ok(Output::Text(String::new())),
        Err(e) => Err(ferrovs_stream::error_text(&e)),
    }
}

fn barrier(s: &mut State, _: &Request) -> Reply {
    if s.barrier.is_some() {
        return Err("already waiting for barrier reply".to_owned());
    }
    let n = SwitchNames::none();
    let (xid, bytes) = s.vconn.encode(Message::BarrierRequest, &n.tun);
    s.vconn
        .send_bytes(&bytes)
        .map_err(|e| ferrovs_stream::error_text(&e))?;
    s.barrier = Some(xid);
    // The reply must be here before the client is answered; what comes before it is printed.
    loop {
        match s.vconn.recv() {
            Ok(m) => {
                if handle(s, &m) {
                    return Ok(Output::Text(String::new()));
                }
            }
            Err(e) => return Err(ferrovs_stream::error_text(&e)),
        }
    }
}

fn set_output_file(s: &mut State, r: &Request) -> Reply {
    match File::create(&r.argv[1]) {
        Ok(f) => {
            s.output = Some(f);
            Ok(Output::Text(String::new()))
        }
        Err(e) => Err(ferrovs_stream::error_text(&e)),
    }
}

fn block(s: &mut State, _: &Request) -> Reply {
    if s.blocked {
        return Ok(Output::Text("already blocking".to_owned()));
    }
    s.blocked = true;
    Ok(Output::Text(String::new()))
}

fn unblock(s: &mut State, _: &Request) -> Reply {
    if !s.blocked {
        return Ok(Output::Text("already unblocked".to_owned()));
    }
    s.blocked = false;
    Ok(Output::Text(String::new()))
}

fn emit(s: &mut State, text: &str) {
    match &mut s.output {
        Some(f) => {
            let _ = f.write_all(text.as_bytes());
        }
        None => {
            let mut err = std::io::stderr();
            let _ = err.write_all(text.as_bytes());
        }
    }
}

/// How verbose messages are, kept beside the state because the commands have no options.
static VERBOSITY: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(2);
static TIMESTAMP: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

fn print_prefixed(prefix: &str, msg: &[u8], s: &mut State, more: u8) {
    let n = SwitchNames::none();
    let mut out = prefix.to_owned();
    let verbosity = VERBOSITY.load(std::sync::atomic::Ordering::Relaxed) + more;
    format_message(
        msg,
        Print {
            names: n.names(),
            verbosity,
        },
        &mut out,
    );
    emit(s, &out);
}

/// Prints a message that arrived; whether it was the barrier reply that is waited for.
fn handle(s: &mut State, msg: &[u8]) -> bool {
    if TIMESTAMP.load(std::sync::atomic::Ordering::Relaxed) {
        let stamp = timestamp(clock::wall_ms());
        emit(s, &format!("{stamp}: "));
    }
    print_prefixed("", msg, s, 2);
    let xid = u32::from_be_bytes([msg[4], msg[5], msg[6], msg[7]]);
    if msg[1] == 2 {
        let mut reply = msg.to_vec();
        reply[1] = 3;
        let _ = s.vconn.send_bytes(&reply);
    }
    let is_barrier = s.barrier == Some(xid)
        && vconn::kind_of(msg) == Some(ferrovs_openflow::raw::Kind::BarrierReply);
    if is_barrier {
        s.barrier = None;
    }
    is_barrier
}

/// `2026-01-31 23:59:59.999` in UTC.
fn timestamp(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days since 1970 to a date, in eras of 400 years that begin in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:03}",
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1000 % 60,
        rest % 1000
    )
}

fn run(v: Vconn, opt: &mut Options) {
    use std::sync::atomic::Ordering::Relaxed;
    VERBOSITY.store(opt.verbosity, Relaxed);
    TIMESTAMP.store(opt.timestamp, Relaxed);
    opt.daemon.keep_stderr();
    // What is received is told there, also in the background.
    opt.daemon.keep_stderr();
    opt.daemon.daemonize_start(Access::default());
    let path = opt.unixctl.as_ref().map(std::path::PathBuf::from);
    let mut server = match Server::open(path.as_deref()) {
        Ok(s) => s,
        Err(e) => fatal_io(&e, "failed to create unixctl server"),
    };
    let mut commands = commands();
    opt.daemon.daemonize_complete();
    let mut state = State {
        vconn: v,
        exiting: false,
        blocked: false,
        output: None,
        barrier: None,
    };
    let mut poller = Poller::new();
    loop {
        server.run(&mut commands, &mut state);
        while !state.blocked {
            match state.vconn.try_recv() {
                Ok(Some(m)) => {
                    handle(&mut state, &m);
                }
                Ok(None) => break,
                Err(e) => fatal_io(
                    &e,
                    format_args!("{}: receive failed", state.vconn.name)
                        .to_string()
                        .as_str(),
                ),
            }
        }
        if state.exiting {
            break;
        }
        if !state.blocked {
            state.vconn.recv_wait(&mut poller);
        }
        server.wait(&mut poller);
        poller.block();
    }
}

pub fn snoop(args: &[String], opt: &mut Options) {
    let v = vconn::open(&args[0], "snoop", ferrovs_openflow::version::Versions::ALL);
    run(v, opt);
}

/// Reads what follows `watch:`.
fn parse_watch(
    text: &str,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Result<FlowMonitorRequest, String> {
    let mut r = FlowMonitorRequest {
        id: next_monitor_id(),
        command: FlowMonitorCommand::Add,
        flags: FlowMonitorFlags::INITIAL
            | FlowMonitorFlags::ADD
            | FlowMonitorFlags::REMOVED
            | FlowMonitorFlags::MODIFY
            | FlowMonitorFlags::ONLY_OWN
            | FlowMonitorFlags::INSTRUCTIONS,
        out_port: OfPort::NONE,
        out_group: GROUP_ANY,
        table_id: 0xff,
        match_: Default::default(),
    };
    let mut list = text;
    while let Some((k, v)) = cursor::next_pair(&mut list) {
        match k {
            "!initial" => r.flags -= FlowMonitorFlags::INITIAL,
            "!add" => r.flags -= FlowMonitorFlags::ADD,
            "!delete" => r.flags -= FlowMonitorFlags::REMOVED,
            "!modify" => r.flags -= FlowMonitorFlags::MODIFY,
            "!actions" => r.flags -= FlowMonitorFlags::INSTRUCTIONS,
            "!abbrev" => r.flags |= FlowMonitorFlags::NO_ABBREV,
            "!own" => r.flags -= FlowMonitorFlags::ONLY_OWN,
            _ if v.is_empty() => {
                if !ferrovs_openflow::text::flow::set_protocol(k, &mut r.match_) {
                    return Err(format!("{text}: field {k} missing value"));
                }
            }
            "table" => {
                r.table_id =
                    parse_table(v, names).ok_or_else(|| format!("unknown table \"{v}\""))?;
            }
            "out_port" => {
                r.out_port = parse_port(v, names.ports)
                    .ok_or_else(|| format!("{text}: {v} is not a valid OpenFlow port"))?;
            }
            "out_group" => r.out_group = cursor::u32(v)?,
            _ => {
                let f = Field::by_name(k).ok_or_else(|| format!("{text}: unknown keyword {k}"))?;
                parse_match_field(f, v, names, &mut r.match_, usable)?;
            }
        }
    }
    Ok(r)
}

fn next_monitor_id() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn config(v: &mut Vconn, n: &SwitchNames) -> SwitchConfig {
    let reply = match v.transact(Message::GetConfigRequest, &n.tun) {
        Ok(r) => r,
        Err(e) => vconn::talking(v, &e),
    };
    expect(&reply, &n.tun, |m| match m {
        Message::GetConfigReply(c) => Some(c),
        _ => None,
    })
}

pub fn monitor(args: &[String], opt: &mut Options) {
    let n = SwitchNames::none();
    let mut watches = Vec::new();
    let mut usable = Protocol::all();
    let mut miss_len: Option<u16> = None;
    let mut invalid_ttl = false;
    let accept = if args[1..].iter().any(|a| a.starts_with("watch:")) {
        SwitchNames::to_accept(&args[0], opt)
    } else {
        SwitchNames::none()
    };
    for a in &args[1..] {
        if a.bytes().next().is_some_and(|c| c.is_ascii_digit()) {
            miss_len = Some(cursor::atoi(a) as u16);
        } else if a == "invalid_ttl" {
            // From 1.3 on the mask of asynchronous messages has it.
            let old = Versions::up_to(Version::V12);
            if opt.versions.intersect(old).is_empty() {
                fatal(format_args!(
                    "invalid_ttl requires one of the OpenFlow versions {} but none is enabled (use -O)",
                    super::version_names(old)
                ));
            }
            opt.versions = opt.versions.intersect(old);
            invalid_ttl = true;
        } else if let Some(w) = a.strip_prefix("watch:") {
            match parse_watch(w, &accept.names(), &mut usable) {
                Ok(r) => watches.push(r),
                Err(e) => fatal(e),
            }
        } else {
            fatal(format_args!("{a}: unsupported \"monitor\" argument"));
        }
    }
    // The miss length is part of the configuration that is asked first.
    let mut v = if watches.is_empty() {
        vconn::open_switch(&args[0], opt)
    } else {
        super::flows::open_for(&args[0], usable, opt).0
    };
    if let Some(len) = miss_len {
        let mut c = config(&mut v, &n);
        c.miss_send_len = len;
        noreply_one(&mut v, Message::SetConfig(c), n.names(), opt);
    }
    if invalid_ttl {
        let mut c = config(&mut v, &n);
        if c.invalid_ttl_to_controller != Some(true) {
            c.invalid_ttl_to_controller = Some(true);
            noreply_one(&mut v, Message::SetConfig(c), n.names(), opt);
            if config(&mut v, &n).invalid_ttl_to_controller != Some(true) {
                fatal(
                    "setting invalid_ttl_to_controller failed (this switch probably doesn't support this \
                     flag)",
                );
            }
        }
    }
    if !watches.is_empty() {
        let request = Message::FlowMonitorRequest(watches);
        if opt.verbosity > 0 {
            let shown = Msg::new(v.version, vconn::this_xid(), request.clone()).to_bytes(&n.tun);
            super::print_with(&shown, n.names(), opt.verbosity + 2);
        }
        // The flows that are there come first, in as many parts as it takes.
        super::dump_print(&mut v, request, n.names(), opt);
    }
    let wanted = opt.packet_in_format.unwrap_or(PacketInFormat::Nxt2);
    let formats: &[PacketInFormat] = if opt.packet_in_format.is_some() {
        std::slice::from_ref(&wanted)
    } else {
        // The richest that the switch knows.
        &[PacketInFormat::Nxt2, PacketInFormat::Nxt]
    };
    for (i, f) in formats.iter().enumerate() {
        let m = v.encode(Message::SetPacketInFormat(*f), &n.tun);
        match v.transact_noreply(&[m]) {
            Ok(None) => break,
            Ok(Some(e)) if opt.packet_in_format.is_some() && i == 0 => {
                let _ = Msg::decode(&e, &n.tun);
                fatal(
                    format_args!(
                        "{}: failed to set packet in format to {}, {}",
                        args[0],
                        f.name(),
                        "the switch does not support it"
                    )
                    .to_string()
                    .as_str(),
                );
            }
            Ok(Some(_)) => {}
            Err(e) => vconn::talking(&v, &e),
        }
    }
    run(v, opt);
}

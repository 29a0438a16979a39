//! ovs-ofctl: talks OpenFlow to a switch.
//!
//! Each command opens its own connection, in the versions that `-O` allows (1.0 if it is not given), asks and
//! prints. Within OpenFlow 1.0 the flow format is chosen as the least capable one that can carry what is to be
//! said; dumps prefer the most capable.

mod bundle;
mod compare;
mod debug;
mod flows;
mod groups;
mod log;
mod monitor;
mod names;
mod packets;
mod show;
mod vconn;

use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;

use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::packet_in::PacketInFormat;
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::color::{Colors, set_colors};
use ferrovs_openflow::text::print::{Print, format_message, hex_dump};
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::{Protocol, Version, Versions};
use ferrovs_runtime::daemon::Daemon;
use ferrovs_runtime::options::{self, Arg, Opt, Parser};
use ferrovs_runtime::{daemon, dirs, fatal, set_timeout, version, vlog};

const OPTIONS: &[Opt] = &[
    Opt::both("timeout", 't', Arg::Required),
    Opt::long("strict", Arg::None),
    Opt::long("readd", Arg::None),
    Opt::both("flow-format", 'F', Arg::Required),
    Opt::both("packet-in-format", 'P', Arg::Required),
    Opt::both("more", 'm', Arg::None),
    Opt::long("timestamp", Arg::None),
    Opt::long("sort", Arg::Optional),
    Opt::long("rsort", Arg::Optional),
    Opt::long("names", Arg::None),
    Opt::long("no-names", Arg::None),
    Opt::long("stats", Arg::None),
    Opt::long("no-stats", Arg::None),
    Opt::long("unixctl", Arg::Required),
    Opt::both("help", 'h', Arg::None),
    Opt::both("option", 'o', Arg::None),
    Opt::long("bundle", Arg::None),
    Opt::long("color", Arg::Optional),
    Opt::long("may-create", Arg::None),
    Opt::long("read-only", Arg::None),
    Opt::long("raw", Arg::None),
    Opt::long("bad-csum", Arg::None),
    Opt::long("pcap", Arg::None),
    Opt::both("protocols", 'O', Arg::Required),
    Opt::both("version", 'V', Arg::None),
];

/// What the options say.
pub struct Options {
    pub versions: Versions,
    pub protocols: Protocol,
    pub strict: bool,
    pub readd: bool,
    pub packet_in_format: Option<PacketInFormat>,
    pub verbosity: u8,
    pub timestamp: bool,
    /// Field (empty: priority) and whether descending.
    pub sort: Vec<(String, bool)>,
    pub use_names: Option<bool>,
    pub stats: bool,
    pub unixctl: Option<String>,
    pub bundle: bool,
    pub may_create: bool,
    pub read_only: bool,
    pub raw: bool,
    pub bad_csum: bool,
    pub pcap: bool,
    pub daemon: Daemon,
}

impl Options {
    /// Names may stand in what the user gives unless told otherwise.
    pub fn accept_names(&self) -> bool {
        self.use_names != Some(false)
    }

    /// Names are shown to people (a terminal) and on demand.
    pub fn show_names(&self) -> bool {
        use std::io::IsTerminal;
        self.use_names
            .unwrap_or_else(|| std::io::stdout().is_terminal())
    }
}

type Handler = fn(&[String], &mut Options);

/// Name, usage, least and most arguments, handler; hidden ones have no usage.
struct Command {
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    /// Whether it changes the switch.
    writes: bool,
    run: Handler,
}

const fn cmd(
    name: &'static str,
    usage: &'static str,
    min: usize,
    max: usize,
    writes: bool,
    run: Handler,
) -> Command {
    Command {
        name,
        usage,
        min,
        max,
        writes,
        run,
    }
}

const MANY: usize = usize::MAX;

const COMMANDS: &[Command] = &[
    cmd("show", "switch", 1, 1, false, show::show),
    cmd(
        "monitor",
        "switch [misslen] [invalid_ttl] [watch:[...]]",
        1,
        3,
        false,
        monitor::monitor,
    ),
    cmd("snoop", "switch", 1, 1, false, monitor::snoop),
    cmd("dump-desc", "switch", 1, 1, false, show::dump_desc),
    cmd("dump-tables", "switch", 1, 1, false, show::dump_tables),
    cmd(
        "dump-table-features",
        "switch",
        1,
        1,
        false,
        show::dump_table_features,
    ),
    cmd(
        "dump-table-desc",
        "switch",
        1,
        1,
        false,
        show::dump_table_desc,
    ),
    cmd("dump-flows", "switch", 1, 2, false, flows::dump_flows),
    cmd(
        "dump-aggregate",
        "switch",
        1,
        2,
        false,
        flows::dump_aggregate,
    ),
    cmd(
        "queue-stats",
        "switch [port [queue]]",
        1,
        3,
        false,
        show::queue_stats,
    ),
    cmd(
        "queue-get-config",
        "switch [port [queue]]",
        1,
        3,
        false,
        show::queue_get_config,
    ),
    cmd("add-flow", "switch flow", 2, 2, true, flows::add_flow),
    cmd("add-flows", "switch file", 2, 2, true, flows::add_flows),
    cmd("mod-flows", "switch flow", 2, 2, true, flows::mod_flows),
    cmd("del-flows", "switch [flow]", 1, 2, true, flows::del_flows),
    cmd(
        "replace-flows",
        "switch file",
        2,
        2,
        true,
        compare::replace_flows,
    ),
    cmd(
        "diff-flows",
        "source1 source2",
        2,
        2,
        false,
        compare::diff_flows,
    ),
    cmd("add-meter", "switch meter", 2, 2, true, groups::add_meter),
    cmd("mod-meter", "switch meter", 2, 2, true, groups::mod_meter),
    cmd("del-meter", "switch meter", 1, 2, true, groups::del_meters),
    cmd("del-meters", "switch", 1, 2, true, groups::del_meters),
    cmd(
        "dump-meter",
        "switch meter",
        1,
        2,
        false,
        groups::dump_meters,
    ),
    cmd("dump-meters", "switch", 1, 2, false, groups::dump_meters),
    cmd(
        "meter-stats",
        "switch [meter]",
        1,
        2,
        false,
        groups::meter_stats,
    ),
    cmd(
        "meter-features",
        "switch",
        1,
        1,
        false,
        groups::meter_features,
    ),
    cmd(
        "packet-out",
        "switch \"in_port=<port> packet=<hex data> actions=...\"",
        2,
        MANY,
        true,
        flows::packet_out,
    ),
    cmd("dump-ports", "switch [port]", 1, 2, false, show::dump_ports),
    cmd(
        "dump-ports-desc",
        "switch [port]",
        1,
        2,
        false,
        show::dump_ports_desc,
    ),
    cmd("mod-port", "switch iface act", 3, 3, true, show::mod_port),
    cmd("mod-table", "switch mod", 3, 3, true, show::mod_table),
    cmd("get-frags", "switch", 1, 1, false, show::get_frags),
    cmd("set-frags", "switch frag_mode", 2, 2, true, show::set_frags),
    cmd("probe", "target", 1, 1, false, show::probe),
    cmd("ping", "target [n]", 1, 2, false, show::ping),
    cmd("benchmark", "target n count", 3, 3, false, show::benchmark),
    cmd(
        "dump-ipfix-bridge",
        "switch",
        1,
        1,
        false,
        show::dump_ipfix_bridge,
    ),
    cmd(
        "dump-ipfix-flow",
        "switch",
        1,
        1,
        false,
        show::dump_ipfix_flow,
    ),
    cmd(
        "ct-flush-zone",
        "switch zone",
        2,
        2,
        true,
        groups::ct_flush_zone,
    ),
    cmd(
        "ct-flush",
        "switch [zone=N] [ct-orig-tuple [ct-reply-tuple]]",
        1,
        6,
        true,
        groups::ct_flush,
    ),
    cmd("ofp-parse", "file", 1, 1, false, debug::ofp_parse),
    cmd(
        "ofp-parse-pcap",
        "pcap",
        1,
        MANY,
        false,
        debug::ofp_parse_pcap,
    ),
    cmd("add-group", "switch group", 1, 2, true, groups::add_group),
    cmd("add-groups", "switch file", 2, 2, true, groups::add_groups),
    cmd("mod-group", "switch group", 1, 2, true, groups::mod_group),
    cmd(
        "del-groups",
        "switch [group]",
        1,
        2,
        true,
        groups::del_groups,
    ),
    cmd(
        "insert-buckets",
        "switch [group]",
        1,
        2,
        true,
        groups::insert_buckets,
    ),
    cmd(
        "remove-buckets",
        "switch [group]",
        1,
        2,
        true,
        groups::remove_buckets,
    ),
    cmd(
        "dump-groups",
        "switch [group]",
        1,
        2,
        false,
        groups::dump_groups,
    ),
    cmd(
        "dump-group-stats",
        "switch [group]",
        1,
        2,
        false,
        groups::dump_group_stats,
    ),
    cmd(
        "dump-group-features",
        "switch",
        1,
        1,
        false,
        groups::dump_group_features,
    ),
    cmd("bundle", "switch file", 2, 2, true, bundle::bundle),
    cmd("add-tlv-map", "switch map", 2, 2, true, groups::add_tlv_map),
    cmd(
        "del-tlv-map",
        "switch [map]",
        1,
        2,
        true,
        groups::del_tlv_map,
    ),
    cmd("dump-tlv-map", "switch", 1, 1, false, groups::dump_tlv_map),
    cmd("help", "", 0, MANY, false, help),
    cmd("list-commands", "", 0, MANY, false, list_commands),
    cmd("parse-flow", "", 1, 1, false, debug::parse_flow),
    cmd("parse-flows", "", 1, 1, false, debug::parse_flows),
    cmd("parse-group", "", 1, 1, false, debug::parse_group),
    cmd("parse-nx-match", "", 0, 0, false, debug::parse_nxm),
    cmd("parse-nxm", "", 0, 0, false, debug::parse_nxm),
    cmd("parse-oxm", "", 1, 1, false, debug::parse_oxm),
    cmd("parse-actions", "", 1, 1, false, debug::parse_actions),
    cmd(
        "parse-instructions",
        "",
        1,
        1,
        false,
        debug::parse_instructions,
    ),
    cmd(
        "parse-ofp10-match",
        "",
        0,
        0,
        false,
        debug::parse_ofp10_match,
    ),
    cmd(
        "parse-ofp11-match",
        "",
        0,
        0,
        false,
        debug::parse_ofp11_match,
    ),
    cmd("print-error", "", 1, 1, false, debug::print_error),
    cmd(
        "encode-error-reply",
        "",
        2,
        2,
        false,
        debug::encode_error_reply,
    ),
    cmd("ofp-print", "", 1, 2, false, debug::ofp_print),
    cmd("check-vlan", "", 2, 2, false, debug::check_vlan),
    cmd("parse-packet", "", 0, 0, false, packets::parse_packet),
    cmd("parse-pcap", "", 1, MANY, false, packets::parse_pcap),
    cmd("encode-hello", "", 1, 1, false, debug::encode_hello),
    cmd(
        "parse-key-value",
        "",
        1,
        MANY,
        false,
        debug::parse_key_value,
    ),
];

/// Runs the program; `args` begins with its name.
pub fn run(args: Vec<String>) -> ExitCode {
    ferrovs_openflow::warn::set_sink(log::warn);
    let (mut opt, operands) = parse(args);
    let Some((name, rest)) = operands.split_first() else {
        fatal("missing command name; use --help for help");
    };
    let Some(command) = COMMANDS.iter().find(|c| c.name == name) else {
        fatal(format_args!(
            "unknown command '{name}'; use --help for help"
        ));
    };
    if rest.len() < command.min {
        fatal(format_args!(
            "'{name}' command requires at least {} arguments",
            command.min
        ));
    }
    if rest.len() > command.max {
        fatal(format_args!(
            "'{name}' command takes at most {} arguments",
            command.max
        ));
    }
    if opt.read_only && command.writes {
        fatal(
            format_args!("'{name}' command can not be used in read only mode")
                .to_string()
                .as_str(),
        );
    }
    (command.run)(rest, &mut opt);
    ExitCode::SUCCESS
}

fn parse(args: Vec<String>) -> (Options, Vec<String>) {
    let tables = [
        OPTIONS,
        daemon::OPTIONS,
        options::VLOG,
        options::SSL,
        &[options::SSL_BOOTSTRAP, options::SSL_PEER_CA],
    ];
    let mut parser = Parser::new(&tables, args, true);
    let mut opt = Options {
        versions: Versions::of(Version::V10),
        protocols: Protocol::all(),
        strict: false,
        readd: false,
        packet_in_format: None,
        verbosity: 0,
        timestamp: false,
        sort: Vec::new(),
        use_names: None,
        stats: true,
        unixctl: None,
        bundle: false,
        may_create: false,
        read_only: false,
        raw: false,
        bad_csum: false,
        pcap: false,
        daemon: Daemon::new(),
    };
    let mut ssl = options::Ssl::default();
    let mut colored = false;
    while let Some(found) = parser.next_or_exit() {
        if options::handle_vlog(&found) || opt.daemon.handle(&found) || ssl.handle(&found) {
            continue;
        }
        let value = found.required();
        match found.opt.long {
            "timeout" => match value.parse::<u32>() {
                Ok(s) if s > 0 => set_timeout(s),
                _ => fatal(format_args!("value {value} on -t or --timeout is invalid")),
            },
            "strict" => opt.strict = true,
            "readd" => opt.readd = true,
            "flow-format" => opt.protocols = flow_formats(value),
            "packet-in-format" => match PacketInFormat::from_name(value) {
                Some(f) => opt.packet_in_format = Some(f),
                None => fatal(format_args!("unknown packet-in format `{value}'")),
            },
            "more" => opt.verbosity += 1,
            "timestamp" => opt.timestamp = true,
            "sort" | "rsort" => {
                let field = found.value.clone().unwrap_or_default();
                flows::check_sort_field(&field);
                opt.sort.push((field, found.opt.long == "rsort"));
            }
            "names" => opt.use_names = Some(true),
            "no-names" => opt.use_names = Some(false),
            "stats" => opt.stats = true,
            "no-stats" => opt.stats = false,
            "unixctl" => opt.unixctl = Some(value.to_owned()),
            "bundle" => opt.bundle = true,
            "color" => colored = is_colored(found.value.as_deref()),
            "may-create" => opt.may_create = true,
            "read-only" => opt.read_only = true,
            "raw" => opt.raw = true,
            "bad-csum" => opt.bad_csum = true,
            "pcap" => opt.pcap = true,
            "protocols" => opt.versions = versions(value),
            "help" => {
                usage();
                std::process::exit(0);
            }
            "option" => {
                options::print_options(&tables);
                std::process::exit(0);
            }
            "version" => {
                version::print_version(dirs::program_name(), &[]);
                println!("OpenFlow versions 0x1:0x6");
                std::process::exit(0);
            }
            _ => {}
        }
    }
    crate::tls::configure(&ssl);
    if colored {
        let choice = std::env::var("OVS_COLORS").unwrap_or_default();
        set_colors(Colors::new(&choice));
    }
    agree_on_versions(&mut opt);
    (opt, parser.operands())
}

fn flow_formats(value: &str) -> Protocol {
    let names = value.split(',').filter(|s| !s.is_empty());
    let formats = names.fold(Protocol::empty(), |set, name| {
        match Protocol::by_name(name) {
            Some(p) => set | p,
            None => fatal(format_args!("{name}: unknown flow protocol")),
        }
    });
    if formats.is_empty() {
        fatal(format_args!("{value}: unknown flow format"));
    }
    formats
}

fn versions(value: &str) -> Versions {
    let mut versions = Versions::NONE;
    for name in value.split(',').filter(|s| !s.is_empty()) {
        match Version::from_name(name) {
            Some(version) => versions.insert(version),
            None => fatal(format_args!("Unknown OpenFlow version: \"{name}\"")),
        }
    }
    versions
}

fn is_colored(when: Option<&str>) -> bool {
    match when {
        Some("never" | "no" | "none") => false,
        Some("always" | "yes" | "force") => true,
        None | Some("auto" | "tty" | "if-tty") => is_color_terminal(),
        Some(v) => fatal(format_args!("incorrect value `{v}' for --color")),
    }
}

/// Leaves the versions and formats that go together.
fn agree_on_versions(opt: &mut Options) {
    if opt.bundle
        && opt
            .versions
            .intersect(bundle::PROTOCOLS.versions())
            .is_empty()
    {
        // Bundles are of OpenFlow 1.4.
        opt.versions = Versions::of(Version::V14);
    }
    // The formats of versions that are not allowed cannot be used.
    let mut allowed = Protocol::empty();
    opt.versions
        .iter()
        .for_each(|v| allowed |= Protocol::all_of(v));
    let both = opt.protocols & allowed;
    if both.is_empty() {
        fatal(format_args!(
            "None of the enabled OpenFlow versions ({}) supports any of the enabled flow formats ({}).  \
             (Use -O to enable additional OpenFlow versions or -F to enable additional flow formats.)",
            version_names(opt.versions),
            opt.protocols.names()
        ));
    }
    opt.protocols = both;
}

/// Whether what is printed goes to a terminal that knows colors.
fn is_color_terminal() -> bool {
    let term = std::env::var_os("TERM");
    std::io::stdout().is_terminal() && term.is_some_and(|term| term != "dumb")
}

/// `OpenFlow10, OpenFlow13`.
pub fn version_names(v: Versions) -> String {
    v.iter().map(Version::name).collect::<Vec<_>>().join(", ")
}

fn help(_: &[String], _: &mut Options) {
    usage();
}

fn list_commands(_: &[String], _: &mut Options) {
    println!("The available commands are:");
    for c in COMMANDS {
        println!("  {:<23} {}", c.name, c.usage);
    }
}

/// Whether a multipart reply has further parts.
pub fn has_more(msg: &[u8]) -> bool {
    let Ok(p) = ferrovs_openflow::raw::parse(msg) else {
        return false;
    };
    p.more
}

/// Ends the program because a reply made no sense.
pub fn bad_reply(msg: &[u8]) -> ! {
    let tun = Tun::auto();
    let mut out = String::new();
    format_message(
        msg,
        Print {
            names: Names::none(&tun),
            verbosity: 2,
        },
        &mut out,
    );
    fatal(format_args!("received bad reply: {}", out.trim_end()))
}

/// Writes to standard output.
pub fn put(text: &str) {
    let stdout = std::io::stdout();
    let mut lock = stdout.lock();
    if lock
        .write_all(text.as_bytes())
        .and_then(|()| lock.flush())
        .is_err()
    {
        std::process::exit(1);
    }
}

/// Text for standard output that comes in many small pieces.
#[derive(Default)]
pub struct Pieces(pub String);

impl Pieces {
    /// Lets go of what is there if it is worth a write.
    pub fn relieve(&mut self) {
        if self.0.len() >= 1 << 16 {
            put(&self.0);
            self.0.clear();
        }
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        put(&self.0);
    }
}

/// Prints one message without names.
pub fn print_message(msg: &[u8], verbosity: u8) {
    let tun = Tun::auto();
    print_with(msg, Names::none(&tun), verbosity);
}

/// Prints one message with names.
pub fn print_with(msg: &[u8], names: Names<'_>, verbosity: u8) {
    let mut out = String::new();
    format_message(msg, Print { names, verbosity }, &mut out);
    put(&out);
}

/// Prints an error reply and ends the program.
pub fn die_of(reply: &[u8], names: Names<'_>, opt: &Options) -> ! {
    let mut out = String::new();
    // What was accepted by name is shown by name only if that was asked for.
    let names = if opt.show_names() {
        names
    } else {
        Names::none(names.tun)
    };
    let p = Print {
        names,
        verbosity: opt.verbosity + 2,
    };
    format_message(reply, p, &mut out);
    eprint!("{out}");
    std::process::exit(1)
}

/// Sends messages that have no reply; an error ends the program.
pub fn noreply(v: &mut vconn::Vconn, messages: &[(u32, Vec<u8>)], names: Names<'_>, opt: &Options) {
    match v.transact_noreply(messages) {
        Ok(None) => {}
        Ok(Some(error)) => die_of(&error, names, opt),
        Err(e) => vconn::talking(v, &e),
    }
}

/// Sends one such message.
pub fn noreply_one(v: &mut vconn::Vconn, body: Message, names: Names<'_>, opt: &Options) {
    let m = v.encode(body, names.tun);
    if m.1.is_empty() {
        fatal(format_args!("{} cannot say this", v.version.name()));
    }
    noreply(v, &[m], names, opt);
}

/// Asks and prints the reply (each part of it).
pub fn dump_print(v: &mut vconn::Vconn, request: Message, names: Names<'_>, opt: &Options) {
    let (xid, bytes) = v.encode(request, names.tun);
    if let Err(e) = v.send_bytes(&bytes) {
        vconn::talking(v, &e);
    }
    loop {
        let m = match v.recv_xid(xid) {
            Ok(m) => m,
            Err(e) => vconn::talking(v, &e),
        };
        print_with(&m, names, opt.verbosity + 1);
        // An error ends the dialogue as the last part does.
        if !has_more(&m) {
            break;
        }
    }
}

/// Decodes a reply that must be of the kind that `pick` takes.
pub fn expect<T>(reply: &[u8], tun: &Tun<'_>, pick: impl FnOnce(Message) -> Option<T>) -> T {
    match Msg::decode(reply, tun) {
        Ok(m) => match pick(m.body) {
            Some(t) => t,
            None => bad_reply(reply),
        },
        Err(_) => bad_reply(reply),
    }
}

/// Prints bytes in hexadecimal.
pub fn put_hex(data: &[u8]) {
    let mut out = String::new();
    hex_dump(data, false, &mut out);
    put(&out);
}

const COMMANDS_HELP: &str = "
For OpenFlow switches:
  show SWITCH                 show OpenFlow information
  dump-desc SWITCH            print switch description
  dump-tables SWITCH          print table stats
  dump-table-features SWITCH  print table features
  dump-table-desc SWITCH      print table description (OF1.4+)
  mod-port SWITCH IFACE ACT   modify port behavior
  mod-table SWITCH MOD        modify flow table behavior
      OF1.1/1.2 MOD: controller, continue, drop
      OF1.4+ MOD: evict, noevict, vacancy:low,high, novacancy
  get-frags SWITCH            print fragment handling behavior
  set-frags SWITCH FRAG_MODE  set fragment handling behavior
      FRAG_MODE: normal, drop, reassemble, nx-match
  dump-ports SWITCH [PORT]    print port statistics
  dump-ports-desc SWITCH [PORT]  print port descriptions
  dump-flows SWITCH           print all flow entries
  dump-flows SWITCH FLOW      print matching FLOWs
  dump-aggregate SWITCH       print aggregate flow statistics
  dump-aggregate SWITCH FLOW  print aggregate stats for FLOWs
  queue-stats SWITCH [PORT [QUEUE]]  dump queue stats
  add-flow SWITCH FLOW        add flow described by FLOW
  add-flows SWITCH FILE       add flows from FILE
  mod-flows SWITCH FLOW       modify actions of matching FLOWs
  del-flows SWITCH [FLOW]     delete matching FLOWs
  replace-flows SWITCH FILE   replace flows with those in FILE
  diff-flows SOURCE1 SOURCE2  compare flows from two sources
  packet-out SWITCH IN_PORT ACTIONS PACKET...
                              execute ACTIONS on PACKET
  monitor SWITCH [MISSLEN] [invalid_ttl] [watch:[...]]
                              print packets received from SWITCH
  snoop SWITCH                snoop on SWITCH and its controller
  add-group SWITCH GROUP      add group described by GROUP
  add-groups SWITCH FILE      add group from FILE
  [--may-create] mod-group SWITCH GROUP   modify specific group
  del-groups SWITCH [GROUP]   delete matching GROUPs
  insert-buckets SWITCH [GROUP] add buckets to GROUP
  remove-buckets SWITCH [GROUP] remove buckets from GROUP
  dump-group-features SWITCH  print group features
  dump-groups SWITCH [GROUP]  print group description
  dump-group-stats SWITCH [GROUP]  print group statistics
  queue-get-config SWITCH [PORT]  print queue config for PORT
  add-meter SWITCH METER      add meter described by METER
  mod-meter SWITCH METER      modify specific METER
  del-meters SWITCH [METER]   delete meters matching METER
  dump-meters SWITCH [METER]  print METER configuration
  meter-stats SWITCH [METER]  print meter statistics
  meter-features SWITCH       print meter features
  add-tlv-map SWITCH MAP      add TLV option MAPpings
  del-tlv-map SWITCH [MAP] delete TLV option MAPpings
  dump-tlv-map SWITCH      print TLV option mappings
  dump-ipfix-bridge SWITCH    print ipfix stats of bridge
  dump-ipfix-flow SWITCH      print flow ipfix of a bridge
  ct-flush-zone SWITCH ZONE   flush conntrack entries in ZONE
  ct-flush SWITCH [ZONE] [mark=X[/M]] [labels=Y[/N]]
                  [CT_ORIG_TUPLE [CT_REPLY_TUPLE]]
                              flush conntrack entries specified
                              by CT_ORIG/REPLY_TUPLE, ZONE, mark
                              and labels

For OpenFlow switches and controllers:
  probe TARGET                probe whether TARGET is up
  ping TARGET [N]             latency of N-byte echos
  benchmark TARGET N COUNT    bandwidth of COUNT N-byte echos
SWITCH or TARGET is an active OpenFlow connection method.

Other commands:
  ofp-parse FILE              print messages read from FILE
  ofp-parse-pcap PCAP         print OpenFlow read from PCAP

Active OpenFlow connection methods:
  tcp:HOST[:PORT]         PORT (default: 6653) at remote HOST
  ssl:HOST[:PORT]         SSL/TLS PORT (default: 6653) at remote HOST
  unix:FILE               Unix domain socket named FILE
PKI configuration (required to use SSL/TLS):
  -p, --private-key=FILE  file with private key
  -c, --certificate=FILE  file with certificate for private key
  -C, --ca-cert=FILE      file with peer CA certificate
";

const OPTIONS_HELP: &str = "
Other options:
  --strict                    use strict match for flow commands
  --read-only                 do not execute read/write commands
  --readd                     replace flows that haven't changed
  -F, --flow-format=FORMAT    force particular flow format
  -P, --packet-in-format=FRMT force particular packet in format
  -m, --more                  be more verbose printing OpenFlow
  --timestamp                 (monitor, snoop) print timestamps
  -t, --timeout=SECS          give up after SECS seconds
  --sort[=field]              sort in ascending order
  --rsort[=field]             sort in descending order
  --names                     show port names instead of numbers
  --no-names                  show port numbers, but not names
  --unixctl=SOCKET            set control socket name
  --color[=always|never|auto] control use of color in output
  -h, --help                  display this help message
  -V, --version               display version information
";

fn usage() {
    let p = dirs::program_name();
    print!(
        "{p}: OpenFlow switch management utility
usage: {p} [OPTIONS] COMMAND [ARG...]
{COMMANDS_HELP}"
    );
    daemon::usage();
    print!(
        "
OpenFlow version options:
  -V, --version           display version information
  -O, --protocols         set allowed OpenFlow versions
                          (default: {})
",
        version_names(Versions::ALL)
    );
    vlog::usage();
    print!("{OPTIONS_HELP}");
}

//! Changes that take effect together: `--bundle` and the command `bundle`.

use std::io;

use ferrovs_openflow::flow::{FlowMod, PackedFlowMod};
use ferrovs_openflow::group::GroupCommand;
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::switch::{BundleAdd, BundleCtrl, BundleCtrlType, BundleFlags};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::flow::{parse_flow_mod, warn_unmeant};
use ferrovs_openflow::text::group::parse_group_mod;
use ferrovs_openflow::text::print::{Print, format_message};
use ferrovs_openflow::version::Protocol;
use ferrovs_runtime::{fatal, fatal_io};

use super::Options;
use super::flows::{flow_mod_message, line_command, open_for, parse_packet_out, read_file};
use super::groups::group_line_command;
use super::names::SwitchNames;
use super::vconn::{self, Vconn};

pub const PROTOCOLS: Protocol = Protocol::OF13_OXM
    .union(Protocol::OF14_OXM)
    .union(Protocol::OF15_OXM);
const FLAGS: BundleFlags = BundleFlags::ATOMIC.union(BundleFlags::ORDERED);

/// A bundle under way.
struct Sender<'a> {
    v: Vconn,
    n: &'a SwitchNames,
    opt: &'a Options,
    /// Messages that add to the bundle, by rising transaction id.
    messages: Vec<(u32, Vec<u8>)>,
    /// Errors that came back.
    errors: Vec<Vec<u8>>,
}

impl Sender<'_> {
    /// Whether the switch did what `type_` asks for.
    fn control(&mut self, type_: BundleCtrlType, want: BundleCtrlType) -> bool {
        let m = Message::BundleControl(BundleCtrl {
            bundle_id: 0,
            type_,
            flags: FLAGS,
        });
        let reply = match self.v.transact_after(m, &self.n.tun, &mut self.errors) {
            Ok(r) => r,
            Err(e) => self.fail(&e),
        };
        match Msg::decode(&reply, &self.n.tun).map(|m| m.body) {
            Ok(Message::BundleControl(b)) if b.type_ == want => true,
            Ok(Message::Error(_)) => {
                self.errors.push(reply);
                false
            }
            _ => super::bad_reply(&reply),
        }
    }

    /// The message of this transaction id that was added to the bundle.
    fn added(&self, xid: u32) -> Option<Vec<u8>> {
        let at = self.messages.binary_search_by_key(&xid, |(xid, _)| *xid);
        let (_, bytes) = &self.messages[at.ok()?];
        match Msg::decode(bytes, &self.n.tun).ok()?.body {
            Message::BundleAdd(add) => Some(add.msg),
            _ => None,
        }
    }

    /// Prints the errors that came back.
    fn tell_errors(&self) {
        let names = match self.opt.show_names() {
            true => self.n.names(),
            false => Names::none(&self.n.tun),
        };
        let p = Print {
            names,
            verbosity: self.opt.verbosity + 1,
        };
        for error in &self.errors {
            let Ok(Msg {
                xid,
                body: Message::Error(e),
                ..
            }) = Msg::decode(error, &self.n.tun)
            else {
                continue;
            };
            let message = self.added(xid).unwrap_or(e.data);
            let mut text = String::new();
            format_message(&message, p, &mut text);
            let name = e.error.map_or("unknown", |e| e.name());
            eprint!("Error {name} for: {text}");
        }
    }

    /// Ends the program because the bundle failed.
    fn fail(&self, e: &io::Error) -> ! {
        self.tell_errors();
        vconn::talking(&self.v, e)
    }

    /// Sends the messages between opening and commit.
    fn run(&mut self) -> bool {
        if !self.control(BundleCtrlType::OpenRequest, BundleCtrlType::OpenReply) {
            return false;
        }
        match self.v.transact_errors(&self.messages) {
            Ok(errors) => self.errors.extend(errors),
            Err(e) => self.fail(&e),
        }
        if !self.errors.is_empty() {
            self.control(BundleCtrlType::DiscardRequest, BundleCtrlType::DiscardReply);
            return false;
        }
        self.control(BundleCtrlType::CommitRequest, BundleCtrlType::CommitReply)
    }
}

/// Sends messages as one bundle.
pub fn send(
    switch: &str,
    list: impl IntoIterator<Item = Message>,
    usable: Protocol,
    n: &SwitchNames,
    opt: &Options,
) {
    let mut opt_versions = opt.protocols;
    // A bundle needs 1.3 at least; if only older ones are allowed, the newer are tried all the same.
    let mut versions = opt.versions;
    if (opt_versions & PROTOCOLS).is_empty() {
        opt_versions |= PROTOCOLS;
        versions = versions.union(PROTOCOLS.versions());
    }
    let usable = usable & PROTOCOLS;
    if usable.is_empty() {
        fatal("none of the usable flow formats supports bundles");
    }
    let wide = Options {
        versions,
        protocols: opt_versions,
        daemon: Default::default(),
        sort: Vec::new(),
        unixctl: None,
        ..*opt
    };
    let (v, _) = open_for(switch, usable, &wide);
    let mut sender = Sender {
        v,
        n,
        opt,
        messages: Vec::new(),
        errors: Vec::new(),
    };
    let version = sender.v.version;
    for body in list {
        let xid = vconn::next_xid();
        let msg = Msg::new(version, xid, body).to_bytes(&n.tun);
        if msg.is_empty() {
            fatal("message cannot be part of a bundle in this version");
        }
        let add = Message::BundleAdd(BundleAdd {
            bundle_id: 0,
            flags: FLAGS,
            msg,
        });
        let bytes = Msg::new(version, xid, add).to_bytes(&n.tun);
        sender.messages.push((xid, bytes));
    }
    if !sender.run() {
        sender.fail(&ferrovs_stream::protocol_error());
    }
}

/// Sends flow mods as one bundle.
pub fn send_flows(
    switch: &str,
    flows: impl Iterator<Item = FlowMod>,
    usable: Protocol,
    n: &SwitchNames,
    opt: &Options,
) {
    let list = flows.map(|fm| flow_mod_message(fm, Protocol::OF14_OXM));
    send(switch, list, usable, n, opt);
}

/// `bundle SWITCH FILE`: lines `flow ...`, `group ...`, `packet-out ...`.
pub fn bundle(args: &[String], opt: &mut Options) {
    let n = SwitchNames::to_accept(&args[0], opt);
    let file = args[1].as_str();
    let text = match read_file(file) {
        Ok(t) => t,
        Err(e) => fatal_io(&e, format_args!("{file}: open failed")),
    };
    let mut usable = PROTOCOLS;
    let mut list: Vec<Kept> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let mut p = Protocol::all();
        let parsed = match word {
            "flow" => {
                let (cmd, rest) = line_command(rest.trim_start(), None);
                parse_flow_mod(rest, cmd, &n.names(), &mut p)
                    .inspect(|fm| warn_unmeant(&fm.match_))
                    .map(|fm| Kept::FlowMod(fm.pack()))
            }
            "group" => {
                let (cmd, tail) = group_line_command(rest.trim_start(), GroupCommand::Add);
                parse_group_mod(tail, cmd, &n.names(), &mut p)
                    .map(|m| Kept::Other(Message::GroupMod(m)))
            }
            "packet-out" => parse_packet_out(rest, &n.names(), &mut p)
                .map(|po| Kept::Other(Message::PacketOut(Box::new(po)))),
            _ => Err(format!("Unsupported bundle message type: {word}")),
        };
        match parsed {
            Ok(m) => list.push(m),
            Err(e) => fatal(format_args!("{file}:{}: {e}", i + 1)),
        }
        usable &= p;
    }
    let list = list.into_iter().map(|kept| match kept {
        Kept::FlowMod(fm) => flow_mod_message(fm.unpack(), Protocol::OF14_OXM),
        Kept::Other(message) => message,
    });
    send(&args[0], list, usable, &n, opt);
}

/// A message of a bundle that waits until all lines are read.
enum Kept {
    FlowMod(PackedFlowMod),
    Other(Message),
}

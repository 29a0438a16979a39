//! Changes that take effect together: `--bundle` and the command `bundle`.

use ferrovs_openflow::flow::FlowMod;
use ferrovs_openflow::message::{Message, Msg};
use ferrovs_openflow::switch::{BundleAdd, BundleCtrl, BundleCtrlType, BundleFlags};
use ferrovs_openflow::text::flow::{parse_flow_mod, warn_unmeant};
use ferrovs_openflow::text::group::parse_group_mod;
use ferrovs_openflow::version::Protocol;
use ferrovs_runtime::{fatal, fatal_io};

use super::flows::{flow_mod_message, line_command, open_for, parse_packet_out, read_file};
use super::names::SwitchNames;
use super::vconn::{self, Vconn};
use super::{Options, die_of};

pub const PROTOCOLS: Protocol = Protocol::OF13_OXM
    .union(Protocol::OF14_OXM)
    .union(Protocol::OF15_OXM);
const FLAGS: BundleFlags = BundleFlags::ATOMIC.union(BundleFlags::ORDERED);

fn control(
    v: &mut Vconn,
    type_: BundleCtrlType,
    want: BundleCtrlType,
    n: &SwitchNames,
    opt: &Options,
) {
    let m = Message::BundleControl(BundleCtrl {
        bundle_id: 0,
        type_,
        flags: FLAGS,
    });
    let reply = match v.transact(m, &n.tun) {
        Ok(r) => r,
        Err(e) => vconn::talking(v, &e),
    };
    match Msg::decode(&reply, &n.tun) {
        Ok(Msg {
            body: Message::BundleControl(b),
            ..
        }) if b.type_ == want => {}
        Ok(Msg {
            body: Message::Error(_),
            ..
        }) => die_of(&reply, n.names(), opt),
        _ => super::bad_reply(&reply),
    }
}

/// Sends messages as one bundle.
pub fn send(switch: &str, list: Vec<Message>, usable: Protocol, n: &SwitchNames, opt: &Options) {
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
    let (mut v, _) = open_for(switch, usable, &wide);
    control(
        &mut v,
        BundleCtrlType::OpenRequest,
        BundleCtrlType::OpenReply,
        n,
        opt,
    );
    let mut messages = Vec::new();
    for body in list {
        let xid = vconn::next_xid();
        let inner = Msg::new(v.version, xid, body).to_bytes(&n.tun);
        if inner.is_empty() {
            fatal("message cannot be part of a bundle in this version");
        }
        let add = Message::BundleAdd(BundleAdd {
            bundle_id: 0,
            flags: FLAGS,
            msg: inner,
        });
        messages.push((xid, Msg::new(v.version, xid, add).to_bytes(&n.tun)));
    }
    match v.transact_noreply(&messages) {
        Ok(None) => {}
        Ok(Some(error)) => die_of(&error, n.names(), opt),
        Err(e) => vconn::talking(&v, &e),
    }
    control(
        &mut v,
        BundleCtrlType::CommitRequest,
        BundleCtrlType::CommitReply,
        n,
        opt,
    );
}

/// Sends flow mods as one bundle.
pub fn send_flows(
    switch: &str,
    flows: Vec<FlowMod>,
    usable: Protocol,
    n: &SwitchNames,
    opt: &Options,
) {
    let list = flows
        .into_iter()
        .map(|fm| flow_mod_message(fm, Protocol::OF14_OXM))
        .collect();
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
    let mut list = Vec::new();
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
                    .inspect(warn_unmeant)
                    .map(|fm| flow_mod_message(fm, Protocol::OF14_OXM))
            }
            "group" => {
                let rest = rest.trim_start();
                let (word, tail) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
                use ferrovs_openflow::group::GroupCommand::*;
                let (cmd, tail) = match word {
                    "add" => (Add, tail),
                    "modify" => (Modify, tail),
                    "add_or_mod" => (AddOrModify, tail),
                    "delete" => (Delete, tail),
                    "insert_bucket" => (InsertBucket, tail),
                    "remove_bucket" => (RemoveBucket, tail),
                    _ => (Add, rest),
                };
                parse_group_mod(tail, cmd, &n.names(), &mut p).map(Message::GroupMod)
            }
            "packet-out" => parse_packet_out(rest, &n.names(), &mut p)
                .map(|po| Message::PacketOut(Box::new(po))),
            _ => Err(format!("Unsupported bundle message type: {line}")),
        };
        match parsed {
            Ok(m) => list.push(m),
            Err(e) => fatal(format_args!("{file}:{}: {e}", i + 1)),
        }
        usable &= p;
    }
    send(&args[0], list, usable, &n, opt);
}

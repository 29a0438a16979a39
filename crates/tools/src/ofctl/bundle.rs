//! Changes that take effect together: `--bundle` and the command `bundle`.

use std::io;
use std::ops::Range;

use ferrovs_openflow::codec::frame_len;
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
/// A block is sent with the message that makes it full.
const BLOCK_CAPACITY: usize = vconn::READ_SIZE + 1024;
const FLAGS: BundleFlags = BundleFlags::ATOMIC.union(BundleFlags::ORDERED);

/// Messages that were sent, whose transaction ids follow each other, in the blocks in which they were.
#[derive(Default)]
struct Sent {
    xids: Range<u32>,
    /// Each with the transaction id of its first message.
    blocks: Vec<(u32, Vec<u8>)>,
}

impl Sent {
    fn find(&self, xid: u32) -> Option<&[u8]> {
        let after = self.blocks.partition_point(|(first, _)| *first <= xid);
        let (first, block) = self.blocks[..after].last()?;
        let mut rest = &block[..];
        for at in *first.. {
            let (message, after) = rest.split_at_checked(frame_len(rest)?.ok()?)?;
            if at == xid {
                return Some(message);
            }
            rest = after;
        }
        None
    }
}

/// A bundle under way.
struct Sender<'a> {
    v: Vconn,
    n: &'a SwitchNames,
    opt: &'a Options,
    /// What was added to the bundle.
    sent: Sent,
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
        match Msg::decode(self.sent.find(xid)?, &self.n.tun).ok()?.body {
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

    /// Adds messages to the bundle: the switch takes the first while the next are made.
    fn add(&mut self, list: impl Iterator<Item = Message>) -> io::Result<()> {
        let version = self.v.version;
        let mut block = Vec::with_capacity(BLOCK_CAPACITY);
        let mut first = self.sent.xids.start;
        let mut msg = Vec::new();
        for (xid, body) in self.sent.xids.clone().zip(list) {
            msg.clear();
            let inner = Msg::new(version, xid, body).encode(&self.n.tun, &mut msg);
            let mut add = Msg {
                version,
                xid,
                body: Message::BundleAdd(BundleAdd {
                    bundle_id: 0,
                    flags: FLAGS,
                    msg,
                }),
            };
            if inner.is_err() || add.encode(&self.n.tun, &mut block).is_err() {
                fatal("message cannot be part of a bundle in this version");
            }
            msg = match &mut add.body {
                Message::BundleAdd(add) => std::mem::take(&mut add.msg),
                _ => Vec::new(),
            };
            if block.len() >= vconn::READ_SIZE {
                self.v.send_bytes(&block)?;
                let next = Vec::with_capacity(BLOCK_CAPACITY);
                let full = std::mem::replace(&mut block, next);
                self.sent.blocks.push((first, full));
                first = xid + 1;
            }
        }
        self.v.send_bytes(&block)?;
        self.sent.blocks.push((first, block));
        Ok(())
    }

    /// Sends the messages between opening and commit.
    fn run(&mut self, list: impl Iterator<Item = Message>) -> bool {
        if !self.control(BundleCtrlType::OpenRequest, BundleCtrlType::OpenReply) {
            return false;
        }
        let xids = self.sent.xids.clone();
        let added = self.add(list);
        match added.and_then(|()| self.v.barrier(|xid| xids.contains(&xid))) {
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
    list: impl IntoIterator<IntoIter: ExactSizeIterator<Item = Message>>,
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
    let list = list.into_iter();
    let n_messages = list.len() as u32;
    let first = vconn::next_xids(n_messages);
    let mut sender = Sender {
        v,
        n,
        opt,
        sent: Sent {
            xids: first..first + n_messages,
            blocks: Vec::new(),
        },
        errors: Vec::new(),
    };
    if !sender.run(list) {
        sender.fail(&ferrovs_stream::protocol_error());
    }
}

/// Sends flow mods as one bundle.
pub fn send_flows(
    switch: &str,
    flows: impl ExactSizeIterator<Item = FlowMod>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_found_by_its_transaction_id() {
        let message = |xid: u32, len: u8| {
            let mut bytes = vec![5, 0, 0, len];
            bytes.extend(xid.to_be_bytes());
            bytes.resize(len.into(), 0);
            bytes
        };
        let sent = Sent {
            xids: 7..11,
            blocks: vec![
                (7, [message(7, 8), message(8, 16)].concat()),
                (9, [message(9, 24), message(10, 8)].concat()),
            ],
        };
        for (xid, len) in (7..11).zip([8, 16, 24, 8]) {
            assert_eq!(sent.find(xid), Some(&message(xid, len)[..]));
        }
        assert_eq!((sent.find(6), sent.find(11)), (None, None));
        assert_eq!(Sent::default().find(7), None);
    }
}

//! diff-flows and replace-flows: two sets of flows side by side.
//!
//! Flows of both sides that have the same table, priority and match stand in one entry of
//! [`FlowTables`], found by hash: comparing takes time in proportion to the number of flows. As in a
//! switch, the later of two such flows of one side replaces the earlier.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;

use ferrovs_openflow::action::Action;
use ferrovs_openflow::flow::{
    FlowMod, FlowModCommand, FlowModFlags, FlowStats, FlowStatsRequest, GROUP_ANY, PackedFlowMod,
};
use ferrovs_openflow::text::Names;
use ferrovs_openflow::text::action::format_actions;
use ferrovs_openflow::text::flow::imply_packet_type;
use ferrovs_openflow::text::match_::format_match;
use ferrovs_openflow::tun::Tun;
use ferrovs_openflow::version::Protocol;
use ferrovs_packet::miniflow::MiniMatch;
use ferrovs_runtime::fatal_io;

use super::flows::{fetch_flows, flow_mod_message, open_for_dump, parse_lines, read_file};
use super::names::SwitchNames;
use super::vconn::Vconn;
use super::{Options, noreply};

#[derive(Clone, Copy)]
enum Side {
    Old = 0,
    New = 1,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    table_id: u8,
    priority: u16,
    match_: MiniMatch,
}

/// What a flow says besides its key.
struct Version {
    cookie: u64,
    idle_timeout: u16,
    hard_timeout: u16,
    importance: u16,
    flags: FlowModFlags,
    actions: Vec<Action>,
}

impl Version {
    /// Whether a switch that has the one needs not be told the other. Flags do not count.
    ///
    /// Actions are the same if they read the same: what a message or a text only implied, such as that the
    /// packet has a VLAN tag, does not matter.
    fn same(&self, other: &Version) -> bool {
        self.cookie == other.cookie
            && self.idle_timeout == other.idle_timeout
            && self.hard_timeout == other.hard_timeout
            && self.importance == other.importance
            && (self.actions == other.actions || self.text() == other.text())
    }

    fn text(&self) -> String {
        let tun = Tun::auto();
        let mut out = String::new();
        format_actions(&self.actions, &Names::none(&tun), &mut out);
        out
    }
}

#[derive(Default)]
struct Entry {
    /// Entries are worked on in the order in which they came.
    seq: usize,
    versions: [Option<Version>; 2],
}

#[derive(Default)]
struct FlowTables(HashMap<Key, Entry>);

impl FlowTables {
    fn insert(&mut self, side: Side, key: Key, version: Version) {
        let seq = self.0.len();
        let entry = self.0.entry(key).or_insert(Entry {
            seq,
            ..Entry::default()
        });
        entry.versions[side as usize] = Some(version);
    }

    /// Reads the flows of a text; which formats they need goes to `usable`.
    fn add_file(
        &mut self,
        side: Side,
        file: &str,
        text: &str,
        n: &SwitchNames,
        usable: &mut Protocol,
    ) {
        for fm in parse_lines(text, file, Some(FlowModCommand::Add), &n.names(), usable) {
            let key = Key {
                table_id: if fm.table_id == 0xff { 0 } else { fm.table_id },
                priority: fm.priority,
                match_: fm.match_,
            };
            let version = Version {
                cookie: fm.new_cookie,
                idle_timeout: fm.idle_timeout,
                hard_timeout: fm.hard_timeout,
                importance: fm.importance,
                flags: fm.flags,
                actions: fm.actions,
            };
            self.insert(side, key, version);
        }
    }

    fn add_switch(
        &mut self,
        side: Side,
        switch: &str,
        usable: Protocol,
        n: &SwitchNames,
        opt: &Options,
    ) -> (Vconn, Protocol) {
        let (mut v, p) = open_for_dump(switch, usable, opt);
        let q = FlowStatsRequest {
            out_group: GROUP_ANY,
            ..Default::default()
        };
        let mut insert = |mut s: FlowStats| {
            imply_packet_type(&mut s.match_);
            let key = Key {
                table_id: s.table_id,
                priority: s.priority,
                match_: MiniMatch::new(&s.match_),
            };
            let version = Version {
                cookie: s.cookie,
                idle_timeout: s.idle_timeout,
                hard_timeout: s.hard_timeout,
                importance: s.importance,
                flags: s.flags,
                actions: s.actions,
            };
            self.insert(side, key, version);
        };
        fetch_flows(&mut v, q, p, n, |list| {
            list.into_iter().for_each(&mut insert)
        });
        (v, p)
    }

    fn sorted<K: Ord>(&self, by: impl Fn(&Key, &Entry) -> K) -> Vec<(&Key, &Entry)> {
        let mut list: Vec<_> = self.0.iter().collect();
        list.sort_by_cached_key(|(k, e)| by(k, e));
        list
    }
}

/// The message that deletes the flow, or adds this version of it.
fn flow_mod(key: &Key, add: Option<&Version>) -> FlowMod {
    let mut fm = FlowMod {
        command: FlowModCommand::DeleteStrict,
        match_: key.match_.expand(),
        priority: key.priority,
        table_id: key.table_id,
        ..Default::default()
    };
    if let Some(v) = add {
        fm.command = FlowModCommand::Add;
        fm.new_cookie = v.cookie;
        fm.modify_cookie = true;
        fm.idle_timeout = v.idle_timeout;
        fm.hard_timeout = v.hard_timeout;
        fm.importance = v.importance;
        fm.flags = v.flags;
        fm.actions.clone_from(&v.actions);
    }
    fm
}

fn text_of(file: &str) -> String {
    read_file(file).unwrap_or_else(|e| fatal_io(&e, format_args!("{file}: open")))
}

pub fn replace_flows(args: &[String], opt: &mut Options) {
    let (switch, file) = (&args[0], &args[1]);
    let n = SwitchNames::to_accept(switch, opt);
    let text = text_of(file);
    let mut tables = FlowTables::default();
    let mut usable = Protocol::all();
    tables.add_file(Side::New, file, &text, &n, &mut usable);
    let (mut v, p) = tables.add_switch(Side::Old, switch, usable, &n, opt);
    // What must go, then what must come or change.
    let list = tables.sorted(|_, e| e.seq);
    let gone = list.iter().filter_map(|(key, e)| match &e.versions {
        [Some(_), None] => Some(flow_mod(key, None)),
        _ => None,
    });
    let added = list.iter().filter_map(|(key, e)| match &e.versions {
        [Some(old), Some(new)] if old.same(new) && !opt.readd => None,
        [_, new] => new.as_ref().map(|new| flow_mod(key, Some(new))),
    });
    let mods = gone.chain(added);
    if opt.bundle {
        drop(v);
        let mods: Vec<_> = mods.map(FlowMod::pack).collect();
        let mods = mods.into_iter().map(PackedFlowMod::unpack);
        return super::bundle::send_flows(switch, mods, usable, &n, opt);
    }
    let messages: Vec<_> = mods
        .map(|fm| v.encode(flow_mod_message(fm, p), &n.tun))
        .collect();
    noreply(&mut v, &messages, n.names(), opt);
}

pub fn diff_flows(args: &[String], opt: &mut Options) {
    let mut tables = FlowTables::default();
    let mut n = SwitchNames::none();
    for (side, source) in [Side::Old, Side::New].into_iter().zip(args) {
        let is_file = !source.contains(':') && Path::new(source).exists();
        if source.starts_with(['/', '.']) || source == "-" || is_file {
            let mut usable = Protocol::all();
            tables.add_file(side, source, &text_of(source), &n, &mut usable);
        } else {
            if opt.show_names() {
                n = SwitchNames::to_show(source, opt);
            }
            // Nothing is sent but the request: what the other side needs does not matter.
            tables.add_switch(side, source, Protocol::all(), &n, opt);
        }
    }
    let mut out = String::new();
    for (key, e) in tables.sorted(|k, e| (k.table_id, Reverse(k.priority), e.seq)) {
        if matches!(&e.versions, [Some(old), Some(new)] if old.same(new)) {
            continue;
        }
        for (sign, version) in ['-', '+'].into_iter().zip(&e.versions) {
            if let Some(version) = version {
                out.push(sign);
                format_version(key, version, &n, &mut out);
                out.push('\n');
            }
        }
    }
    let differ = !out.is_empty();
    super::put(&out);
    if differ {
        std::process::exit(2);
    }
}

fn format_version(key: &Key, v: &Version, n: &SwitchNames, out: &mut String) {
    if key.table_id != 0 {
        let _ = write!(out, "table={} ", key.table_id);
    }
    format_match(&key.match_.expand(), Some(key.priority), &n.names(), out);
    if !out.ends_with(' ') {
        out.push(' ');
    }
    if v.cookie != 0 {
        let _ = write!(out, "cookie={:#x} ", v.cookie);
    }
    for (name, value) in [
        ("idle_timeout", v.idle_timeout),
        ("hard_timeout", v.hard_timeout),
        ("importance", v.importance),
    ] {
        if value != 0 {
            let _ = write!(out, "{name}={value} ");
        }
    }
    out.push_str("actions=");
    format_actions(&v.actions, &n.names(), out);
}

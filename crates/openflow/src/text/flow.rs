//! Flow mods, flow statistics and requests in text.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::LazyLock;

use ferrovs_packet::field::{
    Field, FieldId, FieldValue, Maskable, Prereq, SubField, parse_int_prefix, parse_port,
};
use ferrovs_packet::flow::Match;
use ferrovs_packet::hash::NameHasher;
use ferrovs_packet::types::{Be16, Be32, OfPort, eth_type, ip_proto};

use super::action::format_actions;
use super::color::{self, Part};
use super::cursor::{next_pair, parse_u64, u16 as num16};
use super::format::{duration, hex};
use super::match_::format_match;
use super::parse_action::{OF11_UP, OF13_UP, check_fits, parse_actions};
use super::{Names, format_table, parse_table};
use crate::action::check::{Limits, check};
use crate::error::OfpErr;
use crate::flow::*;
use crate::legacy;
use crate::version::Protocol;

/// What a flow in text is for, which decides the keys that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowUse {
    Command(FlowModCommand),
    /// A request for flows or aggregates, or a part of a monitor request: no actions, priority or timeouts.
    Request,
}

/// A word in front of a value, or alone, that is not the name of a field.
#[derive(Clone, Copy)]
enum Word {
    /// A protocol as a match: its Ethernet type and IP protocol, 0 where it says none.
    Protocol(u16, u8),
    /// A flag, and the formats that have it.
    Flag(FlowModFlags, Protocol),
    Table,
    Priority,
    OutPort,
    OutGroup,
    Importance,
    IdleTimeout,
    HardTimeout,
    Cookie,
    /// What dump-flows prints and nothing is made of.
    Statistic,
}

const OF12_UP: Protocol = Protocol::OF12_OXM.union(OF13_UP);

#[rustfmt::skip]
const WORDS: [(&str, Word); 39] = [
    ("eth", Word::Protocol(0, 0)),
    ("ip", Word::Protocol(eth_type::IP, 0)),
    ("ipv4", Word::Protocol(eth_type::IP, 0)),
    ("ip4", Word::Protocol(eth_type::IP, 0)),
    ("arp", Word::Protocol(eth_type::ARP, 0)),
    ("icmp", Word::Protocol(eth_type::IP, ip_proto::ICMP)),
    ("tcp", Word::Protocol(eth_type::IP, ip_proto::TCP)),
    ("udp", Word::Protocol(eth_type::IP, ip_proto::UDP)),
    ("sctp", Word::Protocol(eth_type::IP, ip_proto::SCTP)),
    ("igmp", Word::Protocol(eth_type::IP, ip_proto::IGMP)),
    ("ipv6", Word::Protocol(eth_type::IPV6, 0)),
    ("ip6", Word::Protocol(eth_type::IPV6, 0)),
    ("icmp6", Word::Protocol(eth_type::IPV6, ip_proto::ICMPV6)),
    ("tcp6", Word::Protocol(eth_type::IPV6, ip_proto::TCP)),
    ("udp6", Word::Protocol(eth_type::IPV6, ip_proto::UDP)),
    ("sctp6", Word::Protocol(eth_type::IPV6, ip_proto::SCTP)),
    ("rarp", Word::Protocol(eth_type::RARP, 0)),
    ("mpls", Word::Protocol(eth_type::MPLS, 0)),
    ("mplsm", Word::Protocol(eth_type::MPLS_MCAST, 0)),
    ("send_flow_rem", Word::Flag(FlowModFlags::SEND_FLOW_REM, Protocol::all())),
    ("check_overlap", Word::Flag(FlowModFlags::CHECK_OVERLAP, Protocol::all())),
    ("reset_counts", Word::Flag(FlowModFlags::RESET_COUNTS, OF12_UP)),
    ("no_packet_counts", Word::Flag(FlowModFlags::NO_PKT_COUNTS, OF13_UP)),
    ("no_byte_counts", Word::Flag(FlowModFlags::NO_BYT_COUNTS, OF13_UP)),
    ("no_readonly_table", Word::Flag(FlowModFlags::NO_READONLY, Protocol::all())),
    ("allow_hidden_fields", Word::Flag(FlowModFlags::HIDDEN_FIELDS, Protocol::all())),
    ("table", Word::Table),
    ("priority", Word::Priority),
    ("out_port", Word::OutPort),
    ("out_group", Word::OutGroup),
    ("importance", Word::Importance),
    ("idle_timeout", Word::IdleTimeout),
    ("hard_timeout", Word::HardTimeout),
    ("cookie", Word::Cookie),
    ("duration", Word::Statistic),
    ("n_packets", Word::Statistic),
    ("n_bytes", Word::Statistic),
    ("idle_age", Word::Statistic),
    ("hard_age", Word::Statistic),
];

impl Word {
    fn by_name(name: &str) -> Option<Word> {
        static BY_NAME: LazyLock<HashMap<&str, Word, NameHasher>> =
            LazyLock::new(|| WORDS.into_iter().collect());
        BY_NAME.get(name).copied()
    }

    /// Whether the word may stand in a flow that is for `what`.
    fn is_allowed(self, what: FlowUse) -> bool {
        use FlowModCommand::*;
        let command = match what {
            FlowUse::Command(command) => Some(command),
            FlowUse::Request => None,
        };
        match self {
            Word::Flag(FlowModFlags::NO_READONLY | FlowModFlags::HIDDEN_FIELDS, _) => true,
            Word::Flag(..) | Word::IdleTimeout | Word::HardTimeout => what.has_actions(),
            Word::Importance => command == Some(Add),
            Word::Priority => what.has_actions() || command == Some(DeleteStrict),
            Word::OutPort | Word::OutGroup => !what.has_actions(),
            Word::Protocol(..) | Word::Table | Word::Cookie | Word::Statistic => true,
        }
    }
}

impl FlowUse {
    /// Whether actions belong to the flow.
    fn has_actions(self) -> bool {
        matches!(self, FlowUse::Command(command) if !command.is_delete())
    }
}

/// Sets the match for a protocol's name; `false` if it is none.
pub fn set_protocol(name: &str, m: &mut Match) -> bool {
    match Word::by_name(name) {
        Some(Word::Protocol(dl_type, nw_proto)) => {
            match_protocol(dl_type, nw_proto, m);
            true
        }
        _ => false,
    }
}

fn match_protocol(dl_type: u16, nw_proto: u8, m: &mut Match) {
    if dl_type != 0 {
        m.flow.dl_type = dl_type.into();
        m.wc.masks.dl_type = Be16::MAX_VALUE;
    }
    set_default_packet_type(m);
    if nw_proto != 0 {
        m.flow.nw_proto = nw_proto;
        m.wc.masks.nw_proto = 0xff;
    }
}

/// Makes the match one of Ethernet frames, if it does not say what packets it is of.
fn set_default_packet_type(m: &mut Match) {
    if m.wc.masks.packet_type.get() == 0 {
        m.wc.masks.packet_type = Be32::MAX_VALUE;
        m.flow.packet_type = Be32::ZERO;
    }
}

/// Says in a match that came in a message what its text would: fields that only Ethernet frames have imply these.
pub fn imply_packet_type(m: &mut Match) {
    let implies = |id: &FieldId| {
        let f = id.field();
        !matches!(f.prereq, Prereq::None) && !f.is_all_wild(&m.wc)
    };
    if FieldId::ALL.iter().any(implies) {
        set_default_packet_type(m);
    }
}

/// The protocols that can carry a field with this mask.
pub fn field_protocols(f: &Field, mask: &FieldValue) -> Protocol {
    use ferrovs_packet::field::LegacyMatch::{Bitwise, Cidr, Exact};
    // Fields of the datapath alone cannot be said in OpenFlow.
    if matches!(
        f.id,
        FieldId::TunTtl | FieldId::TunTos | FieldId::SkbPriority
    ) {
        return Protocol::empty();
    }
    let mut p = Protocol::NXM_OXM_ANY;
    let exact = mask.is_ones(usize::from(f.n_bytes) * 8)
        || mask.is_ones(f.n_bits.into()) && f.id != FieldId::VlanVid;
    let cidr = || {
        let m = mask.to_u64() as u32;
        f.n_bytes == 4 && m.leading_ones() + m.trailing_zeros() >= 32
    };
    let ok = |l| match l {
        Bitwise => true,
        Cidr => exact || cidr(),
        Exact => exact || f.maskable == Maskable::No,
        _ => false,
    };
    if ok(f.of10) {
        p |= Protocol::OF10_STD_ANY;
    }
    if ok(f.of11) {
        p |= Protocol::OF11_STD;
    }
    p
}

/// Reads one field of a match.
pub fn parse_match_field(
    f: &'static Field,
    value: &str,
    names: &Names<'_>,
    m: &mut Match,
    usable: &mut Protocol,
) -> Result<(), String> {
    if value.is_empty() && f.id.tun_metadata_index().is_some() {
        // The option is there, whatever its value.
        names.tun.ensure(f, 4).map_err(|_| no_tun(f))?;
        let i = f.id.tun_metadata_index().unwrap_or(0);
        m.wc.masks.tunnel.metadata.present |= 1 << i;
        m.flow.tunnel.metadata.present |= 1 << i;
        *usable &= Protocol::NXM_OXM_ANY;
        return Ok(());
    }
    if value.is_empty() {
        return Err(missing_value(f.name));
    }
    let (mut v, mut mask) = f.parse(value, names.ports)?;
    if f.id.tun_metadata_index().is_some() {
        let len = tun_len(value);
        names.tun.ensure(f, len).map_err(|_| no_tun(f))?;
        mask = mask.and(&FieldValue::ones(names.tun.bits(f)));
    }
    // Open vSwitch lets a set bit outside the mask pass and clears it.
    v = v.and(&mask);
    if mask.is_zero() && f.id.tun_metadata_index().is_none() {
        names.tun.with(|t| f.set_wild_in(m, t));
        return Ok(());
    }
    *usable &= field_protocols(f, &mask);
    names.tun.with(|t| f.set_match_in(&v, &mask, m, t));
    if !matches!(f.prereq, Prereq::None) {
        set_default_packet_type(m);
    }
    Ok(())
}

/// Reads `FIELD[FIRST..LAST]=VALUE`, which adds to what the match has of the field.
fn parse_match_subfield(
    name: &str,
    value: &str,
    names: &Names<'_>,
    m: &mut Match,
    usable: &mut Protocol,
) -> Result<(), String> {
    let sf = SubField::parse(name)?;
    let f = sf.field.field();
    let Some((bits, "")) = parse_int_prefix(value, f) else {
        return Err(format!("{name}: cannot parse integer value: {value}"));
    };
    check_fits(&bits, &sf, name, names)?;
    names.tun.ensure(f, 4).map_err(|_| no_tun(f))?;
    let (ofs, n_bits) = (sf.ofs.into(), sf.n_bits.into());
    let (mut v, mut mask) = names
        .tun
        .with(|t| (f.value_in(&m.flow, t), f.mask_of_in(&m.wc, t)));
    v.insert(ofs, n_bits, &bits);
    mask.insert(ofs, n_bits, &FieldValue::ones(n_bits));
    if mask == f.exact_mask() {
        mask = FieldValue::ones(usize::from(f.n_bytes) * 8);
    }
    if !f.is_mask_valid(&mask) {
        // No format can carry it.
        *usable = Protocol::empty();
        return Ok(());
    }
    *usable &= field_protocols(f, &mask);
    names.tun.with(|t| f.set_match_in(&v, &mask, m, t));
    Ok(())
}

fn missing_value(name: &str) -> String {
    format!("field {name} missing value")
}

fn no_tun(f: &Field) -> String {
    format!("field {} is not mapped", f.name)
}

/// Bytes that a hexadecimal value is written with.
fn tun_len(value: &str) -> usize {
    let digits = |s: &str| {
        s.strip_prefix("0x")
            .or_else(|| s.strip_prefix("0X"))
            .map_or(4, |h| h.len().div_ceil(2))
    };
    let (v, m) = value.split_once('/').unwrap_or((value, ""));
    digits(v)
        .max(if m.is_empty() { 0 } else { digits(m) })
        .clamp(1, 124)
}

/// Reads a flow mod (`add-flow` and its kin). `table_ok`: whether a table may be given in flows that name one.
pub fn parse_flow_mod(
    s: &str,
    command: FlowModCommand,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Result<FlowMod, String> {
    parse(s, FlowUse::Command(command), names, usable)
}

/// Whether the flow says more than it means.
pub fn is_unmeant(match_: &Match) -> bool {
    !legacy::is_normal(match_)
}

/// Complains if the flow says more than it means. It is sent as it is written all the same.
pub fn warn_unmeant(match_: &Match) {
    legacy::normalize(&mut match_.clone());
}

/// Reads the selection of a flow or aggregate request.
pub fn parse_flow_stats_request(
    s: &str,
    aggregate: bool,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Result<FlowStatsRequest, String> {
    let fm = parse(s, FlowUse::Request, names, usable)?;
    Ok(FlowStatsRequest {
        aggregate,
        match_: fm.match_,
        cookie: fm.cookie,
        cookie_mask: fm.cookie_mask,
        out_port: fm.out_port,
        out_group: fm.out_group,
        table_id: fm.table_id,
    })
}

fn parse(
    s: &str,
    what: FlowUse,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Result<FlowMod, String> {
    *usable = Protocol::all();
    let command = match what {
        FlowUse::Command(c) => c,
        FlowUse::Request => FlowModCommand::Delete,
    };
    let (keys, actions) = if what.has_actions() {
        find_actions(s).ok_or("must specify an action")?
    } else {
        (s, "")
    };
    let mut fm = FlowMod {
        command,
        new_cookie: 0,
        modify_cookie: false,
        ..Default::default()
    };
    parse_keys(keys, &mut fm, what, names, usable)?;
    // Modifications in 1.0 carry a cookie always: flows that are chosen by theirs keep it, others have none afterwards.
    if command != FlowModCommand::Add && fm.cookie_mask != 0 && !fm.modify_cookie {
        fm.new_cookie = u64::MAX;
    }
    ipv6_protocols(&fm.match_, usable);
    if what.has_actions() && usable.is_empty() {
        // No format can carry the match, so none can carry the actions with it.
        return Err(
            "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)".to_owned(),
        );
    }
    if what.has_actions() {
        let mut p = Protocol::all();
        fm.actions = parse_actions(actions, names, &mut p, true)?;
        *usable &= p;
        let limits = Limits::any_switch(fm.table_id);
        check(&mut fm.actions, &fm.match_, limits, usable)
            .and(if usable.is_empty() {
                Err(OfpErr::OFPBAC_MATCH_INCONSISTENT)
            } else {
                Ok(())
            })
            .map_err(|e| format!("actions are invalid with specified match ({})", e.name()))?;
    }
    Ok(fm)
}

/// IPv6 beyond its type cannot be said in fixed matches.
fn ipv6_protocols(m: &Match, usable: &mut Protocol) {
    let w = &m.wc.masks;
    if m.flow.ether_type() == eth_type::IPV6
        && (w.nw_proto != 0 || w.nw_tos != 0 || w.tp_src.get() != 0 || w.tp_dst.get() != 0)
    {
        *usable &= Protocol::NXM_OXM_ANY;
    }
}

/// Splits a flow at its `actions=`; as in Open vSwitch, the first "action" counts wherever it stands.
pub fn find_actions(s: &str) -> Option<(&str, &str)> {
    let at = s.find("action")?;
    let (_, actions) = s[at..].split_once('=')?;
    Some((&s[..at], actions))
}

fn parse_keys(
    s: &str,
    fm: &mut FlowMod,
    what: FlowUse,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Result<(), String> {
    let mut list = s;
    while let Some((name, value)) = next_pair(&mut list) {
        let word = Word::by_name(name).filter(|word| word.is_allowed(what));
        match word {
            Some(Word::Protocol(dl_type, nw_proto)) => {
                match_protocol(dl_type, nw_proto, &mut fm.match_);
            }
            Some(Word::Flag(flag, formats)) => {
                fm.flags |= flag;
                *usable &= formats;
            }
            _ if name.contains('[') => {
                parse_match_subfield(name, value, names, &mut fm.match_, usable)?;
            }
            Some(_) if value.is_empty() => return Err(missing_value(name)),
            Some(word) => parse_keyword(word, name, value, fm, what, names, usable)?,
            None => {
                let by_name = Field::by_name(name);
                // An option of a tunnel can be matched for being there.
                let optional = by_name.is_some_and(|f| f.id.tun_metadata_index().is_some());
                let field = by_name.or_else(|| Field::by_oxm_name(name).map(|(f, _)| f));
                match field {
                    _ if value.is_empty() && !optional => return Err(missing_value(name)),
                    Some(f) => parse_match_field(f, value, names, &mut fm.match_, usable)?,
                    None => return Err(format!("unknown keyword {name}")),
                }
            }
        }
    }
    Ok(())
}

/// Reads what stands in a flow beside its match.
fn parse_keyword(
    word: Word,
    name: &str,
    value: &str,
    fm: &mut FlowMod,
    what: FlowUse,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Result<(), String> {
    match word {
        Word::Table => {
            fm.table_id =
                parse_table(value, names).ok_or_else(|| format!("unknown table \"{value}\""))?;
            // Any format can ask for the flows of a table.
            if fm.table_id != 0xff && what != FlowUse::Request {
                *usable &= Protocol::TID;
            }
        }
        Word::Priority => fm.priority = num16(value, name)?,
        Word::OutPort => {
            fm.out_port = parse_port(value, names.ports)
                .ok_or_else(|| format!("{value} is not a valid OpenFlow port"))?;
        }
        Word::OutGroup => {
            *usable &= OF11_UP;
            fm.out_group = super::parse_action::parse_group(value)
                .ok_or_else(|| format!("{value} is not a valid OpenFlow group"))?;
        }
        Word::Importance => fm.importance = num16(value, name)?,
        Word::IdleTimeout => fm.idle_timeout = num16(value, name)?,
        Word::HardTimeout => fm.hard_timeout = num16(value, name)?,
        Word::Cookie => cookie(value, fm, what, usable)?,
        Word::Statistic | Word::Protocol(..) | Word::Flag(..) => {}
    }
    Ok(())
}

fn cookie(
    value: &str,
    fm: &mut FlowMod,
    what: FlowUse,
    usable: &mut Protocol,
) -> Result<(), String> {
    let num = |s: &str| parse_u64(s).ok_or_else(|| format!("invalid numeric format {s}"));
    if let Some((c, mask)) = value.split_once('/') {
        if what == FlowUse::Command(FlowModCommand::Add) {
            return Err("flow additions cannot use a cookie mask".to_owned());
        }
        fm.cookie = if c == "-1" { u64::MAX } else { num(c)? };
        fm.cookie_mask = if mask == "-1" { u64::MAX } else { num(mask)? };
        if fm.cookie_mask != 0 {
            *usable &= Protocol::NXM_OXM_ANY | Protocol::OF11_STD;
        }
        return Ok(());
    }
    let matches_only = match what {
        FlowUse::Request => true,
        FlowUse::Command(command) => command.is_delete(),
    };
    if matches_only {
        return Err(format!(
            "cannot set cookie (to match on a cookie, specify a mask, e.g. cookie={value}/-1)"
        ));
    }
    fm.new_cookie = num(value)?;
    fm.modify_cookie = true;
    Ok(())
}

/// How flow statistics are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowShow {
    pub stats: bool,
}

/// Appends a flow as `dump-flows` prints it (without the leading blank).
pub fn format_flow_stats(fs: &FlowStats, show: FlowShow, names: &Names<'_>, out: &mut String) {
    let param = |name: &str, out: &mut String| color::head(Part::Param, name, out);
    if show.stats || fs.cookie != 0 {
        param("cookie=", out);
        let _ = write!(out, "{:#x}, ", fs.cookie);
    }
    if show.stats {
        param("duration=", out);
        duration(out, fs.duration_sec, fs.duration_nsec);
        out.push_str(", ");
    }
    if show.stats || fs.table_id != 0 || names.tables.table_name(fs.table_id).is_some() {
        color::head(Part::Special, "table=", out);
        format_table(fs.table_id, names.tables, out);
        out.push_str(", ");
    }
    if show.stats {
        for (name, n) in [("n_packets=", fs.packet_count), ("n_bytes=", fs.byte_count)] {
            param(name, out);
            let _ = match n {
                u64::MAX => write!(out, "?, "),
                n => write!(out, "{n}, "),
            };
        }
    }
    if fs.idle_timeout != 0 {
        param("idle_timeout=", out);
        let _ = write!(out, "{}, ", fs.idle_timeout);
    }
    if fs.hard_timeout != 0 {
        param("hard_timeout=", out);
        let _ = write!(out, "{}, ", fs.hard_timeout);
    }
    format_flags(fs.flags, out);
    if fs.importance != 0 {
        param("importance=", out);
        let _ = write!(out, "{}, ", fs.importance);
    }
    if show.stats {
        if let Some(a) = fs.idle_age {
            param("idle_age=", out);
            let _ = write!(out, "{a}, ");
        }
        if let Some(a) = fs.hard_age.filter(|&a| u32::from(a) != fs.duration_sec) {
            param("hard_age=", out);
            let _ = write!(out, "{a}, ");
        }
    }
    let start = out.len();
    format_match(&fs.match_, Some(fs.priority), names, out);
    if out.len() != start {
        out.push(' ');
    }
    color::head(Part::Actions, "actions=", out);
    format_actions(&fs.actions, names, out);
}

/// Appends the flags of a flow's state.
fn format_flags(flags: FlowModFlags, out: &mut String) {
    for (f, name) in FLAG_NAMES {
        if flags.contains(f) {
            let _ = write!(out, "{name} ");
        }
    }
}

/// Flags by name.
pub const FLAG_NAMES: [(FlowModFlags, &str); 5] = [
    (FlowModFlags::SEND_FLOW_REM, "send_flow_rem"),
    (FlowModFlags::CHECK_OVERLAP, "check_overlap"),
    (FlowModFlags::RESET_COUNTS, "reset_counts"),
    (FlowModFlags::NO_PKT_COUNTS, "no_packet_counts"),
    (FlowModFlags::NO_BYT_COUNTS, "no_byte_counts"),
];

/// Appends what a flow mod is and does, as in message dumps. Its flags and a text may take the place of its own;
/// behind a text that is given for the match stands the priority.
pub fn format_flow_mod(
    fm: &FlowMod,
    flags: FlowModFlags,
    wire_match: Option<&str>,
    names: &Names<'_>,
    out: &mut String,
) {
    out.push_str(match fm.command {
        FlowModCommand::Add => "ADD",
        FlowModCommand::Modify => "MOD",
        FlowModCommand::ModifyStrict => "MOD_STRICT",
        FlowModCommand::Delete => "DEL",
        FlowModCommand::DeleteStrict => "DEL_STRICT",
    });
    if fm.table_id != 0 {
        out.push_str(" table:");
        format_table(fm.table_id, names.tables, out);
    }
    out.push(' ');
    let start = out.len();
    let shows_priority = matches!(
        fm.command,
        FlowModCommand::Add | FlowModCommand::ModifyStrict | FlowModCommand::DeleteStrict
    ) || fm.priority != DEFAULT_PRIORITY;
    let priority = shows_priority.then_some(fm.priority);
    match wire_match {
        Some(text) => out.push_str(text),
        None => format_match(&fm.match_, priority, names, out),
    }
    if out.len() != start {
        out.push(' ');
    }
    if fm.new_cookie != 0 && fm.new_cookie != u64::MAX {
        let _ = write!(out, "cookie:{} ", hex(fm.new_cookie));
    }
    if fm.cookie_mask != 0 {
        let _ = write!(out, "cookie:{:#x}/{:#x} ", fm.cookie, fm.cookie_mask);
    }
    if fm.idle_timeout != 0 {
        let _ = write!(out, "idle:{} ", fm.idle_timeout);
    }
    if fm.hard_timeout != 0 {
        let _ = write!(out, "hard:{} ", fm.hard_timeout);
    }
    if wire_match.is_some() && fm.priority != DEFAULT_PRIORITY {
        let _ = write!(out, "pri:{} ", fm.priority);
    }
    if fm.importance != 0 {
        let _ = write!(out, "importance:{} ", fm.importance);
    }
    if fm.buffer_id != crate::packet_in::NO_BUFFER {
        let _ = write!(out, "buf:{:#x} ", fm.buffer_id);
    }
    if fm.out_port != OfPort::NONE {
        out.push_str("out_port:");
        ferrovs_packet::field::format_port(fm.out_port, names.ports, out);
        out.push(' ');
    }
    format_flags(flags, out);
    out.push_str("actions=");
    format_actions(&fm.actions, names, out);
}

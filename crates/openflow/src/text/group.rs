//! Groups in text.

use std::fmt::Write;

use ferrovs_packet::field::{Field, FieldId, FieldValue, format_port, parse_port};
use ferrovs_packet::types::OfPort;

use super::Names;
use super::action::format_actions;
use super::cursor::{next_pair, u16 as num16, u32 as num32, u64 as num64};
use super::format::duration;
use super::parse_action::parse_actions;
use crate::flow::{GROUP_ALL, GROUP_ANY, GROUP_MAX};
use crate::group::*;
use crate::version::{Protocol, Version};

pub fn format_group_id(id: u32, out: &mut String) {
    match id {
        GROUP_ALL => out.push_str("ALL"),
        GROUP_ANY => out.push_str("ANY"),
        id => {
            let _ = write!(out, "{id}");
        }
    }
}

fn has_bucket_ids(version: Version) -> bool {
    version == Version::V10 || version >= Version::V15
}

fn format_group(
    group_id: u32,
    type_: Option<GroupType>,
    buckets: &[Bucket],
    props: &GroupProps,
    version: Version,
    suppress_type: bool,
    names: &Names<'_>,
    out: &mut String,
) {
    let _ = write!(out, "group_id={group_id}");
    if let Some(t) = type_.filter(|_| !suppress_type) {
        let _ = write!(out, ",type={}", t.name());
    }
    if !props.selection_method.is_empty() {
        let _ = write!(out, ",selection_method={}", props.selection_method);
        if props.selection_method_param != 0 {
            let _ = write!(
                out,
                ",selection_method_param={}",
                props.selection_method_param
            );
        }
        if props.fields.len() == 1 {
            out.push_str(",fields=");
            format_hash_fields(&props.fields, names, out);
        } else if !props.fields.is_empty() {
            out.push_str(",fields(");
            format_hash_fields(&props.fields, names, out);
            out.push(')');
        }
    }
    for b in buckets {
        out.push_str(",bucket=");
        if has_bucket_ids(version) {
            let _ = write!(out, "bucket_id:{},", b.bucket_id);
        }
        if b.weight != u16::from(type_ == Some(GroupType::Select)) {
            let _ = write!(out, "weight:{},", b.weight);
        }
        if b.watch_port != OfPort::NONE {
            out.push_str("watch_port:");
            format_port(b.watch_port, names.ports, out);
            out.push(',');
        }
        if b.watch_group != GROUP_ANY {
            let _ = write!(out, "watch_group:{},", b.watch_group);
        }
        out.push_str("actions=");
        format_actions(&b.actions, names, out);
    }
}

/// The fields that a group hashes, with the bits of each if not all of them.
pub fn format_hash_fields(fields: &[(FieldId, FieldValue)], names: &Names<'_>, out: &mut String) {
    for (i, (id, mask)) in fields.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let f = id.field();
        out.push_str(f.name);
        if !mask.is_ones(f.n_bits.into()) {
            out.push('=');
            f.format(mask, None, names.ports, out);
        }
    }
}

pub fn format_group_desc(g: &GroupDesc, version: Version, names: &Names<'_>, out: &mut String) {
    format_group(
        g.group_id,
        Some(g.type_),
        &g.buckets,
        &g.props,
        version,
        false,
        names,
        out,
    );
}

pub fn format_group_stats(g: &GroupStats, out: &mut String) {
    let _ = write!(out, "group_id={},", g.group_id);
    if g.duration_sec != u32::MAX {
        out.push_str("duration=");
        duration(out, g.duration_sec, g.duration_nsec);
        out.push(',');
    }
    let _ = write!(
        out,
        "ref_count={},packet_count={},byte_count={}",
        g.ref_count, g.packet_count, g.byte_count
    );
    for (i, b) in g.buckets.iter().enumerate() {
        if b.packet_count != u64::MAX {
            let _ = write!(
                out,
                ",bucket{i}:packet_count={},byte_count={}",
                b.packet_count, b.byte_count
            );
        }
    }
}

pub fn format_group_mod(g: &GroupMod, version: Version, names: &Names<'_>, out: &mut String) {
    let (name, bucket_command) = match g.command {
        GroupCommand::Add => ("ADD", false),
        GroupCommand::Modify => ("MOD", false),
        GroupCommand::AddOrModify => ("ADD_OR_MOD", false),
        GroupCommand::Delete => ("DEL", false),
        GroupCommand::InsertBucket => ("INSERT_BUCKET", true),
        GroupCommand::RemoveBucket => ("REMOVE_BUCKET", true),
    };
    let _ = write!(out, "{name} ");
    // Only the layout of 1.5, which Nicira's for 1.0 has too, names a bucket.
    if bucket_command && (version == Version::V10 || version >= Version::V15) {
        out.push_str("command_bucket_id:");
        bucket_id(g.command_bucket_id, out);
        out.push(',');
    }
    format_group(
        g.group_id,
        Some(g.type_),
        &g.buckets,
        &g.props,
        version,
        bucket_command,
        names,
        out,
    );
}

fn bucket_id(id: u32, out: &mut String) {
    match id {
        BUCKET_FIRST => out.push_str("first"),
        BUCKET_LAST => out.push_str("last"),
        BUCKET_ALL => out.push_str("all"),
        id => {
            let _ = write!(out, "{id}");
        }
    }
}

fn parse_bucket_id(s: &str) -> Result<u32, String> {
    match s {
        "first" => Ok(BUCKET_FIRST),
        "last" => Ok(BUCKET_LAST),
        "all" => Ok(BUCKET_ALL),
        _ => num32(s),
    }
}

/// What a command on groups says besides.
#[derive(Clone, Copy)]
struct Wants {
    id: bool,
    type_: bool,
    buckets: bool,
    /// A bucket before or behind which others are, or which is removed.
    place: bool,
    /// How the group chooses a bucket.
    selection: bool,
}

impl Wants {
    fn of(command: GroupCommand) -> Wants {
        use GroupCommand::*;
        let none = Wants {
            id: true,
            type_: false,
            buckets: false,
            place: false,
            selection: false,
        };
        match command {
            Add | Modify | AddOrModify => Wants {
                type_: true,
                buckets: true,
                selection: true,
                ..none
            },
            Delete => none,
            InsertBucket => Wants {
                buckets: true,
                place: true,
                ..none
            },
            RemoveBucket => Wants {
                place: true,
                ..none
            },
        }
    }
}

/// Reads a group mod.
pub fn parse_group_mod(
    s: &str,
    command: GroupCommand,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Result<GroupMod, String> {
    *usable = Protocol::all();
    let wants = Wants::of(command);
    if wants.place {
        *usable &= Protocol::OF10_ANY | Protocol::OF15_OXM;
    }
    let mut g = GroupMod {
        command,
        type_: GroupType::All,
        group_id: GROUP_ANY,
        command_bucket_id: BUCKET_ALL,
        buckets: Vec::new(),
        props: GroupProps::default(),
    };
    if command == GroupCommand::Delete && s.is_empty() {
        g.group_id = GROUP_ALL;
        return Ok(g);
    }
    // Everything before the first bucket describes the group.
    let (head, bucket_text) = match find_bucket(s) {
        Some(i) if wants.buckets => s.split_at(i),
        Some(_) => return Err("bucket is not needed".to_owned()),
        None => (s, ""),
    };
    parse_head(head, wants, &mut g, names)?;
    for text in split_buckets(bucket_text) {
        let b = parse_bucket(text, g.type_, names, usable)?;
        add_bucket(b, &mut g)?;
    }
    if g.type_ == GroupType::Indirect && g.buckets.len() > 1 {
        return Err("Indirect groups can have at most one bucket.".to_owned());
    }
    Ok(g)
}

/// Reads what describes the group.
fn parse_head(head: &str, wants: Wants, g: &mut GroupMod, names: &Names<'_>) -> Result<(), String> {
    let mut had_type = false;
    let mut had_command_bucket = false;
    let mut list = head;
    while let Some((name, value)) = next_pair(&mut list) {
        let needed = |wanted: bool, what: &str| match wanted {
            true => Ok(()),
            false => Err(format!("{what} not needed")),
        };
        match name {
            "command_bucket_id" => {
                needed(wants.place, "command bucket id is")?;
                g.command_bucket_id = parse_command_bucket(value, g.command)?;
                had_command_bucket = true;
            }
            "group_id" => g.group_id = parse_group_id(value)?,
            "type" => {
                needed(wants.type_, "type is")?;
                g.type_ = match value {
                    "all" => GroupType::All,
                    "select" => GroupType::Select,
                    "indirect" => GroupType::Indirect,
                    "ff" | "fast_failover" => GroupType::FastFailover,
                    _ => return Err(format!("invalid group type {value}")),
                };
                had_type = true;
            }
            "selection_method" => {
                needed(wants.selection, "selection method is")?;
                if value.len() >= 16 {
                    return Err("selection method is longer than 15 bytes long".to_owned());
                }
                g.props.selection_method = value.to_owned();
            }
            "selection_method_param" => {
                needed(wants.selection, "selection method param is")?;
                g.props.selection_method_param = num64(value)?;
            }
            "fields" => {
                needed(wants.selection, "fields are")?;
                parse_fields(value, names, &mut g.props)?;
            }
            _ => return Err(format!("unknown keyword {name}")),
        }
    }
    let hashes = g.props.selection_method == "hash";
    let lacks = [
        (
            wants.id && g.group_id == GROUP_ANY,
            "must specify a group_id",
        ),
        (wants.type_ && !had_type, "must specify a type"),
        (
            !hashes && !g.props.fields.is_empty(),
            "fields may only be specified with \"selection_method=hash\"",
        ),
        (
            g.props.selection_method.is_empty() && g.props.selection_method_param != 0,
            "selection_method_param is only allowed with \"selection_method\"",
        ),
        (
            g.command == GroupCommand::InsertBucket && !had_command_bucket,
            "must specify a command bucket id",
        ),
    ];
    match lacks.iter().find(|(lacks, _)| *lacks) {
        Some((_, error)) => Err((*error).to_owned()),
        None => Ok(()),
    }
}

fn parse_group_id(value: &str) -> Result<u32, String> {
    if value == "all" {
        return Ok(GROUP_ALL);
    }
    match num32(value)? {
        id if id > GROUP_MAX && id != GROUP_ALL => Err(format!("invalid group id {id}")),
        id => Ok(id),
    }
}

fn parse_command_bucket(value: &str, command: GroupCommand) -> Result<u32, String> {
    let id = parse_bucket_id(value)?;
    if id > BUCKET_MAX && ![BUCKET_FIRST, BUCKET_LAST, BUCKET_ALL].contains(&id) {
        return Err(format!("invalid command bucket id {id}"));
    }
    if id == BUCKET_ALL && command == GroupCommand::InsertBucket {
        return Err("command_bucket_id=all is not permitted".to_owned());
    }
    Ok(id)
}

/// Adds a bucket to a group, if one of its type can have it.
fn add_bucket(mut b: Bucket, g: &mut GroupMod) -> Result<(), String> {
    if b.bucket_id > BUCKET_MAX {
        // Buckets without an id get the lowest that is free.
        let is_free = |id: &u32| g.buckets.iter().all(|b| b.bucket_id != *id);
        b.bucket_id = (0..).find(is_free).unwrap_or(0);
    }
    if g.type_ == GroupType::FastFailover && !b.has_watch() {
        return Err("fast failover bucket requires watch_port or watch_group".to_owned());
    }
    // Who inserts buckets does not say what type the group has.
    let inserts = g.command == GroupCommand::InsertBucket;
    if b.weight != 0 && g.type_ != GroupType::Select && !inserts {
        return Err("Only select groups can have bucket weights.".to_owned());
    }
    g.buckets.push(b);
    Ok(())
}

/// What begins a bucket.
const BUCKET: &str = "bucket=";

/// Where the first bucket begins.
fn find_bucket(s: &str) -> Option<usize> {
    s.find(BUCKET)
}

fn split_buckets(s: &str) -> Vec<&str> {
    let mut parts = s.split(BUCKET);
    parts.next();
    parts.collect()
}

fn parse_fields(text: &str, names: &Names<'_>, props: &mut GroupProps) -> Result<(), String> {
    let mut list = text;
    while let Some((name, value)) = next_pair(&mut list) {
        let f = Field::by_name(name)
            .or_else(|| Field::by_oxm_name(name).map(|(f, _)| f))
            .ok_or_else(|| format!("{list}: unknown field {name}"))?;
        if props.fields.iter().any(|(id, _)| *id == f.id) {
            return Err(format!("{name}: duplicate field"));
        }
        let mask = if value.is_empty() {
            FieldValue::ones(usize::from(f.n_bytes) * 8)
        } else {
            let v = f.parse_value(value, names.ports)?;
            if v.is_zero() {
                return Err(format!(
                    "{list}: values are wildcards here and must not be all-zeros"
                ));
            }
            v
        };
        props.fields.push((f.id, mask));
    }
    Ok(())
}

fn parse_bucket(
    s: &str,
    type_: GroupType,
    names: &Names<'_>,
    usable: &mut Protocol,
) -> Result<Bucket, String> {
    let mut b = Bucket {
        weight: u16::from(type_ == GroupType::Select),
        watch_port: OfPort::NONE,
        watch_group: GROUP_ANY,
        bucket_id: BUCKET_ALL,
        actions: Vec::new(),
    };
    // Each action ends in a comma, so that no actions are told from an empty list of them.
    let mut actions = String::new();
    let mut list = s;
    while let Some((key, value, delim)) = super::cursor::next_pair_delimited(&mut list) {
        match key.to_ascii_lowercase().as_str() {
            "weight" => {
                b.weight = num16(value, "weight")?;
            }
            "watch_port" => {
                b.watch_port = parse_port(value, names.ports)
                    .filter(|p| *p < OfPort::MAX || *p == OfPort::NONE)
                    .ok_or_else(|| format!("{value}: invalid watch_port"))?;
            }
            "watch_group" => {
                b.watch_group = num32(value)?;
                if b.watch_group > GROUP_MAX {
                    return Err(format!("invalid watch_group id {}", b.watch_group));
                }
            }
            "bucket_id" => {
                b.bucket_id = num32(value)?;
                if b.bucket_id > BUCKET_MAX {
                    return Err(format!("invalid bucket_id id {}", b.bucket_id));
                }
            }
            "action" | "actions" => {
                push_action(&mut actions, value);
            }
            _ => {
                // Actions may stand without their keyword.
                let text = match delim {
                    '(' if value.contains(")->") => format!("{key}({value}"),
                    '(' => format!("{key}({value})"),
                    ' ' => key.to_owned(),
                    d => format!("{key}{d}{value}"),
                };
                push_action(&mut actions, &text);
            }
        }
    }
    if actions.is_empty() {
        return Err("bucket must specify actions".to_owned());
    }
    let mut p = Protocol::all();
    b.actions = parse_actions(&actions, names, &mut p, false)?;
    *usable &= p;
    Ok(b)
}

fn push_action(actions: &mut String, one: &str) {
    actions.push_str(one);
    actions.push(',');
}

//! Tables: statistics, features, descriptions.
//!
//! A table whose text would repeat the one before it is said to have the same; runs of equal tables are folded.

use std::fmt::Write;

use ferrovs_packet::field::{FieldId, FieldSet};

use super::Print;
use crate::switch::*;
use crate::text::format::hex;
use crate::text::format_table;

/// Names of actions of a table, in order.
pub fn actions(bits: u64, out: &mut String) {
    let names: Vec<&str> = TABLE_ACTIONS
        .iter()
        .enumerate()
        .filter(|(i, _)| bits & 1 << i != 0)
        .map(|(_, a)| a.0)
        .collect();
    if names.is_empty() {
        out.push_str("<none>");
    }
    out.push_str(&names.join(" "));
}

/// Fields by name, with common prefixes of neighbours factored out: `ip_{src,dst}`.
pub fn field_names(fields: &[FieldId]) -> String {
    let set: FieldSet = fields.iter().copied().collect();
    let names: Vec<&str> = set.iter().map(|id| id.field().name).collect();
    let mut out = String::new();
    factor(&names, 0, ' ', &mut out);
    out
}

/// The longest prefix that ends with an underscore and that a name shares with its successor.
fn prefix_len(name: &str, from: usize) -> Option<usize> {
    name[from..].find('_').map(|i| from + i + 1)
}

fn factor(names: &[&str], from: usize, sep: char, out: &mut String) {
    let mut i = 0;
    let mut first = true;
    while i < names.len() {
        if !first {
            out.push(sep);
        }
        first = false;
        let name = names[i];
        // Numbered series: reg0...reg15.
        if let Some(n) = series(&names[i..], from) {
            let _ = write!(out, "{}...{}", &name[from..], &names[i + n - 1][from..]);
            i += n;
            continue;
        }
        let group = prefix_len(name, from).map_or(1, |len| {
            let prefix = &name[..len];
            names[i..]
                .iter()
                .take_while(|n| n.starts_with(prefix))
                .count()
        });
        if group > 1 {
            let len = prefix_len(name, from).unwrap_or(from);
            out.push_str(&name[from..len]);
            out.push('{');
            factor(&names[i..i + group], len, ',', out);
            out.push('}');
            i += group;
        } else {
            out.push_str(&name[from..]);
            i += 1;
        }
    }
}

/// How many names from the first on differ only in a number that counts up.
fn series(names: &[&str], from: usize) -> Option<usize> {
    let split = |n: &'_ str| -> Option<(usize, u32)> {
        let digits = n.len() - n.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            return None;
        }
        let at = n.len() - digits;
        Some((at, n[at..].parse().ok()?))
    };
    let (at, start) = split(names.first()?)?;
    if at < from {
        return None;
    }
    let stem = &names[0][..at];
    let mut n = 1;
    while let Some(next) = names.get(n) {
        match split(next) {
            Some((a, k)) if next[..a] == *stem && k == start + n as u32 => n += 1,
            _ => break,
        }
    }
    (n >= 3).then_some(n)
}

/// The number, and the name that the message tells unless the reader's own is shown instead.
fn table_name(id: u8, name: &str, p: Print<'_>, out: &mut String) {
    format_table(id, p.names.tables, out);
    if !name.is_empty() && p.names.tables.table_name(id).is_none() {
        let _ = write!(out, " (\"{name}\")");
    }
}

pub fn table_mod(t: &TableMod, p: Print<'_>, out: &mut String) {
    if t.table_id == 0xff {
        out.push_str(" table_id: ALL_TABLES");
    } else {
        out.push_str(" table_id=");
        format_table(t.table_id, p.names.tables, out);
    }
    if let Some(m) = miss_name(t.miss) {
        let _ = write!(out, ", flow_miss_config={m}");
    }
    // Open vSwitch takes the property with the flags for the setting itself: 0 none, 1 on, 2 off.
    let eviction = match t.eviction_flags.map(|f| f.bits()) {
        None => t.eviction.map(|on| if on { "on" } else { "off" }),
        Some(0) => None,
        Some(1) => Some("on"),
        Some(2) => Some("off"),
        Some(_) => Some("***error***"),
    };
    if let Some(e) = eviction {
        let _ = write!(out, ", eviction={e}");
    }
    match t.vacancy {
        None => {}
        Some(None) => out.push_str(", vacancy=off"),
        Some(Some(v)) => {
            let _ = write!(out, ", vacancy=on vacancy:{},{}", v.down, v.up);
        }
    }
}

fn miss_name(m: TableMiss) -> Option<&'static str> {
    match m {
        TableMiss::Default => None,
        TableMiss::Controller => Some("controller"),
        TableMiss::Continue => Some("continue"),
        TableMiss::Drop => Some("drop"),
    }
}

fn eviction_flags(f: Option<EvictionFlags>, out: &mut String) {
    match f {
        None => out.push_str("(default)"),
        Some(f) => {
            let names: Vec<&str> = [
                (EvictionFlags::OTHER, "OTHER"),
                (EvictionFlags::IMPORTANCE, "IMPORTANCE"),
                (EvictionFlags::LIFETIME, "LIFETIME"),
            ]
            .iter()
            .filter(|(b, _)| f.contains(*b))
            .map(|b| b.1)
            .collect();
            let mut text = names.join("|");
            let unknown = (f - EvictionFlags::all()).bits();
            if unknown != 0 {
                let _ = write!(
                    text,
                    "{}{unknown:#x}",
                    if text.is_empty() { "" } else { "|" }
                );
            }
            out.push_str(if text.is_empty() { "0" } else { &text });
        }
    }
}

pub fn table_desc(d: &TableDesc, p: Print<'_>, out: &mut String) {
    out.push_str("\n  table ");
    format_table(d.table_id, p.names.tables, out);
    let _ = write!(
        out,
        ":\n   eviction={} eviction_flags=",
        if d.eviction == Some(true) {
            "on"
        } else {
            "off"
        }
    );
    eviction_flags(d.eviction_flags, out);
    out.push('\n');
    match d.vacancy {
        Some(Some(v)) => {
            let _ = writeln!(
                out,
                "   vacancy=on vacancy_down={}% vacancy_up={}% vacancy={}%",
                v.down, v.up, v.vacancy
            );
        }
        _ => out.push_str("   vacancy=off\n"),
    }
}

/// Whether the next tables are the same, or the same but for the first: they shrink along a pipeline.
fn same_next(prev: &[u64; 4], next: &[u64; 4]) -> bool {
    let mut rest = *prev;
    if let Some(word) = rest.iter_mut().find(|w| **w != 0) {
        *word &= *word - 1;
    }
    prev == next || rest == *next
}

/// Whether instructions say the same, the list of next tables aside.
fn same_instructions(prev: &TableFeatures, f: &TableFeatures) -> bool {
    let same = |a: &TableInstructions, b: &TableInstructions| {
        same_next(&a.next, &b.next)
            && (a.instructions, &a.write, &a.apply) == (b.instructions, &b.write, &b.apply)
    };
    same(&prev.nonmiss, &f.nonmiss) && same(miss_of(prev), miss_of(f))
}

/// What holds of a table miss: the same as otherwise where nothing is said about it.
fn miss_of(f: &TableFeatures) -> &TableInstructions {
    if f.miss_instructions == TableInstructions::default() {
        &f.nonmiss
    } else {
        &f.miss_instructions
    }
}

/// Whether two tables' features differ in nothing but number and name.
fn same_features(prev: &TableFeatures, f: &TableFeatures) -> bool {
    let rest = |f: &TableFeatures| TableFeatures {
        table_id: 0,
        name: String::new(),
        any_properties: false,
        nonmiss: TableInstructions::default(),
        miss_instructions: TableInstructions::default(),
        ..f.clone()
    };
    same_instructions(prev, f) && rest(prev) == rest(f)
}

pub fn table_stats(tables: &[TableStats], p: Print<'_>, out: &mut String) {
    out.push('\n');
    let mut printer = Folder::default();
    let mut previous: Option<&TableStats> = None;
    for t in tables {
        let same = |prev: &TableStats| {
            (prev.active_count, prev.lookup_count, prev.matched_count)
                == (t.active_count, t.lookup_count, t.matched_count)
                && match (&prev.features, &t.features) {
                    (Some(a), Some(b)) => same_features(a, b),
                    (a, b) => a.is_none() == b.is_none(),
                }
        };
        let features = t.features.as_deref();
        let name = features.map_or("", |f| f.name.as_str());
        if previous.is_some_and(same) {
            printer.fold(t.table_id, name, p, out);
        } else {
            printer.title("", t.table_id, name, p, out);
            let _ = writeln!(
                out,
                "    active={}, lookup={}, matched={}",
                t.active_count, t.lookup_count, t.matched_count
            );
            if let Some(f) = features {
                let prev = previous.and_then(|p| p.features.as_deref());
                if prev.is_some_and(|prev| same_features(prev, f)) {
                    out.push_str("    (same features)\n");
                } else {
                    features_body(f, prev, out);
                }
            }
        }
        previous = Some(t);
    }
    printer.finish(out);
}

/// Titles of tables, and what stands for those that are the same as the one before.
#[derive(Default)]
struct Folder {
    /// Nameless tables that are still to be told of.
    run: Option<(u8, u8)>,
    any: bool,
}

impl Folder {
    /// `before`: a line that belongs to the table.
    fn title(&mut self, before: &str, id: u8, name: &str, p: Print<'_>, out: &mut String) {
        self.finish(out);
        if self.any {
            out.push('\n');
        }
        self.any = true;
        out.push_str(before);
        out.push_str("  table ");
        table_name(id, name, p, out);
        out.push_str(":\n");
    }

    fn fold(&mut self, id: u8, name: &str, p: Print<'_>, out: &mut String) {
        if self.any {
            // The first of several; an empty line ends the table that they are like.
            out.push('\n');
            self.any = false;
        }
        if name.is_empty() {
            self.run = Some((self.run.map_or(id, |r| r.0), id));
            return;
        }
        if self.run.is_some() {
            self.finish(out);
            out.push('\n');
        }
        self.any = false;
        out.push_str("  table ");
        table_name(id, name, p, out);
        out.push_str(": ditto\n");
    }

    fn finish(&mut self, out: &mut String) {
        if let Some((first, last)) = self.run.take() {
            let _ = if first == last {
                writeln!(out, "  table {first}: ditto")
            } else {
                writeln!(out, "  tables {first}...{last}: ditto")
            };
            self.any = true;
        }
    }
}

/// Prints the features of several tables.
pub fn table_features_list(tables: &[TableFeatures], p: Print<'_>, out: &mut String) {
    let mut printer = FeaturePrinter::default();
    for t in tables {
        printer.add(t, p, out);
    }
    printer.finish(out);
}

/// Prints tables' features as they come, over several messages too.
#[derive(Default)]
pub struct FeaturePrinter {
    previous: Option<TableFeatures>,
    folder: Folder,
}

impl FeaturePrinter {
    pub fn add(&mut self, t: &TableFeatures, p: Print<'_>, out: &mut String) {
        let command = match t.command {
            1 => "  command: modify\n",
            2 => "  command: enable\n",
            3 => "  command: disable\n",
            _ => "",
        };
        if self
            .previous
            .as_ref()
            .is_some_and(|prev| same_features(prev, t))
        {
            self.folder.fold(t.table_id, &t.name, p, out);
        } else {
            self.folder.title(command, t.table_id, &t.name, p, out);
            features_body(t, self.previous.as_ref(), out);
        }
        self.previous = Some(t.clone());
    }

    /// Tells what was folded and not said yet.
    pub fn finish(&mut self, out: &mut String) {
        self.folder.finish(out);
    }
}

fn features_body(f: &TableFeatures, prev: Option<&TableFeatures>, out: &mut String) {
    if f.metadata_match != 0 || f.metadata_write != 0 {
        let _ = writeln!(
            out,
            "    metadata: match={} write={}",
            hex(f.metadata_match),
            hex(f.metadata_write)
        );
    }
    if let Some(m) = miss_name(f.miss) {
        let _ = writeln!(out, "    config={m}");
    }
    for (label, v) in [
        ("eviction", f.supports_eviction),
        ("vacancy events", f.supports_vacancy),
    ] {
        if let Some(v) = v {
            let _ = writeln!(
                out,
                "    {label}: {}",
                if v { "supported" } else { "not supported" }
            );
        }
    }
    if f.max_entries != 0 {
        let _ = writeln!(out, "    max_entries={}", f.max_entries);
    }
    let none = TableInstructions::default();
    let miss = miss_of(f);
    if f.nonmiss == none && *miss == none {
        // There is nothing that a flow could do.
    } else if prev.is_some_and(|p| same_instructions(p, f)) {
        out.push_str("    (same instructions)\n");
    } else if f.nonmiss == *miss {
        out.push_str("    instructions (table miss and others):\n");
        instructions(&f.nonmiss, prev.map(|p| &p.nonmiss), out);
    } else {
        out.push_str("    instructions (other than table miss):\n");
        instructions(&f.nonmiss, prev.map(|p| &p.nonmiss), out);
        out.push_str("    instructions (table miss):\n");
        instructions(miss, prev.map(miss_of), out);
    }
    matching(f, prev, out);
}

fn matching(f: &TableFeatures, prev: Option<&TableFeatures>, out: &mut String) {
    let all = |f: &TableFeatures| (f.match_.clone(), f.mask.clone(), f.wildcard.clone());
    let set = |list: &[FieldId]| -> FieldSet { list.iter().copied().collect() };
    let (may_mask, may_wild) = (set(&f.mask), set(&f.wildcard));
    let of = |keep: &dyn Fn(FieldId) -> bool| -> Vec<FieldId> {
        f.match_.iter().copied().filter(|id| keep(*id)).collect()
    };
    let masked = of(&|id| may_mask.contains(id));
    let wild = of(&|id| !may_mask.contains(id) && may_wild.contains(id));
    let exact = of(&|id| !may_mask.contains(id) && !may_wild.contains(id));
    if f.match_.is_empty() {
        return;
    }
    if prev.is_some_and(|p| all(p) == all(f)) {
        return out.push_str("    (same matching)\n");
    }
    out.push_str("    matching:\n");
    for (label, list) in [
        ("arbitrary mask", masked),
        ("exact match or wildcard", wild),
        ("must exact match", exact),
    ] {
        if !list.is_empty() {
            let _ = writeln!(out, "      {label}: {}", field_names(&list));
        }
    }
}

fn instructions(i: &TableInstructions, prev: Option<&TableInstructions>, out: &mut String) {
    let next: Vec<u8> = (0..=255u8)
        .filter(|t| i.next[usize::from(t / 64)] & 1 << (t % 64) != 0)
        .collect();
    if !next.is_empty() {
        out.push_str("      next tables: ");
        let mut k = 0;
        while k < next.len() {
            let mut n = 1;
            while k + n < next.len() && usize::from(next[k + n]) == usize::from(next[k]) + n {
                n += 1;
            }
            if k > 0 {
                out.push(',');
            }
            if n > 1 {
                let _ = write!(out, "{}-{}", next[k], next[k + n - 1]);
            } else {
                let _ = write!(out, "{}", next[k]);
            }
            k += n;
        }
        out.push('\n');
    }
    // In the order in which a flow has them.
    let names = [
        (6, "meter"),
        (4, "apply_actions"),
        (5, "clear_actions"),
        (3, "write_actions"),
        (2, "write_metadata"),
        (1, "goto_table"),
    ];
    let list: Vec<&str> = names
        .iter()
        .filter(|(b, _)| i.instructions & 1 << b != 0)
        .map(|n| n.1)
        .collect();
    if list.is_empty() {
        // Nothing to tell.
    } else if prev.is_some_and(|p| p.instructions == i.instructions) {
        out.push_str("      (same instructions)\n");
    } else {
        let _ = writeln!(out, "      instructions: {}", list.join(" "));
    }
    let same = |p: &TableInstructions| p.write == i.write && p.apply == i.apply;
    if prev.is_some_and(same) && !i.write.set_fields.is_empty() {
        out.push_str("      (same actions)\n");
    } else if i.write != i.apply {
        out.push_str("      Write-Actions features:\n");
        table_actions(&i.write, out);
        out.push_str("      Apply-Actions features:\n");
        table_actions(&i.apply, out);
    } else if i.write != TableActions::default() {
        out.push_str("      Write-Actions and Apply-Actions features:\n");
        table_actions(&i.write, out);
    }
}

fn table_actions(a: &TableActions, out: &mut String) {
    if a.actions != 0 {
        out.push_str("        actions: ");
        actions(a.actions, out);
        out.push('\n');
    }
    if !a.set_fields.is_empty() {
        let _ = writeln!(
            out,
            "        supported on Set-Field: {}",
            field_names(&a.set_fields)
        );
    }
}

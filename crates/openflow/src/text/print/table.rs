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

fn table_name(id: u8, name: &str, p: Print<'_>, out: &mut String) {
    format_table(id, p.names.tables, out);
    // A name that the table's number does not say anyway.
    let default = format!("table{id}");
    if !name.is_empty() && name != default && p.names.tables.table_name(id).is_none() {
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
    if let Some(e) = t.eviction {
        let _ = write!(out, ", eviction={}", if e { "on" } else { "off" });
    }
    if let Some(f) = t.eviction_flags {
        out.push_str("eviction_flags=");
        eviction_flags(Some(f), out);
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
            out.push_str(&if names.is_empty() {
                "0".to_owned()
            } else {
                names.join("|")
            });
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

/// Whether two tables' features differ in nothing but number and default name.
fn same_features(a: &TableFeatures, b: &TableFeatures) -> bool {
    // The next tables of a pipeline shrink from table to table; that alone is no difference.
    let strip = |f: &TableFeatures| {
        let mut f = f.clone();
        f.table_id = 0;
        f.name.clear();
        f.any_properties = false;
        f.nonmiss.next = next_kind(&f.nonmiss.next);
        f.miss_instructions.next = next_kind(&f.miss_instructions.next);
        f
    };
    strip(a) == strip(b)
}

/// Whether there is any next table.
fn next_kind(next: &[u64; 4]) -> [u64; 4] {
    if *next == [0; 4] {
        [0; 4]
    } else {
        [1, 0, 0, 0]
    }
}

pub fn table_stats(tables: &[TableStats], p: Print<'_>, out: &mut String) {
    let mut i = 0;
    out.push('\n');
    let mut previous: Option<&TableStats> = None;
    while i < tables.len() {
        let t = &tables[i];
        if let Some(prev) = previous {
            let same = |x: &TableStats, y: &TableStats| {
                x.active_count == y.active_count
                    && x.lookup_count == y.lookup_count
                    && x.matched_count == y.matched_count
                    && match (&x.features, &y.features) {
                        (Some(a), Some(b)) => same_features(a, b),
                        (None, None) => true,
                        _ => false,
                    }
            };
            let n = tables[i..].iter().take_while(|t| same(t, prev)).count();
            if n > 0 {
                ditto(
                    t.table_id,
                    tables[i + n - 1].table_id,
                    i + n == tables.len(),
                    out,
                );
                i += n;
                previous = Some(&tables[i - 1]);
                continue;
            }
        }
        out.push_str("  table ");
        let name = t.features.as_deref().map_or("", |f| f.name.as_str());
        table_name(t.table_id, default_name(name, t.table_id), p, out);
        out.push_str(":\n");
        let _ = writeln!(
            out,
            "    active={}, lookup={}, matched={}",
            t.active_count, t.lookup_count, t.matched_count
        );
        if let Some(f) = &t.features {
            let prev = previous.and_then(|p| p.features.as_deref());
            features_body(f, prev, out);
        }
        previous = Some(t);
        i += 1;
        if i < tables.len() {
            out.push('\n');
        }
    }
}

/// A name that says only the number is no name.
fn default_name(name: &str, id: u8) -> &str {
    if name.is_empty() || name == format!("table{id}") {
        ""
    } else {
        name
    }
}

fn ditto(first: u8, last: u8, at_end: bool, out: &mut String) {
    if first == last {
        let _ = writeln!(out, "  table {first}: ditto");
    } else {
        let _ = writeln!(out, "  tables {first}...{last}: ditto");
    }
    if !at_end {
        out.push('\n');
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
    run: Option<(u8, u8)>,
}

impl FeaturePrinter {
    pub fn add(&mut self, t: &TableFeatures, p: Print<'_>, out: &mut String) {
        if let Some(prev) = &self.previous
            && same_features(prev, t)
        {
            self.run = Some((self.run.map_or(t.table_id, |r| r.0), t.table_id));
            self.previous = Some(t.clone());
            return;
        }
        self.finish(out);
        out.push_str("  table ");
        table_name(t.table_id, default_name(&t.name, t.table_id), p, out);
        out.push_str(":\n");
        features_body(t, self.previous.as_ref(), out);
        out.push('\n');
        self.previous = Some(t.clone());
    }

    /// Tells what was folded and not said yet.
    pub fn finish(&mut self, out: &mut String) {
        if let Some((first, last)) = self.run.take() {
            ditto(first, last, false, out);
        }
    }
}

fn features_body(f: &TableFeatures, prev: Option<&TableFeatures>, out: &mut String) {
    if prev.is_some_and(|p| same_features(p, f)) {
        out.push_str("    (same features)\n");
        return;
    }
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
    let any = |i: &TableInstructions| *i != TableInstructions::default();
    let miss = if any(&f.miss_instructions) {
        &f.miss_instructions
    } else {
        &f.nonmiss
    };
    if any(&f.nonmiss) || any(miss) {
        if f.nonmiss == *miss {
            out.push_str("    instructions (table miss and others):\n");
            instructions(&f.nonmiss, prev.map(|p| &p.nonmiss), out);
        } else {
            out.push_str("    instructions (other than table miss):\n");
            instructions(&f.nonmiss, prev.map(|p| &p.nonmiss), out);
            out.push_str("    instructions (table miss):\n");
            instructions(miss, prev.map(|p| &p.miss_instructions), out);
        }
    }
    let matching = |f: &TableFeatures| (f.match_.clone(), f.mask.clone(), f.wildcard.clone());
    if !f.match_.is_empty() {
        if prev.is_some_and(|p| matching(p) == matching(f)) {
            out.push_str("    (same matching)\n");
        } else {
            out.push_str("    matching:\n");
            let of = |keep: &dyn Fn(&FieldId) -> bool| -> Vec<FieldId> {
                f.match_.iter().copied().filter(|id| keep(id)).collect()
            };
            let masked = of(&|id| f.mask.contains(id));
            let wild = of(&|id| !f.mask.contains(id) && f.wildcard.contains(id));
            let exact = of(&|id| !f.mask.contains(id) && !f.wildcard.contains(id));
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
            if n > 2 {
                let _ = write!(out, "{}-{}", next[k], next[k + n - 1]);
                k += n;
            } else {
                let _ = write!(out, "{}", next[k]);
                k += 1;
            }
        }
        out.push('\n');
    }
    out.push_str("      instructions: ");
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
    out.push_str(&if list.is_empty() {
        "none".to_owned()
    } else {
        list.join(" ")
    });
    out.push('\n');
    if prev.is_some_and(|p| p.write == i.write && p.apply == i.apply) {
        out.push_str("      (same actions)\n");
    } else if i.write == i.apply {
        out.push_str("      Write-Actions and Apply-Actions features:\n");
        table_actions(&i.write, out);
    } else {
        out.push_str("      Write-Actions features:\n");
        table_actions(&i.write, out);
        out.push_str("      Apply-Actions features:\n");
        table_actions(&i.apply, out);
    }
}

fn table_actions(a: &TableActions, out: &mut String) {
    out.push_str("        actions: ");
    actions(a.actions, out);
    out.push('\n');
    if !a.set_fields.is_empty() {
        let _ = writeln!(
            out,
            "        supported on Set-Field: {}",
            field_names(&a.set_fields)
        );
    }
}

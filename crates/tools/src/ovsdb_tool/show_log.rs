//! `show-log`: what each record of a database file did.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::Value;

use ferrovs_ovsdb::log::file::{LogFile, Magic, Mode};
use ferrovs_ovsdb::log::records::Info;
use ferrovs_ovsdb::schema::TableSchema;
use ferrovs_ovsdb::{DatabaseSchema, Datum, Error, json};

use super::{Context, warn};

/// Names of rows by UUID, as far as a `name` column told them.
pub(super) type Names = BTreeMap<String, String>;

pub(super) fn show_log(cx: &Context) -> Result<ExitCode, Error> {
    let mut log = LogFile::open(&cx.db(0), Mode::ReadOnly, &warn)?;
    if log.magic() == Magic::Cluster {
        return super::cluster::show_log(&mut log, cx.more);
    }
    let mut schema = None;
    let mut names = Names::new();
    for i in 0.. {
        let Some(record) = log.read()? else { break };
        print!("record {i}:");
        if i == 0 {
            let s = DatabaseSchema::from_json(&record).inspect_err(|_| flush())?;
            println!(
                " \"{}\" schema, version=\"{}\", cksum=\"{}\"",
                s.name, s.version, s.cksum
            );
            println!();
            schema = Some(s);
            continue;
        }
        let info = Info::from_json(&record);
        show_when(&info);
        if cx.more > 0
            && let Some(s) = &schema
            && show_changes(s, &record, info.is_diff, cx.more, &mut names)
        {
            println!();
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// When and why a change was made.
pub(super) fn show_when(info: &Info) {
    if let Some(ms) = info.date_ms {
        print!(" {}", date(ms));
    }
    if let Some(c) = &info.comment {
        print!(" \"{c}\"");
    }
    println!();
}

fn flush() {
    use std::io::Write;
    let _ = std::io::stdout().flush();
}

/// Shows the rows of a record; false if it has no tables.
pub(super) fn show_changes(
    schema: &DatabaseSchema,
    record: &Value,
    is_diff: bool,
    more: u32,
    names: &mut Names,
) -> bool {
    let mut any = false;
    let tables = record.as_object().into_iter().flatten();
    for (table, rows) in tables.filter(|(t, _)| !t.starts_with('_')) {
        let table_schema = schema.table(table);
        any |= rows.is_object();
        for (id, columns) in rows.as_object().into_iter().flatten() {
            show_row(
                table,
                table_schema.map(|t| &**t),
                id,
                columns,
                is_diff,
                more,
                names,
            );
        }
    }
    any
}

fn show_row(
    table: &str,
    schema: Option<&TableSchema>,
    id: &str,
    columns: &Value,
    is_diff: bool,
    more: u32,
    names: &mut Names,
) {
    let short: String = id.chars().take(8).collect();
    let known = names.contains_key(id);
    if let Some(name) = columns
        .get("name")
        .and_then(Value::as_str)
        .filter(|n| !n.is_empty())
        && !known
    {
        names.insert(id.to_owned(), format!("\"{name}\""));
    }
    let name = names.entry(id.to_owned()).or_insert_with(|| short.clone());
    if known {
        println!(
            "  table {table} row {name} ({short}){}:",
            if is_diff { " diff" } else { "" }
        );
    } else if *name == short {
        println!("  table {table} insert row {short}:");
    } else {
        println!("  table {table} insert row {name} ({short}):");
    }
    match columns {
        Value::Null => {
            println!("    delete row");
            names.remove(id);
        }
        Value::Object(map) if more > 1 => {
            for (column, value) in map {
                println!("    {column}={}", value_text(schema, column, value));
            }
        }
        _ => {}
    }
    // A new name counts from the next record on.
    if known && let Some(n) = columns.get("name").and_then(Value::as_str) {
        names.insert(id.to_owned(), format!("\"{n}\""));
    }
}

fn value_text(schema: Option<&TableSchema>, column: &str, value: &Value) -> String {
    let column = schema.and_then(|s| s.column(column));
    let datum = column.map(|c| (c, Datum::from_json_any_number(&c.ty, value, None)));
    match datum {
        Some((c, Ok(d))) => d.to_text(&c.ty),
        _ => json::to_string(value),
    }
}

/// `2026-11-20 21:36:57.399`, in UTC. Old versions wrote seconds.
fn date(time: i64) -> String {
    let ms = if time < i64::from(i32::MAX) {
        time.saturating_mul(1000)
    } else {
        time
    };
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days to civil date: eras of 400 years that begin on 1 March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let s = in_day / 1000;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:03}",
        s / 3600,
        s / 60 % 60,
        s % 60,
        in_day % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_in_utc_with_milliseconds() {
        assert_eq!(date(1_795_210_617_399), "2026-11-20 21:36:57.399");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00.000");
        assert_eq!(date(0), "1970-01-01 00:00:00.000");
        assert_eq!(date(951_782_400), "2000-02-29 00:00:00.000");
        assert_eq!(date(-1500), "1969-12-31 23:35:00.000");
    }
}

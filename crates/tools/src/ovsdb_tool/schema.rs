//! Commands about schemas and about what kind a file is.

use std::process::ExitCode;

use ferrovs_ovsdb::log::file::{LogFile, Magic, Mode};
use ferrovs_ovsdb::log::load::{read_schema_record, schema_from_file};
use ferrovs_ovsdb::{DatabaseSchema, Error};
use ferrovs_runtime::fatal;

use super::{Context, warn};

type Result<T = ExitCode> = std::result::Result<T, Error>;

/// The schema that a database file begins with.
fn db_schema(name: &str) -> Result<DatabaseSchema> {
    let mut log = LogFile::open(name, Mode::ReadOnly, &warn)?;
    read_schema_record(&mut log)
}

fn print(text: &str) -> Result {
    println!("{text}");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn db_name(cx: &Context) -> Result {
    let mut log = LogFile::open(&cx.db(0), Mode::ReadOnly, &warn)?;
    if log.magic() == Magic::Cluster {
        return print(&super::cluster::name(&mut log)?);
    }
    print(&read_schema_record(&mut log)?.name)
}

pub(super) fn db_version(cx: &Context) -> Result {
    print(&db_schema(&cx.db(0))?.version)
}

pub(super) fn db_cksum(cx: &Context) -> Result {
    print(&db_schema(&cx.db(0))?.cksum)
}

pub(super) fn schema_name(cx: &Context) -> Result {
    print(&schema_from_file(&cx.schema(0))?.name)
}

pub(super) fn schema_version(cx: &Context) -> Result {
    print(&schema_from_file(&cx.schema(0))?.version)
}

pub(super) fn schema_cksum(cx: &Context) -> Result {
    print(&schema_from_file(&cx.schema(0))?.cksum)
}

pub(super) fn needs_conversion(cx: &Context) -> Result {
    let db = db_schema(&cx.db(0))?;
    let schema = schema_from_file(&cx.schema(1))?;
    print(if schema.to_json() == db.to_json() {
        "no"
    } else {
        "yes"
    })
}

fn is(name: &str, magic: Magic) -> Result {
    let log = LogFile::open(name, Mode::ReadOnly, &warn)?;
    Ok(if log.magic() == magic {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

pub(super) fn db_is_clustered(cx: &Context) -> Result {
    is(&cx.db(0), Magic::Cluster)
}

pub(super) fn db_is_standalone(cx: &Context) -> Result {
    is(&cx.db(0), Magic::Json)
}

pub(super) fn check_cluster(cx: &Context) -> Result {
    let name = cx.db(0);
    let log = LogFile::open(&name, Mode::ReadOnly, &warn)?;
    Err(if log.magic() == Magic::Json {
        Error::ovsdb(format!("{name}: cannot identify file type"))
    } else {
        clustered(&name)
    })
}

pub(super) fn cluster_to_standalone(cx: &Context) -> Result {
    let name = cx.db(1);
    let log = LogFile::open(&name, Mode::ReadOnly, &warn)?;
    if log.magic() == Magic::Json {
        fatal("Database is not clustered db.\n");
    }
    Err(clustered(&name))
}

fn clustered(name: &str) -> Error {
    Error::new(
        ferrovs_ovsdb::error::tag::NOT_SUPPORTED,
        format!("{name}: this program does not read clustered databases"),
    )
}

/// A version as C's scanf takes it: space and a sign before each number, which wraps at 32 bits.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut rest = text;
    let mut out = [0; 3];
    for (i, n) in out.iter_mut().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix('.')?;
        }
        rest = rest.trim_ascii_start();
        let negative = rest.starts_with('-');
        rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        if end == 0 {
            return None;
        }
        let wide = rest[..end].parse().unwrap_or(u64::MAX);
        *n = wide as u32;
        if negative && wide < u64::MAX {
            *n = n.wrapping_neg();
        }
        rest = &rest[end..];
    }
    rest.is_empty().then_some(out)
}

pub(super) fn compare_versions(cx: &Context) -> Result {
    let parse = |i: usize| {
        let s = cx.arg(i).unwrap_or_default();
        version(s).unwrap_or_else(|| {
            fatal(format_args!(
                "{s}: not an OVSDB version number in format x.y.z"
            ))
        })
    };
    let (a, b) = (parse(0), parse(2));
    let op = cx.arg(1).unwrap_or_default();
    let holds = match op {
        "<" => a < b,
        "<=" => a <= b,
        "==" => a == b,
        "!=" => a != b,
        ">=" => a >= b,
        ">" => a > b,
        _ => fatal(format_args!("{op}: not a relational operator")),
    };
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

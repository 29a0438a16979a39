//! Commands about schemas and about what kind a file is.

use std::process::ExitCode;

use ferrovs_ovsdb::log::file::{LogFile, Magic, Mode};
use ferrovs_ovsdb::log::load::{read_schema_record, schema_from_file};
use ferrovs_ovsdb::schema::parse_version;
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
    print(&db_schema(&cx.db(0))?.name)
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
    let schema = schema_from_file(&cx.schema(1))?;
    let db = db_schema(&cx.db(0))?;
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

/// The commands about clusters on a file that is none.
pub(super) fn require_clustered(cx: &Context) -> Result {
    not_clustered(&cx.db(0))
}

pub(super) fn not_clustered(name: &str) -> Result {
    let log = LogFile::open(name, Mode::ReadOnly, &warn)?;
    if log.magic() == Magic::Json {
        fatal(format_args!("{name}: not a clustered database"));
    }
    Err(Error::new(
        ferrovs_ovsdb::error::tag::NOT_SUPPORTED,
        format!("{name}: this program does not read clustered databases"),
    ))
}

pub(super) fn compare_versions(cx: &Context) -> Result {
    let parse = |i: usize| {
        let s = cx.arg(i).unwrap_or_default();
        parse_version(s).unwrap_or_else(|| {
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

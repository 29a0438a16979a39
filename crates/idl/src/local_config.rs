//! The Local_Config database, schema 1.0.0, declared once: remotes of one server that is a member of a
//! cluster, which its databases, the same on all members, cannot hold. Nothing but `db:` remotes reads it.

use crate::database;
use crate::kind::{Bool, Int, Map, Opt, Ref, Set, Str};
use crate::schema::{BOOLEAN, INTEGER, STRING, at_least, map, one, optional, set, strong};

/// The text of `local-config.ovsschema`.
pub fn schema_json_text() -> String {
    crate::schema::schema_json_text(&LOCAL_CONFIG)
}

database! {
    /// The Local_Config database.
    LOCAL_CONFIG = "Local_Config" "1.0.0" "2048726482 1858";

    /// What a server is given: one row.
    table Config = "Config" (is_root: true, max_rows: Some(1)) {
        /// OVSDB connections.
        CONNECTIONS connections: Set<Ref> = set(strong("Connection"));
    }

    /// A remote to listen on or to connect to.
    table Connection = "Connection" (indexes: &[&["target"]]) {
        /// For others.
        EXTERNAL_IDS external_ids: Map<Str, Str> = map(STRING, STRING);
        /// Milliseconds of silence before the peer is asked.
        INACTIVITY_PROBE inactivity_probe: Opt<Int> = optional(INTEGER);
        /// Whether somebody is connected (written).
        IS_CONNECTED is_connected: Bool = one(BOOLEAN).ephemeral();
        /// Most milliseconds between attempts to connect.
        MAX_BACKOFF max_backoff: Opt<Int> = optional(at_least(1000));
        /// Further settings.
        OTHER_CONFIG other_config: Map<Str, Str> = map(STRING, STRING);
        /// Whether clients may only read.
        READ_ONLY read_only: Bool = one(BOOLEAN);
        /// The role of clients.
        ROLE role: Str = one(STRING);
        /// How the connection is (written).
        STATUS status: Map<Str, Str> = map(STRING, STRING).ephemeral();
        /// Where, as in `--remote`.
        TARGET target: Str = one(STRING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::open_vswitch::tests::normal;
    use ferrovs_stream::json::parse;

    #[test]
    fn the_schema_text_equals_the_published_one() {
        let published = parse(
            r#"{"name":"Local_Config","version":"1.0.0","cksum":"2048726482 1858","tables":{
              "Config":{"columns":{"connections":{"type":{"key":{"type":"uuid",
                "refTable":"Connection"},"min":0,"max":"unlimited"}}},"maxRows":1,"isRoot":true},
              "Connection":{"columns":{"target":{"type":"string"},
                "max_backoff":{"type":{"key":{"type":"integer","minInteger":1000},"min":0,"max":1}},
                "inactivity_probe":{"type":{"key":"integer","min":0,"max":1}},
                "read_only":{"type":"boolean"},"role":{"type":"string"},
                "other_config":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}},
                "external_ids":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}},
                "is_connected":{"type":"boolean","ephemeral":true},
                "status":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"},
                  "ephemeral":true}},"indexes":[["target"]]}}}"#,
        )
        .unwrap();
        assert_eq!(
            normal(parse(&schema_json_text()).unwrap()),
            normal(published)
        );
    }

    #[test]
    fn columns_stand_in_order_of_name() {
        for table in LOCAL_CONFIG.tables {
            assert!(table.columns.is_sorted_by_key(|c| c.name), "{}", table.name);
        }
    }
}

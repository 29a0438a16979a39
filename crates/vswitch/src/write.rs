//! Writing what the switch found out into rows, only where it differs from what they say.

use ferrovs_idl::kind::{IntoDatum, Map, Str};
use ferrovs_idl::{Column, Idl, Table, Txn, Uuid};

/// Writes a column unless it holds the value already, or the row is gone.
pub(crate) fn put<T: Table, K>(
    txn: &mut Txn,
    idl: &Idl,
    uuid: Uuid,
    column: Column<T, K>,
    value: impl IntoDatum<K>,
) {
    if !idl.server_has_column(T::INDEX, column.index()) {
        return;
    }
    let datum = value.into_datum();
    if idl
        .row::<T>(uuid)
        .is_some_and(|row| *row.datum(column) != datum)
    {
        txn.write(T::INDEX, uuid, column.index(), datum);
    }
}

/// Writes a map of strings.
pub(crate) fn put_map<T: Table>(
    txn: &mut Txn,
    idl: &Idl,
    uuid: Uuid,
    column: Column<T, Map<Str, Str>>,
    pairs: &std::collections::BTreeMap<String, String>,
) {
    put(
        txn,
        idl,
        uuid,
        column,
        pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())),
    );
}

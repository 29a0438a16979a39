//! How a database schema is declared in Rust: once, typed, and everything else derives from it.
//!
//! The `database!` macro takes tables and columns and makes of each table a marker type with a
//! typed constant and an accessor method for each column (`Interface::OFPORT`, `row.ofport()`), and
//! of the whole a [`Database`]: static metadata from which come the schema's JSON text, the types
//! that the client checks values against, and the documentation.
//!
//! The builders below are `const` and carry the Rust type, so a column whose accessor disagrees
//! with its declared type does not compile.

mod text;

pub use text::schema_json_text;

use crate::kind::{Bool, Int, Kind, Map, Opt, Real, Ref, Set, Str};
use ferrovs_ovsdb::types::{Constraint, RefType, UNLIMITED};
use ferrovs_ovsdb::{Atom, AtomType, BaseType, ColumnType};
use std::marker::PhantomData;
use std::sync::Arc;

/// A database as declared.
#[derive(Debug)]
pub struct Database {
    pub name: &'static str,
    pub version: &'static str,
    pub cksum: &'static str,
    pub tables: &'static [TableDef],
}

/// A table as declared; its columns stand in order of name.
#[derive(Debug)]
pub struct TableDef {
    pub name: &'static str,
    pub doc: &'static str,
    pub is_root: bool,
    pub max_rows: Option<u32>,
    pub indexes: &'static [&'static [&'static str]],
    pub columns: &'static [ColumnDef],
}

/// A column as declared.
#[derive(Debug)]
pub struct ColumnDef {
    pub name: &'static str,
    pub doc: &'static str,
    pub def: TypeDef,
}

/// A column's type and flags.
#[derive(Clone, Copy, Debug)]
pub struct TypeDef {
    pub key: BaseDef,
    pub value: Option<BaseDef>,
    pub min: u32,
    pub max: u32,
    pub mutable: bool,
    pub ephemeral: bool,
}

/// The type of a key or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseDef {
    Str,
    Enum(&'static [&'static str]),
    Int { min: i64, max: i64 },
    Real,
    Bool,
    Uuid,
    Strong(&'static str),
    Weak(&'static str),
}

impl Database {
    /// The position of a table.
    pub fn table_index(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|t| t.name == name)
    }

    pub fn table(&self, name: &str) -> Option<&'static TableDef> {
        self.tables.iter().find(|t| t.name == name)
    }
}

impl TableDef {
    /// The position of a column.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.binary_search_by(|c| c.name.cmp(name)).ok()
    }
}

impl TypeDef {
    /// The type as the OVSDB engine knows it.
    pub fn column_type(&self) -> ColumnType {
        ColumnType {
            key: self.key.base_type(),
            value: self.value.map(|v| v.base_type()),
            min: self.min,
            max: self.max,
        }
    }
}

impl BaseDef {
    pub fn base_type(self) -> BaseType {
        let (atom, constraint) = match self {
            BaseDef::Str => (AtomType::String, Constraint::None),
            BaseDef::Enum(names) => {
                let mut atoms: Vec<Atom> = names.iter().map(|n| Atom::string(n)).collect();
                atoms.sort();
                (AtomType::String, Constraint::Enum(atoms.into()))
            }
            BaseDef::Int {
                min: i64::MIN,
                max: i64::MAX,
            } => (AtomType::Integer, Constraint::None),
            BaseDef::Int { min, max } => (AtomType::Integer, Constraint::Integer { min, max }),
            BaseDef::Real => (AtomType::Real, Constraint::None),
            BaseDef::Bool => (AtomType::Boolean, Constraint::None),
            BaseDef::Uuid => (AtomType::Uuid, Constraint::None),
            BaseDef::Strong(table) | BaseDef::Weak(table) => {
                let kind = match self {
                    BaseDef::Weak(_) => RefType::Weak,
                    _ => RefType::Strong,
                };
                (
                    AtomType::Uuid,
                    Constraint::Ref {
                        table: Arc::from(table),
                        kind,
                    },
                )
            }
        };
        BaseType { atom, constraint }
    }
}

/// A base type that knows its Rust type.
#[derive(Clone, Copy, Debug)]
pub struct Base<K>(BaseDef, PhantomData<K>);

pub const STRING: Base<Str> = Base(BaseDef::Str, PhantomData);
pub const INTEGER: Base<Int> = Base(
    BaseDef::Int {
        min: i64::MIN,
        max: i64::MAX,
    },
    PhantomData,
);
pub const REAL: Base<Real> = Base(BaseDef::Real, PhantomData);
pub const BOOLEAN: Base<Bool> = Base(BaseDef::Bool, PhantomData);
pub const UUID: Base<Ref> = Base(BaseDef::Uuid, PhantomData);

/// A string out of a list.
pub const fn choice(names: &'static [&'static str]) -> Base<Str> {
    Base(BaseDef::Enum(names), PhantomData)
}

/// An integer from `min` to `max`.
pub const fn range(min: i64, max: i64) -> Base<Int> {
    Base(BaseDef::Int { min, max }, PhantomData)
}

/// An integer not less than `min`.
pub const fn at_least(min: i64) -> Base<Int> {
    range(min, i64::MAX)
}

/// A reference that keeps its row alive.
pub const fn strong(table: &'static str) -> Base<Ref> {
    Base(BaseDef::Strong(table), PhantomData)
}

/// A reference that vanishes with its row.
pub const fn weak(table: &'static str) -> Base<Ref> {
    Base(BaseDef::Weak(table), PhantomData)
}

/// A column type that knows its Rust type.
#[derive(Clone, Copy, Debug)]
pub struct Typed<K>(pub TypeDef, PhantomData<K>);

const fn typed<K>(key: BaseDef, value: Option<BaseDef>, min: u32, max: u32) -> Typed<K> {
    Typed(
        TypeDef {
            key,
            value,
            min,
            max,
            mutable: true,
            ephemeral: false,
        },
        PhantomData,
    )
}

/// Exactly one.
pub const fn one<K: Kind>(base: Base<K>) -> Typed<K> {
    typed(base.0, None, 1, 1)
}

/// One or none.
pub const fn optional<K>(base: Base<K>) -> Typed<Opt<K>> {
    typed(base.0, None, 0, 1)
}

/// Any number.
pub const fn set<K>(base: Base<K>) -> Typed<Set<K>> {
    typed(base.0, None, 0, UNLIMITED)
}

/// From `min` to `max`.
pub const fn set_of<K>(base: Base<K>, min: u32, max: u32) -> Typed<Set<K>> {
    typed(base.0, None, min, max)
}

/// Any number of pairs.
pub const fn map<K, V>(key: Base<K>, value: Base<V>) -> Typed<Map<K, V>> {
    typed(key.0, Some(value.0), 0, UNLIMITED)
}

impl<K> Typed<K> {
    /// Lost when the server restarts.
    pub const fn ephemeral(mut self) -> Typed<K> {
        self.0.ephemeral = true;
        self
    }

    /// Fixed once the row exists.
    pub const fn immutable(mut self) -> Typed<K> {
        self.0.mutable = false;
        self
    }
}

/// A column of table `T` that holds a `K`.
pub struct Column<T, K> {
    index: usize,
    marker: PhantomData<fn() -> (T, K)>,
}

impl<T, K> Clone for Column<T, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, K> Copy for Column<T, K> {}

impl<T: Table, K> Column<T, K> {
    /// Used by `database!`; the typed argument ties `K` to the declaration.
    #[doc(hidden)]
    pub const fn new(index: usize, _: Typed<K>) -> Self {
        Column {
            index,
            marker: PhantomData,
        }
    }

    /// The column's position in its table.
    pub const fn index(self) -> usize {
        self.index
    }

    pub fn name(self) -> &'static str {
        T::def().columns[self.index].name
    }
}

/// A table's marker type.
pub trait Table: 'static {
    /// The table's position in its database.
    const INDEX: usize;
    fn database() -> &'static Database;
    fn def() -> &'static TableDef {
        &Self::database().tables[Self::INDEX]
    }
}

/// Declares a database: see the module documentation. Other crates than this one cannot have the
/// accessor methods, and say `extern` first.
#[macro_export]
macro_rules! database {
    (extern $($declaration:tt)*) => {
        $crate::database! { @declare $($declaration)* }
    };
    (@declare
        $(#[doc = $ddoc:literal])*
        $db:ident = $name:literal $version:literal $cksum:literal;
        $(
            $(#[doc = $tdoc:literal])*
            table $table:ident = $tname:literal $(( $($attr:ident : $value:expr),* ))? {
                $(
                    $(#[doc = $cdoc:literal])*
                    $upper:ident $lower:ident $(($cname:literal))? : $kind:ty = $def:expr;
                )*
            }
        )*
    ) => {
        $(#[doc = $ddoc])*
        pub static $db: $crate::schema::Database = $crate::schema::Database {
            name: $name,
            version: $version,
            cksum: $cksum,
            tables: &[$(
                $crate::schema::TableDef {
                    name: $tname,
                    doc: concat!($($tdoc),*),
                    columns: &[$(
                        $crate::schema::ColumnDef {
                            name: $crate::database!(@name $lower $($cname)?),
                            doc: concat!($($cdoc),*),
                            def: $def.0,
                        },
                    )*],
                    $($($attr: $value,)*)?
                    ..$crate::schema::TableDef::EMPTY
                },
            )*],
        };

        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum TableIndex { $($table),* }

        $(
            $(#[doc = $tdoc])*
            pub enum $table {}

            impl $crate::schema::Table for $table {
                const INDEX: usize = TableIndex::$table as usize;
                fn database() -> &'static $crate::schema::Database {
                    &$db
                }
            }

            const _: () = {
                #[allow(non_camel_case_types, dead_code)]
                enum ColumnIndex { $($lower),* }

                impl $table {
                    $(
                        $(#[doc = $cdoc])*
                        pub const $upper: $crate::schema::Column<$table, $kind> =
                            $crate::schema::Column::new(ColumnIndex::$lower as usize, $def);
                    )*
                }
            };
        )*
    };
    (@accessors
        $(#[doc = $ddoc:literal])*
        $db:ident = $name:literal $version:literal $cksum:literal;
        $(
            $(#[doc = $tdoc:literal])*
            table $table:ident = $tname:literal $(( $($attr:ident : $value:expr),* ))? {
                $(
                    $(#[doc = $cdoc:literal])*
                    $upper:ident $lower:ident $(($cname:literal))? : $kind:ty = $def:expr;
                )*
            }
        )*
    ) => {
        $(
            impl<'a> $crate::Row<'a, $table> {
                $(
                    $(#[doc = $cdoc])*
                    pub fn $lower(&self) -> <$kind as $crate::kind::Kind>::View<'a> {
                        self.get($table::$upper)
                    }
                )*
            }
        )*
    };
    (@name $lower:ident $cname:literal) => { $cname };
    (@name $lower:ident) => { stringify!($lower) };
    ($($declaration:tt)*) => {
        $crate::database! { @declare $($declaration)* }
        $crate::database! { @accessors $($declaration)* }
    };
}

impl TableDef {
    #[doc(hidden)]
    pub const EMPTY: TableDef = TableDef {
        name: "",
        doc: "",
        is_root: false,
        max_rows: None,
        indexes: &[],
        columns: &[],
    };
}

//! Symbols: names that stand for rows which do not exist yet (`named-uuid` on the wire, `@name` in
//! the database commands). A symbol gets its UUID at first mention; whether a row was really
//! created for it, and how it was referenced, is known only at the end.

use std::collections::BTreeMap;

use crate::Uuid;

#[derive(Clone, Debug)]
pub struct Symbol {
    pub uuid: Uuid,
    /// A row was created for this symbol.
    pub created: bool,
    /// Some strong reference mentions it.
    pub strong_ref: bool,
    /// Some weak reference mentions it.
    pub weak_ref: bool,
}

/// Ordered by name, so that whoever reports the first bad symbol is deterministic.
#[derive(Clone, Debug, Default)]
pub struct SymbolTable {
    symbols: BTreeMap<String, Symbol>,
}

impl SymbolTable {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn get(&self, name: &str) -> Option<&Symbol> {
        self.symbols.get(name)
    }

    /// The symbol with that name, made with a random UUID if it is new.
    pub fn insert(&mut self, name: &str) -> &mut Symbol {
        self.insert_with(name, crate::uuid::random)
    }

    /// The same with the UUID of a new symbol given by the caller.
    pub fn insert_with(&mut self, name: &str, uuid: impl FnOnce() -> Uuid) -> &mut Symbol {
        self.symbols
            .entry(name.to_owned())
            .or_insert_with(|| Symbol {
                uuid: uuid(),
                created: false,
                strong_ref: false,
                weak_ref: false,
            })
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Symbol)> {
        self.symbols.iter().map(|(k, v)| (k.as_str(), v))
    }
}

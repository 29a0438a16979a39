//! Datums: what one column of one row holds, a sorted set of atoms or a map between atoms.
//!
//! A set with one member is stored inline, so a row of scalars needs one allocation; larger sets
//! and maps are shared slices, so copying a row costs reference counts only. 24 bytes. Whether an
//! empty datum is a set or a map is known from the column type alone, hence printing takes it.

mod ops;
mod text;

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::Value;

use crate::types::{ColumnType, UNLIMITED};
use crate::{Atom, Error, SymbolTable, Uuid};

pub use text::token;

#[derive(Clone, Debug)]
pub enum Datum {
    /// An empty set or map.
    Empty,
    /// A set with one member.
    Atom(Atom),
    /// A set with two or more members, ascending and distinct.
    Set(Arc<[Atom]>),
    /// A map with one or more pairs, ascending by distinct keys.
    Map(Arc<[(Atom, Atom)]>),
}

impl ColumnType {
    /// The value of a column that was never set.
    pub fn default_datum(&self) -> Datum {
        if self.min == 0 {
            Datum::Empty
        } else {
            let key = self.key.atom.default_atom();
            match &self.value {
                None => Datum::Atom(key),
                Some(v) => Datum::Map(Arc::from([(key, v.atom.default_atom())])),
            }
        }
    }
}

impl Datum {
    /// A set; duplicates are dropped.
    pub fn from_atoms(mut atoms: Vec<Atom>) -> Self {
        if !atoms.windows(2).all(|w| w[0] < w[1]) {
            atoms.sort();
            atoms.dedup();
        }
        Self::from_sorted_vec(atoms)
    }

    fn from_sorted_vec(mut atoms: Vec<Atom>) -> Self {
        match atoms.len() {
            0 => Self::Empty,
            1 => Self::Atom(atoms.remove(0)),
            _ => Self::Set(atoms.into()),
        }
    }

    /// A set from atoms that are ascending and distinct already.
    pub fn from_sorted_atoms(atoms: Arc<[Atom]>) -> Self {
        match atoms.len() {
            0 => Self::Empty,
            1 => Self::Atom(atoms[0].clone()),
            _ => Self::Set(atoms),
        }
    }

    /// A map; of pairs with one key the last one stays.
    pub fn from_pairs(mut pairs: Vec<(Atom, Atom)>) -> Self {
        if !pairs.windows(2).all(|w| w[0].0 < w[1].0) {
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.reverse();
            pairs.dedup_by(|a, b| a.0 == b.0);
            pairs.reverse();
        }
        if pairs.is_empty() {
            Self::Empty
        } else {
            Self::Map(pairs.into())
        }
    }

    pub fn string(s: &str) -> Self {
        Self::Atom(Atom::string(s))
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Atom(_) => 1,
            Self::Set(a) => a.len(),
            Self::Map(m) => m.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// The members of a set; nothing for a map.
    pub fn atoms(&self) -> &[Atom] {
        match self {
            Self::Empty | Self::Map(_) => &[],
            Self::Atom(a) => std::slice::from_ref(a),
            Self::Set(a) => a,
        }
    }

    /// The pairs of a map; nothing for a set.
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        if let Self::Map(m) = self { m } else { &[] }
    }

    /// Members of a set or keys of a map.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Atom> + '_ {
        (0..self.len()).map(move |i| self.key(i))
    }

    /// The i-th member or key.
    pub fn key(&self, i: usize) -> &Atom {
        match self {
            Self::Map(m) => &m[i].0,
            other => &other.atoms()[i],
        }
    }

    /// Keys and, for maps, values: every atom in here.
    pub fn all_atoms(&self) -> impl Iterator<Item = &Atom> + '_ {
        self.keys().chain(self.pairs().iter().map(|p| &p.1))
    }

    /// The only member of a set that has exactly one.
    pub fn scalar(&self) -> Option<&Atom> {
        if let Self::Atom(a) = self {
            Some(a)
        } else {
            None
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        self.scalar()?.as_str()
    }

    pub fn as_integer(&self) -> Option<i64> {
        self.scalar()?.as_integer()
    }

    pub fn as_real(&self) -> Option<f64> {
        self.scalar()?.as_real()
    }

    pub fn as_bool(&self) -> Option<bool> {
        self.scalar()?.as_bool()
    }

    pub fn as_uuid(&self) -> Option<Uuid> {
        self.scalar()?.as_uuid()
    }

    /// Position of a member or key.
    pub fn find(&self, key: &Atom) -> Option<usize> {
        match self {
            Self::Empty => None,
            Self::Atom(a) => (a == key).then_some(0),
            Self::Set(a) => a.binary_search(key).ok(),
            Self::Map(m) => m.binary_search_by(|p| p.0.cmp(key)).ok(),
        }
    }

    pub fn contains(&self, key: &Atom) -> bool {
        self.find(key).is_some()
    }

    /// The value of a key in a map.
    pub fn get(&self, key: &Atom) -> Option<&Atom> {
        if let Self::Map(m) = self {
            self.find(key).map(|i| &m[i].1)
        } else {
            None
        }
    }

    /// The value of a string key in a map of strings.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        let Self::Map(m) = self else { return None };
        let i = m
            .binary_search_by(|p| {
                p.0.as_str()
                    .unwrap_or_default()
                    .as_bytes()
                    .cmp(key.as_bytes())
            })
            .ok()?;
        m[i].1.as_str()
    }

    /// True if this is what a column that was never set holds.
    pub fn is_default(&self, ty: &ColumnType) -> bool {
        if ty.min == 0 {
            return self.is_empty();
        }
        match self {
            Self::Atom(a) => a.is_default(),
            Self::Map(m) => m.len() == 1 && m[0].0.is_default() && m[0].1.is_default(),
            _ => false,
        }
    }

    /// Checks the constraints of every atom (not the number of members).
    pub fn check(&self, ty: &ColumnType) -> Result<(), Error> {
        for k in self.keys() {
            ty.key.check(k)?;
        }
        if let Some(v) = &ty.value {
            for (_, x) in self.pairs() {
                v.check(x)?;
            }
        }
        Ok(())
    }

    /// Parses a `<value>` of the type, constraints included. A set with one member may be written
    /// bare.
    pub fn from_json(
        ty: &ColumnType,
        json: &Value,
        symtab: Option<&mut SymbolTable>,
    ) -> Result<Self, Error> {
        Self::parse(ty, json, symtab, ty.min, ty.max)
    }

    /// The same with any number of members: differences and arguments of mutations.
    pub fn from_json_any_number(
        ty: &ColumnType,
        json: &Value,
        symtab: Option<&mut SymbolTable>,
    ) -> Result<Self, Error> {
        Self::parse(ty, json, symtab, 0, UNLIMITED)
    }

    fn parse(
        ty: &ColumnType,
        json: &Value,
        mut symtab: Option<&mut SymbolTable>,
        min: u32,
        max: u32,
    ) -> Result<Self, Error> {
        let is_map = ty.is_map();
        let class = if is_map { "map" } else { "set" };
        let array = json.as_array();
        let tagged = array.is_some_and(|a| a.first().is_some_and(|t| t == class));
        if !is_map && !tagged {
            return Ok(Self::Atom(Atom::from_json(&ty.key, json, symtab)?));
        }
        let inner = match array.map(Vec::as_slice) {
            Some([t, Value::Array(inner)]) if t == class => inner,
            _ => {
                return Err(Error::syntax(
                    json,
                    format!("expected [\"{class}\", <array>]"),
                ));
            }
        };
        let n = inner.len();
        if n < min as usize || n > max as usize {
            return Err(Error::syntax(
                json,
                if min == 1 && max == 1 {
                    format!("{class} must have exactly one member but {n} are present")
                } else {
                    format!("{class} must have {min} to {max} members but {n} are present")
                },
            ));
        }
        let Some(value) = &ty.value else {
            let mut atoms = Vec::with_capacity(n);
            for x in inner {
                atoms.push(Atom::from_json(&ty.key, x, symtab.as_deref_mut())?);
            }
            let d = Self::from_atoms(atoms);
            if d.len() != n {
                return Err(Error::ovsdb("set contains duplicate"));
            }
            return Ok(d);
        };
        let mut pairs = Vec::with_capacity(n);
        for x in inner {
            let Some([k, v]) = x.as_array().map(Vec::as_slice) else {
                return Err(Error::syntax(x, "expected 2-element array"));
            };
            let k = Atom::from_json(&ty.key, k, symtab.as_deref_mut())?;
            pairs.push((k, Atom::from_json(value, v, symtab.as_deref_mut())?));
        }
        let d = Self::from_pairs(pairs);
        if d.len() != n {
            return Err(Error::ovsdb("map contains duplicate key"));
        }
        Ok(d)
    }

    pub fn to_json(&self, ty: &ColumnType) -> Value {
        if ty.is_map() {
            let pairs = self.pairs().iter();
            let a = pairs
                .map(|(k, v)| Value::Array(vec![k.to_json(), v.to_json()]))
                .collect();
            return Value::Array(vec!["map".into(), Value::Array(a)]);
        }
        match self {
            Self::Atom(a) => a.to_json(),
            _ => Value::Array(vec![
                "set".into(),
                Value::Array(self.atoms().iter().map(Atom::to_json).collect()),
            ]),
        }
    }

    /// Appends the JSON form without building a tree.
    pub fn write_json(&self, ty: &ColumnType, out: &mut Vec<u8>) {
        match self {
            Self::Atom(a) => a.write_json(out),
            Self::Empty if ty.is_map() => out.extend_from_slice(b"[\"map\",[]]"),
            Self::Empty => out.extend_from_slice(b"[\"set\",[]]"),
            Self::Set(atoms) => {
                out.extend_from_slice(b"[\"set\",[");
                for (i, a) in atoms.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    a.write_json(out);
                }
                out.extend_from_slice(b"]]");
            }
            Self::Map(pairs) => {
                out.extend_from_slice(b"[\"map\",[");
                for (i, (k, v)) in pairs.iter().enumerate() {
                    out.extend_from_slice(if i > 0 { b",[" } else { b"[" });
                    k.write_json(out);
                    out.push(b',');
                    v.write_json(out);
                    out.push(b']');
                }
                out.extend_from_slice(b"]]");
            }
        }
    }
}

impl Ord for Datum {
    /// By size, then by keys, then by values, as Open vSwitch orders rows.
    fn cmp(&self, other: &Self) -> Ordering {
        self.len()
            .cmp(&other.len())
            .then_with(|| self.keys().cmp(other.keys()))
            .then_with(|| {
                self.pairs()
                    .iter()
                    .map(|p| &p.1)
                    .cmp(other.pairs().iter().map(|p| &p.1))
            })
    }
}

impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Datum {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Empty, Self::Empty) => true,
            (Self::Atom(a), Self::Atom(b)) => a == b,
            (Self::Set(a), Self::Set(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Map(a), Self::Map(b)) => Arc::ptr_eq(a, b) || a == b,
            _ => false,
        }
    }
}

impl Eq for Datum {}

impl std::hash::Hash for Datum {
    fn hash<H: std::hash::Hasher>(&self, h: &mut H) {
        h.write_usize(self.len());
        for a in self.all_atoms() {
            a.hash(h);
        }
    }
}

impl<T: Into<Atom>> From<T> for Datum {
    fn from(v: T) -> Self {
        Self::Atom(v.into())
    }
}

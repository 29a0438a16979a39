//! From datums to Rust values and back: what a column holds, as a type.
//!
//! A [`Kind`] is a marker: `Str`, `Int`, `Real`, `Bool`, `Ref` for one atom, `Opt` for one or
//! none, `Set`, `Map`. Reading gives views that borrow the row; writing takes whatever converts.
//! A row always holds datums of its columns' types, so views have no error case: a datum of
//! another shape reads as the default.

use ferrovs_ovsdb::{Atom, Datum, Uuid};
use std::fmt;
use std::marker::PhantomData;

/// A string.
#[derive(Clone, Copy, Debug)]
pub enum Str {}
/// A 64-bit integer.
#[derive(Clone, Copy, Debug)]
pub enum Int {}
/// A real number.
#[derive(Clone, Copy, Debug)]
pub enum Real {}
/// A boolean.
#[derive(Clone, Copy, Debug)]
pub enum Bool {}
/// A UUID, as a rule of a row.
#[derive(Clone, Copy, Debug)]
pub enum Ref {}
/// One or none.
#[derive(Clone, Copy, Debug)]
pub struct Opt<K>(PhantomData<K>);
/// Any number of atoms.
#[derive(Clone, Copy, Debug)]
pub struct Set<K>(PhantomData<K>);
/// Any number of pairs.
#[derive(Clone, Copy, Debug)]
pub struct Map<K, V>(PhantomData<(K, V)>);

/// What one atom of a column is in Rust.
pub trait AtomKind: 'static {
    type View<'a>: Copy + PartialEq + fmt::Debug;
    fn view(atom: &Atom) -> Option<Self::View<'_>>;
}

/// What a whole column is in Rust.
pub trait Kind: 'static {
    type View<'a>;
    fn view(datum: &Datum) -> Self::View<'_>;
}

/// What can be written to a column of kind `K`.
pub trait IntoDatum<K> {
    fn into_datum(self) -> Datum;
}

/// What can be an atom of kind `K`.
pub trait IntoAtom<K> {
    fn into_atom(self) -> Atom;
}

macro_rules! atom_kinds {
    ($($kind:ident $view:ty, $default:expr, $read:ident;)*) => {$(
        impl AtomKind for $kind {
            type View<'a> = $view;
            fn view(atom: &Atom) -> Option<Self::View<'_>> {
                atom.$read()
            }
        }
        impl Kind for $kind {
            type View<'a> = $view;
            fn view(datum: &Datum) -> Self::View<'_> {
                datum.scalar().and_then(|a| a.$read()).unwrap_or($default)
            }
        }
    )*};
}

atom_kinds! {
    Str &'a str, "", as_str;
    Int i64, 0, as_integer;
    Real f64, 0.0, as_real;
    Bool bool, false, as_bool;
    Ref Uuid, Uuid::nil(), as_uuid;
}

impl<K: AtomKind> Kind for Opt<K> {
    type View<'a> = Option<K::View<'a>>;
    fn view(datum: &Datum) -> Self::View<'_> {
        datum.atoms().first().and_then(K::view)
    }
}

impl<K: AtomKind> Kind for Set<K> {
    type View<'a> = SetView<'a, K>;
    fn view(datum: &Datum) -> Self::View<'_> {
        SetView {
            atoms: datum.atoms(),
            kind: PhantomData,
        }
    }
}

impl<K: AtomKind, V: AtomKind> Kind for Map<K, V> {
    type View<'a> = MapView<'a, K, V>;
    fn view(datum: &Datum) -> Self::View<'_> {
        MapView {
            pairs: datum.pairs(),
            kind: PhantomData,
        }
    }
}

/// The members of a set, ascending.
pub struct SetView<'a, K> {
    atoms: &'a [Atom],
    kind: PhantomData<K>,
}

impl<K> Clone for SetView<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for SetView<'_, K> {}

impl<'a, K: AtomKind> SetView<'a, K> {
    pub fn len(self) -> usize {
        self.atoms.len()
    }

    pub fn is_empty(self) -> bool {
        self.atoms.is_empty()
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = K::View<'a>> + 'a {
        self.atoms.iter().filter_map(K::view)
    }

    pub fn first(self) -> Option<K::View<'a>> {
        self.atoms.first().and_then(K::view)
    }

    pub fn contains<'b>(self, member: K::View<'b>) -> bool
    where
        'a: 'b,
        K::View<'a>: PartialEq<K::View<'b>>,
    {
        self.iter().any(|m| m == member)
    }

    /// The members as they are stored.
    pub fn atoms(self) -> &'a [Atom] {
        self.atoms
    }
}

impl<K: AtomKind> fmt::Debug for SetView<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The pairs of a map, ascending by key.
pub struct MapView<'a, K, V> {
    pairs: &'a [(Atom, Atom)],
    kind: PhantomData<(K, V)>,
}

impl<K, V> Clone for MapView<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for MapView<'_, K, V> {}

impl<'a, K: AtomKind, V: AtomKind> MapView<'a, K, V> {
    pub fn len(self) -> usize {
        self.pairs.len()
    }

    pub fn is_empty(self) -> bool {
        self.pairs.is_empty()
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = (K::View<'a>, V::View<'a>)> + 'a {
        self.pairs
            .iter()
            .filter_map(|(k, v)| Some((K::view(k)?, V::view(v)?)))
    }

    /// The pairs as they are stored.
    pub fn pairs(self) -> &'a [(Atom, Atom)] {
        self.pairs
    }
}

impl<'a, V: AtomKind> MapView<'a, Str, V> {
    /// The value of a key.
    pub fn get(self, key: &str) -> Option<V::View<'a>> {
        let at = self
            .pairs
            .binary_search_by(|(k, _)| {
                k.as_str()
                    .unwrap_or_default()
                    .as_bytes()
                    .cmp(key.as_bytes())
            })
            .ok()?;
        V::view(&self.pairs[at].1)
    }
}

impl<'a> MapView<'a, Str, Str> {
    /// Whether the value of a key is "true"; `default` if it is neither "true" nor "false".
    pub fn get_bool(self, key: &str, default: bool) -> bool {
        match self.get(key) {
            Some(v) if default => !v.eq_ignore_ascii_case("false"),
            Some(v) => v.eq_ignore_ascii_case("true"),
            None => default,
        }
    }

    /// The value of a key as a number; `default` if it is none.
    pub fn get_int(self, key: &str, default: i64) -> i64 {
        self.get(key)
            .and_then(|v| v.trim().parse().ok())
            .unwrap_or(default)
    }
}

impl<'a, V: AtomKind> MapView<'a, Int, V> {
    /// The value of a key.
    pub fn get(self, key: i64) -> Option<V::View<'a>> {
        let at = self
            .pairs
            .iter()
            .position(|(k, _)| k.as_integer() == Some(key))?;
        V::view(&self.pairs[at].1)
    }
}

impl<K: AtomKind, V: AtomKind> fmt::Debug for MapView<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl IntoAtom<Str> for &str {
    fn into_atom(self) -> Atom {
        Atom::string(self)
    }
}

impl IntoAtom<Str> for String {
    fn into_atom(self) -> Atom {
        Atom::string(&self)
    }
}

impl IntoAtom<Str> for &String {
    fn into_atom(self) -> Atom {
        Atom::string(self)
    }
}

macro_rules! into_atom {
    ($($kind:ident $($ty:ty)* => $make:expr;)*) => {$($(
        impl IntoAtom<$kind> for $ty {
            fn into_atom(self) -> Atom {
                #[allow(clippy::redundant_closure_call)]
                ($make)(self)
            }
        }
    )*)*};
}

into_atom! {
    Int i64 => Atom::Integer;
    Int i32 u32 u16 u8 => |v| Atom::Integer(i64::from(v));
    Int u64 => |v| Atom::Integer(i64::try_from(v).unwrap_or(i64::MAX));
    Real f64 => Atom::Real;
    Bool bool => Atom::Boolean;
    Ref Uuid => Atom::Uuid;
}

macro_rules! into_datum {
    ($($kind:ident)*) => {$(
        impl<T: IntoAtom<$kind>> IntoDatum<$kind> for T {
            fn into_datum(self) -> Datum {
                Datum::Atom(self.into_atom())
            }
        }
    )*};
}

into_datum! { Str Int Real Bool Ref }

impl<K, T: IntoAtom<K>> IntoDatum<Opt<K>> for Option<T> {
    fn into_datum(self) -> Datum {
        self.map_or(Datum::Empty, |v| Datum::Atom(v.into_atom()))
    }
}

impl<K, I: IntoIterator> IntoDatum<Set<K>> for I
where
    I::Item: IntoAtom<K>,
{
    fn into_datum(self) -> Datum {
        Datum::from_atoms(self.into_iter().map(IntoAtom::into_atom).collect())
    }
}

impl<K, V, A: IntoAtom<K>, B: IntoAtom<V>, I> IntoDatum<Map<K, V>> for I
where
    I: IntoIterator<Item = (A, B)>,
{
    fn into_datum(self) -> Datum {
        Datum::from_pairs(
            self.into_iter()
                .map(|(k, v)| (k.into_atom(), v.into_atom()))
                .collect(),
        )
    }
}

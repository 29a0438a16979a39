//! Set operations: union, subtraction, inclusion, difference. Everything is a merge of two sorted
//! sequences.
//!
//! The *difference* of two values is what `update2` and the diffs in the log carry: for sets the
//! symmetric difference, for maps the pairs that went away (with their old value), came (with the
//! new value) or changed (with the new value), for values that hold at most one member the new
//! value itself. `apply_diff` undoes it.

use std::cmp::Ordering;

use crate::types::ColumnType;
use crate::{Atom, Datum};

/// What a merge does with what it meets.
enum Side<T> {
    Left(T),
    Right(T),
    Both(T, T),
}

fn merge<'a, T>(
    a: &'a [T],
    b: &'a [T],
    cmp: impl Fn(&T, &T) -> Ordering,
    mut f: impl FnMut(Side<&'a T>),
) {
    let (mut i, mut j) = (0, 0);
    while i < a.len() && j < b.len() {
        match cmp(&a[i], &b[j]) {
            Ordering::Less => {
                f(Side::Left(&a[i]));
                i += 1;
            }
            Ordering::Greater => {
                f(Side::Right(&b[j]));
                j += 1;
            }
            Ordering::Equal => {
                f(Side::Both(&a[i], &b[j]));
                i += 1;
                j += 1;
            }
        }
    }
    a[i..].iter().for_each(|x| f(Side::Left(x)));
    b[j..].iter().for_each(|x| f(Side::Right(x)));
}

/// What is left of two sets without the members that both begin and end with: of a large set of which a few members
/// came or went, little.
fn differing<'a>(a: &'a [Atom], b: &'a [Atom]) -> (&'a [Atom], &'a [Atom]) {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (&a[same..], &b[same..]);
    let ends = a.iter().rev().zip(b.iter().rev());
    let same = ends.take_while(|(a, b)| a == b).count();
    (&a[..a.len() - same], &b[..b.len() - same])
}

fn by_key(a: &(Atom, Atom), b: &(Atom, Atom)) -> Ordering {
    a.0.cmp(&b.0)
}

impl Datum {
    fn is_map_like(&self, other: &Datum) -> bool {
        matches!(self, Self::Map(_)) || matches!(other, Self::Map(_))
    }

    /// Members of either; for keys in both maps this one's value stays.
    pub fn union(&self, other: &Datum) -> Datum {
        if other.is_empty() {
            return self.clone();
        }
        if self.is_map_like(other) {
            let mut out = Vec::with_capacity(self.len() + other.len());
            merge(self.pairs(), other.pairs(), by_key, |s| match s {
                Side::Left(x) | Side::Right(x) | Side::Both(x, _) => out.push(x.clone()),
            });
            return Self::Map(out.into());
        }
        let mut out = Vec::with_capacity(self.len() + other.len());
        merge(self.atoms(), other.atoms(), Atom::cmp, |s| match s {
            Side::Left(x) | Side::Right(x) | Side::Both(x, _) => out.push(x.clone()),
        });
        Self::from_sorted_vec(out)
    }

    /// Without the members of `other`: a pair goes if `other` has the pair; with `other` a set of
    /// keys, a pair goes if its key is in there.
    pub fn subtract(&self, other: &Datum) -> Datum {
        if other.is_empty() || self.is_empty() {
            return self.clone();
        }
        if let Self::Map(m) = self {
            let keep = |(k, v): &&(Atom, Atom)| match other {
                Self::Map(_) => other.get(k) != Some(v),
                _ => !other.contains(k),
            };
            return Self::from_pairs(m.iter().filter(keep).cloned().collect());
        }
        let (own, other) = differing(self.atoms(), other.atoms());
        let mut out = Vec::with_capacity(own.len());
        merge(own, other, Atom::cmp, |s| {
            if let Side::Left(x) = s {
                out.push(x.clone());
            }
        });
        Self::from_sorted_vec(out)
    }

    /// True if every member (or pair) of `other` is in here.
    pub fn includes_all(&self, other: &Datum) -> bool {
        if self.len() < other.len() {
            return false;
        }
        match other {
            Self::Map(m) => m.iter().all(|(k, v)| self.get(k) == Some(v)),
            _ => other.atoms().iter().all(|a| self.contains(a)),
        }
    }

    /// True if no member (or pair) of `other` is in here.
    pub fn excludes_all(&self, other: &Datum) -> bool {
        match other {
            Self::Map(m) => !m.iter().any(|(k, v)| self.get(k) == Some(v)),
            _ => !other.atoms().iter().any(|a| self.contains(a)),
        }
    }

    /// What turns `self` into `new`.
    pub fn diff(&self, new: &Datum, ty: &ColumnType) -> Datum {
        if !ty.is_composite() {
            return new.clone();
        }
        if ty.is_map() {
            let mut out = Vec::new();
            merge(self.pairs(), new.pairs(), by_key, |s| match s {
                Side::Left(x) | Side::Right(x) => out.push(x.clone()),
                Side::Both(a, b) if a.1 != b.1 => out.push(b.clone()),
                Side::Both(..) => {}
            });
            return Self::from_pairs(out);
        }
        let (old, new) = differing(self.atoms(), new.atoms());
        let mut out = Vec::with_capacity(old.len().max(new.len()));
        merge(old, new, Atom::cmp, |s| {
            if let Side::Left(x) | Side::Right(x) = s {
                out.push(x.clone());
            }
        });
        Self::from_sorted_vec(out)
    }

    /// `self` changed by a difference that `diff` made.
    pub fn apply_diff(&self, diff: &Datum, ty: &ColumnType) -> Datum {
        if !ty.is_composite() {
            return diff.clone();
        }
        if ty.is_map() {
            let mut out = Vec::new();
            merge(self.pairs(), diff.pairs(), by_key, |s| match s {
                Side::Left(x) | Side::Right(x) => out.push(x.clone()),
                // The same pair again means "gone", another value means "changed".
                Side::Both(a, b) if a.1 != b.1 => out.push(b.clone()),
                Side::Both(..) => {}
            });
            return Self::from_pairs(out);
        }
        // The symmetric difference is its own inverse.
        self.diff(diff, ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::BaseType;
    use crate::{AtomType, types::UNLIMITED};
    use proptest::prelude::*;

    fn set(v: &[i64]) -> Datum {
        Datum::from_atoms(v.iter().map(|&x| Atom::Integer(x)).collect())
    }

    fn map(v: &[(i64, i64)]) -> Datum {
        Datum::from_pairs(v.iter().map(|&(k, x)| (k.into(), x.into())).collect())
    }

    fn ty(map: bool) -> ColumnType {
        let base = || BaseType::plain(AtomType::Integer);
        ColumnType {
            key: base(),
            value: map.then(base),
            min: 0,
            max: UNLIMITED,
        }
    }

    #[test]
    fn union_keeps_the_first_value_of_a_key() {
        assert_eq!(
            map(&[(1, 1)]).union(&map(&[(1, 9), (2, 2)])),
            map(&[(1, 1), (2, 2)])
        );
        assert_eq!(set(&[1, 3]).union(&set(&[2, 3])), set(&[1, 2, 3]));
    }

    #[test]
    fn subtraction_takes_pairs_or_keys() {
        let m = map(&[(1, 1), (2, 2), (3, 3)]);
        assert_eq!(m.subtract(&map(&[(1, 1), (2, 9)])), map(&[(2, 2), (3, 3)]));
        assert_eq!(m.subtract(&set(&[1, 3])), map(&[(2, 2)]));
        assert_eq!(set(&[1, 2]).subtract(&set(&[1, 2])), Datum::Empty);
    }

    proptest! {
        #[test]
        fn applying_a_difference_gives_the_new_value(
            a in prop::collection::vec((0i64..8, 0i64..3), 0..8),
            b in prop::collection::vec((0i64..8, 0i64..3), 0..8),
        ) {
            let (x, y) = (map(&a), map(&b));
            prop_assert_eq!(x.apply_diff(&x.diff(&y, &ty(true)), &ty(true)), y);
            let keys = |v: &[(i64, i64)]| set(&v.iter().map(|p| p.0).collect::<Vec<_>>());
            let (x, y) = (keys(&a), keys(&b));
            prop_assert_eq!(x.apply_diff(&x.diff(&y, &ty(false)), &ty(false)), y);
        }
    }
}

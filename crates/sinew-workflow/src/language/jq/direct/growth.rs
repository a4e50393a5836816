//! How much an expression may multiply its data. jq shares what it copies and counts what it makes; here a value is
//! copied whole, so what multiplies much is left to jq.

use jaq_core::ops::Math;

use super::{Direct, Index, Piece};

/// The most an expression may multiply its data by.
const HARMLESS: u64 = 64;

impl Direct {
    pub(super) fn is_harmless(&self) -> bool {
        self.growth() <= HARMLESS
    }

    /// Bounds the size of the largest value made on the way, in sizes of the largest that is given.
    fn growth(&self) -> u64 {
        let both = |left: &Self, right: &Self| left.growth().max(right.growth());
        let sum = |growths: &mut dyn Iterator<Item = u64>| growths.fold(0, u64::saturating_add).max(1);
        match self {
            Self::Identity | Self::Constant(_) | Self::Variable(_) | Self::Field(..) | Self::Function(_) => 1,
            Self::Path(base, path) => path.iter().map(Index::growth).fold(base.growth(), u64::max),
            Self::Text(pieces) => sum(&mut pieces.iter().map(Piece::growth)),
            Self::List(items) => sum(&mut items.iter().map(Self::growth)),
            Self::Object(entries) => {
                sum(&mut entries.iter().flat_map(|(key, value)| [key.growth(), value.growth()]))
            }
            Self::Negate(value) => value.growth(),
            Self::Math(left, Math::Add, right) => left.growth().saturating_add(right.growth()),
            Self::Math(left, _, right)
            | Self::Compare(left, _, right)
            | Self::And(left, right)
            | Self::Or(left, right)
            | Self::Alternative(left, right) => both(left, right),
            Self::Pipe(left, right) => left.growth().saturating_mul(right.growth()),
            Self::If(cases, otherwise) => {
                cases.iter().map(|(when, then)| both(when, then)).fold(otherwise.growth(), u64::max)
            }
        }
    }
}

impl Index {
    fn growth(&self) -> u64 {
        if let Self::Computed(index) = self { index.growth() } else { 1 }
    }
}

impl Piece {
    fn growth(&self) -> u64 {
        if let Self::Computed(term) = self { term.growth() } else { 0 }
    }
}

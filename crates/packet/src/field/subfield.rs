//! A run of bits of a field, such as `NXM_NX_REG0[0..15]`.

use super::{Field, FieldId, FieldValue, NO_TUN_TABLE, TunTable};
use crate::flow::{Flow, FlowWildcards};

/// Bits `ofs..ofs + n_bits` of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubField {
    pub field: FieldId,
    pub ofs: u16,
    pub n_bits: u16,
}

impl SubField {
    /// The whole field.
    pub fn whole(field: FieldId) -> SubField {
        SubField {
            field,
            ofs: 0,
            n_bits: field.field().n_bits,
        }
    }

    fn parts(&self) -> (usize, usize) {
        (usize::from(self.ofs), usize::from(self.n_bits))
    }

    /// The bits' value in a flow key.
    pub fn value(&self, flow: &Flow) -> FieldValue {
        self.value_in(flow, &NO_TUN_TABLE)
    }

    pub fn value_in(&self, flow: &Flow, tab: &TunTable) -> FieldValue {
        let (ofs, n_bits) = self.parts();
        self.field.field().value_in(flow, tab).extract(ofs, n_bits)
    }

    /// The low 64 bits of the value.
    pub fn value_u64(&self, flow: &Flow) -> u64 {
        self.value(flow).to_u64()
    }

    /// Sets the bits in a flow key, leaving the field's other bits.
    pub fn set(&self, value: &FieldValue, flow: &mut Flow) {
        self.set_in(value, flow, &NO_TUN_TABLE);
    }

    pub fn set_in(&self, value: &FieldValue, flow: &mut Flow, tab: &TunTable) {
        let (ofs, n_bits) = self.parts();
        let field = self.field.field();
        let mut whole = field.value_in(flow, tab);
        whole.insert(ofs, n_bits, value);
        field.set_value_in(&whole, flow, tab);
    }

    /// Copies the bits to those of `dst`; a narrower destination takes the low ones.
    pub fn copy_to(&self, dst: &SubField, flow: &mut Flow, tab: &TunTable) {
        let value = self.value_in(flow, tab);
        dst.set_in(&value, flow, tab);
    }

    /// The mask of the field that has exactly these bits.
    pub fn mask(&self) -> FieldValue {
        let (ofs, n_bits) = self.parts();
        let mut mask = FieldValue::ZERO;
        mask.insert(ofs, n_bits, &FieldValue::ones(n_bits));
        mask
    }

    pub fn mask_bits_in(&self, wc: &mut FlowWildcards, tab: &TunTable) {
        self.field.field().mask_field_bits_in(&self.mask(), wc, tab);
    }

    /// Reads a subfield from the front of `s`: a field's name or a code point's, then nothing, `[]`, `[bit]` or
    /// `[first..last]`. Returns what follows it too.
    pub fn parse_prefix(s: &str) -> Result<(SubField, &str), String> {
        let end = s.find(['[', '-']).unwrap_or(s.len());
        let (name, rest) = s.split_at(end);
        let field = Field::by_name(name).or_else(|| Field::by_oxm_name(name).map(|(f, _)| f));
        let Some(field) = field else {
            return Err(format!("{s}: unknown field `{name}'"));
        };
        let mut sf = SubField::whole(field.id);
        let Some(range) = rest.strip_prefix('[') else {
            return Ok((sf, rest));
        };
        let syntax = || format!("{s}: syntax error expecting [] or [<bit>] or [<start>..<end>]");
        let (range, rest) = range.split_once(']').ok_or_else(syntax)?;
        if range.is_empty() {
            return Ok((sf, rest));
        }
        let number = |t: &str| t.parse::<u32>().map_err(|_| syntax());
        let (start, end) = match range.split_once("..") {
            Some((start, end)) => (number(start)?, number(end)?),
            None => (number(range)?, number(range)?),
        };
        let bits = u32::from(field.n_bits);
        if start > end {
            return Err(format!(
                "{s}: starting bit {start} is after ending bit {end}"
            ));
        }
        for (what, bit) in [("starting", start), ("ending", end)] {
            if bit >= bits {
                return Err(format!(
                    "{s}: {what} bit {bit} is not valid because field is only {bits} bits wide"
                ));
            }
        }
        sf.ofs = start as u16;
        sf.n_bits = (end - start + 1) as u16;
        Ok((sf, rest))
    }

    /// Reads a subfield that is the whole of `s`.
    pub fn parse(s: &str) -> Result<SubField, String> {
        match SubField::parse_prefix(s)? {
            (sf, "") => Ok(sf),
            _ => Err("unexpected input following field syntax".to_owned()),
        }
    }

    /// Writes the subfield with the name of its field's OpenFlow 1.0 code point.
    pub fn format(&self, out: &mut String) {
        let field = self.field.field();
        out.push_str(field.oxm(0).map_or(field.name, |o| o.name));
        let (ofs, n_bits) = self.parts();
        match n_bits {
            _ if ofs == 0 && n_bits == usize::from(field.n_bits) => out.push_str("[]"),
            1 => out.push_str(&format!("[{ofs}]")),
            _ => out.push_str(&format!("[{ofs}..{}]", ofs + n_bits - 1)),
        }
    }
}

impl std::fmt::Display for SubField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = String::new();
        self.format(&mut out);
        f.write_str(&out)
    }
}

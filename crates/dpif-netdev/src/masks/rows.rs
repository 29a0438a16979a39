//! Values under masks, side by side.

use super::Node;

/// Rows that are compared at once.
const LANES: usize = 8;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
struct Lanes {
    masks: [u16; LANES],
    values: [u16; LANES],
}

/// What no bits equal.
const NONE: Lanes = Lanes {
    masks: [0; LANES],
    values: [1; LANES],
};

/// A list of masks and values with a node for each.
#[derive(Debug, Default)]
pub struct Rows {
    /// As many as the nodes need; lanes that are left over have what nothing equals.
    lanes: Vec<Lanes>,
    pub nodes: Vec<Node>,
}

impl Rows {
    /// Shows the nodes of the rows that the bits agree with, until one says something.
    #[inline]
    pub fn find<R>(&self, bits: u16, visit: &mut impl FnMut(&Node) -> Option<R>) -> Option<R> {
        let chunks = self.nodes.chunks(LANES);
        for (lanes, nodes) in self.lanes.iter().zip(chunks) {
            let mut differ = [0; LANES];
            for (i, differ) in differ.iter_mut().enumerate() {
                *differ = (bits & lanes.masks[i]) ^ lanes.values[i];
            }
            if differ.iter().all(|d| *d != 0) {
                continue;
            }
            let met = nodes.iter().zip(differ).filter(|(_, d)| *d == 0);
            for (node, _) in met {
                if let Some(said) = visit(node) {
                    return Some(said);
                }
            }
        }
        None
    }

    /// Mask and value of a row.
    pub fn of(&self, at: usize) -> (u16, u16) {
        let lanes = &self.lanes[at / LANES];
        (lanes.masks[at % LANES], lanes.values[at % LANES])
    }

    fn set(&mut self, at: usize, (mask, value): (u16, u16)) {
        let lanes = &mut self.lanes[at / LANES];
        (lanes.masks[at % LANES], lanes.values[at % LANES]) = (mask, value);
    }

    pub fn position(&self, mask: u16, value: u16) -> Option<usize> {
        (0..self.nodes.len()).find(|at| self.of(*at) == (mask, value))
    }

    /// How many values a mask has.
    pub fn values(&self, mask: u16) -> usize {
        let all = 0..self.nodes.len();
        all.filter(|at| self.of(*at).0 == mask).count()
    }

    /// The node of a mask and a value.
    pub fn node(&mut self, mask: u16, value: u16) -> &mut Node {
        let at = self.position(mask, value).unwrap_or_else(|| {
            let at = self.nodes.len();
            if at.is_multiple_of(LANES) {
                self.lanes.push(NONE);
            }
            self.nodes.push(Node::default());
            self.set(at, (mask, value));
            at
        });
        &mut self.nodes[at]
    }

    pub fn remove(&mut self, at: usize) -> Node {
        let last = self.nodes.len() - 1;
        self.set(at, self.of(last));
        self.set(last, (0, 1));
        if last.is_multiple_of(LANES) {
            self.lanes.pop();
        }
        self.nodes.swap_remove(at)
    }

    /// Takes the rows of a mask out.
    pub fn take(&mut self, mask: u16, take: &mut impl FnMut(u16, Node)) {
        for at in (0..self.nodes.len()).rev() {
            let (m, value) = self.of(at);
            if m == mask {
                take(value, self.remove(at));
            }
        }
    }
}

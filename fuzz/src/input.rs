//! The fuzzer's bytes as a source of choices. Used up, it chooses 0 for ever, which makes everything end.

use ferrovs_testkit::database::Choose;

pub struct Input<'a> {
    data: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data }
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.data.split_first() else {
            return 0;
        };
        self.data = rest;
        *first
    }

    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.data.split_at(n.min(self.data.len()));
        self.data = rest;
        taken
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.data)
    }
}

impl Choose for Input<'_> {
    fn below(&mut self, n: usize) -> usize {
        let mut v = usize::from(self.byte());
        if n > 256 {
            v = v << 8 | usize::from(self.byte());
        }
        v % n
    }
}

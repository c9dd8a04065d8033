//! The values of one request, one after the other in a buffer that is used again for the next.

/// By the index that the plan gave to each name.
#[derive(Clone, Debug, Default)]
pub struct Values {
    bytes: Vec<u8>,
    /// Where each begins and ends.
    spans: Vec<(usize, usize)>,
}

impl Values {
    /// None at all.
    pub const fn new() -> Values {
        Values { bytes: Vec::new(), spans: Vec::new() }
    }

    /// Forgets all of them, and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }

    /// Adds the next one: what `write` adds to the buffer.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.spans.push((start, self.bytes.len()));
    }

    /// Puts another in the place of the one of that index, which there must be.
    pub fn set(&mut self, index: usize, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.spans[index] = (start, self.bytes.len());
    }

    /// The value of that index; nothing where there is none.
    pub fn get(&self, index: usize) -> &[u8] {
        self.spans.get(index).map_or(&[], |(start, end)| &self.bytes[*start..*end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_can_be_told_later() {
        let mut values = Values::default();
        for value in ["a", "", "ccc"] {
            values.push(|out| out.extend_from_slice(value.as_bytes()));
        }
        values.set(1, b"later");
        assert_eq!([0, 1, 2, 3].map(|index| values.get(index)), [&b"a"[..], b"later", b"ccc", b""]);
        values.clear();
        assert_eq!(values.get(0), b"");
    }
}

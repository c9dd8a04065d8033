//! Huffman coding of header strings (RFC 7541, section 5.2 and appendix B), four bits at a time through a table that the compiler
//! makes. The code is canonical, so that the lengths say all of it. Requests are written plain: only decoding is needed.

/// The length of each symbol's code, in bits; the last is the end of the string, which never stands in one.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6,
    5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24,
    22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21,
    22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21,
    26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27,
    26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
/// The end of the string.
const END: usize = 256;

/// What four bits do at one place of the code's tree. No code is shorter than five bits, so they finish at most one symbol.
#[derive(Clone, Copy)]
struct Step {
    /// The place they lead to.
    next: u8,
    symbol: u8,
    flags: u8,
}

/// `symbol` is finished.
const EMITS: u8 = 1;
/// A string may end here: what is left over is fewer than eight bits, all of them ones.
const MAY_END: u8 = 2;
/// The end of the string stood in the string.
const WRONG: u8 = 4;

/// By place, of which a tree with 257 leaves has 256, and by the four bits.
static STEPS: [[Step; 16]; 256] = steps();

/// The string that `bytes` stand for, put behind what `out` holds. `None` when they are no such string.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut place, mut flags) = (0u8, MAY_END);
    for byte in bytes {
        for bits in [byte >> 4, byte & 15] {
            let step = STEPS[usize::from(place)][usize::from(bits)];
            if step.flags & EMITS != 0 {
                out.push(step.symbol);
            }
            if step.flags & WRONG != 0 {
                return None;
            }
            (place, flags) = (step.next, step.flags);
        }
    }
    (flags & MAY_END != 0).then_some(())
}

/// The code of each symbol, in the low bits.
const fn codes() -> [u32; 257] {
    let mut codes = [0; 257];
    let (mut code, mut length) = (0, 1);
    while length <= 30 {
        let mut symbol = 0;
        while symbol <= END {
            if LENGTHS[symbol] == length {
                codes[symbol] = code;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    codes
}

const fn steps() -> [[Step; 16]; 256] {
    // A child is a place, or LEAF and a symbol; 0, the root, is nobody's child and stands for none.
    const LEAF: u16 = 0x8000;
    let codes = codes();
    let mut tree = [[0u16; 2]; 256];
    let mut places = 1;
    let mut symbol = 0;
    while symbol <= END {
        let mut place = 0;
        let mut bit = LENGTHS[symbol];
        while bit > 0 {
            bit -= 1;
            let side = (codes[symbol] >> bit & 1) as usize;
            if bit == 0 {
                tree[place][side] = LEAF | symbol as u16;
            } else {
                if tree[place][side] == 0 {
                    tree[place][side] = places;
                    places += 1;
                }
                place = tree[place][side] as usize;
            }
        }
        symbol += 1;
    }
    // The places that fewer than eight ones lead to.
    let mut may_end = [false; 256];
    let (mut place, mut ones) = (0, 0);
    while ones < 8 {
        may_end[place] = true;
        place = tree[place][1] as usize;
        ones += 1;
    }
    let mut steps = [[Step { next: 0, symbol: 0, flags: 0 }; 16]; 256];
    let mut from = 0;
    while from < 256 {
        let mut bits = 0;
        while bits < 16 {
            let mut place = from;
            let mut step = Step { next: 0, symbol: 0, flags: 0 };
            let mut bit = 4;
            while bit > 0 {
                bit -= 1;
                let child = tree[place][bits >> bit & 1];
                if child & LEAF == 0 {
                    place = child as usize;
                } else {
                    let symbol = (child & !LEAF) as usize;
                    step.flags |= if symbol == END { WRONG } else { EMITS };
                    step.symbol = symbol as u8;
                    place = 0;
                }
            }
            step.next = place as u8;
            if may_end[place] {
                step.flags |= MAY_END;
            }
            steps[from][bits] = step;
            bits += 1;
        }
        from += 1;
    }
    steps
}

#[cfg(test)]
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let codes = codes();
    let (mut bits, mut count) = (0u64, 0);
    for byte in text {
        let length = LENGTHS[usize::from(*byte)];
        bits = bits << length | u64::from(codes[usize::from(*byte)]);
        count += length;
        while count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    /// Known answers: the strings of RFC 7541, appendices C.4 and C.6.
    #[test]
    fn the_examples_of_the_standard_are_decoded() {
        for (code, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("640eff", "307"),
            ("aec3771a4b", "private"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29ad171863c78f0b97c8e9ae82ae43d3", "https://www.example.com"),
            ("9bd9ab", "gzip"),
        ] {
            let bytes: Vec<u8> =
                (0..code.len()).step_by(2).map(|at| u8::from_str_radix(&code[at..at + 2], 16).expect("hex")).collect();
            assert_eq!(decoded(&bytes).as_deref(), Some(text.as_bytes()), "{text}");
            let mut again = Vec::new();
            encode(text.as_bytes(), &mut again);
            assert_eq!(again, bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_string_is_refused() {
        assert_eq!(decoded(b"").as_deref(), Some(&b""[..]));
        // Eight ones are padding that is too long; a zero in the padding; the end of the string in the string.
        for wrong in [&[0xff][..], &[0x1f, 0xff], &[0b0001_1000], &[0xff, 0xff, 0xff, 0xfc]] {
            assert_eq!(decoded(wrong), None, "{wrong:x?}");
        }
        // `a` with its three bits of padding.
        assert_eq!(decoded(&[0b0001_1111]).as_deref(), Some(&b"a"[..]));
    }

    proptest! {
        #[test]
        fn every_string_reads_back(text: Vec<u8>) {
            let mut bytes = Vec::new();
            encode(&text, &mut bytes);
            prop_assert_eq!(decoded(&bytes), Some(text));
        }

        /// No two codes stand for one string: what decodes encodes to the same bytes.
        #[test]
        fn what_is_read_is_written_the_same(bytes: Vec<u8>) {
            if let Some(text) = decoded(&bytes) {
                let mut again = Vec::new();
                encode(&text, &mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}

//! Names that a request carries so that it can be found again on the other side: pure functions of seed and number, as its values are.

use super::draw::Chance;
use super::template::write_number;

/// What a load may be traced by: its name in a plan, in `trace:` and as `{{name}}`; the header that carries it; one line about it.
pub const TRACES: &[(&str, &str, &str)] = &[
    ("op_id", "x-op-id", "a name of its own for each request, in x-op-id: LOAD-SEED-NUMBER, no two the same in a run"),
    ("traceparent", "traceparent", "the trace context of W3C (level 1), sampled: each request is the root of a trace of its own"),
];

/// `shoppers-00000000075bcd15-42`: no two are the same in a run, since loads have names of their own and requests numbers of their own.
pub(super) fn op_id(prefix: &[u8], number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(prefix);
    write_number(number, out);
}

/// `00-<32 digits>-<16 digits>-01`: version, trace, parent and flags (W3C Trace Context, section 3.2), whose ids are never all zeros.
pub(super) fn traceparent(seed: u64, number: u64, out: &mut Vec<u8>) {
    let mut chance = Chance::of(seed, number);
    out.extend_from_slice(b"00-");
    write_hex(chance.bits(), out);
    write_hex(chance.bits() | 1, out);
    out.push(b'-');
    write_hex(chance.bits() | 1, out);
    out.extend_from_slice(b"-01");
}

/// Sixteen digits in lower case.
pub(super) fn write_hex(number: u64, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..16).rev().map(|nibble| HEX[(number >> (4 * nibble)) as usize & 15]));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Goal: every receiver takes it for what it is. How: the grammar of the standard, section 3.2.2.
    #[test]
    fn a_traceparent_has_the_grammar_of_the_standard_and_no_two_are_the_same() {
        let mut all = BTreeSet::new();
        for number in 0..10_000 {
            let mut out = Vec::new();
            traceparent(7, number, &mut out);
            let text = String::from_utf8(out).expect("digits");
            let fields: Vec<&str> = text.split('-').collect();
            let [version, trace, parent, flags] = fields[..] else { panic!("{text}") };
            assert_eq!((version, trace.len(), parent.len(), flags), ("00", 32, 16, "01"), "{text}");
            let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            assert!(hex(trace) && hex(parent), "{text}");
            assert!(trace.bytes().any(|byte| byte != b'0') && parent.bytes().any(|byte| byte != b'0'), "{text}");
            all.insert(trace.to_owned());
        }
        assert_eq!(all.len(), 10_000);
    }
}

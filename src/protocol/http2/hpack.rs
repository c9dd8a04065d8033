//! Header compression (RFC 7541). Reading knows all of it, dynamic table included: the table of 4,096 bytes that every peer has until
//! it is told otherwise is left to it, since a client that takes it away meets servers as none of their users do, and a server that
//! has not yet read so may still use it. Writing knows literals only: a request is then the same bytes on every stream.

use std::collections::VecDeque;

use super::huffman;

/// What a header block is bounded by once it is decoded, in bytes, each field counting 32 more: a few bytes of a block may stand for
/// kilobytes.
const LIST_MOST: usize = 256 * 1024;
/// What the dynamic table may hold (RFC 9113, section 6.5.2), each field counting 32 bytes more.
const TABLE_MOST: usize = 4_096;
/// What a field counts beyond its bytes (RFC 7541, section 4.1).
const FIELD: usize = 32;

/// Why a header block could not be read. Nothing that comes after it on its connection can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wrong {
    /// It is none.
    Garbage,
    /// It stands for more than anybody needs.
    TooLarge,
}

/// The state of one connection's header blocks.
#[derive(Default)]
pub(super) struct Decoder {
    table: Table,
    scratch: Vec<u8>,
}

impl Decoder {
    /// Reads one whole block and hands out its fields in order.
    pub(super) fn read(&mut self, block: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Wrong> {
        let mut at = 0;
        let mut list = 0;
        let mut fields = 0;
        while let Some(first) = block.get(at) {
            // Every field starts with its kind and, in the bits that are left, an index.
            let (keep, prefix) = match first {
                0x80.. => (false, 7),
                0x40.. => (true, 6),
                0x20.. if fields > 0 => return Err(Wrong::Garbage),
                0x20.. => {
                    self.table.resize(integer(block, &mut at, 5)? as usize)?;
                    continue;
                }
                _ => (false, 4),
            };
            let index = integer(block, &mut at, prefix)? as usize;
            self.scratch.clear();
            let mut literal = None;
            let (name, value) = if prefix == 7 {
                self.table.field(index).ok_or(Wrong::Garbage)?
            } else {
                let name = if index == 0 { Some(self.string(block, &mut at)?) } else { None };
                let value = self.string(block, &mut at)?;
                literal = Some((name, value));
                let name = match name {
                    Some(name) => name.of(block, &self.scratch),
                    None => self.table.field(index).ok_or(Wrong::Garbage)?.0,
                };
                (name, value.of(block, &self.scratch))
            };
            fields += 1;
            list += name.len() + value.len() + FIELD;
            if list > LIST_MOST {
                return Err(Wrong::TooLarge);
            }
            each(name, value);
            if let (true, Some((name, value))) = (keep, literal) {
                let value = value.of(block, &self.scratch);
                match name {
                    Some(name) => self.table.insert(name.of(block, &self.scratch), value),
                    None => self.table.insert_named(index, value),
                }
            }
        }
        Ok(())
    }

    /// Counts the changes of the dynamic table: as long as it stays the same, so does what a block says.
    pub(super) fn changes(&self) -> u64 {
        self.table.changes
    }

    /// A string literal (RFC 7541, section 5.2), left where it stands, or decoded into the scratch.
    fn string(&mut self, block: &[u8], at: &mut usize) -> Result<Place, Wrong> {
        let coded = block.get(*at).ok_or(Wrong::Garbage)? & 0x80 != 0;
        let length = integer(block, at, 7)? as usize;
        let end = at.checked_add(length).filter(|end| *end <= block.len()).ok_or(Wrong::Garbage)?;
        let start = std::mem::replace(at, end);
        if !coded {
            return Ok(Place::Block(start, end));
        }
        let from = self.scratch.len();
        huffman::decode(&block[start..end], &mut self.scratch).ok_or(Wrong::Garbage)?;
        Ok(Place::Scratch(from, self.scratch.len()))
    }
}

/// Where a string lies.
#[derive(Clone, Copy)]
enum Place {
    Block(usize, usize),
    Scratch(usize, usize),
}

impl Place {
    fn of<'a>(self, block: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Place::Block(from, to) => &block[from..to],
            Place::Scratch(from, to) => &scratch[from..to],
        }
    }
}

/// The static table and, from index 62 on, the dynamic one, newest first. Its strings lie one after the other in one buffer, so that
/// a server that puts something new in it with each answer costs no allocation.
struct Table {
    fields: VecDeque<Field>,
    bytes: Vec<u8>,
    /// Bytes as the standard counts them, and how many there may be.
    size: usize,
    most: usize,
    changes: u64,
}

/// A field of the dynamic table: its name at `start` of the buffer, its value right after.
#[derive(Clone, Copy)]
struct Field {
    start: usize,
    name: usize,
    value: usize,
}

impl Default for Table {
    fn default() -> Table {
        Table { fields: VecDeque::new(), bytes: Vec::new(), size: 0, most: TABLE_MOST, changes: 0 }
    }
}

impl Table {
    /// The field at an index of a header block.
    fn field(&self, index: usize) -> Option<(&[u8], &[u8])> {
        if let Some((name, value)) = STATIC.get(index.checked_sub(1)?) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let Field { start, name, value } = *self.fields.get(index - 1 - STATIC.len())?;
        Some(self.bytes[start..start + name + value].split_at(name))
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        self.push(Field { start, name: name.len(), value: value.len() });
    }

    /// Under the name of another field, which has been looked up before.
    fn insert_named(&mut self, index: usize, value: &[u8]) {
        match index.checked_sub(1 + STATIC.len()).map(|index| self.fields[index]) {
            None => self.insert(STATIC[index - 1].0.as_bytes(), value),
            Some(other) => {
                let start = self.bytes.len();
                self.bytes.extend_from_within(other.start..other.start + other.name);
                self.bytes.extend_from_slice(value);
                self.push(Field { start, name: other.name, value: value.len() });
            }
        }
    }

    /// Takes in a field whose bytes are in the buffer. One that is larger than the table empties it (RFC 7541, section 4.4).
    fn push(&mut self, field: Field) {
        self.changes += 1;
        let size = field.size();
        self.evict(self.most.saturating_sub(size));
        if size <= self.most {
            self.size += size;
            self.fields.push_front(field);
        }
        self.tidy();
    }

    /// Follows the peer's own choice of a size (RFC 7541, section 6.3), which may not be more than it was allowed.
    fn resize(&mut self, most: usize) -> Result<(), Wrong> {
        if most > TABLE_MOST {
            return Err(Wrong::Garbage);
        }
        self.changes += 1;
        self.most = most;
        self.evict(most);
        self.tidy();
        Ok(())
    }

    fn evict(&mut self, most: usize) {
        while self.size > most
            && let Some(oldest) = self.fields.pop_back()
        {
            self.size -= oldest.size();
        }
    }

    /// Drops bytes that no field has any more, once there are many.
    fn tidy(&mut self) {
        let dead = self.fields.back().map_or(self.bytes.len(), |oldest| oldest.start);
        if dead > 2 * TABLE_MOST {
            self.bytes.drain(..dead);
            self.fields.iter_mut().for_each(|field| field.start -= dead);
        }
    }
}

impl Field {
    fn size(self) -> usize {
        self.name + self.value + FIELD
    }
}

/// An integer in the last `prefix` bits of the byte at `at` and, where it does not fit in them, in the bytes after it (RFC 7541,
/// section 5.1). More than 28 bits and a prefix are more than anything here counts.
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Result<u32, Wrong> {
    let mut next = || {
        let byte = block.get(*at).copied().ok_or(Wrong::Garbage)?;
        *at += 1;
        Ok(u32::from(byte))
    };
    let full = (1 << prefix) - 1;
    let value = next()? & full;
    if value < full {
        return Ok(value);
    }
    let mut more = 0;
    for shift in [0, 7, 14, 21] {
        let byte = next()?;
        more |= (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(full + more);
        }
    }
    Err(Wrong::Garbage)
}

/// Writes a field that no table is to remember (RFC 7541, section 6.2.2). `name` is in lower case.
pub(super) fn write(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    write_name(out, name);
    write_length(out, value.len());
    out.extend_from_slice(value);
}

/// Writes the name of a field whose value, with its length before it, is to follow.
pub(super) fn write_name(out: &mut Vec<u8>, name: &str) {
    match STATIC.iter().position(|(known, _)| *known == name) {
        Some(index) => write_integer(out, 0, 4, index + 1),
        None => {
            out.push(0);
            write_integer(out, 0, 7, name.len());
            out.extend_from_slice(name.as_bytes());
        }
    }
}

/// Writes how long the value is that follows.
pub(super) fn write_length(out: &mut Vec<u8>, length: usize) {
    write_integer(out, 0, 7, length);
}

/// Writes a field by its place in the static table, where it stands there as a whole; else as [`write`] does.
pub(super) fn write_known(out: &mut Vec<u8>, name: &str, value: &str) {
    match STATIC.iter().position(|field| *field == (name, value)) {
        Some(index) => write_integer(out, 0x80, 7, index + 1),
        None => write(out, name, value.as_bytes()),
    }
}

fn write_integer(out: &mut Vec<u8>, kind: u8, prefix: u32, value: usize) {
    let full = (1 << prefix) - 1;
    if value < full {
        return out.push(kind | value as u8);
    }
    out.push(kind | full as u8);
    let mut rest = value - full;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// RFC 7541, appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Fields = Vec<(String, String)>;

    fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Wrong> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decoder.read(block, |name, value| fields.push((text(name), text(value))))?;
        Ok(fields)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
    }

    #[track_caller]
    fn check(decoder: &mut Decoder, hex: &str, expected: &[(&str, &str)], size: usize) {
        let expected: Fields = expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(read(decoder, &bytes(hex)), Ok(expected));
        assert_eq!(decoder.table.size, size, "the size of the dynamic table");
    }

    /// Known answers: RFC 7541, appendix C.2 (single fields) and C.3, C.4 (requests, plain and Huffman coded).
    #[test]
    fn the_requests_of_the_standard_are_decoded() {
        let custom = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
        check(&mut Decoder::default(), custom, &[("custom-key", "custom-header")], 55);
        check(&mut Decoder::default(), "040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")], 0);
        check(&mut Decoder::default(), "1008 7061 7373 776f 7264 0673 6563 7265 74", &[("password", "secret")], 0);
        check(&mut Decoder::default(), "82", &[(":method", "GET")], 0);

        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for [first, second, third] in [plain, coded] {
            let mut decoder = Decoder::default();
            let get = |scheme, path| [(":method", "GET"), (":scheme", scheme), (":path", path), (":authority", "www.example.com")];
            check(&mut decoder, first, &get("http", "/"), 57);
            check(&mut decoder, second, &[&get("http", "/")[..], &[("cache-control", "no-cache")]].concat(), 110);
            let third_fields = [&get("https", "/index.html")[..], &[("custom-key", "custom-value")]].concat();
            check(&mut decoder, third, &third_fields, 164);
        }
    }

    /// Known answers: RFC 7541, appendix C.5 and C.6: answers with a table of 256 bytes, so that fields are evicted.
    #[test]
    fn the_answers_of_the_standard_are_decoded() {
        let plain = [
            "3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
             546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d \
             4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 \
             7369 6f6e 3d31",
        ];
        let coded = [
            "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 \
             8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b \
             3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ];
        for [first, second, third] in [plain, coded] {
            let mut decoder = Decoder::default();
            let (private, location) = (("cache-control", "private"), ("location", "https://www.example.com"));
            let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
            check(&mut decoder, first, &[(":status", "302"), private, date, location], 222);
            check(&mut decoder, second, &[(":status", "307"), private, date, location], 222);
            let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
            let later = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
            let fields = [(":status", "200"), private, later, location, ("content-encoding", "gzip"), cookie];
            check(&mut decoder, third, &fields, 215);
        }
    }

    /// RFC 7541, appendix C.1.
    #[test]
    fn integers_are_read_and_written_as_the_standard_says() {
        for (prefix, value, hex) in [(5, 10, "0a"), (5, 1337, "1f9a0a"), (8, 42, "2a"), (7, 127, "7f00"), (4, 15, "0f00")] {
            let mut out = Vec::new();
            write_integer(&mut out, 0, prefix, value);
            assert_eq!(out, bytes(hex));
            let mut at = 0;
            assert_eq!((integer(&out, &mut at, prefix), at), (Ok(value as u32), out.len()));
        }
        for endless in ["1f", "1fff", "1fffffffff", "1f8080808001"] {
            assert_eq!(integer(&bytes(endless), &mut 0, 5), Err(Wrong::Garbage), "{endless}");
        }
    }

    #[test]
    fn blocks_that_break_the_rules_are_garbage() {
        for (hex, why) in [
            ("80", "index 0"),
            ("be", "an index that the dynamic table does not have"),
            ("ffffffffff7f", "an index that no table has"),
            ("3fe21f", "a table larger than was allowed"),
            ("8220", "a new size in the middle of a block"),
            ("0005 6162", "a string longer than the block"),
            ("40", "a field without its name"),
            ("0084 ffff ffff 00", "a string that is no Huffman code"),
            ("7f00", "a name of the dynamic table, which is empty"),
        ] {
            assert_eq!(read(&mut Decoder::default(), &bytes(hex)), Err(Wrong::Garbage), "{why}");
        }
    }

    /// A block of a few kilobytes that stands for megabytes.
    #[test]
    fn a_bomb_is_too_large() {
        let mut block = Vec::new();
        block.push(0x40);
        write_integer(&mut block, 0, 7, 1);
        block.push(b'a');
        write_integer(&mut block, 0, 7, 4_000);
        block.extend([b'b'; 4_000]);
        block.extend([0xbe; 4_000]);
        assert_eq!(read(&mut Decoder::default(), &block), Err(Wrong::TooLarge));
    }

    #[test]
    fn a_field_that_is_larger_than_the_table_empties_it_and_the_buffer_stays_small() {
        let mut decoder = Decoder::default();
        let insert = |length: usize| {
            let mut block = vec![0x40, 1, b'a'];
            write_integer(&mut block, 0, 7, length);
            block.extend(vec![b'b'; length]);
            block
        };
        for _ in 0..1_000 {
            decoder.read(&insert(100), |_, _| {}).expect("a good block");
            assert!(decoder.table.bytes.len() <= 4 * TABLE_MOST, "{}", decoder.table.bytes.len());
        }
        assert_eq!(decoder.table.fields.len(), TABLE_MOST / (1 + 100 + FIELD));
        decoder.read(&insert(TABLE_MOST), |_, _| {}).expect("a good block");
        assert_eq!((decoder.table.fields.len(), decoder.table.size), (0, 0));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(fields in proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,200}"), 0..20)) {
            let mut block = Vec::new();
            for (name, value) in &fields {
                write(&mut block, name, value.as_bytes());
            }
            prop_assert_eq!(read(&mut Decoder::default(), &block), Ok(fields));
        }

        /// Whatever comes, block after block: no panic, and the table keeps to its size.
        #[test]
        fn no_input_panics(blocks: Vec<Vec<u8>>) {
            let mut decoder = Decoder::default();
            for block in &blocks {
                let _ = decoder.read(block, |_, _| {});
                let sum: usize = decoder.table.fields.iter().map(|field| field.size()).sum();
                prop_assert_eq!(sum, decoder.table.size);
                prop_assert!(sum <= decoder.table.most && decoder.table.most <= TABLE_MOST);
            }
        }
    }
}

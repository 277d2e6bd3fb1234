// SPDX-License-Identifier: Apache-2.0
//! Header blocks of HTTP/2 (HPACK, RFC 7541). Reads all of it: indexed fields, literals with and without indexing, Huffman, the dynamic
//! table and its size updates. Writes only literals without indexing: a connection has one request.
//!
//! Invariant: the dynamic table is the peer's as long as blocks are read whole and in order; an error ends the connection. What a block
//! can make us keep is bounded: [`TABLE_BYTES`] of table, [`LIST_BYTES`] of fields.

use std::collections::VecDeque;

use super::huffman;

/// SETTINGS_HEADER_TABLE_SIZE as it is when it is not sent.
const TABLE_BYTES: usize = 4_096;
/// What a field counts besides its bytes (section 4.1).
const FIELD_BYTES: usize = 32;
/// Fields of one block, each with what it counts. A gRPC status' text is the longest there is.
const LIST_BYTES: usize = 64 * 1024;
/// An integer's bytes after its prefix: lengths and indexes of ours are far below 2^28.
const INTEGER_BYTES: usize = 4;

/// A header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// The value of the first field of that name.
pub(crate) fn find<'a>(fields: &'a [Field], name: &str) -> Option<&'a [u8]> {
    fields.iter().find(|field| field.name == name.as_bytes()).map(|field| field.value.as_slice())
}

/// Appendix A.
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

/// Appends a field to a block of ours; names and values are short.
pub(crate) fn append(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        append_length(block, text.len());
        block.extend(text.as_bytes());
    }
}

/// An integer with a prefix of 7 bits, the flag for Huffman not set.
fn append_length(block: &mut Vec<u8>, length: usize) {
    const PREFIX: u8 = 0x7f;
    let Some(mut rest) = length.checked_sub(usize::from(PREFIX)) else {
        block.push(u8::try_from(length).unwrap_or(PREFIX));
        return;
    };
    block.push(PREFIX);
    while rest >= 0x80 {
        block.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    block.push(u8::try_from(rest).unwrap_or_default());
}

/// What the peer has put into its table.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Newest first.
    entries: VecDeque<Field>,
    bytes: usize,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit: TABLE_BYTES }
    }
}

impl Decoder {
    /// The fields of a whole block, in their order; or why it is none.
    pub(crate) fn decode(&mut self, mut block: &[u8]) -> Result<Vec<Field>, &'static str> {
        let (mut fields, mut bytes) = (Vec::new(), 0);
        while let Some(first) = block.first().copied() {
            let field = match first {
                0x80.. => self.indexed(integer(&mut block, 7)?)?,
                0x40..=0x7f => {
                    let field = self.literal(&mut block, 6)?;
                    self.remember(field.clone());
                    field
                }
                0x20..=0x3f if fields.is_empty() => {
                    self.resize(integer(&mut block, 5)?)?;
                    continue;
                }
                0x20..=0x3f => return Err("a table size update after a field"),
                // Without indexing, or never to be indexed.
                _ => self.literal(&mut block, 4)?,
            };
            bytes += size(&field);
            if bytes > LIST_BYTES {
                return Err("too many header fields");
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn indexed(&self, index: usize) -> Result<Field, &'static str> {
        let place = index.checked_sub(1).ok_or("a header field of index 0")?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok(Field { name: name.as_bytes().to_vec(), value: value.as_bytes().to_vec() });
        }
        self.entries.get(place - STATIC.len()).cloned().ok_or("a header field of an index that is not in use")
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> Result<Field, &'static str> {
        let name = match integer(block, prefix)? {
            0 => text(block)?,
            index => self.indexed(index)?.name,
        };
        Ok(Field { name, value: text(block)? })
    }

    /// One that is larger than the table empties it, and is no error.
    fn remember(&mut self, field: Field) {
        self.bytes += size(&field);
        self.entries.push_front(field);
        self.evict();
    }

    fn resize(&mut self, limit: usize) -> Result<(), &'static str> {
        if limit > TABLE_BYTES {
            return Err("a header table larger than allowed");
        }
        self.limit = limit;
        self.evict();
        Ok(())
    }

    fn evict(&mut self) {
        while self.bytes > self.limit {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.bytes -= size(&oldest);
        }
    }
}

fn size(field: &Field) -> usize {
    field.name.len() + field.value.len() + FIELD_BYTES
}

/// An integer whose first bits are in the first byte's last `prefix` (section 5.1).
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, &'static str> {
    const CUT: &str = "a header block that ends within a field";
    let (first, mut rest) = block.split_first().ok_or(CUT)?;
    let mask = u8::MAX >> (8 - prefix);
    let mut value = usize::from(first & mask);
    if first & mask == mask {
        for place in 0.. {
            let (byte, more) = rest.split_first().ok_or(CUT)?;
            if place == INTEGER_BYTES {
                return Err("a header field's length or index out of bounds");
            }
            value += usize::from(byte & 0x7f) << (7 * place);
            rest = more;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

fn text(block: &mut &[u8]) -> Result<Vec<u8>, &'static str> {
    let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or("a header block that ends within a text")?;
    *block = rest;
    if is_huffman { huffman::decode(text).ok_or("a text that is no Huffman code") } else { Ok(text.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<char> = hex.chars().filter(|digit| !digit.is_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
    }

    fn texts(fields: &[Field]) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        fields.iter().map(|field| format!("{}: {}", text(&field.name), text(&field.value))).collect()
    }

    /// RFC 7541, appendix C.6: responses with Huffman, in a table of 256 bytes, so that entries are evicted.
    #[test]
    fn the_responses_of_the_rfc_are_read_with_their_evictions() {
        let mut decoder = Decoder::default();
        // The table's size, as an update at the beginning of the first block.
        let first = "3fe101 488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3";
        let date = "date: Mon, 21 Oct 2013 20:13:21 GMT";
        let place = "location: https://www.example.com";
        let fields = decoder.decode(&bytes(first)).unwrap();
        assert_eq!(texts(&fields), [":status: 302", "cache-control: private", date, place]);
        assert_eq!(decoder.bytes, 222);
        let fields = decoder.decode(&bytes("4883640effc1c0bf")).unwrap();
        assert_eq!(texts(&fields), [":status: 307", "cache-control: private", date, place]);
        let third = "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab \
             77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007";
        let fields = decoder.decode(&bytes(third)).unwrap();
        let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
        let date = "date: Mon, 21 Oct 2013 20:13:22 GMT";
        assert_eq!(
            texts(&fields),
            [":status: 200", "cache-control: private", date, place, "content-encoding: gzip", cookie]
        );
        assert_eq!((decoder.bytes, decoder.entries.len()), (215, 3));
    }

    #[test]
    fn what_is_written_is_read_and_leaves_the_table_empty() {
        let long = "v".repeat(20_000);
        let mut block = Vec::new();
        for value in ["", "short", &"b".repeat(127), &long] {
            append(&mut block, "name", value);
        }
        let mut decoder = Decoder::default();
        let fields = decoder.decode(&block).unwrap();
        assert_eq!(fields.iter().map(|field| field.value.len()).collect::<Vec<_>>(), [0, 5, 127, 20_000]);
        assert!(fields.iter().all(|field| field.name == b"name") && decoder.entries.is_empty());
    }

    #[test]
    fn blocks_that_are_none_are_refused() {
        for (hex, why) in [
            ("80", "index 0"),
            ("be", "not in use"),
            ("ffffffffff0f", "out of bounds"),
            ("ff", "within a field"),
            ("00", "within a field"),
            ("0003 6162", "within a text"),
            ("88 20", "after a field"),
            ("3fe21f", "larger than allowed"),
            ("0081 00 00", "no Huffman code"),
        ] {
            let error = Decoder::default().decode(&bytes(hex)).unwrap_err();
            assert!(error.contains(why), "{hex}: {error}");
        }
    }

    #[test]
    fn fields_without_end_are_refused_before_they_are_kept() {
        // One literal with indexing, then the same by its index of one byte.
        let mut block = vec![0x40];
        for text in ["n".repeat(100), "v".repeat(1_000)] {
            append_length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
        block.extend([0xbe; 100]);
        assert_eq!(Decoder::default().decode(&block), Err("too many header fields"));
    }
}

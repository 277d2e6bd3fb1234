// SPDX-License-Identifier: Apache-2.0
//! Huffman-coded texts of HPACK (RFC 7541, section 5.2 and appendix B). Decodes only: what we send is plain.
//!
//! The code is canonical: of the codes of one length each is the one before it plus one, in the order of the symbols, and a longer code
//! goes on where the shorter ones ended. So the lengths are all of it, and a text is read bit by bit without a tree:
//! `01011` is 5 long; the codes of 5 begin at `00000` and are ten; it is the 12th: not of this length; with the next bit of 6, and so on.

/// The symbol that ends no text: it must not occur.
const END: usize = 256;
/// Bits of the longest code.
const LONGEST: usize = 30;
/// Padding is shorter than a byte, and all ones.
const LONGEST_PADDING: usize = 7;

/// Bits of each symbol's code, the bytes' and [`END`]'s.
const LENGTHS: [u8; END + 1] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12,
    10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6,
    5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22,
    22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20,
    22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28,
    27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28,
    27, 27, 27, 27, 27, 26, 30,
];

/// The codes of each length: the first of them, how many there are, and where their symbols begin.
struct Codes {
    first: [u32; LONGEST + 1],
    count: [u16; LONGEST + 1],
    place: [u16; LONGEST + 1],
    symbols: [u16; END + 1],
}

static CODES: Codes = codes();

const fn codes() -> Codes {
    let mut codes =
        Codes { first: [0; LONGEST + 1], count: [0; LONGEST + 1], place: [0; LONGEST + 1], symbols: [0; END + 1] };
    let (mut length, mut next, mut filled) = (1, 0, 0);
    while length <= LONGEST {
        codes.first[length] = next;
        codes.place[length] = filled;
        let (mut symbol, mut place) = (0, 0);
        while place <= END {
            if LENGTHS[place] as usize == length {
                codes.symbols[filled as usize] = symbol;
                codes.count[length] += 1;
                filled += 1;
            }
            (symbol, place) = (symbol + 1, place + 1);
        }
        next = (next + codes.count[length] as u32) << 1;
        length += 1;
    }
    codes
}

/// The text; `None`: it is none (the end's symbol, or padding that is not).
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    let (mut code, mut length) = (0_u32, 0);
    for byte in bytes {
        for bit in (0..8).rev() {
            code = code << 1 | u32::from(byte >> bit & 1);
            length += 1;
            if let Some(symbol) = symbol(code, length) {
                text.push(u8::try_from(symbol).ok()?);
                (code, length) = (0, 0);
            } else if length == LONGEST {
                return None;
            }
        }
    }
    let is_padding = length <= LONGEST_PADDING && code == (1 << length) - 1;
    is_padding.then_some(text)
}

fn symbol(code: u32, length: usize) -> Option<u16> {
    let place = code.checked_sub(*CODES.first.get(length)?)?;
    if place >= u32::from(*CODES.count.get(length)?) {
        return None;
    }
    CODES.symbols.get(usize::from(*CODES.place.get(length)?) + place as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, appendix C.4 to C.6.
    #[test]
    fn the_examples_of_the_rfc_are_read() {
        for (hex, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("6402", "302"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9bd9ab", "gzip"),
            ("", ""),
        ] {
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            assert_eq!(decode(&bytes).as_deref(), Some(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn every_symbol_has_a_code_of_its_length_and_no_other() {
        for (symbol, length) in LENGTHS.iter().enumerate() {
            let length = usize::from(*length);
            let place =
                CODES.symbols[usize::from(CODES.place[length])..].iter().position(|one| usize::from(*one) == symbol);
            let code = CODES.first[length] + u32::try_from(place.unwrap()).unwrap();
            assert_eq!(super::symbol(code, length).map(usize::from), Some(symbol));
            assert!((1..length).all(|shorter| super::symbol(code >> (length - shorter), shorter).is_none()));
        }
    }

    #[test]
    fn the_end_s_symbol_and_wrong_padding_are_refused() {
        for bytes in [&[0xff, 0xff, 0xff, 0xff][..], &[0xff], &[0x18], &[0x1f, 0xff]] {
            assert_eq!(decode(bytes), None, "{bytes:02x?}");
        }
        assert_eq!(decode(&[0x1f]).as_deref(), Some(&b"a"[..]));
    }
}

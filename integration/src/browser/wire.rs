// SPDX-License-Identifier: Apache-2.0
//! chromedriver's HTTP: a question and its answer as JSON, a connection each, in the namespace it listens in.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::BrowserError;
use crate::netns::Namespace;

/// Where chromedriver listens, on loopback.
pub(super) const PORT: u16 = 9_515;

/// How long an answer may take: a page is loaded meanwhile, on a busy machine.
const ANSWER: Duration = Duration::from_secs(90);

/// The way to it.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    netns: Namespace,
}

impl Wire {
    pub(super) fn new(netns: &Namespace) -> Self {
        Self { netns: netns.clone() }
    }

    /// The `value` of the answer (WebDriver, "Sending a response").
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, BrowserError> {
        let doing = || format!("{method} {path}");
        let answer = self.netns.run(|| exchange(method, path, body))?;
        let (status, text) = answer.map_err(|source| BrowserError::Wire { doing: doing(), source })?;
        let mut answer: Value = serde_json::from_str(&text)
            .map_err(|error| BrowserError::Refused { doing: doing(), said: format!("{error}: {text}") })?;
        let value = answer["value"].take();
        if status == 200 {
            return Ok(value);
        }
        let said = ["error", "message"].map(|field| value[field].as_str().unwrap_or_default()).join(": ");
        Err(BrowserError::Refused { doing: doing(), said })
    }
}

/// Status and body.
fn exchange(method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT))?;
    stream.set_read_timeout(Some(ANSWER))?;
    let body = body.map(ToString::to_string).unwrap_or_default();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:{PORT}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not HTTP: {line:?}")))?;
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text)?;
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

/// The bytes of a text of RFC 4648, section 4; what is none of its digits is left out.
pub(super) fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().filter_map(digit).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.chunks(4) {
        let word = (0..4).fold(0_u32, |word, at| word << 6 | u32::from(four.get(at).copied().unwrap_or(0)));
        let [_, all @ ..] = word.to_be_bytes();
        bytes.extend(&all[..four.len() * 3 / 4]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob")] {
            assert_eq!(base64(text), bytes.as_bytes());
        }
    }
}

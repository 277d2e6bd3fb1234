// SPDX-License-Identifier: Apache-2.0
//! The least name server: it knows one name, by A records. For what a libc that was linked into a program asks of one.
//!
//! Source: RFC 1035, sections 4.1 and 3.4.1.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use integration::netns::Namespace;

const A: u16 = 1;
/// Response, recursion available.
const FLAGS: u16 = 0x8080;
const NO_SUCH_NAME: u16 = 3;

/// Answers on 127.0.0.1:53 of a namespace, as long as the test lives.
pub(crate) fn serve(netns: &Namespace, name: &'static str, address: Ipv4Addr) {
    let socket = netns.run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 53))).unwrap().unwrap();
    std::thread::spawn(move || -> io::Result<()> {
        let mut question = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut question)?;
            if let Some(answer) = answer(&question[..length], name, address) {
                socket.send_to(&answer, from)?;
            }
        }
    });
}

/// The answer to a message with one question; `None`: it is no such message.
fn answer(message: &[u8], name: &str, address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(std::str::from_utf8(message.get(at..at + length)?).ok()?.to_owned());
        at += length;
    }
    let question = message.get(12..at + 4)?;
    let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
    let known = labels.join(".").eq_ignore_ascii_case(name);
    let answers = u16::from(known && kind == A);
    let mut reply = message.get(..2)?.to_vec();
    reply.extend((FLAGS | if known { 0 } else { NO_SUCH_NAME }).to_be_bytes());
    reply.extend([1, answers, 0, 0].map(u16::to_be_bytes).concat());
    reply.extend(question);
    if answers == 1 {
        // The name of the question, A, IN, a minute, four bytes.
        reply.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}

#[test]
fn a_question_for_the_name_is_answered_and_another_is_not() {
    let ask = |name: &str, kind: u8| {
        let labels = name
            .split('.')
            .flat_map(|label| [[u8::try_from(label.len()).unwrap()].as_slice(), label.as_bytes()].concat());
        let header = [7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let message: Vec<u8> = header.into_iter().chain(labels).chain([0, 0, kind, 0, 1]).collect();
        answer(&message, "ec2.example", Ipv4Addr::new(127, 0, 0, 9)).unwrap()
    };
    assert!(ask("EC2.example", 1).ends_with(&[0, 4, 127, 0, 0, 9]));
    assert_eq!(ask("ec2.example", 28)[3..8], [0x80, 0, 1, 0, 0], "no AAAA, but the name is there");
    assert_eq!(ask("other.example", 1)[3] & 15, 3);
    assert!(answer(&[0; 5], "x", Ipv4Addr::LOCALHOST).is_none());
}

// SPDX-License-Identifier: Apache-2.0
//! Who follows a daemon: no more than it lets in, and nobody who does not look.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use integration::eventually::pass;

use crate::bed::{Bed, PAGE};

/// As many as the daemon lets in.
const MOST: usize = 16;

const LIVE: &str = "document.getElementById('link').dataset.is === 'live'";

/// Follows, and was let in.
fn follower(bed: &Bed) -> TcpStream {
    let follow = || -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], 61679)))?;
        stream.write_all(b"GET /v1/events/follow HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut head = [0; 15];
        stream.read_exact(&mut head)?;
        assert_eq!(String::from_utf8_lossy(&head), "HTTP/1.1 200 OK");
        Ok(stream)
    };
    bed.node().netns.run(follow).unwrap().unwrap()
}

#[test]
fn a_page_that_may_not_follow_tries_again_with_pauses_and_is_let_in_when_there_is_a_place() {
    let bed = Bed::unopened("m5.large", &[]);
    let others: Vec<TcpStream> = (0..MOST).map(|_| follower(&bed)).collect();
    bed.browser.open(PAGE).unwrap();
    bed.shows_every_address();
    pass(Duration::from_secs(6));
    let asked = |path: &str| {
        let entries = "performance.getEntriesByType('resource')";
        bed.value(&format!("{entries}.filter(entry => entry.name.endsWith('{path}')).length")).as_u64().unwrap()
    };
    // At once, after 2 s and after 4 more, and by what else asks each 10 s.
    let (status, history) = (asked("/v1/status"), asked("/v1/history"));
    println!("in six seconds: {status} times the status, {history} tries to follow");
    assert!((2..=6).contains(&status) && (2..=4).contains(&history), "{status} {history}");
    assert_eq!(bed.value(LIVE), false);
    drop(others);
    bed.shows_within(Duration::from_secs(40), "that it follows", LIVE);
}

#[test]
fn a_hidden_page_does_not_follow_and_catches_up_when_it_is_seen() {
    let bed = Bed::new("m5.large", &[]);
    let turn = |hidden: bool| {
        let now = format!("Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }})");
        bed.browser.run(&format!("{now}; document.dispatchEvent(new Event('visibilitychange'))")).unwrap();
    };
    turn(true);
    let sandbox = bed.node().sandbox("meanwhile").unwrap();
    bed.node().runtime.add(&sandbox).unwrap();
    pass(Duration::from_secs(3));
    let shown = ["pod-list", "log"].map(|id| bed.says(id).contains("default/meanwhile"));
    assert_eq!(shown, [false, false]);
    turn(false);
    bed.shows("that it follows", LIVE);
    bed.shows("the pod", "document.getElementById('pod-list').textContent.includes('default/meanwhile')");
    bed.shows("its record", "document.getElementById('log').textContent.includes('default/meanwhile')");
    bed.is_sound();
}

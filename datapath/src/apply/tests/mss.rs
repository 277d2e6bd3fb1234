// SPDX-License-Identifier: Apache-2.0
//! TCP over a path out of the VPC that drops what is larger than 1500 bytes and says nothing, which large segments hang on.
//!
//! ```text
//!  pod ── node ── router ──(1500, no ICMP)── internet
//!     9001    9001                        9001
//! ```

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::packets::{Net, Way, host_setup};
use crate::apply::host;
use crate::apply::pod::attach;
use crate::apply::testbed::{Space, pod, settle};
use crate::plan::host::HostSetup;

const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9)), 7000);
/// Many large segments, far more than the first window of a connection holds of small ones.
const BYTES: usize = 200_000;
/// A connection that hangs is told by this; one that works needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Sends on one end and reads on the other; whether all of it arrived.
fn carries(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(&vec![7; BYTES]));
        let mut buffer = vec![0; BYTES];
        to.read_exact(&mut buffer).is_ok()
    })
}

/// Both ends of a new connection from the pod.
fn connection(sandbox: &Space, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = sandbox.run(|| TcpStream::connect_timeout(&SERVER, PATIENCE).unwrap());
    let server = listener.accept().unwrap().0;
    for end in [&client, &server] {
        end.set_read_timeout(Some(PATIENCE)).unwrap();
        end.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (client, server)
}

#[test]
fn where_icmp_is_dropped_tcp_out_of_the_vpc_hangs_unless_the_paths_mtu_is_known() {
    let net = Net::plumbed_by("0", Way::Classic);
    let Net { node, router, internet } = &net;
    for (space, link) in [(node, "eth0"), (node, "eth1"), (router, "r0"), (router, "r1"), (internet, "eth0")] {
        space.ip(&format!("link set {link} mtu 9001"));
    }
    // A veth lets bundles of segments through whatever their size.
    internet.ip("link set eth0 gso_max_segs 1");
    router.nft_text(
        "table ip path {
            chain silent {
                type filter hook output priority 0
                icmp type destination-unreachable drop
            }
        }",
    );
    let sandbox = Space::new();
    attach(&sandbox.path(), &pod("s", Ipv4Addr::new(10, 0, 1, 7), Some(2))).unwrap();
    settle(&sandbox);
    let listener = internet.run(|| TcpListener::bind(SERVER).unwrap());
    for (external_mtu, passes) in [(None, false), (Some(1500), true)] {
        host::setup(&HostSetup { mtu: 9001, external_mtu, ..host_setup() }).unwrap();
        let (mut client, mut server) = connection(&sandbox, &listener);
        assert_eq!(carries(&mut client, &mut server), passes, "pod to internet, {external_mtu:?}");
        let (mut client, mut server) = connection(&sandbox, &listener);
        assert_eq!(carries(&mut server, &mut client), passes, "internet to pod, {external_mtu:?}");
    }
}

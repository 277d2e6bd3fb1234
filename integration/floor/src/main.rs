// SPDX-License-Identifier: Apache-2.0
//! The floor that `make bench` holds ADD and DEL against: one static process that plumbs a pod with the fewest kernel
//! operations and makes one gRPC call to an empty server. No allocation, no policy rules, no checks, no log.
//!
//! `cni-floor` is called like a CNI plugin (CNI_COMMAND, CNI_NETNS, a configuration on stdin that it only reads), with the
//! address in FLOOR_ADDRESS and the server's socket in FLOOR_SOCKET. `cni-floor serve SOCKET` is the empty server.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measuring program's edge"
)]

mod netlink;
mod server;

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ipam_api::client::channel::{Caller, origin, within};
use ipam_api::rpc::cni_backend_client::CniBackendClient;
use ipam_api::rpc::{AddNetworkRequest, DelNetworkRequest};
use netlink::{Batch, Socket, Veth};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const MTU: u32 = 9001;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let outcome = match args.as_slice() {
        [verb, socket] if verb == "serve" => server::serve(&PathBuf::from(socket)),
        _ => call(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cni-floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn call() -> Result<(), Box<dyn Error>> {
    let mut configuration = Vec::new();
    std::io::stdin().read_to_end(&mut configuration)?;
    let caller = Caller::new(PathBuf::from(env::var("FLOOR_SOCKET")?));
    let address: Ipv4Addr = env::var("FLOOR_ADDRESS")?.parse()?;
    let budget = Duration::from_secs(5);
    if env::var("CNI_COMMAND")? == "ADD" {
        caller.call(budget, async |channel, left| {
            CniBackendClient::with_origin(channel, origin())
                .add_network(within(left, AddNetworkRequest::default()))
                .await
        })?;
        add(address)?;
        println!("{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"{address}/32\"}}]}}");
    } else {
        caller.call(budget, async |channel, left| {
            CniBackendClient::with_origin(channel, origin())
                .del_network(within(left, DelNetworkRequest::default()))
                .await
        })?;
        let mut batch = Batch::default();
        batch.delete_host_route(address);
        Socket::new()?.run(batch)?;
    }
    Ok(())
}

fn add(address: Ipv4Addr) -> Result<(), Box<dyn Error>> {
    let [_, b, c, d] = address.octets();
    let (host_mac, pod_mac) = ([2, 0, 0, b, c, d], [2, 1, 0, b, c, d]);
    let home = File::open("/proc/thread-self/ns/net")?;
    let pod = File::open(env::var("CNI_NETNS")?)?;
    let node = Socket::new()?;
    let mut batch = Batch::default();
    let host = format!("flr{b:02x}{c:02x}{d:02x}");
    batch.veth(&Veth { host: &host, pod: "eth0", pod_netns: pod.as_raw_fd(), host_mac, pod_mac, mtu: MTU });
    let (host_index, pod_index) = node.run(batch)?;

    let network = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(pod.as_fd(), network)?;
    let inside = Socket::new()?;
    move_into_link_name_space(home.as_fd(), network)?;

    let mut batch = Batch::default();
    batch.host_route(address, host_index);
    node.run(batch)?;
    let mut batch = Batch::default();
    batch.link_up(pod_index);
    batch.address(pod_index, address);
    batch.host_route(GATEWAY, pod_index);
    batch.default_route(GATEWAY, pod_index);
    batch.permanent_neighbour(pod_index, GATEWAY, host_mac);
    inside.run(batch)?;
    Ok(())
}

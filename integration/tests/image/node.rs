// SPDX-License-Identifier: Apache-2.0
//! The daemon of the image on an emulated node, with what the chart's container has: capabilities NET_ADMIN and NET_RAW, a read-only
//! root, /proc/sys read-only, no new privileges, containerd's default seccomp profile. (That the chart says so is the suite `deploy`'s.)

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;

use integration::eventually::eventually;
use integration::pods;
use integration::runtimes::containerd::{Containerd, Line};
use integration::runtimes::runc::{Container, ContainerSpec, Runc};
use integration::topology::{READY, Topology, TopologySpec};
use serde_json::Value;

use crate::archive::Image;
use crate::dns;
use crate::tls::Front;

/// Where the front stands for EC2.
const EC2: &str = "ec2.enid.test";

const CAPABILITIES: [&str; 2] = ["NET_ADMIN", "NET_RAW"];

/// A node with the image unpacked, and TLS in front of its EC2.
struct Bed {
    runc: Runc,
    seccomp: Value,
    front: Front,
    root: PathBuf,
    folder: PathBuf,
    topology: Topology,
}

impl Bed {
    fn new() -> Self {
        let image = Image::find();
        let topology = Topology::build(&TopologySpec::one("m5.large")).unwrap();
        let (world, node) = (&topology.world, topology.node("n1"));
        let (root, folder) = (world.folder("n1/root").unwrap(), world.folder("n1/files").unwrap());
        image.unpack(&root);
        let behind = node.variable("AWS_ENDPOINT_URL_EC2").unwrap().trim_start_matches("http://");
        let behind: SocketAddrV4 = behind.parse().unwrap();
        let front = Front::serve(&topology.runtime, &node.netns, EC2, behind);
        std::fs::write(folder.join("authority.pem"), &front.authority).unwrap();
        let containerd = Containerd::start(world, node, Line::One).unwrap();
        let seccomp = containerd.default_seccomp(&CAPABILITIES).unwrap();
        drop(containerd);
        let runc = Runc::start(world, node).unwrap();
        Self { runc, seccomp, front, root, folder, topology }
    }

    /// What kubelet writes for a pod of the host's network.
    fn names(&self, hosts: &str, resolver: &str) -> Vec<(PathBuf, String)> {
        [("hosts", hosts, "/etc/hosts"), ("resolv.conf", resolver, "/etc/resolv.conf")]
            .map(|(name, text, inside)| {
                let path = self.folder.join(name);
                std::fs::write(&path, text).unwrap();
                (path, inside.to_owned())
            })
            .into()
    }

    /// The chart's container of the daemon.
    fn daemon(&self, mounts: Vec<(PathBuf, String)>, environment: &[(&str, &str)]) -> ContainerSpec {
        let node = self.topology.node("n1");
        let inherited = [
            "MY_NODE_NAME",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "AWS_VPC_K8S_CNI_BACKING_STORE",
            "AWS_VPC_K8S_CNI_LOGLEVEL",
            "ENID_SOCKET",
        ];
        let mut all: Vec<(String, String)> =
            inherited.iter().map(|name| ((*name).to_owned(), node.variable(name).unwrap().to_owned())).collect();
        all.push(("AWS_EC2_ENDPOINT".to_owned(), format!("https://{EC2}:{}", self.front.port)));
        all.push(("WARM_IP_TARGET".to_owned(), "1".to_owned()));
        all.extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let state = node.state_folder();
        let at = state.display().to_string();
        ContainerSpec {
            root: self.root.clone(),
            command: vec!["/ipamd".to_owned(), "run".to_owned()],
            environment: all,
            capabilities: CAPABILITIES.into(),
            seccomp: Some(self.seccomp.clone()),
            mounts: mounts.into_iter().chain([(state, at)]).collect(),
            shown: Vec::new(),
        }
    }

    fn start(&self, spec: &ContainerSpec) -> Container {
        let container = self.runc.start_container("ipamd", spec).unwrap();
        let ready = eventually("STATUS succeeds", READY, || {
            let status = self.topology.node("n1").runtime.status();
            status.map(drop).map_err(|error| format!("{error}; {}", container.log_tail(30)))
        });
        ready.unwrap_or_else(|error| panic!("{error}"));
        container
    }

    /// Pods on two ENIs, reached with packets: calls to EC2 went through.
    fn serves(&self) {
        let node = self.topology.node("n1");
        let pods = pods::start(node, 12, 6, &AtomicUsize::new(0)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(self.topology.enis("n1").unwrap().len(), 2);
        for pod in &pods {
            pod.reached_from(&node.netns).unwrap();
        }
        assert!(self.front.served() > 0, "EC2 was asked, but not over TLS");
    }
}

fn mounted(path: &Path, inside: &str) -> (PathBuf, String) {
    (path.to_owned(), inside.to_owned())
}

const HERE: &str = "127.0.0.1 localhost ec2.enid.test\n";

#[test]
fn without_any_right_it_says_its_version() {
    let bed = Bed::new();
    let spec = ContainerSpec {
        root: bed.root.clone(),
        command: vec!["/ipamd".to_owned(), "version".to_owned()],
        environment: Vec::new(),
        capabilities: Vec::new(),
        seccomp: None,
        mounts: Vec::new(),
        shown: Vec::new(),
    };
    assert_eq!(bed.runc.run("version", &spec).unwrap(), format!("ipamd {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_daemon_serves_pods_with_two_capabilities_over_tls_by_a_bundle_of_its_own() {
    let bed = Bed::new();
    let mut mounts = bed.names(HERE, "");
    mounts.push(mounted(&bed.folder, "/ca"));
    let spec = bed.daemon(mounts, &[("AWS_CA_BUNDLE", "/ca/authority.pem")]);
    let mut container = bed.start(&spec);
    bed.serves();
    let status = bed.runc.exec("ipamd", &["/ipamd", "status"]).unwrap();
    assert!(status.contains("eth0") || status.contains("eni-"), "{status}");
    bed.runc.stop("ipamd", &mut container).unwrap();
}

#[test]
fn names_come_from_dns_and_authorities_from_where_the_image_has_them() {
    let bed = Bed::new();
    dns::serve(&bed.topology.node("n1").netns, EC2, Ipv4Addr::LOCALHOST);
    let mut mounts = bed.names("127.0.0.1 localhost\n", "nameserver 127.0.0.1\noptions timeout:1\n");
    mounts.push(mounted(&bed.folder.join("authority.pem"), "/etc/ssl/certs/ca-certificates.crt"));
    let mut container = bed.start(&bed.daemon(mounts, &[]));
    bed.serves();
    bed.runc.stop("ipamd", &mut container).unwrap();
}

#[test]
fn an_authority_that_the_image_does_not_know_is_not_trusted_and_the_log_says_so() {
    let bed = Bed::new();
    let spec = bed.daemon(bed.names(HERE, ""), &[]);
    let container = bed.runc.start_container("ipamd", &spec).unwrap();
    let said = eventually("the log names the certificate", READY, || {
        let log = container.log_tail(200);
        if log.contains("UnknownIssuer") { Ok(log) } else { Err(log) }
    });
    let log = said.unwrap_or_else(|error| panic!("{error}"));
    assert!(!log.contains("no native root CA certificates found"), "the image's own authorities were not read: {log}");
    assert_eq!(bed.front.served(), 0);
    assert!(!container.has_ended(), "pods that live need the daemon, whatever EC2 says");
}

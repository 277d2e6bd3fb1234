// SPDX-License-Identifier: Apache-2.0
//! The reference's objects as text: `ip` batches, iptables-restore and nft input, its checkpoint, a CNI result. Pure.
//!
//! | object | as it makes it |
//! |---|---|
//! | rules | without a protocol (its netlink library sends none): `protocol 0` |
//! | routes | protocol boot, its library's default |
//! | tables | main; device index + 1 |
//! | names | `eni` and 11 digits of SHA-1 of `<namespace>.<pod>`; `dummy` and the same digits |
//!
//! Source: amazon-vpc-cni-k8s v1.23, `pkg/networkutils`, `cmd/routed-eni-cni-plugin`, `pkg/ipamd/datastore`.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use crate::fabric::router_of;
use crate::sandbox::Sandbox;
use crate::tools::Iptables;

use super::AwsEni;

/// The VPC's block in every topology.
const VPC: &str = "10.0.0.0/16";

/// What its init container sets.
pub const SYSCTLS: [(&str, &str); 2] = [("net/ipv4/conf/eth0/rp_filter", "2"), ("net/ipv4/tcp_early_demux", "1")];

/// Its rule for marked packets: deleted and made again at every start.
pub const MARK_RULE_DELETE: &str = "rule del fwmark 0x80/0x80 priority 1024 lookup main\n";
/// The same, made.
pub const MARK_RULE_ADD: &str = "rule add fwmark 0x80/0x80 priority 1024 lookup main protocol 0\n";

/// Its native table of connection marks, with iptables-nft; emptied first, as a start does.
pub const NATIVE_TABLE: &str = "\
table ip aws-cni {}
delete table ip aws-cni
table ip aws-cni {
 chain snat-mark {
  counter ip daddr 10.0.0.0/16 return
  counter ct mark set ct mark or 0x80
 }
 chain nat-prerouting {
  type nat hook prerouting priority -90; policy accept;
  fib daddr type local return
  iifname \"eni*\" counter jump snat-mark
  counter meta mark set ct mark and 0x80
 }
}
";

/// Names that follow from a pod's.
#[derive(Clone, Debug)]
pub struct PodNames {
    /// Its host veth.
    pub host_veth: String,
    marker: String,
    mac: String,
}

impl PodNames {
    /// Of this pod. The MAC is random with the reference; here it follows from the name, which nobody can tell.
    #[must_use]
    pub fn new(namespace: &str, pod: &str) -> Self {
        let digest = Sha1::digest(format!("{namespace}.{pod}").as_bytes());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let mac: Vec<String> = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        let digits = &hex[..11];
        Self {
            host_veth: format!("eni{digits}"),
            marker: format!("dummy{digits}"),
            mac: format!("3e:{}", mac.join(":")),
        }
    }
}

/// The veth, from the pod's namespace: its peer is born in the node's, with the chosen MAC.
#[must_use]
pub fn pod_link(pod: &PodNames, node: &str) -> String {
    let PodNames { host_veth, mac, .. } = pod;
    format!(
        "link add eth0 mtu 9001 txqueuelen 0 type veth peer name {host_veth} mtu 9001 txqueuelen 0 address {mac} netns {node}\n"
    )
}

/// The pod's side.
#[must_use]
pub fn pod_side(pod: &PodNames, address: Ipv4Addr) -> String {
    let mac = &pod.mac;
    format!(
        "link set eth0 up\n\
         route replace 169.254.1.1/32 dev eth0 scope link table main proto boot\n\
         route add default via 169.254.1.1 dev eth0 table main proto boot\n\
         address add {address}/32 dev eth0\n\
         neigh replace 169.254.1.1 lladdr {mac} dev eth0 nud permanent\n"
    )
}

/// The node's side.
#[must_use]
pub fn host_side(pod: &PodNames, address: Ipv4Addr, table: u32) -> String {
    let link = &pod.host_veth;
    let from = match table {
        254 => String::new(),
        _ => format!("rule add from {address}/32 priority 1536 lookup {table} protocol 0\n"),
    };
    format!(
        "route replace {address}/32 dev {link} scope link table main proto boot\n\
         rule add to {address}/32 priority 512 lookup main protocol 0\n{from}"
    )
}

/// What its plugin's DEL takes away, each of which must be there.
#[must_use]
pub fn host_side_removals(link: &str, address: Ipv4Addr, table: u32) -> String {
    let from = match table {
        254 => String::new(),
        _ => format!("rule del from {address}/32 priority 1536 lookup {table}\n"),
    };
    format!("rule del to {address}/32 priority 512 lookup main\n{from}route del {address}/32 dev {link} table main\n")
}

/// The result that its plugin prints, which the runtime hands to DEL: the table in the pod link's `mac`, the device number in the
/// marker's `sandbox`.
#[must_use]
pub fn result(pod: &PodNames, address: Ipv4Addr, table: u32, device: u32, netns: &str) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "interfaces": [
            { "name": pod.host_veth },
            { "name": "eth0", "mac": table.to_string(), "sandbox": format!("/var/run/netns/{netns}") },
            { "name": pod.marker, "mac": "0", "sandbox": device.to_string() },
        ],
        "ips": [{ "version": "4", "interface": 1, "address": format!("{address}/32") }],
        "dns": {},
    })
}

/// What an ENI's set-up deletes first, line by line: whatever is not there is fine.
#[must_use]
pub fn eni_removals(eni: &AwsEni) -> String {
    let AwsEni { link, subnet, .. } = eni;
    let (table, gateway) = (eni.table(), router_of(*subnet));
    format!(
        "address flush dev {link} scope global\n\
         route del {gateway}/32 dev {link} table {table}\n\
         route del default via {gateway} dev {link} table {table}\n\
         rule del from {}/32 priority 32765 lookup {table}\n",
        eni.primary
    )
}

/// A secondary ENI's set-up.
#[must_use]
pub fn eni(eni: &AwsEni) -> String {
    let AwsEni { link, subnet, primary, .. } = eni;
    let (table, gateway, length) = (eni.table(), router_of(*subnet), subnet.prefix_len());
    let network = subnet.trunc();
    format!(
        "link set {link} mtu 9001 up\n\
         address add {primary}/{length} dev {link}\n\
         route replace {gateway}/32 dev {link} scope link table {table} proto boot\n\
         route replace default via {gateway} dev {link} table {table} proto boot\n\
         route del {network} dev {link} src {primary} scope link table main\n\
         rule add from {primary}/32 priority 32765 lookup {table} protocol 0\n"
    )
}

/// Its rules in iptables' tables, for iptables-restore without flushing others'. With the legacy kind the marks of connections are here,
/// too.
#[must_use]
pub fn iptables(kind: Iptables, primary: Ipv4Addr) -> String {
    let (chains, marks) = match kind {
        Iptables::Nft => ("", String::new()),
        Iptables::Legacy => (
            ":AWS-CONNMARK-CHAIN-0 - [0:0]\n",
            format!(
                "-A PREROUTING -i eni+ -m comment --comment \"AWS, outbound connections\" -j AWS-CONNMARK-CHAIN-0\n\
                 -A AWS-CONNMARK-CHAIN-0 -d {VPC} -m comment --comment \"AWS CONNMARK CHAIN\" -j RETURN\n\
                 -A AWS-CONNMARK-CHAIN-0 -m comment --comment \"AWS, CONNMARK\" -j CONNMARK --set-xmark 0x80/0x80\n\
                 -A PREROUTING -m comment --comment \"AWS, CONNMARK\" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80\n"
            ),
        ),
    };
    let mangle = "-A PREROUTING -i eth0 -m comment --comment \"AWS, primary ENI\" -m addrtype --dst-type LOCAL \
                  --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80\n\
                  -A PREROUTING -i eni+ -m comment --comment \"AWS, primary ENI\" -j CONNMARK --restore-mark --nfmask 0x80 \
                  --ctmask 0x80\n\
                  -A PREROUTING -i vlan+ -m comment --comment \"AWS, primary ENI\" -j CONNMARK --restore-mark --nfmask 0x80 \
                  --ctmask 0x80\n";
    format!(
        "*nat\n\
         :AWS-SNAT-CHAIN-0 - [0:0]\n\
         {chains}\
         -A POSTROUTING -m comment --comment \"AWS SNAT CHAIN\" -j AWS-SNAT-CHAIN-0\n\
         -A AWS-SNAT-CHAIN-0 -d {VPC} -m comment --comment \"AWS SNAT CHAIN\" -j RETURN\n\
         -A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment \"AWS, SNAT\" -m addrtype ! --dst-type LOCAL -j SNAT \
         --to-source {primary} --random-fully\n\
         {marks}COMMIT\n\
         *mangle\n{mangle}COMMIT\n"
    )
}

/// An entry of its checkpoint.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `aws-cni`, or `_migrated-from-cri` of very old ones.
    pub network: String,
    /// The sandbox.
    pub container_id: String,
    /// `eth0`, or `unknown`.
    pub ifname: String,
    /// The address.
    pub address: Ipv4Addr,
    /// Namespace and name; `None`: an entry without metadata.
    pub pod: Option<(String, String)>,
}

impl Entry {
    /// Of a sandbox.
    #[must_use]
    pub fn new(sandbox: &Sandbox, address: Ipv4Addr) -> Self {
        Self {
            network: "aws-cni".to_owned(),
            container_id: sandbox.container_id.clone(),
            ifname: "eth0".to_owned(),
            address,
            pod: Some((sandbox.namespace.clone(), sandbox.name.clone())),
        }
    }

    /// The same under the key that its migration from the CRI gave.
    #[must_use]
    pub fn migrated(mut self) -> Self {
        (self.network, self.ifname, self.pod) = ("_migrated-from-cri".to_owned(), "unknown".to_owned(), None);
        self
    }
}

/// `ipam.json` as it writes it: JSON and a newline.
#[must_use]
pub fn checkpoint(entries: &[Entry]) -> String {
    let allocations: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let metadata = entry.pod.as_ref().map_or_else(
                || json!({}),
                |(namespace, name)| json!({ "k8sPodNamespace": namespace, "k8sPodName": name, "interfacesCount": 1 }),
            );
            json!({
                "networkName": entry.network,
                "containerID": entry.container_id,
                "ifName": entry.ifname,
                "ipv4": entry.address,
                "allocationTimestamp": 1_787_650_000_000_000_000_i64,
                "metadata": metadata,
            })
        })
        .collect();
    format!("{}\n", json!({ "version": "vpc-cni-ipam/1", "allocations": allocations }))
}

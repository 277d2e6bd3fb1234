// SPDX-License-Identifier: Apache-2.0
//! What a successful ADD prints: the reference's result, in the shape of the configuration's version. Its readers are
//! runtimes and, on DEL, the reference's own plugin, which takes the pod down by it when its daemon is away:
//!
//! | interface | mac | sandbox |
//! |---|---|---|
//! | host veth | - | - |
//! | pod link | the address's **route table**, decimal | the pod's namespace |
//! | `dummy<hash>` (the marker) | VLAN id: `0` for a normal pod | the ENI's device number |
//!
//! A caller that is not Kubernetes (CNI_ARGS name no sandbox of it: podman, `ctr`) gets real MAC addresses and no marker: podman takes
//! no other text for one, and no plugin of the reference will ever read what it keeps.
//!
//! An address each of IPv4 (/32) and IPv6 (/128), IPv4 first. No gateway, no routes, no DNS, no MTU; for Kubernetes no real
//! MAC addresses.
//! Shape: up to 0.4.0 an address says its family in `version`, from 1.0.0 on it does not (CNI specification, "Result", changes
//! of 1.0.0).

use std::net::IpAddr;

use datapath::plan::{Family, LinkName, MacAddr, PodAddresses};
use serde::Serialize;

/// What the result is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    /// Host end of the veth.
    pub host_veth: LinkName,
    /// `dummy` and the host veth's hash.
    pub marker: String,
    /// Name of the link in the pod.
    pub ifname: String,
    /// The pod's namespace, as the runtime gave it.
    pub netns: String,
    /// The pod's addresses.
    pub addresses: PodAddresses,
    /// Route table, as the daemon gave it.
    pub route_table: i32,
    /// Device number of the ENI, as the daemon gave it.
    pub device_number: i32,
    /// MAC addresses of the host end and the pod's, for a caller that is not Kubernetes.
    pub macs: Option<[MacAddr; 2]>,
}

/// The result in the shape of `version`.
pub(crate) fn to_json(attached: &Attached, version: &str) -> String {
    let interface = |name: &str, mac: Option<String>, sandbox: &str| Interface {
        name: name.to_owned(),
        mac,
        sandbox: Some(sandbox.to_owned()).filter(|sandbox| !sandbox.is_empty()),
    };
    let macs = attached.macs.map(|macs| macs.map(|mac| mac.to_string()));
    let (of_host, of_pod) = macs.map_or((None, attached.route_table.to_string()), |[host, pod]| (Some(host), pod));
    let marker = || interface(&attached.marker, Some("0".to_owned()), &attached.device_number.to_string());
    let ends = [
        interface(attached.host_veth.as_str(), of_host, ""),
        interface(&attached.ifname, Some(of_pod), &attached.netns),
    ];
    let result = Success {
        cni_version: version,
        interfaces: ends.into_iter().chain(attached.macs.is_none().then(marker)).collect(),
        ips: attached.addresses.iter().map(|address| ip(address, version)).collect(),
    };
    serde_json::to_string(&result).unwrap_or_default()
}

fn ip(address: IpAddr, version: &str) -> Ip {
    let (family, length) = match Family::of(address) {
        Family::V4 => ("4", 32),
        Family::V6 => ("6", 128),
    };
    Ip { version: version.starts_with("0.").then_some(family), interface: 1, address: format!("{address}/{length}") }
}

#[derive(Serialize)]
struct Success<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    interfaces: Vec<Interface>,
    ips: Vec<Ip>,
}

#[derive(Serialize)]
struct Interface {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<String>,
}

#[derive(Serialize)]
struct Ip {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    /// Index into `interfaces`: the pod link.
    interface: u32,
    address: String,
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use serde_json::{Value, json};

    use super::*;
    use crate::conf::VERSIONS;

    #[test]
    fn the_result_is_the_reference_s_in_every_version() {
        let v4 = Ipv4Addr::new(10, 0, 1, 7);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
        for addresses in [PodAddresses::V4(v4), PodAddresses::V6(v6), PodAddresses::Both(v4, v6)] {
            results_are_the_reference_s(addresses);
        }
    }

    #[test]
    fn a_caller_that_is_not_kubernetes_gets_real_mac_addresses_and_no_marker() {
        let macs = Some([MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])]);
        let attached = Attached { macs, ..attached(PodAddresses::V4(Ipv4Addr::new(10, 0, 1, 7))) };
        let result: Value = serde_json::from_str(&to_json(&attached, "1.0.0")).unwrap();
        let expected = json!([
            {"name": "enicc21c2d7785", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/var/run/netns/cni-1"},
        ]);
        assert_eq!((&result["interfaces"], &result["ips"][0]["interface"]), (&expected, &json!(1)));
    }

    fn attached(addresses: PodAddresses) -> Attached {
        Attached {
            host_veth: LinkName::new("enicc21c2d7785").unwrap(),
            marker: "dummycc21c2d7785".into(),
            ifname: "eth0".into(),
            netns: "/var/run/netns/cni-1".into(),
            addresses,
            route_table: 3,
            device_number: 2,
            macs: None,
        }
    }

    fn results_are_the_reference_s(addresses: PodAddresses) {
        let attached = attached(addresses);
        for version in VERSIONS {
            let says_family = ["0.3.0", "0.3.1", "0.4.0"].contains(&version);
            let ip = |address: &str, family: &str| {
                let ip = json!({"address": address, "interface": 1});
                if says_family { json!({"version": family, "address": address, "interface": 1}) } else { ip }
            };
            let v4 = addresses.v4().map(|_| ip("10.0.1.7/32", "4"));
            let v6 = addresses.v6().map(|_| ip("2001:db8::7/128", "6"));
            let expected = json!({
                "cniVersion": version,
                "interfaces": [
                    {"name": "enicc21c2d7785"},
                    {"name": "eth0", "mac": "3", "sandbox": "/var/run/netns/cni-1"},
                    {"name": "dummycc21c2d7785", "mac": "0", "sandbox": "2"},
                ],
                "ips": v4.into_iter().chain(v6).collect::<Vec<_>>(),
            });
            assert_eq!(serde_json::from_str::<Value>(&to_json(&attached, version)).unwrap(), expected);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What a pool that cannot grow says, and why it cannot.

use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use integration::kube_http::patch::Part;
use integration::kube_http::resource::ENI_CONFIGS;
use integration::pods;
use integration::sandbox::NetnsPath;
use ipam_api::rpc::AddNetworkRequest;
use serde_json::json;
use vpc_model::Fault;

use crate::bed::{Bed, refusal};

/// Addresses of an m5.large with one ENI.
const NINE: usize = 9;
const ONE_ENI: [(&str, &str); 2] = [("MAX_ENI", "1"), ("WARM_IP_TARGET", "1")];

#[test]
fn a_node_that_is_full_cooling_or_cordoned() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[&ONE_ENI[..], &[("IP_COOLDOWN_PERIOD", "300")]].concat());
    bed.wait("n1", "the condition", || match bed.api.node_condition("n1", "EnidAddressesAvailable") {
        Some(condition) if condition["reason"] == "AddressesAvailable" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let mut running = pods::start(bed.node("n1"), NINE, 3, &AtomicUsize::new(0)).unwrap();
    bed.shows("n1", "NodeFull", Some(&bed.refused("n1", 2_000)));
    pods::end(bed.node("n1"), vec![running.remove(0)], 1).unwrap();
    bed.shows("n1", "AllCooling", Some(&bed.refused("n1", 2_000)));
    bed.change_node("n1", Part::Object, json!({ "spec": { "unschedulable": true } }));
    let refused = bed.refused_with("n1", "NodeCordoned", 2_000);
    bed.shows("n1", "NodeCordoned", Some(&refused));
}

#[test]
fn an_add_that_is_given_up_and_one_that_nobody_can_serve() {
    let mut bed = Bed::new(1, "m5.large");
    bed.start("n1", &[&ONE_ENI[..], &[("IP_COOLDOWN_PERIOD", "15")]].concat());
    let n1 = bed.node("n1");
    let mut running = pods::start(n1, NINE, 3, &AtomicUsize::new(0)).unwrap();
    pods::end(n1, vec![running.remove(0)], 1).unwrap();
    let sandbox = n1.next_sandbox().unwrap();
    let refused = std::thread::scope(|scope| {
        let add = scope.spawn(|| n1.runtime.add(&sandbox));
        bed.wait("n1", "the ADD waits", || match n1.number("/pool/waiters") {
            Ok(1) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        n1.runtime.del(&sandbox, NetnsPath::Given).unwrap();
        refusal(add.join().unwrap().unwrap_err())
    });
    bed.shows("n1", "Superseded", Some(&refused));

    let client = ipam_api::Client::new(n1.variable("ENID_SOCKET").unwrap());
    let request = AddNetworkRequest {
        k8s_pod_name: "n1-odd".to_owned(),
        k8s_pod_namespace: "default".to_owned(),
        if_name: "eth0".to_owned(),
        network_name: "aws-cni".to_owned(),
        client_version: ipam_api::CLIENT_VERSION.to_owned(),
        ..AddNetworkRequest::default()
    };
    let reply = client.add_network(request, Duration::from_secs(2)).unwrap();
    assert_eq!((reply.success, reply.refusal.unwrap().code.as_str()), (false, "InvalidRequest"));
    bed.shows("n1", "InvalidRequest", None);
}

#[test]
fn prefixes_that_the_subnet_or_the_instance_type_does_not_have() {
    let mut bed = Bed::new(1, "m5.large");
    let mut fault = Fault::always("*", "InsufficientCidrBlocks");
    for (action, parameter) in
        [("AssignPrivateIpAddresses", "Ipv4PrefixCount"), ("CreateNetworkInterface", "Ipv4PrefixCount")]
    {
        fault = Fault { when: [(parameter.to_owned(), "1".to_owned())].into(), ..Fault::always(action, &fault.code) };
        bed.order(fault.clone());
    }
    bed.start("n1", &[("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_PREFIX_TARGET", "1")]);
    bed.shows("n1", "SubnetFragmented", None);
    drop(bed);
    let mut bed = Bed::new(1, "m4.large");
    bed.start("n1", &[("ENABLE_PREFIX_DELEGATION", "true"), ("WARM_IP_TARGET", "1")]);
    bed.shows("n1", "PrefixesUnsupported", None);
}

#[test]
fn a_node_whose_subnets_are_for_no_pod() {
    let mut bed = Bed::new(1, "m5.large");
    let subnet = bed.subnet("a");
    bed.ec2("CreateTags", &[("ResourceId.1", &subnet), ("Tag.1.Key", "kubernetes.io/role/cni"), ("Tag.1.Value", "0")]);
    bed.launch("n1", &[("WARM_IP_TARGET", "1")]);
    let refused = bed.refused_with("n1", "NoUsableSubnet", 3_000);
    bed.shows("n1", "NoUsableSubnet", Some(&refused));
    bed.shows("n1", "SubnetExcluded", None);
}

#[test]
fn a_node_whose_enis_are_someone_else_s() {
    let mut bed = Bed::new(1, "m5.large");
    bed.launch("n1", &[("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true")]);
    let refused = bed.refused_with("n1", "ProvisioningDisabled", 3_000);
    bed.shows("n1", "ProvisioningDisabled", Some(&refused));
}

#[test]
fn custom_networking_without_an_eni_config_and_with_one_that_is_wrong() {
    let mut bed = Bed::new(1, "m5.large");
    bed.launch("n1", &[("AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "true"), ("WARM_IP_TARGET", "1")]);
    let refused = bed.refused_with("n1", "EniConfigMissing", 3_000);
    bed.shows("n1", "EniConfigMissing", Some(&refused));
    let spec = json!({ "subnet": "subnet-00000000000000bad", "securityGroups": [] });
    bed.api.put(&ENI_CONFIGS, None, json!({ "metadata": { "name": "default" }, "spec": spec })).unwrap();
    let refused = bed.refused_with("n1", "EniConfigFaulty", 3_000);
    bed.shows("n1", "EniConfigFaulty", Some(&refused));
}

// SPDX-License-Identifier: Apache-2.0
//! IMDS's view of the instance as the core's facts, as `ipamd/aws/src/imds.rs` reads them path by path.

use ipamd_core::event::{Failure, FailureClass, InstanceFacts};
use ipamd_core::ids::{EniId, InstanceId, MacAddr, SecurityGroupId, SubnetId, VpcId};
use vpc_model::imds::ImdsView;

/// The facts, or which of them is missing.
pub(crate) fn of(view: &ImdsView) -> Result<InstanceFacts, Failure> {
    let primary = view.primary().ok_or_else(|| missing("mac"))?;
    Ok(InstanceFacts {
        instance_id: InstanceId(view.instance_id.clone()),
        instance_type: view.instance_type.clone(),
        availability_zone: view.availability_zone.clone(),
        region: view.region.clone(),
        vpc_id: VpcId(primary.vpc_id.clone()),
        vpc_cidrs: primary.vpc_cidrs.clone(),
        primary_eni_id: EniId(primary.eni_id.clone()),
        primary_mac: MacAddr(primary.mac.0),
        primary_address: *primary.addresses.first().ok_or_else(|| missing("local-ipv4"))?,
        subnet_id: SubnetId(primary.subnet_id.clone()),
        subnet_cidr: primary.subnet_cidr,
        security_group_ids: primary.security_groups.iter().map(|(id, _)| SecurityGroupId(id.clone())).collect(),
    })
}

fn missing(path: &str) -> Failure {
    Failure {
        class: FailureClass::NotFound,
        code: "ImdsNotFound".to_owned(),
        message: format!("IMDS has no {path}"),
        retry_after: None,
    }
}

// SPDX-License-Identifier: Apache-2.0
//! EC2's descriptions, whole: every page, every unknown id left out rather than failing the call.
//!
//! Invariant: a description that cannot be read whole is a failure, never a shorter list.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_sdk_ec2::types::{Filter, Subnet};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use ipamd_core::action::{CLIENT_TOKEN_TAG, SubnetQuery};
use ipamd_core::ec2::Sent;
use ipamd_core::event::{EniView, Failure, Outcome, SubnetView};
use ipamd_core::ids::{EniId, InstanceId, VpcId};
use ipamd_core::tags::{CLUSTER_TAG, INSTANCE_TAG};

use super::Ec2;
use super::failure::incomplete;
use crate::view;

/// Most items in one page of a description (EC2 API reference: 5 to 1000).
const PAGE: i32 = 1000;

/// Values that one filter takes (EC2 API reference: 200 in one request).
const FILTER_VALUES: usize = 200;

impl Ec2 {
    pub(super) async fn describe(
        &self,
        instance: &InstanceId,
        also: &[EniId],
        tokens: &[String],
    ) -> Result<Outcome, Failure> {
        let read_at = (self.throttle.clock())();
        let mut enis = self.described(vec![filter("attachment.instance-id", [instance.to_string()])]).await?;
        let missing: Vec<String> =
            also.iter().filter(|id| enis.iter().all(|eni| eni.eni_id != **id)).map(ToString::to_string).collect();
        // A filter, not ids: an id that EC2 does not know fails the whole call, a filter value leaves it out.
        for ids in missing.chunks(FILTER_VALUES) {
            enis.extend(self.described(vec![filter("network-interface-id", ids.to_vec())]).await?);
        }
        for tokens in tokens.chunks(FILTER_VALUES) {
            enis.extend(self.described(vec![filter(&format!("tag:{CLIENT_TOKEN_TAG}"), tokens.to_vec())]).await?);
        }
        enis.sort_by(|a, b| a.eni_id.cmp(&b.eni_id));
        enis.dedup_by(|a, b| a.eni_id == b.eni_id);
        Ok(Outcome::EnisDescribed { enis, read_at })
    }

    pub(super) async fn leaked(&self, vpc: &VpcId, cluster: Option<&str>) -> Result<Outcome, Failure> {
        let mut filters = vec![
            filter("tag-key", [INSTANCE_TAG.to_owned()]),
            filter("status", ["available".to_owned()]),
            filter("vpc-id", [vpc.to_string()]),
        ];
        filters.extend(cluster.map(|name| filter(&format!("tag:{CLUSTER_TAG}"), [name.to_owned()])));
        let mut enis = self.described(filters).await?;
        enis.sort_by(|a, b| a.eni_id.cmp(&b.eni_id));
        let makers = enis.iter().flat_map(|eni| &eni.tags).filter(|(key, _)| key == INSTANCE_TAG);
        let makers: BTreeSet<String> = makers.map(|(_, maker)| maker.clone()).collect();
        let mut living = BTreeSet::new();
        for makers in makers.into_iter().collect::<Vec<_>>().chunks(FILTER_VALUES) {
            let mut primary = vec![filter("attachment.device-index", ["0".to_owned()])];
            primary.push(filter("attachment.instance-id", makers.to_vec()));
            let attachments = self.described(primary).await?.into_iter().filter_map(|eni| eni.attachment);
            living.extend(attachments.filter_map(|attachment| attachment.instance_id));
        }
        Ok(Outcome::LeakedEnisDescribed { enis, living })
    }

    /// All pages of DescribeNetworkInterfaces under all of the filters.
    async fn described(&self, filters: Vec<Filter>) -> Result<Vec<EniView>, Failure> {
        let action = "DescribeNetworkInterfaces";
        let first = self.client.describe_network_interfaces().set_filters(Some(filters)).max_results(PAGE);
        let ask = |token| first.clone().set_next_token(token).send();
        let pages = self.pages(action, ask, |page| page.next_token()).await?;
        let enis = pages.iter().flat_map(|page| page.network_interfaces());
        enis.map(|eni| view::eni(eni).map_err(|error| incomplete(action, error.to_string()))).collect()
    }

    pub(super) async fn subnets(&self, query: &SubnetQuery) -> Result<Outcome, Failure> {
        let views = self
            .subnets
            .try_get_with_by_ref(query, self.fetch_subnets(query))
            .await
            .map_err(|error: Arc<Failure>| Arc::unwrap_or_clone(error))?;
        Ok(Outcome::SubnetsDescribed(views))
    }

    async fn fetch_subnets(&self, query: &SubnetQuery) -> Result<Vec<SubnetView>, Failure> {
        let action = "DescribeSubnets";
        let filters = match query {
            SubnetQuery::Id(id) => vec![filter("subnet-id", [id.to_string()])],
            SubnetQuery::Named(ids) => vec![filter("subnet-id", ids.iter().map(ToString::to_string))],
            SubnetQuery::Zone { vpc_id, availability_zone } => {
                vec![filter("vpc-id", [vpc_id.to_string()]), filter("availability-zone", [availability_zone.clone()])]
            }
        };
        let first = self.client.describe_subnets().set_filters(Some(filters)).max_results(PAGE);
        let ask = |token| first.clone().set_next_token(token).send();
        let pages = self.pages(action, ask, |page| page.next_token()).await?;
        let subnets = pages.iter().flat_map(|page| page.subnets());
        let mut views = subnets
            .map(|subnet| subnet_view(subnet).map_err(|error| incomplete(action, error)))
            .collect::<Result<Vec<_>, _>>()?;
        views.sort_by(|a, b| a.subnet_id.cmp(&b.subnet_id));
        match query {
            SubnetQuery::Id(id) if views.is_empty() => Err(incomplete(action, format!("no {id} in the answer"))),
            SubnetQuery::Id(_) | SubnetQuery::Named(_) | SubnetQuery::Zone { .. } => Ok(views),
        }
    }

    /// Every page of a description. Each is a request of its own, to our bucket too; the last has no token or an empty one.
    async fn pages<P, E, F>(
        &self,
        action: &'static str,
        ask: impl Fn(Option<String>) -> F,
        token: impl Fn(&P) -> Option<&str>,
    ) -> Result<Vec<P>, Failure>
    where
        F: Future<Output = Result<P, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + RequestId + Error + Send + Sync + 'static,
    {
        let mut pages = Vec::new();
        let mut next = None;
        loop {
            self.turn(action).await?;
            let page = self.sent(action, Sent::Read, ask(next)).await?;
            next = token(&page).filter(|token| !token.is_empty()).map(str::to_owned);
            pages.push(page);
            if next.is_none() {
                return Ok(pages);
            }
        }
    }
}

fn subnet_view(subnet: &Subnet) -> Result<SubnetView, String> {
    let id = subnet.subnet_id().ok_or("a subnet without an id")?;
    let cidr = subnet.cidr_block().and_then(|text| text.parse().ok());
    let available = subnet.available_ip_address_count().and_then(|count| u32::try_from(count).ok());
    let (cidr, available) = cidr.zip(available).ok_or_else(|| format!("{id} without block or free addresses"))?;
    Ok(SubnetView {
        subnet_id: id.into(),
        vpc_id: subnet.vpc_id().unwrap_or_default().into(),
        cidr,
        available,
        availability_zone: subnet.availability_zone().unwrap_or_default().to_owned(),
        tags: view::tags(subnet.tags()),
    })
}

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

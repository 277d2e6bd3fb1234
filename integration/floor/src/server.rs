// SPDX-License-Identifier: Apache-2.0
//! The empty server: answers every call with an empty success, over the same transport as the daemon.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use ipam_api::rpc::{
    AddNetworkReply, AddNetworkRequest, CollectGarbageReply, CollectGarbageRequest, DelNetworkReply, DelNetworkRequest,
    NetworkPolicyAgentConfigReply,
};
use ipam_api::server::{
    CniBackend, ConfigServerBackend, EnidBackend, ServeOptions, Services, bind, serve as serve_rpc,
};
use tonic::{Request, Response, Status};

#[derive(Debug)]
struct Empty;

#[tonic::async_trait]
impl CniBackend for Empty {
    async fn add_network(&self, _: Request<AddNetworkRequest>) -> Result<Response<AddNetworkReply>, Status> {
        Ok(Response::new(AddNetworkReply { success: true, ..Default::default() }))
    }

    async fn del_network(&self, _: Request<DelNetworkRequest>) -> Result<Response<DelNetworkReply>, Status> {
        Ok(Response::new(DelNetworkReply { success: true, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl EnidBackend for Empty {
    async fn collect_garbage(
        &self,
        _: Request<CollectGarbageRequest>,
    ) -> Result<Response<CollectGarbageReply>, Status> {
        Ok(Response::new(CollectGarbageReply::default()))
    }
}

#[tonic::async_trait]
impl ConfigServerBackend for Empty {
    async fn get_network_policy_configs(
        &self,
        _: Request<()>,
    ) -> Result<Response<NetworkPolicyAgentConfigReply>, Status> {
        Ok(Response::new(NetworkPolicyAgentConfigReply::default()))
    }
}

/// Serves on `socket` until the process is ended.
pub(crate) fn serve(socket: &Path) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = bind(socket).await?;
        let services = Services { backend: Arc::new(Empty), config: Arc::new(Empty) };
        serve_rpc(listener, services, ServeOptions::default(), std::future::pending()).await?;
        Ok(())
    })
}

// SPDX-License-Identifier: Apache-2.0
//! `grpc.health.v1.Health`: SERVING for the two names the reference serves, from the moment the socket listens, and
//! never anything else. Whether the pool has addresses is not told here (see the plugin's STATUS).

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use crate::HEALTH_SERVICES;
use crate::health::health_check_response::ServingStatus;
use crate::health::health_server::Health;
use crate::health::{HealthCheckRequest, HealthCheckResponse};

/// The service: it has no state.
#[derive(Debug)]
pub(super) struct AlwaysServing;

#[tonic::async_trait]
impl Health for AlwaysServing {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        if HEALTH_SERVICES.contains(&service.as_str()) {
            return Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }));
        }
        // Required for an unknown name by the health protocol, "List of services".
        Err(Status::not_found(format!("unknown service {service:?}")))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let is_known = HEALTH_SERVICES.contains(&request.get_ref().service.as_str());
        let status = if is_known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        let first = tokio_stream::once(Ok(HealthCheckResponse { status: status.into() }));
        // The status never changes, so the stream has one item and stays open, as the protocol asks.
        Ok(Response::new(Box::pin(first.chain(tokio_stream::pending()))))
    }
}

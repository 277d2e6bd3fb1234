// SPDX-License-Identifier: Apache-2.0
//! Sees every attempt of every EC2 call: charges the SDK's own retries to the action's bucket and notices throttling at
//! the first attempt, which the caller of the SDK never sees when a retry succeeds.

use aws_sdk_ec2::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::retries::RequestAttempts;

use crate::throttle::Throttle;

/// EC2's code for an empty bucket (EC2 API reference, "Error codes"; sent with HTTP 503).
const THROTTLED: &[u8] = b"<Code>RequestLimitExceeded</Code>";

#[derive(Debug)]
pub(crate) struct BucketInterceptor {
    throttle: Throttle,
}

impl BucketInterceptor {
    pub(crate) fn new(throttle: Throttle) -> Self {
        Self { throttle }
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for BucketInterceptor {
    fn name(&self) -> &'static str {
        "BucketInterceptor"
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let attempt = cfg.load::<RequestAttempts>().map_or(1, RequestAttempts::attempts);
        if let Some(metadata) = cfg.load::<Metadata>().filter(|_| attempt > 1) {
            self.throttle.charge(metadata.name());
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(response) = context.response().filter(|response| response.status().as_u16() >= 400) else {
            return Ok(());
        };
        let body = response.body().bytes().unwrap_or_default();
        let is_throttled = body.windows(THROTTLED.len()).any(|window| window == THROTTLED);
        if let Some(metadata) = cfg.load::<Metadata>().filter(|_| is_throttled) {
            self.throttle.slow_down(metadata.name());
        }
        Ok(())
    }
}

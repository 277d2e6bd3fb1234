// SPDX-License-Identifier: Apache-2.0
//! Sees every attempt of every EC2 call: charges the SDK's own retries to the action's bucket, and tells it whether EC2 took
//! the request or threw it out as one too many. What was thrown out the SDK does not repeat: it comes back through the
//! bucket, when the core still wants it.

use aws_sdk_ec2::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};

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
        let (Some(response), Some(metadata)) = (context.response(), cfg.load::<Metadata>()) else { return Ok(()) };
        if is_throttled(response) {
            self.throttle.slow_down(metadata.name());
        } else if response.status().as_u16() < 500 {
            self.throttle.succeeded(metadata.name());
        }
        Ok(())
    }
}

/// The SDK's retries, but none of a call that EC2 threw out as one too many.
#[derive(Debug)]
pub(crate) struct ThrottledCallsAreNotRetried;

impl ClassifyRetry for ThrottledCallsAreNotRetried {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response() {
            Some(response) if is_throttled(response) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "ThrottledCallsAreNotRetried"
    }
}

fn is_throttled(response: &HttpResponse) -> bool {
    let body = response.body().bytes().filter(|_| response.status().as_u16() >= 400).unwrap_or_default();
    body.windows(THROTTLED.len()).any(|window| window == THROTTLED)
}

// SPDX-License-Identifier: Apache-2.0
//! An HTTP client that gives every request the answer that was put in.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};

/// The answer to a request by its path: status and body.
type Answer = Box<dyn Fn(&str) -> (u16, Vec<u8>) + Send + Sync>;

/// What answers.
#[derive(Clone)]
pub(crate) struct Canned(Arc<Mutex<Answer>>);

impl std::fmt::Debug for Canned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Canned")
    }
}

impl Canned {
    /// Nothing is there yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Box::new(|_| (404, Vec::new())))))
    }

    /// From now on this is answered.
    pub(crate) fn answer(&self, answer: impl Fn(&str) -> (u16, Vec<u8>) + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(answer);
    }

    /// As the SDK's client.
    pub(crate) fn client(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }
}

impl HttpConnector for Canned {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri = request.uri();
        // A token of metadata, which lives for hours.
        if uri.ends_with("/latest/api/token") {
            let mut token = HttpResponse::new(200.try_into().unwrap(), "token".into());
            token.headers_mut().insert("x-aws-ec2-metadata-token-ttl-seconds", "21600");
            return HttpConnectorFuture::ready(Ok(token));
        }
        let (status, body) = (self.0.lock().unwrap_or_else(PoisonError::into_inner))(uri);
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), body.into())))
    }
}

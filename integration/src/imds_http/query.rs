// SPDX-License-Identifier: Apache-2.0
//! A small client of the EC2 query API, for an EC2 that we did not write (LocalStack) and for tests.
//!
//! Sends a form, reads XML, tells a refusal from a broken answer. It does not sign: it names the service in the
//! `Authorization` header, by which LocalStack routes, and sends no signature that anything could check. The daemon never
//! uses it; that speaks through the AWS SDK.
//!
//! Source: EC2 API reference, "Query requests" and "Error responses".

use std::net::SocketAddr;

use axum::body::Body;
use http::{Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use roxmltree::{Document, Node};

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The connection or the request failed.
    #[error("{action} at {endpoint}")]
    Http {
        /// The action.
        action: String,
        /// Where it was sent.
        endpoint: SocketAddr,
        /// What failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is no XML.
    #[error("the answer to {action} ({status}) is no XML")]
    NotXml {
        /// The action.
        action: String,
        /// Its status.
        status: StatusCode,
        /// What the reader says.
        #[source]
        source: roxmltree::Error,
    },
    /// EC2 refused.
    #[error("{action} was refused: {code}: {message}")]
    Refused {
        /// The action.
        action: String,
        /// HTTP's status.
        status: StatusCode,
        /// EC2's code.
        code: String,
        /// EC2's text.
        message: String,
    },
}

/// A client of one endpoint.
#[derive(Clone, Debug)]
pub struct QueryClient {
    endpoint: SocketAddr,
    region: String,
    http: Client<HttpConnector, Body>,
}

impl QueryClient {
    /// A client of this endpoint, as if in this Region.
    #[must_use]
    pub fn new(endpoint: SocketAddr, region: &str) -> Self {
        Self { endpoint, region: region.to_owned(), http: Client::builder(TokioExecutor::new()).build_http() }
    }

    /// The Region it names.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The XML text of a successful answer.
    ///
    /// # Errors
    /// No answer, an answer that is no XML, or a refusal.
    pub async fn call(&self, action: &str, params: &[(&str, &str)]) -> Result<String, QueryError> {
        let http = |source: Box<dyn std::error::Error + Send + Sync>| QueryError::Http {
            action: action.to_owned(),
            endpoint: self.endpoint,
            source,
        };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", vpc_model::API_VERSION)
            .extend_pairs(params)
            .finish();
        let scope = format!("test/20260101/{}/ec2/aws4_request", self.region);
        let request = Request::post(format!("http://{}/", self.endpoint))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(
                header::AUTHORIZATION,
                format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"),
            )
            .body(Body::from(form))
            .map_err(|error| http(error.into()))?;
        let response = self.http.request(request).await.map_err(|error| http(error.into()))?;
        let status = response.status();
        let bytes = axum::body::to_bytes(Body::new(response.into_body()), MAX_ANSWER_BYTES)
            .await
            .map_err(|error| http(error.into()))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let document = Document::parse(&text).map_err(|source| QueryError::NotXml {
            action: action.to_owned(),
            status,
            source,
        })?;
        if status.is_success() {
            return Ok(text);
        }
        let text_of = |name| document.descendants().find(|node| node.tag_name().name() == name).and_then(|n| n.text());
        Err(QueryError::Refused {
            action: action.to_owned(),
            status,
            code: text_of("Code").unwrap_or("(no code)").to_owned(),
            message: text_of("Message").unwrap_or_default().to_owned(),
        })
    }
}

/// The child element of this name, whatever its namespace.
pub(crate) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.tag_name().name() == name)
}

/// The text of the element at this path of names; empty elements have none.
pub(crate) fn text<'a>(node: Node<'a, '_>, path: &[&str]) -> Option<&'a str> {
    let mut node = node;
    for name in path {
        node = child(node, name)?;
    }
    node.text().map(str::trim).filter(|text| !text.is_empty())
}

/// The items of the list at this path of names; none when the list is not there.
pub(crate) fn items<'a, 'i>(node: Node<'a, 'i>, path: &[&str]) -> Vec<Node<'a, 'i>> {
    let mut list = Some(node);
    for name in path {
        list = list.and_then(|node| child(node, name));
    }
    let is_item = |child: &Node<'_, '_>| child.tag_name().name() == "item";
    list.map(|list| list.children().filter(is_item).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_in_any_namespace_and_empty_lists_are_absent_ones() {
        let text_with =
            |list: &str| format!("<r xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><a><b> x </b></a>{list}</r>");
        for (list, count) in [("", 0), ("<set/>", 0), ("<set><item/><item/></set>", 2)] {
            let source = text_with(list);
            let document = Document::parse(&source).unwrap();
            let root = document.root_element();
            assert_eq!(text(root, &["a", "b"]), Some("x"));
            assert_eq!(text(root, &["a", "c"]), None);
            assert_eq!(items(root, &["set"]).len(), count, "{list}");
        }
    }
}

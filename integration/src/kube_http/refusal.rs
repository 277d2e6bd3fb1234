// SPDX-License-Identifier: Apache-2.0
//! Why a request is refused, and the object `Status` that says so.
//!
//! Source: Kubernetes documentation, "Kubernetes API Concepts"; `k8s.io/apimachinery/pkg/api/errors`.

use serde_json::{Value, json};

/// A refusal: code, reason and text as the real server has them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such path.
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    /// No such object.
    #[error("{plural} \"{name}\" not found")]
    NotFound {
        /// Its kind, as paths have it.
        plural: &'static str,
        /// Its name.
        name: String,
    },
    /// A name that is taken.
    #[error("{plural} \"{name}\" already exists")]
    AlreadyExists {
        /// Its kind, as paths have it.
        plural: &'static str,
        /// Its name.
        name: String,
    },
    /// The request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// A verb that is not served.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// Only JSON is spoken.
    #[error("only the following media types are accepted: application/json")]
    NotAcceptable,
    /// The same of a body.
    #[error("the body of the request was in an unknown format - accepted media types include: application/json")]
    UnsupportedMediaType,
    /// Somebody has changed it, or it is another one.
    #[error("Operation cannot be fulfilled on {plural} \"{name}\": {cause}")]
    Conflict {
        /// Its kind, as paths have it.
        plural: &'static str,
        /// Its name.
        name: String,
        /// What differs.
        cause: &'static str,
    },
    /// The client has no right to that.
    #[error(
        "{plural} is forbidden: User \"system:serviceaccount:kube-system:aws-node\" cannot {verb} resource \"{plural}\""
    )]
    Forbidden {
        /// What it wanted to do.
        verb: &'static str,
        /// With what, as rules of RBAC have it.
        plural: String,
    },
    /// The server is there and cannot answer.
    #[error("the server is currently unable to handle the request")]
    Unavailable,
    /// Changes since then are forgotten: the client has to list anew.
    #[error("too old resource version: {asked} ({oldest})")]
    Expired {
        /// The version that was asked for.
        asked: u64,
        /// The oldest one that would do.
        oldest: u64,
    },
}

impl Refusal {
    /// The status code of HTTP, and the reason.
    #[must_use]
    pub fn code(&self) -> (u16, &'static str) {
        match self {
            Self::NoSuchPath | Self::NotFound { .. } => (404, "NotFound"),
            Self::AlreadyExists { .. } => (409, "AlreadyExists"),
            Self::Conflict { .. } => (409, "Conflict"),
            Self::Forbidden { .. } => (403, "Forbidden"),
            Self::Unavailable => (503, "ServiceUnavailable"),
            Self::BadRequest(_) => (400, "BadRequest"),
            Self::MethodNotAllowed => (405, "MethodNotAllowed"),
            Self::NotAcceptable => (406, "NotAcceptable"),
            Self::UnsupportedMediaType => (415, "UnsupportedMediaType"),
            Self::Expired { .. } => (410, "Expired"),
        }
    }

    /// The object.
    #[must_use]
    pub fn status(&self) -> Value {
        let (code, reason) = self.code();
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": self.to_string(), "reason": reason, "code": code,
        })
    }
}

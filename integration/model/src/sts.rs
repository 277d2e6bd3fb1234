// SPDX-License-Identifier: Apache-2.0
//! STS and the agent of EKS Pod Identity: keys for a token of the cluster.
//!
//! STS knows AssumeRoleWithWebIdentity, which is not signed. Which token stands for whom is in `keys`.
//!
//! Invariant: keys are given for a token that is trusted at that moment, and for nothing else.
//!
//! Source: STS API reference, "AssumeRoleWithWebIdentity" (parameters, errors, example); EKS user guide, "EKS Pod Identity"; the
//! answer of a container's credential endpoint is in the AWS SDKs reference guide, "Container credential provider".

use std::time::Duration;

use serde_json::json;

use crate::error::Ec2Error;
use crate::faults::Delivery;
use crate::keys::Issuer;
use crate::vpc::{Caller, Response, Vpc};
use crate::xml::Xml;

/// The API version that is spoken.
const VERSION: &str = "2011-06-15";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const ACTION: &str = "AssumeRoleWithWebIdentity";
const KNOWN: [&str; 8] =
    ["Action", "Version", "RoleArn", "RoleSessionName", "WebIdentityToken", "DurationSeconds", "Policy", "ProviderId"];

impl Vpc {
    /// Carries out a call of STS; no faults are met.
    pub fn sts(&mut self, params: &[(String, String)], now: Duration) -> Response {
        self.settle(now);
        let outcome = self.assume_role(params);
        self.record(&Caller::default(), ACTION, params, outcome.as_ref().err());
        let (status, body) = match outcome {
            Ok(inside) => (200, answer(inside)),
            Err(error) => (status(&error.code), refusal(&error)),
        };
        Response { status, body, delay: self.settings().latencies.of_call(ACTION), delivery: Delivery::Answer }
    }

    fn assume_role(&mut self, params: &[(String, String)]) -> Result<Xml, Ec2Error> {
        let text = |name: &str| params.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        if text("Action") != Some(ACTION) || text("Version") != Some(VERSION) {
            return Err(Ec2Error::new("InvalidAction", "Could not find operation or version"));
        }
        if let Some((odd, _)) = params.iter().find(|(name, _)| !KNOWN.contains(&name.as_str())) {
            return Err(Ec2Error::new("ValidationError", format!("the model does not know the parameter {odd}")));
        }
        let needed = |name: &str| {
            text(name).filter(|text| !text.is_empty()).ok_or_else(|| {
                Ec2Error::new("ValidationError", format!("Value at '{name}' failed to satisfy constraint: not null"))
            })
        };
        let (role, name) = (needed("RoleArn")?.to_owned(), needed("RoleSessionName")?.to_owned());
        let token = needed("WebIdentityToken")?;
        let trust = self.keys.trusted.get(token).cloned();
        let Some(trust) = trust.filter(|trust| trust.role_arn.is_some()) else {
            return Err(Ec2Error::new(
                "InvalidIdentityToken",
                "Couldn't retrieve verification key from your identity provider",
            ));
        };
        if trust.until <= self.now() {
            return Err(Ec2Error::new(
                "ExpiredTokenException",
                "Token expired: current date/time must be before the expiration date/time",
            ));
        }
        if trust.role_arn.as_deref() != Some(role.as_str()) {
            return Err(Ec2Error::new("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"));
        }
        let seconds = text("DurationSeconds").and_then(|text| text.parse().ok());
        let session = self.give(Issuer::Sts, seconds);
        let expires = self.unix_seconds(session.expires.unwrap_or_default());
        let short = role.rsplit('/').next().unwrap_or_default().to_owned();
        let account = self.account_id.clone();
        Ok(Xml::inside(|xml| {
            xml.element("AssumedRoleUser", |xml| {
                xml.leaf("Arn", format!("arn:aws:sts::{account}:assumed-role/{short}/{name}"));
                xml.leaf("AssumedRoleId", format!("AROAEXAMPLEEXAMPLEEX:{name}"));
            });
            xml.element("Credentials", |xml| {
                xml.leaf("AccessKeyId", &session.access_key);
                xml.leaf("SecretAccessKey", &session.secret);
                xml.leaf("SessionToken", session.token.as_deref().unwrap_or_default());
                xml.leaf("Expiration", crate::timestamp::iso(expires));
            });
        }))
    }

    /// What the agent says to the bearer of a token (`GET /v1/credentials`): keys, 400 without one, 403 for one that is not trusted.
    pub fn pod_identity(&mut self, token: Option<&str>, now: Duration) -> Response {
        self.settle(now);
        let refused = |status: u16, text: &str| (status, text.to_owned());
        let trust = token.and_then(|token| self.keys.trusted.get(token)).filter(|trust| trust.role_arn.is_none());
        let (status, body) = match (token, trust.map(|trust| trust.until)) {
            (None, _) => refused(400, "Service account token cannot be empty"),
            (Some(_), None) => refused(403, "AccessDeniedException: the token is not of this cluster"),
            (Some(_), Some(until)) if until <= self.now() => refused(403, "ExpiredTokenException: Token expired"),
            (Some(_), Some(_)) => {
                let session = self.give(Issuer::PodIdentity, None);
                let expires = self.unix_seconds(session.expires.unwrap_or_default());
                let keys = json!({
                    "AccessKeyId": session.access_key,
                    "SecretAccessKey": session.secret,
                    "Token": session.token,
                    "AccountId": self.account_id,
                    "Expiration": crate::timestamp::iso(expires),
                });
                (200, keys.to_string())
            }
        };
        let delay = Duration::from_millis(self.settings().latencies.imds_ms);
        Response { status, body, delay, delivery: Delivery::Answer }
    }
}

fn status(code: &str) -> u16 {
    if code == "AccessDenied" { 403 } else { crate::error::http_status(code) }
}

fn answer(inside: Xml) -> String {
    format!(
        "<{ACTION}Response xmlns=\"{NAMESPACE}\"><{ACTION}Result>{}</{ACTION}Result>\
         <ResponseMetadata><RequestId>00000000-0000-4000-8000-000000000000</RequestId></ResponseMetadata></{ACTION}Response>",
        inside.as_str()
    )
}

fn refusal(error: &Ec2Error) -> String {
    let inside = Xml::inside(|xml| {
        xml.element("Error", |xml| {
            xml.leaf("Type", "Sender");
            xml.leaf("Code", &error.code);
            xml.leaf("Message", &error.message);
        });
        xml.leaf("RequestId", "00000000-0000-4000-8000-000000000000");
    });
    format!("<ErrorResponse xmlns=\"{NAMESPACE}\">{}</ErrorResponse>", inside.as_str())
}

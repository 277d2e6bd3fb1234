// SPDX-License-Identifier: Apache-2.0
//! Access keys: who has been given which, until when, and whether a call that is signed with one is taken.
//!
//! Decides what STS, the agent of EKS Pod Identity and the instance's role give, and to whom. Signatures are not computed anew: a
//! call names an access key and carries its session token, and that is looked at, when [`KeySettings::checked`] says so. With
//! no such setting any key is good, as before.
//!
//! Invariant: a key is taken from the moment it is given until it expires, with its own session token and no other.
//!
//! ```text
//! token of a cluster (trusted until …) ─► STS, agent ─► Session{key, token, expires} ─► EC2: taken │ AuthFailure │ RequestExpired
//!                                           instance role: made from the instance and the time, kept by nobody
//! ```
//!
//! Source: IAM user guide, "Temporary security credentials"; EC2 API reference, "Client error codes".

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Ec2Error;
use crate::ids::InstanceId;
use crate::imds::RoleView;
use crate::state::InstanceState;
use crate::vpc::{Caller, Vpc};

/// Life of the keys of an instance's role; they are renewed every sixth of it.
const ROLE_LIFE: Duration = Duration::from_secs(6 * 3_600);
/// Life of a session that STS or the agent gives, unless it is asked for another.
const SESSION_LIFE: Duration = Duration::from_secs(3_600);

/// How keys are treated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// EC2 takes calls with keys that it knows and that have not expired, and no others.
    pub checked: bool,
    /// Life of what is given from now on, in seconds; `None`: as AWS has it.
    pub life_seconds: Option<u64>,
}

/// Who gives a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Issuer {
    /// STS, for a web identity.
    Sts,
    /// The agent of EKS Pod Identity.
    PodIdentity,
}

/// Keys, given to somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// `ASIA…`, or `AKIA…` of a user.
    pub(crate) access_key: String,
    /// The secret.
    pub(crate) secret: String,
    /// The session token; `None`: a user's keys have none.
    pub(crate) token: Option<String>,
    /// When they expire; `None`: never.
    pub(crate) expires: Option<Duration>,
}

/// What a token of a cluster stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    /// The role of a web identity; `None`: a pod's identity, whose role is known to the agent.
    pub(crate) role_arn: Option<String>,
    pub(crate) until: Duration,
}

/// What was given and who is trusted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    sessions: BTreeMap<String, Session>,
    pub(crate) trusted: BTreeMap<String, Trust>,
}

impl Vpc {
    /// STS takes this token for this role until a time of the machine's clock; as a cluster's token is good for a while.
    pub fn trust_web_identity(&mut self, role_arn: &str, token: &str, until: Duration) {
        let trust = Trust { role_arn: Some(role_arn.to_owned()), until };
        self.keys.trusted.insert(token.to_owned(), trust);
    }

    /// The agent of EKS Pod Identity takes this token until a time of the machine's clock.
    pub fn trust_pod_identity(&mut self, token: &str, until: Duration) {
        self.keys.trusted.insert(token.to_owned(), Trust { role_arn: None, until });
    }

    /// A user's keys, which do not expire.
    pub fn allow_user(&mut self, access_key: &str, secret: &str) {
        let (access_key, secret) = (access_key.to_owned(), secret.to_owned());
        let session = Session { access_key, secret, token: None, expires: None };
        self.keys.sessions.insert(session.access_key.clone(), session);
    }

    /// A new session of `asked` seconds, or of the life that was set.
    pub(crate) fn give(&mut self, issuer: Issuer, asked: Option<u64>) -> Session {
        let life = self.settings.keys.life_seconds.or(asked).map_or(SESSION_LIFE, Duration::from_secs);
        let letter = if issuer == Issuer::Sts { 'S' } else { 'P' };
        let number = self.keys.sessions.len();
        let session = Session {
            access_key: format!("ASIA{letter}{number:015}"),
            secret: format!("emulated-secret-{letter}{number}"),
            token: Some(format!("emulated-session-{letter}{number}")),
            expires: Some(self.now() + life),
        };
        self.keys.sessions.insert(session.access_key.clone(), session.clone());
        session
    }

    /// The refusal of a caller whose keys are not taken.
    pub(crate) fn check_keys(&self, caller: &Caller) -> Result<(), Ec2Error> {
        if !self.settings.keys.checked {
            return Ok(());
        }
        let unknown = || {
            let text = "AWS was not able to validate the provided access credentials";
            Err(Ec2Error::new("AuthFailure", text))
        };
        let Some(access_key) = &caller.access_key else { return unknown() };
        let token = caller.session_token.as_deref();
        let expires = match self.keys.sessions.get(access_key) {
            Some(session) if session.token.as_deref() == token => session.expires,
            Some(_) => return unknown(),
            None => match self.end_of_role_keys(access_key, token) {
                Some(end) => Some(end),
                None => return unknown(),
            },
        };
        if expires.is_some_and(|at| at <= self.now()) {
            return Err(Ec2Error::new("RequestExpired", "Request has expired."));
        }
        Ok(())
    }

    /// Name, keys and dates of an instance's role at `now`.
    pub(crate) fn role_view(&self, instance: &InstanceId, name: String, now: Duration) -> RoleView {
        let (life, step) = self.role_life();
        let number = now.as_secs() / step;
        let start = number * step;
        RoleView {
            name,
            access_key: self.role_access_key(instance, number),
            session_token: role_token(number),
            updated: crate::timestamp::iso(self.unix_seconds(Duration::from_secs(start))),
            expires: crate::timestamp::iso(self.unix_seconds(Duration::from_secs(start + life))),
        }
    }

    /// When a role's keys that have been given by now expire.
    fn end_of_role_keys(&self, access_key: &str, token: Option<&str>) -> Option<Duration> {
        let (life, step) = self.role_life();
        let newest = self.now().as_secs() / step;
        let number = (0..=newest).rev().find(|number| token == Some(role_token(*number).as_str()))?;
        let mut roles = self.instances.values().filter(|it| it.role.is_some() && it.state != InstanceState::Terminated);
        roles
            .any(|it| self.role_access_key(&it.id, number) == access_key)
            .then(|| Duration::from_secs(number * step + life))
    }

    /// Life and time between renewals, in seconds.
    fn role_life(&self) -> (u64, u64) {
        let life = self.settings.keys.life_seconds.unwrap_or(ROLE_LIFE.as_secs()).max(1);
        (life, (life / 6).max(1))
    }

    /// Of the instance alone as long as lives are AWS's: a log of calls is read by it.
    fn role_access_key(&self, instance: &InstanceId, number: u64) -> String {
        let digits = instance.as_str().trim_start_matches("i-").to_uppercase();
        match self.settings.keys.life_seconds {
            None => format!("ASIA{digits:.16}"),
            Some(_) => format!("ASIA{digits:.10}{:06X}", number % 0x0100_0000),
        }
    }
}

fn role_token(number: u64) -> String {
    format!("emulated-session-token-{number}")
}

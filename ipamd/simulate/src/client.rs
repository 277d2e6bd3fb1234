// SPDX-License-Identifier: Apache-2.0
//! A node's EC2 client: its own request bucket, the SDK's retries, time limits, and what a lost answer means.
//!
//! Decides when an attempt leaves and whether another follows; the attempt itself is the world's. The bucket and the meaning
//! of error codes are the daemon's own (`ipamd_core::ec2`); the retries are those of the AWS SDK's `standard` mode,
//! save that a client with a bucket repeats no throttled call: it comes back through the bucket.
//!
//! ```text
//!   call ─► bucket ──wait──► attempt ─► answered well ─────────────────────► Ok(XML)
//!             │ too long        ▲  └──► throttled, server error, lost ──┐
//!             ▼                 └── backoff ◄── may be repeated, tries left
//!      Throttled failure                              │ neither
//!                                                     ▼
//!                                                  Failure
//! ```
//!
//! Source: AWS SDK reference guide, "Retry behavior" (standard: 3 attempts, full jitter from 1 s doubling to 20 s).

use std::collections::BTreeMap;
use std::time::Duration;

use ipamd_core::action::Priority;
use ipamd_core::ec2::{Bucket, Ceiling, Sent, classify};
use ipamd_core::event::{Failure, FailureClass};
use vpc_model::Response;

use crate::rng::Rng;

/// First and longest pause of the SDK's retries.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);

/// One call of EC2's query API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2Call {
    /// Its action, such as `AttachNetworkInterface`.
    pub action: &'static str,
    /// Its parameters as they travel.
    pub params: Vec<(String, String)>,
    /// What it may have done when its answer is lost.
    pub sent: Sent,
    /// How urgent it is, if its client has a bucket of its own.
    pub priority: Priority,
}

impl Ec2Call {
    /// A call without parameters yet.
    #[must_use]
    pub fn new(action: &'static str, sent: Sent) -> Self {
        Self { action, params: Vec::new(), sent, priority: Priority::Waiting }
    }

    /// With another priority than that of a waiting ADD.
    #[must_use]
    pub fn at(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// With one more parameter.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.params.push((name.into(), value.to_string()));
        self
    }

    /// With a list: `name.1`, `name.2`, …
    #[must_use]
    pub fn with_list(mut self, name: &str, values: impl IntoIterator<Item = impl ToString>) -> Self {
        for (index, value) in values.into_iter().enumerate() {
            self.params.push((format!("{name}.{}", index + 1), value.to_string()));
        }
        self
    }

    /// With one more filter.
    #[must_use]
    pub fn with_filter(mut self, name: &str, values: impl IntoIterator<Item = impl ToString>) -> Self {
        let number =
            1 + self.params.iter().filter(|(key, _)| key.starts_with("Filter.") && key.ends_with(".Name")).count();
        self.params.push((format!("Filter.{number}.Name"), name.to_owned()));
        self.with_list(&format!("Filter.{number}.Value"), values)
    }

    /// With the tags of a new ENI.
    #[must_use]
    pub fn with_eni_tags<'a>(mut self, tags: impl IntoIterator<Item = &'a (String, String)>) -> Self {
        let base = "TagSpecification.1";
        self = self.with(format!("{base}.ResourceType"), "network-interface");
        self.with_tags(&format!("{base}.Tag"), tags)
    }

    /// With tags: `name.N.Key`, `name.N.Value`.
    #[must_use]
    pub fn with_tags<'a>(mut self, name: &str, tags: impl IntoIterator<Item = &'a (String, String)>) -> Self {
        for (index, (key, value)) in tags.into_iter().enumerate() {
            let number = index + 1;
            self = self.with(format!("{name}.{number}.Key"), key).with(format!("{name}.{number}.Value"), value);
        }
        self
    }
}

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// Attempts of a call that may be repeated.
    pub attempts: u32,
    /// Whether calls are repeated that could act twice ([`Sent::Once`]).
    pub repeats_once: bool,
    /// Whether it has our own bucket in front of every action.
    pub bucket: bool,
    /// How long an attempt is waited for.
    pub attempt_timeout: Duration,
    /// How long a call may take with all its attempts.
    pub call_timeout: Duration,
}

impl Manners {
    /// Our own client's, with this `HTTP_TIMEOUT`.
    #[must_use]
    pub fn ours(http_timeout: Duration) -> Self {
        Self {
            attempts: 3,
            repeats_once: false,
            bucket: true,
            attempt_timeout: http_timeout,
            call_timeout: http_timeout,
        }
    }
}

/// What came back of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Return {
    Answer(Response),
    /// Nothing in time.
    TimedOut,
    /// The connection broke.
    Broken,
    /// It never left: our own bucket is empty.
    Refused(Failure),
}

/// What follows.
#[derive(Debug)]
pub(crate) enum Verdict {
    Ended(Result<String, Failure>),
    /// Another attempt after this time.
    Again(Duration),
}

/// The client of one daemon.
#[derive(Debug)]
pub(crate) struct Client {
    manners: Manners,
    buckets: BTreeMap<&'static str, Bucket>,
    rng: Rng,
}

impl Client {
    pub(crate) fn new(manners: Manners, rng: Rng) -> Self {
        Self { manners, buckets: BTreeMap::new(), rng }
    }

    pub(crate) fn manners(&self) -> Manners {
        self.manners
    }

    /// How long a new call waits before it leaves.
    pub(crate) fn admit(&mut self, call: &Ec2Call, now: Duration) -> Result<Duration, Failure> {
        if !self.manners.bucket {
            return Ok(Duration::ZERO);
        }
        self.bucket(call.action, now).reserve(call.priority, now).map_err(|wait| own_bucket(call.action, wait))
    }

    fn bucket(&mut self, action: &'static str, now: Duration) -> &mut Bucket {
        self.buckets.entry(action).or_insert_with(|| Bucket::new(Ceiling::of(action), now))
    }

    /// What follows from what came back; `attempt`: the one that just ended, 1 the first; `spent`: time since the call began.
    pub(crate) fn judge(
        &mut self,
        call: &Ec2Call,
        returned: Return,
        (attempt, spent): (u32, Duration),
        now: Duration,
    ) -> Verdict {
        let (mut failure, repeatable) = match returned {
            Return::Answer(response) if response.status < 300 => {
                if self.manners.bucket {
                    self.bucket(call.action, now).succeeded(now);
                }
                return Verdict::Ended(Ok(response.body));
            }
            Return::Answer(response) => refused(call, &response),
            Return::TimedOut => (lost(call, "Timeout"), true),
            Return::Broken => (lost(call, "ConnectionLost"), true),
            Return::Refused(failure) => return Verdict::Ended(Err(failure)),
        };
        if failure.class == FailureClass::Throttled && self.manners.bucket {
            // Not the SDK's to repeat: the bucket says when.
            let roll = self.rng.fraction();
            let bucket = self.bucket(call.action, now);
            bucket.slow_down(now, roll);
            failure.retry_after = Some(bucket.wait(call.priority, now));
            return Verdict::Ended(Err(failure));
        }
        let may_repeat = repeatable && (self.manners.repeats_once || call.sent != Sent::Once);
        if !may_repeat || attempt >= self.manners.attempts {
            return Verdict::Ended(Err(failure));
        }
        let longest = FIRST_BACKOFF.saturating_mul(1 << (attempt - 1).min(10)).min(LONGEST_BACKOFF);
        let pause = longest.mul_f64(self.rng.fraction());
        if spent + pause >= self.manners.call_timeout {
            return Verdict::Ended(Err(lost(call, "Timeout")));
        }
        if self.manners.bucket {
            self.bucket(call.action, now).charge(now);
        }
        Verdict::Again(pause)
    }
}

/// EC2 answered with an error: what it is, and whether the SDK repeats it.
fn refused(call: &Ec2Call, response: &Response) -> (Failure, bool) {
    let code = between(&response.body, "<Code>", "</Code>").to_owned();
    let message = between(&response.body, "<Message>", "</Message>").to_owned();
    let class = classify(&code, &message, call.sent);
    let repeatable = response.status >= 500 || class == FailureClass::Throttled;
    let message = format!("{}: {code}: {message}", call.action);
    (Failure { class, code, message, retry_after: None }, repeatable)
}

fn lost(call: &Ec2Call, code: &str) -> Failure {
    let class = if call.sent == Sent::Read { FailureClass::Transient } else { FailureClass::Unknown };
    Failure { class, code: code.to_owned(), message: format!("{}: no answer", call.action), retry_after: None }
}

fn own_bucket(action: &str, wait: Duration) -> Failure {
    Failure {
        class: FailureClass::Throttled,
        code: "OwnRequestLimit".to_owned(),
        message: format!("{action}: held back for {:.1} s to keep to this node's share", wait.as_secs_f64()),
        retry_after: Some(wait),
    }
}

/// The text between two others; empty when they are not there. EC2's codes and texts hold nothing that is escaped but
/// quotes and angles, which no classification looks at.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).map(|(_, rest)| rest).unwrap_or_default();
    rest.split_once(to).map(|(inside, _)| inside).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;
    use vpc_model::Delivery;

    fn response(status: u16, code: &str) -> Return {
        let body =
            format!("<Response><Errors><Error><Code>{code}</Code><Message>m</Message></Error></Errors></Response>");
        Return::Answer(Response { status, body, delay: Duration::ZERO, delivery: Delivery::Answer })
    }

    #[test]
    fn a_call_that_could_act_twice_is_sent_once_and_its_loss_is_unknown() {
        let mut client = Client::new(Manners::ours(Duration::from_secs(10)), Rng::new(1, Stream::Latency));
        let assign = Ec2Call::new("AssignPrivateIpAddresses", Sent::Once);
        let verdict = client.judge(&assign, Return::TimedOut, (1, Duration::from_secs(10)), Duration::ZERO);
        let Verdict::Ended(Err(failure)) = verdict else { panic!("{verdict:?}") };
        assert_eq!(failure.class, FailureClass::Unknown);
    }

    #[test]
    fn a_throttled_read_is_not_repeated_and_slows_its_bucket() {
        let mut client = Client::new(Manners::ours(Duration::from_secs(10)), Rng::new(1, Stream::Latency));
        let read = Ec2Call::new("DescribeNetworkInterfaces", Sent::Read).at(Priority::Describe);
        let returned = response(503, "RequestLimitExceeded");
        let verdict = client.judge(&read, returned, (1, Duration::ZERO), Duration::ZERO);
        let Verdict::Ended(Err(failure)) = verdict else { panic!("{verdict:?}") };
        assert_eq!(failure.class, FailureClass::Throttled);
        let told = client.admit(&read, Duration::ZERO).expect_err("the bucket is empty").retry_after;
        assert_eq!(told, failure.retry_after);
    }

    #[test]
    fn a_failing_read_is_repeated_twice() {
        let mut client = Client::new(Manners::ours(Duration::from_secs(10)), Rng::new(1, Stream::Latency));
        let read = Ec2Call::new("DescribeNetworkInterfaces", Sent::Read);
        let mut verdicts = Vec::new();
        for attempt in 1..=3 {
            let returned = response(500, "InternalError");
            verdicts.push(client.judge(&read, returned, (attempt, Duration::ZERO), Duration::ZERO));
        }
        assert!(matches!(verdicts[0], Verdict::Again(pause) if pause < Duration::from_secs(1)), "{verdicts:?}");
        assert!(matches!(verdicts[1], Verdict::Again(_)));
        let Verdict::Ended(Err(failure)) = &verdicts[2] else { panic!("{verdicts:?}") };
        assert_eq!(failure.class, FailureClass::Transient);
    }

    #[test]
    fn parameters_are_spelt_as_on_the_wire() {
        let call = Ec2Call::new("DescribeNetworkInterfaces", Sent::Read)
            .with_filter("attachment.instance-id", ["i-1"])
            .with_filter("status", ["available", "in-use"]);
        let text: Vec<String> = call.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            text.join(" "),
            "Filter.1.Name=attachment.instance-id Filter.1.Value.1=i-1 Filter.2.Name=status Filter.2.Value.1=available \
             Filter.2.Value.2=in-use"
        );
    }
}

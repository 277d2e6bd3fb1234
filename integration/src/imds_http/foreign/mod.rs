// SPDX-License-Identifier: Apache-2.0
//! IMDS and links of an instance whose EC2 we did not write.
//!
//! Polls the Describe calls of a foreign EC2 (LocalStack) and keeps what IMDS would say, and says what the packet fabric
//! has to do between one look and the next. It changes nothing there. How the answers are read is in `snapshot`.
//!
//! Invariant: IMDS shows one look at EC2, never a mixture of two; between looks it lags, as the real one does. Events
//! applied in order lead from one look to the next.
//!
//! ```text
//! Describe{Instances,NetworkInterfaces,Subnets,Vpcs} ─► Snapshot ─► ImdsView, served by `imds_http::router`
//!                                       previous Snapshot ─┴─ differences ─► FabricEvents
//! ```

#![expect(clippy::disallowed_methods, reason = "credentials are dated and polls are spaced by the clock")]

mod snapshot;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::JoinHandle;
use vpc_model::FabricEvent;
use vpc_model::imds::{ImdsAnswer, ImdsView, RoleView};

use super::query::{QueryClient, QueryError};
use super::{ImdsSource, ReadFuture, seed_of};
use crate::emulator::{DataPlane, lock};
use snapshot::{Documents, Snapshot};

/// How long the test credentials are said to be good for.
const CREDENTIALS_LIFE: Duration = Duration::from_secs(6 * 3_600);

/// Why a look at a foreign EC2 failed.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// A call failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// An answer is no XML.
    #[error("reading the answer to {0}")]
    NotXml(&'static str, #[source] roxmltree::Error),
    /// The answer lacks a field, or has a text in it that is not of its kind.
    #[error("{what} has no usable `{field}` ({text:?})")]
    Field {
        /// The thing described.
        what: String,
        /// The field.
        field: &'static str,
        /// What was there.
        text: Option<String>,
    },
}

/// An instance of a foreign EC2.
#[derive(Debug)]
pub struct ForeignEc2 {
    client: QueryClient,
    instance_id: String,
    start: Instant,
    seen: Mutex<Option<Snapshot>>,
}

impl ForeignEc2 {
    /// The instance of this id. Nothing is known of it before the first [`ForeignEc2::refresh`].
    #[must_use]
    pub fn new(client: QueryClient, instance_id: &str) -> Self {
        Self { client, instance_id: instance_id.to_owned(), start: Instant::now(), seen: Mutex::new(None) }
    }

    /// Looks at EC2 and takes what it says for the truth; gives what the packet fabric has to do about it.
    ///
    /// # Errors
    /// A call failed or an answer could not be read; what was seen before stays.
    pub async fn refresh(&self) -> Result<Vec<FabricEvent>, ForeignError> {
        let id = self.instance_id.as_str();
        let attached = [("Filter.1.Name", "attachment.instance-id"), ("Filter.1.Value.1", id)];
        let documents = Documents {
            instances: self.client.call("DescribeInstances", &[("InstanceId.1", id)]).await?,
            enis: self.client.call("DescribeNetworkInterfaces", &attached).await?,
            subnets: self.client.call("DescribeSubnets", &[]).await?,
            vpcs: self.client.call("DescribeVpcs", &[]).await?,
        };
        let snapshot = Snapshot::read(&documents, id, self.client.region())?;
        let mut seen = lock(&self.seen);
        let events = snapshot.since(seen.as_ref());
        *seen = Some(snapshot);
        Ok(events)
    }

    /// Looks again every `period`, and gives the data plane what followed. The task ends when it is aborted. A look that
    /// fails is logged, and the next one may succeed.
    pub fn poll(self: &Arc<Self>, period: Duration, mut plane: Box<dyn DataPlane>) -> JoinHandle<()> {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                match this.refresh().await {
                    Ok(events) if events.is_empty() => {}
                    Ok(events) => {
                        let applied = tokio::task::spawn_blocking(move || {
                            for event in &events {
                                if let Err(error) = plane.apply(event) {
                                    tracing::error!(?event, error, "the data plane could not follow");
                                }
                            }
                            plane
                        });
                        match applied.await {
                            Ok(returned) => plane = returned,
                            Err(error) => {
                                tracing::error!(%error, "the data plane is gone");
                                return;
                            }
                        }
                    }
                    Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "looking at EC2"),
                }
                tokio::time::sleep(period).await;
            }
        })
    }

    /// What IMDS says now; `None` before the first look.
    #[must_use]
    pub fn view(&self) -> Option<ImdsView> {
        let mut view = lock(&self.seen).as_ref()?.imds_view();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let hour = now / 3_600 * 3_600;
        view.role = Some(RoleView {
            name: "node".to_owned(),
            access_key: format!("ASIA{:.16}", view.instance_id.trim_start_matches("i-").to_uppercase()),
            session_token: "emulated-session-token".to_owned(),
            updated: vpc_model::iso_time(hour),
            expires: vpc_model::iso_time(hour + CREDENTIALS_LIFE.as_secs()),
        });
        Some(view)
    }
}

impl ImdsSource for ForeignEc2 {
    fn read(&self, path: String) -> ReadFuture<'_> {
        let answer = self.view().map_or_else(|| ImdsAnswer::refusal(503), |view| view.read(&path));
        Box::pin(std::future::ready(answer))
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn seed(&self) -> u64 {
        seed_of(&self.instance_id)
    }
}

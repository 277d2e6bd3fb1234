// SPDX-License-Identifier: Apache-2.0
//! `/metrics`, in Prometheus' text format 0.0.4.
//!
//! Who asks while somebody else is answered, or a moment later, gets the same page: whoever may connect cannot make the loop and the
//! kernel work harder than a few times a second.
//!
//! Invariant: a scrape is answered within [`PATIENCE`], with what needs no state when the loop does not answer or the kernel does not
//! say what its network cards have counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ipamd_core::BootTime;
use ipamd_core::event::Exceeded;
use ipamd_core::ids::MacAddr;
use ipamd_core::metrics::page::CONTENT_TYPE;
use ipamd_core::metrics::{Page, families, state as of_state};
use ipamd_core::reason::ReasonCode;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Introspection;
use crate::clock;
use crate::edge::allowances::{Cards, Ethtool};

/// Prometheus waits ten seconds by default; what takes longer than this is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// For so long a page is as good as a new one.
const FRESH: Duration = Duration::from_millis(100);

/// The last page, and when it was made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scraped(Arc<Mutex<Option<(BootTime, String)>>>);

pub(super) async fn metrics(State(state): State<Introspection>) -> Response {
    let asked = clock::boot();
    let mut last = state.scraped.0.lock().await;
    let text = match &*last {
        Some((made, text)) if asked < *made + FRESH => text.clone(),
        _ => {
            let text = page(&state).await.to_string();
            *last = Some((clock::boot(), text.clone()));
            text
        }
    };
    drop(last);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

async fn page(state: &Introspection) -> Page {
    let mut page = Page::default();
    let (snapshot, exceeded) = tokio::join!(timeout(PATIENCE, super::snapshot(state)), timeout(PATIENCE, exceeded()));
    let (lag, _) = state.inbox.heartbeat().lag(clock::boot());
    state.observer.metrics().write(lag, &mut page);
    let snapshot = snapshot.ok().and_then(Result::ok);
    page.count(&families::SNAPSHOT, &[], u64::from(snapshot.is_some()));
    if let Some(snapshot) = snapshot {
        of_state::write(&snapshot, &also(state), &mut page);
        of_state::allowances(&snapshot, &exceeded.unwrap_or_default(), &mut page);
    }
    page
}

/// Reasons that hold and that the core does not know of.
fn also(state: &Introspection) -> Vec<ReasonCode> {
    let mut also = state.kubernetes.failing();
    if state.settings.verdict().is_some_and(|verdict| !verdict.is_valid) {
        also.push(ReasonCode::ConfigurationInvalid);
    }
    also
}

/// On a thread that may block: a change of the links may hold the kernel's lock.
async fn exceeded() -> BTreeMap<MacAddr, Exceeded> {
    tokio::task::spawn_blocking(|| Ethtool.exceeded().unwrap_or_default()).await.unwrap_or_default()
}

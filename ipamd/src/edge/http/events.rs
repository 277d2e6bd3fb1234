// SPDX-License-Identifier: Apache-2.0
//! What happened lately, once and as it happens; the pool over the last hour.
//!
//! | path | answer |
//! |---|---|
//! | `/v1/events?since=N` | `{"records": […], "missed": n, "next": m, "startedUnixMs": s}`: records from number N on, or all that are kept |
//! | `/v1/events/follow?since=N` | server-sent events: `hello` with `{"startedUnixMs": s}` first; `record` (id `s-number`) for those and all that come; `missed` with their count for those that are forgotten; `status` whenever the state may be another, four times a second at most |
//! | `/v1/history` | `{"unixMs": now, "samples": […]}`: each holds until the next |
//!
//! Another daemon counts from 1 again, and has another `s`: who compares it misses nothing of a daemon that was started anew.
//!
//! Invariants: nobody who follows holds up the daemon or the others: who is slow misses records, and is told how many; there are no
//! more than [`MOST_FOLLOWERS`].

#![expect(clippy::disallowed_methods, reason = "paces who follows")]

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use ipamd_core::chronicle::Records;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::Introspection;
use crate::clock;
use crate::observer::Observer;

/// A few browsers and commands; each costs a task.
const MOST_FOLLOWERS: usize = 16;

/// Between two looks for a follower.
const PACE: Duration = Duration::from_millis(250);

/// A comment this often tells the other end that the connection lives.
const ALIVE: Duration = Duration::from_secs(20);

/// Events under way to a follower.
const IN_FLIGHT: usize = 64;

static FOLLOWERS: Semaphore = Semaphore::const_new(MOST_FOLLOWERS);

#[derive(Debug, Default, Deserialize)]
pub(super) struct Since {
    since: Option<u64>,
}

pub(super) async fn events(State(state): State<Introspection>, Query(query): Query<Since>) -> Json<Records> {
    Json(state.observer.since(query.since.unwrap_or(0)))
}

pub(super) async fn history(State(state): State<Introspection>) -> Json<Value> {
    Json(json!({ "unixMs": clock::now().unix_nanos / 1_000_000, "samples": state.observer.course() }))
}

/// Without a number: from now on. A browser that connects again says itself where it was.
pub(super) async fn follow(
    State(state): State<Introspection>,
    Query(query): Query<Since>,
    headers: HeaderMap,
) -> Response {
    let Ok(place) = FOLLOWERS.try_acquire() else {
        let text = format!("{MOST_FOLLOWERS} follow already\n");
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    };
    let started = state.observer.since(u64::MAX).started_unix_ms;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let since = last.and_then(|id| after(id, started)).or(query.since);
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(feed(state.observer, since, sender, place));
    let sse = Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(ALIVE));
    sse.into_response()
}

/// An event's id: whose, and its number.
fn id(started: i64, seq: u64) -> String {
    format!("{started}-{seq}")
}

/// Where to go on behind the event with this id: at the first record, if an earlier daemon gave it.
fn after(id: &str, started: i64) -> Option<u64> {
    let (whose, seq) = id.rsplit_once('-')?;
    let (whose, seq) = (whose.parse::<i64>().ok()?, seq.parse::<u64>().ok()?);
    Some(if whose == started { seq.saturating_add(1) } else { 0 })
}

type Sender = mpsc::Sender<Result<Event, Infallible>>;

/// Until the other end is gone.
async fn feed(observer: Observer, since: Option<u64>, sender: Sender, _place: SemaphorePermit<'static>) {
    let mut changed = observer.changed();
    let Records { next: newest, started_unix_ms: started, .. } = observer.since(u64::MAX);
    let hello = Event::default().event("hello").data(json!({ "startedUnixMs": started }).to_string());
    if sender.send(Ok(hello)).await.is_err() {
        return;
    }
    // A number that was not given yet is of an earlier daemon.
    let mut next = since.map_or(newest, |since| if since > newest { 0 } else { since });
    loop {
        changed.mark_unchanged();
        let Records { records, missed, next: following, .. } = observer.since(next);
        next = following;
        let missed = (missed > 0).then(|| Event::default().event("missed").data(missed.to_string()));
        let told = records
            .iter()
            .filter_map(|record| Event::default().event("record").id(id(started, record.seq)).json_data(record).ok());
        for event in missed.into_iter().chain(told).chain([Event::default().event("status").data("{}")]) {
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(PACE).await;
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_goes_on_behind_his_last_event_and_at_the_first_record_of_another_daemon() {
        assert_eq!(after(&id(1_700, 12), 1_700), Some(13));
        assert_eq!(after(&id(1_699, 12), 1_700), Some(0));
        assert_eq!(after(&id(-5, 1), -5), Some(2));
        assert_eq!(["12", "", "x-1", "1-x"].map(|id| after(id, 1_700)), [None; 4]);
    }
}

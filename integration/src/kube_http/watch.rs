// SPDX-License-Identifier: Apache-2.0
//! A watch: what changes in a scope, one JSON object a line, for as long as the client asked.
//!
//! Without a revision, or with 0, it begins with all that there is. When the time is over and bookmarks are allowed the last
//! line is one, so that the client goes on from there and not from the last change that concerned it.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::refusal::Refusal;
use super::store::{Event, Scope};
use super::{KubeApi, Query};

/// How long who does not say how long watches.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// Lines that wait for a slow client.
const BACKLOG: usize = 64;

type Lines = mpsc::Sender<Result<Bytes, std::convert::Infallible>>;

/// Answers with the stream; a task feeds it until the client goes away or its time is over.
pub(super) fn start(api: KubeApi, scope: Scope, query: &Query) -> Result<Response, Refusal> {
    let since = query.number("resourceVersion")?;
    let timeout = match query.number("timeoutSeconds")? {
        0 => DEFAULT_TIMEOUT,
        seconds => Duration::from_secs(seconds),
    };
    let with_bookmarks = query.get("allowWatchBookmarks") == "true";
    let (told, seen) = api.read(|store| {
        let told = if since == 0 {
            store.list(&scope).into_iter().cloned().map(|object| Event { kind: "ADDED", object }).collect()
        } else {
            store.since(&scope, since)?
        };
        Ok((told, store.revision()))
    })?;
    let (lines, stream) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let mut watch = Watch { api, scope, seen, lines };
        // An error is a client that went away.
        let _ = watch.follow(told, timeout, with_bookmarks).await;
    });
    let body = Body::from_stream(ReceiverStream::new(stream));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The client is gone.
struct Gone;

struct Watch {
    api: KubeApi,
    scope: Scope,
    seen: u64,
    lines: Lines,
}

impl Watch {
    async fn follow(&mut self, told: Vec<Event>, timeout: Duration, with_bookmarks: bool) -> Result<(), Gone> {
        let end = tokio::time::Instant::now() + timeout;
        let mut revision = self.api.0.revision.subscribe();
        let mut failing = self.api.0.failing.subscribe();
        self.tell(told).await?;
        loop {
            let (events, now) = {
                // Marked as seen before the look: a change after it wakes the wait below.
                revision.mark_unchanged();
                let look = |store: &super::Store| (store.since(&self.scope, self.seen), store.revision());
                self.api.read(look)
            };
            match events {
                Ok(events) => self.tell(events).await?,
                Err(refusal) => return self.line("ERROR", &refusal.status()).await,
            }
            self.seen = now;
            tokio::select! {
                _ = revision.changed() => {}
                () = self.lines.closed() => return Err(Gone),
                // The connection ends as with a server that is killed.
                _ = failing.wait_for(|failing| *failing != super::Failing::No) => return Err(Gone),
                () = tokio::time::sleep_until(end) => break,
            }
        }
        if with_bookmarks {
            let metadata = json!({ "resourceVersion": self.seen.to_string() });
            let resource = self.scope.resource;
            let object = json!({ "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata });
            self.line("BOOKMARK", &object).await?;
        }
        Ok(())
    }

    async fn tell(&self, events: Vec<Event>) -> Result<(), Gone> {
        for event in events {
            self.line(event.kind, &event.object).await?;
        }
        Ok(())
    }

    async fn line(&self, kind: &str, object: &Value) -> Result<(), Gone> {
        let line = format!("{}\n", json!({ "type": kind, "object": object }));
        self.lines.send(Ok(Bytes::from(line))).await.map_err(|_| Gone)
    }
}

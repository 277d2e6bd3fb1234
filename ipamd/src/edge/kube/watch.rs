// SPDX-License-Identifier: Apache-2.0
//! A watch that never ends: list, watch from there, after any error (`Expired` among them) a new list.
//!
//! The list and the watch are kube's; here is how long they are waited for. Pauses double from half a second to 30 s, with a spread of their
//! own for every node: an API server that comes back is not met by a whole cluster at once.

#![expect(clippy::disallowed_methods, reason = "the edge that waits for an API server")]

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::time::Duration;

use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;

use super::status::{Status, Work};
use crate::clock;
use crate::telemetry::chain;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A list that is not answered by then is asked for anew.
const LIST: Duration = Duration::from_secs(20);

/// A watch that ends sooner has not worked.
const LIVED: Duration = Duration::from_secs(30);

/// What became of a watch.
pub(super) enum News<K> {
    Event(Event<K>),
    /// It fails, for so long by now; with the API server's code, if that is its answer.
    Failing(Duration, Option<u16>),
}

/// Follows the objects of this selector for ever; `take` must be quick.
pub(super) async fn follow<K>(
    api: Api<K>,
    (work, fields): (Work, String),
    status: &Status,
    mut take: impl FnMut(News<K>),
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    // From the server's cache, as kubelets do: no read of etcd for each of them.
    let config = watcher::Config::default().any_semantic().fields(&fields);
    let (mut failing, mut pause, mut attempt) = (Duration::ZERO, FIRST_PAUSE, 0_u64);
    loop {
        let (mut answered, began) = (false, clock::boot());
        let mut on_event = |event| {
            if !matches!(event, Event::Init) {
                answered = true;
                status.works(work);
            }
            take(News::Event(event));
        };
        let (error, code) = until_error(&api, &config, &mut on_event).await;
        status.fails(work, error);
        if answered {
            failing = Duration::ZERO;
        }
        // A list alone is no watch: what may be listed and not watched must not be listed twice a second.
        if answered && clock::boot().since(began) >= LIVED {
            pause = FIRST_PAUSE;
        }
        take(News::Failing(failing, code));
        attempt += 1;
        let wait = spread(pause, (&fields, attempt));
        sleep(wait).await;
        failing += wait;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// From a new list on: a watch that is taken up again says nothing until something changes, and nobody would know that it works.
async fn until_error<K>(
    api: &Api<K>,
    config: &watcher::Config,
    take: &mut impl FnMut(Event<K>),
) -> (String, Option<u16>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut stream = pin!(watcher(api.clone(), config.clone()));
    let mut listed = false;
    loop {
        let next = if listed { Ok(stream.next().await) } else { timeout(LIST, stream.next()).await };
        match next {
            Ok(Some(Ok(event))) => {
                // `Init` is said before anything was asked.
                listed |= !matches!(event, Event::Init);
                take(event);
            }
            Ok(Some(Err(error))) => return (chain(&error), code(&error)),
            Ok(None) => return ("the watch ended".to_owned(), None),
            Err(_) => return (format!("no answer for {} s", LIST.as_secs()), None),
        }
    }
}

/// What the API server answered, if that is what is wrong.
fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// Three quarters of it to five quarters, by the salt.
fn spread(pause: Duration, salt: impl Hash) -> Duration {
    let mut hasher = DefaultHasher::new();
    salt.hash(&mut hasher);
    let thousandths = u32::try_from(hasher.finish() % 500).unwrap_or(0);
    pause * (750 + thousandths) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_around_what_they_should_be() {
        let pauses: Vec<_> = (0..100).map(|node| spread(Duration::from_secs(8), node)).collect();
        assert!(pauses.iter().all(|pause| (6..=10).contains(&pause.as_secs())), "{pauses:?}");
        let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(*most - *least > Duration::from_secs(3));
    }
}

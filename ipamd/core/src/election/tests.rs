// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;

const PACE: Duration = Duration::from_secs(300);

fn at(seconds: u64) -> BootTime {
    BootTime(Duration::from_secs(seconds))
}

fn election(me: &str) -> Election {
    Election::new(me.to_owned(), Pace::of_age(PACE), 7, at(0))
}

fn lease(version: u32, holder: &str) -> Lease {
    Lease { version: version.to_string(), holder: holder.to_owned(), duration: Duration::from_secs(180) }
}

/// Makes the call that is due, answered a second later.
fn turn(election: &mut Election, answer: Answer) -> (Call, BootTime) {
    let sent = election.due();
    let call = election.call(sent);
    let now = sent + Duration::from_secs(1);
    election.ended(&call, answer, (sent, now));
    (call, now)
}

#[test]
fn the_pace_follows_the_age_within_bounds() {
    for (age, duration) in [(5, 3), (10, 6), (300, 180), (86_400, 180)] {
        let pace = Pace::of_age(Duration::from_secs(age));
        assert_eq!(pace.duration, Duration::from_secs(duration), "{age}");
        assert!(pace.renew + 2 * pace.retry < pace.believe && pace.believe < pace.duration, "{age}");
        assert!(pace.look * 3 / 4 >= pace.duration, "{age}: two looks on end are enough to take over");
    }
}

#[test]
fn a_lease_that_is_missing_is_made_once_it_has_been_missing_for_its_duration() {
    let mut a = election("a");
    assert_eq!(a.elected(at(0)), Elected::Nobody);
    assert!(a.due() <= at(75));
    let (call, now) = turn(&mut a, Answer::Missing);
    assert_eq!((call, a.elected(now)), (Call::Look, Elected::AnotherNode));
    let (call, now) = turn(&mut a, Answer::Missing);
    assert_eq!((call, a.due()), (Call::Look, now), "it is made at once");
    let sent = a.due();
    let (call, now) = turn(&mut a, Answer::Lease(lease(1, "a")));
    assert_eq!(call, Call::Create);
    assert_eq!(a.elected(now), Elected::ThisNode { until: sent + Duration::from_secs(120) });
    assert_eq!(a.due(), sent + Duration::from_secs(60));
}

#[test]
fn a_lease_that_changes_is_left_alone_and_one_that_does_not_is_taken_over() {
    let mut a = election("a");
    for version in 1..4 {
        let (call, now) = turn(&mut a, Answer::Lease(lease(version, "b")));
        assert_eq!((call, a.elected(now)), (Call::Look, Elected::AnotherNode));
    }
    turn(&mut a, Answer::Lease(lease(3, "b")));
    let (call, now) = turn(&mut a, Answer::Lease(lease(4, "a")));
    assert_eq!(call, Call::Renew { version: "3".to_owned(), takes_over: true });
    assert!(matches!(a.elected(now), Elected::ThisNode { .. }));
}

#[test]
fn a_longer_duration_than_ones_own_is_respected_and_an_absurd_one_is_not() {
    let mut a = election("a");
    let long = |seconds| Lease { duration: Duration::from_secs(seconds), ..lease(1, "b") };
    for _ in 0..3 {
        assert_eq!(turn(&mut a, Answer::Lease(long(1_200))).0, Call::Look);
    }
    let mut looks = 0;
    while turn(&mut a, Answer::Lease(long(1_000_000))).0 == Call::Look {
        looks += 1;
        assert!(looks < 20);
    }
}

#[test]
fn a_holder_that_cannot_write_stops_believing_before_anybody_may_take_over() {
    let mut a = election("a");
    turn(&mut a, Answer::Lease(lease(1, "")));
    let (call, _) = turn(&mut a, Answer::Lease(lease(2, "a")));
    assert_eq!(call, Call::Renew { version: "1".to_owned(), takes_over: true }, "what was given up is free");
    let Elected::ThisNode { until } = a.elected(a.due()) else { panic!("elected") };
    let mut tries = 0;
    while a.due() < until {
        let (call, _) = turn(&mut a, Answer::Failed);
        assert_eq!(call, Call::Renew { version: "2".to_owned(), takes_over: false });
        tries += 1;
    }
    assert!(tries >= 4, "{tries} tries");
    assert_eq!(a.elected(until), Elected::AnotherNode);
    assert_eq!(a.call(a.due()), Call::Look);
}

#[test]
fn after_a_write_whose_answer_was_lost_the_holder_finds_its_own_version_and_goes_on() {
    let mut a = election("a");
    turn(&mut a, Answer::Lease(lease(1, "")));
    turn(&mut a, Answer::Lease(lease(2, "a")));
    turn(&mut a, Answer::Failed);
    let (_, now) = turn(&mut a, Answer::Conflict);
    assert!(matches!(a.elected(now), Elected::ThisNode { .. }));
    assert_eq!(turn(&mut a, Answer::Lease(lease(3, "a"))).0, Call::Look);
    let (call, now) = turn(&mut a, Answer::Lease(lease(4, "a")));
    assert_eq!(call, Call::Renew { version: "3".to_owned(), takes_over: false });
    assert!(matches!(a.elected(now), Elected::ThisNode { .. }));
    // Somebody else's: it is over at once.
    turn(&mut a, Answer::Conflict);
    let (call, now) = turn(&mut a, Answer::Lease(lease(5, "b")));
    assert_eq!((call, a.elected(now)), (Call::Look, Elected::AnotherNode));
}

#[test]
fn where_nobody_can_take_it_nobody_is_elected_and_each_node_is_on_its_own() {
    for last in [Answer::Missing, Answer::Lease(lease(1, "b"))] {
        let mut a = election("a");
        for _ in 0..3 {
            turn(&mut a, last.clone());
            // What it asks for when it is free is refused.
            if a.next.is_some() {
                turn(&mut a, Answer::Failed);
            }
        }
        let now = a.due() + Duration::from_secs(1_200);
        assert_eq!(a.elected(now), Elected::Nobody, "{last:?}");
        turn(&mut a, Answer::Lease(lease(2, "b")));
        assert_eq!(a.elected(a.due()), Elected::AnotherNode);
    }
}

#[test]
fn who_stands_down_gives_up_and_takes_nothing_over_for_a_while() {
    let mut a = election("a");
    turn(&mut a, Answer::Lease(lease(1, "")));
    let (_, now) = turn(&mut a, Answer::Lease(lease(2, "a")));
    a.stand_down(now + Duration::from_secs(3_600), now);
    assert_eq!(a.elected(now), Elected::AnotherNode);
    assert_eq!(turn(&mut a, Answer::Lease(lease(3, ""))).0, Call::GiveUp { version: "2".to_owned() });
    let end = now + Duration::from_secs(3_600);
    while a.due() < end {
        assert_eq!(turn(&mut a, Answer::Lease(lease(3, ""))).0, Call::Look);
    }
    turn(&mut a, Answer::Lease(lease(3, "")));
    assert_eq!(a.call(a.due()), Call::Renew { version: "3".to_owned(), takes_over: true });
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// Until the API server does it; `None`: it is lost on the way.
    there_ms: Option<u64>,
    back_ms: Option<u64>,
}

const TIMEOUT_MS: u64 = 10_000;

fn fate() -> impl Strategy<Value = Fate> {
    let quick = (0_u64..50, 0_u64..50).prop_map(|(there, back)| Fate { there_ms: Some(there), back_ms: Some(back) });
    let slow =
        (0_u64..60_000, 0_u64..12_000).prop_map(|(there, back)| Fate { there_ms: Some(there), back_ms: Some(back) });
    prop_oneof![
        12 => quick,
        3 => slow,
        1 => (0_u64..60_000).prop_map(|there| Fate { there_ms: Some(there), back_ms: None }),
        2 => Just(Fate { there_ms: None, back_ms: None }),
    ]
}

/// A node and its clock.
struct Node {
    election: Election,
    /// Its seconds are so many thousandths of true ones.
    rate: u64,
    offset_ms: u64,
    fates: Vec<Fate>,
    used: usize,
    /// The call under way, and what comes of it when.
    flight: Option<(Call, BootTime, u64, Answer)>,
    /// Stopped until then: a machine that sleeps.
    stopped_until_ms: u64,
    /// Whose calls are all lost until then.
    cut_off_until_ms: u64,
}

/// What happens to nodes: which, when, and for how long.
#[derive(Clone, Debug, Default)]
struct Blows {
    stops: Vec<(usize, u64, u64)>,
    outages: Vec<(usize, u64, u64)>,
    stand_downs: Vec<(usize, u64)>,
}

fn blows() -> impl Strategy<Value = Blows> {
    let long = || proptest::collection::vec((0_usize..2, 0_u64..3_600_000, 0_u64..900_000), 0..6);
    let stand_downs = proptest::collection::vec((0_usize..2, 0_u64..3_600_000), 0..2);
    (long(), long(), stand_downs).prop_map(|(stops, outages, stand_downs)| Blows { stops, outages, stand_downs })
}

impl Node {
    fn clock(&self, true_ms: u64) -> BootTime {
        BootTime(Duration::from_millis(self.offset_ms + true_ms * self.rate / 1_000))
    }
}

/// The API server, and writes on their way to it.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    versions: u64,
    coming: Vec<(u64, usize, Call, String)>,
}

impl Server {
    fn does(&mut self, call: &Call, who: &str) -> Answer {
        let is_meant =
            |lease: &Option<Lease>, version: &String| lease.as_ref().is_some_and(|lease| lease.version == *version);
        let holder = match call {
            Call::Look => return self.lease.clone().map_or(Answer::Missing, Answer::Lease),
            Call::Create if self.lease.is_some() => return Answer::Conflict,
            Call::Renew { .. } | Call::GiveUp { .. } if self.lease.is_none() => return Answer::Missing,
            Call::Renew { version, .. } | Call::GiveUp { version } if !is_meant(&self.lease, version) => {
                return Answer::Conflict;
            }
            Call::Create | Call::Renew { .. } => who.to_owned(),
            Call::GiveUp { .. } => String::new(),
        };
        self.versions += 1;
        let duration = Pace::of_age(PACE).duration;
        self.lease = Some(Lease { version: self.versions.to_string(), holder, duration });
        self.lease.clone().map_or(Answer::Missing, Answer::Lease)
    }
}

/// Lets two or three nodes live for an hour: who believed to hold it, at each moment.
fn live(nodes: &mut [Node], blows: &Blows) -> Result<(u64, u64), TestCaseError> {
    let mut server = Server::default();
    let (mut held, mut total) = (0, 0);
    for true_ms in (0..3_600_000).step_by(250) {
        let begins = |from: &u64| (*from..*from + 250).contains(&true_ms);
        for (node, _, length) in blows.stops.iter().filter(|(_, from, _)| begins(from)) {
            nodes[*node].stopped_until_ms = true_ms + length;
        }
        for (node, _, length) in blows.outages.iter().filter(|(_, from, _)| begins(from)) {
            nodes[*node].cut_off_until_ms = true_ms + length;
        }
        // Writes arrive, each at its own time; the answer is the server's of then.
        let (due, coming): (Vec<_>, Vec<_>) = server.coming.drain(..).partition(|(at, ..)| *at <= true_ms);
        server.coming = coming;
        for (_, node, call, who) in due {
            let answer = server.does(&call, &who);
            if let Some((flying, _, _, waits)) = &mut nodes[node].flight
                && *flying == call
                && *waits != Answer::Failed
            {
                *waits = answer;
            }
        }
        for (index, node) in nodes.iter_mut().enumerate() {
            step(node, index, true_ms, &mut server);
        }
        for (node, _) in blows.stand_downs.iter().filter(|(_, from)| begins(from)) {
            let now = nodes[*node].clock(true_ms);
            nodes[*node].election.stand_down(now + Duration::from_secs(600), now);
        }
        // Also one that is stopped: it acts on what it believes as soon as it goes on, by its clock of then.
        let believe = |node: &&mut Node| matches!(node.election.elected(node.clock(true_ms)), Elected::ThisNode { .. });
        let holders = nodes.iter_mut().filter(believe).count() as u64;
        prop_assert!(holders <= 1, "{holders} hold it at {true_ms} ms");
        held += holders;
        total += 1;
    }
    Ok((held, total))
}

fn step(node: &mut Node, index: usize, true_ms: u64, server: &mut Server) {
    if true_ms < node.stopped_until_ms {
        return;
    }
    let now = node.clock(true_ms);
    if let Some((call, sent, ends, answer)) = node.flight.take() {
        if true_ms < ends {
            node.flight = Some((call, sent, ends, answer));
            return;
        }
        node.election.ended(&call, answer, (sent, now));
    }
    if now < node.election.due() {
        return;
    }
    let call = node.election.call(now);
    let fate = node.fates[node.used % node.fates.len()];
    node.used += 1;
    let (mut ends, mut answer) = (true_ms + TIMEOUT_MS, Answer::Failed);
    if let Some(there) = fate.there_ms.filter(|_| true_ms >= node.cut_off_until_ms) {
        server.coming.push((true_ms + there, index, call.clone(), node.election.me.clone()));
        if let Some(back) = fate.back_ms.filter(|back| there + back < TIMEOUT_MS) {
            // Filled in when it arrives.
            (ends, answer) = (true_ms + there + back + 250, Answer::Conflict);
        }
    }
    node.flight = Some((call, now, ends, answer));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn no_two_nodes_believe_that_they_hold_it_whatever_becomes_of_calls_and_clocks(
        salts in proptest::collection::vec(any::<u64>(), 2..4),
        rates in proptest::collection::vec(900_u64..1_100, 3),
        fates in proptest::collection::vec(proptest::collection::vec(fate(), 40), 3),
        look_percent in 40_u32..200,
        blows in blows(),
    ) {
        let mut nodes: Vec<Node> = Vec::new();
        for (index, salt) in salts.iter().enumerate() {
            let offset_ms = salt % 1_000_000;
            let now = BootTime(Duration::from_millis(offset_ms));
            // However often they look: who looks oftener takes over sooner.
            let pace = Pace::of_age(PACE);
            let pace = Pace { look: pace.duration * look_percent / 100, ..pace };
            let election = Election::new(format!("n{index}"), pace, *salt, now);
            nodes.push(Node {
                election,
                rate: rates[index],
                offset_ms,
                fates: fates[index].clone(),
                used: 0,
                flight: None,
                stopped_until_ms: 0,
                cut_off_until_ms: 0,
            });
        }
        live(&mut nodes, &blows)?;
    }
}

#[test]
fn three_nodes_have_a_holder_nearly_all_the_time_and_another_one_when_it_is_gone() {
    let quick = Fate { there_ms: Some(5), back_ms: Some(5) };
    let node = |index: u64| Node {
        election: Election::new(format!("n{index}"), Pace::of_age(PACE), index, at(index)),
        rate: 1_000,
        offset_ms: index * 1_000,
        fates: vec![quick],
        used: 0,
        flight: None,
        stopped_until_ms: 0,
        cut_off_until_ms: 0,
    };
    let mut nodes: Vec<Node> = (0..3).map(node).collect();
    let (held, total) = live(&mut nodes, &Blows::default()).unwrap();
    assert!(held * 100 >= total * 85, "{held} of {total}: until the first one has made it");
    let calls: usize = nodes.iter().map(|node| node.used).sum();
    assert!((75..110).contains(&calls), "{calls} calls in an hour: 60 writes and 12 looks of each of the others");
    let mut nodes: Vec<Node> = (0..3).map(node).collect();
    // Each in its turn is gone for good.
    let (held, total) = live(
        &mut nodes,
        &Blows { stops: vec![(0, 1_000_000, 9_000_000), (1, 2_000_000, 9_000_000)], ..Blows::default() },
    )
    .unwrap();
    assert!(held * 100 >= total * 60, "{held} of {total}");
}

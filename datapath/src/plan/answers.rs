// SPDX-License-Identifier: Apache-2.0
//! Node ports that are asked for at a secondary ENI's own address: the answer leaves by that ENI, whichever ENI the pod behind the
//! port is on, and also when it is on another node or is the node itself.
//!
//! When an answer is routed it has the pod's address; the one that was asked is put back as it leaves ([`super::snat`]), too late
//! for a rule by source. So the connection remembers the ENI that it came in by:
//!
//! ```text
//! request  ── eth2, link group 58002, to an address of the node, new ── connection mark 0x19/0x7f ── DNAT ── the pod's own way
//! answer   ── whatever link, connection has such a mark, direction reply ── packet mark 0x19/0x7f
//!          ── rule 1025 fwmark 0x19/0x7f ── table 3 ── eth2
//! ```
//!
//! The number is the device index and [`ids::MOST_MARKED_ENIS`], in the bits of [`super::marks`]: no pod's packet ever has it. So rule
//! 1025 takes nothing else, and goes before those of external service blocks (1535) and of the pods' own ENIs (1536), in both
//! layouts alike. The link group of the ENI's link tells the ENI: the nft table is the same whatever ENIs there are.
//!
//! | chain | hook, priority | does |
//! |---|---|---|
//! | `connection_marks` | [`super::snat`] | a connection with bits of ours: `eni_answers`. A new one: `arrivals` |
//! | `eni_answers` | - | not in the direction of the answer: done. Else the packet gets the connection's mark |
//! | `arrivals` | - | from a pod: done. To an address of the node by the primary ENI: the connection gets its mark. By a link without a group: done. To an address of the node: the connection gets the mark of the ENI that it came in by |
//! | `own_answers` | route output, -150 | answers of the node itself, to which a Service of host-network pods led: `eni_answers` |
//!
//! Only answers are led: the request goes on by main, masqueraded or not, as one to the primary ENI does, and its answer comes back
//! by whatever ENI it left by. What is asked directly of the node's own processes is answered by the same rule.
//!
//! Of other connections a packet pays for one comparison, of the connection's mark, and for a second, whether it is new. New to the kernel
//! is also each packet of a connection that nobody has answered so far; it pays for three more, unless its link is one of a group.
//! An ENI costs one rule of routing.
//!
//! A mask that is too narrow for the number (0x7f has room for all, 0x1f for device indexes 1 to 8, 0x0f for none) leaves the ENI
//! without: it is asked at its own address in vain. Connections that were opened under another mask are not known any more. A mask
//! that is moved by one bit makes no ENI's number another's: the highest is less than twice the lowest. One with more or fewer bits, or
//! moved farther, may, until the connection ends.

use super::host::HostSetup;
use super::ids::{self, Place};
use super::marks;
use super::model::Mark;
use super::nft::tracking::Tracking;
use super::nft::{ChainType, Hook, Match, NftBranch, NftChain, NftRule, Statement};

const ANSWERS: &str = "eni_answers";
const ARRIVALS: &str = "arrivals";

/// The mark of connections that came in by the ENI at a place, and of their answers; `None`: it has none, for the place has no number
/// ([`Place::number`]), or one that does not fit into the mask.
#[must_use]
pub fn of_eni(mask: u32, place: Place) -> Option<Mark> {
    marks::of_number(mask, place.number()? + ids::MOST_MARKED_ENIS)
}

/// The ENI's place by such a mark; `None`: no ENI's.
pub(super) fn place(mark: Mark) -> Option<Place> {
    Place::with_numbers().find(|place| of_eni(mark.mask, *place) == Some(mark))
}

fn numbered(host: &HostSetup) -> impl Iterator<Item = (u32, Mark)> {
    let mask = host.eni_mark_mask;
    Place::with_numbers().filter_map(move |place| Some((place.link_group()?, of_eni(mask, place)?)))
}

/// The connection's mark has one of our bits. Never so without a connection.
fn is_marked(host: &HostSetup) -> Match {
    Match::Tracking(Tracking::NotMarked(Mark { value: 0, mask: host.eni_mark_mask }))
}

/// The connection has no ENI's mark; `None`: none ever has one.
pub(super) fn unmarked(host: &HostSetup) -> Option<Match> {
    let is_used = host.serves_node_ports && numbered(host).next().is_some();
    is_used.then_some(Match::ConnectionMark(Mark { value: 0, mask: host.eni_mark_mask }))
}

fn to_answers(host: &HostSetup) -> Option<NftRule> {
    numbered(host).next().map(|_| NftRule {
        purpose: "answers leave by the ENI that was asked",
        matches: vec![is_marked(host)],
        statements: vec![Statement::Goto(ANSWERS)],
    })
}

/// Of `connection_marks`, where node ports are served.
pub(super) fn entries(host: &HostSetup) -> impl Iterator<Item = NftRule> {
    let to_arrivals = NftRule {
        purpose: "by which ENI connections come in",
        matches: vec![Match::ConnectionNew],
        statements: vec![Statement::Goto(ARRIVALS)],
    };
    to_answers(host).into_iter().chain([to_arrivals])
}

/// What the entries lead to.
pub(super) fn branches(host: &HostSetup) -> Vec<NftBranch> {
    if !host.serves_node_ports {
        return Vec::new();
    }
    let answers = to_answers(host).map(|_| NftBranch { name: ANSWERS, rules: answers(host) });
    answers.into_iter().chain([NftBranch { name: ARRIVALS, rules: arrivals(host) }]).collect()
}

/// The chain of the node's own answers.
pub(super) fn of_the_node(host: &HostSetup) -> Option<NftChain> {
    let rule = to_answers(host).filter(|_| host.serves_node_ports)?;
    let (kind, hook) = (ChainType::Route, Hook::Output);
    Some(NftChain { name: "own_answers", kind, hook, priority: -150, rules: vec![rule] })
}

fn answers(host: &HostSetup) -> Vec<NftRule> {
    let asked = NftRule {
        purpose: "requests go their own way",
        matches: vec![Match::Tracking(Tracking::Request)],
        statements: vec![Statement::Accept],
    };
    let answer = |(_, mark)| NftRule {
        purpose: "answers leave by the ENI that was asked",
        matches: vec![Match::ConnectionMark(mark)],
        statements: vec![Statement::SetPacketMark(mark), Statement::Accept],
    };
    std::iter::once(asked).chain(numbered(host).map(answer)).collect()
}

fn arrivals(host: &HostSetup) -> Vec<NftRule> {
    let from_pods = NftRule {
        purpose: "pods are answered by their links",
        matches: vec![Match::InputPrefix(host.veth_prefix.clone())],
        statements: vec![Statement::Accept],
    };
    let to_node = |by: Match, mark| NftRule {
        purpose: "connections to the node's address are answered from it",
        matches: vec![by, Match::DestinationLocal(true)],
        statements: vec![Statement::SetConnectionMark(mark), Statement::Accept],
    };
    let by_primary = to_node(Match::InputMac(host.primary_mac), host.connmark);
    let ungrouped = NftRule {
        purpose: "no secondary ENI",
        matches: vec![Match::InputGroup(ids::DEFAULT_GROUP)],
        statements: vec![Statement::Accept],
    };
    let ungrouped = numbered(host).next().map(|_| ungrouped);
    let by_eni = numbered(host).map(|(group, mark)| to_node(Match::InputGroup(group), mark));
    [from_pods, by_primary].into_iter().chain(ungrouped).chain(by_eni).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MASK: u32 = ids::DEFAULT_ENI_MARK_MASK;

    #[test]
    fn no_number_is_a_pods_and_no_two_enis_share_one() {
        let values = |of: fn(u32, Place) -> Option<Mark>| -> BTreeSet<u32> {
            Place::with_numbers().filter_map(|place| of(MASK, place)).map(|mark| mark.value).collect()
        };
        let (of_pods, of_answers) = (values(marks::of_eni), values(of_eni));
        assert_eq!((of_pods.len(), of_answers.len()), (23, 23));
        assert!(of_pods.is_disjoint(&of_answers));
        assert!(of_answers.iter().all(|value| value & !MASK == 0));
        assert!(
            of_answers.last() < of_answers.first().map(|lowest| 2 * lowest).as_ref(),
            "a mask moved by one bit confuses nobody"
        );
    }

    #[test]
    fn a_mask_has_as_many_as_fit() {
        let at = |device| Place::new(0, device).unwrap();
        let count = |mask| (0..40).filter(|device| of_eni(mask, at(*device)).is_some()).count();
        assert_eq!([0x7f, 0x3f00, 0x1f, 0xf0, 0].map(count), [23, 23, 8, 0, 0]);
        assert_eq!(of_eni(MASK, at(2)), Some(Mark { value: 0x19, mask: MASK }));
        assert_eq!([of_eni(MASK, at(0)), of_eni(MASK, at(24)), of_eni(MASK, Place::new(1, 2).unwrap())], [None; 3]);
    }

    #[test]
    fn the_eni_is_told_by_the_mark() {
        for mask in [0x7f, 0x3f00] {
            assert!(Place::with_numbers().all(|eni| of_eni(mask, eni).and_then(place) == Some(eni)));
        }
        assert!(Place::with_numbers().all(|eni| marks::of_eni(MASK, eni).and_then(place).is_none()));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What the reference (amazon-vpc-cni-k8s) leaves in nf_tables: its native table, and its rules in the tables of iptables-nft.
//! Left there they would go on translating by lists that nobody keeps any more, before ours are asked.
//!
//! | table | what is taken away | told by |
//! |---|---|---|
//! | `ip aws-cni` | the table | its name |
//! | `ip nat`, `ip mangle` | chains AWS-SNAT-CHAIN-n, AWS-CONNMARK-CHAIN-n with all their rules | their names |
//! | the same | rules of other chains that jump to these | the jump |
//! | the same | rules of PREROUTING and POSTROUTING | a comment of the reference's, whole |
//!
//! Nothing else is touched, and everything that is goes in one transaction. iptables-legacy keeps its rules elsewhere (x_tables,
//! socket options that need raw memory); they are not read here: [`has_legacy_tables`] says whether there may be some, and
//! [`LEGACY_CLEANUP`] is what an operator runs then.
//!
//! Chains, comments and tables: amazon-vpc-cni-k8s v1.23, `pkg/networkutils`.

#![expect(clippy::disallowed_methods, reason = "reads which iptables tables there are")]

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, TableAttribute, TableMessage, VerdictAttribute,
};

use super::observe::List;
use super::{message, table_is_there, transaction};
use crate::apply::error::ApplyError;
use crate::apply::netlink::{Request, Socket};
use crate::plan::Family;

/// The reference's own table.
const NATIVE_TABLE: &str = "aws-cni";
/// Tables of iptables-nft in which it has rules.
const TABLES: [&str; 2] = ["nat", "mangle"];
const CHAINS: [&str; 2] = ["AWS-SNAT-CHAIN-", "AWS-CONNMARK-CHAIN-"];
const COMMENTS: [&str; 5] =
    ["AWS SNAT CHAIN", "AWS, SNAT", "AWS, primary ENI", "AWS, outbound connections", "AWS, CONNMARK"];
/// Name and private data of an xtables match in a rule of iptables-nft (NFTA_MATCH_NAME, NFTA_MATCH_INFO,
/// `include/uapi/linux/netfilter/nf_tables_compat.h`); a comment's data is its text, filled up with zeros.
const MATCH_NAME: u16 = 1;
const MATCH_INFO: u16 = 3;

/// Takes the reference's rules out of iptables-legacy, everybody else's and all counters stay. For operators: nothing of ours
/// runs it.
pub const LEGACY_CLEANUP: &str = "iptables-legacy-save -c | \
    grep -vE 'AWS-(SNAT|CONNMARK)-CHAIN-[0-9]|--comment \"AWS, ' | iptables-legacy-restore -c";

/// Takes it all away; what was found, as nft commands.
pub(crate) fn remove(socket: &mut Socket) -> Result<Vec<String>, ApplyError> {
    let requests = all_removals(socket)?;
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let found = requests.iter().map(|request| request.doing.clone()).collect();
    transaction(socket, requests)?;
    Ok(found)
}

/// What [`remove`] would take away, as nft commands; takes nothing away.
pub(crate) fn find(socket: &mut Socket) -> Result<Vec<String>, ApplyError> {
    Ok(all_removals(socket)?.into_iter().map(|request| request.doing).collect())
}

fn all_removals(socket: &mut Socket) -> Result<Vec<Request<NetfilterMessage>>, ApplyError> {
    let mut requests = Vec::new();
    for table in TABLES {
        if table_is_there(socket, Family::V4, table)? {
            requests.extend(removals(socket, table)?);
        }
    }
    if table_is_there(socket, Family::V4, NATIVE_TABLE)? {
        let attributes = vec![TableAttribute::Name(NATIVE_TABLE.to_owned())];
        let delete = NfTablesMessage::DeleteTable(TableMessage { attributes });
        requests.push(request(delete, format!("nft delete table ip {NATIVE_TABLE}")));
    }
    Ok(requests)
}

/// Whether iptables-legacy has tables in this namespace, whoever made them.
#[must_use]
pub fn has_legacy_tables() -> bool {
    let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    names.lines().any(|name| TABLES.contains(&name))
}

/// Rules first, those that jump to the chains among them; then what is in the chains; then the chains.
fn removals(socket: &mut Socket, table: &str) -> Result<Vec<Request<NetfilterMessage>>, ApplyError> {
    let mut list = List { socket, family: Family::V4, table };
    let of_table = ChainAttribute::Table(table.to_owned());
    let get = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
    let chains: Vec<String> = list
        .dump(get, "chains")?
        .into_iter()
        .filter_map(|answer| match answer {
            NfTablesMessage::NewChain(chain) if chain.attributes.contains(&of_table) => name_of(&chain),
            _ => None,
        })
        .filter(|name| is_theirs(name))
        .collect();
    let attributes = vec![RuleAttribute::Table(table.to_owned())];
    let rules = list.dump(NfTablesMessage::GetRule(RuleMessage { attributes: attributes.clone() }), "table")?;
    let mut requests: Vec<_> = rules
        .iter()
        .filter_map(|answer| match answer {
            NfTablesMessage::NewRule(rule) if rule.attributes.contains(attributes.first()?) => {
                rule_removal(table, rule)
            }
            _ => None,
        })
        .collect();
    for chain in &chains {
        let attributes = vec![RuleAttribute::Table(table.to_owned()), RuleAttribute::Chain(chain.clone())];
        let flush = NfTablesMessage::DeleteRule(RuleMessage { attributes });
        requests.push(request(flush, format!("nft flush chain ip {table} {chain}")));
    }
    for chain in &chains {
        let attributes = vec![of_table.clone(), ChainAttribute::Name(chain.clone())];
        let delete = NfTablesMessage::DeleteChain(ChainMessage { attributes });
        requests.push(request(delete, format!("nft delete chain ip {table} {chain}")));
    }
    Ok(requests)
}

/// `None`: not the reference's, or in a chain of its own, which goes as a whole.
fn rule_removal(table: &str, rule: &RuleMessage) -> Option<Request<NetfilterMessage>> {
    let (mut chain, mut handle, mut theirs) = (None, None, false);
    for attribute in &rule.attributes {
        match attribute {
            RuleAttribute::Chain(name) => chain = Some(name.clone()),
            RuleAttribute::Handle(number) => handle = Some(*number),
            RuleAttribute::Expressions(list) => {
                theirs = expressions(list).any(|found| jumps_there(found) || says_so(found))
            }
            _ => {}
        }
    }
    let (chain, handle) = (chain?, handle?);
    if !theirs || is_theirs(&chain) {
        return None;
    }
    let doing = format!("nft delete rule ip {table} {chain} handle {handle}");
    let attributes =
        vec![RuleAttribute::Table(table.to_owned()), RuleAttribute::Chain(chain), RuleAttribute::Handle(handle)];
    Some(request(NfTablesMessage::DeleteRule(RuleMessage { attributes }), doing))
}

fn expressions(list: &[ListAttribute<ExpressionAttribute>]) -> impl Iterator<Item = &Expressions> {
    let attributes = list.iter().filter_map(|element| match element {
        ListAttribute::Element(attributes) => Some(attributes),
        _ => None,
    });
    attributes.flatten().filter_map(|attribute| match attribute {
        ExpressionAttribute::Data(expression) => Some(expression),
        _ => None,
    })
}

fn jumps_there(expression: &Expressions) -> bool {
    let Expressions::Immediate(attributes) = expression else { return false };
    attributes.iter().any(|attribute| match attribute {
        Immediate::Data(DataAttribute::Verdict(verdict)) => {
            verdict.iter().any(|part| matches!(part, VerdictAttribute::Chain(name) if is_theirs(name)))
        }
        _ => false,
    })
}

/// A comment as iptables-nft keeps it.
fn says_so(expression: &Expressions) -> bool {
    let Expressions::Other { expression_type, attributes } = expression else { return false };
    let text = |kind: u16| attributes.iter().find(|nla| nla.kind() == kind).map(text);
    expression_type == "match"
        && text(MATCH_NAME).is_some_and(|name| name == "comment")
        && text(MATCH_INFO).is_some_and(|comment| COMMENTS.contains(&comment.as_str()))
}

/// Up to the first zero.
fn text(nla: &DefaultNla) -> String {
    let mut value = vec![0; nla.value_len()];
    nla.emit_value(&mut value);
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

fn name_of(chain: &ChainMessage) -> Option<String> {
    chain.attributes.iter().find_map(|attribute| match attribute {
        ChainAttribute::Name(name) => Some(name.clone()),
        _ => None,
    })
}

/// Whether a chain is called as the reference's are: a number behind one of the two beginnings.
fn is_theirs(chain: &str) -> bool {
    let number = CHAINS.iter().find_map(|beginning| chain.strip_prefix(beginning));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn request(inner: NfTablesMessage, doing: String) -> Request<NetfilterMessage> {
    Request { message: message(Family::V4, inner), flags: 0, doing }
}

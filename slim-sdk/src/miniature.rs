// SPDX-License-Identifier: Apache-2.0
//! A miniature of the SDK's layout for tests: two actions, the types and shapes they share and those they do not, and a waiter.

use crate::layout::Source;

/// The miniature's source. `DescribeTags` is called by the tests' daemon, `StopThings` is not.
pub(crate) fn sdk() -> Source {
    FILES.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

const FILES: [(&str, &str); 23] = [
    (
        "lib.rs",
        "#![allow(deprecated)]\npub use error_meta::Error;\n\n/// See [`stop`](crate::operation::stop_things).\npub mod client;\n\npub mod config;\n\nmod error_meta;\n\nmod lens;\n\npub mod operation;\n\npub(crate) mod protocol_serde;\n\nmod serde_util;\n\npub mod types;\n\n/// Waiters.\npub mod waiters;\n",
    ),
    (
        "client.rs",
        "pub struct Client {\n    handle: u8,\n}\nimpl Client {\n    pub fn from_conf(conf: crate::Config) -> Self {\n    }\n}\n\npub trait Waiters {\n    fn wait(&self) -> crate::waiters::stopped::Builder;\n}\nimpl Waiters for Client {\n    fn wait(&self) -> crate::waiters::stopped::Builder {\n    }\n}\n\npub mod customize;\n\nmod describe_tags;\n\nmod stop_things;\n",
    ),
    ("client/customize.rs", "pub struct Customize;\n"),
    (
        "client/describe_tags.rs",
        "impl super::Client {\n    pub fn describe_tags(&self) -> crate::operation::describe_tags::builders::Fluent {\n    }\n}\n",
    ),
    (
        "client/stop_things.rs",
        "impl super::Client {\n    pub fn stop_things(&self) -> crate::operation::stop_things::Fluent {\n    }\n}\n",
    ),
    ("config.rs", "pub struct Config {\n}\n"),
    (
        "error_meta.rs",
        "pub enum Error {\n    Unhandled(u8),\n}\nimpl From<crate::operation::describe_tags::DescribeTagsError> for Error {\n}\nimpl<R>\n    From<crate::operation::stop_things::StopThingsError>\n    for Error\n{\n}\n",
    ),
    (
        "lens.rs",
        "pub(crate) fn reflens_describe_tags(\n    input: &crate::operation::describe_tags::DescribeTagsOutput,\n) {\n}\n\npub(crate) fn reflens_stop_things(\n    input: &crate::operation::stop_things::StopThingsOutput,\n) {\n}\n",
    ),
    (
        "operation.rs",
        "pub use ::aws_types::request_id::RequestId;\n\n/// Types for `DescribeTags`.\npub mod describe_tags;\n\n/// Types for `StopThings`.\npub mod stop_things;\n",
    ),
    (
        "operation/describe_tags.rs",
        "pub mod builders;\npub struct DescribeTagsOutput {\n    pub tags: ::std::option::Option<\n        ::std::vec::Vec<crate::types::Tag>,\n    >,\n}\nfn next() {\n    crate::lens::reflens_describe_tags(x);\n    crate::protocol_serde::shape_tag::de_tag(x);\n}\n",
    ),
    (
        "operation/describe_tags/builders.rs",
        "pub struct Fluent;\nimpl Fluent {\n    pub fn filters(self, input: crate::types::Filter) -> Self {\n    }\n}\n",
    ),
    ("operation/stop_things.rs", "pub struct StopThingsOutput {\n    pub thing: crate::types::Thing,\n}\n"),
    (
        "protocol_serde.rs",
        "pub(crate) fn type_erase<O>(\n) {\n}\n\npub(crate) mod shape_tag;\n\npub(crate) mod shape_thing;\n",
    ),
    (
        "protocol_serde/shape_tag.rs",
        "pub fn de_tag() {\n    crate::serde_util::tag_correct_errors(x);\n    crate::types::builders::TagBuilder::default();\n}\n",
    ),
    ("protocol_serde/shape_thing.rs", "pub fn de_thing() -> crate::types::Thing {\n}\n"),
    (
        "serde_util.rs",
        "pub(crate) fn tag_correct_errors(\n    builder: crate::types::builders::TagBuilder,\n) {\n}\n\npub(crate) fn thing_correct_errors(\n    builder: crate::types::builders::ThingBuilder,\n) {\n}\n",
    ),
    (
        "types.rs",
        "pub use crate::types::_tag::Tag;\n\npub use crate::types::_filter::Filter;\n\npub use crate::types::_thing::Thing;\n\nmod _tag;\n\nmod _filter;\n\nmod _thing;\n\n/// Builders\npub mod builders;\n",
    ),
    ("types/builders.rs", "pub use crate::types::_tag::TagBuilder;\n\npub use crate::types::_thing::ThingBuilder;\n"),
    ("types/_tag.rs", "pub struct Tag {\n    pub key: u8,\n}\npub struct TagBuilder;\n"),
    ("types/_filter.rs", "pub struct Filter {\n    pub name: u8,\n}\n"),
    ("types/_thing.rs", "pub struct Thing {\n    pub id: u8,\n}\npub struct ThingBuilder;\n"),
    ("waiters.rs", "pub mod stopped;\n"),
    ("waiters/stopped.rs", "pub struct Builder {\n    pub of: crate::operation::stop_things::StopThingsOutput,\n}\n"),
];

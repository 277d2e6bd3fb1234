// SPDX-License-Identifier: Apache-2.0
//! Writes the XML of the EC2 query protocol.
//!
//! Only writes: elements with text or children, escaped, no attributes but the namespace of the root. Reading is the
//! client's business.
//!
//! Invariant: every element that is opened is closed, because children are written by a closure.
//!
//! Worked example: `leaf("key", "a<b")` writes `<key>a&lt;b</key>`.
//!
//! Source: EC2 API reference, "Query requests" and the response examples of each action.

use std::fmt::{Display, Write};

/// The namespace of API version 2016-11-15.
pub const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// Writes text as the inside of an element.
struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(['&', '<', '>', '"']) {
            self.0.push_str(&rest[..at]);
            self.0.push_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                _ => "&quot;",
            });
            rest = &rest[at + 1..];
        }
        self.0.push_str(rest);
        Ok(())
    }
}

/// An XML text being written.
#[derive(Debug, Default)]
pub(crate) struct Xml {
    out: String,
}

impl Xml {
    /// What `write` writes: the inside of an answer.
    pub(crate) fn inside(write: impl FnOnce(&mut Self)) -> Self {
        let mut xml = Self::default();
        write(&mut xml);
        xml
    }

    /// The inside of the answer to an action that returns nothing.
    pub(crate) fn done() -> Self {
        Self::inside(|xml| xml.leaf("return", true))
    }

    /// The inside of an answer that was given before.
    pub(crate) fn again(inside: &str) -> Self {
        Self { out: inside.to_owned() }
    }

    /// The text so far.
    pub(crate) fn as_str(&self) -> &str {
        &self.out
    }

    /// The whole answer to an action that succeeded: `<{action}Response>` with its request id and this inside.
    pub(crate) fn response(action: &str, request_id: &str, inside: Self) -> String {
        let mut xml = Self { out: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n") };
        let _infallible = write!(xml.out, "<{action}Response xmlns=\"{NAMESPACE}\">");
        xml.leaf("requestId", request_id);
        xml.out.push_str(&inside.out);
        let _infallible = write!(xml.out, "</{action}Response>");
        xml.out
    }

    /// The whole answer to an action that failed. The case of `RequestID` is the service's own.
    pub(crate) fn error(code: &str, message: &str, request_id: &str) -> String {
        let mut xml = Self { out: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n") };
        xml.element("Response", |xml| {
            xml.element("Errors", |xml| {
                xml.element("Error", |xml| {
                    xml.leaf("Code", code);
                    xml.leaf("Message", message);
                });
            });
            xml.leaf("RequestID", request_id);
        });
        xml.out
    }

    /// An element with children.
    pub(crate) fn element(&mut self, name: &str, children: impl FnOnce(&mut Self)) {
        self.tag("<", name);
        children(self);
        self.tag("</", name);
    }

    fn tag(&mut self, open: &str, name: &str) {
        self.out.push_str(open);
        self.out.push_str(name);
        self.out.push('>');
    }

    /// An element with text.
    pub(crate) fn leaf(&mut self, name: &str, value: impl Display) {
        self.tag("<", name);
        let _infallible = write!(Escaped(&mut self.out), "{value}");
        self.tag("</", name);
    }

    /// A list: a wrapper with one `item` per entry.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        entries: impl IntoIterator<Item = T>,
        mut item: impl FnMut(&mut Self, T),
    ) {
        self.element(name, |xml| {
            for entry in entries {
                xml.element("item", |xml| item(xml, entry));
            }
        });
    }

    /// The tag set of a resource.
    pub(crate) fn tags(&mut self, tags: &std::collections::BTreeMap<String, String>) {
        self.list("tagSet", tags, |xml, (key, value)| {
            xml.leaf("key", key);
            xml.leaf("value", value);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_elements_are_closed() {
        let inside = Xml::inside(|xml| xml.list("tagSet", ["a<b", "\"c\"&d"], |xml, value| xml.leaf("value", value)));
        let text = Xml::response("DescribeTags", "r-1", inside);
        assert!(text.contains("<DescribeTagsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">"));
        assert!(text.contains("<item><value>a&lt;b</value></item><item><value>&quot;c&quot;&amp;d</value></item>"));
        assert!(text.ends_with("</tagSet></DescribeTagsResponse>"));
    }

    #[test]
    fn an_error_names_its_request_in_capitals() {
        let text = Xml::error("InvalidAction", "no", "r-2");
        assert!(text.contains("<Code>InvalidAction</Code><Message>no</Message>"));
        assert!(text.ends_with("<RequestID>r-2</RequestID></Response>"));
    }
}

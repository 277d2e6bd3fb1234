// SPDX-License-Identifier: Apache-2.0
//! The response as it comes: informational heads are left out, then one head, data, and trailers, which end it (RFC 9113, section 8.1).
//!
//! Invariant: a whole response has a head with one `:status`; pseudo fields stand before all others and there are none in trailers.

use crate::http2::Http2Error;
use crate::http2::hpack::{Field, find};

/// What the peer answered.
#[derive(Debug)]
pub(crate) struct Response {
    limit: usize,
    status: Option<u16>,
    head: Vec<Field>,
    body: Vec<u8>,
    trailers: Vec<Field>,
    is_whole: bool,
}

impl Response {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, status: None, head: Vec::new(), body: Vec::new(), trailers: Vec::new(), is_whole: false }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// `:status`.
    pub(crate) fn status(&self) -> u16 {
        self.status.unwrap_or_default()
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// A field of the head.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        find(&self.head, name)
    }

    /// A field of the trailers, or of the head of a response that is nothing but a head.
    pub(crate) fn last_field(&self, name: &str) -> Option<&[u8]> {
        let is_head_alone = self.body.is_empty() && self.trailers.is_empty();
        find(if is_head_alone { &self.head } else { &self.trailers }, name)
    }

    /// All fields of the head.
    #[cfg(test)]
    pub(super) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.head.iter()
    }

    /// All of the trailers.
    #[cfg(test)]
    pub(super) fn trailers(&self) -> impl Iterator<Item = &Field> {
        self.trailers.iter()
    }

    pub(super) fn add_fields(&mut self, fields: Vec<Field>, ends: bool) -> Result<(), Http2Error> {
        if fields.iter().any(|field| field.name.is_empty() || field.name.iter().any(u8::is_ascii_uppercase)) {
            return Err(Http2Error::Violated("a header field's name with capitals, or none"));
        }
        let pseudo = fields.iter().take_while(|field| field.name.starts_with(b":")).count();
        if fields.iter().skip(pseudo).any(|field| field.name.starts_with(b":")) {
            return Err(Http2Error::Violated("a pseudo field after others"));
        }
        if self.status.is_some() {
            return self.add_trailers(fields, pseudo, ends);
        }
        let status = match fields.split_first() {
            Some((first, _)) if pseudo == 1 && first.name == b":status" => status(&first.value),
            _ => None,
        };
        match status {
            None => Err(Http2Error::Violated("a response without `:status`")),
            // Nothing is upgraded here, so it is information.
            Some(100..200) if ends => Err(Http2Error::Violated("a response that ends with information")),
            Some(100..200) => Ok(()),
            Some(status) => {
                (self.status, self.head, self.is_whole) = (Some(status), fields, ends);
                Ok(())
            }
        }
    }

    fn add_trailers(&mut self, fields: Vec<Field>, pseudo: usize, ends: bool) -> Result<(), Http2Error> {
        if pseudo > 0 || !ends {
            return Err(Http2Error::Violated("trailers that do not end the response, or with pseudo fields"));
        }
        (self.trailers, self.is_whole) = (fields, true);
        Ok(())
    }

    pub(super) fn add_data(&mut self, data: &[u8], ends: bool) -> Result<(), Http2Error> {
        if self.status.is_none() {
            return Err(Http2Error::Violated("data before the head"));
        }
        if self.body.len() + data.len() > self.limit {
            return Err(Http2Error::TooLarge(self.limit));
        }
        self.body.extend(data);
        self.is_whole = ends;
        Ok(())
    }
}

/// Three digits.
fn status(value: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() == 3)?;
    text.parse().ok().filter(|status| (100..1_000).contains(status))
}

// SPDX-License-Identifier: Apache-2.0
//! What the runtime says is there (GC): `cni.dev/valid-attachments`, and `cni.dev/attachments`, as it was called in the first releases
//! of the CNI library that had it. Where both are given what either has is kept.
//!
//! A list that is not there is an error and never an empty one: that would take every pod of the node down. `null` is not one either,
//! but not the runtime's mistake: libcni writes it for a list that is nil (`GCNetworkList` called with `GCArgs` that name none, as
//! ocicni and Multus can). Nothing is taken down for it then, and that is no error.

use ipam_api::rpc::Attachment;
use serde_json::{Map, Value};

use crate::error::{CniError, Code};
use crate::reason::Reason;

/// The keys, the specification's first.
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

/// The list, in its order; `None`: it is `null` under each key that is there. Code 7 when there is no key, or for the element that
/// names no attachment.
pub(super) fn attachments(keys: &Map<String, Value>) -> Result<Option<Vec<Attachment>>, CniError> {
    let mut given: Vec<_> = KEYS.iter().filter_map(|key| Some((key, keys.get(*key)?))).collect();
    if given.is_empty() {
        let message = format!(
            "GC needs the list of what is still there, `{}`, in the network configuration: there is none, so nothing is taken down",
            KEYS[0]
        );
        return Err(CniError::new(Code::Config, Reason::ParametersInvalid, message));
    }
    given.retain(|(_, value)| !value.is_null());
    if given.is_empty() {
        return Ok(None);
    }
    let mut found = Vec::new();
    for (key, value) in given {
        let Some(list) = value.as_array() else {
            return Err(super::invalid(key, "a list of {\"containerID\", \"ifname\"}", value));
        };
        for (place, element) in list.iter().enumerate() {
            let attachment = attachment(element).ok_or_else(|| {
                let what = format!("{key}[{place}]");
                super::invalid(&what, "an object with the texts `containerID` and `ifname`", element)
            })?;
            if !found.contains(&attachment) {
                found.push(attachment);
            }
        }
    }
    Ok(Some(found))
}

fn attachment(element: &Value) -> Option<Attachment> {
    let text = |key| element.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Attachment { container_id: text("containerID")?, if_name: text("ifname")? })
}

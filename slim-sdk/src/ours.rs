// SPDX-License-Identifier: Apache-2.0
//! What our own code names of the SDK: read from the source of the crates that depend on it, so that there is no list to keep.

use crate::Error;
use crate::layout::{Source, code, items, name};
use crate::reach::Wanted;

/// All actions and types that the SDK has.
///
/// # Errors
/// [`Error::Layout`] where the index of types cannot be read.
pub fn catalog(source: &Source) -> Result<Wanted, Error> {
    let action = |path: &String| Some(path.strip_prefix("operation/")?.strip_suffix(".rs")?.to_owned());
    let actions = source.keys().filter_map(action).filter(|action| !action.contains('/')).collect();
    let index = source.get("types.rs").map_or("", String::as_str);
    let types = items("types.rs", index)?.into_iter().filter_map(name).map(str::to_owned).collect();
    Ok(Wanted { actions, types })
}

/// The actions and types of the SDK's `catalog` that `ours` names.
///
/// Any word of the code that is also an action's name counts: one too many costs a little, one too few would not compile. A type
/// that no action of ours refers to has to be imported: by name, or `types::*`.
#[must_use]
pub fn wanted(ours: &Source, catalog: &Wanted) -> Wanted {
    let mut wanted = Wanted::default();
    for text in ours.values() {
        let code = code(text).collect::<Vec<_>>().join("\n");
        wanted.actions.extend(words(&code).filter(|word| catalog.actions.contains(*word)).map(str::to_owned));
        if code.contains("aws_sdk_ec2") {
            wanted.types.extend(types(&code).filter(|word| catalog.types.contains(*word)).map(str::to_owned));
        }
    }
    wanted
}

/// What follows each `types::`: the names of `{A, B}`, that of `A…`, and for `*` all words of the file.
fn types(code: &str) -> impl Iterator<Item = &str> {
    code.split("types::").skip(1).flat_map(move |rest| {
        let list = match rest.chars().next() {
            Some('{') => rest.split('}').next().unwrap_or_default(),
            Some('*') => code,
            _ => words(rest).next().unwrap_or_default(),
        };
        words(list)
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> (Vec<String>, Vec<String>) {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let actions = set(&["describe_subnets", "describe_vpcs", "stop_instances"]);
        let catalog = Wanted { actions, types: set(&["Filter", "Subnet", "Tag", "Vpc"]) };
        let wanted = wanted(&Source::from([("ec2.rs".to_owned(), text.to_owned())]), &catalog);
        (wanted.actions.into_iter().collect(), wanted.types.into_iter().collect())
    }

    #[test]
    fn calls_are_found_however_they_are_written_and_comments_are_not() {
        let text = "// stop_instances is not called\nfn f() {\n    client\n        .describe_subnets()\n        .send();\n    call!(Client::describe_vpcs, &client);\n}\n";
        assert_eq!(named(text).0, ["describe_subnets", "describe_vpcs"]);
    }

    #[test]
    fn types_are_found_however_they_are_imported_and_types_of_ours_are_not() {
        for (text, found) in [
            (
                "use aws_sdk_ec2::types::{\n    Filter,\n    Tag as SdkTag,\n};\nstruct Vpc;\n",
                ["Filter", "Tag"].as_slice(),
            ),
            ("fn f(x: aws_sdk_ec2::types::Subnet) -> Vpc {}\n", &["Subnet"]),
            ("use aws_sdk_ec2::{Client, types::{Filter, Tag}, error};\nstruct Vpc;\n", &["Filter", "Tag"]),
            ("use aws_sdk_ec2::types;\nfn f(x: types::Vpc) -> Tag {}\n", &["Vpc"]),
            ("use aws_sdk_ec2::types::*;\nfn f(x: Vpc) -> Tag {}\n", &["Tag", "Vpc"]),
            ("use crate::types::Subnet;\n", &[]),
        ] {
            assert_eq!(named(text).1, found, "{text}");
        }
    }
}

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
/// Any word of the code that is also an action's name counts: one too many costs a little, one too few would not compile.
#[must_use]
pub fn wanted(ours: &Source, catalog: &Wanted) -> Wanted {
    let mut wanted = Wanted::default();
    for text in ours.values() {
        let code = code(text).collect::<Vec<_>>().join("\n");
        wanted.actions.extend(words(&code).filter(|word| catalog.actions.contains(*word)).map(str::to_owned));
        for (at, found) in code.match_indices("aws_sdk_ec2::types::") {
            let imported = imported(&code[at + found.len()..]);
            wanted.types.extend(imported.into_iter().filter(|name| catalog.types.contains(name)));
        }
    }
    wanted
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The types of `{A, B}` or of `A…`.
fn imported(text: &str) -> Vec<String> {
    let list = match text.strip_prefix('{') {
        Some(rest) => rest.split('}').next().unwrap_or_default(),
        None => words(text).next().unwrap_or_default(),
    };
    words(list).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_imports_are_found_and_comments_are_not() {
        let text = "use aws_sdk_ec2::types::{\n    Filter,\n    Tag as SdkTag,\n};\n// describe_vpcs is not called\nfn f(x: aws_sdk_ec2::types::Subnet) {\n    client\n        .describe_subnets()\n        .send();\n}\n";
        let ours = Source::from([("ec2.rs".to_owned(), text.to_owned())]);
        let actions = ["describe_subnets", "describe_vpcs"].map(str::to_owned).into();
        let types = ["Filter", "Tag", "Subnet", "Vpc"].map(str::to_owned).into();
        let wanted = wanted(&ours, &Wanted { actions, types });
        assert_eq!(wanted.actions, ["describe_subnets".to_owned()].into());
        assert_eq!(wanted.types, ["Filter", "Tag", "Subnet"].map(str::to_owned).into());
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Completions for bash, zsh and fish: commands, their options, and values that are known here.
//!
//! Nothing is asked of the daemon while a line is completed: a shell must not hang because a daemon does.

use std::fmt::Write as _;

use super::{COMMANDS, CommandRow, OptionRow, Values};

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// The script for a shell.
#[must_use]
pub fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

/// The words that something can be, as far as they are known.
fn known(values: Values) -> Vec<&'static str> {
    match values {
        Values::Any | Values::File => Vec::new(),
        Values::OneOf(words) | Values::Perhaps(words) => words.to_vec(),
        Values::Command => COMMANDS.iter().map(|row| row.name).collect(),
        Values::Reason => crate::cli::reasons::names().collect(),
    }
}

fn dashed(row: &CommandRow) -> Vec<String> {
    let letters = row.options.iter().filter_map(|option| option.letter).map(|letter| format!("-{letter}"));
    let names = row.options.iter().map(|option| format!("--{}", option.name));
    letters.chain(names).chain(std::iter::once("--help".to_owned())).collect()
}

fn bash() -> String {
    let mut values = String::new();
    let mut words = String::new();
    for row in COMMANDS {
        for option in row.options.iter().filter(|option| option.value.is_some()) {
            let letter = option.letter.map(|letter| format!("|{}:-{letter}", row.name)).unwrap_or_default();
            let reply = match option.values {
                Values::File => "compopt -o default; COMPREPLY=()".to_owned(),
                values => format!("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", known(values).join(" ")),
            };
            let _ = writeln!(values, "        {}:--{}{letter}) {reply}; return ;;", row.name, option.name);
        }
        let arguments = row.argument.map(|argument| known(argument.values).join(" ")).unwrap_or_default();
        let _ = writeln!(words, "        {}) words='{} {arguments}' ;;", row.name, dashed(row).join(" "));
    }
    let names: Vec<_> = COMMANDS.iter().map(|row| row.name).collect();
    format!(
        "# bash completions for ipamd; made by `ipamd completions bash`\n\
         _ipamd() {{\n    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= words= i\n    \
         for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${{COMP_WORDS[i]}} in\n            -*) ;;\n            \
         *) command=${{COMP_WORDS[i]}}; break ;;\n        esac\n    done\n    \
         case $command:$prev in\n{values}    esac\n    case $command in\n        '') words='{} --help --version' ;;\n\
         {words}    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}}\ncomplete -F _ipamd ipamd\n",
        names.join(" ")
    )
}

/// Between single quotes, with what `_arguments` and `_describe` split at.
fn zsh_text(text: &str) -> String {
    text.replace('\'', "'\\''").replace(['[', '('], "").replace([']', ')'], "").replace(':', "\\:")
}

fn zsh_values(values: Values) -> String {
    match values {
        Values::Any => String::new(),
        Values::File => "_files".to_owned(),
        values => format!("({})", known(values).join(" ")),
    }
}

fn zsh_option(option: &OptionRow) -> String {
    let star = if option.repeats { "*" } else { "" };
    let brief = zsh_text(option.brief);
    let value = option.value.map(|value| format!(":{}:{}", zsh_text(value), zsh_values(option.values)));
    let value = value.unwrap_or_default();
    let long = format!("'{star}--{}[{brief}]{value}'", option.name);
    option.letter.map_or_else(|| long.clone(), |letter| format!("'{star}-{letter}[{brief}]{value}' {long}"))
}

fn zsh() -> String {
    let mut commands = String::new();
    let mut cases = String::new();
    for row in COMMANDS {
        let _ = writeln!(commands, "        '{}:{}'", row.name, zsh_text(row.brief));
        let mut words: Vec<String> = row.options.iter().map(zsh_option).collect();
        words.push("'--help[print the help]'".to_owned());
        words.extend(row.argument.map(|argument| {
            let optional = if argument.is_needed { "" } else { ":" };
            format!("'1:{optional}{}:{}'", zsh_text(argument.name), zsh_values(argument.values))
        }));
        let _ = writeln!(cases, "        {}) _arguments {} ;;", row.name, words.join(" "));
    }
    format!(
        "#compdef ipamd\n# zsh completions for ipamd; made by `ipamd completions zsh`\n_ipamd() {{\n    local -a commands\n    \
         commands=(\n{commands}    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n    \
         local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in\n{cases}    esac\n}}\n\
         if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _ipamd \"$@\"; else compdef _ipamd ipamd; fi\n"
    )
}

fn fish_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

fn fish() -> String {
    let mut text =
        String::from("# fish completions for ipamd; made by `ipamd completions fish`\ncomplete -c ipamd -f\n");
    for row in COMMANDS {
        let CommandRow { name, brief, .. } = row;
        let _ = writeln!(text, "complete -c ipamd -n __fish_use_subcommand -a {name} -d '{}'", fish_text(brief));
        let seen = format!("-n '__fish_seen_subcommand_from {name}'");
        for option in row.options {
            let letter = option.letter.map(|letter| format!(" -s {letter}")).unwrap_or_default();
            let value = match (option.value, option.values) {
                (None, _) => String::new(),
                (Some(_), Values::File) => " -r -F".to_owned(),
                (Some(_), values) => format!(" -x -a '{}'", known(values).join(" ")),
            };
            let brief = fish_text(option.brief);
            let _ = writeln!(text, "complete -c ipamd {seen}{letter} -l {}{value} -d '{brief}'", option.name);
        }
        if let Some(words) = row.argument.map(|argument| known(argument.values)).filter(|words| !words.is_empty()) {
            let _ = writeln!(text, "complete -c ipamd {seen} -a '{}'", words.join(" "));
        }
    }
    text + "complete -c ipamd -s h -l help -d 'print the help'\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_every_command_and_option() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = script(shell);
            for row in COMMANDS {
                assert!(text.contains(row.name), "{shell:?} {}", row.name);
                for option in row.options {
                    let sign = if shell == Shell::Fish { "-l " } else { "--" };
                    assert!(text.contains(&format!("{sign}{}", option.name)), "{shell:?} {} {}", row.name, option.name);
                }
            }
            assert_eq!(text.matches('{').count(), text.matches('}').count(), "{shell:?}");
        }
    }
}

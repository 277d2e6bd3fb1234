// SPDX-License-Identifier: Apache-2.0
//! As much of a shell as the pages' commands need: words, quotes, comments, pipes, variables before a command, here-strings.

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Command {
    /// `NAME=value` before it, or given to it by `env`.
    pub(crate) environment: Vec<(String, String)>,
    /// Its words.
    pub(crate) words: Vec<String>,
    /// What `<<<` gives it.
    pub(crate) input: Option<String>,
    /// Whether it reads what another one writes.
    pub(crate) is_piped: bool,
    /// Its line in the text, from 0.
    pub(crate) line: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// The next command; whether through a pipe.
    Next(bool),
    /// Redirection, by its sign: the next word is no argument.
    To(&'static str),
}

/// The commands of a text.
pub(crate) fn commands(text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut command = Command::default();
    let mut redirected: Option<&str> = None;
    for (line, token) in tokens(text) {
        match token {
            Token::Word(word) => match redirected.take() {
                Some("<<<") => command.input = Some(word),
                Some(_) => {}
                None => {
                    if command.words.is_empty() {
                        command.line = line;
                    }
                    command.words.push(word);
                }
            },
            Token::To(sign) => redirected = Some(sign),
            Token::Next(is_piped) => {
                commands.push(std::mem::take(&mut command));
                command.is_piped = is_piped;
            }
        }
    }
    commands.push(command);
    commands.into_iter().map(plain).filter(|command| !command.words.is_empty()).collect()
}

/// Without what stands before it: variables, `sudo`, `env` with its own variables.
fn plain(mut command: Command) -> Command {
    loop {
        match command.words.first().map(String::as_str) {
            Some("sudo" | "env" | "-i" | "time") => {}
            Some(word) => match word.split_once('=') {
                Some((name, value)) if !name.is_empty() && name.chars().all(|it| it == '_' || it.is_alphanumeric()) => {
                    command.environment.push((name.to_owned(), value.to_owned()));
                }
                _ => return command,
            },
            None => return command,
        }
        command.words.remove(0);
    }
}

fn tokens(text: &str) -> Vec<(usize, Token)> {
    let letters: Vec<char> = text.chars().collect();
    let (mut tokens, mut line, mut at) = (Vec::new(), 0, 0);
    while let Some(&letter) = letters.get(at) {
        let rest = |sign: &str| sign.chars().enumerate().all(|(n, it)| letters.get(at + n) == Some(&it));
        at += match letter {
            '\n' => {
                tokens.push((line, Token::Next(false)));
                line += 1;
                1
            }
            '\\' if letters.get(at + 1) == Some(&'\n') => {
                line += 1;
                2
            }
            ' ' | '\t' => 1,
            '#' => letters[at..].iter().take_while(|letter| **letter != '\n').count(),
            '|' | '&' | ';' => {
                // A line may end with a pipe, and the command go on in the next.
                let signs = letters[at..].iter().take_while(|letter| matches!(letter, '|' | '&' | ';')).count();
                let blank = letters[at + signs..].iter().take_while(|letter| letter.is_whitespace());
                let after: Vec<&char> = if letter == ';' { Vec::new() } else { blank.collect() };
                tokens.push((line, Token::Next(signs == 1 && letter == '|')));
                line += after.iter().filter(|letter| ***letter == '\n').count();
                signs + after.len()
            }
            '<' if rest("<<<") => {
                tokens.push((line, Token::To("<<<")));
                3
            }
            '>' | '<' if letters.get(at + 1) != Some(&'(') => {
                tokens.push((line, Token::To(">")));
                letters[at..].iter().take_while(|letter| matches!(letter, '<' | '>')).count()
            }
            _ => {
                let (word, length) = word(&letters[at..]);
                let begin = line;
                line += letters[at..at + length].iter().filter(|letter| **letter == '\n').count();
                tokens.push((begin, Token::Word(word)));
                length
            }
        };
    }
    tokens
}

/// The word at the start, without its quotes, and how many letters it takes.
fn word(letters: &[char]) -> (String, usize) {
    let (mut word, mut at) = (String::new(), 0);
    let (mut quote, mut depth) = (None, 0_usize);
    while let Some(&letter) = letters.get(at) {
        match (quote, letter) {
            (Some(open), letter) if open == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None | Some('"'), '\\') => {
                at += 1;
                word.extend(letters.get(at).filter(|letter| **letter != '\n'));
            }
            (Some(_), letter) => word.push(letter),
            (None, '(') => {
                depth += 1;
                word.push('(');
            }
            (None, ')') if depth > 0 => {
                depth -= 1;
                word.push(')');
            }
            (None, letter) if depth > 0 => word.push(letter),
            (None, ' ' | '\t' | '\n' | '|' | '&' | ';') => break,
            (None, '<' | '>') if letters.get(at + 1) != Some(&'(') => break,
            (None, letter) => word.push(letter),
        }
        at += 1;
    }
    (word, at)
}

#[cfg(test)]
fn words(text: &str) -> Vec<Vec<String>> {
    commands(text).into_iter().map(|command| command.words).collect()
}

#[test]
fn words_are_a_shells() {
    assert_eq!(words("make demo # twice\nmake test\n"), [["make", "demo"], ["make", "test"]]);
    assert_eq!(words("a 'b c' \"d e\"f \\\n  g"), [["a", "b c", "d ef", "g"]]);
    assert_eq!(words("a |\n  b && c; d"), [["a"], ["b"], ["c"], ["d"]]);
    assert_eq!(words("a '{\"b\":\n 1}' $(c d) >e"), [["a", "{\"b\":\n 1}", "$(c d)"]]);
    assert_eq!(words("#only a comment\n"), Vec::<Vec<String>>::new());
}

#[test]
fn what_stands_before_a_command_and_what_it_is_given_are_told() {
    let text = "x | env -i A=1 B='2 3' ipamd config --file - <<<'classes: []'";
    let command = commands(text).pop().unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(command.environment, [pair("A", "1"), pair("B", "2 3")]);
    assert_eq!(command.words, ["ipamd", "config", "--file", "-"]);
    assert_eq!((command.input.as_deref(), command.is_piped), (Some("classes: []"), true));
    assert_eq!(commands("\na\n\nb").iter().map(|command| command.line).collect::<Vec<_>>(), [1, 3]);
}

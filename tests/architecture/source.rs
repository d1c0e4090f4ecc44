//! A source file as the rules see it: code without comments and without what stands in quotes, as tokens with their
//! place.

use std::ops::Range;

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Path from the package's root, with `/` on every system.
    pub(crate) path: String,
    /// The text with comments as blanks and the inside of quotes as `_`: of the same length, in the same lines.
    code: String,
    /// The tokens of `code`, by where they stand there.
    spans: Vec<Range<usize>>,
    /// Items that only tests see.
    tests: Vec<Range<usize>>,
    /// Modules with a body of their own in this file.
    inline_modules: Vec<(String, Range<usize>)>,
}

/// A function with a body.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// From `fn` to the closing brace.
    pub(crate) span: Range<usize>,
}

/// A path in code or in a `use`, with groups taken apart: `crate::{a, b::C}` is two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Where it begins.
    pub(crate) offset: usize,
    /// `crate`, `signal`, `Span`; the last may be `*`.
    pub(crate) segments: Vec<String>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = mask(text);
        let spans = tokenize(&code);
        let mut source = Self { path: path.to_owned(), code, spans, tests: Vec::new(), inline_modules: Vec::new() };
        source.tests = source.find_tests();
        source.inline_modules = source.find_inline_modules();
        source
    }

    /// The line of an offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        1 + self.code.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Whether only tests see what stands here: a file `tests.rs`, or an item under `#[cfg(test)]`.
    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.tests.iter().any(|range| range.contains(&offset))
    }

    /// How many lines of this span hold code that is not only for tests.
    pub(crate) fn code_lines(&self, span: Range<usize>) -> usize {
        let mut offset = span.start;
        let mut count = 0;
        for line in self.code[span].split_inclusive('\n') {
            if let Some(first) = line.find(|character: char| !character.is_whitespace()) {
                count += usize::from(!self.is_test(offset + first));
            }
            offset += line.len();
        }
        count
    }

    pub(crate) fn whole(&self) -> Range<usize> {
        0..self.code.len()
    }

    /// Lines that hold code, with their numbers.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        lines.filter(|(_, line)| !line.is_empty())
    }

    pub(crate) fn text(&self, index: usize) -> &str {
        self.spans.get(index).map_or("", |span| &self.code[span.clone()])
    }

    /// Where these tokens follow one another.
    pub(crate) fn sequences(&self, tokens: &[&str]) -> Vec<usize> {
        let starts = (0..self.spans.len()).filter(|&start| self.follows(start, tokens));
        starts.map(|start| self.spans[start].start).collect()
    }

    /// Names of the modules with a body in this file that this place is in, outermost first.
    pub(crate) fn inline_modules_at(&self, offset: usize) -> impl Iterator<Item = &str> {
        self.inline_modules.iter().filter(move |(_, span)| span.contains(&offset)).map(|(name, _)| name.as_str())
    }

    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for index in 0..self.spans.len() {
            if self.text(index) != "fn" || !is_word(self.text(index + 1)) {
                continue;
            }
            if let Some(open) = self.body(index) {
                let span = self.spans[index].start..self.spans[self.closing(open)].end;
                functions.push(Function { name: self.text(index + 1).to_owned(), span });
            }
        }
        functions
    }

    /// Every path, those of one segment too; but not who may see an item, as in `pub(super)`.
    pub(crate) fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        let mut index = 0;
        while index < self.spans.len() {
            let before = index.checked_sub(1).map_or("", |before| self.text(before));
            let before_that = index.checked_sub(2).map_or("", |before| self.text(before));
            let goes_on = before == "." || before == "::" && (is_word(before_that) || before_that == ">");
            let visibility = before == "(" && before_that == "pub";
            if is_word(self.text(index)) && !goes_on && !visibility {
                index = self.path_tree(index, &[], &mut paths);
            } else {
                index += 1;
            }
        }
        paths
    }

    /// Adds what the path at this token, behind these segments, names. Returns the token behind it.
    fn path_tree(&self, mut index: usize, before: &[String], paths: &mut Vec<Path>) -> usize {
        let offset = self.spans[index].start;
        let mut segments = before.to_vec();
        loop {
            match self.text(index) {
                "{" => return self.path_group(index, &segments, paths),
                "self" if !segments.is_empty() => {}
                segment => segments.push(segment.to_owned()),
            }
            let next = self.text(index + 2);
            if self.text(index + 1) != "::" || !(is_word(next) || next == "{" || next == "*") {
                paths.push(Path { offset, segments });
                return index + 1;
            }
            index += 2;
        }
    }

    /// The same for a group in braces.
    fn path_group(&self, open: usize, before: &[String], paths: &mut Vec<Path>) -> usize {
        let close = self.closing(open);
        let mut index = open + 1;
        while index < close {
            let token = self.text(index);
            index = if token == "as" {
                index + 2
            } else if is_word(token) || token == "*" || token == "{" {
                self.path_tree(index, before, paths)
            } else {
                index + 1
            };
        }
        close + 1
    }

    fn follows(&self, start: usize, tokens: &[&str]) -> bool {
        tokens.iter().enumerate().all(|(index, token)| self.text(start + index) == *token)
    }

    /// The brace that opens the body of the item at this token; `None` if it ends in `;` before.
    fn body(&self, start: usize) -> Option<usize> {
        let mut depth = 0_i32;
        for index in start..self.spans.len() {
            match self.text(index) {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                ";" if depth == 0 => return None,
                "{" if depth == 0 => return Some(index),
                _ => {}
            }
        }
        None
    }

    /// The token that closes the bracket at this one; the last token if none does.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0_i32;
        for index in open..self.spans.len() {
            match self.text(index) {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return index;
            }
        }
        self.spans.len() - 1
    }

    fn find_tests(&self) -> Vec<Range<usize>> {
        let mut tests = Vec::new();
        for start in 0..self.spans.len() {
            let plain = self.follows(start, &["#", "[", "cfg", "(", "test", ")"]);
            if plain || self.follows(start, &["#", "[", "cfg", "(", "all", "(", "test", ","]) {
                tests.push(self.spans[start].start..self.spans[self.item_end(start)].end);
            }
        }
        tests
    }

    /// The last token of the item whose first attribute stands here.
    fn item_end(&self, start: usize) -> usize {
        let mut index = start;
        while self.text(index) == "#" {
            index = self.closing(index + 1) + 1;
        }
        let is_use = self.follows(index, &["use"]) || self.follows(index, &["pub", "use"]);
        let mut depth = 0_i32;
        while index < self.spans.len() {
            match self.text(index) {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                ";" if depth == 0 => return index,
                "{" if is_use => index = self.closing(index),
                "{" if depth == 0 => return self.closing(index),
                _ => {}
            }
            index += 1;
        }
        self.spans.len() - 1
    }

    fn find_inline_modules(&self) -> Vec<(String, Range<usize>)> {
        let starts = (0..self.spans.len()).filter(|&index| self.text(index) == "mod" && self.text(index + 2) == "{");
        let module = |index: usize| {
            let span = self.spans[index].start..self.spans[self.closing(index + 2)].end;
            (self.text(index + 1).to_owned(), span)
        };
        starts.map(module).collect()
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(is_word_part)
}

fn is_word_part(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// Words, `::`, and every other character by itself.
fn tokenize(code: &str) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = code[start..].chars().next() {
        let rest = &code[start..];
        let length = if is_word_part(first) {
            rest.find(|character| !is_word_part(character)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(start..start + length);
        }
        start += length;
    }
    tokens
}

/// The text with comments blanked and the inside of quotes filled; lines and offsets stay what they are.
fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    while let Some(first) = text[masked.len()..].chars().next() {
        let rest = &text[masked.len()..];
        let word = rest.find(|character| !is_word_part(character)).unwrap_or(rest.len());
        if rest.starts_with("//") {
            fill(&mut masked, rest, rest.find('\n').unwrap_or(rest.len()), ' ');
        } else if rest.starts_with("/*") {
            fill(&mut masked, rest, block_comment(rest), ' ');
        } else if let Some(length) = raw_string(&rest[..word], &rest[word..]) {
            fill(&mut masked, rest, word + length, '_');
        } else if word > 0 {
            masked.push_str(&rest[..word]);
        } else if let Some(length) = quoted(rest) {
            fill(&mut masked, rest, length, '_');
        } else {
            masked.push(first);
        }
    }
    masked
}

/// Adds as many bytes as `length`, whatever they were, but for line ends.
fn fill(masked: &mut String, rest: &str, length: usize, with: char) {
    masked.extend(rest[..length].bytes().map(|byte| if byte == b'\n' { '\n' } else { with }));
}

/// Length of the block comment that the text begins with; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let rest = &text.as_bytes()[at..];
        (depth, at) = match rest {
            [b'/', b'*', ..] => (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth - 1, at + 2),
            [_, ..] => (depth, at + 1),
            [] => return at,
        };
        if depth == 0 {
            return at;
        }
    }
}

/// Length of the raw string that follows this word, if it is one that begins a raw string.
fn raw_string(word: &str, rest: &str) -> Option<usize> {
    if !matches!(word, "r" | "br" | "cr") {
        return None;
    }
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let inside = rest[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(inside.find(&end).map_or(rest.len(), |length| hashes + 1 + length + end.len()))
}

/// Length of the string or character that the text begins with. A lifetime is neither.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    let mut inside = text[1..].chars();
    if quote == '\'' {
        let first = inside.next()?;
        if first != '\\' {
            return (inside.next() == Some('\'')).then_some(2 + first.len_utf8());
        }
    }
    let mut escaped = false;
    for (at, character) in text[1..].char_indices() {
        if character == quote && !escaped {
            return Some(at + 2);
        }
        escaped = character == '\\' && !escaped;
    }
    Some(text.len())
}

//! User agent strings: the browser's name and version, and the family of its operating system.
//!
//! Browsers have frozen much of what they say: Windows 11 calls itself `Windows NT 10.0`, every Mac `10_15_7`. A version
//! of the operating system is therefore never claimed.

use woothee::parser::Parser;

/// Longest part of a string that is looked at, in bytes.
const LOOKED_AT_MAX: usize = 512;

/// What a user agent string says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    name: Option<Box<str>>,
    version: Option<Box<str>>,
    os: Option<&'static str>,
}

/// The families of operating systems. Stored sessions name them by their place here: only ever add to the end.
pub const OS_FAMILIES: [&str; 6] = ["Windows", "Android", "iOS", "ChromeOS", "macOS", "Linux"];

/// Browsers that call themselves something else first: the token that gives them away.
const TOKENS: [(&str, &str); 9] = [
    ("HeadlessChrome/", "HeadlessChrome"),
    ("EdgiOS/", "Edge"),
    ("EdgA/", "Edge"),
    ("Edg/", "Edge"),
    ("Teams/", "Teams"),
    ("OPR/", "Opera"),
    ("Vivaldi/", "Vivaldi"),
    ("CriOS/", "Chrome"),
    ("FxiOS/", "Firefox"),
];

/// What woothee calls every program that is no browser.
const HTTP_LIBRARY: &str = "HTTP Library";

impl Agent {
    /// Reads a user agent string. What is not understood is left out.
    #[must_use]
    pub fn parse(user_agent: &str) -> Self {
        let looked_at = user_agent.get(..user_agent.floor_char_boundary(LOOKED_AT_MAX)).unwrap_or_default();
        let os = os(looked_at);
        if let Some((name, version)) = named_by_token(looked_at) {
            return Self { name: Some(name.into()), version, os };
        }
        let parsed = Parser::new().parse(looked_at);
        let said = |text: &str| (!text.is_empty() && text != "UNKNOWN").then(|| Box::from(text));
        match parsed.filter(|parsed| parsed.name != HTTP_LIBRARY) {
            Some(parsed) => Self { name: said(family(parsed.name)), version: said(parsed.version), os },
            // Programs such as `curl/8.0` name themselves first.
            None => {
                let mut product = looked_at.split([' ', '(']).next().unwrap_or_default().splitn(2, '/');
                let name = product.next().filter(|name| !name.is_empty() && name.len() <= 32 && *name != "Mozilla");
                let version = name.and_then(|_| product.next()).and_then(said);
                Self { name: name.filter(|_| version.is_some()).map(Box::from), version, os }
            }
        }
    }

    /// What was read out of a string before; `os` is one of [`OS_FAMILIES`].
    #[must_use]
    pub fn from_parts(name: Option<&str>, version: Option<&str>, os: Option<&'static str>) -> Self {
        Self { name: name.map(Box::from), version: version.map(Box::from), os }
    }

    /// The name of the browser or program, for example `Chrome`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its version, as it says it.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The version up to the first dot.
    #[must_use]
    pub fn major_version(&self) -> Option<&str> {
        self.version().and_then(|version| version.split('.').next())
    }

    /// The family of the operating system, for example `Windows`.
    #[must_use]
    pub const fn os(&self) -> Option<&'static str> {
        self.os
    }
}

fn named_by_token(user_agent: &str) -> Option<(&'static str, Option<Box<str>>)> {
    TOKENS.iter().find_map(|(token, name)| {
        let after = user_agent.get(user_agent.find(token)? + token.len()..)?;
        let end = after.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(after.len());
        let version = after.get(..end).filter(|version| !version.is_empty());
        Some((*name, version.map(Box::from)))
    })
}

fn family(name: &str) -> &str {
    if name == "Internet Explorer" || !name.starts_with("Internet") { name } else { "" }
}

/// The order matters: Android says Linux too, an iPhone says Mac OS X, and ChromeOS says X11.
fn os(user_agent: &str) -> Option<&'static str> {
    const FAMILIES: [(&str, &str); 9] = [
        ("Windows", "Windows"),
        ("Android", "Android"),
        ("iPhone", "iOS"),
        ("iPad", "iOS"),
        ("iPod", "iOS"),
        ("CrOS", "ChromeOS"),
        ("Mac OS X", "macOS"),
        ("Macintosh", "macOS"),
        ("Linux", "Linux"),
    ];
    FAMILIES.iter().find(|(token, _)| user_agent.contains(token)).map(|(_, family)| *family)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(user_agent: &str, expected: (&str, &str, &str)) {
        let agent = Agent::parse(user_agent);
        let said = (agent.name().unwrap_or("-"), agent.major_version().unwrap_or("-"), agent.os().unwrap_or("-"));
        assert_eq!(said, expected, "{user_agent}");
        assert!(agent.os().is_none_or(|os| OS_FAMILIES.contains(&os)), "{user_agent}");
    }

    #[test]
    fn browsers_of_today_and_of_yesterday() {
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
        check(chrome, ("Chrome", "126", "Windows"));
        check(&format!("{chrome} Edg/126.0.2592.87"), ("Edge", "126", "Windows"));
        check(&format!("{chrome} OPR/112.0.0.0"), ("Opera", "112", "Windows"));
        check(&chrome.replace("Chrome/", "HeadlessChrome/"), ("HeadlessChrome", "126", "Windows"));
        check(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:58.0) Gecko/20100101 Firefox/58.0",
            ("Firefox", "58", "Windows"),
        );
        check(
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
            ("Safari", "17", "macOS"),
        );
        check(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 16_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.5 Mobile/15E148 Safari/604.1",
            ("Safari", "16", "iOS"),
        );
        check(
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
            ("Chrome", "126", "Android"),
        );
        check(
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36",
            ("Chrome", "125", "ChromeOS"),
        );
        check("Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", ("Firefox", "127", "Linux"));
        check(
            "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
            ("Internet Explorer", "11", "Windows"),
        );
    }

    #[test]
    fn programs_and_nonsense() {
        check("curl/8.0.1", ("curl", "8", "-"));
        check("Go-http-client/1.1", ("Go-http-client", "1", "-"));
        check("", ("-", "-", "-"));
        check("Weird 'UA'; UserAgent: x", ("-", "-", "-"));
        check(&"Å".repeat(100_000), ("-", "-", "-"));
    }
}

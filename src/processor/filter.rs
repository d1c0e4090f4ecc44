//! Who is left out, and what becomes of personal data.
//!
//! Exclusion sees clear values. Whatever is kept longer than one event is made here: an [`Identity`] holds only what may
//! be sent, and in the modes `hash` and `drop` the only thing that tells two users apart is a keyed hash.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::event::{User, caseless, text};
use crate::signal::Encoded;

use super::generations::Generations;
use super::hashing::Seeded;
use super::ids::{Ids, UserKey, hex};

/// Users to leave out: both patterns have to match, without case, `*` for any text and `?` for any one character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludeRule {
    /// Pattern of the user directory; an absent directory is the empty text.
    pub directory: String,
    /// Pattern of the user id inside the directory.
    pub user: String,
}

/// What becomes of one kind of personal data, before anything is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Handling {
    /// Sent as it is.
    #[default]
    Keep,
    /// Replaced by a keyed hash.
    Hash,
    /// Left out.
    Drop,
}

impl Handling {
    /// The one that tells less.
    #[must_use]
    pub const fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Drop, _) | (_, Self::Drop) => Self::Drop,
            (Self::Hash, _) | (_, Self::Hash) => Self::Hash,
            (Self::Keep, Self::Keep) => Self::Keep,
        }
    }
}

/// What becomes of personal data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privacy {
    /// User directory and user id.
    pub user: Handling,
    /// The browser's User-Agent string and what is read out of it.
    pub user_agent: Handling,
    /// The address of the client.
    pub client_address: Handling,
}

/// The rules of who is left out, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Exclusions {
    rules: Vec<(Vec<char>, Vec<char>)>,
}

impl Exclusions {
    /// Takes the rules in.
    #[must_use]
    pub fn new(rules: &[ExcludeRule]) -> Self {
        let pattern = |text: &str| caseless(text).chars().collect();
        Self { rules: rules.iter().map(|rule| (pattern(&rule.directory), pattern(&rule.user))).collect() }
    }

    /// Whether this user is left out.
    #[must_use]
    pub fn excludes(&self, directory: Option<&str>, user: &str) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let (directory, user) = (caseless(directory.unwrap_or_default()), caseless(user));
        self.rules.iter().any(|(in_directory, of_user)| matches(in_directory, &directory) && matches(of_user, &user))
    }
}

/// Whether a pattern of `*` and `?` fits a whole text. Each `*` is tried at its first fitting place and moved on from
/// there, which is enough, and keeps the time within the product of both lengths.
fn matches(pattern: &[char], text: &str) -> bool {
    let mut rest = text.chars();
    let mut position = 0;
    let mut last_star: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        if pattern.get(position) == Some(&'*') {
            position += 1;
            last_star = Some((position, rest.clone()));
            continue;
        }
        let mut ahead = rest.clone();
        match (pattern.get(position), ahead.next()) {
            (None, None) => return true,
            (Some(&wanted), Some(found)) if wanted == '?' || wanted == found => {
                position += 1;
                rest = ahead;
            }
            _ => {
                let Some((after_star, from)) = &mut last_star else { return false };
                if from.next().is_none() {
                    return false;
                }
                position = *after_star;
                rest = from.clone();
            }
        }
    }
}

/// A user as it may be kept and sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who it is, for comparing: the same in any spelling, and in any mode.
    pub key: UserKey,
    /// `DIR\user`, or the user alone where there is no directory.
    pub user_id: Option<Box<str>>,
    /// The user id inside the directory.
    pub user_name: Option<Box<str>>,
    /// The user directory.
    pub directory: Option<Box<str>>,
    /// 32 hexadecimal digits that stand for the user.
    pub user_hash: Option<Box<str>>,
    /// What the user is called in a sentence.
    pub label: Box<str>,
    /// Its attributes, encoded.
    pub encoded: Encoded,
}

/// Identities that are in use, each kept once.
#[derive(Debug)]
pub struct Identities {
    /// The longest `user_id`, in bytes.
    length_max: usize,
    hasher: Seeded,
    known: Generations<Identity>,
}

impl Identities {
    /// None yet. A `DIR\user` that is longer than `length_max` bytes is cut.
    #[must_use]
    pub fn new(length_max: usize) -> Self {
        Self { length_max, hasher: Seeded::default(), known: Generations::default() }
    }

    /// The identity of a user, as far as `handling` allows.
    #[must_use]
    pub fn identify(&mut self, ids: &Ids, handling: Handling, user: &User<'_>) -> Arc<Identity> {
        let directory = user.directory.as_deref();
        if handling == Handling::Keep {
            let hash = self.hasher.hash_one((directory, &*user.name));
            let same = |known: &Identity| {
                known.directory.as_deref() == directory && known.user_name.as_deref() == Some(&*user.name)
            };
            let rehash = |known: &Identity| {
                self.hasher.hash_one((known.directory.as_deref(), known.user_name.as_deref().unwrap_or_default()))
            };
            return self.known.get(hash, same, || clear(ids, user, self.length_max), rehash);
        }
        // The clear user must not be kept, so the hash is made each time.
        self.identify_key(handling, key_of(ids, user))
    }

    /// The identity of a user of whom no more than the key is known; `handling` is the one of all the others.
    pub(super) fn identify_key(&mut self, handling: Handling, key: UserKey) -> Arc<Identity> {
        let hash = self.hasher.hash_one(key);
        let make = || Identity::concealed(key, handling);
        self.known.get(hash, |known| known.key == key, make, |known| self.hasher.hash_one(known.key))
    }
}

fn key_of(ids: &Ids, user: &User<'_>) -> UserKey {
    ids.user_key(&caseless(user.directory.as_deref().unwrap_or_default()), &caseless(&user.name))
}

fn clear(ids: &Ids, user: &User<'_>, length_max: usize) -> Identity {
    let user_id = match &user.directory {
        Some(directory) => Cow::Owned(format!("{directory}\\{}", user.name)),
        None => Cow::Borrowed(&*user.name),
    };
    let user_id = text::cut(&user_id, length_max);
    Identity {
        key: key_of(ids, user),
        user_id: Some(user_id.as_ref().into()),
        user_name: Some(user.name.as_ref().into()),
        directory: user.directory.as_deref().map(Box::from),
        user_hash: None,
        label: user_id.as_ref().into(),
        encoded: Encoded::new(),
    }
}

impl Identity {
    /// A user of whom only the key may be kept, and with [`Handling::Hash`] be sent.
    pub(super) fn concealed(key: UserKey, handling: Handling) -> Self {
        let hash = (handling == Handling::Hash).then(|| hex(&key));
        let label = match hash.as_deref().and_then(|hash| hash.get(..8)) {
            Some(beginning) => format!("user {beginning}").into(),
            None => "a user".into(),
        };
        let encoded = Encoded::new();
        Self { key, user_id: None, user_name: None, directory: None, user_hash: hash, label, encoded }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::processor::ids::Key;

    fn ids() -> Ids {
        Ids::new(&Key::new(b"a key for tests only"))
    }

    fn user<'a>(directory: &'a str, name: &'a str) -> User<'a> {
        User { directory: (!directory.is_empty()).then_some(directory.into()), name: name.into() }
    }

    fn rule(directory: &str, user: &str) -> ExcludeRule {
        ExcludeRule { directory: directory.to_owned(), user: user.to_owned() }
    }

    #[test]
    fn a_rule_needs_both_patterns_and_no_case() {
        let exclusions = Exclusions::new(&[rule("INTERNAL", "sa_*"), rule("", "robot?"), rule("*", "ÅSA")]);
        assert!(exclusions.excludes(Some("internal"), "SA_Repository"));
        assert!(!exclusions.excludes(Some("LAB"), "sa_repository"));
        assert!(exclusions.excludes(None, "Robot7"));
        assert!(!exclusions.excludes(None, "robot"));
        assert!(!exclusions.excludes(Some("LAB"), "robot7"), "an empty pattern is an absent directory");
        assert!(exclusions.excludes(Some("any"), "åsa"));
        assert!(!Exclusions::default().excludes(None, "anyone"));
    }

    /// The definition, word for word.
    fn fits(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((&'*', rest)), _) => {
                fits(rest, text) || text.split_first().is_some_and(|(_, text)| fits(pattern, text))
            }
            (Some((&wanted, rest)), Some((&found, text))) => (wanted == '?' || wanted == found) && fits(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_they_are_defined(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let (chars, of_text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&chars, &text), fits(&chars, &of_text));
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern: Vec<char> = "*a".repeat(50).chars().chain("b".chars()).collect();
        assert!(!matches(&pattern, &"a".repeat(65_507)));
    }

    #[test]
    fn a_kept_user_is_spelled_as_sent_and_compared_without_case() {
        let mut identities = Identities::new(64);
        let one = identities.identify(&ids(), Handling::Keep, &user("LAB", "Goran"));
        let other = identities.identify(&ids(), Handling::Keep, &user("lab", "goran"));
        assert_eq!(one.user_id.as_deref(), Some("LAB\\Goran"));
        assert_eq!(other.user_id.as_deref(), Some("lab\\goran"));
        assert_eq!(one.key, other.key);
        let alone = identities.identify(&ids(), Handling::Keep, &user("", "goran"));
        assert_eq!(alone.user_id.as_deref(), Some("goran"));
        assert_ne!(alone.key, one.key);
        assert!(Arc::ptr_eq(&one, &identities.identify(&ids(), Handling::Keep, &user("LAB", "Goran"))));
    }

    #[test]
    fn a_concealed_user_is_nowhere_in_what_is_kept() {
        for handling in [Handling::Hash, Handling::Drop] {
            let mut identities = Identities::new(64);
            let identity = identities.identify(&ids(), handling, &user("LAB", "goran"));
            let kept = format!("{identities:?}").to_lowercase();
            assert!(!kept.contains("goran") && !kept.contains("lab\\"), "{kept}");
            assert_eq!(identity.user_hash.is_some(), handling == Handling::Hash);
            assert_eq!(identity.key, identities.identify(&ids(), handling, &user("lab", "GORAN")).key);
        }
    }
}

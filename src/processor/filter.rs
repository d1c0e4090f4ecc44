//! Who is left out, and what becomes of personal data.
//!
//! Exclusion sees clear values. Whatever is kept longer than one event is made here: an [`Identity`] holds only what may
//! be sent, and in the modes `hash` and `drop` the only thing that tells two users apart is a keyed hash.

use std::borrow::Cow;
use std::fmt;
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

/// A user as it may be kept and sent. Each open session holds one, and mostly its own: so all that is said of a user is
/// one text, which lies within the identity if it is short.
#[derive(PartialEq, Eq)]
pub struct Identity {
    /// Who it is, for comparing: the same in any spelling, and in any mode.
    pub key: UserKey,
    name: Name,
}

/// Bytes of a `DIR\user` that lie within the identity.
const SHORT_MAX: usize = 20;

/// Where there is no directory, in the place of its length.
const NO_DIRECTORY: u32 = u32::MAX;

/// How a user is spelled.
#[derive(PartialEq, Eq)]
enum Name {
    /// `DIR\user`, or the user alone.
    Short { has_directory: bool, directory: u8, length: u8, text: [u8; SHORT_MAX] },
    /// The same, longer. The length of the directory stands beside it.
    Long(u32, Box<str>),
    /// The same, longer than an attribute may be.
    Cut(Box<CutName>),
    /// `user` and 32 hexadecimal digits.
    Hash(Box<str>),
    /// Nothing of it.
    Dropped,
}

#[derive(PartialEq, Eq)]
struct CutName {
    user_id: Box<str>,
    name: Box<str>,
    directory: Option<Box<str>>,
}

/// What stands before the digits of a user who is hashed.
const HASHED: &str = "user ";

/// A user who was heard of lately.
#[derive(Debug)]
pub struct Recent {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// Its attributes, encoded.
    pub encoded: Encoded,
}

/// How many users a generation of the cache holds. In a site of 5,000 users at work, one of 1,024 forgot nearly everyone
/// before the next event, and making them again took 5,600 of the 36,000 instructions of an event. Users whose names are as
/// long as the default limit allows take some 64 MiB in both generations at the very most; the usual ones, 3 MiB.
const GENERATION_MAX: usize = 4096;

/// Users who were heard of lately, each kept once.
#[derive(Debug)]
pub struct Identities {
    /// The longest `user_id`, in bytes.
    length_max: usize,
    hasher: Seeded,
    known: Generations<Recent>,
}

impl Identities {
    /// None yet. A `DIR\user` that is longer than `length_max` bytes is cut.
    #[must_use]
    pub fn new(length_max: usize) -> Self {
        Self { length_max, hasher: Seeded::default(), known: Generations::new(GENERATION_MAX) }
    }

    /// The identity of a user, as far as `handling` allows.
    #[must_use]
    pub fn identify(&mut self, ids: &Ids, handling: Handling, user: &User<'_>) -> Arc<Recent> {
        let directory = user.directory.as_deref();
        if handling == Handling::Keep {
            let hash = self.hasher.hash_one((directory, &*user.name));
            let same = |known: &Recent| known.identity.name.is(directory, &user.name);
            let rehash = |known: &Recent| {
                let Recent { identity, .. } = known;
                self.hasher.hash_one((identity.directory(), identity.user_name().unwrap_or_default()))
            };
            return self.known.get(hash, same, || clear(ids, user, self.length_max).into(), rehash);
        }
        // The clear user must not be kept, so the hash is made each time.
        self.identify_key(handling, key_of(ids, user))
    }

    /// The identity of a user of whom no more than the key is known; `handling` is the one of all the others.
    pub(super) fn identify_key(&mut self, handling: Handling, key: UserKey) -> Arc<Recent> {
        let hash = self.hasher.hash_one(key);
        let make = || Identity::concealed(key, handling).into();
        let rehash = |known: &Recent| self.hasher.hash_one(known.identity.key);
        self.known.get(hash, |known| known.identity.key == key, make, rehash)
    }
}

impl From<Identity> for Recent {
    fn from(identity: Identity) -> Self {
        Self { identity: Arc::new(identity), encoded: Encoded::new() }
    }
}

fn key_of(ids: &Ids, user: &User<'_>) -> UserKey {
    ids.user_key(&caseless(user.directory.as_deref().unwrap_or_default()), &caseless(&user.name))
}

fn clear(ids: &Ids, user: &User<'_>, length_max: usize) -> Identity {
    Identity { key: key_of(ids, user), name: Name::new(user.directory.as_deref(), &user.name, length_max) }
}

impl Name {
    fn new(directory: Option<&str>, name: &str, length_max: usize) -> Self {
        let user_id = match directory {
            Some(directory) => Cow::Owned(format!("{directory}\\{name}")),
            None => Cow::Borrowed(name),
        };
        if user_id.len() > length_max {
            let user_id = text::cut(&user_id, length_max).as_ref().into();
            return Self::Cut(Box::new(CutName { user_id, name: name.into(), directory: directory.map(Box::from) }));
        }
        let mut text = [0; SHORT_MAX];
        match text.get_mut(..user_id.len()) {
            Some(place) => {
                place.copy_from_slice(user_id.as_bytes());
                let (directory, length) = (directory.map(|directory| directory.len() as u8), user_id.len() as u8);
                let has_directory = directory.is_some();
                Self::Short { has_directory, directory: directory.unwrap_or_default(), length, text }
            }
            None => {
                let directory = directory.and_then(|directory| u32::try_from(directory.len()).ok());
                Self::Long(directory.unwrap_or(NO_DIRECTORY), user_id.as_ref().into())
            }
        }
    }

    /// `DIR\user`, and the length of the directory if there is one.
    fn parts(&self) -> Option<(&[u8], Option<usize>)> {
        match self {
            Self::Short { has_directory, directory, length, text } => {
                let text = text.get(..usize::from(*length)).unwrap_or_default();
                Some((text, has_directory.then_some(usize::from(*directory))))
            }
            Self::Long(directory, text) => {
                Some((text.as_bytes(), (*directory != NO_DIRECTORY).then_some(*directory as usize)))
            }
            Self::Cut(_) | Self::Hash(_) | Self::Dropped => None,
        }
    }

    /// Whether it is this one, letter by letter.
    fn is(&self, directory: Option<&str>, name: &str) -> bool {
        match (self, self.parts()) {
            (Self::Cut(cut), _) => cut.directory.as_deref() == directory && *cut.name == *name,
            (_, Some((text, Some(length)))) => {
                directory.is_some_and(|directory| text.get(..length) == Some(directory.as_bytes()))
                    && text.get(length + 1..) == Some(name.as_bytes())
            }
            (_, Some((text, None))) => directory.is_none() && text == name.as_bytes(),
            (_, None) => false,
        }
    }
}

impl Identity {
    /// A user of whom only the key may be kept, and with [`Handling::Hash`] be sent.
    pub(super) fn concealed(key: UserKey, handling: Handling) -> Self {
        let name = match handling {
            Handling::Hash => Name::Hash(format!("{HASHED}{}", hex(&key)).into()),
            Handling::Keep | Handling::Drop => Name::Dropped,
        };
        Self { key, name }
    }

    /// All that may be told: id, name, directory and hash. At once, because each look at a short name checks that it is
    /// a text.
    #[must_use]
    pub fn told(&self) -> [Option<&str>; 4] {
        let (text, directory) = match (&self.name, self.name.parts()) {
            (Name::Cut(cut), _) => return [Some(&cut.user_id), Some(&cut.name), cut.directory.as_deref(), None],
            (Name::Hash(text), _) => return [None, None, None, text.get(HASHED.len()..)],
            // It was a text, whole, so that the fallback is never taken.
            (_, Some((text, directory))) => (std::str::from_utf8(text).unwrap_or_default(), directory),
            (_, None) => return [None; 4],
        };
        match directory {
            Some(length) => [Some(text), text.get(length + 1..), text.get(..length), None],
            None => [Some(text), Some(text), None, None],
        }
    }

    /// `DIR\user`, or the user alone where there is no directory.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        let [user_id, ..] = self.told();
        user_id
    }

    /// The user id inside the directory.
    #[must_use]
    pub fn user_name(&self) -> Option<&str> {
        let [_, name, ..] = self.told();
        name
    }

    /// The user directory.
    #[must_use]
    pub fn directory(&self) -> Option<&str> {
        let [_, _, directory, _] = self.told();
        directory
    }

    /// 32 hexadecimal digits that stand for the user.
    #[must_use]
    pub fn user_hash(&self) -> Option<&str> {
        let [.., hash] = self.told();
        hash
    }

    /// What the user is called in a sentence.
    #[must_use]
    pub fn label(&self) -> &str {
        let [user_id, ..] = self.told();
        self.label_with(user_id)
    }

    /// The same where the `user_id` is at hand, which costs a look each time.
    pub(super) fn label_with<'a>(&'a self, user_id: Option<&'a str>) -> &'a str {
        match &self.name {
            Name::Hash(text) => text.get(..HASHED.len() + 8).unwrap_or(text),
            Name::Dropped => "a user",
            _ => user_id.unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("key", &self.key).field("told", &self.told()).finish()
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
        assert_eq!(one.identity.user_id(), Some("LAB\\Goran"));
        assert_eq!(other.identity.user_id(), Some("lab\\goran"));
        assert_eq!(one.identity.key, other.identity.key);
        let alone = identities.identify(&ids(), Handling::Keep, &user("", "goran"));
        assert_eq!(alone.identity.user_id(), Some("goran"));
        assert_ne!(alone.identity.key, one.identity.key);
        assert!(Arc::ptr_eq(&one, &identities.identify(&ids(), Handling::Keep, &user("LAB", "Goran"))));
    }

    #[test]
    fn a_concealed_user_is_nowhere_in_what_is_kept() {
        for handling in [Handling::Hash, Handling::Drop] {
            let mut identities = Identities::new(64);
            let identity = Arc::clone(&identities.identify(&ids(), handling, &user("LAB", "goran")).identity);
            let kept = format!("{identities:?}").to_lowercase();
            assert!(!kept.contains("goran") && !kept.contains("lab\\"), "{kept}");
            assert_eq!(identity.user_hash().is_some(), handling == Handling::Hash);
            assert_eq!(identity.key, identities.identify(&ids(), handling, &user("lab", "GORAN")).identity.key);
        }
    }

    proptest! {
        #[test]
        fn a_user_is_told_as_it_was_said(
            directory in proptest::option::of("[a-zÅ€]{0,12}"),
            name in "[a-zÅ€\\\\]{1,20}",
            length_max in 8_usize..40,
        ) {
            let user = User { directory: directory.as_deref().map(Cow::Borrowed), name: name.as_str().into() };
            let identity = clear(&ids(), &user, length_max);
            let whole = directory.as_ref().map_or_else(|| name.clone(), |directory| format!("{directory}\\{name}"));
            let user_id = text::cut(&whole, length_max);
            prop_assert_eq!(identity.user_id(), Some(&*user_id));
            prop_assert_eq!(identity.label(), identity.user_id().unwrap_or_default());
            prop_assert_eq!(identity.user_name(), Some(name.as_str()));
            prop_assert_eq!(identity.directory(), directory.as_deref());
            prop_assert_eq!(identity.user_hash(), None);
            prop_assert!(identity.name.is(directory.as_deref(), &name) && !identity.name.is(directory.as_deref(), "X"));
            prop_assert!(!identity.name.is(directory.is_none().then_some("X"), &name));
        }
    }

    /// With its two counts it fills the allocation of 64 bytes.
    #[test]
    fn an_identity_stays_as_small_as_it_is() {
        assert_eq!(size_of::<Identity>(), 40);
    }

    #[test]
    fn a_hashed_user_is_called_by_its_first_digits() {
        let hashed = Identity::concealed([0xab; 16], Handling::Hash);
        assert_eq!((hashed.label(), hashed.user_hash()), ("user abababab", Some("ab".repeat(16).as_str())));
        let dropped = Identity::concealed([0xab; 16], Handling::Drop);
        assert_eq!((dropped.label(), dropped.user_hash(), dropped.user_id()), ("a user", None, None));
    }
}

//! Who is left out, and what becomes of personal data.

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

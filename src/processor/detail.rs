//! What many events say alike, kept once: browsers and targets.
//!
//! A site has a few dozen browsers and a few hundred apps, and says each of them with every event. Sessions and
//! connections hold them by reference count.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use crate::event::agent::Agent;
use crate::event::{Event, Guid, text};
use crate::signal::Encoded;

use super::filter::Handling;
use super::generations::Generations;
use super::hashing::Seeded;
use super::ids::Ids;

/// The user agent as it may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Browser {
    /// The string and what was read out of it.
    Clear {
        /// The string as sent, cut to the limit.
        original: Box<str>,
        /// What was read out of it.
        agent: Agent,
        /// Its attributes, encoded.
        encoded: Encoded,
    },
    /// Only a keyed hash of the string.
    Hash(Box<str>),
}

/// The client's address as it may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// The address.
    Address(IpAddr),
    /// Only a keyed hash of the address.
    Hash(Arc<str>),
}

/// Where a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The app, where Qlik told one.
    pub app: Option<Guid>,
    /// The same, spelled out.
    pub app_id: Option<Box<str>>,
    /// The app's name, from the event or the names file.
    pub app_name: Option<Box<str>>,
    /// The path of the request.
    pub path: Option<Box<str>>,
    /// How the user came in.
    pub origin: Option<Box<str>>,
    /// The prefix of the virtual proxy.
    pub virtual_proxy: Option<Box<str>>,
    /// Its attributes, encoded.
    pub encoded: Encoded,
}

impl Target {
    /// What to call the target in a sentence.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.app_name.as_deref().or(self.path.as_deref())
    }

    fn says(&self, event: &Event<'_>, path: Option<&str>, app_name: Option<&str>, length_max: usize) -> bool {
        let same = |ours: &Option<Box<str>>, theirs: Option<&str>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => **ours == *text::cut(theirs, length_max),
            (None, None) => true,
            _ => false,
        };
        self.app == event.app_id
            && same(&self.app_name, app_name)
            && same(&self.path, path)
            && same(&self.origin, event.origin.as_deref())
            && same(&self.virtual_proxy, event.virtual_proxy.as_deref())
    }
}

/// How many browsers, and how many targets, a generation of their cache holds: with texts at the default limit, some 8 MiB in
/// both generations of each at the very most.
const GENERATION_MAX: usize = 1024;

/// Everything that is kept once.
#[derive(Debug)]
pub(super) struct Details {
    hasher: Seeded,
    browsers: Generations<Browser>,
    targets: Generations<Target>,
    length_max: usize,
}

impl Details {
    /// Keeps texts up to `length_max` bytes.
    pub(super) fn new(length_max: usize) -> Self {
        Self {
            hasher: Seeded::default(),
            browsers: Generations::new(GENERATION_MAX),
            targets: Generations::new(GENERATION_MAX),
            length_max,
        }
    }

    /// The browser behind a user agent string, if anything of it may be sent.
    pub(super) fn browser(&mut self, user_agent: &str, handling: Handling, ids: &Ids) -> Option<Arc<Browser>> {
        match handling {
            Handling::Drop => None,
            Handling::Hash => Some(Arc::new(Browser::Hash(ids.hash_text("user_agent", user_agent)))),
            Handling::Keep => {
                let original = text::cut(user_agent, self.length_max);
                let hash = self.hasher.hash_one(&*original);
                let same =
                    |browser: &Browser| matches!(browser, Browser::Clear { original: ours, .. } if **ours == *original);
                let make = || Browser::Clear {
                    original: original.as_ref().into(),
                    agent: Agent::parse(user_agent),
                    encoded: Encoded::new(),
                };
                Some(self.browsers.get(hash, same, make, |browser| self.hasher.hash_one(browser.original())))
            }
        }
    }

    /// A clear browser that was stored.
    pub(super) fn restored_browser(&mut self, browser: &Browser) -> Arc<Browser> {
        let hash = self.hasher.hash_one(browser.original());
        let rehash = |known: &Browser| self.hasher.hash_one(known.original());
        self.browsers.get(hash, |known| known == browser, || browser.clone(), rehash)
    }

    /// A target that was stored.
    pub(super) fn restored_target(&mut self, target: &Target) -> Arc<Target> {
        let rehash =
            |target: &Target| self.hasher.hash_one((target.app, target.app_name.as_deref(), target.path.as_deref()));
        self.targets.get(rehash(target), |known| known == target, || target.clone(), rehash)
    }

    /// Where an event leads to; `None` where it says nothing of it.
    pub(super) fn target(&mut self, event: &Event<'_>, app_name: Option<&str>, of_user: Handling) -> Arc<Target> {
        let length_max = self.length_max;
        let path = event.path.as_deref().map(|path| without_identity(path, of_user));
        let path = path.as_deref();
        let key = (event.app_id, app_name, path);
        let hash = self.hasher.hash_one(key);
        let kept = |text: Option<&str>| text.map(|text| Box::from(text::cut(text, length_max).as_ref()));
        let make = || Target {
            app: event.app_id,
            app_id: event.app_id.map(|app| app.to_text().as_str().into()),
            app_name: kept(app_name),
            path: kept(path),
            origin: kept(event.origin.as_deref()),
            virtual_proxy: kept(event.virtual_proxy.as_deref()),
            encoded: Encoded::new(),
        };
        let rehash =
            |target: &Target| self.hasher.hash_one((target.app, target.app_name.as_deref(), target.path.as_deref()));
        self.targets.get(hash, |target| target.says(event, path, app_name, length_max), make, rehash)
    }
}

/// The path as it may be sent. A client may name an identity in it (`/app/<id>/identity/<name>/ttl/60`), and often that is
/// the user's name.
pub(super) fn without_identity(path: &str, of_user: Handling) -> Cow<'_, str> {
    const MARKER: &str = "/identity/";
    if of_user == Handling::Keep {
        return Cow::Borrowed(path);
    }
    let lower = path.to_ascii_lowercase();
    let Some(start) = lower.find(MARKER).map(|found| found + MARKER.len()) else { return Cow::Borrowed(path) };
    let (before, identity) = path.split_at_checked(start).unwrap_or((path, ""));
    let behind = identity.find('/').and_then(|end| identity.get(end..)).unwrap_or_default();
    Cow::Owned(format!("{before}…{behind}"))
}

impl Browser {
    fn original(&self) -> &str {
        match self {
            Self::Clear { original, .. } => original,
            Self::Hash(hash) => hash,
        }
    }
}

/// The client's address, if anything of it may be sent.
pub(super) fn client(address: IpAddr, handling: Handling, ids: &Ids) -> Option<Client> {
    match handling {
        Handling::Drop => None,
        Handling::Hash => Some(Client::Hash(ids.hash_text("client_address", &address.to_string()).into())),
        Handling::Keep => Some(Client::Address(address)),
    }
}

//! Users, browsers, addresses and targets in records, and what becomes of them where privacy has become stricter.

use std::net::IpAddr;
use std::sync::Arc;

use crate::event::agent::{Agent, OS_FAMILIES};
use crate::event::{Guid, User, text};
use crate::processor::detail::{self, Browser, Client, Details, Target};
use crate::processor::filter::{Handling, Identities, Identity, Privacy};
use crate::processor::ids::Ids;
use crate::signal::Encoded;

use super::read::Reader;
use super::write::Writer;

/// How user agents begin that most people have, numbered from 1. Part of the format: only ever add to the end.
const BEGINNINGS: [&str; 5] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/",
];

/// Origins that Qlik writes, numbered from 0. Part of the format: never change it.
const ORIGINS: [&str; 2] = ["AppAccess", "ManagementAccess"];

/// Stands for a keyed hash, where the place of a clear value has a small number.
const HASHED: u8 = 0xff;

/// What is needed to bring details back: what may be kept of them, and where each is kept once.
#[derive(Debug)]
pub(in crate::processor) struct Memory<'a> {
    pub(in crate::processor) ids: &'a Ids,
    pub(in crate::processor) privacy: Privacy,
    pub(in crate::processor) length_max: usize,
    pub(in crate::processor) identities: &'a mut Identities,
    pub(in crate::processor) details: &'a mut Details,
    /// Whether something is stored clear that may not be so any more.
    pub(in crate::processor) concealed: bool,
}

/// A tag: 0 user, 1 directory and user, 2 and 3 the key of a user who is hashed or dropped.
pub(in crate::processor) fn write_identity(writer: &mut Writer<'_>, identity: &Identity) {
    let [_, name, directory, hash] = identity.told();
    match (name, directory) {
        (Some(name), None) => {
            writer.byte(0);
            writer.text(name);
        }
        (Some(name), Some(directory)) => {
            writer.byte(1);
            writer.text(directory);
            writer.text(name);
        }
        (None, _) => {
            writer.byte(if hash.is_some() { 2 } else { 3 });
            writer.bytes(&identity.key);
        }
    }
}

/// A tag: 0 or the number of a beginning, what follows it, name, version and system; or 255 and a hash.
pub(in crate::processor) fn write_browser(writer: &mut Writer<'_>, browser: &Browser) {
    match browser {
        Browser::Hash(hash) => {
            writer.byte(HASHED);
            writer.text(hash);
        }
        Browser::Clear { original, agent, .. } => {
            let known = BEGINNINGS.iter().zip(1_u8..);
            let known = known.filter_map(|(beginning, number)| Some((number, original.strip_prefix(beginning)?)));
            let (beginning, rest) = known.into_iter().next().unwrap_or((0, original));
            writer.byte(beginning);
            writer.text(rest);
            writer.maybe_text(agent.name());
            writer.maybe_text(agent.version());
            let os = agent.os().and_then(|os| OS_FAMILIES.iter().position(|family| *family == os));
            writer.byte(os.and_then(|index| u8::try_from(index + 1).ok()).unwrap_or_default());
        }
    }
}

/// A tag: 4 or 6 and an address, or 255 and a hash.
pub(in crate::processor) fn write_client(writer: &mut Writer<'_>, client: &Client) {
    match client {
        Client::Address(IpAddr::V4(address)) => {
            writer.byte(4);
            writer.bytes(&address.octets());
        }
        Client::Address(IpAddr::V6(address)) => {
            writer.byte(6);
            writer.bytes(&address.octets());
        }
        Client::Hash(hash) => {
            writer.byte(HASHED);
            writer.text(hash);
        }
    }
}

/// Which parts of a target a record holds.
#[derive(Clone, Copy, Debug)]
pub(in crate::processor) struct TargetParts {
    pub(in crate::processor) app: bool,
    pub(in crate::processor) app_name: bool,
    pub(in crate::processor) path: bool,
    pub(in crate::processor) origin: bool,
    /// Whether there is a prefix of a virtual proxy.
    pub(in crate::processor) virtual_proxy: bool,
    /// Whether it is the one of the session.
    pub(in crate::processor) same_proxy: bool,
}

impl TargetParts {
    pub(in crate::processor) fn of(target: &Target, session_proxy: Option<&str>) -> Self {
        Self {
            app: target.app.is_some(),
            app_name: target.app_name.is_some(),
            path: target.path.is_some(),
            origin: target.origin.is_some(),
            virtual_proxy: target.virtual_proxy.is_some(),
            same_proxy: target.virtual_proxy.is_some() && target.virtual_proxy.as_deref() == session_proxy,
        }
    }
}

/// The parts that are there: app (16 bytes), name, prefix unless it is the session's, path, origin.
pub(in crate::processor) fn write_target(writer: &mut Writer<'_>, target: &Target, parts: TargetParts) {
    if let Some(app) = target.app {
        writer.bytes(&app.to_bits().to_be_bytes());
    }
    if let Some(name) = &target.app_name {
        writer.text(name);
    }
    let proxy = target.virtual_proxy.as_deref();
    if let Some(proxy) = proxy.filter(|_| !parts.same_proxy) {
        writer.text(proxy);
    }
    if let Some(path) = &target.path {
        // Almost every path is made of the two, and its text would be the longest part of a connection.
        let rest = target.app_id.as_deref().and_then(|app| {
            let behind_proxy = match proxy {
                Some(proxy) if !proxy.is_empty() => path.strip_prefix('/')?.strip_prefix(proxy)?,
                _ => path,
            };
            behind_proxy.strip_prefix("/app/")?.strip_prefix(app)
        });
        let text = rest.unwrap_or(path);
        writer.number(text.len() as u64 * 2 + u64::from(rest.is_some()));
        writer.bytes(text.as_bytes());
    }
    if let Some(origin) = target.origin.as_deref() {
        match ORIGINS.iter().position(|known| *known == origin) {
            Some(index) => writer.number(index as u64),
            None => {
                writer.number((ORIGINS.len() + origin.len()) as u64);
                writer.bytes(origin.as_bytes());
            }
        }
    }
}

impl Memory<'_> {
    pub(in crate::processor) fn read_identity(&mut self, reader: &mut Reader<'_>) -> Option<Arc<Identity>> {
        let stored = match reader.byte()? {
            0 => return Some(self.known_user(None, reader.text()?)),
            1 => {
                let directory = reader.text()?;
                return Some(self.known_user(Some(directory), reader.text()?));
            }
            2 => Handling::Hash,
            3 => Handling::Drop,
            _ => return None,
        };
        let handling = stored.stricter(self.privacy.user);
        self.concealed |= handling != stored;
        let key = reader.array()?;
        Some(if handling == self.privacy.user {
            Arc::clone(&self.identities.identify_key(handling, key).identity)
        } else {
            // Among clear users the key is not what they are found by.
            Arc::new(Identity::concealed(key, handling))
        })
    }

    fn known_user(&mut self, directory: Option<&str>, name: &str) -> Arc<Identity> {
        self.concealed |= self.privacy.user != Handling::Keep;
        let user = User {
            directory: directory.map(|text| text::cut(text, self.length_max)),
            name: text::cut(name, self.length_max),
        };
        Arc::clone(&self.identities.identify(self.ids, self.privacy.user, &user).identity)
    }

    /// The browser as it may be kept now: `Some(None)` where nothing of it may.
    pub(in crate::processor) fn read_browser(&mut self, reader: &mut Reader<'_>) -> Option<Option<Arc<Browser>>> {
        let handling = self.privacy.user_agent;
        let tag = reader.byte()?;
        if tag == HASHED {
            let hash = reader.text()?;
            self.concealed |= handling == Handling::Drop;
            return Some((handling != Handling::Drop).then(|| Arc::new(Browser::Hash(hash.into()))));
        }
        let beginning = match tag.checked_sub(1) {
            Some(index) => *BEGINNINGS.get(usize::from(index))?,
            None => "",
        };
        let rest = reader.text()?;
        let (name, version) = (reader.maybe_text()?, reader.maybe_text()?);
        let os = match reader.byte()?.checked_sub(1) {
            Some(index) => Some(*OS_FAMILIES.get(usize::from(index))?),
            None => None,
        };
        let original = [beginning, rest].concat();
        if handling != Handling::Keep {
            self.concealed = true;
            return Some(self.details.browser(&original, handling, self.ids));
        }
        let original = text::cut(&original, self.length_max).as_ref().into();
        let agent = Agent::from_parts(name, version, os);
        Some(Some(self.details.restored_browser(&Browser::Clear { original, agent, encoded: Encoded::new() })))
    }

    /// The client as it may be kept now: `Some(None)` where nothing of it may.
    pub(in crate::processor) fn read_client(&mut self, reader: &mut Reader<'_>) -> Option<Option<Client>> {
        let handling = self.privacy.client_address;
        let address = match reader.byte()? {
            4 => IpAddr::from(reader.array::<4>()?),
            6 => IpAddr::from(reader.array::<16>()?),
            HASHED => {
                let hash = reader.text()?;
                self.concealed |= handling == Handling::Drop;
                return Some((handling != Handling::Drop).then(|| Client::Hash(hash.into())));
            }
            _ => return None,
        };
        self.concealed |= handling != Handling::Keep;
        Some(detail::client(address, handling, self.ids))
    }

    /// A target with these parts; `session_proxy` is the prefix of the session.
    pub(in crate::processor) fn read_target(
        &mut self,
        reader: &mut Reader<'_>,
        parts: TargetParts,
        session_proxy: Option<&str>,
    ) -> Option<Arc<Target>> {
        let app = if parts.app { Some(Guid::from_bits(u128::from_be_bytes(reader.array()?))) } else { None };
        let app_name = if parts.app_name { Some(reader.text()?) } else { None };
        let virtual_proxy = match (parts.virtual_proxy, parts.same_proxy) {
            (false, false) => None,
            (true, true) => Some(session_proxy?),
            (true, false) => Some(reader.text()?),
            (false, true) => return None,
        };
        let path = if parts.path { Some(read_path(reader, app, virtual_proxy)?) } else { None };
        let origin = if parts.origin { Some(read_origin(reader)?) } else { None };
        let kept = |text: &str| Box::from(text::cut(text, self.length_max).as_ref());
        let path = path.as_deref().map(|path| {
            let may_be_kept = detail::without_identity(path, self.privacy.user);
            self.concealed |= *may_be_kept != *path;
            kept(&may_be_kept)
        });
        Some(self.details.restored_target(&Target {
            app,
            app_id: app.map(|app| app.to_text().as_str().into()),
            app_name: app_name.map(kept),
            path,
            origin: origin.map(kept),
            virtual_proxy: virtual_proxy.map(kept),
            encoded: Encoded::new(),
        }))
    }

    /// A target of which only the prefix of its virtual proxy is known.
    pub(in crate::processor) fn target_of_proxy(&mut self, virtual_proxy: &str) -> Arc<Target> {
        let virtual_proxy = Some(text::cut(virtual_proxy, self.length_max).as_ref().into());
        let target = Target {
            app: None,
            app_id: None,
            app_name: None,
            path: None,
            origin: None,
            virtual_proxy,
            encoded: Encoded::new(),
        };
        self.details.restored_target(&target)
    }
}

fn read_path(reader: &mut Reader<'_>, app: Option<Guid>, virtual_proxy: Option<&str>) -> Option<String> {
    let number = reader.number()?;
    let text = reader.text_of(number / 2)?;
    if number.is_multiple_of(2) {
        return Some(text.to_owned());
    }
    let app = app?.to_text();
    Some(match virtual_proxy {
        Some(proxy) if !proxy.is_empty() => ["/", proxy, "/app/", app.as_str(), text].concat(),
        _ => ["/app/", app.as_str(), text].concat(),
    })
}

fn read_origin<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    let number = reader.number()?;
    match usize::try_from(number).ok().and_then(|index| ORIGINS.get(index)) {
        Some(known) => Some(known),
        None => reader.text_of(number.checked_sub(ORIGINS.len() as u64)?),
    }
}

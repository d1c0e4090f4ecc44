//! Which sessions somebody wants to see: filters, an order, and how many.

use serde::Deserialize;

use crate::event::caseless;
use crate::processor::view::SessionView;

use super::{Happening, Picture};

/// The most sessions of one answer.
pub const LIMIT_MAX: usize = 10_000;

/// The most sessions of one answer to a page, each second.
pub(super) const PAGE_LIMIT_MAX: usize = 1000;

/// What stands behind the `?` of an address. Names that are not known are refused: a filter with a slip of the pen would
/// otherwise show everyone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Asked {
    /// Part of the user, directory included.
    user: String,
    /// Part of the name or id of an app that is open.
    app: String,
    /// Part of the name of the node.
    node: String,
    order: Order,
    limit: Option<usize>,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    /// The session that began last.
    #[default]
    Newest,
    /// The session that began first.
    Oldest,
    /// The session that was heard of last.
    Active,
    /// By user, in the order of the alphabet.
    User,
}

/// The same, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Query {
    user: String,
    app: String,
    node: String,
    order: Order,
    limit: usize,
}

/// What a query finds in a picture.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// How many there are.
    pub(super) matching: usize,
    /// Those that are shown, in order.
    pub(super) sessions: Vec<&'a SessionView>,
}

impl Asked {
    /// The query, with at most `limit_max` sessions in an answer.
    pub(super) fn query(&self, limit_default: usize, limit_max: usize) -> Query {
        let part = |text: &str| caseless(text.trim()).into_owned();
        Query {
            user: part(&self.user),
            app: part(&self.app),
            node: part(&self.node),
            order: self.order,
            limit: self.limit.unwrap_or(limit_default).min(limit_max),
        }
    }
}

impl Query {
    /// The sessions that are asked for.
    pub(super) fn find<'a>(&self, picture: &'a Picture) -> Found<'a> {
        let mut sessions: Vec<&SessionView> = picture.sessions.iter().filter(|session| self.wants(session)).collect();
        let matching = sessions.len();
        // All of them need not be in order, only the ones that are shown. Equal ones always come in the same order.
        let by = |left: &&SessionView, right: &&SessionView| {
            let order = match self.order {
                Order::Newest => right.start.cmp(&left.start),
                Order::Oldest => left.start.cmp(&right.start),
                Order::Active => right.last_activity.cmp(&left.last_activity),
                Order::User => left.identity.label().cmp(right.identity.label()).then(left.start.cmp(&right.start)),
            };
            order.then(left.span_id.cmp(&right.span_id))
        };
        if self.limit == 0 {
            sessions.clear();
        } else if matching > self.limit {
            sessions.select_nth_unstable_by(self.limit - 1, by);
            sessions.truncate(self.limit);
        }
        sessions.sort_unstable_by(by);
        Found { matching, sessions }
    }

    /// Whether an event is of whom or what is asked for.
    pub(super) fn wants_event(&self, happening: &Happening) -> bool {
        is_part(&self.user, &happening.user)
            && is_part(&self.node, &happening.node)
            && is_part(&self.app, &happening.app)
    }

    fn wants(&self, session: &SessionView) -> bool {
        is_part(&self.user, session.identity.label())
            && is_part(&self.node, &session.node.name)
            && (self.app.is_empty()
                || session.connections.iter().any(|connection| {
                    let texts = [&connection.target.app_name, &connection.target.app_id, &connection.target.path];
                    texts.into_iter().flatten().any(|text| is_part(&self.app, text))
                }))
    }
}

fn is_part(part: &str, whole: &str) -> bool {
    part.is_empty() || caseless(whole).contains(part)
}

//! What a Context tells: the app, the virtual proxy, the path, and a trace that led here.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr3};

use super::text::{self, trim, trim_slashes};
use super::value::Values;
use super::{Guid, TraceParent};

/// What a Context tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Context<'a> {
    pub(super) app_id: Option<Guid>,
    pub(super) path: Option<Cow<'a, str>>,
    pub(super) virtual_proxy: Option<Cow<'a, str>>,
    pub(super) traceparent: Option<TraceParent>,
}

/// Reads a Context: a path with a query as Qlik writes it, with or without its leading slash, or a whole URL.
///
/// The path ends at the `separator` of the fields: what follows one may be the beginning of the message, which must not
/// be taken for a path.
pub(super) fn read(context: &str, separator: u8, values: Values) -> Context<'_> {
    let context = trim(context);
    let bytes = context.as_bytes();
    let end = memchr3(b'?', b'#', separator, bytes).unwrap_or(context.len());
    let (path, behind) = context.split_at_checked(end).unwrap_or((context, ""));
    let query = match behind.as_bytes() {
        [b'#', ..] => memchr2(b'?', separator, behind.as_bytes()).and_then(|end| behind.get(end..)).unwrap_or_default(),
        _ => behind,
    };
    let query = query.strip_prefix('?').unwrap_or_default();
    let path = without_host(path);
    let Some(segments) = Segments::read(path) else {
        // `hub` or `context`: a word, not a path.
        return Context { traceparent: traceparent(query), ..Context::default() };
    };
    let (app_id, virtual_proxy) = match segments {
        Segments::WithApp { before, after } => (app_id(after), values.present(trim_slashes(before))),
        Segments::WithoutApp => (None, None),
    };
    let path = values.clean(path);
    let path = (!path.is_empty()).then_some(path);
    Context { app_id, path, virtual_proxy, traceparent: traceparent(query) }
}

fn without_host(path: &str) -> &str {
    if path.starts_with('/') {
        return path;
    }
    // Without the machinery that looks for one text in another: a Context is short, and most have no scheme.
    let scheme = path.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let Some(rest) = path.get(scheme..).and_then(|rest| rest.strip_prefix("://")) else { return path };
    rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or_default()
}

/// A path, cut at its first segment `app`. Segments are short, so that it is read byte by byte.
enum Segments<'a> {
    WithApp { before: &'a str, after: &'a str },
    WithoutApp,
}

impl<'a> Segments<'a> {
    /// `None` if there is no slash at all.
    fn read(path: &'a str) -> Option<Self> {
        let mut start = 0;
        for (end, _) in path.bytes().enumerate().filter(|(_, byte)| *byte == b'/') {
            if end == start + 3 && path.get(start..end)?.eq_ignore_ascii_case("app") {
                return Some(Self::WithApp { before: path.get(..start)?, after: path.get(end + 1..)? });
            }
            start = end + 1;
        }
        (start > 0).then_some(Self::WithoutApp)
    }
}

fn app_id(after: &str) -> Option<Guid> {
    let bytes = after.as_bytes();
    if let Some((id, [] | [b'/' | b';', ..])) = bytes.split_at_checked(Guid::LENGTH)
        && let Some(id) = Guid::parse(id)
    {
        return Some(id);
    }
    let end = memchr2(b'/', b';', bytes).unwrap_or(after.len());
    Guid::parse(decode(trim(after.get(..end)?)).as_bytes())
}

/// The shortest query that holds one: name, version, trace id, span id, flags.
const TRACEPARENT_MIN: usize = "traceparent=".len() + 2 + 1 + 32 + 1 + 16 + 1 + 2;

/// A `traceparent` parameter of the query, if it is one by the rules of W3C Trace Context.
fn traceparent(query: &str) -> Option<TraceParent> {
    if query.len() < TRACEPARENT_MIN || !text::has_t_before(query, b'=') {
        return None;
    }
    let value = query.split(['&', '#', ';']).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.eq_ignore_ascii_case("traceparent").then_some(value)
    })?;
    let value = decode(value);
    let mut fields = value.split('-');
    let version: [u8; 1] = hex(fields.next()?)?;
    let trace_id: [u8; 16] = hex(fields.next()?)?;
    let span_id: [u8; 8] = hex(fields.next()?)?;
    let [flags]: [u8; 1] = hex(fields.next()?)?;
    // Only a version that is newer than ours may have more fields, and ff is none.
    let well_formed = version != [0xff] && (version != [0] || fields.next().is_none());
    let valid = well_formed && trace_id != [0; 16] && span_id != [0; 8];
    valid.then_some(TraceParent { trace_id, span_id, flags })
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (place, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *place = (super::hex_digit(*high)? << 4) | super::hex_digit(*low)?;
    }
    Some(bytes)
}

/// Percent-decoding, once. What is no escape stays as it is; bytes that are no UTF-8 are replaced.
fn decode(text: &str) -> Cow<'_, str> {
    if memchr(b'%', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut position = 0;
    while let Some(&byte) = bytes.get(position) {
        let escape = match (byte, bytes.get(position + 1), bytes.get(position + 2)) {
            (b'%', Some(&high), Some(&low)) => super::hex_digit(high).zip(super::hex_digit(low)),
            _ => None,
        };
        if let Some((high, low)) = escape {
            decoded.push((high << 4) | low);
            position += 3;
        } else {
            decoded.push(byte);
            position += 1;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values = Values { are_plain: false };
    const APP: &str = "a421f4a2-c311-4ef4-ba41-fe2e6a2b0d69";

    fn check(context: &str, app: bool, path: &str, prefix: &str) {
        let read = read(context, b'\t', VALUES);
        assert_eq!(read.app_id.is_some(), app, "{context}");
        assert_eq!(read.path.as_deref().unwrap_or_default(), path, "{context}");
        assert_eq!(read.virtual_proxy.as_deref().unwrap_or_default(), prefix, "{context}");
    }

    #[test]
    fn every_shape_that_clients_use() {
        check(&format!("/app/{APP}?reloaduri=https://h/sense/app/{APP}"), true, &format!("/app/{APP}"), "");
        check(&format!("app/{APP}"), true, &format!("app/{APP}"), "");
        check(&format!("/ext/app/{APP}?x=1"), true, &format!("/ext/app/{APP}"), "ext");
        check(&format!("/a/b/APP/{}", APP.to_uppercase()), true, &format!("/a/b/APP/{}", APP.to_uppercase()), "a/b");
        check(
            &format!("/app/{APP}/identity/abc%3B1/ttl/60?x=1"),
            true,
            &format!("/app/{APP}/identity/abc%3B1/ttl/60"),
            "",
        );
        check(&format!("wss://host:443/vp/app/{APP}"), true, &format!("/vp/app/{APP}"), "vp");
        check(&format!("ws://[2001:db8::2]:80/app/{APP}"), true, &format!("/app/{APP}"), "");
        check(&format!("/app/{}", APP.replace('-', "%2D")), true, &format!("/app/{}", APP.replace('-', "%2D")), "");
        check("/app/%3Ftransient%3D?reloadUri=https://host/", false, "/app/%3Ftransient%3D", "");
        check("/app/engineData", false, "/app/engineData", "");
        check("/vp/app/__hub", false, "/vp/app/__hub", "vp");
        check("/qmc", false, "/qmc", "");
        check("hub", false, "", "");
        check("/application/app1", false, "/application/app1", "");
    }

    #[test]
    fn the_path_ends_where_another_field_may_begin() {
        let context = format!("/app/{APP};connection/of?traceparent=x");
        let read = read(&context, b';', VALUES);
        assert_eq!((read.app_id.is_some(), read.path.as_deref()), (true, Some(context.split_once(';').unwrap().0)));
        assert_eq!(super::read("Not available;Proxy/1", b';', VALUES), Context::default());
    }

    #[test]
    fn a_traceparent_is_read_from_the_query_and_from_nowhere_else() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let of = |query: &str| read(&format!("/app/{APP}?{query}"), b'\t', VALUES).traceparent;
        let parent = of(&format!("x=1&TraceParent={good}")).expect("a traceparent");
        assert_eq!((parent.trace_id[0], parent.span_id[7], parent.flags), (0x0a, 0x31, 1));
        assert!(of(&format!("traceparent={}", good.replace('-', "%2d"))).is_some());
        assert!(of(&format!("traceparent={}&y", good.replacen("00", "cc", 1))).is_some(), "a later version");
        assert!(of(&format!("traceparent={}-more", good.replacen("00", "cc", 1))).is_some());
        for bad in [
            good.replacen("00", "ff", 1),
            format!("{good}-more"),
            good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            good.replace("b7ad6b7169203331", &"0".repeat(16)),
            good.replace("-01", ""),
            good.replace("0af", "xyz"),
            String::new(),
        ] {
            assert_eq!(of(&format!("traceparent={bad}")), None, "{bad}");
        }
        assert_eq!(read(&format!("/traceparent={good}"), b'\t', VALUES).traceparent, None);
    }
}

//! The cast: nodes, apps, users and their browsers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

use super::plan::APPS;
use super::{Config, chance};
use crate::event::{Format, Guid};

/// A Qlik Sense site.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) nodes: Vec<String>,
    pub(super) users: Vec<User>,
    pub(super) apps: Vec<App>,
}

/// Something to look at.
#[derive(Debug)]
pub(super) struct App {
    pub(super) id: Guid,
    pub(super) id_text: String,
    pub(super) name: &'static str,
}

/// Somebody who uses it.
#[derive(Debug)]
pub(super) struct User {
    pub(super) identity: Identity,
    /// The node that the load balancer usually sends them to.
    pub(super) node: usize,
    pub(super) user_agent: &'static str,
    pub(super) virtual_proxy: &'static str,
    pub(super) client: IpAddr,
}

/// How a user is known.
#[derive(Debug)]
pub(super) enum Identity {
    Named {
        directory: &'static str,
        name: String,
    },
    /// Anew for each session.
    Anonymous,
}

impl Site {
    pub(super) fn new(rng: &mut Rng, config: &Config) -> Self {
        let nodes = config.nodes.max(1);
        Self {
            nodes: (1..=nodes).map(|number| format!("pro2-win{number}")).collect(),
            users: (0..config.users.max(1)).map(|number| User::new(rng, number, nodes, config.format)).collect(),
            apps: APP_NAMES.iter().map(|name| App::new(random_guid(rng), name)).collect(),
        }
    }
}

impl App {
    fn new(id: Guid, name: &'static str) -> Self {
        Self { id, id_text: id.to_string(), name }
    }
}

impl User {
    fn new(rng: &mut Rng, number: usize, nodes: usize, format: Format) -> Self {
        let host = u16::try_from(number % 0xffff).unwrap_or_default() + 1;
        let [high, low] = host.to_be_bytes();
        let client = if number % 10 == 6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).into()
        } else {
            Ipv4Addr::new(10, 20, high, low).into()
        };
        let virtual_proxy = if chance(rng, 0.7) { "" } else { pick(rng, &VIRTUAL_PROXIES) };
        let user_agent = pick(rng, &USER_AGENTS);
        Self { identity: Identity::new(number, format), node: number % nodes, user_agent, virtual_proxy, client }
    }
}

impl Identity {
    /// Mostly plain names; the odd ones come early, so that a small site has them too.
    fn new(number: usize, format: Format) -> Self {
        let named = |directory, name: &str| Self::Named { directory, name: name.to_owned() };
        match number % 100 {
            3 | 43 | 83 => Self::Anonymous,
            5 => named("CORP", &numbered("Åsa.Öberg-Łukasz", number / 100)),
            7 => named("AZUREAD", &numbered("名前@example.co.jp", number / 100)),
            9 if number == 9 => named("INTERNAL", "sa_repository"),
            // What a wrongly formed header makes of `LAB\goran`. In the stock format such a name has no certain end.
            11 if format == Format::Extended => {
                named("LAB", &numbered("userdirectory=lab; userid=goran", number / 100))
            }
            _ => {
                let given = GIVEN_NAMES.get(number % GIVEN_NAMES.len()).copied().unwrap_or_default();
                let family =
                    FAMILY_NAMES.get(number / GIVEN_NAMES.len() % FAMILY_NAMES.len()).copied().unwrap_or_default();
                let round = number / (GIVEN_NAMES.len() * FAMILY_NAMES.len());
                let directory = if number % 3 == 2 { "CORP" } else { "LAB" };
                named(directory, &numbered(&format!("{given}.{family}"), round))
            }
        }
    }
}

/// The name itself in the first round, with a number behind it in the later ones.
fn numbered(name: &str, round: usize) -> String {
    if round == 0 { name.to_owned() } else { format!("{name}{round}") }
}

pub(super) fn pick(rng: &mut Rng, texts: &[&'static str]) -> &'static str {
    rng.choice(texts).copied().unwrap_or_default()
}

/// A GUID of version 4.
pub(super) fn random_guid(rng: &mut Rng) -> Guid {
    const VERSION_AND_VARIANT: u128 = 0xf000_c000_0000_0000_0000;
    const VERSION_4: u128 = 0x4000_8000_0000_0000_0000;
    Guid::from_bits((rng.u128(..) & !VERSION_AND_VARIANT) | VERSION_4)
}

/// A session id as Qlik's salted hash makes them: it begins with `c0de`, and nothing else about it is fixed.
pub(super) fn hashed_guid(rng: &mut Rng) -> Guid {
    Guid::from_bits((0xc0de << 112) | (rng.u128(..) >> 16))
}

const VIRTUAL_PROXIES: [&str; 3] = ["header", "saml", "partner/eu"];

const GIVEN_NAMES: [&str; 20] = [
    "goran", "anna", "erik", "maria", "lars", "karin", "mikael", "sara", "johan", "eva", "peter", "lena", "anders",
    "emma", "nils", "ingrid", "oskar", "linnea", "david", "helena",
];

const FAMILY_NAMES: [&str; 20] = [
    "berg", "lind", "holm", "dahl", "strand", "falk", "lund", "norén", "sjögren", "ek", "ström", "wall", "frisk",
    "hedin", "blom", "nyman", "kvist", "roos", "palm", "vik",
];

/// The apps of the site.
pub const APP_NAMES: [&str; APPS] = [
    "Sales Overview",
    "Sales Nordics",
    "Pipeline",
    "Margin Analysis",
    "Customer 360",
    "Churn",
    "Marketing Spend",
    "Web Traffic",
    "Campaigns",
    "Inventory",
    "Stock Turnover",
    "Procurement",
    "Supplier Scorecard",
    "Logistics",
    "Fleet",
    "Warehouse",
    "Production Line 1",
    "Production Line 2",
    "Quality",
    "Maintenance",
    "Energy",
    "HR Headcount",
    "HR Absence",
    "Recruiting",
    "Payroll",
    "Finance P&L",
    "Balance Sheet",
    "Cash Flow",
    "Budget 2027",
    "Forecast",
    "Accounts Receivable",
    "Accounts Payable",
    "Audit Trail",
    "IT Tickets",
    "Operations Monitor",
    "License Monitor",
    "Sessions; last 30 days",
    "Försäljning",
    "Übersicht",
    "Executive Dashboard",
];

/// Browsers as they name themselves.
pub const USER_AGENTS: [&str; 12] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
];

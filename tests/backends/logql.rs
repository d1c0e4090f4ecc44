//! As much of LogQL as our dashboards and rules speak, read from its text and answered from a VictoriaLogs.
//!
//! Which records a query is about, its selector and its filters, is translated, and that server decides. What is then
//! counted of them is counted here, by the rules of LogQL: a series for each set of labels, and an aggregation on top.
//! A label that no record has ever had is a fault here, where Loki would only find nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::servers::{Logs, Record, Sample};
use crate::stand::Failure;

/// A query, or a part of one.
#[derive(Debug)]
pub(crate) enum Query {
    /// Lines.
    Log(Selection),
    /// `count_over_time(…[20m])`
    Count(Selection),
    /// `sum by (a, b) (…)`, `count(…)`, `topk(10, …)`
    Aggregate { operation: Operation, by: Vec<String>, inner: Box<Self> },
    /// `… > 20`
    Greater(Box<Self>, f64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Sum,
    Count,
    Top(usize),
}

/// Which records, and labels that are made for them.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Every one of them, of the selector and of the filters.
    filters: Vec<Filter>,
    /// `| label_format hour="…"`: the hour of the day. No other format is known here.
    hour: Option<String>,
}

#[derive(Debug)]
enum Filter {
    Label { name: String, operator: String, value: String },
    Line(String),
    Any(Vec<Self>),
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    Records(Vec<Record>),
    Samples(Vec<Sample>),
}

impl Found {
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Records(records) => records.is_empty(),
            Self::Samples(samples) => samples.is_empty(),
        }
    }
}

/// Asks. All records that the server has are taken to lie within every range of the query.
pub(crate) fn ask(logs: &Logs, query: &str) -> Result<Found, Failure> {
    let names = Names::of(logs)?;
    match Reader::new(query)?.whole()? {
        Query::Log(selection) => Ok(Found::Records(logs.find(&names.translated(&selection)?)?)),
        metric => Ok(Found::Samples(samples(logs, &names, &metric)?)),
    }
}

fn samples(logs: &Logs, names: &Names, query: &Query) -> Result<Vec<Sample>, Failure> {
    match query {
        Query::Log(_) => Err("lines where numbers are wanted".into()),
        Query::Count(selection) => {
            let mut counts: BTreeMap<BTreeMap<String, String>, f64> = BTreeMap::new();
            for record in logs.find(&names.translated(selection)?)? {
                let hour = selection.hour.as_ref().map(|label| (label.clone(), hour(&record)));
                let labels = record.into_iter().map(|(name, value)| (label(&name), value)).chain(hour).collect();
                *counts.entry(labels).or_default() += 1.0;
            }
            Ok(counts.into_iter().collect())
        }
        Query::Aggregate { operation, by, inner } => {
            // Loki leaves out what is not grouped by only under a sum; otherwise each record is a series of its own.
            if matches!((operation, &**inner), (Operation::Count, Query::Count(_))) {
                return Err("a count of a count_over_time: sum it first".into());
            }
            let mut inner = samples(logs, names, inner)?;
            if let Operation::Top(count) = operation {
                inner.sort_by(|(_, left), (_, right)| right.total_cmp(left));
                inner.truncate(*count);
                return Ok(inner);
            }
            let is_unknown = |name: &&String| !inner.iter().any(|(labels, _)| labels.contains_key(*name));
            if let Some(name) = by.iter().find(is_unknown) {
                return Err(format!("nothing has a label {name}").into());
            }
            let mut groups: BTreeMap<BTreeMap<String, String>, f64> = BTreeMap::new();
            for (labels, value) in inner {
                let labels = labels.into_iter().filter(|(name, _)| by.contains(name)).collect();
                *groups.entry(labels).or_default() += if matches!(operation, Operation::Count) { 1.0 } else { value };
            }
            Ok(groups.into_iter().collect())
        }
        Query::Greater(inner, least) => {
            let mut inner = samples(logs, names, inner)?;
            inner.retain(|(_, value)| value > least);
            Ok(inner)
        }
    }
}

/// The hour of `2026-05-04T09:31:00Z`.
fn hour(record: &Record) -> String {
    record.get("_time").and_then(|time| time.get(11..13)).unwrap_or_default().to_owned()
}

/// A name as Loki spells it.
fn label(name: &str) -> String {
    name.chars().map(|character| if character.is_ascii_alphanumeric() { character } else { '_' }).collect()
}

/// The names of everything that came in, by how Loki spells them.
struct Names(BTreeMap<String, String>);

impl Names {
    fn of(logs: &Logs) -> Result<Self, Failure> {
        Ok(Self(logs.names()?.into_iter().map(|name| (label(&name), name)).collect()))
    }

    /// The selection in the server's own language.
    fn translated(&self, selection: &Selection) -> Result<String, Failure> {
        let filters: Result<Vec<_>, _> = selection.filters.iter().map(|filter| self.filter(filter)).collect();
        Ok(filters?.join(" "))
    }

    fn filter(&self, filter: &Filter) -> Result<String, Failure> {
        match filter {
            Filter::Line(text) => Ok(format!("_msg:~{text:?}")),
            Filter::Any(filters) => {
                let filters: Result<Vec<_>, _> = filters.iter().map(|filter| self.filter(filter)).collect();
                Ok(format!("({})", filters?.join(" or ")))
            }
            Filter::Label { name, operator, value } => {
                let name = self.0.get(name).ok_or_else(|| format!("no record has a label {name}"))?;
                let (negation, operator) = match operator.strip_prefix('!') {
                    Some(rest) => ("!", rest),
                    None => ("", operator.as_str()),
                };
                Ok(match operator {
                    // Loki matches the whole of a value.
                    "~" | "=~" => format!("{negation}{name:?}:~{:?}", format!("^(?:{value})$")),
                    _ => format!("{negation}{name:?}:={value:?}"),
                })
            }
        }
    }
}

/// Reads a query, word by word.
struct Reader {
    words: Vec<Word>,
    position: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// A name, a number, a duration or an operator.
    Bare(String),
    Text(String),
}

impl Reader {
    fn new(query: &str) -> Result<Self, Failure> {
        let mut words = Vec::new();
        let mut rest = query.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '"' => {
                    let mut texts = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                    let text = texts.next().ok_or("no text")?.map_err(|error| format!("{query}: {error}"))?;
                    words.push(Word::Text(text));
                    texts.byte_offset()
                }
                '`' => {
                    let length = rest[1..].find('`').ok_or("a text without an end")?;
                    words.push(Word::Text(rest[1..=length].to_owned()));
                    length + 2
                }
                _ => {
                    let name = rest.find(|one: char| !one.is_ascii_alphanumeric() && one != '_').unwrap_or(rest.len());
                    let operator = ["=~", "!~", "!=", "|="].iter().find(|one| rest.starts_with(**one));
                    let length =
                        if name > 0 { name } else { operator.map_or_else(|| first.len_utf8(), |one| one.len()) };
                    words.push(Word::Bare(rest[..length].to_owned()));
                    length
                }
            };
            rest = rest[length..].trim_start();
        }
        Ok(Self { words, position: 0 })
    }

    fn whole(mut self) -> Result<Query, Failure> {
        let mut query = self.query()?;
        if self.eat(">") {
            query = Query::Greater(Box::new(query), self.bare()?.parse()?);
        }
        match self.words.get(self.position) {
            None => Ok(query),
            Some(more) => Err(format!("not understood from {more:?} on").into()),
        }
    }

    fn query(&mut self) -> Result<Query, Failure> {
        if self.peek("{") {
            return Ok(Query::Log(self.selection()?));
        }
        let name = self.bare()?;
        if name == "count_over_time" {
            self.expect("(")?;
            let selection = self.selection()?;
            self.expect("[")?;
            self.bare()?;
            self.expect("]")?;
            self.expect(")")?;
            return Ok(Query::Count(selection));
        }
        let mut by = self.by()?;
        self.expect("(")?;
        let operation = match name.as_str() {
            "sum" => Operation::Sum,
            "count" => Operation::Count,
            "topk" => {
                let count = self.bare()?.parse()?;
                self.expect(",")?;
                Operation::Top(count)
            }
            other => return Err(format!("no aggregation that is known here: {other}").into()),
        };
        let inner = Box::new(self.query()?);
        self.expect(")")?;
        by.extend(self.by()?);
        Ok(Query::Aggregate { operation, by, inner })
    }

    fn by(&mut self) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        if self.eat("by") {
            self.expect("(")?;
            while !self.eat(")") {
                names.push(self.bare()?);
                self.eat(",");
            }
        }
        Ok(names)
    }

    fn selection(&mut self) -> Result<Selection, Failure> {
        let mut selection = Selection { filters: Vec::new(), hour: None };
        self.expect("{")?;
        while !self.eat("}") {
            selection.filters.push(self.label_filter()?);
            self.eat(",");
        }
        loop {
            if self.eat("|=") {
                selection.filters.push(Filter::Line(self.text()?));
            } else if !self.eat("|") {
                return Ok(selection);
            } else if self.eat("label_format") {
                let label = self.bare()?;
                self.expect("=")?;
                let format = self.text()?;
                if format != r#"{{ __timestamp__ | date "15" }}"# {
                    return Err(format!("no format that is known here: {format}").into());
                }
                selection.hour = Some(label);
            } else {
                let mut any = vec![self.label_filter()?];
                while self.eat("or") {
                    any.push(self.label_filter()?);
                }
                selection.filters.push(Filter::Any(any));
            }
        }
    }

    fn label_filter(&mut self) -> Result<Filter, Failure> {
        Ok(Filter::Label { name: self.bare()?, operator: self.bare()?, value: self.text()? })
    }

    fn peek(&self, word: &str) -> bool {
        matches!(self.words.get(self.position), Some(Word::Bare(bare)) if bare == word)
    }

    fn eat(&mut self, word: &str) -> bool {
        let is_next = self.peek(word);
        self.position += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, word: &str) -> Result<(), Failure> {
        if self.eat(word) {
            return Ok(());
        }
        Err(format!("{:?} where {word} is wanted", self.words.get(self.position)).into())
    }

    fn bare(&mut self) -> Result<String, Failure> {
        match self.next() {
            Some(Word::Bare(bare)) => Ok(bare),
            other => Err(format!("{other:?} where a name is wanted").into()),
        }
    }

    fn text(&mut self) -> Result<String, Failure> {
        match self.next() {
            Some(Word::Text(text)) => Ok(text),
            other => Err(format!("{other:?} where a text is wanted").into()),
        }
    }

    fn next(&mut self) -> Option<Word> {
        self.position += 1;
        self.words.get(self.position - 1).cloned()
    }
}

/// Records by one of their values.
pub(crate) fn by<'a>(records: &'a [Record], name: &str) -> BTreeSet<&'a str> {
    records.iter().filter_map(|record| record.get(name)).map(String::as_str).collect()
}

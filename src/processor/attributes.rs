//! The attributes of one record on their way to an output, and which of them many records have alike.

use crate::signal::{Attribute, Encoded, Run, Value};

/// How many attributes the largest record has; room for all of them is taken at once.
const ATTRIBUTES_MAX: usize = 24;

/// Attributes in the making.
pub(super) struct Attributes<'a> {
    pub(super) all: Vec<Attribute<'a>>,
    runs: [Run<'a>; RUNS_MAX],
    /// How many of these there are.
    runs_count: usize,
}

/// Room for user, target and browser.
const RUNS_MAX: usize = 3;

/// Stands where there is no run.
static NOTHING: Encoded = Encoded::new();

impl<'a> Attributes<'a> {
    pub(super) fn new() -> Self {
        let runs = std::array::from_fn(|_| Run { places: 0..0, encoded: &NOTHING });
        Self { all: Vec::with_capacity(ATTRIBUTES_MAX), runs, runs_count: 0 }
    }

    pub(super) fn runs(&self) -> &[Run<'a>] {
        self.runs.get(..self.runs_count).unwrap_or_default()
    }

    /// What `add` adds is made from one thing, which also keeps it encoded.
    pub(super) fn run(&mut self, encoded: &'a Encoded, add: impl FnOnce(&mut Self)) {
        let start = self.all.len();
        add(self);
        if let Some(run) = self.runs.get_mut(self.runs_count) {
            *run = Run { places: start..self.all.len(), encoded };
            self.runs_count += 1;
        }
    }

    pub(super) fn text(&mut self, key: &'static str, text: &'a str) {
        self.all.push(Attribute { key, value: Value::Text(text) });
    }

    pub(super) fn maybe(&mut self, key: &'static str, text: Option<&'a str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    pub(super) fn int(&mut self, key: &'static str, number: u32) {
        self.all.push(Attribute { key, value: Value::Int(number.into()) });
    }

    /// A flag is sent only where it is raised.
    pub(super) fn flag(&mut self, key: &'static str, raised: bool) {
        if raised {
            self.all.push(Attribute { key, value: Value::Bool(true) });
        }
    }
}

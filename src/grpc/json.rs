//! A message as a plan writes it: JSON in which every value knows where it stands, so that what is wrong with it can be pointed at.

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Json {
    /// A number for the place, which means something to whoever wrote it down.
    pub at: u32,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Json>),
    /// In the order in which it was written.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    /// The place of the key.
    pub at: u32,
    pub value: Json,
}

impl Json {
    /// A message in which nothing is said.
    pub fn empty(at: u32) -> Json {
        Json { at, value: Value::Map(Vec::new()) }
    }

    /// Every text in it, with its place. Keys are no texts.
    pub fn texts(&self) -> Vec<(&str, u32)> {
        self.value.texts(self.at)
    }

    /// Without the places.
    pub fn plain(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Json::plain).collect(),
            Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.value.plain())).collect(),
        }
    }
}

impl Value {
    /// Every text in it, where it stands at `at`.
    pub fn texts(&self, at: u32) -> Vec<(&str, u32)> {
        match self {
            Value::Text(text) => vec![(text, at)],
            Value::List(items) => items.iter().flat_map(Json::texts).collect(),
            Value::Map(entries) => entries.iter().flat_map(|entry| entry.value.texts()).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
        }
    }
}

/// At place 0, all of it.
impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Json {
        let value = match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(value),
            serde_json::Value::Number(number) => Value::Number(number),
            serde_json::Value::String(text) => Value::Text(text),
            serde_json::Value::Array(items) => Value::List(items.into_iter().map(Json::from).collect()),
            serde_json::Value::Object(entries) => {
                Value::Map(entries.into_iter().map(|(key, value)| Entry { key, at: 0, value: value.into() }).collect())
            }
        };
        Json { at: 0, value }
    }
}

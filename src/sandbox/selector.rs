//! Label selectors, in both spellings: the query's (`app=web,tier in (a,b),!canary`) and the object's (`matchLabels`,
//! `matchExpressions`).

use serde_json::Value;

/// What labels must be like. Empty: anything.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, PartialEq, Debug)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Operator {
    In,
    NotIn,
    Exists,
    Absent,
}

impl Selector {
    /// From an object's `selector`: a `LabelSelector`, or a plain map of labels as a Service has it. The error says what is wrong.
    pub fn of(selector: &Value) -> Result<Selector, String> {
        let mut requirements = vec![];
        let structured = selector.get("matchLabels").is_some_and(Value::is_object) || selector["matchExpressions"].is_array();
        let labels = if structured { &selector["matchLabels"] } else { selector };
        for (key, value) in labels.as_object().into_iter().flatten() {
            let Some(value) = value.as_str() else { continue };
            requirements.push(Requirement { key: key.clone(), operator: Operator::In, values: vec![value.to_owned()] });
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten().filter(|_| structured) {
            let values: Vec<String> =
                expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::Absent,
                other => return Err(format!("\"{other}\" is not a valid label selector operator")),
            };
            let needs_values = matches!(operator, Operator::In | Operator::NotIn);
            if needs_values == values.is_empty() {
                return Err(match needs_values {
                    true => "must be specified when `operator` is 'In' or 'NotIn'".into(),
                    false => "may not be specified when `operator` is 'Exists' or 'DoesNotExist'".into(),
                });
            }
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement { key, operator, values });
        }
        Ok(Selector { requirements })
    }

    /// From a query. The error is worded as a real server's.
    pub fn parse(text: &str) -> Result<Selector, String> {
        let mut tokens = tokens(text).into_iter().peekable();
        let mut requirements = vec![];
        while tokens.peek().is_some() {
            if tokens.peek().map(String::as_str) == Some(",") && !requirements.is_empty() {
                tokens.next();
            }
            let negated = tokens.next_if(|token| token == "!").is_some();
            let key = identifier(tokens.next())?;
            if negated {
                requirements.push(Requirement { key, operator: Operator::Absent, values: vec![] });
                continue;
            }
            let (operator, values) = match tokens.peek().map(String::as_str) {
                None | Some(",") => (Operator::Exists, vec![]),
                Some("=" | "==") => {
                    tokens.next();
                    (Operator::In, vec![value(&mut tokens)?])
                }
                Some("!=") => {
                    tokens.next();
                    (Operator::NotIn, vec![value(&mut tokens)?])
                }
                Some("in" | "notin") => {
                    let operator = if tokens.next().as_deref() == Some("in") { Operator::In } else { Operator::NotIn };
                    (operator, values(&mut tokens)?)
                }
                Some(other) => {
                    return Err(format!("unable to parse requirement: found '{other}', expected: in, notin, =, ==, !=, gt, lt"));
                }
            };
            requirements.push(Requirement { key, operator, values });
        }
        Ok(Selector { requirements })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object's `metadata.labels` meet it; `labels` is that map, or null.
    pub fn matches(&self, labels: &Value) -> bool {
        self.requirements.iter().all(|requirement| {
            let has = labels.get(&requirement.key).and_then(Value::as_str);
            match requirement.operator {
                Operator::In => has.is_some_and(|value| requirement.values.iter().any(|v| v == value)),
                Operator::NotIn => !has.is_some_and(|value| requirement.values.iter().any(|v| v == value)),
                Operator::Exists => has.is_some(),
                Operator::Absent => has.is_none(),
            }
        })
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, Requirement { key, operator, values }) in self.requirements.iter().enumerate() {
            f.write_str(if i > 0 { "," } else { "" })?;
            match (operator, &values[..]) {
                (Operator::In, [value]) => write!(f, "{key}={value}")?,
                (Operator::In, values) => write!(f, "{key} in ({})", values.join(","))?,
                (Operator::NotIn, values) => write!(f, "{key} notin ({})", values.join(","))?,
                (Operator::Exists, _) => f.write_str(key)?,
                (Operator::Absent, _) => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<String>>;

/// Words and the signs `, ! ( ) = == !=`.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = vec![];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            ',' | '(' | ')' => tokens.push(c.into()),
            '=' => tokens.push(if chars.next_if_eq(&'=').is_some() { "==".into() } else { "=".into() }),
            '!' => tokens.push(if chars.next_if_eq(&'=').is_some() { "!=".into() } else { "!".into() }),
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_whitespace() && !",()=!".contains(*c)) {
                    word.push(c);
                }
                tokens.push(word);
            }
        }
    }
    tokens
}

fn is_word(token: &str) -> bool {
    !token.is_empty() && token.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c))
}

fn identifier(token: Option<String>) -> Result<String, String> {
    match token {
        Some(token) if is_word(&token) => Ok(token),
        found => Err(format!("unable to parse requirement: found '{}', expected: identifier", found.unwrap_or_default())),
    }
}

/// The value of `=`: may be empty.
fn value(tokens: &mut Tokens) -> Result<String, String> {
    match tokens.peek().map(String::as_str) {
        None | Some(",") => Ok(String::new()),
        Some(_) => identifier(tokens.next()),
    }
}

fn values(tokens: &mut Tokens) -> Result<Vec<String>, String> {
    match tokens.next().as_deref() {
        Some("(") => {}
        found => return Err(format!("unable to parse requirement: found '{}', expected: '('", found.unwrap_or_default())),
    }
    let mut values = vec![];
    loop {
        values.push(value(tokens)?);
        match tokens.next().as_deref() {
            Some(",") => {}
            Some(")") => return Ok(values),
            found => {
                return Err(format!("unable to parse requirement: found '{}', expected: ',' or ')'", found.unwrap_or_default()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn queries_select_as_a_server_does() {
        let labels = json!({"app": "web", "tier": "a"});
        for (text, holds) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=b", true),
            ("app in (web, api),!canary", true),
            ("tier notin (a)", false),
            ("canary", false),
            ("app", true),
            ("app=", false),
        ] {
            assert_eq!(Selector::parse(text).unwrap().matches(&labels), holds, "{text}");
        }
        assert_eq!(Selector::parse("a===b").unwrap_err(), "unable to parse requirement: found '=', expected: identifier");
        for broken in ["a in b", "a in (b", "=b", "a b", "(a)"] {
            assert!(Selector::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn objects_select_by_labels_and_expressions() {
        let selector =
            json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}]});
        let selector = Selector::of(&selector).unwrap();
        assert!(selector.matches(&json!({"app": "web", "tier": "a"})) && !selector.matches(&json!({"app": "web"})));
        assert_eq!(selector.to_string(), "app=web,tier=a");
        assert!(Selector::of(&json!({"app": "web"})).unwrap().matches(&json!({"app": "web"})));
        assert!(Selector::of(&json!({"matchExpressions": [{"key": "a", "operator": "Is"}]})).is_err());
    }
}

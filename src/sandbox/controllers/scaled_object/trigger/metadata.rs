//! The metadata of a trigger: texts by name, of which some mean numbers, words of yes and no, or lists of pairs.

use serde_json::Value;

pub struct Metadata<'a>(pub &'a Value);

/// What is said of a field that must be there.
pub fn missing(field: &str) -> String {
    format!("missing required parameter {field:?} in [triggerMetadata]")
}

impl Metadata<'_> {
    /// A field that says something.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.0[field].as_str().filter(|text| !text.is_empty())
    }

    pub fn required(&self, field: &str) -> Result<&str, String> {
        self.text(field).ok_or_else(|| missing(field))
    }

    pub fn number(&self, field: &str) -> Result<Option<f64>, String> {
        let Some(text) = self.text(field) else { return Ok(None) };
        let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| format!("unable to set param {field:?} value {text:?}: it is no number"))
    }

    /// A whole number within bounds.
    pub fn count(&self, field: &str, bounds: std::ops::RangeInclusive<i64>) -> Result<Option<i64>, String> {
        let Some(text) = self.text(field) else { return Ok(None) };
        let count = text.trim().parse::<i64>().ok().filter(|count| bounds.contains(count));
        let (least, most) = bounds.into_inner();
        let why = || format!("unable to set param {field:?} value {text:?}: it is no whole number from {least} to {most}");
        count.map(Some).ok_or_else(why)
    }

    pub fn flag(&self, field: &str, default: bool) -> Result<bool, String> {
        match self.text(field) {
            None => Ok(default),
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some(text) => Err(format!("unable to set param {field:?} value {text:?}: write true or false")),
        }
    }

    /// `name=value,name=value`.
    pub fn pairs(&self, field: &str) -> Result<Vec<(String, String)>, String> {
        let pairs = self.text(field).into_iter().flat_map(|text| text.split(','));
        let pair = |pair: &str| match pair.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
            _ => Err(format!("unable to set param {field:?}: {pair:?} is no name=value")),
        };
        pairs.map(pair).collect()
    }

    /// Refuses what would change what the trigger reads, and the sandbox does not do.
    pub fn refuse(&self, fields: &[&str]) -> Result<(), String> {
        match fields.iter().find(|field| self.text(field).is_some()) {
            None => Ok(()),
            Some(field) => Err(format!("the sandbox's triggers do not have {field:?}: leave it out, or run this on a cluster")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_read_as_what_they_mean_or_refused() {
        let object = json!({"n": " 2.5 ", "c": "7", "y": "T", "p": "a=b, c = d=e", "bad": "x", "inf": "inf"});
        let metadata = Metadata(&object);
        assert_eq!(metadata.number("n"), Ok(Some(2.5)));
        assert_eq!(metadata.number("absent"), Ok(None));
        assert_eq!(metadata.count("c", 0..=9), Ok(Some(7)));
        assert_eq!((metadata.flag("y", false), metadata.flag("absent", true)), (Ok(true), Ok(true)));
        let pairs = [("a", "b"), ("c", "d=e")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(metadata.pairs("p"), Ok(pairs.to_vec()));
        for wrong in [metadata.number("bad").err(), metadata.number("inf").err(), metadata.count("c", 0..=6).err()] {
            assert!(wrong.is_some());
        }
        assert!(metadata.flag("bad", true).is_err() && metadata.pairs("bad").is_err() && metadata.refuse(&["a", "bad"]).is_err());
        assert!(metadata.required("absent").is_err_and(|why| why.contains("\"absent\"")));
    }
}

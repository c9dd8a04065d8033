//! What is remembered of an answer's fields: the handful that decide how it ended. Fields of the head and of the trailers both come
//! here, each with the section that it stands in, so that a protocol on top of this one can look for its own.

use std::sync::Arc;

use crate::protocol::grpc::Said;
use crate::protocol::{Identities, Identity, RetryAfter};

/// Which of a stream's header blocks a field stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Section {
    Head,
    Trailers,
}

/// What an answer said so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Notes {
    pub(super) status: Option<u16>,
    pub(super) retry_after: Option<RetryAfter>,
    pub(super) identity: Identity,
    pub(super) content_length: Option<u64>,
    /// What it said of a call, if it is the answer to one.
    pub(super) call: Said,
    /// It breaks a rule of HTTP (RFC 9113, section 8.1.1).
    pub(super) malformed: bool,
    /// A field that is no pseudo-header has come, after which there may be none.
    regular: bool,
}

/// Who listens to the fields of one connection.
pub(super) struct Listener {
    identity_header: String,
    identities: Arc<Identities>,
    /// Who answered last, so that the table of all is asked only when that changes.
    last: (Vec<u8>, Identity),
}

impl Listener {
    /// `identity_header` names who answered; upper and lower case are the same in it.
    pub(super) fn new(identity_header: &str, identities: Arc<Identities>) -> Listener {
        let identity_header = identity_header.to_ascii_lowercase();
        Listener { identity_header, identities, last: (Vec::new(), Identity::UNKNOWN) }
    }

    /// Notes down one field.
    pub(super) fn hear(&mut self, notes: &mut Notes, section: Section, name: &[u8], value: &[u8]) {
        if let Some((b':', pseudo)) = name.split_first() {
            let status = if pseudo == b"status" { three_digits(value) } else { None };
            notes.malformed |= section == Section::Trailers || notes.regular || notes.status.is_some() || status.is_none();
            notes.status = notes.status.or(status);
            return;
        }
        notes.regular = true;
        notes.malformed |= name.is_empty() || name.iter().any(u8::is_ascii_uppercase);
        if section == Section::Trailers {
            return notes.call.hear_end(name, value);
        }
        match name {
            b"retry-after" => notes.retry_after = Some(RetryAfter::read(value)),
            b"content-length" => {
                let length = decimal(value);
                notes.malformed |= length.is_none() || notes.content_length.is_some_and(|other| Some(other) != length);
                notes.content_length = length;
            }
            b"content-type" | b"grpc-status" | b"grpc-retry-pushback-ms" => notes.call.hear(name, value),
            _ => {}
        }
        if name == self.identity_header.as_bytes() {
            if self.last.0 != value {
                self.last = (value.to_vec(), self.identities.of(value));
            }
            notes.identity = self.last.1;
        }
    }
}

fn three_digits(value: &[u8]) -> Option<u16> {
    if value.len() != 3 {
        return None;
    }
    decimal(value).and_then(|status| u16::try_from(status).ok()).filter(|status| *status >= 100)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| {
        byte.is_ascii_digit().then_some(())?;
        sum.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(section: Section, fields: &[(&str, &str)]) -> Notes {
        let mut listener = Listener::new("X-Pod", Arc::default());
        let mut notes = Notes::default();
        fields.iter().for_each(|(name, value)| listener.hear(&mut notes, section, name.as_bytes(), value.as_bytes()));
        notes
    }

    #[test]
    fn what_matters_is_noted() {
        let notes =
            heard(Section::Head, &[(":status", "503"), ("retry-after", "3"), ("x-pod", "checkout-1"), ("content-length", "5")]);
        assert_eq!(
            (notes.status, notes.retry_after, notes.content_length, notes.malformed),
            (Some(503), Some(RetryAfter::Seconds(3)), Some(5), false)
        );
        assert_ne!(notes.identity, Identity::UNKNOWN);
    }

    #[test]
    fn trailers_do_not_speak_for_the_head() {
        let notes = heard(Section::Trailers, &[("retry-after", "3"), ("x-pod", "checkout-1"), ("content-length", "5")]);
        assert_eq!((notes.retry_after, notes.identity, notes.content_length), (None, Identity::UNKNOWN, None));
        assert!(!notes.malformed);
    }

    #[test]
    fn what_breaks_the_rules_of_http_is_malformed() {
        for (section, fields) in [
            (Section::Head, &[(":status", "20")][..]),
            (Section::Head, &[(":status", "2000")]),
            (Section::Head, &[(":status", "abc")]),
            (Section::Head, &[(":status", "099")]),
            (Section::Head, &[(":status", "200"), (":status", "200")]),
            (Section::Head, &[(":status", "200"), (":path", "/")]),
            (Section::Head, &[("a", "b"), (":status", "200")]),
            (Section::Head, &[(":status", "200"), ("X-Pod", "a")]),
            (Section::Head, &[(":status", "200"), ("", "a")]),
            (Section::Head, &[(":status", "200"), ("content-length", "-1")]),
            (Section::Head, &[(":status", "200"), ("content-length", "1"), ("content-length", "2")]),
            (Section::Trailers, &[(":status", "200")]),
        ] {
            assert!(heard(section, fields).malformed, "{section:?} {fields:?}");
        }
        assert!(!heard(Section::Head, &[(":status", "200"), ("content-length", "1"), ("content-length", "1")]).malformed);
    }
}

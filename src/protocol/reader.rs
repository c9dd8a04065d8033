//! What an answer comes to, once it is whole: whether it is as expected, where it leads, and what is kept of it for what follows. The
//! same for every protocol.

use std::time::SystemTime;

use anyhow::{Result, anyhow};

use super::outline::{self, After, place_of};
use super::{Destination, Ear, End, Scheme};
use crate::answers::{Flaw, Hears, Hop, Jar, Origin, RedirectMethod, Wanted};
use crate::plan::Request;
use crate::varying::template::{self, Part};
use crate::varying::{COOKIES, LOCATION, Names, Template, Values};

/// Reads answers to the requests of one load.
pub struct Reader {
    /// By the place of the request, those after redirects included; `None` where nothing is wanted of an answer but its status.
    wants: Vec<Option<Want>>,
    origin: Option<Origin>,
    location: Option<usize>,
    cookies: Option<usize>,
}

/// What is wanted of the answer to one request.
struct Want {
    wanted: Wanted,
    hears: Hears,
    method: String,
    path: Template,
    after: Option<After>,
    /// Whom it is for, where it says so itself.
    host: Option<Origin>,
    /// For each value that is saved, where it goes, and whether it stands in a header somewhere.
    saves: Vec<(usize, Stands)>,
}

/// Where a value stands that is saved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    InAHeader,
    Elsewhere,
}

/// What an answer comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Ends(End),
    /// It leads on, to this one of the requests that were prepared.
    Leads(usize),
}

/// What is at hand while an answer is read.
pub struct Reading<'r> {
    /// What was heard of it.
    pub ear: &'r Ear,
    /// Of the request, and of those that follow.
    pub values: &'r mut Values,
    /// Where cookies are kept.
    pub jar: &'r mut Jar,
    /// How many redirects were followed before it.
    pub hops: u32,
    /// Tells when a cookie has expired. It is asked only where one is set.
    pub now: &'r dyn Fn() -> SystemTime,
}

impl Reader {
    /// For the answers to `requests`, as [`Wire::new`](super::Wire::new) prepares them.
    ///
    /// # Errors
    /// When redirects are to be followed and the target is nothing that they can be held against.
    pub fn new(destination: &Destination, requests: &[Request], names: &Names) -> Result<Reader> {
        let outlines = outline::all(destination, requests, names)?;
        let afters = outline::afters(requests);
        let scheme = match destination.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        // Those that follow redirects come in pairs, in the order of the requests that they follow.
        let pairs = || afters.iter().enumerate().filter_map(|(n, after)| after.map(|_| n)).flat_map(|n| [n, n]);
        let origins = (0..requests.len()).chain(pairs());
        let wants = outlines.iter().zip(origins).enumerate().map(|(place, (outline, origin))| {
            let wanted = requests[origin].wanted.clone();
            let hears = wanted.hears();
            // What has become a GET stays one.
            let after = afters[origin].map(|after| if place == after.get { After { same: after.get, ..after } } else { after });
            (!wanted.is_status_alone()).then(|| Want {
                saves: wanted.saves.iter().map(|save| stands(&save.name, requests, names)).collect(),
                method: outline.request.method.clone(),
                path: outline.path.clone(),
                after,
                host: host(&outline.request, scheme),
                wanted,
                hears,
            })
        });
        let follows = requests.iter().any(|request| request.wanted.redirects > 0);
        let origin = follows.then(|| Origin::new(scheme, &destination.authority()).map_err(|why| anyhow!(why))).transpose()?;
        Ok(Reader { wants: wants.collect(), origin, location: place_of(names, LOCATION), cookies: place_of(names, COOKIES) })
    }

    /// Whether nothing is wanted of the answer to this request but its status.
    pub fn is_content(&self, request: usize) -> bool {
        self.wants[request].is_none()
    }

    /// Whether somebody listens to the answer to this request.
    pub fn listens(&self, request: usize) -> bool {
        self.wants[request].as_ref().is_some_and(|want| !want.hears.nothing())
    }

    /// Puts what a request needs that only answers before it told where it is composed from: its cookies.
    pub fn prepare(&self, request: usize, jar: &Jar, values: &mut Values) {
        if let Some(want) = self.wants[request].as_ref().filter(|want| want.wanted.cookies) {
            let mut path = Vec::new();
            want.path.render(values, &mut path);
            self.put_cookies(jar, &path, values);
        }
    }

    /// What an answer with `status` to `request` comes to.
    pub fn read(&self, request: usize, status: u16, reading: Reading<'_>) -> Next {
        let Some(want) = &self.wants[request] else { return Next::Ends(End::Answered(status)) };
        match self.read_wanted(want, status, reading) {
            Ok(next) => next,
            Err(flaw) => Next::Ends(End::Flawed(flaw)),
        }
    }

    fn read_wanted(&self, want: &Want, status: u16, reading: Reading<'_>) -> Result<Next, Flaw> {
        let Reading { ear, values, jar, hops, now } = reading;
        let mut heard = ear.take().unwrap_or_default();
        let mut path = Vec::new();
        if want.wanted.cookies || want.after.is_some() {
            want.path.render(values, &mut path);
        }
        if want.wanted.cookies {
            heard.values(&want.hears, "set-cookie").for_each(|cookie| jar.set(cookie, &path, now()));
        }
        if let (Some(origin), Some(after)) = (&self.origin, want.after) {
            let location = heard.values(&want.hears, "location").next();
            let mut hop = origin.follow(status, &want.method, &path, location);
            if let (Err(Flaw::Elsewhere), Some(host)) = (&hop, &want.host) {
                hop = host.follow(status, &want.method, &path, location);
            }
            if let Some(Hop { path, method }) = hop? {
                if hops >= want.wanted.redirects {
                    return Err(Flaw::TooManyRedirects);
                }
                ear.set(Some(heard));
                if let Some(place) = self.location {
                    values.set(place, path.as_bytes());
                }
                self.put_cookies(jar, path.as_bytes(), values);
                return Ok(Next::Leads(if method == RedirectMethod::Get { after.get } else { after.same }));
            }
        }
        let end = End::of_status(status, &want.wanted.expect);
        if end.cause().is_some() {
            ear.set(Some(heard));
            return Ok(Next::Ends(end));
        }
        let mut saved: Vec<(usize, Vec<u8>)> = Vec::new();
        let mut refused = false;
        let judged = want.wanted.judge(&want.hears, &mut heard, |place, value| {
            let (index, stands) = want.saves[place];
            // Nothing would leave a header with a blank at its end, or without a value.
            let unsendable = value.is_empty() || template::header_refuses(value).is_some();
            refused |= stands == Stands::InAHeader && unsendable;
            saved.push((index, value.to_vec()));
        });
        ear.set(Some(heard));
        judged?;
        if refused {
            return Err(Flaw::Unsendable);
        }
        // All or nothing: a step that is tried again is sent with what was there before it.
        saved.iter().for_each(|(index, value)| values.set(*index, value));
        Ok(Next::Ends(end))
    }

    /// Puts the cookies that go with a request for `path` where it is composed from.
    pub fn put_cookies(&self, jar: &Jar, path: &[u8], values: &mut Values) {
        if let Some(place) = self.cookies {
            let mut cookies = Vec::new();
            jar.write(path, &mut cookies);
            values.set(place, &cookies);
        }
    }
}

/// Whom a request is for by a `host` header of its own: redirects of a service behind a proxy name that.
fn host(request: &Request, scheme: &str) -> Option<Origin> {
    let (_, host) = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"))?;
    let plain = template::parts(host).iter().all(|part| matches!(part, Part::Text(_)));
    Origin::new(scheme, host).ok().filter(|_| plain)
}

/// Where a value that is saved goes, and how it is sent.
fn stands(name: &str, requests: &[Request], names: &Names) -> (usize, Stands) {
    let named = |text: &str| template::parts(text).contains(&Part::Reference(name));
    let in_a_header = requests.iter().flat_map(|request| &request.headers).any(|(_, value)| named(value));
    let place = place_of(names, name).expect("whatever is saved has a place among the names of its load");
    (place, if in_a_header { Stands::InAHeader } else { Stands::Elsewhere })
}

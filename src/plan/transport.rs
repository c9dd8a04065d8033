//! What a plan can say of how requests get to the target, as it is listed.

/// Each key with its place, one line about it and what it looks like.
pub const TRANSPORT: &[(&str, &str, &str)] = &[
    (
        "target.tls",
        "whom to trust beside the public authorities, what to show to a server that asks, by which name to ask; PEM files beside the plan",
        "tls: {ca: ca.pem, cert: client.pem, key: client.key, server_name: checkout.internal}",
    ),
    (
        "target.proxy",
        "a proxy on the way: CONNECT for https://, HTTP/2 and WebSockets, whole URLs for http://; its credentials are secrets",
        "proxy: \"http://squall:${PROXY_PASSWORD}@proxy.example:3128\"",
    ),
    (
        "target.dns",
        "when the target's name is looked up: every so often (5s unless said otherwise), or once, before the run",
        "dns: {every: 5s}",
    ),
    (
        "target.resolve",
        "what a name stands for, whatever DNS says; connections are spread over all its addresses",
        "resolve: {\"checkout.example:443\": [10.0.0.1, 10.0.0.2]}",
    ),
    ("target.insecure", "accepts any certificate, as `insecure` of `tls` does, and only where it is written", "insecure: true"),
    (
        "target.identity",
        "the header by which an answer tells which pod gave it, x-pod unless said otherwise: how many came from which is recorded",
        "identity: {header: x-served-by}",
    ),
    (
        "load.connections",
        "how many connections may be open at once; a request that finds none waits, and its wait is its latency's",
        "connections: 500",
    ),
    ("load.streams", "how many requests a connection carries at once, with http2 and grpc", "streams: 20, protocol: http2"),
    (
        "load.in_flight",
        "how many requests may be due and not ended at once; what comes on top is unsent, and evidence against the generator alone",
        "in_flight: 2000",
    ),
    (
        "load.rotate",
        "when a connection is replaced: by its age (5s unless said otherwise; never with `websocket`), by how many requests it has carried, or never",
        "rotate: {age: 5s, requests: 1000}",
    ),
    ("request.timeout", "how long an answer may take, from when the request was due; 5s unless said otherwise", "timeout: 2s"),
    ("request.body", "text, or the bytes of a file beside the plan, sent as they are", "body: {file: payload.bin}"),
];

#[cfg(test)]
mod tests {
    use super::TRANSPORT;
    use crate::plan::Plan;

    /// Goal: what is listed can be copied. How: each is put into its place of a plan that is only judged by, so that no file is looked for.
    #[test]
    fn every_example_is_read_in_its_place() {
        for (name, _, example) in TRANSPORT {
            let (place, key) = name.split_once('.').expect("a place and a key");
            assert!(example.starts_with(&format!("{key}: ")), "{name}: {example}");
            let in_place = |here: &str| if here == place { format!(", {example}") } else { String::new() };
            let text = format!(
                "plan: p\nclaim: c\ntarget: {{url: \"https://checkout.example/\"{}}}\nphases: [{{name: a, for: 9s}}]\n\
                 load: [{{name: l, rate: 1/s{}, request: {{post: /{}}}}}]\n",
                in_place("target"),
                in_place("load"),
                in_place("request"),
            );
            Plan::read_recorded(&text, &Default::default()).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        }
    }
}

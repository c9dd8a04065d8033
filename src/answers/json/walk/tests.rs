//! Goal: a path finds what the standard says, and no body makes it look for long. How: the standard's own examples, the crate that reads
//! paths as another who follows them, and bodies made against it.

use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn find(path: &str, value: &Value) -> Result<Vec<Value>, Flaw> {
    let query = parse_json_path(path).unwrap_or_else(|why| panic!("{path}: {why}"));
    Walk::through(value).find(&query).map(|found| found.into_iter().cloned().collect())
}

#[test]
fn paths_find_what_the_standard_says() {
    let store = json!({"store": {
        "book": [
            {"category": "reference", "author": "Nigel Rees", "title": "Sayings of the Century", "price": 8.95},
            {"category": "fiction", "author": "Evelyn Waugh", "title": "Sword of Honour", "price": 12.99},
            {"category": "fiction", "author": "Herman Melville", "title": "Moby Dick", "isbn": "0-553-21311-3", "price": 8.99},
            {"category": "fiction", "author": "J. R. R. Tolkien", "title": "The Lord of the Rings", "isbn": "0-395-19395-8", "price": 22.99}
        ],
        "bicycle": {"color": "red", "price": 399}
    }});
    for (path, found) in [
        ("$.store.book[*].author", json!(["Nigel Rees", "Evelyn Waugh", "Herman Melville", "J. R. R. Tolkien"])),
        ("$.store..price", json!([8.95, 12.99, 8.99, 22.99, 399])),
        ("$..book[2].title", json!(["Moby Dick"])),
        ("$..book[-1].title", json!(["The Lord of the Rings"])),
        ("$..book[0,1].price", json!([8.95, 12.99])),
        ("$..book[:2].price", json!([8.95, 12.99])),
        ("$..book[::-2].price", json!([22.99, 12.99])),
        ("$..book[5:1:-1].price", json!([22.99, 8.99])),
        ("$..book[::0]", json!([])),
        ("$..book[?@.isbn].price", json!([8.99, 22.99])),
        ("$..book[?!@.isbn].price", json!([8.95, 12.99])),
        ("$..book[?@.price < 10].price", json!([8.95, 8.99])),
        ("$..book[?@.price <= 8.95 || @.price >= 22.99].price", json!([8.95, 22.99])),
        ("$..book[?@.price > $.store.bicycle.price].price", json!([])),
        ("$..book[?match(@.author, '.*Rees')].price", json!([8.95])),
        ("$..book[?match(@.author, 'Rees')].price", json!([])),
        ("$..book[?search(@.author, '[R.]ees|W')].price", json!([8.95, 12.99])),
        ("$..book[?search(@.author, @.category)].price", json!([])),
        ("$..book[?length(@.title) == 9].price", json!([8.99])),
        ("$..book[?count(@.*) == 5].price", json!([8.99, 22.99])),
        ("$..book[?count(@.none) == 0].price", json!([8.95, 12.99, 8.99, 22.99])),
        ("$..book[?value(@..isbn) == '0-395-19395-8'].price", json!([22.99])),
        ("$..book[?@.none == @.nothing].price", json!([8.95, 12.99, 8.99, 22.99])),
        ("$..book[?@ == $.store.book[1]].price", json!([12.99])),
        ("$[?@.book][*][?@ == 'red']", json!(["red"])),
        ("$..book[*]['price', 'category']", json!([8.95, "reference", 12.99, "fiction", 8.99, "fiction", 22.99, "fiction"])),
        ("$", json!([store])),
    ] {
        assert_eq!(find(path, &store).map(Value::from), Ok(found), "{path}");
    }
}

/// Goal: nothing that a service sends takes the memory or the time of who looks into it. How: bodies of which a path would find, or write
/// out, a thousand times as much, and a hundredth of the looks that there are.
#[test]
fn a_path_gives_up_where_a_body_was_made_against_it() {
    const LOOKS: usize = LOOKS_MOST / 100;
    let read = |body: &str| -> Value { serde_json::from_str(body).expect("JSON") };
    let deep = |inner: &str| read(&format!("{}{inner}{}", "[".repeat(120), "]".repeat(120)));
    let zeros = |most: usize| vec!["0"; most].join(",");
    let deepest = deep(&zeros(4_000));
    let long_names = read(&format!("{{\"{}\": [{}]}}", "n".repeat(100_000), zeros(5_000)));
    let long_texts = read(&format!("{{\"a\": \"{0}\", \"b\": \"{0}\", \"c\": [{1}]}}", "t".repeat(10_000), zeros(200)));
    for (value, path, gives_up) in [
        (&deepest, "$..*", false),
        (&deepest, "$..*..*", true),
        (&deepest, "$..[*]..[*]..[*]..[*]", true),
        (&deepest, "$..[?@..[?@..[*]]]", true),
        (&deepest, "$..[*,*,*,*,*]", true),
        (&deepest, "$..[?count($..*) > 1]", true),
        (&long_names, "$..*", false),
        (&long_texts, "$.c[?$.a == $.b]", true),
        (&long_texts, "$.c[?$.a <= $.b]", true),
        (&long_texts, "$.c[?search($.a, 'u')]", true),
        (&long_texts, "$.c[?length($.a) > 1]", true),
    ] {
        let query = parse_json_path(path).expect("a path");
        assert_eq!(Walk::with(value, LOOKS).find(&query).is_err(), gives_up, "{path}");
    }
    let deep_text = deep(&format!("\"{}\"", "t".repeat(20_000)));
    let query = parse_json_path("$..*").expect("a path");
    let mut walk = Walk::with(&deep_text, LOOKS);
    let found = walk.find(&query).expect("few");
    assert_eq!(found.into_iter().try_for_each(|one| walk.text(one).map(drop)), Err(Flaw::TooBroad), "their texts are many");
    let expressions = json!(["a{1,50}", "b{1,50}"]);
    assert_eq!(Walk::with(&expressions, LOOKS).find(&parse_json_path("$[?search('a', @)]").expect("a path")), Err(Flaw::TooBroad));
}

proptest! {
    /// Goal: as another says, where that one holds to the standard. What it does not: in which order several selectors find, and what the
    /// count of nothing is.
    #[test]
    fn as_another_follows_paths(value in value(), path in path()) {
        if let Ok(query) = parse_json_path(&path) {
            let ours = Walk::through(&value).find(&query).expect("it is small");
            let theirs = js_path_process(&query, &value).unwrap_or_default();
            prop_assert_eq!(ours, theirs.into_iter().map(|found| found.val).collect::<Vec<_>>(), "{}", path);
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..4i64).prop_map(Value::from),
        (-2..4i64).prop_map(|n| Value::from(n as f64 / 2.0)),
        "[abc.]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[abc]", inner), 0..4).prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn path() -> impl Strategy<Value = String> {
    let term = "(@|\\$)(\\.[abc]|\\[-?[012]\\])?|-?[0-3]|0\\.5|'[ab.]{0,2}'|true|null|length\\(@\\.[abc]\\)|value\\(@\\.[abc]\\)";
    let test = format!(
        "({term}) ?(==|!=|<|>|<=|>=) ?({term})|!?@(\\.[abc*]|\\.\\.[abc*]|\\[[01]\\])|!?\\$\\.[abc]|(match|search)\\(@\\.[abc], ?'[ab.|]{{0,3}}'\\)"
    );
    let filter = format!("\\?({test})( ?(&&|\\|\\|) ?({test}))?");
    let segment = format!("(\\.|\\.\\.)[abc*]|(\\.\\.)?\\[('[abc]'|\\*|-?[0-3]|-?[0-3]?:-?[0-3]?(:-?[0-3])?|{filter})\\]");
    let whole = format!("\\$({segment}){{0,3}}");
    proptest::string::string_regex(&whole).expect("an expression")
}

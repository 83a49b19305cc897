//! Tables over the whole way from text to problems.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Root {
    auth_enabled: bool,
    server: Listen,
    clients: Vec<Client>,
    labels: BTreeMap<String, String>,
    processors: BTreeMap<String, Value>,
    store: Store,
    optional: Option<Listen>,
    protocols: Protocols,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Listen {
    http_listen_port: u16,
    #[serde(alias = "address")]
    http_listen_address: String,
    timeout: Duration,
    max: ByteSize,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Protocols {
    grpc: Present<Listen>,
    http: Present<Listen>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Client {
    url: String,
    #[serde(default)]
    password: Secret,
    #[serde(default)]
    weight: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Store {
    Memory,
    Local { directory: String },
}

impl Default for Listen {
    fn default() -> Listen {
        Listen {
            http_listen_port: 80,
            http_listen_address: "127.0.0.1".to_owned(),
            timeout: Duration::from_secs(30),
            max: ByteSize::mib(1),
        }
    }
}

impl Default for Root {
    fn default() -> Root {
        Root {
            auth_enabled: false,
            server: Listen { http_listen_port: 3100, ..Listen::default() },
            clients: Vec::new(),
            labels: BTreeMap::new(),
            processors: BTreeMap::new(),
            store: Store::Memory,
            optional: None,
            protocols: Protocols::default(),
        }
    }
}

impl Config for Root {
    fn unneeded() -> Unneeded {
        Unneeded::new(&["schema_config", "common.ring", "clients.*.tenant"])
    }

    fn check(&self, problems: &mut Problems) {
        if self.server.timeout.is_zero() {
            problems.add("server.timeout", "must not be 0");
        }
        for value in self.processors.values() {
            value.read::<Listen>(&Unneeded::new(&["legacy"]), problems);
        }
    }
}

fn check(text: &str, expected: &[&str]) {
    let found = match from_text::<Root>(text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected, "for:\n{text}");
}

fn accept(text: &str) -> Root {
    match from_text::<Root>(text) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}for:\n{text}"),
    }
}

#[test]
fn problems_name_path_line_and_remedy() {
    check("", &[]);
    check("# nothing\n", &[]);
    check(
        "server:\n  http_listen_prot: 1\n",
        &["config:2: server.http_listen_prot: unknown key, did you mean `http_listen_port`?"],
    );
    check(
        "server: {http_listen_port: http}",
        &["config:1: server.http_listen_port: expected a whole number from 0 to 65535, got `http`"],
    );
    check(
        "server: {http_listen_port: 70000}",
        &["config:1: server.http_listen_port: expected a whole number from 0 to 65535, got `70000`"],
    );
    check("server: 5", &["config:1: server: expected a map, got `5`"]);
    check("auth_enabled: maybe", &["config:1: auth_enabled: expected true or false, got `maybe`"]);
    check("clients: {url: x}", &["config:1: clients: expected a list, got a map"]);
    check("clients:\n- {url: a}\n- weight: 2\n", &["config:3: clients[1].url: is required"]);
    check("labels: {a: [1]}", &["config:1: labels.a: expected text, got a list"]);
    check("store: disk", &["config:1: store: `disk` is not one of memory, local"]);
    check(
        "store: {local: {directory: [x]}}",
        &["config:1: store.local.directory: expected text, got a list"],
    );
    check(
        "server: {timeout: soon}",
        &["config:1: server.timeout: `soon` is not a duration: write it like 30s, 1h30m, 250ms or 7d"],
    );
    check("server: {timeout: 0}", &["config:1: server.timeout: must not be 0"]);
    check(
        "server: {max: 5 parsecs}",
        &["config:1: server.max: `5 parsecs` is not a size: write it like 1048576, 64KB or 1.5GiB"],
    );
    check("a: 1\na: 2", &["config:2: key `a` is there twice"]);
    check("a: 1\n---\nb: 2", &["config:3: a second document is not expected: use one document per file"]);
    check("5", &["config:1: expected a map, got `5`"]);
    check(
        "server: {address: a, http_listen_address: b}",
        &["config:1: server.http_listen_address: is there twice, under two names"],
    );
}

#[test]
fn all_problems_come_at_once_in_order_of_lines() {
    check(
        "auth_enabled: 7\nserver:\n  http_listen_port: x\n  timeout: y\n  bogus: 1\nclients:\n- url: [a]\n- wait: 1\nnothing: here\n",
        &[
            "config:1: auth_enabled: expected true or false, got `7`",
            "config:3: server.http_listen_port: expected a whole number from 0 to 65535, got `x`",
            "config:4: server.timeout: `y` is not a duration: write it like 30s, 1h30m, 250ms or 7d",
            "config:5: server.bogus: unknown key",
            "config:7: clients[0].url: expected text, got a list",
            "config:8: clients[1].wait: unknown key",
            "config:8: clients[1].url: is required",
            "config:9: nothing: unknown key",
        ],
    );
}

#[test]
fn sections_kept_for_later_are_checked_under_their_full_path() {
    check(
        "processors:\n  batch/2:\n    timeout: 1s\n    size: 5\n    max: x\n    legacy: {a: 1}\n",
        &[
            "config:4: processors.batch/2.size: unknown key",
            "config:5: processors.batch/2.max: `x` is not a size: write it like 1048576, 64KB or 1.5GiB",
        ],
    );
    let root = accept("processors: {a: {address: 1.10}, b: }");
    assert_eq!(root.processors["a"].path(), "processors.a");
    assert_eq!(root.processors["a"].key(), "a");
    assert!(root.processors["b"].is_null());
    assert_eq!(root.processors["a"].entries().next().unwrap().1.as_str(), Some("1.10"));
}

#[test]
fn a_partly_written_section_keeps_the_outer_defaults() {
    let root = accept("server: {address: 0.0.0.0}");
    assert_eq!(root.server, Listen { http_listen_address: "0.0.0.0".to_owned(), ..Root::default().server });
    assert_eq!(accept("server:"), Root::default());
    assert_eq!(accept("server: {http_listen_port: , timeout: }"), Root::default());
    assert_eq!(accept("optional: {}").optional, Some(Listen::default()));
    assert_eq!(accept("optional:").optional, None);
}

#[test]
fn presence_switches_on() {
    let root = accept("protocols: {grpc: , http: {http_listen_port: 4318}}");
    assert_eq!(root.protocols.grpc, Present(Some(Listen::default())));
    assert_eq!(root.protocols.http.0.unwrap().http_listen_port, 4318);
    assert_eq!(accept("protocols: {}").protocols.grpc, Present(None));
}

#[test]
fn scalars_are_typed_by_their_field() {
    let root = accept(
        "labels: {a: 1.10, b: 010, c: true, d: null, e: '~', f: 0x1F}\nauth_enabled: yes\nserver: {http_listen_port: '3200'}",
    );
    let labels: Vec<&str> = root.labels.values().map(String::as_str).collect();
    assert_eq!(labels, ["1.10", "010", "true", "", "~", "0x1F"]);
    assert!(root.auth_enabled);
    assert_eq!(root.server.http_listen_port, 3200);
    assert_eq!(accept("server: {http_listen_port: 0x10}").server.http_listen_port, 16);
    assert_eq!(accept("server: {http_listen_port: 1e3}").server.http_listen_port, 1000);
    assert_eq!(accept("store: {local: {directory: /x}}").store, Store::Local { directory: "/x".to_owned() });
}

#[test]
fn anchors_and_merge_keys() {
    let root = accept(
        "optional: &base {http_listen_port: 1, address: x}\nserver:\n  <<: *base\n  http_listen_port: 2\n",
    );
    assert_eq!((root.server.http_listen_port, root.server.http_listen_address.as_str()), (2, "x"));
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..9 {
        let alias = format!("*a{}, ", n - 1).repeat(10);
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", alias.trim_end_matches(", ")));
    }
    let problems = from_text::<Root>(&bomb).unwrap_err();
    assert!(problems.iter().next().unwrap().message.contains("too large"), "{problems}");
    let deep = format!("a: {}", "[".repeat(5000));
    assert!(from_text::<Root>(&deep).is_err());
}

#[test]
fn unneeded_keys_are_named_once_and_accepted() {
    let text =
        "schema_config: {configs: [1, 2]}\ncommon: {ring: {kvstore: 1}}\nclients: [{url: a, tenant: x}]";
    check(text, &["config:2: common: unknown key"]);
    let loaded =
        from_text::<Root>("schema_config: {configs: [1, 2]}\nclients: [{url: a, tenant: x}]").unwrap();
    assert_eq!(loaded.unneeded, ["clients[0].tenant", "schema_config"]);
}

#[test]
fn layers_join_and_flags_win() {
    let yaml = |name: &str, text: &str| Layer::Yaml { name: name.to_owned(), text: text.to_owned() };
    let set = |path: &str, value: &str| Layer::Set {
        path: path.to_owned(),
        value: value.to_owned(),
        flag: format!("--set {path}"),
    };
    let layers = [
        yaml("a", "server: {http_listen_port: 1, timeout: 2s}\nclients: [{url: a}, {url: b}]"),
        yaml("b", "server: {http_listen_port: 2}\nclients: [{url: c}]"),
        set("server.timeout", "5s"),
    ];
    let root = load::<Root>(&layers, false, &|_| None).unwrap().config;
    assert_eq!(
        (root.server.http_listen_port, root.server.timeout, root.clients.len()),
        (2, Duration::from_secs(5), 1)
    );
    let layers = [yaml("a", "\nx: 1"), yaml("b", "y: 2"), set("server.nope", "1"), yaml("c", "[")];
    let problems = load::<Root>(&layers, false, &|_| None).unwrap_err();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines[..3],
        ["a:2: x: unknown key", "b:1: y: unknown key", "--set server.nope: server.nope: unknown key"]
    );
    assert!(lines[3].starts_with("c:"), "{lines:?}");
}

#[test]
fn printing_hides_secrets_and_reads_back() {
    let text = "clients: [{url: 'http://u:geheim@h/x', password: geheim}]\nlabels: {x: 'true', api_key: geheim}\nprocessors: {p: {token: geheim, n: 1.10}}";
    let root = match from_text::<Root>(text) {
        Err(problems) => {
            assert_eq!(problems.iter().count(), 2, "{problems}"); // token and n are not keys of Listen
            accept(
                "clients: [{url: 'http://u:geheim@h/x', password: geheim}]\nlabels: {x: 'true', api_key: geheim}",
            )
        }
        Ok(_) => panic!("unknown keys passed"),
    };
    let printed = print(&root);
    assert!(!printed.contains("geheim"), "{printed}");
    assert!(printed.contains("http://u:<secret>@h/x"), "{printed}");
    let again = accept(&printed);
    assert_eq!((again.server, again.labels["x"].as_str()), (root.server, "true"));
    assert_eq!(root.clients[0].password.reveal(), "geheim");
    assert_eq!(format!("{:?} {}", root.clients[0].password, root.clients[0].password), "<secret> <secret>");
}

fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("9000".to_owned()),
        "HOST" => Some("h".to_owned()),
        "EMPTY" => Some(String::new()),
        "PAIR" => Some("{url: z}".to_owned()),
        "NUMERIC" => Some("0123".to_owned()),
        "WHICH" => Some("PORT".to_owned()),
        _ => None,
    }
}

#[test]
fn loki_expansion() {
    let cases: &[(&str, &str, &str)] = &[
        // text, without the flag, with it
        ("${PORT}", "9000", "9000"),
        ("a${PORT}b${HOST}", "a9000bh", "a9000bh"),
        ("${PORT:-1}", "9000", "9000"),
        ("${NO:-1}", "1", "1"),
        ("${NO:-}", "", ""),
        ("${EMPTY:-x}", "x", "x"),
        ("${NO}", "${NO}", ""),
        ("${1}/$1/$PORT", "${1}/$1/$PORT", "${1}/$1/$PORT"),
        ("$${PORT}", "$9000", "${PORT}"),
        (r"\\d \d", r"\\d \d", r"\d \d"),
        ("${unclosed", "${unclosed", "${unclosed"),
        ("ü${NO:-ß}$", "üß$", "üß$"),
    ];
    for (text, without, with) in cases {
        let mut warnings = Vec::new();
        assert_eq!(expand::text(text, false, &environment, &mut warnings), *without, "{text}");
        assert!(warnings.is_empty());
        assert_eq!(expand::text(text, true, &environment, &mut warnings), *with, "{text} with the flag");
        assert_eq!(warnings.len(), usize::from(*text == "${NO}"), "{text}");
    }
}

#[test]
fn collector_expansion() {
    let expand = |text: &str| {
        let mut node = node::parse(text, 0).unwrap();
        let mut warnings = Vec::new();
        let result = expand::tree(&mut node, &environment, &mut warnings);
        result.map(|()| serde_json::to_string(&node::Typed(&node)).unwrap()).map_err(|error| error.message)
    };
    let cases: &[(&str, &str)] = &[
        ("'${env:PORT}'", "9000"),
        ("${PORT}", "9000"),
        ("'x${env:PORT}'", "\"x9000\""),
        ("'${env:NO:-12}'", "12"),
        ("'${env:NO:-}'", "null"),
        ("'${env:NO}'", "null"),
        ("'${PAIR}'", "{\"url\":\"z\"}"),
        ("'$$${PORT}$'", "\"$9000$\""),
        ("'$${PORT}'", "\"${PORT}\""),
        ("'${env:${env:WHICH}}'", "9000"),
        ("['${env:HOST}:${env:PORT}']", "[\"h:9000\"]"),
        ("'$1'", "\"$1\""),
    ];
    for (text, expected) in cases {
        assert_eq!(expand(text).as_deref(), Ok(*expected), "{text}");
    }
    assert!(expand("'${env:1x}'").unwrap_err().contains("not the name"));
    assert!(expand("'${vault:x}'").unwrap_err().contains("vault"));
    let bomb = format!("'{}{}'", "${".repeat(100), "}".repeat(100));
    assert!(expand(&bomb).unwrap_err().contains("nested"));
    // A text field gets the original text, a number field the number.
    let mut node =
        node::parse("labels: {a: '${NUMERIC}'}\nserver: {http_listen_port: '${env:NUMERIC}'}", 0).unwrap();
    expand::tree(&mut node, &environment, &mut Vec::new()).unwrap();
    let mut problems = Problems::default();
    let root = de::read::<Root>(&node, &Path::default(), &Unneeded::default(), &mut problems).unwrap();
    assert_eq!((root.labels["a"].as_str(), root.server.http_listen_port), ("0123", 123));
}

#[test]
fn durations_and_sizes() {
    for (text, nanos, shown) in [
        ("0", 0, "0s"),
        ("30s", 30_000_000_000_u64, "30s"),
        ("1h30m", 5_400_000_000_000, "1h30m0s"),
        ("1.5s", 1_500_000_000, "1.5s"),
        ("250ms", 250_000_000, "250ms"),
        ("7d", 604_800_000_000_000, "168h0m0s"),
        ("1m0.000000001s", 60_000_000_001, "1m0.000000001s"),
        ("15ns", 15, "15ns"),
        ("1.5µs", 1_500, "1.5µs"),
    ] {
        let duration = Duration::parse(text).unwrap();
        assert_eq!(
            (duration.get().as_nanos() as u64, duration.to_string().as_str()),
            (nanos, shown),
            "{text}"
        );
        assert_eq!(Duration::parse(&duration.to_string()), Ok(duration));
    }
    for bad in ["", "5", "s", "-1s", "1x", "1h2", "1..5s", "400y", "9999999999999999999999y", "1 h"] {
        assert!(Duration::parse(bad).is_err(), "{bad}");
    }
    for (text, bytes, shown) in [
        ("0", 0, "0"),
        ("1500", 1500, "1500"),
        ("64KB", 65_536, "64KB"),
        ("64 kib", 65_536, "64KB"),
        ("1.5GiB", 1_610_612_736, "1536MB"),
        ("4m", 4_194_304, "4MB"),
    ] {
        let size = ByteSize::parse(text).unwrap();
        assert_eq!((size.get(), size.to_string().as_str()), (bytes, shown), "{text}");
    }
    for bad in ["", "KB", "-1", "1XB", "99999999999TB", "1e3"] {
        assert!(ByteSize::parse(bad).is_err(), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[-a:{}\\[\\]$&*!<>|,'\" \n\t0-9#%.é]{0,60}") {
        let _ = from_text::<Root>(&text);
        let _ = Duration::parse(&text);
        let _ = ByteSize::parse(&text);
        let expanded = expand::text(&text, true, &environment, &mut Vec::new());
        proptest::prop_assert!(expanded.len() <= text.len() * 10 + 100);
        if let Ok(mut node) = node::parse(&text, 0) {
            let _ = expand::tree(&mut node, &environment, &mut Vec::new());
        }
    }

    #[test]
    fn durations_and_sizes_read_back(n in 0..i64::MAX as u64) {
        let duration = Duration(std::time::Duration::from_nanos(n));
        proptest::prop_assert_eq!(Duration::parse(&duration.to_string()), Ok(duration));
        proptest::prop_assert_eq!(ByteSize::parse(&ByteSize(n).to_string()), Ok(ByteSize(n)));
    }

    #[test]
    fn printed_text_reads_back(key in "[a-z]{1,8}", value in "\\PC{0,20}") {
        let mut root = Root::default();
        root.labels.insert(format!("x{key}"), value);
        proptest::prop_assume!(!root.labels.values().any(|v| v.contains("://")));
        let printed = print(&root);
        let again = from_text::<Root>(&printed).map(|loaded| loaded.config.labels);
        let secret = root.labels.keys().any(|k| printed.contains("<secret>") && k.len() > 4);
        proptest::prop_assert!(secret || again == Ok(root.labels), "{}", printed);
    }
}

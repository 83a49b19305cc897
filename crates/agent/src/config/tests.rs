//! Whole configuration files: those that are found at users, and what is wrong with others.

use super::Config;

/// Checks a file as `-check-syntax` does; the warnings.
fn load(yaml: &str) -> Result<Vec<String>, String> {
    let loaded = service::config::from_text::<Config>(yaml).map_err(|problems| problems.to_string())?;
    Ok(service::remarks(&loaded))
}

#[test]
fn files_of_users_run_as_they_are() {
    let folder = testkit::recorded::workspace().join("../shared/fixtures");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("skipped: no recorded configurations at {}", folder.display());
        return;
    };
    let paths = files.map(|file| file.unwrap().path());
    let of_promtail =
        |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("promtail");
    for path in paths.filter(of_promtail) {
        let text = std::fs::read_to_string(&path).unwrap();
        let remarks = load(&text).unwrap_or_else(|problems| panic!("{}: {problems}", path.display()));
        assert!(remarks.is_empty(), "{}: {remarks:?}", path.display());
    }
}

const HEAD: &str = "clients: [{url: 'http://h/loki/api/v1/push'}]\n\
    scrape_configs: [{job_name: j, static_configs: [{labels: {__path__: /l}}]}]\n";

#[test]
fn keys_without_effect_say_why() {
    let check = |yaml: &str, want: &str| {
        let remarks = load(&format!("{HEAD}{yaml}")).unwrap();
        let found =
            if want.is_empty() { remarks.is_empty() } else { remarks.iter().any(|r| r.contains(want)) };
        assert!(found, "{yaml}: {remarks:?}");
    };
    check("", "");
    check(
        "wal: {enabled: true, dir: /w, cleanSegmentsOlderThan: 1h, watchConfig: {minReadFrequency: 1s}}",
        "wal is taken as target_config.spool",
    );
    check("wal: {enabled: false}", "");
    check("tracing: {enabled: true}", "OTEL_EXPORTER_OTLP_ENDPOINT");
    check("options: {stream_lag_labels: filename}", "stream_lag_labels is deprecated");
    check("global: {file_watch_config: {min_poll_frequency: 1s, max_poll_frequency: 4s}}", "");
    check("server: {health_check_target: false, enable_runtime_reload: true, disable: false}", "");
    check(
        "server: {profiling_enabled: true, external_url: 'http://x'}",
        "server.external_url, server.profiling_enabled",
    );
    check(
        "limits_config: {readline_rate: 100, readline_burst: 200, readline_rate_enabled: true, readline_rate_drop: false, max_streams: 9, max_line_size: 256kb, max_line_size_truncate: true}",
        "",
    );
    check("target_config: {sync_period: 5s, stdin: false}", "");
    check("client: {tenant_id: t}", "client has no url");
    check("client: {external_labels: {a: b}}", "");
}

#[test]
fn mistakes_have_their_place() {
    let check = |yaml: &str, want: &str| {
        let problems = load(&format!("{HEAD}{yaml}")).unwrap_err();
        assert!(problems.contains(want), "{yaml}: {problems}");
    };
    check("limit_config: {}", "config:3: limit_config");
    check("limits_config: {readline_rat: 1}", "limits_config.readline_rat");
    check("wal: {enable: true}", "wal.enable");
    check(
        "wal: {enabled: true, dir: /w}\ntarget_config: {spool: {dir: /s}}",
        "'/w' is another folder than '/s'",
    );
    check("target_config: {spool: {dir: ''}}", "target_config.spool.dir");
    check("target_config: {spool: {max_bytes: 10kb}}", "10KB is less than 8MB");
    check("global: {file_watch_config: {min_poll_frequency: 0s}}", "global.file_watch_config");
    check("limits_config: {readline_rate_enabled: true, readline_rate: 0}", "limits_config.readline_rate");
    check("target_config: {sync_period: 0s}", "target_config.sync_period");
    let twice = "clients: [{url: 'http://a/', name: x}, {url: 'http://b/', name: x}]";
    assert!(load(twice).unwrap_err().contains("clients[1].name: 'x' is used twice"));
    let same = "clients: [{url: 'http://a/'}, {url: 'http://a/'}]";
    assert!(load(same).unwrap_err().contains("clients[1].name"), "a name is made of the configuration");
}

#[test]
fn ways_to_reach_a_store() {
    let jobs = "scrape_configs: [{job_name: j, static_configs: [{labels: {__path__: /l}}]}]\n";
    let check = |client: &str, want: &str| {
        let yaml = format!("clients: [{{url: 'http://h/push', {client}}}]\n{jobs}");
        match load(&yaml) {
            Ok(remarks) => assert!(want.is_empty() && remarks.is_empty(), "{client}: {remarks:?}"),
            Err(problems) => {
                assert!(!want.is_empty() && problems.contains(want), "{client}: {problems}");
                assert!(!problems.contains("hush"), "{problems}");
            }
        }
    };
    check("basic_auth: {username: u, password: hush}", "");
    check("authorization: {credentials: hush}, follow_redirects: false", "");
    check("oauth2: {client_id: i, client_secret: hush, token_url: 'https://t/x', scopes: [a]}", "");
    check("tls_config: {cert_file: a, key_file: b, min_version: TLS12, server_name: n}", "");
    check("proxy_url: 'http://u:hush@p:1', no_proxy: 'a,b', proxy_connect_header: {A: [hush]}", "");
    check("bearer_token: hush, basic_auth: {username: u}", "clients[0]: one of basic_auth");
    check("bearer_token: hush, bearer_token_file: f", "clients[0].bearer_token_file: its text is given too");
    check("basic_auth: {username: u, password: hush, password_file: f}", "basic_auth.password_file");
    check(
        "authorization: {type: basic, credentials: hush}",
        "authorization.type: 'Basic' is what basic_auth",
    );
    check("oauth2: {client_id: i, token_url: 'token'}", "oauth2.token_url: is no URL");
    check("oauth2: {token_url: 'http://t/'}", "oauth2.client_id");
    check("oauth2: {client_id: i, token_url: 'http://t/', tls_config: {key_file: k}}", "oauth2.tls_config");
    check("tls_config: {cert_file: a}", "clients[0].tls_config: a client's certificate needs both");
    check("tls_config: {min_version: SSL3}", "tls_config.min_version: 'SSL3' is not spoken");
    check("tls_config: {server_name: n}, proxy_url: 'http://p:1'", "server_name: goes by no proxy");
    check("proxy_url: 'p:1 hush'", "clients[0].proxy_url: is no URL");
    check("proxy_url: 'http://p:1', proxy_from_environment: true", "proxy_from_environment");
    check("no_proxy: a", "no_proxy: needs a proxy_url");
    check("headers: {'a b': hush}", "headers.a b: is no name");
    check("headers: {a: \"hush\\n\"}", "headers.a: has characters");
    check("timeout: 0s", "clients[0].timeout");
    check("external_labels: {a-b: c}", "'a-b' is not a label name");
    for url in ["localhost:3100/push", "http://", "ftp://h/", "/push", "http://u:hush@ /"] {
        let problems = load(&format!("clients: [{{url: '{url}'}}]\n{jobs}")).unwrap_err();
        assert!(problems.contains("clients[0].url: ") && !problems.contains("hush"), "{problems}");
    }
}

#[test]
fn how_files_are_followed_is_chosen() {
    let check = |keys: &str, want: &str| {
        let problems = load(&format!("{HEAD}target_config: {{{keys}}}\n")).err().unwrap_or_default();
        assert!(problems.contains(want) && problems.is_empty() == want.is_empty(), "{keys}: {problems}");
    };
    check("start_at: end, ignore_older: 48h, identity: inode", "");
    check("start_at: beginning, ignore_older: 0s, identity: path", "");
    check("start_at: middle", "target_config.start_at");
    check("identity: name", "target_config.identity");
    check("ignore_older: long", "target_config.ignore_older");
}

#[test]
fn an_agent_of_its_own_needs_a_client_and_targets() {
    let load = |yaml: &str| service::config::from_text::<Config>(yaml).unwrap().config;
    let jobs = "scrape_configs: [{job_name: j, static_configs: [{labels: {__path__: /l}}]}]";
    assert!(load(jobs).lacks_client().unwrap().starts_with("clients: name at least one"));
    assert_eq!(load(jobs).idle_job(), None);
    assert_eq!(load("").lacks_client(), None, "what is not configured at all runs");
    let mut idle = load("clients: [{url: 'http://h/'}]\nscrape_configs: [{job_name: j}]");
    assert_eq!(idle.lacks_client(), None);
    assert!(idle.idle_job().unwrap().starts_with("scrape_configs[0]: job 'j' reads nothing"));
    idle.target_config.stdin = true;
    assert_eq!(idle.idle_job(), None);
}

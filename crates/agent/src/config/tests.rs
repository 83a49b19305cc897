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
        "wal is not needed",
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
    check("global: {file_watch_config: {min_poll_frequency: 0s}}", "global.file_watch_config");
    check("limits_config: {readline_rate_enabled: true, readline_rate: 0}", "limits_config.readline_rate");
    check("target_config: {sync_period: 0s}", "target_config.sync_period");
    check("client: {tenant_id: t}", "client.url");
    let twice = "clients: [{url: 'http://a/', name: x}, {url: 'http://b/', name: x}]";
    assert!(load(twice).unwrap_err().contains("clients[1].name: 'x' is used twice"));
    let same = "clients: [{url: 'http://a/'}, {url: 'http://a/'}]";
    assert!(load(same).unwrap_err().contains("clients[1].name"), "a name is made of the configuration");
}

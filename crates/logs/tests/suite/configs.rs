//! Loki's files as users have them: they load unchanged, what matters in them is obeyed, and what is not needed is named.

use std::path::{Path, PathBuf};

use blob::BlobConfig;
use logs::Config;
use service::config::{ByteSize, Duration, Loaded, from_text};

fn load(name: &str) -> Loaded<Config> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    from_text(&text).unwrap_or_else(|problems| panic!("{name}: {problems}"))
}

fn is_unneeded(loaded: &Loaded<Config>, paths: &[&str]) {
    for path in paths {
        assert!(loaded.unneeded.iter().any(|p| p == path), "{path} is not named: {:?}", loaded.unneeded);
    }
}

#[test]
fn simple_scalable_on_s3() {
    let loaded = load("simple-scalable.yaml");
    let config = &loaded.config;
    let BlobConfig::S3(s3) = config.blob() else { panic!("{:?}", config.blob()) };
    assert_eq!(
        (s3.bucket.as_str(), s3.endpoint.as_deref()),
        ("chunks", Some("http://minio.logging.svc:9000"))
    );
    assert_eq!((s3.region.as_deref(), s3.virtual_hosted_style), (Some("eu-west-1"), false));
    assert_eq!(config.wal_dir(), PathBuf::from("/var/loki/timberline/wal"));
    let limits = &config.limits_config;
    assert!(config.auth_enabled == Some(true) && config.querier.multi_tenant_queries_enabled);
    assert!(limits.reject_old_samples && !config.pattern_ingester.enabled);
    assert_eq!((limits.ingestion_rate_mb, limits.max_query_series), (8.0, 1000));
    assert_eq!(limits.per_stream_rate_limit, ByteSize::mib(5));
    assert_eq!(limits.retention_period, Duration::from_secs(744 * 3600));
    assert_eq!(limits.retention_stream[1].period, Duration::from_secs(72 * 3600));
    is_unneeded(
        &loaded,
        &["memberlist", "common.ring", "query_range", "limits_config.max_query_parallelism"],
    );
}

#[test]
fn structured_store() {
    let loaded = load("structured-s3.yaml");
    let config = &loaded.config;
    let BlobConfig::S3(s3) = config.blob() else { panic!("{:?}", config.blob()) };
    assert_eq!((s3.bucket.as_str(), s3.prefix.as_str(), s3.endpoint.as_deref()), ("my-logs", "prod", None));
    assert!(s3.virtual_hosted_style);
    assert_eq!((config.server.http_listen_port, config.server.http_path_prefix.as_str()), (3101, "/logs"));
    let limits = &config.limits_config;
    assert_eq!(limits.max_line_size_truncate_identifier, "[cut]");
    assert_eq!(limits.log_level_fields.iter().collect::<Vec<_>>(), ["level", "severity"]);
    assert!(limits.otlp_config.resource_attributes.ignore_defaults);
    is_unneeded(&loaded, &["storage_config.object_store.s3.sse", "storage_config.tsdb_shipper"]);
}

#[test]
fn ruler_with_alertmanager() {
    let loaded = load("ruler-alertmanager.yaml");
    let config = &loaded.config;
    assert_eq!(config.data_dir(), PathBuf::from("/tmp/loki/timberline"));
    assert!(
        matches!(config.blob(), BlobConfig::Local(local) if local.dir.starts_with("/tmp/loki/timberline"))
    );
    assert_eq!(config.limits_config.ruler_max_rules_per_rule_group, 30);
    is_unneeded(&loaded, &["frontend", "query_range", "limits_config.metric_aggregation_enabled"]);
}

#[test]
fn retention_and_limits() {
    let loaded = load("retention-limits.yaml");
    let config = &loaded.config;
    assert!(matches!(config.blob(), BlobConfig::Gcs(gcs) if gcs.bucket == "company-logs"));
    assert_eq!(config.wal_dir(), PathBuf::from("/wal/loki/timberline"));
    assert_eq!(config.runtime_config.period, Duration::from_secs(5));
    assert_eq!(config.querier.tail_max_duration, Duration::from_secs(1800));
    let limits = &config.limits_config;
    assert_eq!((limits.max_concurrent_tail_requests, limits.max_streams_matchers_per_query), (3, 50));
    assert_eq!((limits.required_labels.as_slice(), limits.volume_max_series), (&["app".to_owned()][..], 500));
    assert_eq!(limits.blocked_queries[0].types, ["metric"]);
    assert_eq!(config.pattern_ingester.max_clusters, 100);
    is_unneeded(&loaded, &["table_manager", "pattern_ingester.metric_aggregation", "querier.engine"]);
}

#[test]
fn mistakes_are_named_by_path() {
    let check = |yaml: &str, expect: &str| {
        let problems = from_text::<Config>(yaml).unwrap_err().to_string();
        assert!(problems.contains(expect), "{yaml}: {problems}");
    };
    check("limits_config: {max_query_serie: 5}", "limits_config.max_query_serie");
    check("querier: {max_concurent: 5}", "querier.max_concurent");
    check("pattern_ingester: {enable: true}", "pattern_ingester.enable");
    check("limits_config: {deletion_mode: sometimes}", "limits_config.deletion_mode");
    check("limits_config: {block_ingestion_until: tomorrow}", "limits_config.block_ingestion_until");
    check(
        "limits_config: {retention_stream: [{selector: '{a=', period: 1h}]}",
        "limits_config.retention_stream[0].selector",
    );
    check(
        "limits_config: {blocked_queries: [{pattern: '(', regex: true}]}",
        "limits_config.blocked_queries[0].pattern",
    );
    check("schema_config: {configs: [{object_store: swift}]}", "schema_config.configs[0].object_store");
    // The bucket that is meant must be there: data would go to the local disk in silence.
    check("schema_config: {configs: [{object_store: s3}]}", "schema_config.configs[0].object_store");
    let two = "{s3: {bucket_name: a}, gcs: {bucket_name: b}}";
    check(&format!("storage_config: {{use_thanos_objstore: true, object_store: {two}}}"), "only one store");
}

#[test]
fn the_schema_names_the_store() {
    let yaml = "common: {path_prefix: /d}\nstorage_config: {aws: {bucketnames: b}}\n\
                schema_config: {configs: [{object_store: s3}, {object_store: filesystem}]}";
    let config = from_text::<Config>(yaml).unwrap().config;
    assert!(
        matches!(config.blob(), BlobConfig::Local(local) if local.dir == Path::new("/d/timberline/blocks"))
    );
}

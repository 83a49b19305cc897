//! The `server` section that Loki, Tempo and Promtail share, under their key names.

use axum::{Router, extract::Request};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

use crate::{
    Limits, ListenError, Listener, TlsConfig,
    config::{Duration, Logging, Problems, Unneeded},
};

/// The `server` block. Addresses are loopback unless configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerConfig {
    /// Address of the HTTP listener.
    pub http_listen_address: String,
    /// Port of the HTTP listener; 0 takes a free one.
    pub http_listen_port: u16,
    /// Address of the gRPC listener.
    pub grpc_listen_address: String,
    /// Port of the gRPC listener; 0 takes a free one.
    pub grpc_listen_port: u16,
    /// Put before every route.
    pub http_path_prefix: String,
    /// Connections open at a time.
    pub http_listen_conn_limit: usize,
    /// Longest pause while a request's body arrives.
    pub http_server_read_timeout: Duration,
    /// Longest time for an answer to begin; 0 leaves it to each route.
    pub http_server_write_timeout: Duration,
    /// Longest time a connection may be idle between requests.
    pub http_server_idle_timeout: Duration,
    /// Largest gRPC message taken, in bytes.
    pub grpc_server_max_recv_msg_size: usize,
    /// Largest gRPC message sent, in bytes.
    pub grpc_server_max_send_msg_size: usize,
    /// How long a shutdown may take.
    pub graceful_shutdown_timeout: Duration,
    /// `debug`, `info`, `warn`, `error`; the environment's `RUST_LOG` wins.
    pub log_level: String,
    /// `json`, `logfmt`, or `console` for people.
    pub log_format: String,
    /// TLS of the HTTP listener.
    pub http_tls_config: TlsConfig,
    /// TLS of the gRPC listener.
    pub grpc_tls_config: TlsConfig,
    /// Of the agent: no listener at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable: Option<bool>,
    /// Of the agent: `/ready` waits for a target; true unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_target: Option<bool>,
    /// Of the agent: `POST /reload` is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_runtime_reload: Option<bool>,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            http_listen_address: "127.0.0.1".to_owned(),
            http_listen_port: 80,
            grpc_listen_address: "127.0.0.1".to_owned(),
            grpc_listen_port: 9095,
            http_path_prefix: String::new(),
            http_listen_conn_limit: 10_000,
            http_server_read_timeout: Duration::from_secs(30),
            http_server_write_timeout: Duration::default(),
            http_server_idle_timeout: Duration::from_secs(120),
            grpc_server_max_recv_msg_size: 100 << 20,
            grpc_server_max_send_msg_size: 100 << 20,
            graceful_shutdown_timeout: Duration::from_secs(30),
            log_level: "info".to_owned(),
            log_format: "json".to_owned(),
            http_tls_config: TlsConfig::default(),
            grpc_tls_config: TlsConfig::default(),
            disable: None,
            health_check_target: None,
            enable_runtime_reload: None,
        }
    }
}

impl ServerConfig {
    /// The defaults with a service's own ports.
    pub fn on_ports(http: u16, grpc: u16) -> ServerConfig {
        ServerConfig { http_listen_port: http, grpc_listen_port: grpc, ..ServerConfig::default() }
    }

    /// Keys of this block that have no meaning here; add them under `server`.
    pub fn unneeded() -> Unneeded {
        Unneeded::new(&[
            "cluster_validation",
            "external_url",
            "graceful_shutdown_delay",
            "grpc_listen_conn_limit",
            "grpc_listen_network",
            "grpc_server_keepalive_time",
            "grpc_server_keepalive_timeout",
            "grpc_server_max_concurrent_streams",
            "grpc_server_max_connection_age",
            "grpc_server_max_connection_age_grace",
            "grpc_server_max_connection_idle",
            "grpc_server_min_time_between_pings",
            "grpc_server_num_stream_workers",
            "grpc_server_num_workers",
            "grpc_server_ping_without_stream_allowed",
            "grpc_server_recv_buffer_pools_enabled",
            "grpc_server_stats_tracking_enabled",
            "grpc_tls_config.client_auth_type",
            "http_listen_network",
            "http_log_closed_connections_without_response_enabled",
            "http_server_read_header_timeout",
            "http_tls_config.client_auth_type",
            "log_request_at_info_level_enabled",
            "log_request_exclude_headers_list",
            "log_request_headers",
            "log_source_ips_enabled",
            "log_source_ips_full",
            "log_source_ips_header",
            "log_source_ips_regex",
            "profiling_enabled",
            "proxy_protocol_enabled",
            "register_instrumentation",
            "reload",
            "report_grpc_codes_in_instrumentation_label_enabled",
            "throughput",
            "tls_cipher_suites",
            "tls_min_version",
            "trace_request_exclude_headers_list",
            "trace_request_headers",
        ])
    }

    /// Checks what types cannot; `path` is where the block stands (`server`).
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let of_the_agent = [
            ("disable", self.disable),
            ("health_check_target", self.health_check_target),
            ("enable_runtime_reload", self.enable_runtime_reload),
        ];
        for (key, _) in of_the_agent.iter().filter(|(_, value)| value.is_some()) {
            problems.unneeded(format!("{path}.{key}"));
        }
        self.check_agent(path, problems);
    }

    /// As [`check`](Self::check), for the agent, which has keys of its own here.
    pub fn check_agent(&self, path: &str, problems: &mut Problems) {
        if self.format().is_none() {
            let message = format!("`{}` is not a log format: use json, logfmt or console", self.log_format);
            problems.add(format!("{path}.log_format"), message);
        }
        if let Err(error) = telemetry::check_level(&self.log_level) {
            problems.add(format!("{path}.log_level"), error.to_string());
        }
        let prefix = &self.http_path_prefix;
        if !prefix.is_empty() && !prefix.starts_with('/') {
            problems.add(format!("{path}.http_path_prefix"), format!("`{prefix}` must begin with a slash"));
        }
        for (section, tls) in
            [("http_tls_config", &self.http_tls_config), ("grpc_tls_config", &self.grpc_tls_config)]
        {
            if tls.cert_file.is_empty() != tls.key_file.is_empty() {
                problems.add(format!("{path}.{section}"), "TLS needs both cert_file and key_file");
            }
        }
    }

    fn format(&self) -> Option<telemetry::Format> {
        match self.log_format.as_str() {
            "json" | "" => Some(telemetry::Format::Json),
            "logfmt" => Some(telemetry::Format::Logfmt),
            "console" => Some(telemetry::Format::Console),
            _ => None,
        }
    }

    /// Level and format for the process's own logs.
    pub fn logging(&self) -> Logging {
        Logging {
            level: Some(self.log_level.clone()).filter(|level| !level.is_empty()),
            format: self.format(),
        }
    }

    /// Bounds for [`crate::Server::limits`].
    pub fn limits(&self) -> Limits {
        let set = |duration: Duration| (!duration.is_zero()).then_some(duration.get());
        let defaults = Limits::default();
        Limits {
            connections: match self.http_listen_conn_limit {
                0 => defaults.connections,
                limit => limit,
            },
            header_timeout: set(self.http_server_idle_timeout).unwrap_or(defaults.header_timeout),
            body_timeout: set(self.http_server_read_timeout).unwrap_or(defaults.body_timeout),
            request_timeout: set(self.http_server_write_timeout),
            ..defaults
        }
    }

    /// Puts `http_path_prefix` before every route.
    pub fn mount(&self, router: Router) -> Router {
        match self.http_path_prefix.trim_end_matches('/') {
            "" => router,
            prefix => {
                // Nested, the root is at the prefix without a slash only.
                let root = router.clone().map_request(|mut request: Request| {
                    let query = request.uri().query().map_or(String::new(), |query| format!("?{query}"));
                    if let Ok(uri) = format!("/{query}").parse() {
                        *request.uri_mut() = uri;
                    }
                    request
                });
                Router::new().nest(prefix, router).route_service(&format!("{prefix}/"), root)
            }
        }
    }

    /// Binds the HTTP listener.
    pub fn listen_http(&self) -> Result<Listener, ListenError> {
        let address = join(&self.http_listen_address, self.http_listen_port);
        Listener::bind(&address, "server.http_listen_port", &self.http_tls_config)
    }

    /// Binds the gRPC listener.
    pub fn listen_grpc(&self) -> Result<Listener, ListenError> {
        let address = join(&self.grpc_listen_address, self.grpc_listen_port);
        Listener::bind(&address, "server.grpc_listen_port", &self.grpc_tls_config)
    }
}

/// `host:port`; an empty host is every interface, an IPv6 address gets its brackets.
fn join(host: &str, port: u16) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_join() {
        assert_eq!(join("", 80), ":80");
        assert_eq!(join("localhost", 80), "localhost:80");
        assert_eq!(join("::1", 80), "[::1]:80");
        assert_eq!(join("[::]", 80), "[::]:80");
    }

    #[tokio::test]
    async fn a_prefix_with_and_without_a_slash() {
        use axum::{body::Body, extract::OriginalUri, extract::RawQuery, routing::get};
        let root = async |OriginalUri(uri): OriginalUri, RawQuery(query): RawQuery| {
            format!("{uri} {}", query.unwrap_or_default())
        };
        let routes = Router::new().route("/", get(root)).route("/ready", get(async || "ready"));
        for prefix in ["", "/", "/a", "/a/", "/a/b"] {
            let server = ServerConfig { http_path_prefix: prefix.to_owned(), ..ServerConfig::default() };
            let mounted = server.mount(routes.clone());
            let ask = async |path: &str| {
                let request = Request::get(path).body(Body::empty()).unwrap();
                let response = mounted.clone().oneshot(request).await.unwrap();
                let status = response.status().as_u16();
                let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
                (status, String::from_utf8(body.to_vec()).unwrap())
            };
            let before = prefix.trim_end_matches('/');
            assert_eq!(ask(&format!("{before}/ready")).await, (200, "ready".to_owned()), "{prefix}");
            let at_root = format!("{before}/?x=1");
            assert_eq!(ask(&at_root).await, (200, format!("{at_root} x=1")));
            if !before.is_empty() {
                assert_eq!(ask(before).await, (200, format!("{before} ")));
                assert_eq!(ask("/ready").await.0, 404);
            }
        }
    }

    #[test]
    fn mistakes_are_found() {
        let config = ServerConfig {
            log_level: "loud".to_owned(),
            log_format: "xml".to_owned(),
            http_path_prefix: "x".to_owned(),
            http_tls_config: TlsConfig { cert_file: "a".to_owned(), ..TlsConfig::default() },
            ..ServerConfig::default()
        };
        let mut problems = Problems::default();
        config.check("server", &mut problems);
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(
            paths,
            ["server.log_format", "server.log_level", "server.http_path_prefix", "server.http_tls_config"]
        );
        let mut problems = Problems::default();
        ServerConfig::default().check("server", &mut problems);
        assert!(problems.is_empty(), "{problems}");
    }
}

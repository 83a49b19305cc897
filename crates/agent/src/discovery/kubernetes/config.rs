//! The `kubernetes_sd_configs` section.

use serde::{Deserialize, Serialize};
use service::config::{Problems, Secret};

use crate::config::{
    AuthConfig, AuthorizationConfig, BasicAuthConfig, OAuth2Config, ProxyConfig, TlsConfig, is_web,
};

/// One of `kubernetes_sd_configs`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct KubernetesSdConfig {
    /// What is discovered: `pod`.
    pub role: String,
    /// URL of the API server; without one, and without `kubeconfig_file`, that of the cluster which the agent runs in.
    pub api_server: String,
    /// Kubeconfig whose current context is used.
    pub kubeconfig_file: String,
    /// Where pods are looked for; everywhere if none is named.
    pub namespaces: NamespacesConfig,
    /// Which pods.
    pub selectors: Vec<SelectorConfig>,
    /// More labels.
    pub attach_metadata: AttachConfig,
    /// User and password, with `api_server`.
    pub basic_auth: BasicAuthConfig,
    /// Token, with `api_server`.
    pub bearer_token: Secret,
    /// File that holds the token, with `api_server`; read again for each request.
    pub bearer_token_file: String,
    /// Credentials of another type, with `api_server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<AuthorizationConfig>,
    /// A token that another server gives, with `api_server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oauth2: Option<OAuth2Config>,
    /// TLS towards the server, with `api_server`.
    pub tls_config: TlsConfig,
    /// Proxy on the way, with `api_server`.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub proxy_url: Secret,
}

/// `namespaces`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NamespacesConfig {
    /// The namespace of the agent's own pod.
    pub own_namespace: bool,
    /// These.
    pub names: Vec<String>,
}

/// One of `selectors`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct SelectorConfig {
    /// What it is for: `pod`.
    pub role: String,
    /// A label selector, `app=x,tier!=y`.
    pub label: String,
    /// A field selector, `status.phase=Running`.
    pub field: String,
}

/// `attach_metadata`
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct AttachConfig {
    /// Labels of the pod's node.
    pub node: bool,
}

impl KubernetesSdConfig {
    /// As whom it comes.
    pub(super) fn auth(&self) -> AuthConfig<'_> {
        AuthConfig {
            basic: &self.basic_auth,
            token: &self.bearer_token,
            token_file: &self.bearer_token_file,
            authorization: self.authorization.as_ref(),
            oauth2: self.oauth2.as_ref(),
        }
    }

    /// The proxy on the way.
    pub(super) fn proxy(&self) -> ProxyConfig {
        ProxyConfig { url: self.proxy_url.clone(), ..ProxyConfig::default() }
    }

    /// Checks what types cannot.
    pub(crate) fn check(&self, path: &str, problems: &mut Problems) {
        let mut role = |at: String, role: &str| match role {
            "pod" => {}
            "node" | "service" | "endpoints" | "endpointslice" | "ingress" => problems.add(
                at,
                format!("'{role}' is not built: logs are files of pods, so use role pod and its labels"),
            ),
            other => problems.add(at, format!("'{other}' is no role: write pod")),
        };
        role(format!("{path}.role"), &self.role);
        for (i, selector) in self.selectors.iter().enumerate() {
            role(format!("{path}.selectors[{i}].role"), &selector.role);
        }
        if self.attach_metadata.node {
            problems.add(
                format!("{path}.attach_metadata.node"),
                "is not built: set the node's labels as labels of the job, or leave it out",
            );
        }
        if !self.api_server.is_empty() && !self.kubeconfig_file.is_empty() {
            problems
                .add(format!("{path}.kubeconfig_file"), "api_server and kubeconfig_file exclude each other");
        }
        if !self.api_server.is_empty() && !is_web(&self.api_server) {
            problems.add(
                format!("{path}.api_server"),
                format!("'{}' is not a URL: write https://host:6443", self.api_server),
            );
        }
        self.auth().check(path, problems);
        self.tls_config.check(&format!("{path}.tls_config"), problems);
        self.proxy().check(path, problems);
        let auth = self.basic_auth != BasicAuthConfig::default()
            || !self.bearer_token.is_empty()
            || !self.bearer_token_file.is_empty()
            || self.authorization.is_some()
            || self.oauth2.is_some()
            || self.tls_config != TlsConfig::default();
        if self.api_server.is_empty() && auth {
            problems.add(
                path,
                "credentials and tls_config are those of api_server: set it, or use kubeconfig_file",
            );
        }
    }

    /// Field and label selector of the pods to be read: those of `node`, unless a selector names another node.
    pub(super) fn pod_selectors(&self, node: &str) -> (String, String) {
        let join = |of: fn(&SelectorConfig) -> &String| {
            let parts = self.selectors.iter().map(of).filter(|part| !part.is_empty());
            parts.cloned().collect::<Vec<_>>().join(",")
        };
        let (mut field, label) = (join(|s| &s.field), join(|s| &s.label));
        if !field.contains("spec.nodeName") {
            let comma = if field.is_empty() { "" } else { "," };
            field = format!("spec.nodeName={node}{comma}{field}");
        }
        (field, label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_joined() {
        let selector = |label: &str, field: &str| SelectorConfig {
            role: "pod".into(),
            label: label.into(),
            field: field.into(),
        };
        let check = |selectors: Vec<SelectorConfig>, field: &str, label: &str| {
            let config = KubernetesSdConfig { selectors, ..KubernetesSdConfig::default() };
            assert_eq!(config.pod_selectors("n1"), (field.to_owned(), label.to_owned()));
        };
        check(vec![], "spec.nodeName=n1", "");
        check(
            vec![selector("app=x", ""), selector("tier!=y", "status.phase=Running")],
            "spec.nodeName=n1,status.phase=Running",
            "app=x,tier!=y",
        );
        check(vec![selector("", "spec.nodeName=n2")], "spec.nodeName=n2", "");
    }

    #[test]
    fn mistakes() {
        let check = |yaml: &str, want: &str| {
            let config: KubernetesSdConfig = serde_json::from_str(yaml).unwrap();
            let mut problems = Problems::default();
            config.check("sd", &mut problems);
            assert!(problems.to_string().contains(want), "{yaml}: {problems}");
        };
        check(r#"{"role": "node"}"#, "sd.role: 'node' is not built");
        check(r#"{}"#, "sd.role: '' is no role");
        check(r#"{"role": "pod", "selectors": [{"role": "x"}]}"#, "sd.selectors[0].role: 'x' is no role");
        check(r#"{"role": "pod", "api_server": "host"}"#, "sd.api_server: 'host' is not a URL");
        check(r#"{"role": "pod", "bearer_token": "x"}"#, "sd: credentials");
        check(
            r#"{"role": "pod", "attach_metadata": {"node": true}}"#,
            "sd.attach_metadata.node: is not built",
        );
    }
}

//! The gRPC health service (`grpc.health.v1`), answering from the same components as `/ready`.

use tonic_health::{
    ServingStatus,
    pb::health_server::{Health as HealthApi, HealthServer},
};

use crate::{Health, Phase, Process};

/// The service, to be added to a server's routes; a task of the process named `{name}/grpc-health` keeps it current.
pub fn health_service(process: &mut Process, name: &str, health: &Health) -> HealthServer<impl HealthApi> {
    let (reporter, service) = tonic_health::server::health_reporter();
    let health = health.clone();
    process.task(format!("{name}/grpc-health"), Phase::Stop, move |stop| async move {
        let mut changes = health.changes();
        loop {
            let status = if health.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status("", status).await;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = changes.changed() => changed?,
            }
        }
    });
    service
}

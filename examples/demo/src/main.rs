//! A shop of three services, to have logs and traces to look at: `frontend` buys from itself twice a second, `checkout` takes
//! the order, and `payment` is at times slow and at times refuses.
//!
//! It shows all that an application does to be observed: [`telemetry::init`] once in `main`, plain `tracing` wherever there is
//! something to say, and the few lines of [`http`] that carry a trace from one service to the next. Where the collector is comes
//! from the standard variables; without one, or with a dead one, the shop works and its log lines still tell their trace.
//!
//! ```sh
//! export OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317
//! DEMO_ROLE=payment  DEMO_LISTEN=127.0.0.1:8083 timberline-demo &
//! DEMO_ROLE=checkout DEMO_LISTEN=127.0.0.1:8082 DEMO_NEXT=http://127.0.0.1:8083 timberline-demo &
//! DEMO_ROLE=frontend DEMO_LISTEN=127.0.0.1:8081 DEMO_NEXT=http://127.0.0.1:8082 timberline-demo
//! ```

mod http;

use std::{env, time::Duration};

use anyhow::{Context, bail};
use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    middleware,
    routing::get,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{Span, error, field::Empty, info, instrument, warn};

use crate::http::{Client, Failed};

const BETWEEN_ORDERS: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let role = env::var("DEMO_ROLE").unwrap_or_else(|_| "frontend".to_owned());
    // Dropped at the end of `main`: what is still queued goes out, for two seconds at most.
    let _telemetry = telemetry::init(telemetry::Settings::new(&role).version(env!("CARGO_PKG_VERSION")))?;

    let listen = env::var("DEMO_LISTEN").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&listen).await.with_context(|| format!("DEMO_LISTEN={listen}"))?;
    let itself = format!("http://127.0.0.1:{}", listener.local_addr()?.port());
    info!(role, listen, "open");

    let routes = match role.as_str() {
        "frontend" => Router::new().route("/buy/{order}", get(sell)).with_state(Client::new(next()?)?),
        "checkout" => {
            Router::new().route("/checkout/{order}", get(check_out)).with_state(Client::new(next()?)?)
        }
        "payment" => Router::new().route("/pay/{order}", get(pay)),
        other => bail!("DEMO_ROLE={other}: use frontend, checkout or payment"),
    };
    let routes = routes.layer(middleware::from_fn(http::traced));
    let serving = async { axum::serve(listener, routes).with_graceful_shutdown(asked_to_stop()?).await };
    if role == "frontend" {
        let customer = Client::new(itself)?;
        tokio::select! {
            served = serving => served?,
            () = buy_forever(&customer) => {}
        }
    } else {
        serving.await?;
    }
    info!("closed");
    Ok(())
}

/// Where the service after this one is.
fn next() -> anyhow::Result<String> {
    env::var("DEMO_NEXT").context("DEMO_NEXT is not set: give the URL of the next service")
}

/// Ends when the process gets SIGTERM or SIGINT: as the first process of a container it would not end by itself.
fn asked_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The customer: one order after another.
async fn buy_forever(shop: &Client) {
    let mut clock = interval(BETWEEN_ORDERS);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for order in 1.. {
        clock.tick().await;
        buy(shop, order).await;
    }
}

/// Where a trace begins. `order` is on every line and every span from here on.
#[instrument(name = "order", skip(shop), fields(otel.status_code = Empty))]
async fn buy(shop: &Client, order: u64) {
    if let Err(failed) = shop.get(&format!("/buy/{order}")).await {
        Span::current().record("otel.status_code", "ERROR");
        error!(error = %failed, "order failed");
    }
}

async fn sell(State(checkout): State<Client>, Path(order): Path<u64>) -> Result<String, Failed> {
    info!(order, "order taken");
    checkout.get(&format!("/checkout/{order}")).await
}

async fn check_out(State(payment): State<Client>, Path(order): Path<u64>) -> Result<String, Failed> {
    let receipt = payment.get(&format!("/pay/{order}")).await.inspect_err(|failed| {
        warn!(order, error = %failed, "order put back");
    })?;
    info!(order, receipt, "order paid");
    Ok(receipt)
}

async fn pay(Path(order): Path<u64>) -> Result<String, (StatusCode, &'static str)> {
    let amount = 5 + order * 7 % 90;
    match charge(order, amount).await {
        true => Ok(format!("{amount} EUR")),
        false => Err((StatusCode::PAYMENT_REQUIRED, "card refused")),
    }
}

/// Asks the bank: every tenth order takes it long, and one in fifteen it refuses.
#[instrument(fields(otel.status_code = Empty, otel.status_description = Empty))]
async fn charge(order: u64, amount: u64) -> bool {
    let took = if order % 10 == 4 { 600 + order % 3 * 200 } else { 5 + order % 7 * 5 };
    sleep(Duration::from_millis(took)).await;
    if took > 500 {
        warn!(took_ms = took, "bank is slow");
    }
    if order % 15 == 7 {
        Span::current().record("otel.status_code", "ERROR").record("otel.status_description", "card refused");
        error!("card refused");
        return false;
    }
    info!("card charged");
    true
}

//! `/tail`: entries as they come, over a WebSocket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hashbrown::HashSet;
use logql::{Categories, Direction, Expr, LabelSet, LogExpr, LogParams};
use parking_lot::Mutex;
use service::Failure;
use service::http::Draining;
use tokio::sync::Notify;

use crate::api::App;
use crate::api::ask::Ask;
use crate::api::query::{CATEGORIZE, FLAGS};
use crate::tail::{Batch, Line, Live, Outbox, Subscription, in_order};

/// The client is asked for a sign of life this often.
const PING: Duration = Duration::from_secs(1);
/// A client without one for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// Largest message of a client; none is wanted.
const MAX_MESSAGE: usize = 64 << 10;

/// What a tail is to do.
struct Tail {
    app: Arc<App>,
    ask: Ask,
    expr: LogExpr,
    history: LogParams,
    categories: Categories,
    flags: Vec<String>,
    live: Arc<Live>,
    subscription: Subscription,
    outbox: Mutex<Outbox>,
    /// Something was put into the outbox.
    news: Notify,
    heard: Mutex<Instant>,
}

/// Why a tail ends.
enum End {
    /// The client is gone, or said so.
    Gone,
    /// We end it, with a code and a reason.
    Close(u16, String),
}

/// `/tail` and `/api/prom/tail`
pub(crate) async fn tail(
    State(app): State<Arc<App>>,
    draining: Option<axum::Extension<Draining>>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    ask: Ask,
) -> Result<Response, Failure> {
    let Expr::Log(expr) = ask.query()? else {
        return Err(Failure::invalid("only log queries can be tailed: remove the aggregation"));
    };
    app.check_matchers(&ask, &expr.matchers)?;
    let delay = delay_for(&ask)?;
    let limit = ask.params.limit("limit", 100)?;
    app.check_entries(&ask, limit)?;
    let start = ask.params.time("start")?.unwrap_or_else(|| ask.now.plus(-3_600_000_000_000));
    let start = app.look_back(&ask, start, ask.now).unwrap_or(ask.now);
    let flags: Vec<String> =
        if ask.has_flag(FLAGS, CATEGORIZE) { vec![CATEGORIZE.to_owned()] } else { Vec::new() };
    let categories = if flags.is_empty() { Categories::Merged } else { Categories::Separate };
    let live = Arc::new(Live::new(&expr, categories)?);
    let socket = match socket {
        Ok(socket) => socket,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    let most = ask.limits.max_concurrent_tail_requests;
    // From here on pushes are queued, so that none falls between history and now.
    let subscription = app.ingest.tails().subscribe(&ask.tenant, &expr.matchers, most)?;
    let history = LogParams {
        start: start.nanos(),
        end: ask.now.nanos().saturating_add(1),
        limit,
        direction: Direction::Backward,
        interval: 0,
    };
    let tail = Tail {
        app,
        ask,
        expr,
        history,
        categories,
        flags,
        live,
        subscription,
        outbox: Mutex::new(Outbox::new(delay)),
        news: Notify::new(),
        heard: Mutex::new(Instant::now()),
    };
    let socket = socket.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    // The task ends with the connection, at the latest when the server drains.
    Ok(socket.on_upgrade(move |socket| tail.run(socket, draining.map(|d| d.0))))
}

/// Seconds that entries are held back, 0 to 5.
fn delay_for(ask: &Ask) -> Result<Duration, Failure> {
    let Some(text) = ask.params.get("delay_for") else { return Ok(Duration::ZERO) };
    match text.parse::<u64>() {
        Ok(seconds) if seconds <= 5 => Ok(Duration::from_secs(seconds)),
        Ok(_) => Err(Failure::invalid("delay_for can't be greater than 5")),
        Err(_) => Err(Failure::invalid(format!(
            "could not parse 'delay_for' parameter: {text:?} is no number of seconds"
        ))),
    }
}

impl Tail {
    async fn run(self, socket: WebSocket, draining: Option<Draining>) {
        let (mut sink, stream) = socket.split();
        let drained = async {
            match draining {
                Some(Draining(token)) => token.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let longest = self.app.tail_max_duration;
        let end = tokio::select! {
            end = self.pump() => end,
            end = self.write(&mut sink) => end,
            () = self.read(stream) => End::Gone,
            () = drained => End::Close(1001, "the server is stopping".to_owned()),
            () = tokio::time::sleep(longest) => {
                End::Close(1011, format!("reached tail max duration limit of {longest:?}"))
            }
        };
        if let End::Close(code, reason) = end {
            let frame = CloseFrame { code, reason: reason.into() };
            // A client that does not take it learns it from the end of the connection.
            let _ = tokio::time::timeout(PING, sink.send(Message::Close(Some(frame)))).await;
        }
    }

    /// History first, then what is pushed.
    async fn pump(&self) -> End {
        let sent = match self.history().await {
            Ok(sent) => sent,
            Err(failure) => return End::Close(1011, reason(failure.message())),
        };
        loop {
            let (batch, missed) = self.subscription.next().await;
            if let Err(end) = self.pass(batch, missed, &sent).await {
                return end;
            }
        }
    }

    /// Sends the newest entries before now, and says which they were.
    async fn history(&self) -> Result<HashSet<u64>, Failure> {
        let context = self.app.context(&self.ask);
        let query = self.app.querier.log_query(&context, &self.expr, self.history, self.categories);
        let lines = in_order(crate::query::run::within(self.ask.limits.query_timeout.get(), query).await?);
        let sent = lines.iter().map(fingerprint).collect();
        self.put(lines);
        Ok(sent)
    }

    /// Passes a push on, but for what history had: that was queued, or about to be, while history was read.
    async fn pass(&self, batch: Arc<Batch>, missed: usize, sent: &HashSet<u64>) -> Result<(), End> {
        let live = self.live.clone();
        let lines = tokio::task::spawn_blocking(move || live.run(&batch)).await;
        let lines = lines.unwrap_or_else(|e| Err(Failure::internal(format!("evaluating a push died: {e}"))));
        let mut lines = lines.map_err(|failure| End::Close(1011, reason(failure.message())))?;
        lines.retain(|line| !sent.contains(&fingerprint(line)));
        if missed > 0 {
            // Nobody looked at what was in those pushes: each counts as one entry.
            let now = model::Timestamp::now().nanos();
            let mut outbox = self.outbox.lock();
            (0..missed).for_each(|_| outbox.lose(now, LabelSet::default()));
        }
        self.put(lines);
        Ok(())
    }

    fn put(&self, lines: Vec<Line>) {
        let now = Instant::now();
        let mut outbox = self.outbox.lock();
        lines.into_iter().for_each(|line| outbox.put(line, now));
        drop(outbox);
        self.news.notify_one();
    }

    /// Writes frames as the client takes them, and pings.
    async fn write(&self, sink: &mut SplitSink<WebSocket, Message>) -> End {
        let mut ping = tokio::time::interval(PING);
        ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = Instant::now();
            let (frame, due) = {
                let mut outbox = self.outbox.lock();
                (outbox.take(now), outbox.due(now))
            };
            let message = match frame {
                Some(frame) => Message::Text(frame.json(&self.flags).into()),
                None => {
                    let wait = due.map_or(PING, |due| due.saturating_duration_since(now));
                    tokio::select! {
                        () = self.news.notified() => continue,
                        () = tokio::time::sleep(wait), if due.is_some() => continue,
                        _ = ping.tick() => {}
                    }
                    if self.heard.lock().elapsed() > SILENCE {
                        return End::Gone;
                    }
                    Message::Ping(bytes::Bytes::new())
                }
            };
            match tokio::time::timeout(SILENCE, sink.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return End::Gone,
            }
        }
    }

    /// Listens until the client closes; what it says does not matter.
    async fn read(&self, mut stream: SplitStream<WebSocket>) {
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Close(_) = message {
                return;
            }
            *self.heard.lock() = Instant::now();
        }
    }
}

/// Tells entries apart.
fn fingerprint(line: &Line) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    (&line.labels, line.entry.timestamp, &line.entry.line, &line.entry.metadata).hash(&mut hasher);
    hasher.finish()
}

/// A close frame's reason has 123 bytes at most.
fn reason(text: &str) -> String {
    text[..text.floor_char_boundary(120)].to_owned()
}

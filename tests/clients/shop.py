"""A shop of two services, instrumented with OpenTelemetry's SDK: makes traces of given ids, and logs within them.

usage: shop.py grpc|http HOST:PORT SUFFIX START KIND=TRACE_ID...

SUFFIX ends the names of the services, START is the first trace's start in ns since the epoch, KIND is one of
ordinary, slow (the root lasts 800 ms) and error (the payment fails).
"""

import sys
from contextlib import ExitStack

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc_logs
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_traces
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_traces
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanKind, Status, StatusCode

MILLISECOND = 1_000_000


class GivenTraceIds(RandomIdGenerator):
    """Takes trace ids from a list; span ids are random."""

    def __init__(self, ids):
        self.ids = iter(ids)

    def generate_trace_id(self):
        return int(next(self.ids), 16)


class Service:
    """Providers of traces and logs with one resource, exporting over one protocol."""

    def __init__(self, name, protocol, address, ids=()):
        if protocol == "grpc":
            spans = grpc_traces.OTLPSpanExporter(endpoint=address, insecure=True)
            logs = grpc_logs.OTLPLogExporter(endpoint=address, insecure=True)
        else:
            gzip = Compression.Gzip
            spans = http_traces.OTLPSpanExporter(endpoint=f"http://{address}/v1/traces", compression=gzip)
            logs = http_logs.OTLPLogExporter(endpoint=f"http://{address}/v1/logs", compression=gzip)
        resource = Resource.create({"service.name": name, "service.namespace": "shop", "host.name": "node-1"})
        self.traces = TracerProvider(resource=resource, id_generator=GivenTraceIds(ids))
        self.traces.add_span_processor(BatchSpanProcessor(spans))
        self.tracer = self.traces.get_tracer("shop", "1.0")
        self.logs = LoggerProvider(resource=resource)
        self.logs.add_log_record_processor(BatchLogRecordProcessor(logs))
        self.logger = self.logs.get_logger("shop")

    def span(self, name, kind, start, end, attributes):
        """A span as the current one for a `with` block, with times of our choice."""
        span = self.tracer.start_span(name, kind=kind, start_time=start, attributes=attributes)
        stack = ExitStack()
        stack.callback(span.end, end_time=end)
        stack.enter_context(trace.use_span(span, end_on_exit=False))
        return stack

    def log(self, time, severity, text, attributes):
        """A record in the context of the current span."""
        record = LogRecord(
            timestamp=time,
            severity_number=severity,
            severity_text=severity.name,
            body=text,
            attributes=attributes,
        )
        self.logger.emit(record)

    def shut_down(self):
        """Exports everything; whatever happens is told on standard error by the SDK."""
        self.traces.shutdown()
        self.logs.shutdown()


def order(frontend, payment, kind, number, start):
    """One trace: an order that is paid."""
    length = (800 if kind == "slow" else 40) * MILLISECOND
    with frontend.span("GET /order", SpanKind.SERVER, start, start + length, {"order.number": number}):
        paid = start + 20 * MILLISECOND
        with payment.span("charge card", SpanKind.CLIENT, start + MILLISECOND, paid, {"card.kind": "credit"}):
            if kind == "error":
                span = trace.get_current_span()
                span.record_exception(ValueError("card refused"), timestamp=paid)
                span.set_status(Status(StatusCode.ERROR, "card refused"))
                payment.log(paid, SeverityNumber.ERROR, "card refused", {"order.number": number})
        with frontend.span("select stock", SpanKind.INTERNAL, paid, paid + MILLISECOND, {"stock.left": 3}):
            pass
        frontend.log(start + length, SeverityNumber.INFO, f"order {number} is done", {"order.number": number})


def main():
    protocol, address, suffix, start, *plan = sys.argv[1:]
    plan = [entry.split("=") for entry in plan]
    frontend = Service(f"frontend-{suffix}", protocol, address, [trace_id for _, trace_id in plan])
    payment = Service(f"payment-{suffix}", protocol, address)
    for number, (kind, _) in enumerate(plan):
        order(frontend, payment, kind, number, int(start) + number * 1000 * MILLISECOND)
    for service in (payment, frontend):
        service.shut_down()


if __name__ == "__main__":
    main()

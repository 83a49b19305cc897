"""Sends one span, and one log record, over gRPC without trying again, and prints the status code of each answer.

usage: refused.py HOST:PORT
"""

import sys

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub


def code(stub, request):
    """The name of the status with which a request is answered."""
    try:
        stub.Export(request, timeout=20)
    except grpc.RpcError as error:
        return error.code().name
    return grpc.StatusCode.OK.name


def main():
    spans = ExportTraceServiceRequest()
    span = spans.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = bytes(range(1, 17)), bytes(range(1, 9)), "lost"
    span.start_time_unix_nano, span.end_time_unix_nano = 1_750_000_000_000_000_000, 1_750_000_000_001_000_000
    records = ExportLogsServiceRequest()
    record = records.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano, record.body.string_value = 1_750_000_000_000_000_000, "lost"
    with grpc.insecure_channel(sys.argv[1]) as channel:
        print("traces", code(TraceServiceStub(channel), spans))
        print("logs", code(LogsServiceStub(channel), records))


if __name__ == "__main__":
    main()

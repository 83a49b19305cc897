//! How a process lives: configuration, command line, tasks, HTTP and gRPC servers, health, metrics, shutdown.

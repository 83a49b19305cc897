//! Every outside format: OTLP, Loki push and query, Tempo, decoded with size caps.

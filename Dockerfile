# Images of all services, for example: docker build --target logs --tag timberline/logs .
# `cargo xtask images` makes the same images from local binaries without pulling anything.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --workspace --bins \
    && mkdir -p /out/bin /out/data \
    && for b in timberline timberline-agent timberline-router timberline-logs timberline-traces timberline-demo; do \
         cp target/release/$b /out/bin/ && strip /out/bin/$b; done

FROM debian:bookworm-slim AS base
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build --chown=10001:10001 /out/data /var/lib/timberline
WORKDIR /var/lib/timberline

FROM base AS agent
COPY --from=build /out/bin/timberline-agent /usr/bin/
COPY compose/agent.yaml /etc/timberline/config.yaml
# Docker's socket and log files belong to root.
USER 0:0
ENTRYPOINT ["/usr/bin/timberline-agent"]
CMD ["--config", "/etc/timberline/config.yaml"]

FROM base AS router
COPY --from=build /out/bin/timberline-router /usr/bin/
COPY compose/router.yaml /etc/timberline/config.yaml
USER 10001:10001
ENTRYPOINT ["/usr/bin/timberline-router"]
CMD ["--config", "/etc/timberline/config.yaml"]

FROM base AS logs
COPY --from=build /out/bin/timberline-logs /usr/bin/
COPY compose/logs.yaml /etc/timberline/config.yaml
USER 10001:10001
ENTRYPOINT ["/usr/bin/timberline-logs"]
CMD ["--config", "/etc/timberline/config.yaml"]

FROM base AS traces
COPY --from=build /out/bin/timberline-traces /usr/bin/
COPY compose/traces.yaml /etc/timberline/config.yaml
USER 10001:10001
ENTRYPOINT ["/usr/bin/timberline-traces"]
CMD ["--config", "/etc/timberline/config.yaml"]

FROM base AS demo
COPY --from=build /out/bin/timberline-demo /usr/bin/
USER 10001:10001
ENTRYPOINT ["/usr/bin/timberline-demo"]

FROM base AS timberline
COPY --from=build /out/bin/timberline /usr/bin/
COPY compose/timberline.yaml /etc/timberline/config.yaml
USER 10001:10001
ENTRYPOINT ["/usr/bin/timberline"]
CMD ["--config", "/etc/timberline/config.yaml"]

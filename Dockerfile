# The image of roomcast, compiled here: the binary and the certificates it checks HTTPS with, on a slim Debian.
# Needs no BuildKit. `docker build -t roomcast .`, then `docker run -p 3001:3001 -v roomcast-data:/app/data roomcast`.
# docker/release.Dockerfile makes the same image from a binary of `./release.sh`, in seconds.
#
# Behind a proxy that signs with an authority of its own: docker build --build-arg EXTRA_CA="$(cat ca.pem)" .
# Only the build trusts it; the image does not.

# The version is that of rust-toolchain.toml, which is kept out of the build: it would have rustup fetch the
# components of development.
FROM rust:1.95-slim-bookworm AS build

ARG EXTRA_CA
ENV CARGO_HTTP_CAINFO=/etc/ssl/certs/ca-certificates.crt
RUN cp /etc/ssl/certs/ca-certificates.crt /usual-authorities.crt \
    && if [ -n "$EXTRA_CA" ]; then \
        printf '%s\n' "$EXTRA_CA" > /usr/local/share/ca-certificates/extra.crt && update-ca-certificates; \
    fi

# AWS-LC (the cryptography) and SQLite are compiled from C; the image's own gcc is enough.
WORKDIR /build

# The dependencies, built for an empty crate: this layer is rebuilt only when they change.
COPY Cargo.toml Cargo.lock ./
COPY crates crates
RUN mkdir src \
    && touch src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --profile dist --locked \
    && rm -r src

# Cargo goes by modification time, and the source may be older than the empty crate was built.
COPY src src
RUN touch src/lib.rs src/main.rs \
    && cargo build --profile dist --locked


# The client's browser bundles, for pages that load /socket.io/socket.io.js from the server as they do from Node's.
FROM node:22-bookworm-slim AS client-bundle
WORKDIR /bundle
COPY docker/client-bundle/ ./
ARG EXTRA_CA
RUN if [ -n "$EXTRA_CA" ]; then \
        printf '%s\n' "$EXTRA_CA" > /extra.crt && export NODE_EXTRA_CA_CERTS=/extra.crt; \
    fi \
    && npm ci --omit=dev --ignore-scripts --no-audit --no-fund


FROM debian:bookworm-slim

LABEL org.opencontainers.image.title="roomcast" \
      org.opencontainers.image.description="A Socket.IO compatible room server: rooms, history, recovery, presence and tokens in one binary" \
      org.opencontainers.image.licenses="MIT"

# A fixed number, so that what is mounted can be given to it, and orchestrators see that it is not root.
RUN groupadd --gid 10001 roomcast \
    && useradd --uid 10001 --gid roomcast --no-create-home --home-dir /app --shell /usr/sbin/nologin roomcast \
    && install --directory --owner=roomcast --group=roomcast /app/data

COPY --from=build /usual-authorities.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/dist/roomcast /usr/local/bin/roomcast
COPY --from=client-bundle /bundle/node_modules/socket.io-client/dist /usr/share/roomcast/client

WORKDIR /app
USER 10001:10001
ENV HOST=0.0.0.0 \
    PORT=3001 \
    CLIENT_BUNDLE_DIR=/usr/share/roomcast/client
EXPOSE 3001
# After the directory got its owner, which a new volume takes over.
VOLUME /app/data

# Longer than the 5 s that `roomcast health` itself waits, so that its own words reach the log of the health check.
HEALTHCHECK --interval=10s --timeout=7s --start-period=30s --retries=3 CMD ["roomcast", "health"]

# The server handles signals as process 1 too: it drains for SHUTDOWN_GRACE (10 s), which is all of the default grace
# of `docker stop`; give it a little more (`-t 15`).
STOPSIGNAL SIGTERM
ENTRYPOINT ["roomcast"]

# The image of roomcast from a binary that `./release.sh binaries` has made: nothing is compiled. `./release.sh image`
# builds it, and puts the browser bundles into dist/client. Needs no BuildKit. Its last stage is that of the Dockerfile.

FROM debian:bookworm-slim AS certificates
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates


FROM debian:bookworm-slim

LABEL org.opencontainers.image.title="roomcast" \
      org.opencontainers.image.description="A Socket.IO compatible room server: rooms, history, recovery, presence and tokens in one binary" \
      org.opencontainers.image.licenses="MIT"

# A fixed number, so that what is mounted can be given to it, and orchestrators see that it is not root.
RUN groupadd --gid 10001 roomcast \
    && useradd --uid 10001 --gid roomcast --no-create-home --home-dir /app --shell /usr/sbin/nologin roomcast \
    && install --directory --owner=roomcast --group=roomcast /app/data

COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# amd64 or arm64; BuildKit sets it, release.sh too.
ARG TARGETARCH
COPY dist/linux-${TARGETARCH}/roomcast /usr/local/bin/roomcast
COPY dist/client /usr/share/roomcast/client

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

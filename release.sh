#!/usr/bin/env bash
# Makes a release in dist/:  ./release.sh [check|binaries|deb|image|chart|sbom|checksums]...     (default: all but check and image)
#
#   check      what must hold before a release is published: the version's chapter in the changelog, a store file of its schema among the fixtures
#   binaries   one program for x86-64 and one for arm64, for every Linux with glibc 2.28 (2018) or newer
#   deb        the Debian packages of these, with a systemd unit and a user of its own; needs dpkg-deb
#   image      the container image of these; needs docker, and buildx to push
#   chart      the Helm chart as a package; checked with helm where it is installed
#   sbom       what is in them (CycloneDX), by cargo-cyclonedx, which is installed into target/ if it is missing
#   checksums  SHA256SUMS of all that is there
#
# Programs are linked by zig, which brings the C library of each target; zig and cargo-zigbuild come from PyPI into
# target/release-venv. ARCHITECTURES=amd64 leaves the other one out. ROOMCAST_BIN=/path takes that program for the
# architecture of this machine instead of compiling.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

glibc=2.28
zig_version=0.17.0
zigbuild_version=0.24.0
cyclonedx_version=0.5.9
version=$(sed -n 's/^version = "\(.*\)"/\1/p;T;q' Cargo.toml)
read -ra architectures <<<"${ARCHITECTURES:-amd64 arm64}"
# Where everything goes. The image takes the programs from dist/.
dist=$(realpath -m "${DIST:-dist}")
venv=target/release-venv

heading() { printf '\n=== %s ===\n' "$*"; }

fail() {
  printf 'release.sh: %s\n' "$*" >&2
  exit 1
}

# Rust's name of an architecture.
rust_name() {
  case $1 in
    amd64) echo x86_64 ;;
    arm64) echo aarch64 ;;
    *) fail "unknown architecture \"$1\": amd64 or arm64" ;;
  esac
}

# The architecture of this machine, as Docker and Debian call it.
this_machine() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64 | arm64) echo arm64 ;;
    *) fail "no programs are made for $(uname -m)" ;;
  esac
}

program() {
  local path=$dist/linux-$1/roomcast
  [[ -x $path ]] || fail "there is no $path: run ./release.sh binaries first"
  printf '%s\n' "$path"
}

check() {
  heading "checking version $version"
  local schema fixture
  schema=$(find src/store/embedded/migrations -name '*.sql' | wc -l)
  fixture=tests/fixtures/store-version-$schema.db
  [[ -f $fixture ]] ||
    fail "there is no $fixture: a released schema needs a store file, so that later versions are tested with it"
  grep -q "^## $version" CHANGELOG.md || fail "CHANGELOG.md has no chapter \"## $version\""
  grep -q "^appVersion: \"$version\"" deploy/helm/Chart.yaml || fail "deploy/helm/Chart.yaml has another appVersion"
  grep -q "roomcast:$version}" docker-compose.yml docker-compose.cluster.yml || fail 'the compose files name another version'
}

binaries() {
  local architecture target
  if [[ -z ${ROOMCAST_BIN:-} && ! -x $venv/bin/cargo-zigbuild ]]; then
    heading "installing zig $zig_version and cargo-zigbuild $zigbuild_version into $venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
      "ziglang==$zig_version" "cargo-zigbuild==$zigbuild_version"
  fi
  for architecture in "${architectures[@]}"; do
    target=$(rust_name "$architecture")-unknown-linux-gnu
    mkdir -p "$dist/linux-$architecture"
    if [[ -n ${ROOMCAST_BIN:-} && $target = "$(uname -m)"-* ]]; then
      install -m 0755 "$ROOMCAST_BIN" "$dist/linux-$architecture/roomcast"
      continue
    fi
    heading "building for $target, glibc $glibc"
    rustup target add "$target"
    PATH=$PWD/$venv/bin:$PATH cargo zigbuild --locked --profile dist --bin roomcast --target "$target.$glibc"
    install -m 0755 "${CARGO_TARGET_DIR:-target}/$target/dist/roomcast" "$dist/linux-$architecture/roomcast"
  done
  for architecture in "${architectures[@]}"; do
    tar --create --gzip --owner=0 --group=0 --file "$dist/roomcast-$version-linux-$architecture.tar.gz" \
      --transform "s,^linux-$architecture/,," --transform "s,^,roomcast-$version/," \
      LICENSE README.md CHANGELOG.md .env.example --directory "$dist" "linux-$architecture/roomcast"
  done
}

# client_bundle DIRECTORY: the browser bundles of the Socket.IO client, for CLIENT_BUNDLE_DIR.
client_bundle() {
  (cd docker/client-bundle && npm ci --omit=dev --ignore-scripts --no-audit --no-fund --silent)
  mkdir -p "$1"
  cp docker/client-bundle/node_modules/socket.io-client/dist/*.js "$1"
}

deb() {
  command -v dpkg-deb >/dev/null || fail 'dpkg-deb is missing: the packages are made on Debian or Ubuntu'
  local architecture root needs
  for architecture in "${architectures[@]}"; do
    heading "packing roomcast_${version}_$architecture.deb"
    root=$(mktemp -d)
    install -D -m 0755 "$(program "$architecture")" "$root/usr/bin/roomcast"
    install -D -m 0644 deploy/debian/roomcast.service "$root/lib/systemd/system/roomcast.service"
    install -D -m 0640 deploy/debian/roomcast.env "$root/etc/roomcast/roomcast.env"
    install -D -m 0644 LICENSE "$root/usr/share/doc/roomcast/copyright"
    install -D -m 0644 .env.example "$root/usr/share/doc/roomcast/examples/all-settings.env"
    gzip -9n <CHANGELOG.md >"$root/usr/share/doc/roomcast/changelog.gz"
    client_bundle "$root/usr/share/roomcast/client"
    mkdir "$root/DEBIAN"
    needs=$(grep --text --only-matching 'GLIBC_2\.[0-9]*' "$root/usr/bin/roomcast" | sort --version-sort | tail -n 1)
    install -m 0755 deploy/debian/{postinst,prerm,postrm} "$root/DEBIAN"
    echo /etc/roomcast/roomcast.env >"$root/DEBIAN/conffiles"
    cat >"$root/DEBIAN/control" <<EOF
Package: roomcast
Version: $version
Architecture: $architecture
Maintainer: The roomcast authors <roomcast@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: libc6 (>= ${needs#GLIBC_}), adduser, ca-certificates
Section: net
Priority: optional
Description: Socket.IO compatible room server
 Rooms, history, recovery, presence and tokens in one program, for clients of
 Socket.IO 1 to 4. It starts on 127.0.0.1:3001; see /etc/roomcast/roomcast.env.
EOF
    (cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | xargs -0 md5sum >DEBIAN/md5sums)
    chmod 0755 "$root"
    dpkg-deb --build --root-owner-group "$root" "$dist/roomcast_${version}_$architecture.deb"
    rm -r "$root"
  done
}

image() {
  local architecture
  [[ $dist = "$PWD/dist" ]] || fail 'the image is made of what is in dist/: leave out DIST'
  client_bundle dist/client
  heading "building the image roomcast:$version"
  # PUSH=registry/name sends all architectures there; without it, the one of this machine is kept here.
  if [[ -n ${PUSH:-} ]]; then
    for architecture in "${architectures[@]}"; do program "$architecture" >/dev/null; done
    local platforms=("${architectures[@]/#/linux/}")
    docker buildx build --file docker/release.Dockerfile --platform "$(IFS=,; echo "${platforms[*]}")" \
      --tag "$PUSH:$version" --push .
  else
    architecture=$(this_machine)
    program "$architecture" >/dev/null
    docker build --file docker/release.Dockerfile --build-arg "TARGETARCH=$architecture" --tag "roomcast:$version" .
  fi
}

chart() {
  heading 'packing the Helm chart'
  if command -v helm >/dev/null; then
    helm lint deploy/helm
    helm template roomcast deploy/helm >/dev/null
  else
    echo 'helm is not installed here: the chart is packed without helm lint.'
  fi
  # What `helm package` makes: the chart below a directory of its name.
  tar --create --gzip --owner=0 --group=0 --file "$dist/roomcast-chart-$version.tgz" --transform 's,^deploy/helm,roomcast,' deploy/helm
}

sbom() {
  local tools=target/release-tools
  if ! command -v cargo-cyclonedx >/dev/null && [[ ! -x $tools/bin/cargo-cyclonedx ]]; then
    heading "installing cargo-cyclonedx $cyclonedx_version into $tools"
    cargo install --locked --root "$tools" --version "$cyclonedx_version" cargo-cyclonedx
  fi
  heading 'listing what is inside'
  PATH=$PWD/$tools/bin:$PATH cargo cyclonedx --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu \
    --override-filename roomcast.sbom --quiet
  # Without this machine's directories.
  sed "s,file://$PWD,file:///roomcast,g" roomcast.sbom.json >"$dist/roomcast-$version.cdx.json"
  rm roomcast.sbom.json
  find crates -name roomcast.sbom.json -delete
}

checksums() {
  heading 'checksums'
  (cd "$dist" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS && cat SHA256SUMS)
}

steps=("$@")
((${#steps[@]})) || steps=(binaries deb chart sbom checksums)
for step in "${steps[@]}"; do
  case $step in
    check | binaries | deb | image | chart | sbom | checksums) ;;
    *) fail "unknown step \"$step\": check, binaries, deb, image, chart, sbom or checksums" ;;
  esac
done
mkdir -p "$dist"
for step in "${steps[@]}"; do "$step"; done

#!/usr/bin/env bash
# Runs every test there is, or one part of them:  ./test.sh [rust|cluster|clients|python|package|nestjs|angular|browser|openapi|docs|admin]
#
# It installs what is missing: npm packages and Python venvs in the project, system packages with apt-get. Before that, it
# lists the system packages and why they are needed; `./test.sh needs [PART]` only lists them.
# ROOMCAST_BIN=/path/to/roomcast tests that binary instead of building one (all but rust).
# CHROMIUM=/path/to/chromium names the browser of the package, angular, browser, docs and admin parts (default /usr/bin/chromium).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$PWD
target=${CARGO_TARGET_DIR:-target}
[[ $target = /* ]] || target=$root/$target
parts=(rust cluster clients python package nestjs angular browser openapi docs admin)
# Debian's own directory for the proxies is not in everybody's PATH.
PATH=$PATH:/usr/sbin
# Incremental builds keep more than all the rest takes, and one run of the tests does not use it.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}

heading() { printf '\n=== %s ===\n' "$*"; }

fail() {
  printf 'test.sh: %s\n' "$*" >&2
  exit 1
}

# What a part needs of the system, a line each: command, Debian's package, what for. A command that is a capitalised word is
# a check below.
needs_of() {
  case $1 in
    rust)
      echo 'redis-server redis-server the store that several nodes share'
      echo 'faketime faketime servers whose clocks jump'
      echo 'prlimit util-linux servers whose disks are full'
      ;;
    cluster | clients) echo 'redis-server redis-server the store that several nodes share, and emitters' ;;
    python)
      echo 'redis-server redis-server emitters'
      python_needs
      ;;
    openapi) python_needs ;;
    package | angular | admin) chromium_needs ;;
    browser)
      chromium_needs
      echo 'curl curl the commands that the playground prints'
      ;;
    docs)
      chromium_needs
      python_needs
      echo 'curl curl examples of the documents'
      echo 'sqlite3 sqlite3 backups as the documents make them'
      echo 'nginx nginx-light configurations of the documents'
      echo 'haproxy haproxy configurations of the documents'
      echo 'redis-server redis-server several nodes as the documents have them'
      echo 'javac default-jdk-headless examples in Java'
      echo 'php php-cli examples in PHP'
      echo 'PHP_CURL php-curl examples in PHP'
      echo 'strip binutils packages of a release'
      echo 'dpkg-deb dpkg packages of a release'
      ;;
  esac
}

chromium_needs() { [[ -n ${CHROMIUM:-} ]] || echo 'chromium chromium pages in a browser'; }

python_needs() {
  echo 'python3 python3 tests in Python'
  # Debian packs ensurepip, without which a venv has no pip, apart.
  echo 'ENSUREPIP python3-venv tests in Python'
}

is_there() {
  case $1 in
    PHP_CURL) php -r 'exit((int) !extension_loaded("curl"));' 2>/dev/null ;;
    ENSUREPIP) python3 -c 'import ensurepip' 2>/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# missing_of PART...: what the parts need and is not there, a line each: package, part, what for.
missing_of() {
  local part command package why
  for part in "$@"; do
    while read -r command package why; do
      is_there "$command" || printf '%-22s for %-8s %s\n' "$package" "$part:" "$why"
    done < <(needs_of "$part")
  done
}

# system_packages PART...: says what is missing, and installs it.
system_packages() {
  local missing packages as_root=()
  missing=$(missing_of "$@")
  [[ -n $missing ]] || return 0
  heading 'missing on this system'
  printf '%s\n' "$missing"
  command -v apt-get >/dev/null || fail 'there is no apt-get here: install these by hand'
  mapfile -t packages < <(awk '{ print $1 }' <<<"$missing" | sort -u)
  heading "installing by apt-get: ${packages[*]}"
  [[ $(id -u) = 0 ]] || as_root=(sudo)
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

needs() {
  local missing
  missing=$(missing_of "$@")
  printf '%s\n' "${missing:-Nothing is missing on this system.}"
}

# up_to_date STAMP FILE...: whether the stamp was written for these very files; if not, $current is what to write.
up_to_date() {
  local stamp=$1
  shift
  current=$(cat "$@" | sha256sum)
  [[ -f $stamp && $(<"$stamp") = "$current" ]]
}

node_packages() {
  command -v node >/dev/null || fail 'node is missing: install Node.js 20.19 or newer'
  local stamp=$1/node_modules/.lockfile current
  up_to_date "$stamp" "$1/package-lock.json" "$1/package.json" && return
  heading "npm ci in $1"
  (cd "$1" && npm ci --no-audit --no-fund)
  printf '%s\n' "$current" >"$stamp"
}

# python_packages VENV REQUIREMENTS...: a venv with these packages.
python_packages() {
  local venv=$1 current
  shift
  up_to_date "$venv/.requirements" "$@" && return
  heading "creating the Python venv $venv"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${@/#/--requirement=}"
  printf '%s\n' "$current" >"$venv/.requirements"
}

build_server() {
  if [[ -n ${ROOMCAST_BIN:-} ]]; then
    [[ -x $ROOMCAST_BIN ]] || fail "ROOMCAST_BIN=$ROOMCAST_BIN is not an executable file"
    ROOMCAST_BIN=$(realpath "$ROOMCAST_BIN")
  else
    heading 'building the server'
    cargo build --locked
    ROOMCAST_BIN=$target/debug/roomcast
  fi
  export ROOMCAST_BIN
}

# In the parts a failing command must not hide what the next one says.
status=0
run() { "$@" || status=1; }

rust() {
  if cargo nextest --version >/dev/null 2>&1; then
    heading 'rust: cargo nextest run'
    run cargo nextest run --locked --workspace
  else
    heading 'rust: cargo test'
    run cargo test --locked --workspace --all-targets
  fi
  heading 'rust: locks and atomics, under many schedules'
  run cargo test --locked --features shuttle --lib shuttle_
  heading 'rust: documentation tests'
  run cargo test --locked --doc
}

# Starts a Redis Cluster of three masters below a directory, and says where they are.
redis_cluster() {
  local port nodes=() at
  while ((${#nodes[@]} < 3)); do
    port=$((20000 + RANDOM % 10000))
    at=$1/$port
    mkdir -p "$at"
    # The port of its bus is 10,000 more; one of the two may be in use.
    redis-server --port "$port" --bind 127.0.0.1 --cluster-enabled yes --save '' --appendonly no --dir "$at" \
      --daemonize yes --pidfile "$at.pid" --logfile "$at.log" >/dev/null
    for _ in {1..50}; do
      redis-cli -p "$port" cluster info 2>/dev/null | grep -q cluster_known_nodes:1 && nodes+=("127.0.0.1:$port") && break
      sleep 0.1
    done
  done
  redis-cli --cluster create "${nodes[@]}" --cluster-yes >/dev/null
  until [[ $(redis-cli -p "$port" cluster info) = *cluster_state:ok* ]]; do sleep 0.1; done
  (
    IFS=,
    echo "${nodes[*]}"
  )
}

# The stories of one server, on one node over Redis and on two (except limits, which each node counts for itself), and the
# stories of several nodes.
cluster() {
  build_server
  node_packages tests/clients
  local directory port nodes chapters=(rooms messages users history recovery) story
  directory=$(mktemp -d)
  # shellcheck disable=SC2064 # The directory of this moment.
  trap "kill \$(cat '$directory'/*.pid) 2>/dev/null; rm -rf '$directory'" EXIT
  until redis-cli -s "$directory/redis.sock" ping >/dev/null 2>&1; do
    port=$((20000 + RANDOM % 10000))
    redis-server --port "$port" --bind 127.0.0.1 --unixsocket "$directory/redis.sock" --save '' --appendonly no \
      --dir "$directory" --daemonize yes --pidfile "$directory/redis.pid" --logfile "$directory/redis.log" >/dev/null
    for _ in {1..50}; do
      redis-cli -s "$directory/redis.sock" ping >/dev/null 2>&1 && break
      sleep 0.1
    done
  done
  export ROOMCAST_TEST_REDIS=redis://127.0.0.1:$port ROOMCAST_TEST_NODES
  for ROOMCAST_TEST_NODES in 1 2; do
    heading "cluster: ${chapters[*]}, on $ROOMCAST_TEST_NODES node(s) over Redis"
    run cargo test --locked --test server -- "${chapters[@]/%/::}" --skip cluster:: --skip http::
  done
  heading "cluster: ${chapters[*]}, on 2 nodes over two instances of Redis"
  ROOMCAST_TEST_REDIS=redis://127.0.0.1:$port/1,redis://127.0.0.1:$port/2 \
    run cargo test --locked --test server -- "${chapters[@]/%/::}" --skip cluster:: --skip http::
  heading "cluster: ${chapters[*]}, on 2 nodes over a Redis Cluster"
  nodes=$(redis_cluster "$directory")
  # Each of the 16 places has its share of the most rooms, and its own of a sender's, which these two count.
  ROOMCAST_TEST_REDIS=redis+cluster://$nodes \
    run cargo test --locked --test server -- "${chapters[@]/%/::}" --skip cluster:: --skip http:: \
    --skip no_more_rooms_are_stored_than_max_rooms --skip a_client_that_sends_to_ever_new_names
  heading 'cluster: socket.io-client 4, 3, 2 and 1, and rxjs, on 2 nodes over Redis'
  local stories=()
  for story in tests/clients/*.test.mjs; do
    [[ $story = */limits.test.mjs || $story = */emitters.test.mjs ]] || stories+=("$story")
  done
  run node --test --test-reporter=spec --test-timeout=300000 "${stories[@]}"
  unset ROOMCAST_TEST_REDIS ROOMCAST_TEST_NODES
  heading 'cluster: several nodes'
  run cargo test --locked --test server -- cluster::
}

clients() {
  build_server
  node_packages tests/clients
  heading 'clients: socket.io-client 4, 3, 2 and 1, rxjs, and emitters'
  cd tests/clients
  run node --test --test-reporter=spec --test-timeout=300000 ./*.test.mjs
}

python() {
  build_server
  python_packages "$target/python-venv" tests/clients/python/requirements.txt
  heading 'python: python-socketio, and its emitter'
  cd tests/clients/python
  PYTHONDONTWRITEBYTECODE=1 run "$target/python-venv/bin/python" -m pytest
}

# The npm package, built from the types of this tree.
client_package() {
  node_packages packages/client
  heading 'building @roomcast/client'
  (cd packages/client && npm run --silent build)
}

package() {
  build_server
  client_package
  heading 'package: @roomcast/client, in Node.js and in Chromium'
  cd packages/client
  run node --test --test-reporter=spec --test-concurrency=2 --test-timeout=300000 test/*.test.mjs
}

# Gateways on Node's own Socket.IO server and behind roomcast: the same stories.
nestjs() {
  build_server
  node_packages packages/nestjs
  heading 'nestjs: gateways on Socket.IO and behind roomcast'
  cd packages/nestjs
  run npx --no-install tsc -p tsconfig.json
  run npx --no-install tsc -p test/app/tsconfig.json
  run node --test --test-reporter=spec --test-timeout=300000 test/*.test.mjs
}

openapi() {
  build_server
  python_packages "$target/openapi-venv" tests/openapi/requirements.txt
  heading 'openapi: schemathesis'
  PYTHONDONTWRITEBYTECODE=1 run "$target/openapi-venv/bin/python" tests/openapi/check.py
}

angular() {
  build_server
  node_packages tests/clients
  node_packages tests/angular
  client_package
  heading 'angular: ngx-socket-io, @roomcast/client, and an old client, in Chromium'
  cd tests/angular
  run node --test --test-reporter=spec --test-timeout=300000 ./*.test.mjs
}

browser() {
  build_server
  node_packages tests/browser
  heading "browser: the playground and the client bundle, in Chromium (pictures in $target/screenshots)"
  cd tests/browser
  run node --test --test-reporter=spec --test-timeout=300000 ./*.test.mjs
}

docs() {
  build_server
  node_packages tests/clients
  node_packages tests/docs
  node_packages tests/docs/angular-20
  node_packages tests/docs/angular-22
  node_packages site
  client_package
  local venv=$target/docs-venv
  python_packages "$venv" tests/clients/python/requirements.txt tests/docs/requirements.txt
  heading 'docs: examples, links, configurations, AsyncAPI and TypeScript'
  export DOCS_PYTHON=$venv/bin/python
  cd tests/docs
  run node --test --test-reporter=spec --test-concurrency=2 --test-timeout=300000 ./*.test.mjs
}

admin() {
  build_server
  node_packages tests/admin
  heading 'admin: the official Admin UI, in Chromium'
  cd tests/admin
  run node --test --test-reporter=spec --test-timeout=300000 ./*.test.mjs
}

# Each part is a process of its own, so that the end of one does not end the others.
everything() {
  build_server
  local part failed=()
  for part in "${parts[@]}"; do
    "$root/test.sh" "$part" || failed+=("$part")
  done
  heading 'summary'
  for part in "${parts[@]}"; do
    [[ " ${failed[*]-} " = *" $part "* ]] && echo "FAILED  $part" || echo "passed  $part"
  done
  ((${#failed[@]} == 0)) || status=1
}

case ${1-everything} in
  rust | cluster | clients | python | package | nestjs | angular | browser | openapi | docs | admin)
    system_packages "$1"
    "$1"
    ;;
  everything)
    # Before minutes of building, so that a user without the right to install anything learns it now.
    system_packages "${parts[@]}"
    everything
    ;;
  needs) if (($# > 1)); then needs "${@:2}"; else needs "${parts[@]}"; fi ;;
  *) fail "unknown part \"$1\": one of ${parts[*]}, or nothing for all of them" ;;
esac
exit "$status"

#!/usr/bin/env bash
# Compares roomcast with other servers and with the bounds:  bench/run.sh [--quick] [--peers A,B] [--scenarios A,B]
#
# Builds everything, then runs each scenario on each server in turn, ROUNDS times, and prints medians. A complete run
# takes some 15 minutes and writes bench/RESULTS.md; --quick (one short round, some 4 minutes) and a run of a part
# write bench/target/RESULTS.md. The machine should do nothing else meanwhile.
#
#   ROUNDS=3 MEASURE=2 WARMUP=1   how often, and for how many seconds
#   ROOMCAST_BIN=/path            measures that binary instead of building one
#   SCALE=0.01 PROFILE=dev        a try-out with small rooms and without optimisation: no figures
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
bench=$PWD

all_scenarios=(fanout1 fanout4 rooms echo post idle connect flood workers)
all_peers=(bound-plain bound-batched node nest bun socketioxide roomcast roomcast-recovery roomcast-defaults roomcast-1-worker roomcast-2-workers)
# Sockets of one process: connect holds some 8,500 open.
files=16384

fail() {
  printf 'bench/run.sh: %s\n' "$*" >&2
  exit 1
}

# chosen LIST KNOWN...: the comma separated names of LIST, one a line, each of which must be known.
chosen() {
  local name names=$1
  shift
  for name in ${names//,/ }; do
    [[ " $* " = *" $name "* ]] || fail "there is no '$name'; there are: $*"
    printf '%s\n' "$name"
  done
}

scenarios=("${all_scenarios[@]}") peers=("${all_peers[@]}")
quick=false output=$bench/RESULTS.md
while (($#)); do
  case $1 in
    --quick) quick=true ;;
    --peers)
      names=$(chosen "${2:?--peers needs names}" "${all_peers[@]}")
      mapfile -t peers <<<"$names"
      output=$bench/target/RESULTS.md
      shift
      ;;
    --scenarios)
      names=$(chosen "${2:?--scenarios needs names}" "${all_scenarios[@]}")
      mapfile -t scenarios <<<"$names"
      output=$bench/target/RESULTS.md
      shift
      ;;
    *) fail "unknown argument '$1'; usage: bench/run.sh [--quick] [--peers A,B] [--scenarios A,B]" ;;
  esac
  shift
done
if $quick; then
  : "${ROUNDS:=1}" "${MEASURE:=1}" "${WARMUP:=0.5}"
  output=$bench/target/RESULTS.md
fi
: "${ROUNDS:=3}" "${MEASURE:=2}" "${WARMUP:=1}" "${SCALE:=1}" "${PROFILE:=dist}"
[[ $SCALE = 1 && $PROFILE = dist ]] || output=$bench/target/RESULTS.md
[[ $PROFILE = dist || $PROFILE = dev ]] || fail "PROFILE=$PROFILE: must be dist or dev"
[[ $ROUNDS =~ ^[1-9][0-9]*$ ]] || fail "ROUNDS=$ROUNDS: must be a number from 1"

command -v taskset >/dev/null || fail 'taskset is missing: install util-linux'
command -v node >/dev/null || fail 'node is missing: install Node.js 20 or newer'
ulimit -Sn $files 2>/dev/null || fail "$files open files are needed, but ulimit -Hn is $(ulimit -Hn)"

# The CPUs that this shell may use: the first for the server, the second for the generator.
allowed=$(taskset -cp $$ | sed 's/.*: //')
cpus=()
for range in ${allowed//,/ }; do
  for ((cpu = ${range%-*}; cpu <= ${range#*-}; cpu++)); do cpus+=("$cpu"); done
done
((${#cpus[@]} >= 2)) || fail 'two CPUs are needed: one for the server, one for the load generator'

### Building

printf '=== building\n'
cargo build --locked --profile "$PROFILE" --target-dir target
built=$PROFILE
[[ $PROFILE = dist ]] || built=debug
bin=$bench/target/$built
if [[ -n ${ROOMCAST_BIN:-} ]]; then
  [[ -x $ROOMCAST_BIN ]] || fail "ROOMCAST_BIN=$ROOMCAST_BIN is not an executable file"
  roomcast=$(realpath "$ROOMCAST_BIN")
else
  (cd .. && cargo build --locked --profile "$PROFILE" --bin roomcast)
  target=${CARGO_TARGET_DIR:-target}
  [[ $target = /* ]] || target=$(realpath "../$target")
  roomcast=$target/$built/roomcast
fi
stamp=node_modules/.lockfile
current=$(cat package.json package-lock.json | sha256sum)
if [[ ! -f $stamp || $(<$stamp) != "$current" ]]; then
  npm ci --no-audit --no-fund
  printf '%s\n' "$current" >$stamp
fi

# Bun's package renames its binary when install scripts are allowed; else it is where the registry has it.
bun=
for candidate in "$bench"/node_modules/bun/bin/bun.exe "$bench"/node_modules/@oven/*/bin/bun "$(command -v bun || true)"; do
  if [[ -x $candidate ]] && "$candidate" --version >/dev/null 2>&1; then
    bun=$candidate
    break
  fi
done

### Running

rm -rf target/run
mkdir -p target/run
results=$bench/target/results.jsonl
: >"$results"
server=
stop_server() {
  [[ -n $server ]] || return 0
  kill "$server" 2>/dev/null || true
  local try
  for ((try = 0; try < 50; try++)); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
}
trap stop_server EXIT

# start PEER PORT CPUS: starts a server with nothing in its environment but its settings; its id in $server.
start() {
  local peer=$1 port=$2 on=$3
  local settings=(PORT="$port" HOST=127.0.0.1) command
  # As for the peers: no limits, no history. Announcements cost a delivery per client and connection, so they are off
  # everywhere; the defaults' rate limit is on, but so high that it refuses nobody.
  local bare=(ANNOUNCE_CONNECTIONS=false RATE_LIMIT_EVENTS=0 HISTORY_SIZE=0 STORE_URL=memory:)
  case $peer in
    bound-*) command=("$bin/bound" "${peer#bound-}") ;;
    node | nest) settings+=(NODE_ENV=production) command=("$(command -v node)" "$bench/peers/$peer.js") ;;
    bun) settings+=(NODE_ENV=production) command=("$bun" "$bench/peers/bun.js") ;;
    socketioxide) command=("$bin/bare-socketioxide") ;;
    roomcast) settings+=("${bare[@]}") command=("$roomcast") ;;
    roomcast-recovery) settings+=("${bare[@]}" CONNECTION_STATE_RECOVERY=2m) command=("$roomcast") ;;
    roomcast-defaults)
      settings+=(ANNOUNCE_CONNECTIONS=false RATE_LIMIT_EVENTS=1000000 RATE_LIMIT_BURST=1000000)
      command=("$roomcast")
      ;;
    roomcast-1-worker) settings+=("${bare[@]}" TOKIO_WORKER_THREADS=1) command=("$roomcast") ;;
    roomcast-2-workers) settings+=("${bare[@]}" TOKIO_WORKER_THREADS=2) command=("$roomcast") ;;
  esac
  rm -rf target/run/cwd
  mkdir target/run/cwd
  cd target/run/cwd
  taskset -c "$on" env -i PATH="$PATH" HOME="$PWD" "${settings[@]}" "${command[@]}" >../server.log 2>&1 &
  server=$!
  cd "$bench"
}

# Below the ports that the kernel gives to clients: one of those in TIME_WAIT cannot be listened on.
free_port() {
  local port
  for ((port = 23100; port < 23200; port++)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || {
      printf '%s\n' "$port"
      return
    }
  done
  fail 'no port is free from 23100 to 23199'
}

# measure SCENARIO PEER: one run; its line goes to the results.
measure() {
  local scenario=$1 peer=$2 port on=${cpus[0]} by=${cpus[1]} line
  # Two workers are shown on all CPUs, shared with the generator where there are but two.
  [[ $scenario != workers ]] || on=$allowed by=$allowed
  port=$(free_port)
  start "$peer" "$port" "$on"
  if line=$(timeout 120 taskset -c "$by" "$bin/load" "$scenario" --port "$port" --pid "$server" --peer "$peer" \
    --seconds "$MEASURE" --warmup "$WARMUP" --scale "$SCALE" 2>target/run/load.log); then
    printf '%s\n' "$line" | tee -a "$results" | node report.js line
  else
    local why
    why=$(tr '\\"\n' '   ' <target/run/load.log | head -c 300)
    printf '%-9s %-18s FAILED: %s\n' "$scenario" "$peer" "${why:-stopped after two minutes}"
    tail -n 3 target/run/server.log | sed 's/^/    /'
    printf '{"peer":"%s","scenario":"%s","faults":["FAILED: %s"]}\n' "$peer" "$scenario" "$why" >>"$results"
  fi
  stop_server
}

# takes_part PEER SCENARIO: the batched bound is the plain one where nothing arrives together.
takes_part() {
  case $1/$2 in
    bound-*/idle | bound-batched/fanout1 | bound-batched/echo | bound-batched/connect) return 1 ;;
    roomcast-*-worker*/workers) return 0 ;;
    roomcast-*-worker*/* | */workers) return 1 ;;
  esac
}

if [[ " ${peers[*]} " = *' bun '* && -z $bun ]]; then
  printf '\n!!! Bun could not be installed on this machine: IT IS LEFT OUT.\n\n'
fi
for ((round = 1; round <= ROUNDS; round++)); do
  for scenario in "${scenarios[@]}"; do
    printf '=== round %s of %s: %s\n' "$round" "$ROUNDS" "$scenario"
    for peer in "${peers[@]}"; do
      [[ $peer != bun || -n $bun ]] || continue
      if takes_part "$peer" "$scenario"; then measure "$scenario" "$peer"; fi
    done
  done
done

printf '\n'
ROUNDS=$ROUNDS MEASURE=$MEASURE WARMUP=$WARMUP SCALE=$SCALE PROFILE=$PROFILE BUN=$bun ROOMCAST=$roomcast \
  node report.js "$results" | tee "$output"
printf '\nwritten to %s\n' "$output"

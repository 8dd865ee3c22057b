// The report of a benchmark, as Markdown:  node report.js RESULTS.jsonl
// `node report.js line` prints a single result, from the standard input, for people to watch.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import os from 'node:os';

const SCENARIOS = {
  fanout1: { title: '1 publisher, 1 message in flight, room of 1,000', unit: 'delivery', bound: 'bound-plain', factor: 1.25 },
  fanout4: { title: '4 publishers, room of 1,000', unit: 'delivery', bound: 'bound-batched', factor: 1 },
  rooms: { title: '400 rooms of 5, 4,000 msg/s', unit: 'delivery', bound: 'bound-plain', factor: 1.2, defaultsFactor: 1.5 },
  echo: { title: 'alone in a room, own message back', unit: 'round trip', bound: 'bound-plain', factor: 1.5 },
  post: { title: 'POST /messages/broadcast, 10 members', unit: 'request', bound: 'bound-batched', factor: 1.4 },
  idle: { title: '5,000 idle websockets', unit: 'connection' },
  connect: { title: 'connect to joined', unit: 'connection', bound: 'bound-plain' },
  flood: { title: 'flood, one reader stalled', unit: 'delivery', bound: 'bound-batched' },
  workers: { title: '64 clients, each its own 16 messages back, all CPUs', unit: 'round trip' },
};
const PEERS = {
  'bound-plain': 'bound: a write per delivery',
  'bound-batched': 'bound: a write per batch',
  node: 'Node',
  nest: 'NestJS',
  bun: 'Bun',
  socketioxide: 'bare socketioxide',
  roomcast: 'roomcast',
  'roomcast-recovery': 'roomcast, recovery',
  'roomcast-defaults': 'roomcast, defaults',
};

const median = (values) => {
  const sorted = values.filter((value) => typeof value === 'number').sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return undefined;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};
const ifKnown = (value, show) => (!Number.isFinite(value) ? '–' : show(value));
const micros = (value) => ifKnown(value, (v) => (v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2)));
const ratio = (a, b) => ifKnown(b > 0 ? a / b : undefined, (v) => `${v.toFixed(2)} ×`);
const thousands = (value) => ifKnown(value, (v) => Math.round(v).toLocaleString('en-US'));
const megabytes = (value) => ifKnown(value, (v) => (v / 1e6).toFixed(v < 1e7 ? 1 : 0));
const percent = (value) => ifKnown(value, (v) => `${(v * 100).toFixed(v > 0 && v < 0.1 ? 2 : 0)} %`);

if (process.argv[2] === 'line') {
  const line = JSON.parse(readFileSync(0, 'utf8'));
  const more = [
    line.per_connection !== null && `${thousands(line.per_connection)} bytes a connection`,
    line.generator > 0.9 && `generator busy ${percent(line.generator)}`,
    line.lost !== null && `lost ${percent(line.lost)}`,
    ...line.faults.map((fault) => `FAULT: ${fault}`),
  ].filter(Boolean);
  const name = `${line.scenario.padEnd(9)} ${line.peer.padEnd(18)}`;
  const cost = `${micros(line.cpu).padStart(7)} µs CPU, ${thousands(line.rate).padStart(8)}/s`;
  const latency = `p50 ${thousands(line.p50)} p99 ${thousands(line.p99)} µs`;
  console.log([`${name} ${cost}, ${latency}, peak ${megabytes(line.peak)} MB`, ...more].join(', '));
  process.exit(0);
}

const lines = readFileSync(process.argv[2], 'utf8').split('\n').filter(Boolean).map((line) => JSON.parse(line));
const of = (scenario, peer) => lines.filter((line) => line.scenario === scenario && line.peer === peer);
const get = (scenario, peer, field) => median(of(scenario, peer).map((line) => line[field]));
const scenarios = Object.keys(SCENARIOS).filter((scenario) => lines.some((line) => line.scenario === scenario));
const peers = Object.keys(PEERS).filter((peer) => lines.some((line) => line.peer === peer));
const out = [];

function table(head, rows) {
  if (rows.length === 0) return;
  out.push(`| ${head.join(' | ')} |`, `| ${head.map(() => '---').join(' | ')} |`);
  for (const row of rows) out.push(`| ${row.join(' | ')} |`);
  out.push('');
}

// One row for each of those scenarios that ran, one column for each server.
function matrix(wanted, cell) {
  const rows = wanted.filter((scenario) => scenarios.includes(scenario));
  table(['scenario', ...peers.map((peer) => PEERS[peer])], rows.map((scenario) => [SCENARIOS[scenario].title, ...peers.map((peer) => cell(scenario, peer))]));
}

// The machine and the versions.
const run = (command, ...args) => {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
};
const here = new URL('.', import.meta.url).pathname;
const npmVersion = (name) => JSON.parse(readFileSync(`${here}node_modules/${name}/package.json`, 'utf8')).version;
const crateVersion = (name) => readFileSync(`${here}Cargo.lock`, 'utf8').match(new RegExp(`name = "${name}"\\nversion = "([^"]+)"`))?.[1];
const cores = os.cpus();
const { ROUNDS, MEASURE, WARMUP, SCALE, PROFILE, BUN } = process.env;
const revision = run('git', '-C', here, 'describe', '--always', '--dirty', '--exclude', '*');

out.push('# Benchmark results', '');
if (SCALE !== '1' || PROFILE !== 'dist') out.push(`**A try-out (SCALE=${SCALE} PROFILE=${PROFILE}): these figures mean nothing.**`, '');
out.push(
  `${new Date().toISOString().slice(0, 10)}, by \`bench/run.sh\`: ${ROUNDS === '1' ? 'one round' : `medians of ${ROUNDS} rounds`} of ${MEASURE} s after ${WARMUP} s of warm-up; the servers took turns.`,
  'CPU is what the server process used, user and system, from `/proc/PID/stat`. The server had one CPU, the load generator another.',
  '',
);
table(['', ''], [
  ['machine', `${cores[0]?.model.trim() ?? 'unknown'}, ${os.availableParallelism()} CPUs, ${Math.round(os.totalmem() / 2 ** 30)} GB; Linux ${os.release()}; load average at the end ${os.loadavg()[0].toFixed(1)}`],
  ['roomcast', `${run(process.env.ROOMCAST ?? 'roomcast', '--version')?.split(' ').at(-1) ?? 'unknown version'} (${revision ?? 'unknown revision'}), ${run('rustc', '--version') ?? 'unknown compiler'}`],
  ['Node', `${process.version}, socket.io ${npmVersion('socket.io')}`],
  ['NestJS', `${npmVersion('@nestjs/core')}, socket.io ${npmVersion(existsSync(`${here}node_modules/@nestjs/platform-socket.io/node_modules/socket.io`) ? '@nestjs/platform-socket.io/node_modules/socket.io' : 'socket.io')}`],
  ['Bun', BUN ? `${run(BUN, '--version')}, @socket.io/bun-engine ${npmVersion('@socket.io/bun-engine')}` : '**left out: it could not be installed**'],
  ['bare socketioxide', `${crateVersion('socketioxide')}, axum ${crateVersion('axum')}, tokio ${crateVersion('tokio')}`],
]);

// The goals.
const verdict = (met) => (met === undefined ? '–' : met ? 'met' : '**missed**');
const against = (value, limit) => (value === undefined || !(limit > 0) ? undefined : value <= limit);
const goals = [];
for (const scenario of scenarios) {
  const { title, unit, bound, factor, defaultsFactor } = SCENARIOS[scenario];
  const [floor, node] = [bound && get(scenario, bound, 'cpu'), get(scenario, 'node', 'cpu')];
  const row = (peer, name, limit) => {
    const cpu = get(scenario, peer, 'cpu');
    const goal = `≤ ${limit === 1 ? '' : `${limit} × `}bound`;
    goals.push([name, `µs per ${unit}`, micros(floor), micros(node), micros(cpu), ratio(cpu, node), ratio(cpu, floor), goal, verdict(against(cpu, limit * floor))]);
  };
  if (factor) row('roomcast', title, factor);
  if (defaultsFactor) row('roomcast-defaults', `${title}, with history`, defaultsFactor);
  if (scenario === 'idle') {
    const [ours, theirs] = ['roomcast', 'node'].map((peer) => get(scenario, peer, 'per_connection'));
    goals.push([title, 'bytes', '–', thousands(theirs), thousands(ours), ratio(ours, theirs), '–', '≤ 15,000', verdict(against(ours, 15_000))]);
  }
  if (scenario === 'connect') {
    const ours = get(scenario, 'roomcast-defaults', 'cpu');
    goals.push([`${title}, defaults`, `µs per ${unit}`, micros(floor), micros(node), micros(ours), ratio(ours, node), ratio(ours, floor), '≤ 70', verdict(against(ours, 70))]);
  }
  if (scenario === 'flood') {
    const figures = (field) => [bound, 'node', 'roomcast'].map((peer) => get(scenario, peer, field));
    const [lost, peak, rate] = ['lost', 'peak', 'rate'].map(figures);
    const ours = { lost: lost[2], peak: peak[2], rate: rate[2] };
    const met = ours.rate === undefined || rate[1] === undefined ? undefined : ours.rate >= 5 * rate[1];
    goals.push([`${title}: lost by the others`, '', ...lost.map(percent), '–', '–', '0', verdict(ours.lost === undefined ? undefined : ours.lost === 0)]);
    goals.push([`${title}: peak memory`, 'MB', ...peak.map(megabytes), ratio(ours.peak, peak[1]), ratio(ours.peak, peak[0]), '≤ 64', verdict(against(ours.peak, 64e6))]);
    goals.push([`${title}: throughput`, 'deliveries/s', ...rate.map(thousands), ratio(ours.rate, rate[1]), ratio(ours.rate, rate[0]), '≥ 5 × Node', verdict(met)]);
  }
}
out.push('## The goals', '', 'roomcast with announcements, rate limits, history and authentication off, as they are for the others, unless a row says otherwise.', '');
table(['scenario', 'unit', 'bound', 'Node', 'roomcast', '× Node', '× bound', 'goal', ''], goals);

out.push('## Server CPU per unit', '', 'Microseconds; in parentheses the ratio to Node.', '');
const spread = (scenario, peer) => {
  const values = of(scenario, peer).map((line) => line.cpu).filter(Number.isFinite);
  return values.length > 1 ? (Math.max(...values) - Math.min(...values)) / median(values) : 0;
};
matrix(['fanout1', 'fanout4', 'rooms', 'echo', 'post', 'connect', 'flood'], (scenario, peer) => {
  const [cpu, node] = [get(scenario, peer, 'cpu'), get(scenario, 'node', 'cpu')];
  return ifKnown(cpu, () => `${micros(cpu)}${node && peer !== 'node' ? ` (${(cpu / node).toFixed(2)})` : ''}`);
});
const widest = scenarios.flatMap((scenario) => peers.map((peer) => [spread(scenario, peer), scenario, peer])).sort((a, b) => b[0] - a[0])[0];
if (widest?.[0] > 0) out.push(`The rounds differ most, by ${percent(widest[0])} of the median, for ${PEERS[widest[2]]} in "${SCENARIOS[widest[1]].title}".`, '');

const busiest = scenarios
  .filter((scenario) => scenario !== 'workers')
  .flatMap((scenario) => peers.map((peer) => [get(scenario, peer, 'generator') ?? 0, scenario, peer]))
  .sort((a, b) => b[0] - a[0])[0];
if (busiest) out.push(`The generator was busiest, ${percent(busiest[0])} of its CPU, for ${PEERS[busiest[2]]} in "${SCENARIOS[busiest[1]].title}".`, '');

out.push('## Latency', '', 'p50 / p99 in microseconds. With messages in flight all the time this is the other side of throughput; "400 rooms" has a fixed rate.', '');
matrix(['fanout1', 'fanout4', 'rooms', 'echo', 'post', 'connect'], (scenario, peer) =>
  ifKnown(get(scenario, peer, 'p50'), (p50) => `${thousands(p50)} / ${thousands(get(scenario, peer, 'p99'))}`),
);

out.push('## Units a second', '', 'On one CPU for the server and one for the generator; "400 rooms" has a fixed rate of 16,000.', '');
matrix(['fanout1', 'fanout4', 'rooms', 'echo', 'post', 'connect', 'flood'], (scenario, peer) => thousands(get(scenario, peer, 'rate')));

out.push('## Memory', '', 'Bytes per idle connection, then the most resident memory in MB.', '');
if (scenarios.includes('idle')) table(['', ...peers.map((peer) => PEERS[peer])], [['bytes per connection', ...peers.map((peer) => thousands(get('idle', peer, 'per_connection')))]]);
matrix(scenarios.filter((scenario) => scenario !== 'workers'), (scenario, peer) => megabytes(get(scenario, peer, 'peak')));

if (scenarios.includes('flood')) {
  out.push('## Flood, one reader stalled', '');
  matrix(['flood'], (scenario, peer) =>
    ifKnown(get(scenario, peer, 'lost'), (lost) => `lost ${percent(lost)}, peak ${megabytes(get(scenario, peer, 'peak'))} MB, ${thousands(get(scenario, peer, 'rate'))}/s`),
  );
}

if (peers.includes('roomcast-defaults')) {
  out.push(
    '## With the defaults on',
    '',
    'What users get: history in SQLite (`STORE_SYNC=normal`), rate limits counted (but so high that nobody is refused), presence. Announcements alone are off, as they cost a delivery per client and connection.',
    '',
  );
  table(
    ['scenario', 'unit', 'bound', 'Node', 'roomcast, defaults', '× Node', '× bound', '× without'],
    scenarios.filter((scenario) => !['idle', 'workers'].includes(scenario)).map((scenario) => {
      const { title, unit, bound } = SCENARIOS[scenario];
      const [floor, node, bare, ours] = [bound, 'node', 'roomcast', 'roomcast-defaults'].map((peer) => get(scenario, peer, 'cpu'));
      return [title, `µs per ${unit}`, micros(floor), micros(node), micros(ours), ratio(ours, node), ratio(ours, floor), ratio(ours, bare)];
    }),
  );
}

// Each round beside its own: what else the machine does changes both.
const pairs = (scenario, field) => {
  const [without, with_] = ['roomcast', 'roomcast-recovery'].map((peer) => of(scenario, peer).map((line) => line[field]));
  return without.map((value, round) => [value, with_[round]]).filter((pair) => pair.every(Number.isFinite));
};
if (peers.includes('roomcast') && peers.includes('roomcast-recovery')) {
  out.push(
    '## With connection state recovery',
    '',
    'What `CONNECTION_STATE_RECOVERY` adds to roomcast: the median of the rounds\' ratios, or of their differences, and in parentheses the least and the greatest.',
    '',
  );
  const rows = scenarios.filter((scenario) => !['idle', 'workers'].includes(scenario)).map((scenario) => {
    const ratios = pairs(scenario, 'cpu').map(([without, with_]) => with_ / without);
    const range = ratios.length ? ` (${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})` : '';
    const [without, with_] = ['roomcast', 'roomcast-recovery'].map((peer) => get(scenario, peer, 'cpu'));
    const { title, unit } = SCENARIOS[scenario];
    return [title, `µs per ${unit}`, micros(without), micros(with_), `${ifKnown(median(ratios), (v) => `${v.toFixed(2)} ×`)}${range}`, '≤ 1.05 ×', verdict(against(median(ratios), 1.05))];
  });
  if (scenarios.includes('idle')) {
    const more = pairs('idle', 'per_connection').map(([without, with_]) => with_ - without);
    const range = more.length ? ` (${thousands(Math.min(...more))} to ${thousands(Math.max(...more))})` : '';
    const [without, with_] = ['roomcast', 'roomcast-recovery'].map((peer) => get('idle', peer, 'per_connection'));
    rows.push([SCENARIOS.idle.title, 'bytes', thousands(without), thousands(with_), `+ ${thousands(median(more))}${range}`, '≤ + 1,024', verdict(against(median(more), 1024))]);
  }
  table(['scenario', 'unit', 'without', 'with', 'more', 'goal', ''], rows);
}

const workers = ['roomcast-1-worker', 'roomcast-2-workers'].map((peer) => ['rate', 'cpu', 'p99'].map((field) => get('workers', peer, field)));
if (scenarios.includes('workers')) {
  out.push('## Two workers', '', `${SCENARIOS.workers.title}. Where there are but two CPUs the generator shares them, so twice the rate cannot be had.`, '');
  table(
    ['', 'round trips/s', 'ratio', 'CPU µs each', 'p99 µs'],
    workers.map(([rate, cpu, p99], index) => [`${index + 1} worker${index ? 's' : ''}`, thousands(rate), ratio(rate, workers[0][0]), micros(cpu), thousands(p99)]),
  );
}

const faults = lines.flatMap((line) => line.faults.map((fault) => `- ${line.scenario}, ${line.peer}: ${fault}`));
out.push('## Faults', '', ...(faults.length ? [...new Set(faults)] : ['None: in every run but floods each member got every message once and in order.']), '');
console.log(out.join('\n').trimEnd());

// What an event costs that a backend answers:  node bench/handlers.js [--rounds 5] [--seconds 2] [--pin]
//
// Compares it, in turn, with an event that roomcast acknowledges itself, and with a NestJS gateway that answers it itself: the
// server's CPU time for each event from /proc, and how long clients wait, with 1 and with 50 events in flight. --hold tells the
// story of ten thousand clients instead, whose backend takes a second for each.
//
// ROOMCAST_BIN names the server, NEST_ADAPTER=/path/to/packages/nestjs adds gateways behind roomcast.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { Client, at, bare, cpu, freePort, median, memory, roomcast, start } from './harness.js';

const { values: given } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, seconds: { type: 'string', default: '2' }, hold: { type: 'boolean' }, pin: { type: 'boolean' }, clients: { type: 'string', default: '10000' } },
});
// The servers' CPU, and the one of the gateway behind roomcast.
const [cpu0, cpu1] = given.pin ? ['0', '1'] : [];

/** A backend that does nothing, after a time. */
async function startBackend(milliseconds = 0) {
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      if (milliseconds) setTimeout(() => response.writeHead(204).end(), milliseconds);
      else response.writeHead(204).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

/** Emits for a while with so many clients; CPU time for each event in microseconds, and milliseconds of waiting. */
async function measure({ pid, port }, event, clients) {
  const all = await Promise.all(Array.from({ length: clients }, () => Client.connect(port)));
  const run = async (seconds) => {
    const waits = [];
    const end = performance.now() + seconds * 1000;
    await Promise.all(all.map(async (client) => {
      while (performance.now() < end) waits.push(await client.ask(event));
    }));
    return waits;
  };
  await run(0.5);
  const before = cpu(pid);
  const waits = (await run(Number(given.seconds))).sort((a, b) => a - b);
  const used = cpu(pid) - before;
  for (const client of all) client.close();
  return { cpu: used / waits.length, p50: at(waits, 0.5), p99: at(waits, 0.99), rate: waits.length / Number(given.seconds) };
}

async function compare() {
  const backend = await startBackend();
  const rows = [
    { name: 'roomcast, acknowledged inside', server: await start(roomcast, [], { ...bare, PORT: String(await freePort()) }, cpu0), event: 'heartbeat' },
    { name: 'roomcast, a backend that does nothing', server: await start(roomcast, [], { ...bare, PORT: String(await freePort()), HANDLER_URL: backend.url }, cpu0), event: 'nothing' },
    { name: 'NestJS, answered by itself', server: await start(process.execPath, ['peers/nest-handler.js'], { PORT: String(await freePort()), NODE_ENV: 'production' }, cpu0), event: 'nothing' },
  ];
  if (process.env.NEST_ADAPTER) {
    const [app, port] = [String(await freePort()), String(await freePort())];
    const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
    const settings = { HANDLER_URL: `http://127.0.0.1:${app}/roomcast`, HANDLER_SECRET: secret, HANDLER_EVENTS: '*', API_KEYS: 'key' };
    const server = await start(roomcast, [], { ...bare, PORT: port, ...settings }, cpu0);
    await start(process.execPath, ['peers/nest-handler.js'], { PORT: app, NODE_ENV: 'production', NEST_ADAPTER: process.env.NEST_ADAPTER, ROOMCAST_URL: `http://127.0.0.1:${port}`, HANDLER_SECRET: secret }, cpu1);
    rows.push({ name: 'roomcast, a NestJS gateway behind it', server, event: 'nothing' });
  }
  for (const clients of [1, 50]) {
    const found = new Map(rows.map((row) => [row, []]));
    for (let round = 0; round < Number(given.rounds); round++) {
      for (const row of rows) found.get(row).push(await measure(row.server, row.event, clients));
    }
    const inside = found.get(rows[0]);
    console.log(`\n${clients} in flight\n| | CPU µs an event | of an inner one | p50 ms | p99 ms | events a second |\n| --- | --- | --- | --- | --- | --- |`);
    for (const [row, runs] of found) {
      const of = (field, digits) => median(runs.map((run) => run[field])).toFixed(digits);
      // Neighbours in time are compared, so that what else the machine does counts for both.
      const ratio = median(runs.map((run, round) => run.cpu / inside[round].cpu)).toFixed(2);
      console.log(`| ${row.name} | ${of('cpu', 1)} | ${ratio} | ${of('p50', 2)} | ${of('p99', 2)} | ${of('rate', 0)} |`);
    }
  }
  backend.close();
}

/** Ten thousand clients with one event each, while the backend takes a second. */
async function hold() {
  const backend = await startBackend(1000);
  const settings = { HANDLER_URL: backend.url, HANDLER_TIMEOUT: '120s', MAX_CONNECTIONS: '0' };
  const server = await start(roomcast, [], { ...bare, ...settings, PORT: String(await freePort()) }, cpu0);
  const clients = [];
  while (clients.length < Number(given.clients)) clients.push(...(await Promise.all(Array.from({ length: 100 }, () => Client.connect(server.port)))));
  const others = await Promise.all([1, 2, 3, 4].map(() => Client.connect(server.port)));
  const beat = async (isOver) => {
    const waits = [];
    await Promise.all(others.map(async (other) => {
      while (!isOver()) {
        waits.push(await other.ask('heartbeat'));
        await new Promise((done) => setTimeout(done, 5));
      }
    }));
    waits.sort((a, b) => a - b);
    return `p50 ${at(waits, 0.5).toFixed(2)} ms, p99 ${at(waits, 0.99).toFixed(2)} ms of ${waits.length}`;
  };
  const until = performance.now() + 3000;
  console.log(`before: ${memory(server.pid)[0]} MB; events answered inside wait ${await beat(() => performance.now() > until)}`);
  let answered = 0;
  const begun = performance.now();
  const waiting = clients.map((client) => client.ask('nothing').then(() => (answered += 1)));
  console.log(`meanwhile: they wait ${await beat(() => answered === clients.length)}`);
  await Promise.all(waiting);
  const [now, most] = memory(server.pid);
  console.log(`${answered} answers after ${((performance.now() - begun) / 1000).toFixed(0)} s; ${now} MB, at most ${most} MB`);
  backend.close();
}

await (given.hold ? hold() : compare());
process.exit(0);

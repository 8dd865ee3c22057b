// One room's recovery against a model of the server, in random schedules: the client joins, pages, leaves and loses its connection
// at every moment, while the model writes, trims its history and loses it. SEED=n repeats one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Membership } from '../dist/esm/membership.js';

/** Numbers from a seed (mulberry32). */
function random(seed) {
  const next = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return { below: (n) => Math.floor(next() * n), chance: (p) => next() < p };
}

/** The server's room, as the contract has it. What it sends waits on the wire. */
class Model {
  epoch = 1;
  head = 0;
  oldest = 1;
  isMember = false;
  wire = [];
  asked = [];
  limit = 20;
  page = 7;

  publish() {
    this.head++;
    if (this.isMember) this.wire.push({ epoch: this.epoch, offset: this.head });
  }
  trim(count) {
    this.oldest = Math.min(this.oldest + count, this.head + 1);
  }
  lose() {
    this.epoch++;
    this.head = 0;
    this.oldest = 1;
  }
  /** Does what the client has asked for first. */
  answer(roll) {
    const { event, payload, done } = this.asked.shift();
    const reply = (ack) => this.wire.push({ ack, done });
    if (roll.chance(0.1)) return reply({ success: false, code: roll.chance(0.5) ? 'rate_limited' : 'unavailable', message: 'later' });
    if (event === 'leave-room') {
      this.isMember = false;
      return reply({ success: true });
    }
    const epoch = `e${this.epoch}`;
    if (event === 'join-room') {
      const { offset, epoch: known } = payload;
      const behind = { success: true, offset: this.head, epoch, oldestOffset: this.oldest, missed: 0, recovered: false };
      this.isMember = true;
      if (offset === undefined) return reply({ success: true, offset: this.head, epoch });
      const isKnown = known === undefined || known === epoch;
      const missed = this.head - offset;
      if (!isKnown || missed < 0 || offset + 1 < this.oldest || missed > this.limit) return reply(behind);
      for (let one = offset + 1; one <= this.head; one++) this.wire.push({ epoch: this.epoch, offset: one });
      return reply({ ...behind, recovered: true, missed });
    }
    const first = Math.max(payload.offset + 1, this.oldest);
    const last = Math.min(first + Math.min(payload.limit, this.page) - 1, this.head);
    const count = Math.max(last - first + 1, 0);
    for (let one = first; one <= last; one++) this.wire.push({ epoch: this.epoch, offset: one });
    return reply({ success: true, syncedMessageCount: count, offset: count ? last : this.head, epoch, complete: count === 0 || last === this.head });
  }
}

/** What the application is told must be whole: each message once and in order, and a gap or a reset where there is none. */
class Application {
  told = [];
  next = undefined;
  epoch = undefined;
  /** The first thing that was wrong. */
  fault = undefined;
  message({ epoch, offset }) {
    this.told.push(`${epoch}:${offset}`);
    // A history that was lost before its first message is another one without anybody having to know.
    if (this.epoch !== epoch && this.epoch !== undefined && this.next !== 1) this.fault ??= 'another history without a reset';
    if (this.next !== undefined && offset !== this.next) this.fault ??= `${offset} is not the next message`;
    this.epoch = epoch;
    this.next = offset + 1;
  }
  gap({ from, to }) {
    this.told.push(`gap ${from}-${to}`);
    if (to < from || (this.next !== undefined && from !== this.next)) this.fault ??= 'not the gap that there is';
    this.next = to + 1;
  }
  reset({ oldestOffset, reason }) {
    this.told.push(`reset ${reason} ${oldestOffset}`);
    this.epoch = undefined;
    this.next = oldestOffset;
  }
  /** It enters anew, from now on. */
  anew() {
    this.told.push('anew');
    this.next = undefined;
    this.epoch = undefined;
  }
}

const settled = () => new Promise((done) => setImmediate(done));

async function schedule(seed, steps) {
  const roll = random(seed);
  const model = new Model();
  const app = new Application();
  let waits = [];
  const link = {
    isConnected: false,
    ask: (event, payload, answered) => new Promise((done) => model.asked.push({ event, payload, done: (ack) => (answered(), done(ack)) })),
    wait: () => new Promise((done) => waits.push(done)),
    tell: (_, state, told) => app[state]?.(told),
    forget() {},
  };
  const room = new Membership('r', link);
  const disconnect = () => {
    link.isConnected = false;
    Object.assign(model, { wire: [], asked: [], isMember: false });
    waits = [];
    room.disconnected();
  };
  const connect = () => {
    link.isConnected = true;
    room.connected(false);
  };
  const arrive = () => {
    const { ack, done, ...message } = model.wire.shift();
    if (done) done(ack);
    else room.receive(message.offset, () => app.message(message));
  };
  const enter = () => {
    app.anew();
    room.enter();
  };
  const acts = [
    [30, () => model.publish()],
    [40, () => model.wire.length && arrive()],
    // Several packets of one poll.
    [5, () => Array.from({ length: 5 }, () => model.wire.length && arrive())],
    [25, () => model.asked.length && model.answer(roll)],
    [10, () => waits.shift()?.()],
    [4, () => model.trim(1 + roll.below(6))],
    [4, () => (link.isConnected ? disconnect() : connect())],
    [6, () => link.isConnected || connect()],
    [1, () => model.trim(model.head)],
    [1.5, () => model.lose()],
    [1, () => (room.isWanted ? room.leave() : enter())],
    [1, () => room.isWanted || enter()],
    // A crowd writes while the client is slow.
    [1, () => Array.from({ length: 30 }, () => model.publish())],
  ];
  const whole = acts.reduce((sum, [weight]) => sum + weight, 0);
  const pick = () => {
    let at = (roll.below(1e6) / 1e6) * whole;
    return acts.find(([weight]) => (at -= weight) < 0)[1];
  };
  try {
    enter();
    for (let step = 0; step < steps; step++) {
      pick()();
      await settled();
      assert.equal(app.fault, undefined);
    }
    // All comes to rest: the client has everything up to the head.
    if (!room.isWanted) enter();
    if (!link.isConnected) connect();
    model.publish();
    for (let rest = 0; rest < 3; rest++) {
      while (model.asked.length || model.wire.length || waits.length) {
        if (model.asked.length) model.answer(roll);
        else if (model.wire.length) arrive();
        else waits.shift()();
        await settled();
      }
      await settled();
    }
    model.publish();
    arrive();
    assert.equal(app.fault, undefined);
    assert.ok(room.isLive);
    assert.equal(app.next, model.head + 1, 'not everything has come');
    assert.equal(app.epoch, model.epoch);
    return app.told.length;
  } catch (error) {
    throw new Error(`SEED=${seed}: ${app.fault ?? error.message}\n${app.told.slice(-30).join(', ')}`, { cause: error });
  }
}

test('a room stays whole in random schedules', async () => {
  const seeds = process.env.SEED ? [Number(process.env.SEED)] : Array.from({ length: Number(process.env.SEEDS ?? 150) }, (_, index) => index + 1);
  let told = 0;
  for (const seed of seeds) told += await schedule(seed, 600);
  assert.ok(told > seeds.length * 20, `the schedules do too little: ${told}`);
});

test('a position that lies ahead of the history is given up, and what is kept is read', async () => {
  const model = new Model();
  const app = new Application();
  const asked = [];
  const link = {
    isConnected: true,
    ask: (event, payload, answered) => {
      asked.push([event, payload.offset]);
      return new Promise((done) => model.asked.push({ event, payload, done: (ack) => (answered(), done(ack)) }));
    },
    wait: () => new Promise(() => {}),
    tell: (_, state, told) => app[state]?.(told),
    forget() {},
  };
  for (let n = 0; n < 5; n++) model.publish();
  const room = new Membership('r', link);
  room.enter({ offset: 9, epoch: 'e1' });
  const calm = { chance: () => false };
  while (model.asked.length) {
    model.answer(calm);
    for (const { ack, done, ...message } of model.wire.splice(0)) {
      if (done) done(ack);
      else room.receive(message.offset, () => app.message(message));
    }
    await settled();
  }
  assert.deepEqual(app.told, ['reset ahead 1', '1:1', '1:2', '1:3', '1:4', '1:5']);
  assert.deepEqual(asked, [['join-room', 9], ['syncMessages', 0]]);
});

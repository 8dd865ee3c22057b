import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { Client, type Dispatcher, Pool } from 'undici';
import type { Settings } from './options';

/** How often, and for how long, a call is tried where that may help. */
const ATTEMPTS = 5;
const TIMEOUT_MS = 10_000;

/** How many calls may be under way on the connection that keeps their order. */
export const PIPELINED = 32;

/** A refusal of roomcast's HTTP API. */
export class RoomcastApiError extends Error {
  override readonly name = 'RoomcastApiError';

  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export const isNotFound = (error: unknown): boolean => error instanceof RoomcastApiError && error.status === 404;

/** A call. */
export interface Call {
  method: 'GET' | 'POST' | 'DELETE';
  path: string;
  body?: string;
  /** How long the answer may take, in milliseconds. */
  timeout?: number;
}

/** A call that was made in turn and has no result yet. */
interface Outstanding {
  call: Call;
  /** What is sent again with the same key is done once. */
  key: string;
  attempts: number;
  done: (result: unknown) => void;
  failed: (error: unknown) => void;
}

/** What became of an attempt: a result, or a failure after which it may be tried again, perhaps after a time. */
type Outcome = { result: unknown } | { failure: unknown; wait?: number };

/** roomcast's HTTP API. */
export class Api {
  /** The connection for calls in turn: roomcast answers those of one connection one after the other, so they need not be waited for. */
  private line?: Client;
  private readonly outstanding: Outstanding[] = [];
  private isClosed = false;
  /** Calls that may overtake one another. */
  private readonly pool: Pool;

  constructor(private readonly settings: Settings) {
    this.line = this.connection();
    this.pool = new Pool(settings.url.origin, { connections: 64, pipelining: 1 });
  }

  /** Closes the connections. */
  async close(): Promise<void> {
    this.isClosed = true;
    await Promise.all([this.line?.destroy(), this.pool.destroy()]);
  }

  /** Makes a call. */
  async call(call: Call): Promise<unknown> {
    const key = randomUUID();
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.attempt(this.pool, call, key);
      if ('result' in outcome) return outcome.result;
      if (attempt >= ATTEMPTS || this.isClosed) throw outcome.failure;
      await pause(outcome.wait || patience(attempt));
    }
  }

  /** Makes a call that takes its turn behind all calls of this kind that were made before, even where they are tried again. */
  callInTurn(call: Call): Promise<unknown> {
    return new Promise((done, failed) => {
      const outstanding: Outstanding = { call, key: randomUUID(), attempts: 0, done, failed };
      this.outstanding.push(outstanding);
      if (this.line) void this.take(this.line, outstanding);
    });
  }

  private connection(): Client {
    return new Client(this.settings.url.origin, { pipelining: PIPELINED });
  }

  private async take(line: Client, outstanding: Outstanding): Promise<void> {
    outstanding.attempts += 1;
    try {
      const outcome = await this.attempt(line, outstanding.call, outstanding.key);
      if ('failure' in outcome) return this.repeat(line, outcome.failure, outcome.wait);
      this.settle(outstanding);
      outstanding.done(outcome.result);
    } catch (error) {
      this.settle(outstanding);
      outstanding.failed(error);
    }
  }

  private settle(outstanding: Outstanding): void {
    const at = this.outstanding.indexOf(outstanding);
    if (at >= 0) this.outstanding.splice(at, 1);
  }

  /** Gives up a connection on which a call has failed, and makes all calls again that have no result, in their order. */
  private repeat(line: Client, failure: unknown, wait = 0): void {
    // The first failure has done this for all.
    if (line !== this.line) return;
    this.line = undefined;
    void line.destroy();
    const again = () => {
      for (const outstanding of [...this.outstanding]) {
        if (outstanding.attempts < ATTEMPTS && !this.isClosed) continue;
        this.settle(outstanding);
        outstanding.failed(failure);
      }
      if (this.isClosed) return;
      const next = (this.line = this.connection());
      for (const outstanding of this.outstanding) void this.take(next, outstanding);
    };
    setTimeout(again, wait || patience(this.outstanding[0]?.attempts ?? 1));
  }

  private async attempt(by: Dispatcher, { method, path, body, timeout = TIMEOUT_MS }: Call, key: string): Promise<Outcome> {
    const headers: Record<string, string> = { authorization: `Bearer ${this.settings.apiKey()}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    if (method === 'POST') headers['idempotency-key'] = key;
    let status: number;
    let text: string;
    let wait: number;
    try {
      const { pathname } = this.settings.url;
      const options = { method, path: `${pathname}${path}`, headers, body, idempotent: true, blocking: false, headersTimeout: timeout, bodyTimeout: timeout };
      const response = await by.request(options);
      text = await response.body.text();
      status = response.statusCode;
      wait = Math.min(Number(response.headers['retry-after']) * 1000 || 0, 5000);
    } catch (failure) {
      return { failure };
    }
    if (status >= 200 && status < 300) return { result: text === '' ? undefined : JSON.parse(text) };
    const failure = new RoomcastApiError(status, messageOf(text) ?? `roomcast answered with status ${status}`);
    if (status !== 429 && status !== 503) throw failure;
    return { failure, wait };
  }
}

const patience = (attempt: number): number => 100 * 2 ** attempt;

function messageOf(text: string): string | undefined {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return message === undefined ? undefined : [message].flat().join(', ');
  } catch {
    return undefined;
  }
}

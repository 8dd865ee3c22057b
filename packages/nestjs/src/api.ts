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

/** roomcast's HTTP API. */
export class Api {
  /** Calls in order: roomcast answers those of one connection one after the other, and need not be waited for. */
  private readonly line: Client;
  /** Calls that may overtake one another. */
  private readonly pool: Pool;
  private readonly prefix: string;
  /** How many calls of the line are tried again: what was sent behind them waits. */
  retrying = 0;

  constructor(private readonly settings: Settings) {
    const { origin, pathname } = settings.url;
    this.line = new Client(origin, { pipelining: PIPELINED });
    this.pool = new Pool(origin, { connections: 64, pipelining: 1 });
    this.prefix = pathname;
  }

  /** Closes the connections. */
  async close(): Promise<void> {
    await Promise.all([this.line.destroy(), this.pool.destroy()]);
  }

  /** Makes a call. */
  call(call: Call): Promise<unknown> {
    return this.attempt(this.pool, call);
  }

  /** Makes a call that takes its turn behind all calls of this kind that were made before. */
  callInTurn(call: Call): Promise<unknown> {
    return this.attempt(this.line, call);
  }

  private async attempt(by: Dispatcher, call: Call): Promise<unknown> {
    // What is sent again with the same key is done once.
    const key = randomUUID();
    let isRetried = false;
    try {
      for (let attempt = 1; ; attempt++) {
        const outcome = await this.send(by, call, key);
        if ('result' in outcome) return outcome.result;
        if (attempt >= ATTEMPTS) throw outcome.failure;
        if (by === this.line && !isRetried) {
          isRetried = true;
          this.retrying += 1;
        }
        await pause(outcome.wait || 100 * 2 ** attempt);
      }
    } finally {
      if (isRetried) this.retrying -= 1;
    }
  }

  private async send(by: Dispatcher, { method, path, body, timeout = TIMEOUT_MS }: Call, key: string): Promise<{ result: unknown } | { failure: unknown; wait?: number }> {
    const headers: Record<string, string> = { authorization: `Bearer ${this.settings.apiKey()}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    if (method === 'POST') headers['idempotency-key'] = key;
    let status: number;
    let text: string;
    let wait = 0;
    try {
      const options = { method, path: `${this.prefix}${path}`, headers, body, idempotent: true, blocking: false, headersTimeout: timeout, bodyTimeout: timeout };
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

function messageOf(text: string): string | undefined {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    return message === undefined ? undefined : [message].flat().join(', ');
  } catch {
    return undefined;
  }
}

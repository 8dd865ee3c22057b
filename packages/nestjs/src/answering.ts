import { AsyncLocalStorage } from 'node:async_hooks';
import { type Effect, emissionText } from './effects';
import type { Outbox } from './outbox';
import type { RoomcastRequest } from './requests';
import type { RoomcastSocket } from './socket';
import { argumentsText } from './values';

/** The greatest size of a client's `data`, in bytes of JSON. */
const MAX_DATA = 4000;

/** The request that is being answered by what runs now. */
const current = new AsyncLocalStorage<Answering>();

/** Who a client is: what an answer to a connect may say. */
export interface Identity {
  userId?: string;
  clientName?: string;
  rooms?: string[] | { join?: string[]; read?: string[]; send?: string[] };
  expiresAt?: string | number;
  claims?: Record<string, unknown>;
}

/** An answer to roomcast. */
export interface Reply {
  status: 200 | 202 | 204;
  body?: string;
}

/** Does an effect: with the answer that is under way, or else by the HTTP API. */
export function perform(outbox: Outbox, effect: Effect): void {
  const answering = current.getStore();
  if (answering?.isOpen) return answering.take(effect);
  answering?.fence();
  outbox.add(effect);
}

/** The answer that is under way for what runs now, if there is one. */
export function underWay(): Answering | undefined {
  const answering = current.getStore();
  return answering?.isOpen ? answering : undefined;
}

/**
 * A request that is being answered. Until it is, what handlers do becomes a part of the answer. `later` holds what has to wait
 * until roomcast has carried it out: the first effect that cannot be told in an answer, and all behind it.
 */
export class Answering {
  isOpen = true;
  /** Nothing that is done counts: a socket is only being prepared. */
  isMuted = false;
  identity?: Identity;
  /** What gateways' handleConnection() does, and the first error. */
  readonly hooks: Promise<void>[] = [];
  private readonly steps: Effect[] = [];
  private readonly later: Effect[] = [];
  private acknowledgement?: string;
  private disconnects = false;
  /** Whether the answer holds steps of which it is not known yet that roomcast has carried them out. */
  private isUnfenced = false;
  private readonly closed: Promise<void>;
  private close!: () => void;

  constructor(
    private readonly outbox: Outbox,
    readonly socket: RoomcastSocket,
    readonly request: RoomcastRequest,
    private readonly options: { history: boolean; maxPayload: number },
  ) {
    this.closed = new Promise((done) => (this.close = done));
    socket.answers += 1;
  }

  /** Runs something whose effects belong to this answer. */
  run<T>(work: () => T): T {
    return current.run(this, work);
  }

  take(effect: Effect): void {
    if (this.isMuted) return;
    const isOwn = 'socket' in effect && effect.socket === this.socket;
    if (effect.kind === 'disconnect' && isOwn) this.disconnects = true;
    else if (this.later.length || !(effect.kind === 'emit' || isOwn)) this.later.push(effect);
    else this.steps.push(effect);
  }

  /** Acknowledges the event; only the first call counts. */
  acknowledge(args: readonly unknown[]): void {
    if (this.acknowledgement !== undefined) return;
    this.acknowledgement = argumentsText(args);
    if (!this.isOpen) this.outbox.acknowledge(this.request.id, this.acknowledgement);
  }

  get isAcknowledged(): boolean {
    return this.acknowledgement !== undefined;
  }

  /** Lets what is done from now on wait until roomcast has carried out the answer. */
  fence(): void {
    if (!this.isUnfenced) return;
    this.isUnfenced = false;
    this.outbox.add({ kind: 'call', run: (outbox) => outbox.fence(this.socket.id) });
  }

  /** Resolves once the answer is on its way. */
  get answered(): Promise<void> {
    return this.closed;
  }

  /** The answer. From now on what is done goes by the HTTP API. */
  reply(): Reply {
    try {
      return this.compose();
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  private compose(): Reply {
    const fields = this.request.type === 'event' ? ['"handled":true'] : [];
    if (this.identity && this.request.type === 'connect') fields.push(`"client":${JSON.stringify(this.identity)}`);
    const data = this.changedData();
    if (data !== undefined) fields.push(`"data":${data}`);
    const steps = this.stepTexts();
    if (steps.length) fields.push(`"do":[${steps.join(',')}]`);
    if (this.request.type === 'event') fields.push(`"ack":${this.acknowledgement ?? 'false'}`);
    if (this.disconnects) fields.push('"disconnect":true');
    const body = `{${fields.join(',')}}`;
    if (Buffer.byteLength(body) <= this.options.maxPayload) {
      this.isUnfenced = steps.length > 0;
      this.end(this.later);
      return fields.length ? { status: 200, body } : { status: 204 };
    }
    // Too large to be taken: each part of it goes by itself.
    const own: Effect[] = this.disconnects ? [{ kind: 'disconnect', socket: this.socket }] : [];
    this.end([...this.steps, ...this.later, ...own]);
    const ack = `"ack":${this.acknowledgement ?? 'false'}`;
    const [first] = this.request.type === 'event' ? [`{"handled":true,${ack}}`] : [`{${fields.slice(0, this.identity ? 1 : 0).join(',')}}`];
    return { status: 200, body: first };
  }

  /** The answer of which the acknowledgement follows. */
  defer(): Reply {
    const own: Effect[] = this.disconnects ? [{ kind: 'disconnect', socket: this.socket }] : [];
    this.end([...this.steps, ...this.later, ...own]);
    return { status: 202 };
  }

  /** Nobody waits for the answer any more: what was to be a part of it does not happen. */
  abandon(): void {
    this.end([]);
  }

  private end(rest: readonly Effect[]): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.socket.answers -= 1;
    if (rest.length) this.fence();
    for (const effect of rest) this.outbox.add(effect);
    this.close();
  }

  private stepTexts(): string[] {
    const texts: string[] = [];
    let emits: string[] = [];
    const flush = () => {
      if (emits.length) texts.push(`{"emit":[${emits.join(',')}]}`);
      emits = [];
    };
    for (const step of this.steps) {
      if (step.kind === 'emit') emits.push(emissionText(step.emission, this.options.history, this.socket.id));
      if (step.kind !== 'join' && step.kind !== 'leave') continue;
      flush();
      texts.push(`{"${step.kind}":${JSON.stringify(step.rooms)},"silent":true}`);
    }
    flush();
    return texts;
  }

  /** The client's data, if it has changed. */
  private changedData(): string | undefined {
    let text: string;
    try {
      text = this.socket.dataText();
    } catch (error) {
      this.outbox.logger.error(`client.data of ${this.socket.id} cannot be kept by roomcast: ${String(error)}`);
      return undefined;
    }
    if (text === this.socket.knownData) return undefined;
    if (Buffer.byteLength(text) > MAX_DATA) {
      this.outbox.logger.error(
        `client.data of ${this.socket.id} has more than ${MAX_DATA} bytes, so roomcast cannot keep it, and it stays in this process: keep only an id there, and the rest in a store`,
      );
      return undefined;
    }
    this.socket.knownData = text;
    return text;
  }
}

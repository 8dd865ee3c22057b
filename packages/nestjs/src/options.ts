import { Verifier } from './signature';

/** What RoomcastAdapter is told. */
export interface RoomcastOptions {
  /** roomcast's address, such as `http://roomcast:3001`. */
  url: string;
  /** One of roomcast's `API_KEYS`. */
  apiKey: string;
  /** roomcast's `HANDLER_SECRET`; two, separated by a comma, while one replaces the other. */
  secret: string;
  /** The route at which the application takes roomcast's requests: the path of `HANDLER_URL`. */
  path: string;
  /**
   * Names of roomcast's own events, such as `join-room`, that clients may use although no gateway subscribes to them.
   * The default is none: an event to which no gateway subscribes is refused.
   */
  roomcastEvents?: readonly string[];
  /**
   * Whether one object that is sent to rooms is a room message: numbered, stored, found by clients that recover, and
   * with its `offset` inside. The default is false: clients get exactly what was sent, and nothing is stored.
   */
  history?: boolean;
  /**
   * How long a handler may take, in milliseconds, until what it does goes by roomcast's HTTP API instead of its answer. It
   * must be less than roomcast's `HANDLER_TIMEOUT`. The default is 2000.
   */
  answerWithin?: number;
  /** The greatest answer in bytes: roomcast's `MAX_PAYLOAD`. The default is 1,000,000. */
  maxPayload?: number;
}

/** The options, checked, with their defaults. */
export interface Settings {
  readonly url: URL;
  /** A function, so that an object that is logged does not show the key. */
  readonly apiKey: () => string;
  readonly verifier: Verifier;
  readonly path: string;
  readonly roomcastEvents: ReadonlySet<string>;
  readonly history: boolean;
  readonly answerWithin: number;
  readonly maxPayload: number;
}

const KNOWN = ['url', 'apiKey', 'secret', 'path', 'roomcastEvents', 'history', 'answerWithin', 'maxPayload'];

/** Checks the options. */
export function settings(options: RoomcastOptions): Settings {
  const fail = (message: string): never => {
    throw new Error(`RoomcastAdapter: ${message}`);
  };
  if (!options || typeof options !== 'object') fail('give {url, apiKey, secret, path}');
  for (const name of ['url', 'apiKey', 'secret', 'path'] as const) {
    if (typeof options[name] !== 'string' || options[name] === '') fail(`${name} is missing`);
  }
  for (const name of Object.keys(options)) {
    if (!KNOWN.includes(name)) fail(`there is no option "${name}"; there are ${KNOWN.join(', ')}`);
  }
  const url = URL.canParse(options.url) ? new URL(options.url) : undefined;
  if (!url || !['http:', 'https:'].includes(url.protocol)) return fail(`url must be roomcast's address, such as http://roomcast:3001, not "${options.url}"`);
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  if (!options.path.startsWith('/')) fail(`path must begin with a slash, as "/roomcast" does, not "${options.path}"`);
  return {
    url,
    apiKey: () => options.apiKey,
    verifier: new Verifier(options.secret),
    path: options.path,
    roomcastEvents: new Set(options.roomcastEvents ?? []),
    history: options.history ?? false,
    answerWithin: positive('answerWithin', options.answerWithin ?? 2000),
    maxPayload: positive('maxPayload', options.maxPayload ?? 1_000_000),
  };
}

function positive(name: string, value: number): number {
  if (!Number.isFinite(value) || value <= 0) throw new Error(`RoomcastAdapter: ${name} must be a positive number`);
  return value;
}

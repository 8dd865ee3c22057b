/**
 * Event arguments as JSON. A binary value is `{"$binary": "<base64>"}`. An object whose only key begins with `$` is
 * wrapped as `{"$literal": {…}}`, so that it is not mistaken for one.
 */

/** The nesting that roomcast accepts. */
const MAX_DEPTH = 64;

/** The arguments as the text of a JSON array. What Socket.IO cannot send, such as a cycle, is an error. */
export function argumentsText(args: readonly unknown[]): string {
  return JSON.stringify(args.map((argument) => encode(argument, 1)));
}

function encode(value: unknown, depth: number): unknown {
  if (value === null || typeof value !== 'object') return value;
  if (depth > MAX_DEPTH) throw new Error(`a value has more than ${MAX_DEPTH} arrays and objects inside one another, or contains itself`);
  const bytes = bytesOf(value);
  if (bytes) return { $binary: bytes.toString('base64') };
  if ('toJSON' in value && typeof value.toJSON === 'function') return encode(value.toJSON(), depth + 1);
  if (Array.isArray(value)) {
    let copy: unknown[] | undefined;
    value.forEach((item, index) => {
      const encoded = encode(item, depth + 1);
      if (!Object.is(encoded, item)) (copy ??= [...value])[index] = encoded;
    });
    return copy ?? value;
  }
  const object = value as Record<string, unknown>;
  const keys = Object.keys(object);
  let copy: Record<string, unknown> | undefined;
  for (const key of keys) {
    const encoded = encode(object[key], depth + 1);
    // Without a prototype, `__proto__` is a key like any other.
    if (!Object.is(encoded, object[key])) (copy ??= Object.assign(Object.create(null), object))![key] = encoded;
  }
  const encoded = copy ?? object;
  if (!keys.some((key) => key.startsWith('$'))) return encoded;
  const kept = keys.filter((key) => !['undefined', 'function', 'symbol'].includes(typeof encoded[key]));
  return kept.length === 1 && kept[0].startsWith('$') ? { $literal: encoded } : encoded;
}

function bytesOf(value: object): Buffer | undefined {
  if (Buffer.isBuffer(value)) return value;
  if (value instanceof ArrayBuffer) return Buffer.from(value);
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return undefined;
}

/** What a value that came as JSON stands for: binary values are Buffers, as in Socket.IO's server. */
export function decode(value: unknown): unknown {
  if (value === null || typeof value !== 'object') return value;
  const object = value as Record<string, unknown>;
  const keys = Object.keys(object);
  if (!Array.isArray(value) && keys.length === 1) {
    const [inner] = Object.values(object);
    if (keys[0] === '$binary' && typeof inner === 'string') return Buffer.from(inner, 'base64');
    if (keys[0] === '$literal' && inner !== null && typeof inner === 'object') return decodeInside(inner);
  }
  return decodeInside(object);
}

function decodeInside(object: object): object {
  const fields = object as Record<string, unknown>;
  for (const key of Object.keys(fields)) {
    const decoded = decode(fields[key]);
    // `__proto__` is an own property of what JSON.parse() has made, so this replaces its value and nothing else.
    if (decoded !== fields[key]) fields[key] = decoded;
  }
  return object;
}

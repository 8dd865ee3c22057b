/** Something of Socket.IO's server that a gateway cannot have behind roomcast. The message names the alternative. */
export class RoomcastUnsupportedError extends Error {
  override readonly name = 'RoomcastUnsupportedError';

  constructor(what: string, alternative: string) {
    super(`${what} cannot be had behind roomcast: ${alternative}`);
  }
}

/** Gives `target` properties that throw when they are read. */
export function unsupported(target: object, what: string, properties: Record<string, string>): void {
  for (const [property, alternative] of Object.entries(properties)) {
    Object.defineProperty(target, property, {
      configurable: true,
      get(): never {
        throw new RoomcastUnsupportedError(`${what}.${property}`, alternative);
      },
      // A test may put something of its own there.
      set(value: unknown) {
        Object.defineProperty(this, property, { value, configurable: true, writable: true });
      },
    });
  }
}

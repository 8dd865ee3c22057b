/** Events by their names: functions of what they carry. Interfaces fit, too. */
export type EventMap<E> = { [K in keyof E]: (...args: any[]) => void };

type Listener = (...args: unknown[]) => void;

/** Who listens to what. */
export class Listeners {
  readonly #of = new Map<string, Set<Listener>>();

  /** Adds a listener; the answer removes it again. */
  add(event: string, listener: (...args: never[]) => void): () => void {
    const own = listener as Listener;
    const all = this.#of.get(event) ?? new Set();
    this.#of.set(event, all.add(own));
    return () => {
      all.delete(own);
      if (all.size === 0 && this.#of.get(event) === all) this.#of.delete(event);
    };
  }

  /** Calls the listeners. One that throws does not keep the others from being called. */
  call(event: string, ...args: unknown[]): void {
    const all = this.#of.get(event);
    if (!all) return;
    for (const listener of [...all]) {
      try {
        listener(...args);
      } catch (error) {
        // Reported as uncaught, like an error in any other listener.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }

  clear(): void {
    this.#of.clear();
  }
}

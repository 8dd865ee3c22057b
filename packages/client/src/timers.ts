/** The longest time that `setTimeout` can wait. */
const LONGEST_MS = 2 ** 31 - 1;

/** Timers that end together. */
export class Timers {
  readonly #running = new Set<ReturnType<typeof setTimeout>>();

  /** Calls `act` later; the answer cancels it. */
  set(milliseconds: number, act: () => void): () => void {
    const timer = setTimeout(
      () => {
        this.#running.delete(timer);
        act();
      },
      Math.min(milliseconds, LONGEST_MS),
    );
    this.#running.add(timer);
    return () => {
      clearTimeout(timer);
      this.#running.delete(timer);
    };
  }

  clear(): void {
    this.#running.forEach(clearTimeout);
    this.#running.clear();
  }
}

/** How long to wait before the next of several tries: doubled each time, with jitter, so that clients do not come all at once. */
export function backoff(tries: number, { first = 500, most = 30_000 } = {}): number {
  const delay = Math.min(first * 2 ** Math.min(tries, 16), most);
  return delay * (0.5 + Math.random() / 2);
}

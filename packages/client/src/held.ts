/** What is done with a message when its turn comes. */
export type Deliver = () => void;

/** How many messages are held back at most. More than twice as many as the largest page has. */
const LIMIT = 4000;

/**
 * Messages of one room that wait until it is known what comes before them. The server's answers stand in order with the messages: those
 * that came before an answer belong to it, later ones may be of another history. Beyond the limit the newest are dropped: they stand in
 * the history, and are read from there.
 */
export class Held {
  /** What came before the last answer, by offset. */
  readonly #before = new Map<number, Deliver>();
  /** What came since, in the order of arrival. */
  #since: [number, Deliver][] = [];
  /** The oldest and the newest offset that were dropped. */
  dropped: { oldest: number; newest: number } | undefined;

  add(offset: number, deliver: Deliver): void {
    this.#since.push([offset, deliver]);
    if (this.#before.size + this.#since.length <= LIMIT) return;
    this.answered();
    const offsets = [...this.#before.keys()].sort((one, other) => one - other);
    const over = offsets.slice(LIMIT / 2);
    over.forEach((one) => this.#before.delete(one));
    const [oldest = Infinity, newest = 0] = [over[0], over.at(-1)];
    this.dropped = { oldest: Math.min(oldest, this.dropped?.oldest ?? oldest), newest: Math.max(newest, this.dropped?.newest ?? newest) };
  }

  /** An answer arrives. */
  answered(): void {
    for (const [offset, deliver] of this.#since) this.#before.set(offset, deliver);
    this.#since = [];
  }

  /** Takes what came before the last answer, up to this offset, in order. */
  take(upTo = Infinity): [number, Deliver][] {
    const taken = [...this.#before].filter(([offset]) => offset <= upTo).sort(([one], [other]) => one - other);
    taken.forEach(([offset]) => this.#before.delete(offset));
    return taken;
  }

  /** Takes what came since the last answer. */
  takeSince(): [number, Deliver][] {
    const taken = this.#since;
    this.#since = [];
    return taken;
  }

  clear(): void {
    this.#before.clear();
    this.#since = [];
    this.dropped = undefined;
  }
}

/** A set that forgets its oldest members. */
export class RecentSet<T> {
  readonly #all = new Set<T>();
  constructor(readonly limit: number) {}

  /** Adds a member; false if it was there. */
  add(member: T): boolean {
    if (this.#all.has(member)) return false;
    this.#all.add(member);
    if (this.#all.size > this.limit) {
      for (const oldest of this.#all) {
        this.#all.delete(oldest);
        break;
      }
    }
    return true;
  }

  has(member: T): boolean {
    return this.#all.has(member);
  }

  clear(): void {
    this.#all.clear();
  }
}

/** A 53-bit hash of a text (cyrb53), to recognize what was delivered before. It is no defence against forgery and needs none. */
export function hashOf(text: string): number {
  let high = 0xdeadbeef;
  let low = 0x41c6ce57;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    high = Math.imul(high ^ unit, 2654435761);
    low = Math.imul(low ^ unit, 1597334677);
  }
  high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909);
  low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909);
  return 4294967296 * (2097151 & low) + (high >>> 0);
}

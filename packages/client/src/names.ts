import type { Name } from './events.js';

/** The name of a room, or the resource that it belongs to. */
export type RoomKey = Name | { roomName: Name } | { roomId: Name } | { room: Name } | { resourceId: Name };

/** The fields that name a room. The first that is present counts. */
const FIELDS = ['roomName', 'roomId', 'room', 'resourceId'] as const;

const isName = (value: unknown): value is Name => typeof value === 'string' || typeof value === 'number';

/** The room that a payload names, as the server reads it. */
export function roomOf(payload: unknown): string | undefined {
  if (typeof payload !== 'object' || payload === null) return undefined;
  const object = payload as Record<string, unknown>;
  for (const field of FIELDS) {
    const value = object[field];
    if (value === undefined || value === null) continue;
    if (!isName(value)) return undefined;
    return field === 'resourceId' ? `resource:${value}` : String(value);
  }
  return undefined;
}

/** The name of a room, and the field by which messages name it. */
export function readKey(key: RoomKey): { name: string; field: Record<string, Name> } {
  if (isName(key)) return { name: String(key), field: { roomName: key } };
  const name = roomOf(key);
  const found = FIELDS.find((candidate) => isName((key as Record<string, unknown>)[candidate]));
  if (name === undefined || !found) throw new TypeError('a room is a name, or an object with roomName, roomId, room or resourceId');
  return { name, field: { [found]: (key as Record<string, Name>)[found] as Name } };
}

/** A number that can be an offset. */
export const isOffset = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** An id that nobody can guess. `randomUUID` is missing on pages without https. */
export function randomId(): string {
  if (typeof crypto.randomUUID === 'function') return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Names of rooms and events. */

/** The names that Socket.IO keeps for itself. */
const RESERVED = new Set(['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener']);

/** The events that clients may send to roomcast itself. A test compares them with roomcast's own description. */
export const ROOMCAST_EVENTS: ReadonlySet<string> = new Set([
  'join-room',
  'watch-resource',
  'joinRoom',
  'leave-room',
  'unwatch-resource',
  'leaveRoom',
  'message',
  'channels',
  'sendMessage',
  'custom-event',
  'typingIndicator',
  'readReceipt',
  'authenticate',
  'presenceUpdate',
  'private-message',
  'syncMessages',
  'ping',
  'heartbeat',
]);

/** Whether a name has the form of a client's id. */
export const isClientId = (name: string): boolean => /^(\/[^#]*#)?[A-Za-z0-9_-]{20}$/.test(name);

/** The name of an event that is sent. */
export function eventName(name: unknown): string {
  if (typeof name !== 'string' || name === '') throw new Error('an event must have a name');
  if (RESERVED.has(name)) throw new Error(`"${name}" is a reserved event name`);
  return name;
}

/** The names of rooms, or of one room. */
export function roomNames(rooms: unknown): string[] {
  return (Array.isArray(rooms) ? rooms : [rooms]).map((room) => {
    const name = String(room);
    const length = [...name].length;
    // eslint-disable-next-line no-control-regex
    if (length < 1 || length > 200 || /[\u0000-\u001f\u007f-\u009f]/.test(name)) {
      throw new Error(`a room's name must have 1 to 200 characters and no control characters: ${JSON.stringify(name.slice(0, 50))}`);
    }
    return name;
  });
}

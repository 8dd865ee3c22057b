import type { Outbox } from './outbox';
import type { RoomcastSocket } from './socket';

/** The recipients of an event. Without rooms and clients: everyone of the namespace. */
export interface Target {
  namespace: string;
  rooms: readonly string[];
  clients: readonly string[];
  exceptRooms: readonly string[];
  exceptClients: readonly string[];
}

/** An event that is sent. Its arguments are text: what happens to them later does not matter. */
export interface Emission {
  event: string;
  args: string;
  /** The only argument, where it is an object that may be stored. */
  data?: string;
  target: Target;
}

/** What a gateway does to clients. */
export type Effect =
  | { kind: 'emit'; emission: Emission }
  | { kind: 'join' | 'leave'; socket: RoomcastSocket; rooms: readonly string[] }
  | { kind: 'disconnect'; socket: RoomcastSocket }
  /** What can only be done by the HTTP API. */
  | { kind: 'call'; run: (outbox: Outbox) => Promise<void> };

/**
 * The fields of an emission, as an answer's `emit` and `POST /events` have them. `stored`: it may be a message. `answered`: the
 * client that an answer is about.
 */
export function emissionText({ event, args, data, target }: Emission, stored: boolean, answered?: string): string {
  const { namespace, rooms, clients, exceptRooms, exceptClients } = target;
  const isOwn = answered !== undefined && !rooms.length && clients.length === 1 && clients[0] === answered;
  const fields = [`"event":${JSON.stringify(event)}`, stored && data !== undefined ? `"data":${data}` : `"args":${args}`];
  fields.push(`"namespace":${JSON.stringify(namespace)}`);
  if (rooms.length) fields.push(`"rooms":${JSON.stringify(rooms)}`);
  if (clients.length && !isOwn) fields.push(`"clients":${JSON.stringify(clients)}`);
  const except = { ...(exceptRooms.length && { rooms: exceptRooms }), ...(exceptClients.length && { clients: exceptClients }) };
  if (Object.keys(except).length) fields.push(`"except":${JSON.stringify(except)}`);
  if (answered !== undefined && !rooms.length && !clients.length) fields.push('"everyone":true');
  return `{${fields.join(',')}}`;
}

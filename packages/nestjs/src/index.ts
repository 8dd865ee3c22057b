export { RoomcastAdapter } from './adapter';
export type { Identity } from './answering';
export type { RoomcastOptions } from './options';
export { RoomcastBroadcastOperator, RoomcastRemoteSocket } from './operator';
export { RoomcastApiError } from './outbox';
export { type Middleware, RoomcastNamespace, RoomcastServer } from './server';
export { type RoomcastHandshake, RoomcastSocket } from './socket';
export { RoomcastUnsupportedError } from './unsupported';

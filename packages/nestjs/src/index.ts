export { RoomcastAdapter } from './adapter';
export { RoomcastApiError } from './api';
export type { Identity } from './answering';
export type { RoomcastOptions } from './options';
export { RoomcastBroadcastOperator, RoomcastRemoteSocket } from './operator';
export { type Middleware, RoomcastNamespace, RoomcastServer } from './server';
export { type RoomcastHandshake, RoomcastSocket } from './socket';
export { RoomcastUnsupportedError } from './unsupported';

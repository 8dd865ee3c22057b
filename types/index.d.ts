// The events of roomcast, for socket.io-client. Made from its AsyncAPI document: do not edit.
//
//   const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io("http://localhost:3001");

/** What is called with the answer to an event: what was asked for, or why not. `success` tells which. */
export type Acknowledge<T> = (answer: T | Refused) => void;

/** 1 to 200 characters without control characters; a number counts as its decimal string. */
export type Name = string | number;

/** The sender's id of a message, or the server's where it gave none. */
export type MessageId = string | number;

/** RFC 3339, UTC, with milliseconds: as JavaScript's `toISOString()`. */
export type Timestamp = string;

/** Why an event was not honoured. The application's backend may have codes of its own. */
export type Code = "no_room" | "invalid_payload" | "unknown_event" | "unauthorized" | "forbidden" | "rate_limited" | "too_large" | "too_many_rooms" | "not_found" | "queue_full" | "unavailable" | "rejected" | "idempotency_mismatch" | string;

/** An object that names a room: the first of these that is present counts. */
export type Room = {
  /** The room's name. */
  roomName: Name;
  [field: string]: unknown;
} | {
  /** The room's name. */
  roomId: Name;
  [field: string]: unknown;
} | {
  /** The room's name. */
  room: Name;
  [field: string]: unknown;
} | {
  /** A resource: `R` means the room `resource:R`. */
  resourceId: Name;
  [field: string]: unknown;
};

/** A room's name, or an object that names it. */
export type RoomOrName = Name | Room;

/** The event was not honoured and changed nothing. */
export interface Refused {
  success: false;
  /** What was wrong, what is allowed, what to do. */
  message: string;
  code: Code;
  /** When trying again may succeed, in milliseconds; with `rate_limited`. */
  retryAfterMs?: number;
  /** What the application's backend says besides, if it refused. */
  data?: unknown;
}

/** The event was honoured. */
export interface Success {
  success: true;
}

/** The event was honoured. */
export interface Done {
  success: true;
  /** What was done. */
  message: string;
}

/** Why an event was not honoured. */
export interface EventError {
  /** What was wrong, what is allowed, what to do. */
  message: string;
  code: Code;
  /** The event. */
  event: string;
  /** When trying again may succeed, in milliseconds; with `rate_limited`. */
  retryAfterMs?: number;
  /** What the application's backend says besides, if it refused. */
  data?: unknown;
}

/** Why an event was not honoured. */
export interface Exception {
  status: "error";
  /** What was wrong, what is allowed, what to do. */
  message: string;
}

/** Who the client is. */
export interface Connected {
  /** A welcome. */
  message: string;
  /** The client: its socket's id. */
  connectionId: string;
  /** The client: its socket's id. */
  clientId: string;
  timestamp: Timestamp;
}

export interface ClientAnnouncement {
  /** The client: its socket's id. */
  clientId: string;
  /** What the client is called. */
  clientName: string;
  /** What has happened. */
  message: string;
}

/** The room to join, and what the client has of it already. */
export type JoinRoom = Name | Room & {
  /** The newest offset that the client has of this room: what came after it is sent first. */
  offset?: number;
  /** The epoch that the offset belongs to. */
  epoch?: string;
  [field: string]: unknown;
};

/** The client is in the room, or out of it. */
export interface RoomAcknowledge {
  success: true;
  /** The client: its socket's id. */
  clientId: string;
  /** What the client is called. */
  clientName: string;
  /** The room's name. */
  roomName: string;
  /** What was done. */
  message: string;
  roomId?: Name;
  room?: Name;
  resourceId?: Name;
  /** The room's newest offset that the client has now. */
  offset?: number;
  /** Which history the offset belongs to; it changes only where the history was lost. */
  epoch?: string;
  /** Whether everything that was missed has been sent, where the join asked for it. */
  recovered?: boolean;
  /** How many messages were sent before the join. */
  missed?: number;
  /** The oldest offset that can be read, or the next one if none can. */
  oldestOffset?: number;
}

/** That the client is in the room, or out of it. */
export interface RoomConfirmation {
  success: true;
  /** The room's name. */
  roomName: string;
  /** What was done. */
  message: string;
  timestamp: Timestamp;
}

/** The room as the client named it: its name, or an object with the one field that did. */
export type RoomEcho = Name | Room;

/** Who came or went. */
export interface RoomMove {
  /** The user; null for a client without one. */
  userId: string | null;
  /** The client: its socket's id. */
  socketId: string;
  /** What the client is called. */
  clientName: string;
  /** The room's name. */
  room: string;
  timestamp: Timestamp;
}

/** Who came or went. */
export interface RoomMoveCamel {
  /** The user; null for a client without one. */
  userId: string | null;
  /** The client: its socket's id. */
  socketId: string;
  /** What the client is called. */
  clientName: string;
  /** The room's name. */
  roomId: string;
  timestamp: Timestamp;
}

/** An object for a room; it goes out as it is. */
export type RoomObject = Room & {
  id?: MessageId;
  /** The same again within `IDEMPOTENCY_WINDOW` is done once. It is not forwarded. */
  idempotencyKey?: string;
  [field: string]: unknown;
};

/** A message for a room; it goes out as it is. */
export type RoomMessage = Room & {
  id?: MessageId;
  /** The same again within `IDEMPOTENCY_WINDOW` is done once. It is not forwarded. */
  idempotencyKey?: string;
  /** The sender gets no copy of its own. */
  omitSender?: boolean;
  /** The sender gets its own copy. Without either: where the room is named by `resourceId`. */
  replyToSender?: boolean;
  [field: string]: unknown;
};

/** A message for everyone of the namespace. */
export type NamespaceMessage = string | {
  /** What is said. */
  text: unknown;
  id?: MessageId;
  /** The same again within `IDEMPOTENCY_WINDOW` is done once. It is not forwarded. */
  idempotencyKey?: string;
  [field: string]: unknown;
};

export type Message = RoomMessage | NamespaceMessage;

/** The object that was sent, with its number in the room added. */
export interface Delivered {
  /** The message's number in its room, from 1; absent without history. */
  offset?: number;
  [field: string]: unknown;
}

/** A chat message; further fields go out with it. */
export type ChatMessage = Room & {
  /** What is said. */
  content: unknown;
  id?: MessageId;
  /** The same again within `IDEMPOTENCY_WINDOW` is done once. It is not forwarded. */
  idempotencyKey?: string;
  [field: string]: unknown;
};

/** A chat message, with the further fields of its payload. */
export interface NewMessage {
  id: MessageId;
  /** The user; null for a client without one. */
  sender: string | null;
  /** The client: its socket's id. */
  clientId: string;
  /** What is said. */
  content: unknown;
  timestamp: Timestamp;
  /** The message's number in its room, from 1; absent without history. */
  offset?: number;
  [field: string]: unknown;
}

export interface MessageSent {
  id: MessageId;
  timestamp: Timestamp;
  status: "sent";
}

/** The message is stored (where there is history) and on its way. */
export interface MessageAcknowledge {
  success: true;
  id: MessageId;
  /** The room; null where it went to everyone. */
  roomName: string | null;
  timestamp: Timestamp;
  /** The message's number in its room, from 1; absent without history. */
  offset?: number;
  /** It was done before, with the same idempotency key; nothing was done now. */
  duplicate?: boolean;
}

/** An event of one's own. */
export interface CustomEvent {
  /** Its name: none of Socket.IO's own, and none that the server sends. */
  event: string;
  /** Its argument. */
  data?: unknown;
  roomName?: Name;
  roomId?: Name;
  room?: Name;
  resourceId?: Name;
  /** The same again within `IDEMPOTENCY_WINDOW` is done once. It is not forwarded. */
  idempotencyKey?: string;
}

/** The event was sent. */
export interface CustomEventAcknowledge {
  success: true;
  /** What was done. */
  message: string;
  /** It was done before, with the same idempotency key; nothing was done now. */
  duplicate?: boolean;
}

/** Whether one types in a room. */
export type Typing = Room & {
  /** Whether one does. */
  isTyping: boolean;
  [field: string]: unknown;
};

/** Who types, or has stopped. */
export interface UserTyping {
  /** The user; null for a client without one. */
  userId: string | null;
  /** The client: its socket's id. */
  clientId: string;
  /** What the client is called. */
  clientName: string;
  /** The room's name. */
  roomId: string;
  /** Whether it does. */
  isTyping: boolean;
  timestamp: Timestamp;
}

/** That a message of a room was read. */
export type ReadReceipt = Room & {
  messageId: MessageId;
  [field: string]: unknown;
};

/** The receipt was sent. */
export interface ReceiptAcknowledge {
  success: true;
  /** Whether it was recorded with the message. */
  recorded: boolean;
}

/** Who has read which message. */
export interface MessageRead {
  messageId: MessageId;
  /** The user; null for a client without one. */
  userId: string | null;
  /** The client: its socket's id. */
  clientId: string;
  /** The room's name. */
  roomId: string;
  timestamp: Timestamp;
}

/** Who one is: the user alone where authentication is off, with a token where it is on. */
export type Authenticate = Name | {
  userId?: Name;
  /** A JSON Web Token whose subject is the user. */
  token?: string;
};

export interface Authenticated {
  success: true;
  /** The user. */
  userId: string;
  /** What was done. */
  message: string;
  timestamp: Timestamp;
}

export interface TokenExpired {
  /** What to do. */
  message: string;
}

export interface TokenRevoked {
  /** What to do. */
  message: string;
}

/** What a user says of itself. */
export type Status = "online" | "away" | "busy" | "offline";

/** How a user is. */
export interface Presence {
  status: Status;
}

/** Who came or went. */
export interface UserMove {
  /** The user. */
  userId: string;
  timestamp: Timestamp;
}

/** How a user is. */
export interface PresenceChange {
  /** The user. */
  userId: string;
  status: Status;
  lastActive: Timestamp;
}

/** What the content of a private message is. */
export type Kind = "text" | "image" | "file" | "notification";

/** A message for one user. */
export type PrivateMessage = ({
  targetUserId: Name;
  [field: string]: unknown;
} | {
  target: Name;
  [field: string]: unknown;
}) & {
  /** What is said. */
  message: unknown;
  messageType?: Kind;
  id?: MessageId;
  /** The same again within `IDEMPOTENCY_WINDOW` is done once. It is not forwarded. */
  idempotencyKey?: string;
  [field: string]: unknown;
};

/** The message was taken. */
export interface PrivateAcknowledge {
  success: true;
  /** What was done. */
  message: string;
  id: MessageId;
  /** It was sent to at least one client of the user. */
  delivered: boolean;
  /** It waits until the user connects. */
  queued: boolean;
  /** It was done before, with the same idempotency key; nothing was done now. */
  duplicate?: boolean;
}

/** A private message. */
export interface Private {
  id: MessageId;
  /** The user; null for a client without one. */
  from: string | null;
  /** The client: its socket's id. */
  clientId: string;
  message: {
    /** What is said. */
    content: unknown;
    type: Kind;
    timestamp: Timestamp;
  };
  timestamp: Timestamp;
}

export interface PrivateSent {
  target: Name;
  id: MessageId;
  /** It was sent to at least one client of the user. */
  delivered: boolean;
  /** It waits until the user connects. */
  queued: boolean;
  timestamp: Timestamp;
}

/** Which part of a room's history is wanted: after `lastMessageId`, else after `offset`, else from the oldest. */
export type SyncMessages = Room & {
  lastMessageId?: MessageId;
  /** The newest offset that the client has. */
  offset?: number;
  limit?: number;
  [field: string]: unknown;
};

/** The page was sent. */
export interface SyncAcknowledge {
  success: true;
  /** The room's name. */
  roomId: string;
  /** How many messages were sent. */
  syncedMessageCount: number;
  /** Where the next page begins. */
  offset: number;
  /** Which history the offset belongs to; it changes only where the history was lost. */
  epoch: string;
  /** Whether nothing comes after this page. */
  complete: boolean;
}

/** The page was sent. */
export interface SyncComplete {
  /** The room's name. */
  roomId: string;
  /** How many messages were sent. */
  syncedMessageCount: number;
  /** Where the next page begins. */
  offset: number;
  /** Which history the offset belongs to; it changes only where the history was lost. */
  epoch: string;
  /** Whether nothing comes after this page. */
  complete: boolean;
}

export interface Pong {
  /** The server's time, in milliseconds since 1970. */
  timestamp: number;
  /** Some words. */
  message: string;
}

/** What clients receive. Extend it by the events of your own. */
export interface ServerToClientEvents {
  /** An event of this client was not honoured. */
  error: (payload: EventError) => void;
  /** The same, for the events in camelCase, as NestJS says it. */
  exception: (payload: Exception) => void;
  /** To a new client: who it is. */
  connected: (payload: Connected) => void;
  /** To everyone of the namespace: a client has come. */
  "client-connected": (payload: ClientAnnouncement) => void;
  /** To everyone of the namespace: a client has gone. */
  "client-disconnected": (payload: ClientAnnouncement) => void;
  /** To the client that joined by `join-room` or `watch-resource`, or that a backend or its token put into the room. */
  "room-joined": (payload: RoomConfirmation) => void;
  /** To the client that left by `leave-room` or `unwatch-resource`, or that a backend or a narrower token put out of the room. */
  "room-left": (payload: RoomConfirmation) => void;
  /** To the client that joined by `joinRoom`: the room, in the shape that it used. */
  joinedRoom: (payload: RoomEcho) => void;
  /** To the client that left by `leaveRoom`, or that a narrower token put out of the room it had joined by `joinRoom`. */
  leftRoom: (payload: RoomEcho) => void;
  /** To the room's other members: a client has joined by `join-room` or `watch-resource`. */
  "user-joined": (payload: RoomMove) => void;
  /** To the room's other members: a client that had joined so has left or disconnected. */
  "user-left": (payload: RoomMove) => void;
  /** To the room's other members: a client has joined by `joinRoom`. */
  userJoinedRoom: (payload: RoomMoveCamel) => void;
  /** To the room's other members: a client that had joined so has left or disconnected. */
  userLeftRoom: (payload: RoomMoveCamel) => void;
  /** A message to a room, as its sender or a backend sent it. */
  "message-reply": (payload: Delivered) => void;
  /** A message to everyone of the namespace. */
  message: (payload: NamespaceMessage) => void;
  /** An update of a resource, as its sender sent it to `channels`. */
  "resource-update": (payload: Delivered) => void;
  /** A chat message to a room: `sender`, `clientId` and `timestamp` are the server's word. */
  newMessage: (payload: NewMessage) => void;
  /** To the sender of a chat message: it was taken. */
  messageSent: (payload: MessageSent) => void;
  /** To the room's other members: somebody types, or has stopped. */
  userTyping: (payload: UserTyping) => void;
  /** To the room's members: somebody has read a message. */
  messageRead: (payload: MessageRead) => void;
  /** To a client that said who it is. */
  authenticated: (payload: Authenticated) => void;
  /** The client's token has ended: it is disconnected. */
  "token-expired": (payload: TokenExpired) => void;
  /** The client's token was revoked: it is disconnected. */
  "token-revoked": (payload: TokenRevoked) => void;
  /** The first client of a user has come. */
  "user-online": (payload: UserMove) => void;
  /** The last client of a user has gone, `PRESENCE_GRACE` ago. */
  "user-offline": (payload: UserMove) => void;
  /** A user says how it is, or has gone. */
  presenceUpdate: (payload: PresenceChange) => void;
  /** A message from another user. */
  "private-message": (payload: Private) => void;
  /** To the sender of a private message: it was taken. */
  "message-sent": (payload: PrivateSent) => void;
  /** To the client that sent `syncMessages`: the page is complete. */
  syncComplete: (payload: SyncComplete) => void;
  /** The answer to `ping`. */
  pong: (payload: Pong) => void;
}

/** What clients send. */
export interface ClientToServerEvents {
  /** Enter a room; the client gets `room-joined`, the others `user-joined`. With `offset`, what was missed is sent first. */
  "join-room": (payload: JoinRoom, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** The same as `join-room`. */
  "watch-resource": (payload: JoinRoom, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** Enter a room; the client gets `joinedRoom`, the others `userJoinedRoom`. With `offset`, what was missed is sent first. */
  joinRoom: (payload: JoinRoom, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** Leave a room; the client gets `room-left`, the others `user-left`. */
  "leave-room": (payload: RoomOrName, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** The same as `leave-room`. */
  "unwatch-resource": (payload: RoomOrName, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** Leave a room; the client gets `leftRoom`, the others `userLeftRoom`. */
  leaveRoom: (payload: RoomOrName, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** Send an object to a room, as `message-reply`; or, without a room, an object with `text`, or a string, to everyone of the namespace, as `message`. */
  message: (payload: Message, ack?: Acknowledge<MessageAcknowledge>) => void;
  /** Send an update of a resource to its room, the sender included, as `resource-update`. */
  channels: (payload: RoomObject, ack?: Acknowledge<MessageAcknowledge>) => void;
  /** Send a chat message to a room, the sender included, as `newMessage`; the sender gets `messageSent` besides. */
  sendMessage: (payload: ChatMessage, ack?: Acknowledge<MessageAcknowledge>) => void;
  /** Send an event of one's own to a room, or to everyone of the namespace; never to the sender. It is neither numbered nor stored. */
  "custom-event": (payload: CustomEvent, ack?: Acknowledge<CustomEventAcknowledge>) => void;
  /** Say whether one types; the room's other members get `userTyping`. */
  typingIndicator: (payload: Typing, ack?: Acknowledge<Success>) => void;
  /** Say that a message was read; the room's members get `messageRead`, and it is recorded with the message. */
  readReceipt: (payload: ReadReceipt, ack?: Acknowledge<ReceiptAcknowledge>) => void;
  /** Say who one is, or renew a token before it ends. */
  authenticate: (payload: Authenticate, ack?: Acknowledge<Done>) => void;
  /** Say how one is; others get `presenceUpdate`. Needs a user. */
  presenceUpdate: (payload: Presence, ack?: Acknowledge<Success>) => void;
  /** Send a message to all clients of one user; where authentication is on it waits for a user who has none. */
  "private-message": (payload: PrivateMessage, ack?: Acknowledge<PrivateAcknowledge>) => void;
  /** Read a room's history: the messages come as the events that they were, oldest first, then `syncComplete`. */
  syncMessages: (payload: SyncMessages, ack?: Acknowledge<SyncAcknowledge>) => void;
  /** Ask for a `pong`. */
  ping: (ack?: Acknowledge<Success>) => void;
  /** Say that the user is active. */
  heartbeat: (ack?: Acknowledge<Success>) => void;
}

/** What each event of a client is answered with, for `emitWithAck`. */
export interface Acknowledgements {
  "join-room": RoomAcknowledge | Refused;
  "watch-resource": RoomAcknowledge | Refused;
  joinRoom: RoomAcknowledge | Refused;
  "leave-room": RoomAcknowledge | Refused;
  "unwatch-resource": RoomAcknowledge | Refused;
  leaveRoom: RoomAcknowledge | Refused;
  message: MessageAcknowledge | Refused;
  channels: MessageAcknowledge | Refused;
  sendMessage: MessageAcknowledge | Refused;
  "custom-event": CustomEventAcknowledge | Refused;
  typingIndicator: Success | Refused;
  readReceipt: ReceiptAcknowledge | Refused;
  authenticate: Done | Refused;
  presenceUpdate: Success | Refused;
  "private-message": PrivateAcknowledge | Refused;
  syncMessages: SyncAcknowledge | Refused;
  ping: Success | Refused;
  heartbeat: Success | Refused;
}

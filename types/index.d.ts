// The events of roomcast, for socket.io-client. Made from its AsyncAPI document: do not edit.
//
//   const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io("http://localhost:3001");

/** Called with the answer to an event: the result, or the refusal. `success` tells them apart. */
export type Acknowledge<T> = (answer: T | Refused) => void;

/** 1 to 200 characters without control characters. A number counts as its decimal string. */
export type Name = string | number;

/** The message's id: the sender's, or the server's if the sender gave none. */
export type MessageId = string | number;

/** RFC 3339, UTC, with milliseconds: as JavaScript's `toISOString()`. */
export type Timestamp = string;

/** Why an event was refused. The application's backend may use codes of its own. */
export type Code = "no_room" | "invalid_payload" | "unknown_event" | "unauthorized" | "forbidden" | "rate_limited" | "too_large" | "too_many_rooms" | "not_found" | "queue_full" | "unavailable" | "rejected" | "idempotency_mismatch" | string;

/** An object that names a room. The first of these fields that is present counts. */
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

/** The event was refused. It has changed nothing. */
export interface Refused {
  success: false;
  /** What was wrong, what is allowed, and what to do. */
  message: string;
  code: Code;
  /** How long to wait before the next attempt, in milliseconds. With `rate_limited`. */
  retryAfterMs?: number;
  /** More from the application's backend, if it refused the event. */
  data?: unknown;
}

/** The event was accepted. */
export interface Success {
  success: true;
}

/** The event was accepted. */
export interface Done {
  success: true;
  /** A description. */
  message: string;
}

/** An event was refused. */
export interface EventError {
  /** What was wrong, what is allowed, and what to do. */
  message: string;
  code: Code;
  /** The name of the refused event. */
  event: string;
  /** How long to wait before the next attempt, in milliseconds. With `rate_limited`. */
  retryAfterMs?: number;
  /** More from the application's backend, if it refused the event. */
  data?: unknown;
}

/** An event was refused. */
export interface Exception {
  status: "error";
  /** What was wrong, what is allowed, and what to do. */
  message: string;
}

/** The new client. */
export interface Connected {
  /** A welcome. */
  message: string;
  /** The client's id (its `socket.id`). */
  connectionId: string;
  /** The client's id (its `socket.id`). */
  clientId: string;
  timestamp: Timestamp;
}

export interface ClientAnnouncement {
  /** The client's id (its `socket.id`). */
  clientId: string;
  /** The client's name. */
  clientName: string;
  /** A description. */
  message: string;
}

/** The room to join, and the newest message that the client has. */
export type JoinRoom = Name | Room & {
  /** The newest offset that the client has. Everything after it is sent first. */
  offset?: number;
  /** The epoch that the offset belongs to. */
  epoch?: string;
  [field: string]: unknown;
};

/** The client has joined or left. */
export interface RoomAcknowledge {
  success: true;
  /** The client's id (its `socket.id`). */
  clientId: string;
  /** The client's name. */
  clientName: string;
  /** The room's name. */
  roomName: string;
  /** A description. */
  message: string;
  roomId?: Name;
  room?: Name;
  resourceId?: Name;
  /** The room's current offset: the client has everything up to it. */
  offset?: number;
  /** The history that the offset belongs to. It changes only if the history was lost. */
  epoch?: string;
  /** Whether all missed messages have been sent. Present if the join had an `offset`. */
  recovered?: boolean;
  /** The number of messages that were sent before the join. */
  missed?: number;
  /** The oldest offset in the history, or the next one if it is empty. */
  oldestOffset?: number;
}

/** The client has joined or left. */
export interface RoomConfirmation {
  success: true;
  /** The room's name. */
  roomName: string;
  /** A description. */
  message: string;
  timestamp: Timestamp;
}

/** The room as the client named it: the name, or an object with the field that named it. */
export type RoomEcho = Name | Room;

/** A client joined or left. */
export interface RoomMove {
  /** The user, or null for a client without a user. */
  userId: string | null;
  /** The client's id (its `socket.id`). */
  socketId: string;
  /** The client's name. */
  clientName: string;
  /** The room's name. */
  room: string;
  timestamp: Timestamp;
}

/** A client joined or left. */
export interface RoomMoveCamel {
  /** The user, or null for a client without a user. */
  userId: string | null;
  /** The client's id (its `socket.id`). */
  socketId: string;
  /** The client's name. */
  clientName: string;
  /** The room's name. */
  roomId: string;
  timestamp: Timestamp;
}

/** An object for a room. It is forwarded unchanged. */
export type RoomObject = Room & {
  id?: MessageId;
  /** Within `IDEMPOTENCY_WINDOW`, events with the same key are done once. The key is not forwarded. */
  idempotencyKey?: string;
  [field: string]: unknown;
};

/** A message for a room. It is forwarded unchanged. */
export type RoomMessage = Room & {
  id?: MessageId;
  /** Within `IDEMPOTENCY_WINDOW`, events with the same key are done once. The key is not forwarded. */
  idempotencyKey?: string;
  /** If true, the sender gets no copy; if false, it does. */
  omitSender?: boolean;
  /** If true, the sender gets a copy. Without `omitSender` and `replyToSender` it gets one if the room is named by `resourceId`. */
  replyToSender?: boolean;
  [field: string]: unknown;
};

/** A message for everyone in the namespace. */
export type NamespaceMessage = string | {
  /** The content. */
  text: unknown;
  id?: MessageId;
  /** Within `IDEMPOTENCY_WINDOW`, events with the same key are done once. The key is not forwarded. */
  idempotencyKey?: string;
  [field: string]: unknown;
};

export type Message = RoomMessage | NamespaceMessage;

/** The object as it was sent, plus its `offset`. */
export interface Delivered {
  /** The message's number in its room, from 1. Absent without history. */
  offset?: number;
  [field: string]: unknown;
}

/** A chat message. All other fields are forwarded. */
export type ChatMessage = Room & {
  /** The content. */
  content: unknown;
  id?: MessageId;
  /** Within `IDEMPOTENCY_WINDOW`, events with the same key are done once. The key is not forwarded. */
  idempotencyKey?: string;
  [field: string]: unknown;
};

/** A chat message, with all other fields of the payload. */
export interface NewMessage {
  id: MessageId;
  /** The user, or null for a client without a user. */
  sender: string | null;
  /** The client's id (its `socket.id`). */
  clientId: string;
  /** The content. */
  content: unknown;
  timestamp: Timestamp;
  /** The message's number in its room, from 1. Absent without history. */
  offset?: number;
  [field: string]: unknown;
}

export interface MessageSent {
  id: MessageId;
  timestamp: Timestamp;
  status: "sent";
}

/** The message was accepted, and stored if history is on. */
export interface MessageAcknowledge {
  success: true;
  id: MessageId;
  /** The room, or null for a message to the whole namespace. */
  roomName: string | null;
  timestamp: Timestamp;
  /** The message's number in its room, from 1. Absent without history. */
  offset?: number;
  /** True if the event was done before, with the same idempotency key. Nothing was done now. */
  duplicate?: boolean;
}

/** An event of your own. */
export interface CustomEvent {
  /** Its name. Names of Socket.IO's own events and of the server's events are refused. */
  event: string;
  /** Its argument. */
  data?: unknown;
  roomName?: Name;
  roomId?: Name;
  room?: Name;
  resourceId?: Name;
  /** Within `IDEMPOTENCY_WINDOW`, events with the same key are done once. The key is not forwarded. */
  idempotencyKey?: string;
}

/** The event was sent. */
export interface CustomEventAcknowledge {
  success: true;
  /** A description. */
  message: string;
  /** True if the event was done before, with the same idempotency key. Nothing was done now. */
  duplicate?: boolean;
}

/** Whether the client is typing in a room. */
export type Typing = Room & {
  /** True: is typing. False: has stopped. */
  isTyping: boolean;
  [field: string]: unknown;
};

/** A client is typing, or has stopped. */
export interface UserTyping {
  /** The user, or null for a client without a user. */
  userId: string | null;
  /** The client's id (its `socket.id`). */
  clientId: string;
  /** The client's name. */
  clientName: string;
  /** The room's name. */
  roomId: string;
  /** True: is typing. False: has stopped. */
  isTyping: boolean;
  timestamp: Timestamp;
}

/** The message that was read. */
export type ReadReceipt = Room & {
  messageId: MessageId;
  [field: string]: unknown;
};

/** The receipt was sent. */
export interface ReceiptAcknowledge {
  success: true;
  /** Whether the receipt was recorded with the message. */
  recorded: boolean;
}

/** A client has read a message. */
export interface MessageRead {
  messageId: MessageId;
  /** The user, or null for a client without a user. */
  userId: string | null;
  /** The client's id (its `socket.id`). */
  clientId: string;
  /** The room's name. */
  roomId: string;
  timestamp: Timestamp;
}

/** The user. With authentication on, a token is required. */
export type Authenticate = Name | {
  userId?: Name;
  /** A JSON Web Token whose subject is the user. */
  token?: string;
};

export interface Authenticated {
  success: true;
  /** The user. */
  userId: string;
  /** A description. */
  message: string;
  timestamp: Timestamp;
}

export interface TokenExpired {
  /** A description. */
  message: string;
}

export interface TokenRevoked {
  /** A description. */
  message: string;
}

/** The status of a user. */
export type Status = "online" | "away" | "busy" | "offline";

/** The status of a user. */
export interface Presence {
  status: Status;
}

/** A user came online or went offline. */
export interface UserMove {
  /** The user. */
  userId: string;
  timestamp: Timestamp;
}

/** The status of a user. */
export interface PresenceChange {
  /** The user. */
  userId: string;
  status: Status;
  lastActive: Timestamp;
}

/** The kind of content. */
export type Kind = "text" | "image" | "file" | "notification";

/** A message for one user. */
export type PrivateMessage = ({
  targetUserId: Name;
  [field: string]: unknown;
} | {
  target: Name;
  [field: string]: unknown;
}) & {
  /** The content. */
  message: unknown;
  messageType?: Kind;
  id?: MessageId;
  /** Within `IDEMPOTENCY_WINDOW`, events with the same key are done once. The key is not forwarded. */
  idempotencyKey?: string;
  [field: string]: unknown;
};

/** The message was accepted. */
export interface PrivateAcknowledge {
  success: true;
  /** A description. */
  message: string;
  id: MessageId;
  /** Whether it was sent to at least one client of the user. */
  delivered: boolean;
  /** Whether it waits until the user connects. */
  queued: boolean;
  /** True if the event was done before, with the same idempotency key. Nothing was done now. */
  duplicate?: boolean;
}

/** A private message. */
export interface Private {
  id: MessageId;
  /** The user, or null for a client without a user. */
  from: string | null;
  /** The client's id (its `socket.id`). */
  clientId: string;
  message: {
    /** The content. */
    content: unknown;
    type: Kind;
    timestamp: Timestamp;
  };
  timestamp: Timestamp;
}

export interface PrivateSent {
  target: Name;
  id: MessageId;
  /** Whether it was sent to at least one client of the user. */
  delivered: boolean;
  /** Whether it waits until the user connects. */
  queued: boolean;
  timestamp: Timestamp;
}

/** The part of the history to read: after `lastMessageId`, else after `offset`, else from the oldest message. */
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
  /** The number of messages that were sent. */
  syncedMessageCount: number;
  /** The `offset` for the next page. */
  offset: number;
  /** The history that the offset belongs to. It changes only if the history was lost. */
  epoch: string;
  /** Whether this was the last page. */
  complete: boolean;
}

/** The page was sent. */
export interface SyncComplete {
  /** The room's name. */
  roomId: string;
  /** The number of messages that were sent. */
  syncedMessageCount: number;
  /** The `offset` for the next page. */
  offset: number;
  /** The history that the offset belongs to. It changes only if the history was lost. */
  epoch: string;
  /** Whether this was the last page. */
  complete: boolean;
}

export interface Pong {
  /** The server's time, in milliseconds since 1970. */
  timestamp: number;
  /** A description. */
  message: string;
}

/** What clients receive. Extend it with your own events. */
export interface ServerToClientEvents {
  /** Reports that an event of this client was refused. */
  error: (payload: EventError) => void;
  /** The same as `error` in the format of NestJS, sent in addition to it for camelCase events. */
  exception: (payload: Exception) => void;
  /** Welcomes a new client and tells it its id. */
  connected: (payload: Connected) => void;
  /** A client has connected. Off with `ANNOUNCE_CONNECTIONS=false`; paused above `ANNOUNCE_MAX` clients. */
  "client-connected": (payload: ClientAnnouncement) => void;
  /** A client has disconnected. Off with `ANNOUNCE_CONNECTIONS=false`; paused above `ANNOUNCE_MAX` clients. */
  "client-disconnected": (payload: ClientAnnouncement) => void;
  /** The client has joined a room by `join-room` or `watch-resource`, or a backend or its token has put it into the room. */
  "room-joined": (payload: RoomConfirmation) => void;
  /** The client has left a room by `leave-room` or `unwatch-resource`, or a backend or a narrower token has taken it out. */
  "room-left": (payload: RoomConfirmation) => void;
  /** The client has joined a room by `joinRoom`. The argument has the shape that the client used. */
  joinedRoom: (payload: RoomEcho) => void;
  /** The client has left a room by `leaveRoom`, or a narrower token has taken it out of a room that it joined by `joinRoom`. */
  leftRoom: (payload: RoomEcho) => void;
  /** A client has joined the room by `join-room` or `watch-resource`. */
  "user-joined": (payload: RoomMove) => void;
  /** A client that joined by `join-room` or `watch-resource` has left the room or disconnected. */
  "user-left": (payload: RoomMove) => void;
  /** A client has joined the room by `joinRoom`. */
  userJoinedRoom: (payload: RoomMoveCamel) => void;
  /** A client that joined by `joinRoom` has left the room or disconnected. */
  userLeftRoom: (payload: RoomMoveCamel) => void;
  /** A message to a room: the object that a client sent by `message`, or a backend by `POST /messages/broadcast`. */
  "message-reply": (payload: Delivered) => void;
  /** A message to the whole namespace: the object or string that a client sent by `message` without a room. */
  message: (payload: NamespaceMessage) => void;
  /** An update of a resource: the object that a client sent by `channels`. */
  "resource-update": (payload: Delivered) => void;
  /** A chat message: the object that a client sent by `sendMessage`. The server sets `sender`, `clientId` and `timestamp`. */
  newMessage: (payload: NewMessage) => void;
  /** The chat message was accepted. */
  messageSent: (payload: MessageSent) => void;
  /** A client is typing, or has stopped. */
  userTyping: (payload: UserTyping) => void;
  /** A client has read a message. */
  messageRead: (payload: MessageRead) => void;
  /** The client is authenticated. */
  authenticated: (payload: Authenticated) => void;
  /** The token of the client has expired. The client is disconnected. */
  "token-expired": (payload: TokenExpired) => void;
  /** The token of the client was revoked. The client is disconnected. */
  "token-revoked": (payload: TokenRevoked) => void;
  /** The first client of a user has connected. */
  "user-online": (payload: UserMove) => void;
  /** The last client of a user has disconnected, `PRESENCE_GRACE` ago. */
  "user-offline": (payload: UserMove) => void;
  /** A user has set its status, or has gone offline. */
  presenceUpdate: (payload: PresenceChange) => void;
  /** A private message. */
  "private-message": (payload: Private) => void;
  /** The private message was accepted. */
  "message-sent": (payload: PrivateSent) => void;
  /** The page of history is complete. */
  syncComplete: (payload: SyncComplete) => void;
  /** Answers `ping`. */
  pong: (payload: Pong) => void;
}

/** What clients send. */
export interface ClientToServerEvents {
  /** Joins a room. With `offset`, the messages that the client missed are sent first. */
  "join-room": (payload: JoinRoom, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** The same as `join-room`, usually with `resourceId`. */
  "watch-resource": (payload: JoinRoom, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** Joins a room, as `join-room`. The client gets `joinedRoom`, the others `userJoinedRoom`. */
  joinRoom: (payload: JoinRoom, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** Leaves a room. */
  "leave-room": (payload: RoomOrName, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** The same as `leave-room`, usually with `resourceId`. */
  "unwatch-resource": (payload: RoomOrName, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** Leaves a room. The client gets `leftRoom`, the others `userLeftRoom`. */
  leaveRoom: (payload: RoomOrName, ack?: Acknowledge<RoomAcknowledge>) => void;
  /** Sends an object to a room, as `message-reply`. Without a room, sends a string or an object with `text` to the whole namespace, as `message`. */
  message: (payload: Message, ack?: Acknowledge<MessageAcknowledge>) => void;
  /** Sends an update of a resource to its room, as `resource-update`. The sender gets it too. */
  channels: (payload: RoomObject, ack?: Acknowledge<MessageAcknowledge>) => void;
  /** Sends a chat message to a room, as `newMessage`. The sender gets it too, and `messageSent`. */
  sendMessage: (payload: ChatMessage, ack?: Acknowledge<MessageAcknowledge>) => void;
  /** Sends an event of your own to a room, or to the whole namespace. The sender does not get it. It is neither numbered nor stored. */
  "custom-event": (payload: CustomEvent, ack?: Acknowledge<CustomEventAcknowledge>) => void;
  /** Says whether the client is typing. The room's other members get `userTyping`. */
  typingIndicator: (payload: Typing, ack?: Acknowledge<Success>) => void;
  /** Says that a message was read. The room's members get `messageRead`, and the receipt is recorded with the message. */
  readReceipt: (payload: ReadReceipt, ack?: Acknowledge<ReceiptAcknowledge>) => void;
  /** Identifies the user of this client, or renews its token before it expires. */
  authenticate: (payload: Authenticate, ack?: Acknowledge<Done>) => void;
  /** Sets the user's status. Others get `presenceUpdate`. The client needs a user. */
  presenceUpdate: (payload: Presence, ack?: Acknowledge<Success>) => void;
  /** Sends a message to all clients of one user. If the user has none and authentication is on, the message is queued. */
  "private-message": (payload: PrivateMessage, ack?: Acknowledge<PrivateAcknowledge>) => void;
  /** Reads a room's history. The messages arrive as their original events, oldest first, followed by `syncComplete`. */
  syncMessages: (payload: SyncMessages, ack?: Acknowledge<SyncAcknowledge>) => void;
  /** Requests a `pong`. */
  ping: (ack?: Acknowledge<Success>) => void;
  /** Refreshes the `lastActive` time of the user. */
  heartbeat: (ack?: Acknowledge<Success>) => void;
}

/** The acknowledgement of each event, for `emitWithAck`. */
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

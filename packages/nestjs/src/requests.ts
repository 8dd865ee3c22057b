/** What roomcast posts: see `docs/handlers.md` of roomcast. */

/** A client as roomcast describes it. */
export interface ClientFacts {
  clientId: string;
  userId: string | null;
  clientName: string;
  namespace: string;
  rooms: string[];
  transport: 'websocket' | 'polling';
  address: string | null;
  claims: Record<string, unknown> | null;
  data: Record<string, unknown>;
}

/** What a client said as it connected. */
export interface HandshakeFacts {
  auth: Record<string, unknown> | null;
  query: Record<string, string | string[]>;
  headers: Record<string, string>;
}

/** A request. */
export interface RoomcastRequest {
  type: 'event' | 'connect' | 'disconnect';
  id: string;
  timestamp: string;
  node: string;
  client: ClientFacts;
  event?: string;
  args?: unknown[];
  wantsAck?: boolean;
  handshake?: HandshakeFacts;
  reason?: string;
}

/** Whether a body is such a request. */
export function isRequest(body: unknown): body is RoomcastRequest {
  const request = body as RoomcastRequest | null;
  return (
    typeof request === 'object' &&
    request !== null &&
    ['event', 'connect', 'disconnect'].includes(request.type) &&
    typeof request.id === 'string' &&
    typeof request.client?.clientId === 'string' &&
    typeof request.client.namespace === 'string' &&
    Array.isArray(request.client.rooms) &&
    (request.type !== 'event' || (typeof request.event === 'string' && Array.isArray(request.args)))
  );
}

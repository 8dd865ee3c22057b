'use strict';

// The session: who this client is, its connection, the rooms that it is in, and what it hears.

const at = (id) => document.getElementById(id);
const value = (id) => at(id).value.trim();

/** The server that this page came from; relative, so that it works below a proxy's path, too. */
const server = new URL('./', location.href);

const feed = new Feed(at('feed'), () => showFeed());
const rate = new Rate(at('rate'), at('rate-now'));

let socket;
/** Who this client is, as far as the server said. */
let me = {};
/** The rooms that were joined: name -> {members: clientId -> {name, user}, typing: clientId -> name, offset, epoch, source}. */
const rooms = new Map();
let current;
/** What was heard of users: userId -> status. */
const presence = new Map();

// Names

/** A random UUID; randomUUID itself is there on https and localhost only. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** A name for this tab that a reload keeps and a second tab does not share. */
function nameOfTab() {
  const names = ['Ada', 'Alan', 'Barbara', 'Claude', 'Edsger', 'Frances', 'Grace', 'Hedy', 'Katherine', 'Radia'];
  const name = names[Math.floor(Math.random() * names.length)];
  try {
    return sessionStorage.roomcastName ?? name;
  } catch {
    return name; // A browser may forbid storage; the page does without.
  }
}

function keepName(name) {
  try {
    sessionStorage.roomcastName = name;
  } catch {
    // As above.
  }
}

/** The claims of a token, unchecked: only to show whose it is. */
function claims(token) {
  try {
    const text = atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/'));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
  } catch {
    return {};
  }
}

/** The room that an object names. */
function roomOf(object) {
  const name = object?.roomName ?? object?.roomId ?? object?.room;
  if (name != null) return String(name);
  return object?.resourceId == null ? undefined : `resource:${object.resourceId}`;
}

// Connecting

function status(state, text) {
  at('status').dataset.state = state;
  at('status').textContent = text;
  for (const button of document.querySelectorAll('button.live')) {
    button.disabled = state !== 'on';
    button.title = state === 'on' ? '' : 'Connect first';
  }
}

/** Says what went wrong and what to do; what stands between backquotes is to be typed. */
function trouble(what, advice = '') {
  at('trouble').hidden = !what;
  at('trouble-what').textContent = what;
  const parts = advice.split('`').map((part, index) => (index % 2 ? make('code', {}, part) : part));
  at('trouble-advice').replaceChildren(...parts);
}

function connect() {
  trouble('');
  const namespace = `/${value('namespace').replace(/^\/+/, '')}`;
  const [name, token] = [value('client-name'), value('token')];
  keepName(name);
  me = { name: claims(token).name ?? (name || 'anonymous'), namespace, user: undefined };
  const owner = claims(token).sub ?? claims(token).id;
  const claimed = token ? undefined : value('user');
  const path = document.documentElement.dataset.socketPath.slice(1);
  const url = new URL(`${path}/?EIO=4&transport=websocket`, server);
  url.protocol = url.protocol.replace('http', 'ws');
  status('waiting', 'Connecting…');
  let connectedBefore = false;
  // The token goes into a packet, never into an address, which logs would keep.
  socket = new RoomSocket(url, namespace, { clientName: name, ...(token && { token }) }, {
    connect() {
      connectedBefore = true;
      trouble('');
      if (owner != null) me.user = String(owner);
      status('on', 'Connected');
      showSession();
      if (claimed) send('authenticate', { userId: claimed });
      for (const [room, { offset, epoch }] of rooms) join(room, offset === undefined ? {} : { offset, epoch });
    },
    event: hear,
    refused({ message = 'the server did not say why' }) {
      feed.add('note', 'connect_error', { message }, true);
      end('refused', 'Refused');
      trouble(`Connection refused: ${message}`, advice(message));
    },
    lost(reason, wait) {
      feed.add('note', 'connection lost', { reason }, true);
      status('waiting', `Retrying in ${Math.max(1, Math.round(wait / 1000))} s`);
      diagnose(reason, connectedBefore);
    },
    closed(reason) {
      feed.add('note', 'disconnected', { reason });
      end('off', 'Not connected');
      const isUnexplained = reason.includes('server') && at('trouble').hidden;
      if (isUnexplained) trouble('The server ended the connection.', 'The server’s log may say why.');
    },
  });
  showSession();
}

function end(state, text) {
  socket = undefined;
  rooms.clear();
  presence.clear();
  current = undefined;
  status(state, text);
  showSession();
  showRooms();
}

/** What to do about a refusal. */
function advice(message) {
  const known = [
    [/authentication required/, 'This server requires a token: enter one above. `roomcast token --sub alice` makes one with the server’s key.'],
    [/expired|not valid yet/, 'Get a new token, and check the clocks of the server and of the issuer.'],
    [/signature|algorithm|\(kid\)/, 'The token must be signed with the key in JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS_URL. To check a token: `roomcast token --check TOKEN`'],
    [/token/, 'To check a token: `roomcast token --check TOKEN`'],
    [/namespace/i, 'WEBSOCKET_NAMESPACE lists the namespaces of the server. The default is / and /chat.'],
    [/too many|limit|full/, 'The server has reached a limit. Try again later.'],
  ];
  return known.find(([pattern]) => pattern.test(message))?.[1] ?? 'The server’s log may say more.';
}

/** Finds out why there is no connection: browsers do not tell pages. */
async function diagnose(reason, connectedBefore) {
  const attempt = socket;
  const answers = await fetch(new URL('health/live', server), { cache: 'no-store' }).then(({ ok }) => ok, () => false);
  if (socket !== attempt || attempt?.connected) return;
  if (!answers) {
    trouble('The server does not answer.', `Check that it runs, and that ${server.host} is its address. This page retries by itself.`);
  } else if (connectedBefore) {
    trouble('The connection was lost.', `${reason}. This page retries by itself.`);
  } else {
    trouble(
      'The server answers, but refuses the websocket of this page.',
      'WEBSOCKET_TRANSPORTS must name websocket. A proxy must forward the Upgrade and the Host header. If it changes ' +
        `the Host header, add ${location.origin} to CORS_ORIGIN.`,
    );
  }
}

/** Sends an event, and shows its ack. */
async function send(name, payload) {
  feed.add('out', name, payload);
  const begun = performance.now();
  try {
    const ack = await socket.emit(name, payload);
    const failed = ack?.success === false;
    feed.add('ack', name, ack, failed);
    at('ack').hidden = false;
    at('ack-time').textContent = `${name}, after ${Math.max(1, Math.round(performance.now() - begun))} ms`;
    at('ack-body').replaceChildren(coloured(ack));
    return ack;
  } catch (error) {
    feed.add('note', `no ack of ${name}`, { reason: error.message }, true);
    return { success: false };
  }
}

// Hearing

function hear(name, payload) {
  rate.count();
  feed.add('in', name, payload, name === 'error' || name === 'exception' || name === 'token-expired');
  const room = rooms.get(roomOf(payload));
  if (room && payload.offset > (room.offset ?? 0)) room.offset = payload.offset;
  switch (name) {
    case 'connected':
      me.id = payload.clientId;
      break;
    case 'authenticated':
      me.user = payload.userId;
      break;
    case 'user-joined':
    case 'userJoinedRoom':
      room?.members.set(payload.socketId, { name: payload.clientName, user: payload.userId });
      break;
    case 'user-left':
    case 'userLeftRoom':
      room?.members.delete(payload.socketId);
      room?.typing.delete(payload.socketId);
      break;
    case 'userTyping':
      // Somebody who types is a member, even if it came before this client did.
      room?.members.set(payload.clientId, { name: payload.clientName, user: payload.userId });
      if (payload.isTyping) room?.typing.set(payload.clientId, payload.clientName);
      else room?.typing.delete(payload.clientId);
      break;
    case 'user-online':
      presence.set(payload.userId, 'online');
      break;
    case 'user-offline':
      presence.set(payload.userId, 'offline');
      break;
    case 'presenceUpdate':
      presence.set(payload.userId, payload.status);
      break;
    case 'room-left':
    case 'leftRoom':
      forget(roomOf(payload));
      break;
    case 'token-expired':
      trouble(payload.message ?? 'The token has expired.', 'Connect with a fresh token.');
      break;
    default:
      return;
  }
  showSession();
  showRooms();
}

// Rooms

async function join(name, recovery = {}) {
  const ack = await send('join-room', { roomName: name, ...recovery });
  if (!ack?.success) {
    forget(name);
    return;
  }
  const room = rooms.get(name) ?? { members: new Map(), typing: new Map() };
  room.members.set(socket?.id, { name: ack.clientName, user: me.user });
  Object.assign(room, { offset: ack.offset, epoch: ack.epoch });
  rooms.set(name, room);
  select(name);
  askMembers(name);
}

function forget(name) {
  rooms.delete(name);
  if (current === name) current = [...rooms.keys()].at(-1);
  showRooms();
}

function select(name) {
  const target = at('to-room');
  // What was entered by hand stays.
  if (target.value === target.defaultValue || !target.value || rooms.has(target.value)) target.value = name;
  current = name;
  showRooms();
  showPreview();
}

/** Asks the management route who is in the room; where it is closed, what was heard is all there is. */
async function askMembers(name) {
  const key = value('api-key');
  const url = new URL(`rooms/${encodeURIComponent(name)}`, server);
  url.searchParams.set('namespace', me.namespace);
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const answer = await fetch(url, { headers, cache: 'no-store' }).catch(() => undefined);
  const room = rooms.get(name);
  if (!room) return;
  if (answer?.ok) {
    const { members } = await answer.json();
    room.members = new Map(members.map(({ clientId, clientName, userId }) => [clientId, { name: clientName, user: userId }]));
    room.source = 'All members.';
  } else if (answer?.status === 401) {
    room.source = key
      ? 'Clients seen so far: the API key is not valid.'
      : 'Clients seen so far. For a complete list, enter an API key.';
  } else if (answer?.status === 403) {
    room.source = 'Clients seen so far. For a complete list, set API_KEYS or NODE_ENV=development on the server.';
  } else {
    room.source = 'Clients seen so far.';
  }
  showRooms();
}

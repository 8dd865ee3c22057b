'use strict';

// "From a backend": the request that does what the form does, by the route for that kind of event.

/** The id of the message in the request; a new one each time it is copied. */
let curlId = uuid();

/** A text as one word of a shell. */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The command that posts a body. The key itself stays off the screen and the clipboard. */
function curl(path, body) {
  const lines = [`curl -sS ${quoted(new URL(path, server).href)}`, `-H 'Content-Type: application/json'`];
  if (value('api-key')) lines.push('-H "Authorization: Bearer $ROOMCAST_API_KEY"');
  lines.push(`-d ${quoted(JSON.stringify(body, null, 2).replaceAll('\n', '\n  '))}`);
  return lines.join(' \\\n  ');
}

/** The body of `POST /events` for these addressees. */
const eventOf = (event, data, to) => ({ event, data, ...to, ...(inNamespace() && { namespace: me.namespace }) });
const inNamespace = () => me.namespace && me.namespace !== '/';

/** What each kind of event is over HTTP: the path, the body, and who gets it. */
const routes = {
  message(room, text, timestamp) {
    if (!room) return ['events', eventOf('message', { text }), 'everyone in the namespace'];
    const body = { id: curlId, clientId: 'curl', clientName: 'curl', roomName: room, messageType: 'text', message: text, timestamp };
    return [`messages/broadcast${inNamespace() ? `?namespace=${encodeURIComponent(me.namespace)}` : ''}`, body, `the room ${room}`];
  },
  sendMessage(room, content, timestamp) {
    const data = { id: curlId, roomId: room, sender: null, clientId: 'curl', content, timestamp };
    return ['events', eventOf('newMessage', data, { rooms: [room] }), `the room ${room}`];
  },
  'private-message'(_, content, timestamp) {
    const user = value('to-user') || 'alice';
    const data = { id: curlId, from: null, clientId: 'curl', message: { content, type: 'text', timestamp }, timestamp };
    return ['events', eventOf('private-message', data, { users: [user] }), `the user ${user}`];
  },
  'custom-event'(room) {
    let data = null;
    try {
      data = JSON.parse(at('data').value || 'null');
    } catch {
      // The form says that this is not JSON.
    }
    const event = eventOf(value('event-name') || 'cursor-moved', data, room && { rooms: [room] });
    return ['events', { ...event, volatile: true }, room ? `the room ${room}` : 'everyone in the namespace'];
  },
};

/** The command that does from a backend what the form of this event does, and what to know about it. */
function fromBackend(event) {
  const route = routes[event];
  if (!route) return { command: '', about: 'No route does this: only clients tell whether they are typing.' };
  const room = value('to-room') || (event === 'sendMessage' ? 'lobby' : '');
  const [path, body, recipients] = route(room, at('text').value || 'Hello from curl', new Date().toISOString());
  const key = path === 'events' ? ' The route needs an API key, or NODE_ENV=development on the server.' : '';
  return { command: curl(path, body), about: `The same over HTTP, to ${recipients}. Run it in a terminal.${key}` };
}

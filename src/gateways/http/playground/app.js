'use strict';

// The page: what it shows of the session, and what its fields and buttons do.

// Showing

function showSession() {
  at('connect').hidden = Boolean(socket);
  at('session').hidden = !socket;
  if (!socket) return;
  at('session-name').textContent = me.name;
  at('session-user').textContent = me.user ?? 'none';
  at('session-namespace').textContent = me.namespace;
  at('session-id').textContent = socket.id ?? '…';
  at('presence-field').hidden = me.user === undefined;
  at('disconnect').textContent = socket.connected ? 'Disconnect' : 'Stop trying';
}

function showRooms() {
  at('no-rooms').hidden = rooms.size > 0;
  at('room-list').replaceChildren(
    ...[...rooms.keys()].map((name) => {
      const button = make('button', { type: 'button', 'aria-pressed': String(name === current) }, name);
      button.addEventListener('click', () => select(name));
      return make('li', {}, button);
    }),
  );
  at('known-rooms').replaceChildren(...[...rooms.keys()].map((name) => make('option', { value: name })));
  const room = rooms.get(current);
  at('room-panel').hidden = !room;
  if (!room) return;
  at('member-count').textContent = room.members.size;
  at('members').replaceChildren(...[...room.members].map(([id, member]) => memberRow(id, member)));
  const typing = [...room.typing.values()];
  at('typing').textContent = typing.length ? `${typing.join(', ')} ${typing.length > 1 ? 'are' : 'is'} typing…` : '';
  at('member-source').textContent = room.source ?? '';
}

function memberRow(id, { name, user: told }) {
  const user = id === socket?.id ? me.user : told;
  // Members of a room are connected: their users are online unless they said otherwise.
  const state = user == null ? undefined : (presence.get(user) ?? 'online');
  const who = make('span', { class: 'who', title: `client ${id}` }, name, id === socket?.id ? ' (you)' : '');
  const about = user == null ? 'no user' : `${user}, ${state}`;
  return make('li', state ? { 'data-presence': state } : {}, who, make('span', { class: 'about' }, about));
}

function showFeed() {
  const { entries, fresh, shown, dropped, paused } = feed;
  at('empty').hidden = entries.length > 0;
  const parts = [];
  if (entries.length) parts.push(shown < entries.length ? `${shown} of ${entries.length} events` : `${entries.length} ${entries.length === 1 ? 'event' : 'events'}`);
  if (dropped) parts.push(`${dropped} older ones dropped`);
  if (paused) parts.push(`paused, ${fresh.length} waiting`);
  at('feed-count').textContent = parts.join(' · ');
}

// Sending

const kind = () => document.querySelector('input[name=kind]:checked').value;

/** The event and the payload that the fields make; throws where the data is no JSON. */
function composed() {
  const [room, text] = [value('to-room'), at('text').value];
  const event = kind();
  const payloads = {
    message: () =>
      room ? { roomName: room, message: text, ...(at('copy-to-me').checked && { replyToSender: true }) } : { text },
    sendMessage: () => ({ roomId: room, content: text }),
    'private-message': () => ({ targetUserId: value('to-user'), message: text }),
    typingIndicator: () => ({ roomId: room, isTyping: at('is-typing').checked }),
    'custom-event': () => ({ event: value('event-name'), data: JSON.parse(at('data').value || 'null'), ...(room && { room }) }),
  };
  return [event, payloads[event]()];
}

function showPreview() {
  let valid = '';
  try {
    const [event, payload] = composed();
    at('preview').replaceChildren('socket.emit(', make('span', { class: 'string' }, JSON.stringify(event)), ', ', coloured(payload), ')');
  } catch (error) {
    valid = `This is not JSON: ${error.message}`;
    at('preview').textContent = valid;
  }
  at('data').setCustomValidity(valid);
  showCurl();
}

/** Shows the fields that the chosen event has. Hidden ones are disabled, so that none of them is asked for. */
function showFields() {
  const event = kind();
  for (const element of at('send').querySelectorAll('[data-for]')) {
    element.hidden = !element.dataset.for.split(' ').includes(event);
    for (const field of element.querySelectorAll('input, textarea')) field.disabled = element.hidden;
  }
  at('to-room').required = event === 'sendMessage' || event === 'typingIndicator';
  showPreview();
}

function showCurl() {
  const { command, about } = fromBackend(kind());
  at('curl').textContent = command;
  at('curl').hidden = at('copy').hidden = !command;
  at('curl-about').textContent = about;
}

/** Copies a text; a page that is not on https or localhost has no clipboard, but may copy what is selected. */
async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand('copy');
  }
}

// What the fields and buttons do

const on = (id, event, act) => at(id).addEventListener(event, act);
const onSubmit = (id, act) =>
  on(id, 'submit', (event) => {
    event.preventDefault();
    act();
  });

onSubmit('connect', connect);
on('disconnect', 'click', () => socket?.close());
on('presence', 'change', () => send('presenceUpdate', { status: at('presence').value }));

onSubmit('join', async () => {
  const name = value('room');
  if (!name || !socket?.connected) return;
  at('room').value = '';
  await join(name);
});
on('leave', 'click', async () => {
  const name = current;
  if ((await send('leave-room', { roomName: name }))?.success) forget(name);
});
on('replay', 'click', () => send('syncMessages', { roomId: current, limit: 50 }));

on('send', 'input', showFields);
onSubmit('send', async () => {
  if (!socket?.connected) return;
  const [event, payload] = composed();
  const text = at('text').value;
  const ack = await send(event, payload);
  // A refused text may be corrected; a text written meanwhile must stay.
  if (ack?.success && at('text').value === text) at('text').value = '';
  showPreview();
});
on('text', 'keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at('send').requestSubmit();
  }
});

on('filter', 'input', () => feed.show({ text: value('filter') }));
on('direction', 'change', () => feed.show({ direction: at('direction').value }));
on('pause', 'click', () => {
  feed.pause(!feed.paused);
  at('pause').setAttribute('aria-pressed', String(feed.paused));
});
on('clear', 'click', () => feed.clear());

on('api-key', 'input', showCurl);
on('copy', 'click', async () => {
  at('copy').textContent = (await copy(at('curl'))) ? 'Copied' : 'Select it and copy';
  curlId = uuid();
  setTimeout(() => {
    at('copy').textContent = 'Copy';
    showCurl();
  }, 1500);
});

at('client-name').value = nameOfTab();
status('off', 'Not connected');
showFields();

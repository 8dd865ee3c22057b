'use strict';

// A client of the Socket.IO protocol 5 over Engine.IO 4 by websocket: as much of it as this page needs, so that
// the page works without the official bundle.

/** The first characters of Engine.IO's packets. */
const ENGINE = { open: '0', close: '1', ping: '2', pong: '3', message: '4' };

/** The types of Socket.IO's packets. */
const PACKET = { connect: 0, disconnect: 1, event: 2, ack: 3, connectError: 4, binaryEvent: 5, binaryAck: 6 };

/** How long a connection may take to come about, in milliseconds. */
const CONNECT_TIMEOUT = 10_000;

/** The shortest and the longest wait before the next try, in milliseconds. */
const RETRY = { least: 500, most: 8_000 };

/**
 * One connection to one namespace, that comes back by itself when it is lost.
 *
 * `handlers` are told what happens: `connect()`, `event(name, payload)`, `refused(error)` (a connect_error: there
 * is no next try), `lost(reason, milliseconds)` (the next try comes after so long), `closed(reason)` (there is none).
 */
class RoomSocket {
  constructor(url, namespace, auth, handlers) {
    Object.assign(this, { url, namespace, auth, handlers });
    this.id = undefined;
    this.tries = 0;
    this.open();
  }

  get connected() {
    return this.id !== undefined;
  }

  /** Sends an event; resolves with the ack, or rejects when there will be none. */
  emit(name, payload) {
    if (!this.connected) return Promise.reject(new Error('not connected'));
    const number = this.nextAck++;
    const answered = new Promise((resolve, reject) => this.acks.set(number, { resolve, reject }));
    this.packet(PACKET.event, JSON.stringify([name, payload]), number);
    return answered;
  }

  /** Ends the connection for good. */
  close() {
    if (this.connected) this.packet(PACKET.disconnect, '');
    this.end();
    this.handlers.closed('closed by this page');
  }

  open() {
    this.acks = new Map();
    this.nextAck = 0;
    this.binary = undefined;
    const socket = new WebSocket(this.url);
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => this.read(data);
    socket.onclose = () => this.lose('the connection was closed');
    this.socket = socket;
    this.watch(CONNECT_TIMEOUT, 'the server did not answer in time');
  }

  /** Forgets the connection that there is; none of its events is heard any more. */
  end() {
    clearTimeout(this.deadline);
    clearTimeout(this.retry);
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.id = undefined;
    for (const { reject } of this.acks.values()) reject(new Error('the connection was lost before the ack came'));
    this.acks.clear();
  }

  lose(reason) {
    this.end();
    const wait = Math.min(RETRY.most, RETRY.least * 2 ** this.tries++) * (0.75 + Math.random() / 2);
    this.retry = setTimeout(() => this.open(), wait);
    this.handlers.lost(reason, wait);
  }

  /** Counts the connection as lost unless something comes within so many milliseconds. */
  watch(milliseconds, reason) {
    clearTimeout(this.deadline);
    this.deadline = setTimeout(() => this.lose(reason), milliseconds);
  }

  packet(type, data, number = '') {
    const namespace = this.namespace === '/' ? '' : `${this.namespace},`;
    this.socket.send(`${ENGINE.message}${type}${namespace}${number}${data}`);
  }

  read(data) {
    if (this.patience) this.watch(this.patience, 'the server went silent');
    if (typeof data !== 'string') return this.attach(data);
    const rest = data.slice(1);
    switch (data[0]) {
      case ENGINE.open: {
        const { pingInterval, pingTimeout } = JSON.parse(rest);
        this.patience = pingInterval + pingTimeout;
        this.packet(PACKET.connect, JSON.stringify(this.auth));
        break;
      }
      case ENGINE.ping:
        this.socket.send(ENGINE.pong);
        break;
      case ENGINE.close:
        this.lose('the server closed the connection');
        break;
      case ENGINE.message:
        this.receive(rest);
    }
  }

  receive(text) {
    // type [attachments-] [/namespace,] [ack number] [JSON]
    const [head, type, attachments, , number] = /^(\d)(?:(\d+)-)?(\/[^,]*,)?(\d+)?/.exec(text);
    const data = text.length > head.length ? JSON.parse(text.slice(head.length)) : undefined;
    const packet = { type: Number(type), number: Number(number), data };
    if (Number(attachments) > 0) {
      this.binary = { packet, awaited: Number(attachments), parts: [] };
    } else {
      this.handle(packet);
    }
  }

  /** Takes one binary attachment; the packet is whole with the last of them. */
  attach(part) {
    const { binary } = this;
    if (!binary) return;
    binary.parts.push(part);
    if (binary.parts.length < binary.awaited) return;
    this.binary = undefined;
    const shown = (key, value) => {
      const bytes = value?._placeholder === true && binary.parts[value.num];
      return bytes ? `<binary, ${bytes.byteLength} bytes>` : value;
    };
    binary.packet.data = JSON.parse(JSON.stringify(binary.packet.data), shown);
    this.handle(binary.packet);
  }

  handle({ type, number, data }) {
    switch (type) {
      case PACKET.connect:
        this.id = data.sid;
        this.tries = 0;
        this.handlers.connect();
        break;
      case PACKET.event:
      case PACKET.binaryEvent:
        this.handlers.event(data[0], data[1]);
        break;
      case PACKET.ack:
      case PACKET.binaryAck:
        this.acks.get(number)?.resolve(data[0]);
        this.acks.delete(number);
        break;
      case PACKET.connectError:
        this.end();
        this.handlers.refused(data ?? {});
        break;
      case PACKET.disconnect:
        this.end();
        this.handlers.closed('the server ended it');
    }
  }
}

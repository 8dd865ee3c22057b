// A TCP proxy that spoils websockets: what it does to one is decided when its request comes. Everything else passes.
import net from 'node:net';
import { once } from 'node:events';

/**
 * Starts a proxy in front of the server. `spoil` is one of
 * - `nothing`: websockets pass, too;
 * - `swallow`: the 101 passes, and no frame in either direction;
 * - `swallow answers`: the client's frames pass, the server's do not;
 * - `cut`: the 101 passes, then the connection is cut;
 * - `cut the probe`: it is cut when the client's first frame has passed;
 * - `strip the header`: its request passes as one of plain HTTP, and so does the answer.
 * With `delay`, everything takes so many milliseconds each way.
 */
export async function startProxy(server, spoil, { delay = 0 } = {}) {
  const proxy = {
    /** How many polls, posts and websockets were asked for. */
    polls: 0,
    posts: 0,
    websockets: 0,
  };
  const sockets = new Set();
  const later = (work) => (delay ? setTimeout(work, delay) : work());
  const listener = net.createServer((client) => {
    const upstream = net.connect(server.port, '127.0.0.1');
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        later(() => {
          client.end();
          upstream.end();
        });
      });
    }
    let isWebsocket = false;
    let answered = false;
    const pass = (to, chunk) => later(() => to.writable && to.write(chunk));
    client.on('data', (chunk) => {
      const head = chunk.toString('latin1');
      if (!isWebsocket) {
        isWebsocket = /^GET [^ ]*transport=websocket/.test(head);
        if (isWebsocket) proxy.websockets += 1;
        else if (/^GET [^ ]*transport=polling[^ ]*sid=/.test(head)) proxy.polls += 1;
        else if (/^POST /.test(head)) proxy.posts += 1;
        const isStripped = isWebsocket && spoil === 'strip the header';
        pass(upstream, isStripped ? head.replace(/^(upgrade|connection): .*\r\n/gim, '') : chunk);
      } else if (spoil !== 'swallow' || !answered) {
        pass(upstream, chunk);
        if (spoil === 'cut the probe') upstream.end();
      }
    });
    upstream.on('data', (chunk) => {
      if (!isWebsocket || spoil === 'nothing' || spoil === 'strip the header') return pass(client, chunk);
      if (answered) return;
      answered = true;
      // The head of the 101 alone.
      const end = chunk.indexOf('\r\n\r\n') + 4;
      pass(client, chunk.subarray(0, end));
      if (spoil === 'cut') client.end();
    });
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  proxy.url = `http://127.0.0.1:${listener.address().port}`;
  proxy.stop = () => {
    listener.close();
    sockets.forEach((socket) => socket.destroy());
  };
  return proxy;
}

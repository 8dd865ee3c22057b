// A backend that answers the events of its own clients. Express, or Fastify: `node server.mjs fastify`.
//
//   npm install express standardwebhooks      # or fastify in the place of express
//   HANDLER_SECRET=whsec_… PORT=4000 node server.mjs
//   HANDLER_SECRET=whsec_… HANDLER_URL=http://localhost:4000/roomcast HANDLER_CONNECT=true roomcast
import { Webhook } from 'standardwebhooks';

const secret = process.env.HANDLER_SECRET;
const orders = new Map();

/** What an event does: its answer is what roomcast carries out. */
const events = {
  'order:create'({ client, args: [order] }) {
    if (typeof order?.sku !== 'string') return { error: { message: 'sku must be a string', code: 'invalid_order' } };
    const id = orders.size + 1;
    orders.set(id, { id, sku: order.sku, by: client.userId });
    return {
      join: [`order-${id}`],
      emit: [{ event: 'order:created', data: orders.get(id), rooms: ['staff'], volatile: true }],
      ack: [null, orders.get(id)],
    };
  },
  'visits:count'({ client }) {
    const visits = (client.data.visits ?? 0) + 1;
    return { data: { visits }, ack: [visits] };
  },
};

/** Who a new client is. */
function connect({ handshake }) {
  const { name } = handshake.auth;
  if (typeof name !== 'string') return { error: { message: 'who are you?', code: 'no_name' } };
  return { client: { userId: name, clientName: name, join: name === 'boss' ? ['staff'] : [] } };
}

/** The answer to a request, from its body and headers. Throws where it is not roomcast's. */
export function answer(body, headers) {
  new Webhook(secret).verify(body, headers);
  const request = JSON.parse(body);
  if (request.type === 'connect') return connect(request);
  if (!Object.hasOwn(events, request.event)) return { error: { message: `no event "${request.event}"`, code: 'unknown_event' } };
  return events[request.event](request);
}

/** The text of the body is what is signed: it must not be parsed before. */
async function express(port) {
  const { default: express } = await import('express');
  const app = express();
  app.post('/roomcast', express.text({ type: 'application/json', limit: '2mb' }), (request, response) => {
    try {
      response.json(answer(request.body, request.headers));
    } catch (error) {
      response.status(401).json({ message: String(error.message) });
    }
  });
  return app.listen(port, '127.0.0.1', () => console.log('listening'));
}

async function fastify(port) {
  const { default: fastify } = await import('fastify');
  const app = fastify({ bodyLimit: 2_000_000 });
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => done(null, body));
  app.post('/roomcast', async (request, reply) => {
    try {
      return answer(request.body, request.headers);
    } catch (error) {
      return reply.code(401).send({ message: String(error.message) });
    }
  });
  await app.listen({ port, host: '127.0.0.1' });
  console.log('listening');
}

await (process.argv[2] === 'fastify' ? fastify : express)(Number(process.env.PORT ?? 4000));

import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { Logger } from '@nestjs/common';
import type { Reply } from './answering';
import type { Settings } from './options';
import { isRequest, type RoomcastRequest } from './requests';

/** The greatest request: base64 and what stands around it make more of a message. */
const FACTOR = 4;

/** Takes roomcast's requests on the application's HTTP server, before the application does: the body has to be read as it was signed. */
export class Endpoint {
  private warnedAt = 0;

  constructor(
    private readonly settings: Settings,
    private readonly logger: Logger,
    private readonly answer: (request: RoomcastRequest, gone: AbortSignal) => Promise<Reply>,
  ) {}

  /** Takes the route from the server's other listeners, as Socket.IO's server does with its own. */
  attach(server: Server): void {
    const others = server.listeners('request') as RequestListener[];
    server.removeAllListeners('request');
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      if (request.url?.split('?', 1)[0] === this.settings.path) void this.take(request, response);
      else for (const other of others) other.call(server, request, response);
    });
  }

  private async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const send = (status: number, body?: string) => {
      response.writeHead(status, body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
      response.end(body);
    };
    const refuse = (status: number, message: string) => send(status, JSON.stringify({ statusCode: status, message }));
    try {
      if (request.method !== 'POST') return refuse(405, 'only POST');
      // Nobody else's bytes are kept.
      if (request.headers['webhook-signature'] === undefined) return this.refuseStranger(refuse, 'the request is not signed: set HANDLER_SECRET on roomcast');
      const body = await this.read(request);
      if (!body) return refuse(413, 'the request is too large');
      const fault = this.settings.verifier.fault(request.headers, body);
      if (fault) return this.refuseStranger(refuse, fault);
      const parsed: unknown = JSON.parse(body.toString('utf8'));
      if (!isRequest(parsed)) return refuse(400, 'this is no request of roomcast\'s');
      const { status, body: text } = await this.answer(parsed, gone.signal);
      if (!response.destroyed) send(status, text);
    } catch (error) {
      this.logger.error(error);
      if (!response.headersSent && !response.destroyed) refuse(500, 'Internal server error');
    }
  }

  private refuseStranger(refuse: (status: number, message: string) => void, fault: string): void {
    // Strangers do not fill the log.
    if (Date.now() - this.warnedAt > 10_000) {
      this.warnedAt = Date.now();
      this.logger.warn(`a request to ${this.settings.path} was refused: ${fault}`);
    }
    refuse(401, 'the signature is missing or wrong');
  }

  private async read(request: IncomingMessage): Promise<Buffer | undefined> {
    const parts: Buffer[] = [];
    let length = 0;
    for await (const part of request as AsyncIterable<Buffer>) {
      length += part.length;
      // Read to the end, so that the answer arrives; kept no more.
      if (length <= FACTOR * this.settings.maxPayload + 1_000_000) parts.push(part);
      else parts.length = 0;
      if (length > 100_000_000) return undefined;
    }
    return parts.length || length === 0 ? Buffer.concat(parts) : undefined;
  }
}

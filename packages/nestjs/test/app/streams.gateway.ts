import { setTimeout as pause } from 'node:timers/promises';
import { Ack, MessageBody, SubscribeMessage, WebSocketGateway, type WsResponse } from '@nestjs/websockets';
import { concat, delay, from, interval, map, NEVER, type Observable, of, take } from 'rxjs';
import { Logger } from '@nestjs/common';
import { finalize } from 'rxjs/operators';
import { ConnectedSocket } from '@nestjs/websockets';
import type { Socket } from 'socket.io';

/** Handlers that return Observables and Promises, at once and later. */
@WebSocketGateway({ namespace: 'streams' })
export class StreamsGateway {
  private readonly logger = new Logger(StreamsGateway.name);

  @SubscribeMessage('three')
  three(): Observable<WsResponse<number>> {
    return from([1, 2, 3]).pipe(map((data) => ({ event: 'three', data })));
  }

  @SubscribeMessage('ticks')
  ticks(@MessageBody() count: number): Observable<WsResponse<number>> {
    return interval(15).pipe(take(count), map((data) => ({ event: 'tick', data })));
  }

  @SubscribeMessage('endless')
  endless(): Observable<WsResponse<string>> {
    const first = of({ event: 'begun', data: 'x' });
    return concat(first, NEVER).pipe(finalize(() => this.logger.log('the endless stream has ended')));
  }

  @SubscribeMessage('answer-late')
  answerLate(): Observable<{ late: boolean }> {
    return of({ late: true }).pipe(delay(150));
  }

  @SubscribeMessage('slow')
  async slow(@MessageBody() milliseconds: number, @ConnectedSocket() client: Socket): Promise<string> {
    client.emit('slow-begun', milliseconds);
    await pause(milliseconds);
    client.emit('slow-done', milliseconds);
    return `after ${milliseconds}`;
  }

  @SubscribeMessage('ack-later')
  ackLater(@Ack() ack: (answer: string) => void): void {
    setTimeout(() => ack('later'), 50);
  }

  @SubscribeMessage('remind')
  remind(@MessageBody() text: string, @ConnectedSocket() client: Socket): string {
    setTimeout(() => {
      for (let n = 1; n <= 5; n++) client.emit('reminded', text, n);
    }, 30);
    return 'I will';
  }

  @SubscribeMessage('nothing')
  nothing(): void {}
}

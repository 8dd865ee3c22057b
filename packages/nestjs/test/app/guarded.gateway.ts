import { type ArgumentsHost, type CallHandler, Catch, type ExecutionContext, Injectable, type NestInterceptor, SetMetadata, UseFilters, UseGuards, UseInterceptors, type CanActivate } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { JwtService } from '@nestjs/jwt';
import { BaseWsExceptionFilter, ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway, WsException } from '@nestjs/websockets';
import { map, type Observable } from 'rxjs';
import type { Socket } from 'socket.io';

const Roles = (...roles: string[]) => SetMetadata('roles', roles);

/** Verifies the token of the handshake for each event. */
@Injectable()
export class JwtGuard implements CanActivate {
  constructor(
    private readonly jwt: JwtService,
    private readonly reflector: Reflector,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const client = context.switchToWs().getClient<Socket & { user?: { sub: string; roles: string[] } }>();
    const token = client.handshake.auth.token ?? client.handshake.headers.authorization?.replace('Bearer ', '');
    try {
      client.user = await this.jwt.verifyAsync<{ sub: string; roles: string[] }>(token);
    } catch {
      throw new WsException('the token is missing or not valid');
    }
    const roles = this.reflector.get<string[]>('roles', context.getHandler()) ?? [];
    return roles.every((role) => client.user?.roles.includes(role));
  }
}

/** Wraps what handlers return. */
@Injectable()
export class EnvelopeInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((result) => ({ ok: true, result })));
  }
}

export class OutOfStock extends Error {}

@Catch(OutOfStock)
export class OutOfStockFilter extends BaseWsExceptionFilter {
  override catch(error: OutOfStock, host: ArgumentsHost): void {
    host.switchToWs().getClient<Socket>().emit('out-of-stock', { message: error.message });
  }
}

/** What only those may do who have a token. */
@WebSocketGateway({ namespace: 'guarded' })
@UseGuards(JwtGuard)
export class GuardedGateway {
  @SubscribeMessage('whoami')
  @UseInterceptors(EnvelopeInterceptor)
  whoami(@ConnectedSocket() client: Socket & { user: { sub: string } }): string {
    return client.user.sub;
  }

  @SubscribeMessage('delete')
  @Roles('admin')
  delete(@MessageBody('id') id: number): { deleted: number } {
    return { deleted: id };
  }

  @SubscribeMessage('buy')
  @UseFilters(OutOfStockFilter)
  buy(@MessageBody() what: string): string {
    if (what === 'unicorn') throw new OutOfStock('no unicorns left');
    if (what === 'crash') throw new Error('a fault of the program');
    return `bought ${what}`;
  }
}

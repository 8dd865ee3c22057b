import 'reflect-metadata';
import { Logger } from '@nestjs/common';
import { underWay } from './answering';
import { RoomcastSocket } from './socket';

const WRAPPED = Symbol('roomcast');

/**
 * Lets the adapter see what becomes of handleConnection(). NestJS calls it and forgets what it returns, but the answer to roomcast
 * has to wait for it. And a process that learns of a client by one of its events must not call it: another process has.
 */
export function wrapConnectionHook(target: object): void {
  const original = (target as Record<string, unknown>).handleConnection;
  if (typeof original !== 'function' || WRAPPED in original) return;
  function handleConnection(this: unknown, ...args: unknown[]): unknown {
    const answering = underWay();
    if (answering?.isMuted) return undefined;
    const call = () => Reflect.apply(original as () => unknown, this, args);
    if (answering?.request.type !== 'connect') return call();
    // If this fails, the answer refuses the client.
    const ended = (async () => void (await call()))();
    answering.hooks.push(ended);
    return ended.catch(() => {});
  }
  replace(target, 'handleConnection', original, handleConnection);
}

/** Lets handleDisconnect() fail without ending the process: NestJS leaves its errors to nobody. */
export function wrapDisconnectHook(target: object): void {
  const original = (target as Record<string, unknown>).handleDisconnect;
  if (typeof original !== 'function' || WRAPPED in original) return;
  function handleDisconnect(this: unknown, ...args: unknown[]): unknown {
    const call = async () => void (await Reflect.apply(original as () => unknown, this, args));
    if (!(args[0] instanceof RoomcastSocket)) return Reflect.apply(original as () => unknown, this, args);
    return call().catch((error: unknown) => new Logger('RoomcastAdapter').error(error));
  }
  replace(target, 'handleDisconnect', original, handleDisconnect);
}

function replace(target: object, name: string, original: object, wrapped: object): void {
  // What decorators have said of it.
  for (const key of Reflect.getMetadataKeys(original)) Reflect.defineMetadata(key, Reflect.getMetadata(key, original), wrapped);
  Object.defineProperty(wrapped, WRAPPED, { value: true });
  Object.defineProperty(target, name, { value: wrapped, configurable: true, writable: true });
}

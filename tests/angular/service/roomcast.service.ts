import { DestroyRef, inject, Injectable, InjectionToken, signal, type Signal } from '@angular/core';
import { connect, type ClientOptions, type Position, type Room, type RoomKey } from '@roomcast/client';

/** The address of the server, and how to connect. */
export const ROOMCAST = new InjectionToken<{ url: string; options?: ClientOptions }>('roomcast');

/** The messages of your application. */
export interface Message {
  roomName: string;
  clientName: string;
  message: string;
  offset?: number;
}

interface Events {
  'message-reply': (message: Message) => void;
}

/** A room while a component lives: what was said in it, and whether something cannot be had any more. */
export interface LiveRoom {
  room: Room<Events>;
  messages: Signal<readonly Message[]>;
  isIncomplete: Signal<boolean>;
}

/** One connection for the application. Rooms recover by themselves. */
@Injectable({ providedIn: 'root' })
export class RoomcastService {
  private readonly server = inject(ROOMCAST);
  readonly client = connect<Events>(this.server.url, this.server.options);

  private readonly connection = signal('connecting');
  /** `connecting`, `connected`, `disconnected`, or why the server refuses. */
  readonly status = this.connection.asReadonly();

  constructor() {
    this.client.when('connected', () => this.connection.set('connected'));
    this.client.when('disconnected', () => this.connection.set('disconnected'));
    this.client.when('refused', ({ message }) => this.connection.set(message));
    inject(DestroyRef).onDestroy(() => this.client.close());
  }

  /** Joins a room for as long as the component that calls it lives. Call it where `inject` may be called. */
  join(key: RoomKey, from?: Position): LiveRoom {
    const room = this.client.join(key, from);
    const messages = signal<readonly Message[]>([]);
    const isIncomplete = signal(false);
    room.on('message-reply', (message) => messages.update((before) => [...before, message]));
    room.when('gap', () => isIncomplete.set(true));
    room.when('reset', () => {
      // What follows is all that there is.
      messages.set([]);
      isIncomplete.set(true);
    });
    inject(DestroyRef).onDestroy(() => room.leave());
    return { room, messages: messages.asReadonly(), isIncomplete: isIncomplete.asReadonly() };
  }
}

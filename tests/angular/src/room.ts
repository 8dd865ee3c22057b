import { Component, inject, signal } from '@angular/core';
import { takeUntilDestroyed } from '@angular/core/rxjs-interop';
import { FormsModule } from '@angular/forms';
import { Socket } from 'ngx-socket-io';

/** What the server sends as `connected`. */
interface Connected {
  clientId: string;
}

/** The acknowledgement of `join-room`. */
interface Acknowledge {
  success: boolean;
  roomName: string;
}

/** A message as this page and the backend send it. */
interface Message {
  roomName: string;
  clientName: string;
  message: string;
}

/** A page that joins one room, shows what is said there and says something itself. */
@Component({
  selector: 'app-room',
  imports: [FormsModule],
  template: `
    <p id="status">{{ status() }}</p>

    <form id="join" (ngSubmit)="join()">
      <label>Name <input name="clientName" [(ngModel)]="clientName" /></label>
      <label>Room <input name="roomName" [(ngModel)]="roomName" /></label>
      <button>Join</button>
    </form>

    <ul id="messages">
      @for (message of messages(); track $index) {
        <li>{{ message.clientName }}: {{ message.message }}</li>
      }
    </ul>

    @if (joined(); as room) {
      <form id="send" (ngSubmit)="send(room)">
        <label>Message to {{ room }} <input name="text" [(ngModel)]="text" /></label>
        <button>Send</button>
      </form>
    }
  `,
})
export class Room {
  private readonly socket = inject(Socket);

  protected clientName = 'anonymous';
  protected roomName = '';
  protected text = '';
  protected readonly status = signal('connecting');
  protected readonly joined = signal('');
  protected readonly messages = signal<Message[]>([]);

  constructor() {
    this.socket
      .fromEvent<Connected, 'connected'>('connected')
      .pipe(takeUntilDestroyed())
      .subscribe(({ clientId }) => this.status.set(`connected as ${clientId}`));
    this.socket
      .fromEvent<Error, 'connect_error'>('connect_error')
      .pipe(takeUntilDestroyed())
      .subscribe(({ message }) => this.status.set(`connect_error: ${message}`));
    this.socket
      .fromEvent<Message, 'message-reply'>('message-reply')
      .pipe(takeUntilDestroyed())
      .subscribe((message) => this.messages.update((messages) => [...messages, message]));
  }

  protected join(): void {
    this.socket.emit('join-room', { roomName: this.roomName }, (ack: Acknowledge) => {
      if (ack.success) this.joined.set(ack.roomName);
    });
  }

  protected send(roomName: string): void {
    const { clientName, text: message } = this;
    this.socket.emit('message', { roomName, clientName, message, replyToSender: true });
    this.text = '';
  }
}

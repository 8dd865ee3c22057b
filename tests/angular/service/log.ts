import { Component, inject, signal } from '@angular/core';
import { FormsModule } from '@angular/forms';
import { RoomcastService } from './roomcast.service';

/** A room's messages, those that were kept before it was opened, too. */
@Component({
  selector: 'app-log',
  imports: [FormsModule],
  template: `
    <ul id="messages">
      @for (message of log.messages(); track message.offset) {
        <li>{{ message.clientName }}: {{ message.message }}</li>
      }
    </ul>
    @if (log.isIncomplete()) {
      <p id="incomplete">Older messages are gone.</p>
    }
    <form id="send" (ngSubmit)="send()">
      <input name="text" [(ngModel)]="text" />
      <button>Send</button>
    </form>
    <p id="trouble">{{ trouble() }}</p>
  `,
})
export class Log {
  protected readonly log = inject(RoomcastService).join('log', { offset: 0 });
  protected readonly trouble = signal('');
  protected text = '';

  protected async send(): Promise<void> {
    const message = this.text;
    this.text = '';
    try {
      // It waits for the connection, and is there once.
      await this.log.room.send({ clientName: 'page', message });
    } catch (error) {
      this.trouble.set(String(error));
    }
  }
}

@Component({
  selector: 'app-room',
  imports: [Log],
  template: `
    <p id="status">{{ roomcast.status() }}</p>
    <button id="toggle" (click)="isOpen.set(!isOpen())">Open or close</button>
    @if (isOpen()) {
      <app-log />
    }
  `,
})
export class App {
  protected readonly roomcast = inject(RoomcastService);
  protected readonly isOpen = signal(true);
}

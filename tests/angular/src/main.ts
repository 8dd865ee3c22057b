import { importProvidersFrom, provideZonelessChangeDetection } from '@angular/core';
import { bootstrapApplication } from '@angular/platform-browser';
import { SocketIoModule } from 'ngx-socket-io';
import { Room } from './room';

const server = new URLSearchParams(window.location.search).get('server') ?? 'http://localhost:3001';

bootstrapApplication(Room, {
  providers: [
    provideZonelessChangeDetection(),
    importProvidersFrom(SocketIoModule.forRoot({ url: server, options: { transports: ['websocket'] } })),
  ],
}).catch((error: unknown) => console.error(error));

import { provideZonelessChangeDetection } from '@angular/core';
import { bootstrapApplication } from '@angular/platform-browser';
import { App } from './log';
import { ROOMCAST } from './roomcast.service';

const url = new URLSearchParams(window.location.search).get('server') ?? 'http://localhost:3001';
const options = { user: 'ada', socket: { transports: ['websocket'], reconnectionDelay: 20, reconnectionDelayMax: 100 } };

bootstrapApplication(App, {
  providers: [provideZonelessChangeDetection(), { provide: ROOMCAST, useValue: { url, options } }],
}).catch((error: unknown) => console.error(error));

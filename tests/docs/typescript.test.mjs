// The declaration of the events, as a TypeScript project uses it.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { example, root, start, withFolder } from './examples.mjs';

const options = {
  compilerOptions: {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    target: 'es2022',
    module: 'esnext',
    moduleResolution: 'bundler',
    lib: ['es2022', 'dom'],
    types: [],
    jsx: 'react-jsx',
    experimentalDecorators: true,
  },
};

/** What tsc says of these files: `file:line` of each error. */
async function errors(files, modules) {
  files = { ...files, 'roomcast.d.ts': await readFile(join(root, 'types/index.d.ts'), 'utf8'), 'tsconfig.json': JSON.stringify(options) };
  return withFolder(files, async (folder) => {
    const tsc = join(root, 'tests/docs/node_modules/typescript/bin/tsc');
    const { code, output } = await start(process.execPath, [tsc, '--pretty', 'false', '-p', '.'], { cwd: folder }).end();
    const found = [...output.matchAll(/^([\w./-]+)\((\d+),\d+\): error/gm)].map(([, file, line]) => `${file}:${line}`);
    assert.equal(code === 0, found.length === 0, output);
    return { found, output };
  }, modules);
}

const head = `
import { io, type Socket } from "socket.io-client";
import type { Acknowledgements, ClientToServerEvents, ServerToClientEvents } from "./roomcast";
const socket: Socket<ServerToClientEvents, ClientToServerEvents> = io();
`;

test('what is right compiles, and every mistake is reported where it is', async () => {
  const good = `${head}
socket.emit("join-room", "lobby");
socket.emit("joinRoom", { roomId: 7, offset: 12, epoch: "00" }, (ack) => ack.success && ack.recovered);
socket.emit("watch-resource", { resourceId: 7 });
socket.emit("leave-room", { room: "lobby" });
socket.emit("message", { roomName: "lobby", anything: { at: ["all"] }, replyToSender: true });
socket.emit("message", { text: "to everyone" });
socket.emit("message", "to everyone");
socket.emit("sendMessage", { roomId: "lobby", content: "Hi" }, (ack) => { if (!ack.success) ack.code satisfies string; });
socket.emit("private-message", { targetUserId: "bob", message: "Hi", messageType: "text" });
socket.emit("private-message", { target: "bob", message: { any: 1 } });
socket.emit("ping");
socket.emit("heartbeat", (ack) => ack.success);
socket.emit("authenticate", { userId: "alice", token: "…" });
socket.emit("presenceUpdate", { status: "away" });
socket.on("newMessage", ({ sender, content, offset }) => [sender?.length, content, offset?.toFixed()]);
socket.on("error", ({ code }) => code === "rate_limited");
export async function history(): Promise<number> {
  const page: Acknowledgements["syncMessages"] = await socket.emitWithAck("syncMessages", { roomId: "lobby", limit: 10 });
  return page.success ? page.syncedMessageCount : 0;
}
`;
  const bad = `${head}
socket.emit("joinroom", "lobby"); // wrong
socket.emit("join-room", { name: "lobby" }); // wrong
socket.emit("join-room"); // wrong
socket.emit("sendMessage", { roomId: "lobby" }); // wrong
socket.emit("sendMessage", { content: "Hi" }); // wrong
socket.emit("private-message", { target: "bob" }); // wrong
socket.emit("private-message", { message: "Hi" }); // wrong
socket.emit("presenceUpdate", { status: "asleep" }); // wrong
socket.emit("typingIndicator", { roomId: "lobby", isTyping: "yes" }); // wrong
socket.emit("message", 7); // wrong
socket.emit("join-room", "lobby", (ack) => ack.roomName); // wrong
socket.on("user-joind", () => {}); // wrong
socket.on("user-joined", ({ roomId }) => roomId); // wrong
socket.on("newMessage", ({ sender }) => sender.length); // wrong
`;
  const wrong = bad.split('\n').flatMap((line, index) => (line.endsWith('// wrong') ? [`bad.ts:${index + 1}`] : []));
  assert.equal(wrong.length, 14);
  // In one go: the compiler takes longer to start than to read these.
  const { found, output } = await errors({
    'typed.ts': await example('typed.ts'),
    'use-room.ts': await example('react/use-room.ts'),
    'main.tsx': await example('react/main.tsx'),
    'good.ts': good,
    'bad.ts': bad,
  });
  assert.deepEqual([...new Set(found)], wrong, output);
});

for (const version of [20, 22]) {
  test(`the Angular examples compile with Angular ${version} and its ngx-socket-io`, async () => {
    const service = 'export class SessionService {\n  token(): string {\n    return "";\n  }\n}\n';
    const [, module] = /^```ts\n(SocketIoModule\.forRoot.*)\n```$/m.exec(await readFile(join(root, 'README.md'), 'utf8'));
    const files = {
      'roomcast.service.ts': await readFile(join(root, 'tests/angular/service/roomcast.service.ts'), 'utf8'),
      'room-socket.ts': await example('angular/room-socket.ts'),
      'session.service.ts': service,
      'module.ts': `import { SocketIoModule } from 'ngx-socket-io';\nexport const imported = ${module};\n`,
      'wrong.ts': "import { Socket } from 'ngx-socket-io';\nexport const socket = new Socket({ address: 'http://localhost:3001' });\n",
    };
    const { found, output } = await errors(files, join(root, `tests/docs/angular-${version}/node_modules`));
    assert.deepEqual([...new Set(found)], ['wrong.ts:2'], output);
  });
}

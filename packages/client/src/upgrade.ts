import type { Manager } from 'socket.io-client';

/** What engine.io-client does not declare as public. */
interface Engine {
  upgrading: boolean;
  transport: { readyState: string };
  on(event: 'upgradeError', listener: () => void): void;
  close(): void;
}

/**
 * Ends connections that hear nothing any more. If a websocket breaks after its probe was answered and before the upgrade is complete,
 * engine.io-client stays with polling, which it has paused for the upgrade, until the next ping is overdue.
 */
export function endFailedUpgrades(manager: Manager): void {
  manager.on('open', () => {
    const engine = manager.engine as unknown as Engine;
    engine.on('upgradeError', () => {
      const { readyState } = engine.transport;
      if (readyState !== 'pausing' && readyState !== 'paused') return;
      // It would wait for the upgrade.
      engine.upgrading = false;
      engine.close();
    });
  });
}

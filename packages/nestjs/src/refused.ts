/** What a middleware refuses with. */
export class Refused extends Error {
  readonly data: unknown;

  constructor(cause: unknown) {
    super(String((cause as Error | undefined)?.message ?? cause), { cause });
    this.data = (cause as { data?: unknown } | undefined)?.data;
  }
}

/** Errors of middlewares, WsException and HttpException have words for clients. Others are faults, which only the log is told. */
export function isToldToClients(error: unknown): boolean {
  const { getError, getResponse } = (error ?? {}) as { getError?: unknown; getResponse?: unknown };
  return error instanceof Refused || typeof getError === 'function' || typeof getResponse === 'function';
}

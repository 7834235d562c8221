// What a test of the client is given: a server that the test plays, a client, and time that it moves.

import { test } from "node:test";
import { WebSocket } from "ws";
import { TidewellClient } from "../../engine/static/tidewell.js";
import { FakeTimers } from "./fake_timers.js";
import { ScriptedServer } from "./scripted_server.js";

/**
 * A server and a client of it, given to `body` and ended after it. Timers run when the test
 * says `tick(ms)`, and back-off is without chance: the middle of the jitter, a factor of 1.
 */
export function withClient(name, body) {
  test(name, async (t) => {
    const server = await ScriptedServer.start();
    t.mock.method(console, "error", () => {});
    t.mock.method(Math, "random", () => 0.5);
    const timers = new FakeTimers();
    const { tick } = timers;
    timers.install();
    const logged = [];
    const client = new TidewellClient(server.address, { WebSocket, onLog: (path, line) => logged.push([path, line]) });
    try {
      await body({ server, client, logged, tick });
    } finally {
      client.close();
      server.stop();
      timers.uninstall();
    }
  });
}

/** A listener that records what it is told, and lets the test wait for the next thing told. */
export function recorder() {
  const told = [];
  const waiting = [];
  const next = () => new Promise((resolve) => waiting.push(resolve));
  const record = (entry) => {
    told.push(entry);
    waiting.shift()?.(entry);
  };
  return { told, next, onValue: record, onError: record };
}

export const reached = (client, wanted) =>
  new Promise((resolve) => {
    const stop = client.onStatus((status) => status === wanted && queueMicrotask(() => (stop(), resolve())));
  });

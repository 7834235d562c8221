// Many clients that increment one counter at the same time:
//
//   node increment.js URL LIBRARY FUNCTION CLIENTS CALLS
//
// LIBRARY is `convex`, the official client, or `tidewell`, the one that the server hands out.
// Each client makes all its calls at once and prints a line for each acknowledged one. The
// last line says how many were acknowledged and which errors there were.

import { ConvexClient } from "convex/browser";
import { WebSocket } from "ws";
import { TidewellClient } from "../../../engine/static/tidewell.js";

const [url, library, fn, clients, calls] = process.argv.slice(2);

const open = {
  convex: () => new ConvexClient(url, { logger: false }),
  tidewell: () => new TidewellClient(url, { WebSocket, onLog: () => {} }),
}[library];

const isNoted = fn.endsWith("_and_note");
const argumentsOf = (index, number) => ({ name: "shared", ...(isNoted && { client: String(index), number }) });

let acknowledged = 0;
const errors = [];

async function run(index) {
  const client = open();
  const increments = Array.from({ length: Number(calls) }, async (_, number) => {
    try {
      await client.mutation(fn, argumentsOf(index, number));
      acknowledged += 1;
      console.log(`acknowledged ${acknowledged}`);
    } catch (error) {
      errors.push(error.message);
    }
  });
  await Promise.all(increments);
  await client.close();
}

await Promise.all(Array.from({ length: Number(clients) }, (_, index) => run(index)));
console.log(`done ${JSON.stringify({ acknowledged, errors })}`);

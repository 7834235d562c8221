// Clients that increment counters of their own over a network that breaks at random:
//
//   node cut_increments.js URL SEED CLIENTS CALLS CUTS
//
// Each keeps some mutations in flight, every one with an optimistic update, and records every value
// that its subscription shows. The last line says what each was shown and what was in flight at the cuts.

import { ConvexClient } from "convex/browser";
import { chanceOf, startCuttingProxy } from "./cutting_proxy.js";

const [url, ...numbers] = process.argv.slice(2);
const [seed, clients, calls, cuts] = numbers.map(Number);
const IN_FLIGHT = 6;

const inFlightAtCuts = [];
const errors = [];

async function run(index) {
  const name = `counter of ${index}`;
  const shown = [];
  let made = 0;
  let acknowledged = 0;
  const proxy = await startCuttingProxy(url, {
    chance: chanceOf(seed + index),
    cuts,
    bytes: 6000,
    onCut: () => inFlightAtCuts.push(made - acknowledged),
  });
  const client = new ConvexClient(proxy.url, { logger: false });
  client.onUpdate("counters:value", { name }, (value) => shown.push(value));
  await client.query("counters:value", { name });
  const optimisticUpdate = (store) => {
    const value = store.getQuery("counters:value", { name });
    if (value !== undefined) store.setQuery("counters:value", { name }, value + 1);
  };
  const caller = async () => {
    while (made < calls) {
      const args = { name, client: String(index), number: made++ };
      try {
        await client.mutation("counters:increment_and_note", args, { optimisticUpdate });
        acknowledged += 1;
      } catch (error) {
        errors.push(error.message);
      }
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller));
  await client.close();
  proxy.close();
  return { acknowledged, shown };
}

const results = await Promise.all(Array.from({ length: clients }, (_, index) => run(index)));
console.log(`done ${JSON.stringify({ results, inFlightAtCuts, errors })}`);

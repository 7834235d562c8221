// Clients that watch two accounts whose sum never changes, while others move amounts between them:
//
//   node accounts.js URL SEED WATCHERS MOVERS TRANSFERS CUTS
//
// Every watcher looks at both accounts in each transition, on a network that breaks at random. The
// last line says what was seen: how many states, how often the network broke, and every broken state.

import { BaseConvexClient, ConvexClient } from "convex/browser";
import { WebSocket } from "ws";
import { chanceOf, startCuttingProxy } from "./cutting_proxy.js";

const [url, ...numbers] = process.argv.slice(2);
const [seed, watchers, movers, transfers, cuts] = numbers.map(Number);
const MOVES = movers * transfers;

const accountOf = (name) => ["accounts:account", { name }];
const broken = [];
const finals = [];
let states = 0;
let broke = 0;
let moved = 0;

async function watch(index) {
  const proxy = await startCuttingProxy(url, {
    chance: chanceOf(seed + index),
    cuts,
    bytes: 8000,
    onCut: () => (broke += 1),
  });
  let client;
  let moves = 0;
  await new Promise((resolve) => {
    client = new BaseConvexClient(
      proxy.url,
      () => {
        const [left, right] = ["left", "right"].map((name) => client.localQueryResult(...accountOf(name)));
        if (left === undefined && right === undefined) return;
        states += 1;
        const isWhole = left?.balance + right?.balance === 200 && left?.moves === right?.moves;
        if (!isWhole || left.moves < moves) broken.push({ left, right, moves });
        moves = left?.moves;
        if (moves === MOVES) resolve(finals.push(left));
      },
      { webSocketConstructor: WebSocket, logger: false },
    );
    for (const name of ["left", "right"]) client.subscribe(...accountOf(name));
  });
  await client.close();
  proxy.close();
}

async function move(index) {
  const client = new ConvexClient(url, { logger: false });
  const chance = chanceOf(seed - 1 - index);
  for (let number = 0; number < transfers; number++) {
    const [source, target] = chance() < 0.5 ? ["left", "right"] : ["right", "left"];
    await client.mutation("accounts:transfer", { source, target, amount: 1 + Math.floor(chance() * 50) });
    console.log(`moved ${++moved}`);
  }
  await client.close();
}

await Promise.all([
  ...Array.from({ length: watchers }, (_, index) => watch(index)),
  ...Array.from({ length: movers }, (_, index) => move(index)),
]);
console.log(`done ${JSON.stringify({ states, broke, broken, finals })}`);

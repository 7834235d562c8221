// A network between clients and a server that can lose what the server says:
//
//   node lossy_proxy.js URL
//
// prints `proxy at URL` and reads what to do: `mute` discards everything that comes from the
// server from now on, while the server goes on hearing its clients; `cut` breaks all
// connections, and those that follow are sound again.

import { once } from "node:events";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";

const server = new URL(process.argv[2]);
const open = new Set();
let isMuted = false;

const proxy = createServer((near) => {
  const far = connect(Number(server.port), server.hostname);
  open.add(near);
  far.on("data", (data) => isMuted || near.write(data));
  near.on("data", (data) => far.write(data));
  far.on("close", () => isMuted || near.destroy());
  near.on("close", () => (open.delete(near), far.destroy()));
  for (const socket of [near, far]) socket.on("error", () => {}); // a close event follows
});
proxy.listen(0, "127.0.0.1");
await once(proxy, "listening");
console.log(`proxy at http://127.0.0.1:${proxy.address().port}`);

for await (const order of createInterface({ input: process.stdin })) {
  isMuted = order === "mute";
  if (order === "cut") for (const socket of open) socket.destroy();
  console.log(`${order} done`);
}
process.exit(0);

// A network that breaks at random: every connection through it is worth a random number of bytes
// in one direction, and is cut in the middle of whatever carries the last of them, until it has
// been cut often enough. What chance decides is known from the seed.

import { once } from "node:events";
import { connect, createServer } from "node:net";

/** A generator of numbers from 0 to 1 (mulberry32); the same for the same seed. */
export function chanceOf(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Start a proxy that cuts its first `cuts` connections; each cut is told to `onCut`. */
export async function startCuttingProxy(url, { chance, cuts, bytes, onCut = () => {} }) {
  const { hostname, port } = new URL(url);
  const open = new Set();
  let left = cuts;

  const proxy = createServer((near) => {
    const far = connect(Number(port), hostname);
    open.add(near);
    const directions = [
      [near, far],
      [far, near],
    ];
    const limited = Math.floor(chance() * 2);
    let worth = Math.floor(chance() * bytes);
    directions.forEach(([from, to], index) => {
      from.on("data", (data) => {
        if (index !== limited || left === 0 || data.length <= worth) {
          if (index === limited) worth -= data.length;
          to.write(data);
          return;
        }
        left -= 1;
        onCut();
        from.removeAllListeners("data");
        to.write(data.subarray(0, worth), () => to.destroy());
        from.destroy();
      });
      from.on("close", () => to.end());
      from.on("error", () => {}); // a close event follows
    });
    near.on("close", () => open.delete(near));
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  return {
    url: `http://127.0.0.1:${proxy.address().port}`,
    close() {
      proxy.close();
      for (const socket of open) socket.destroy();
    },
  };
}

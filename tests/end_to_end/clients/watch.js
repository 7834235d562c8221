// A client that does what it is told, one JSON command a line:
//
//   ["watch", "books:on_shelf", {"shelf": "a"}]    prints `update on_shelf/a/0 [...]` at each result
//   ["mutate", "books:put", {...}]                 prints `done` when the mutation has settled
//
// Every command opens on one of several connections: `node watch.js URL CONNECTIONS`.

import { createInterface } from "node:readline";
import { ConvexClient } from "convex/browser";

const [url, connections = "1"] = process.argv.slice(2);
const clients = Array.from({ length: Number(connections) }, () => new ConvexClient(url, { logger: false }));

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [command, path, args] = JSON.parse(line);
  if (command === "watch") {
    clients.forEach((client, i) => {
      const name = `${path.split(":")[1]}/${Object.values(args).join("/")}/${i}`;
      client.onUpdate(
        path,
        args,
        (value) => console.log(`update ${name} ${JSON.stringify(value)}`),
        (error) => console.log(`failure ${name} ${error.message.replaceAll("\n", " ")}`),
      );
    });
  } else {
    await clients[0].mutation(path, args);
    console.log("done");
  }
}

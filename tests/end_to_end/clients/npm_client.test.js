// The official npm client under Node, unmodified, against the app `values`.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi, makeFunctionReference } from "convex/server";
import { ConvexError } from "convex/values";
import { WebSocket } from "ws";

const api = anyApi.values;
const url = process.env.TIDEWELL_URL;
const client = new ConvexClient(url, { logger: false });
const http = new ConvexHttpClient(url, { logger: false });
after(() => client.close());

const VALUES = {
  null: null,
  booleans: [true, false],
  numbers: [0, 1, -1.5, 1e300, 2 ** 53, Number.MIN_VALUE],
  "numbers that JSON lacks": [NaN, Infinity, -Infinity, -0],
  integers: [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)],
  strings: ["", 'é😀\u0000\n"\\'],
  bytes: new Uint8Array([0, 255, 1]).buffer,
  nested: { a: [{ b: [] }, {}], "a name with spaces": 1 },
};

const transports = {
  "over a socket": {
    query: (fn, args) => client.query(fn, args),
    mutation: (fn, args) => client.mutation(fn, args),
    action: (fn, args) => client.action(fn, args),
  },
  "over HTTP": {
    query: (fn, args) => http.query(fn, args),
    mutation: (fn, args) => http.mutation(fn, args),
    action: (fn, args) => http.action(fn, args),
  },
};

/** The first value of a subscription for which `isWanted` holds, and all values up to it. */
function watchUntil(fn, args, isWanted) {
  const seen = [];
  return new Promise((resolve, reject) => {
    const stop = client.onUpdate(
      fn,
      args,
      (value) => {
        seen.push(value);
        if (!isWanted(value)) return;
        queueMicrotask(() => stop());
        resolve(seen);
      },
      reject,
    );
  });
}

for (const [how, { query, mutation, action }] of Object.entries(transports)) {
  for (const [name, value] of Object.entries(VALUES)) {
    test(`${name} come back as they went, ${how}`, async () => {
      assert.deepEqual(await query(api.echo, { value }), value);
      assert.deepEqual(await action(api.act, { value }), value);
      const key = await mutation(api.keep, { value });
      assert.deepEqual(await query(api.kept, { key }), value);
    });
  }

  test(`an AppError is a ConvexError with its data, and its mutation leaves nothing, ${how}`, async () => {
    const before = await query(api.count_kept, {});
    for (const data of [{ code: "FULL", n: 5n }, "just text", null, [1, 2]]) {
      await assert.rejects(mutation(api.refuse, { data }), (error) => {
        assert.ok(error instanceof ConvexError, String(error));
        assert.deepEqual(error.data, data);
        return true;
      });
    }
    assert.equal(await query(api.count_kept, {}), before);
  });

  test(`another exception is named with its message and place, ${how}`, async () => {
    await assert.rejects(mutation(api.fail, {}), (error) => {
      assert.ok(!(error instanceof ConvexError));
      assert.match(error.message, /\[Request ID: [0-9a-f]{16}\] Server Error/);
      assert.match(error.message, /Uncaught ValueError: no such channel/);
      assert.match(error.message, /values\.py:\d+/);
      return true;
    });
  });

  test(`an unknown function is named, with the nearest known one, ${how}`, async () => {
    await assert.rejects(query(api.ecko, {}), /Could not find public function for 'values:ecko'.*'values:echo'/s);
  });

  test(`an internal function looks like an unknown one, ${how}`, async () => {
    await assert.rejects(query(api.hidden, { value: 1 }), /Could not find public function for 'values:hidden'/);
  });

  test(`wrong arguments are refused before the function runs, ${how}`, async () => {
    for (const args of [{ count: "three" }, {}, { count: 1, colour: "red" }, { count: 1.5 }]) {
      await assert.rejects(query(api.typed, args), /ArgumentValidationError/, JSON.stringify(args));
    }
    assert.equal(await query(api.typed, { count: 3 }), "nobody: 3");
    assert.equal(await query(api.typed, { count: 3, name: "Ada" }), "Ada: 3");
  });

  test(`a function called as another kind says which it is, ${how}`, async () => {
    await assert.rejects(
      query(api.keep, { value: 1 }),
      /Trying to execute values:keep as Query, but it is defined as Mutation/i,
    );
  });
}

test("a subscription shows every state that its own client waited for", async () => {
  const start = await client.query(api.count_kept, {});
  const seen = watchUntil(api.count_kept, {}, (count) => count === start + 3);
  for (let i = 0; i < 3; i++) await client.mutation(api.keep, { value: i });
  const counts = await seen;
  assert.deepEqual(
    counts,
    [...counts].sort((a, b) => a - b),
  );
});

test("a mutation over HTTP reaches the subscriptions of sockets", async () => {
  const start = await client.query(api.count_kept, {});
  const seen = watchUntil(api.count_kept, {}, (count) => count === start + 1);
  await http.mutation(api.keep, { value: "by http" });
  await seen;
});

test("what a subscription shows after an awaited mutation contains its effect", async () => {
  let shown;
  const stop = client.onUpdate(api.count_kept, {}, (count) => (shown = count));
  for (let i = 0; i < 10; i++) {
    const before = await client.query(api.count_kept, {});
    await client.mutation(api.keep, { value: i });
    assert.equal(shown, before + 1);
  }
  stop();
});

test("a consistent query over HTTP reads one snapshot", async () => {
  assert.equal(await http.consistentQuery(api.echo, { value: 1 }), 1);
});

test("references by name and by path reach the same function", async () => {
  const typed = makeFunctionReference("values:typed");
  assert.equal(await client.query(typed, { count: 1 }), "nobody: 1");
  assert.equal(await http.query("values:typed", { count: 1 }), "nobody: 1");
});

test("a result of more than 5 MB comes in chunks, at first and when it changes", { timeout: 60_000 }, async () => {
  let chunks = 0;
  class Listening extends WebSocket {
    constructor(...args) {
      super(...args);
      this.on("message", (data) => (chunks += JSON.parse(data).type === "TransitionChunk"));
    }
  }
  const own = new ConvexClient(url, { webSocketConstructor: Listening, logger: false });
  after(() => own.close());
  const large = { texts: 12, length: 2 ** 19 };
  const counts = [];
  await new Promise((resolve, reject) => {
    own.onUpdate(
      api.long_result,
      large,
      ({ count, texts }) => {
        assert.equal(texts.join("").length, 6 * 2 ** 20);
        counts.push(count);
        if (counts.length === 1) own.mutation(api.keep, { value: "one more" }).then(resolve, reject);
      },
      reject,
    );
  });
  assert.deepEqual(counts, [counts[0], counts[0] + 1], "the mutation settles once its effect is shown");
  assert.ok(chunks >= 4, `${chunks} chunks`);
});

test("a subscription that fails has the error's data, and goes on", async () => {
  const most = await client.query(api.count_kept, {});
  const seen = [];
  const crowded = new Promise((resolve, reject) => {
    client.onUpdate(
      api.unless_crowded,
      { most },
      (value) => seen.push(value),
      (error) => (error instanceof ConvexError ? resolve(error.data) : reject(error)),
    );
  });
  await client.query(api.unless_crowded, { most });
  await client.mutation(api.keep, { value: "too many" });
  assert.deepEqual(await crowded, { code: "CROWDED", count: most + 1 });
  assert.deepEqual(seen, [most]);
});

test("optimistic updates are shown at once and settle without flicker", async () => {
  const own = new ConvexClient(url, { logger: false });
  after(() => own.close());
  const shown = [];
  await new Promise((resolve) => {
    own.onUpdate(api.count_kept, {}, (count) => {
      if (count !== shown.at(-1)) shown.push(count);
      resolve();
    });
  });
  const start = shown[0];
  const oneMore = (store) => store.setQuery(api.count_kept, {}, store.getQuery(api.count_kept, {}) + 1);
  const keep = (value) => own.mutation(api.keep, { value }, { optimisticUpdate: oneMore });
  for (let i = 0; i < 5; i++) {
    const kept = keep(i);
    assert.equal(shown.at(-1), start + i + 1, "before the server knows");
    await kept;
  }
  await Promise.all([5, 6, 7, 8, 9].map(keep));
  const refused = own.mutation(api.refuse, { data: "no" }, { optimisticUpdate: oneMore });
  await assert.rejects(refused, ConvexError);
  assert.deepEqual(
    shown,
    [...Array.from({ length: 12 }, (_, i) => start + i), start + 10],
    "every state once, and a refused one taken back",
  );
});

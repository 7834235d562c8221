import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError, ConnectionError, FunctionError, TidewellClient } from "../../engine/static/tidewell.js";
import { failed, timestamp, updated } from "./scripted_server.js";
import { reached, recorder, withClient } from "./with_client.js";

const SERVER_ERROR = "[Request ID: 3f9c21ab77d0e412] Server Error\n";

withClient("a client introduces itself and asks for everything watched in one message", async ({ server, client }) => {
  const list = recorder();
  client.subscribe("posts:list", { limit: 2 }, list.onValue);
  client.subscribe("posts:list", { limit: 2 }, list.onValue);
  client.subscribe("inbox", {}, list.onValue);
  const { connection, hello, modifications } = await server.greet();
  assert.equal(connection.path, "/api/sync");
  assert.match(hello.sessionId, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(hello.connectionCount, 0);
  assert.equal(hello.lastCloseReason, "InitialConnect");
  assert.ok(!("maxObservedTimestamp" in hello));
  assert.deepEqual(modifications, [
    { type: "Add", queryId: 0, udfPath: "posts:list", args: [{ limit: 2 }], journal: null },
    { type: "Add", queryId: 1, udfPath: "inbox:default", args: [{}], journal: null },
  ]);
});

withClient("changes of one turn go out together, and a query leaves with its last listener", async ({ server, client }) => {
  const { connection } = await server.greet();
  const stops = ["a", "a", "b"].map((name) => client.subscribe(`q:${name}`, {}, () => {}));
  const added = await connection.read("ModifyQuerySet");
  assert.deepEqual([added.baseVersion, added.newVersion], [1, 2]);
  assert.deepEqual(added.modifications.map(({ queryId }) => queryId), [0, 1]);
  stops[0]();
  stops[2]();
  const removed = await connection.read("ModifyQuerySet");
  assert.deepEqual(removed.modifications, [{ type: "Remove", queryId: 1 }]);
  stops[1]();
  assert.deepEqual((await connection.read("ModifyQuerySet")).modifications, [{ type: "Remove", queryId: 0 }]);
});

withClient("a transition is applied whole before any listener is called", async ({ server, client }) => {
  const seen = [];
  let left, right;
  client.subscribe("q:left", {}, (value) => ((left = value), seen.push([left, right])));
  client.subscribe("q:right", {}, (value) => (right = value));
  const { connection } = await server.greet();
  connection.transition(1, [updated(0, 1.0), updated(1, 1.0)], 1);
  connection.transition(2, [updated(0, 2.0), updated(1, 2.0)]);
  // A third watcher, added inside a listener, is shown the same snapshot at once.
  const late = recorder();
  const both = recorder();
  client.subscribe("q:both", {}, both.onValue);
  await connection.read("ModifyQuerySet");
  connection.transition(3, [updated(2, "end")], 2);
  await both.next();
  client.subscribe("q:left", {}, late.onValue);
  assert.equal(await late.next(), 2);
  assert.deepEqual(seen, [[1, undefined], [2, 1]]);
  assert.deepEqual([left, right], [2, 2]);
});

withClient("a mutation settles with the transition that shows it, after the listeners", async ({ server, client }) => {
  const order = [];
  client.subscribe("q:count", {}, (value) => order.push(value));
  const { connection } = await server.greet();
  connection.transition(5, [updated(0, 0)], 1);
  const call = client.mutation("m:add", { by: 1n }).then((result) => order.push(result));
  const message = await connection.read("Mutation");
  assert.deepEqual(message, { type: "Mutation", requestId: 0, udfPath: "m:add", args: [{ by: { $integer: "AQAAAAAAAAA=" } }] });
  connection.committed(0, 7, "done");
  connection.transition(6, []); // older than the commit: not yet
  connection.transition(7, [updated(0, 1)]);
  await call;
  assert.deepEqual(order, [0, 1, "done"]);
});

withClient("an empty transition settles a mutation that no query depends on", async ({ server, client }) => {
  const { connection } = await server.greet();
  connection.transition(9, [], 1);
  const call = client.mutation("m:add");
  await connection.read("Mutation");
  connection.committed(0, 9, { n: 1 });
  connection.transition(9);
  assert.deepEqual(await call, { n: 1 });
});

withClient("mutations and actions are numbered by one counter, and actions settle at once", async ({ server, client, logged }) => {
  const { connection } = await server.greet();
  const mutation = client.mutation("m:one");
  const action = client.action("a:two", { x: [1] });
  assert.equal((await connection.read("Mutation")).requestId, 0);
  assert.equal((await connection.read("Action")).requestId, 1);
  connection.send({ type: "ActionResponse", requestId: 1, success: true, result: { $bytes: "AP8=" }, logLines: ["[LOG] hi"] });
  assert.deepEqual(new Uint8Array(await action), new Uint8Array([0, 255]));
  assert.deepEqual(logged, [["a:two", "[LOG] hi"]]);
  connection.refused("MutationResponse", 0, `${SERVER_ERROR}Uncaught ValueError: no such channel\n    at like (posts.py:12)\n`);
  await assert.rejects(mutation, (error) => {
    assert.ok(error instanceof FunctionError && !(error instanceof AppError));
    assert.equal(error.message, "ValueError: no such channel");
    assert.match(error.details, /posts\.py:12/);
    return true;
  });
});

for (const [name, errorData, data] of [["data", { code: "FULL", n: { $integer: "AQAAAAAAAAA=" } }, { code: "FULL", n: 1n }], ["null", null, null]]) {
  withClient(`an application error carries its ${name}`, async ({ server, client }) => {
    const { connection } = await server.greet();
    const call = client.mutation("m:one");
    await connection.read("Mutation");
    connection.refused("MutationResponse", 0, `${SERVER_ERROR}Uncaught ConvexError: x\n`, { errorData });
    await assert.rejects(call, (error) => error instanceof AppError && (assert.deepEqual(error.data, data), true));
  });
}

withClient("a query that fails stays watched", async ({ server, client }) => {
  const list = recorder();
  client.subscribe("q:list", {}, list.onValue, list.onError);
  const { connection } = await server.greet();
  connection.transition(1, [failed(0, `${SERVER_ERROR}Uncaught ZeroDivisionError: division by zero\n`)], 1);
  assert.equal((await list.next()).message, "ZeroDivisionError: division by zero");
  connection.transition(2, [updated(0, "well again")]);
  assert.equal(await list.next(), "well again");
});

withClient("asking once adds, answers and removes; a watched query answers by itself", async ({ server, client }) => {
  const { connection } = await server.greet();
  const asked = client.query("q:one", {});
  await connection.read("ModifyQuerySet");
  connection.transition(1, [updated(0, 41)], 2);
  assert.equal(await asked, 41);
  assert.deepEqual((await connection.read("ModifyQuerySet")).modifications, [{ type: "Remove", queryId: 0 }]);

  client.subscribe("q:one", {}, () => {});
  await connection.read("ModifyQuerySet");
  connection.transition(2, [{ type: "QueryRemoved", queryId: 0 }, updated(1, 42)], 4);
  assert.equal(await client.query("q:one"), 42);
  assert.equal(await client.query("q:one"), 42);
  assert.deepEqual(await connection.unread(), []);
});

withClient("what a listener throws does not keep the others from hearing", async ({ server, client, tick }) => {
  const list = recorder();
  client.subscribe("q:list", {}, () => { throw new Error("mine"); });
  client.subscribe("q:list", {}, list.onValue);
  const { connection } = await server.greet();
  connection.transition(1, [updated(0, 1)], 1);
  assert.equal(await list.next(), 1);
  assert.equal(console.error.mock.calls[0].arguments[0].message, "mine");
});

withClient("after a lost connection everything open is taken up again", async ({ server, client, tick }) => {
  const list = recorder();
  client.subscribe("q:page", { n: 1 }, list.onValue);
  const first = await server.greet();
  first.connection.transition(3, [updated(0, ["a"], { journal: "J1" })], 1);
  await list.next();

  const answered = client.mutation("m:answered"); // committed at 8, not visible yet
  const unanswered = client.mutation("m:unanswered");
  const running = client.action("a:running");
  await first.connection.read("Mutation");
  await first.connection.read("Mutation");
  await first.connection.read("Action");
  first.connection.committed(0, 8, "eight");
  const lost = [reached(client, "disconnected"), assert.rejects(running, ConnectionError)];
  await first.connection.close(1011, "InternalServerError");
  await Promise.all(lost);
  const waiting = client.action("a:waiting"); // never sent, so it may be sent now

  const greeting = server.greet();
  tick(1000);
  const second = await greeting;
  assert.equal(second.hello.sessionId, first.hello.sessionId);
  assert.equal(second.hello.connectionCount, 1);
  assert.equal(second.hello.lastCloseReason, "InternalServerError");
  assert.equal(second.hello.maxObservedTimestamp, timestamp(8));
  assert.deepEqual(second.modifications, [
    { type: "Add", queryId: 0, udfPath: "q:page", args: [{ n: 1 }], journal: "J1" },
  ]);
  assert.deepEqual(await second.connection.read("Mutation"), { type: "Mutation", requestId: 1, udfPath: "m:unanswered", args: [{}] });
  assert.equal((await second.connection.read("Action")).requestId, 3);

  second.connection.committed(1, 5, "five"); // it had been committed before the connection broke
  second.connection.transition(9, [updated(0, ["a", "b"])], 1);
  assert.equal(await answered, "eight");
  assert.equal(await unanswered, "five");
  second.connection.send({ type: "ActionResponse", requestId: 3, success: true, result: 1, logLines: [] });
  assert.equal(await waiting, 1);
  assert.deepEqual(list.told, [["a"], ["a", "b"]]);
});

withClient("waiting doubles from close to close, and starts again once caught up", async ({ server, client, tick }) => {
  client.subscribe("q:list", {}, () => {});
  let { connection } = await server.greet();
  for (const delay of [1000, 2000, 4000, 8000, 16000, 16000]) {
    const lost = reached(client, "disconnected");
    await connection.close(1011, "InternalServerError");
    await lost;
    const greeting = server.greet();
    tick(delay - 1);
    assert.equal(client.status, "disconnected");
    tick(1);
    assert.equal(client.status, "connecting");
    ({ connection } = await greeting);
  }
  connection.transition(1, [updated(0, 1)], 1);
  await client.query("q:list");
  const lost = reached(client, "disconnected");
  await connection.close(1013, "OptimisticConcurrencyControlFailure");
  await lost;
  tick(2999); // an overloaded server is given three seconds
  assert.equal(client.status, "disconnected");
  tick(1);
  assert.equal(client.status, "connecting");
});

withClient("a silent server is left after 60 seconds; a ping is a sign of life", async ({ server, client, tick }) => {
  const list = recorder();
  client.subscribe("q:list", {}, list.onValue);
  const { connection } = await server.greet(); // the client's timer starts anew with the message below
  tick(59_000);
  connection.send({ type: "Ping" });
  connection.transition(1, [updated(0, 1)], 1);
  await list.next();
  tick(59_999);
  assert.equal(client.status, "connected");
  tick(1);
  assert.equal(client.status, "disconnected");
  const greeting = server.greet();
  tick(100); // our own decision: no reason to wait long
  assert.equal((await greeting).hello.lastCloseReason, "InactiveServer");
});

const after = (ts, querySet, next) => ({
  type: "Transition",
  startVersion: { querySet, identity: 0, ts: timestamp(ts) },
  endVersion: { querySet: 1, identity: 0, ts: timestamp(next) },
  modifications: [updated(0, "wrong")],
});

for (const [name, wrong] of [
  ["starts at another time", after(1, 1, 3)],
  ["starts at another query set", after(2, 0, 3)],
  ["goes back in time", after(2, 1, 1)],
  ["holds a value that is none", { ...after(2, 1, 3), modifications: [updated(0, "wrong"), updated(0, { $set: [] })] }],
  ["is of an unknown type", { type: "Surprise" }],
  ["is no object", null],
]) {
  withClient(`a message that ${name} changes nothing and makes the client reconnect`, async ({ server, client, tick }) => {
    const list = recorder();
    client.subscribe("q:list", {}, list.onValue);
    const { connection } = await server.greet();
    connection.transition(2, [updated(0, "first")], 1);
    const lost = reached(client, "disconnected");
    connection.send(wrong);
    await lost;
    const greeting = server.greet();
    tick(1000);
    const again = await greeting;
    assert.match(again.hello.lastCloseReason, /^ProtocolError/);
    again.connection.transition(9, [updated(0, "right")], 1);
    assert.equal(await list.next(), "right");
    assert.deepEqual(list.told, ["first", "right"]);
  });
}

withClient("an optimistic update is shown at once, replayed over news and gone without a flicker", async ({ server, client }) => {
  const list = recorder();
  client.subscribe("q:count", {}, list.onValue);
  const { connection } = await server.greet();
  connection.transition(1, [updated(0, 10)], 1);
  await list.next();
  const call = client.mutation("m:add", {}, { optimistic: (local) => local.set("q:count", {}, local.get("q:count") + 1) });
  assert.equal(list.told.at(-1), 11);
  await connection.read("Mutation");
  connection.transition(2, [updated(0, 20)]); // somebody else's
  assert.equal(await list.next(), 21);
  connection.committed(0, 3);
  connection.transition(3, [updated(0, 21)]);
  await call;
  assert.deepEqual(list.told, [10, 11, 21, 21]);
});

withClient("a failed mutation takes its optimistic update back", async ({ server, client }) => {
  const list = recorder();
  client.subscribe("q:count", {}, list.onValue);
  const { connection } = await server.greet();
  connection.transition(1, [updated(0, 10)], 1);
  await list.next();
  const call = client.mutation("m:add", {}, { optimistic: (local) => local.set("q:count", {}, local.get("q:count") + 1) });
  await connection.read("Mutation");
  connection.refused("MutationResponse", 0, `${SERVER_ERROR}Uncaught ConvexError: no\n`, { errorData: "no" });
  await assert.rejects(call, AppError);
  assert.deepEqual(list.told, [10, 11, 10]);
});

withClient("a fatal error ends the client for good, and says so to everyone who waits", async ({ server, client, tick }) => {
  const { connection } = await server.greet();
  const calls = [client.mutation("m:a"), client.action("a:b"), client.query("q:c")];
  connection.send({ type: "FatalError", error: "base version 7 does not match" });
  for (const call of calls) await assert.rejects(call, /base version 7 does not match/);
  assert.equal(client.status, "closed");
  await connection.closed;
  await assert.rejects(client.mutation("m:a"), ConnectionError);
});

withClient("closing rejects what waits and silences the listeners", async ({ server, client }) => {
  const list = recorder();
  client.subscribe("q:list", {}, list.onValue);
  const { connection } = await server.greet();
  const call = client.mutation("m:a");
  client.close();
  await assert.rejects(call, ConnectionError);
  await connection.closed;
  assert.throws(() => client.subscribe("q:list", {}, list.onValue), ConnectionError);
  assert.deepEqual(list.told, []);
});

test("an address may have a path and a slash at its end, and must be http", () => {
  const opened = [];
  class Recorded {
    constructor(url) {
      opened.push(url);
    }
    close() {}
  }
  for (const address of ["http://h:1", "http://h:1/", "https://h/base/", "http://h/page?x=1#y"]) {
    new TidewellClient(address, { WebSocket: Recorded }).close();
  }
  assert.deepEqual(opened, ["ws://h:1/api/sync", "ws://h:1/api/sync", "wss://h/base/api/sync", "ws://h/page/api/sync"]);
  assert.throws(() => new TidewellClient("ftp://h", { WebSocket: Recorded }), TypeError);
});

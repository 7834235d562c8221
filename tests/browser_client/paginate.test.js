// Lists that grow: pages side by side, told of together, cut in two, and begun again.

import assert from "node:assert/strict";
import { failed, updated } from "./scripted_server.js";
import { recorder, withClient } from "./with_client.js";

const page = (items, continueCursor, rest = {}) => ({ page: items, isDone: false, continueCursor, ...rest });
const opts = ({ args }) => args[0].paginationOpts;

/** A list of two items a page, whose first page [1, 2] has come; query 0. */
async function listed({ server, client }) {
  const told = recorder();
  const list = client.paginate("rows:list", { kind: "x" }, { pageSize: 2 }, told.onValue, told.onError);
  const { connection, modifications } = await server.greet();
  assert.equal(modifications.length, 1);
  const { id, ...first } = opts(modifications[0]);
  assert.deepEqual(first, { numItems: 2, cursor: null });
  assert.equal(modifications[0].args[0].kind, "x");
  assert.equal(list.loadMore(), false);
  connection.transition(1, [updated(0, page([1, 2], "K1"), { journal: "J1" })], 1);
  assert.deepEqual(await told.next(), { items: [1, 2], status: "more" });
  return { connection, list, told, id };
}

/** The same with a second and last page, [3, 4]; query 1. */
async function listedTwice(given) {
  const { connection, list, told, id } = await listed(given);
  assert.equal(list.loadMore(), true);
  assert.deepEqual(await told.next(), { items: [1, 2], status: "loadingMore" });
  assert.equal(list.loadMore(), false);
  const [added] = (await connection.read("ModifyQuerySet")).modifications;
  assert.deepEqual(opts(added), { numItems: 2, cursor: "K1", id });
  connection.transition(2, [updated(1, page([3, 4], "K2", { isDone: true }), { journal: "J2" })], 2);
  assert.deepEqual(await told.next(), { items: [1, 2, 3, 4], status: "done" });
  assert.equal(list.loadMore(), false);
  return { connection, list, told, id };
}

withClient("a list grows by a page that begins where the last one ends", async (given) => {
  await listedTwice(given);
});

withClient("a transition that changes two pages is told once", async (given) => {
  const { connection, told } = await listedTwice(given);
  const before = told.told.length;
  connection.transition(3, [updated(0, page([1], "K1")), updated(1, page([2, 3, 4], "K2", { isDone: true }))]);
  assert.deepEqual(await told.next(), { items: [1, 2, 3, 4], status: "done" });
  assert.equal(told.told.length, before + 1);
});

withClient("pages keep their ends over a lost connection", async (given) => {
  const { connection } = await listedTwice(given);
  const next = given.server.greet();
  await connection.close(1012, "ServerShutdown");
  given.tick(1_500);
  const { modifications } = await next;
  assert.deepEqual(modifications.map(({ journal }) => journal), ["J1", "J2"]);
});

withClient("a page that has grown is cut in two, without a step in between", async (given) => {
  const { connection, told, id } = await listedTwice(given);
  const grown = page([1, 1.2, 1.4, 1.6, 2], "K1", { splitCursor: "K0" });
  connection.transition(3, [updated(0, grown)]);
  assert.deepEqual((await told.next()).items, [1, 1.2, 1.4, 1.6, 2, 3, 4]);
  const halves = (await connection.read("ModifyQuerySet")).modifications;
  assert.deepEqual(halves.map(opts), [
    { numItems: 2, cursor: null, endCursor: "K0", id },
    { numItems: 2, cursor: "K0", endCursor: "K1", id },
  ]);
  connection.transition(4, [updated(2, page([1, 1.2, 1.4], "K0"))]);
  assert.equal((await told.next()).items.length, 7);
  connection.transition(5, [updated(3, page([1.6, 2], "K1"))], 3);
  assert.deepEqual(await told.next(), { items: [1, 1.2, 1.4, 1.6, 2, 3, 4], status: "done" });
  const { modifications } = await connection.read("ModifyQuerySet");
  assert.deepEqual(modifications, [{ type: "Remove", queryId: 0 }]);
});

withClient("a page that must be split is not shown before it is", async (given) => {
  const { connection, told } = await listedTwice(given);
  connection.transition(3, [updated(0, page([1], "K1", { splitCursor: "K0", pageStatus: "SplitRequired" }))]);
  assert.deepEqual(await told.next(), { items: [], status: "loadingMore" });
  await connection.read("ModifyQuerySet");
  connection.transition(4, [updated(2, page([1], "K0")), updated(3, page([2], "K1"))], 3);
  assert.deepEqual(await told.next(), { items: [1, 2, 3, 4], status: "done" });
});

for (const [name, text, rest] of [
  ["by its data", "Server Error", { errorData: { isConvexSystemError: true, paginationError: "InvalidCursor" } }],
  ["by its text", "Server Error\nUncaught InvalidCursor: no\n", {}],
]) {
  withClient(`a cursor that is not valid any more starts the list over, known ${name}`, async (given) => {
    const { connection, told, id } = await listedTwice(given);
    connection.transition(3, [failed(1, text, rest)]);
    assert.deepEqual(await told.next(), { items: [], status: "loading" });
    const { modifications } = await connection.read("ModifyQuerySet");
    assert.deepEqual(modifications.map(({ type }) => type), ["Remove", "Remove", "Add"]);
    const first = opts(modifications[2]);
    assert.equal(first.cursor, null);
    assert.notEqual(first.id, id);
    connection.transition(4, [updated(2, page([9], "K9", { isDone: true }))], 3);
    assert.deepEqual(await told.next(), { items: [9], status: "done" });
  });
}

withClient("another failure is told, and the list stands", async (given) => {
  const { connection, told } = await listed(given);
  connection.transition(2, [failed(0, "Server Error\nUncaught ValueError: no\n")]);
  assert.match((await told.next()).message, /ValueError: no/);
  assert.deepEqual(await connection.unread(), []);
});

withClient("a query that returns no page is an error", async ({ server, client }) => {
  const told = recorder();
  client.paginate("rows:list", {}, { pageSize: 2 }, told.onValue, told.onError);
  const { connection } = await server.greet();
  connection.transition(1, [updated(0, [1, 2])], 1);
  assert.match((await told.next()).message, /does not return a page/);
  assert.throws(() => client.paginate("rows:list", {}, {}, told.onValue), TypeError);
});

withClient("a list that is stopped leaves nothing behind", async (given) => {
  const { connection, list, told } = await listedTwice(given);
  const before = told.told.length;
  list.stop();
  const { modifications } = await connection.read("ModifyQuerySet");
  assert.deepEqual(modifications.map(({ type }) => type), ["Remove", "Remove"]);
  assert.equal(list.loadMore(), false);
  assert.equal(told.told.length, before);
});

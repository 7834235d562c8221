// The official npm client signs users in, with tokens that are made here: accepted, refreshed, expired, refused.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { anyApi } from "convex/server";
import { token } from "./tokens.js";

const api = anyApi.me;
const url = process.env.TIDEWELL_URL;
const opened = [];
after(() => Promise.all(opened.map((client) => client.close())));

function open() {
  const client = new ConvexClient(url, { logger: false });
  opened.push(client);
  return client;
}

/** Sign a client in with tokens of `next(forced, count)`; says what it asked for and what it reported. */
function signIn(client, next) {
  const told = { asked: [], reported: [], waiting: [] };
  const note = () => {
    told.waiting = told.waiting.filter(({ holds, resolve }) => !holds() || resolve());
  };
  told.until = (holds) =>
    new Promise((resolve) => {
      told.waiting.push({ holds, resolve });
      note();
    });
  client.setAuth(
    async ({ forceRefreshToken }) => {
      told.asked.push(forceRefreshToken);
      note();
      return next(forceRefreshToken, told.asked.length);
    },
    (isAuthenticated) => {
      told.reported.push(isAuthenticated);
      note();
    },
  );
  return told;
}

test("a token is accepted, and a fresh one asked for and sent at once", { timeout: 60_000 }, async () => {
  const client = open();
  const told = signIn(client, () => token("ada", 3600, { name: "Ada", email_verified: true, org: { id: 7 } }));
  const seen = [];
  client.onUpdate(api.who, {}, (value) => seen.push(value));
  await told.until(() => told.asked.length === 2);
  assert.deepEqual(await client.query(api.who, {}), {
    tokenIdentifier: `${process.env.ISSUER}|ada`,
    issuer: process.env.ISSUER,
    subject: "ada",
    name: "Ada",
    emailVerified: true,
    email_verified: true,
    "org.id": 7,
  });
  assert.deepEqual(told.asked, [false, true]);
  assert.ok(told.reported.every(Boolean)); // once for each token that is confirmed by now
  assert.deepEqual(
    seen.map((identity) => identity.subject),
    ["ada"],
    "the page never showed anybody else, and a fresh token of the same user changes nothing",
  );
});

test("a token is refreshed before it expires, and nobody notices", { timeout: 60_000 }, async () => {
  const client = open();
  const told = signIn(client, () => token("ada", 12)); // the client refreshes 10 s before the end
  const seen = [];
  client.onUpdate(api.who, {}, (value) => seen.push(value.subject));
  await told.until(() => told.asked.length >= 4);
  assert.equal(await client.mutation(api.touch, { name: "refreshed" }), "ada");
  assert.deepEqual(told.reported.includes(false), false);
  assert.deepEqual(seen, ["ada"]);
});

test("a token that expires in use is replaced, and every mutation counts once", { timeout: 60_000 }, async () => {
  const client = open();
  // Without `iat` the client does not know when to refresh. It expired just now, which is within the tolerance.
  const first = token("ada", -3, { iat: undefined });
  const told = signIn(client, (_, count) => (count <= 2 ? first : token("ada", 3600)));
  await told.until(() => told.reported.length > 0);
  let made = 0;
  while (told.asked.length < 3) {
    assert.equal(await client.mutation(api.touch, { name: "expiring" }), "ada");
    made += 1;
  }
  assert.ok(made > 1, "it was valid at first");
  assert.equal(await client.query(api.touches, { name: "expiring" }), made);
  assert.deepEqual(told.reported.includes(false), false);
});

test("a token of a stranger is refused, and the client goes on as nobody", { timeout: 60_000 }, async () => {
  const client = open();
  const told = signIn(client, () => token("ada", 3600, { iss: "https://evil.example" }));
  await told.until(() => told.reported.length > 0);
  assert.deepEqual(told.reported, [false]);
  assert.equal(await client.query(api.who, {}), null);
});

test("another user is shown what is theirs, and nobody what is nobody's", { timeout: 60_000 }, async () => {
  const client = open();
  const shown = (name) =>
    new Promise((resolve) => {
      const stop = client.onUpdate(api.who, {}, (value) => {
        if ((value && value.subject) !== name) return;
        queueMicrotask(() => stop());
        resolve();
      });
    });
  for (const name of ["ada", "bob"]) {
    const told = signIn(client, () => token(name, 3600));
    await shown(name);
    await told.until(() => told.asked.length === 2);
    assert.equal(await client.mutation(api.touch, { name: "in turn" }), name);
  }
  client.client.clearAuth();
  await shown(null);
  assert.equal(await client.mutation(api.touch, { name: "in turn" }), null);
});

test("over HTTP", async () => {
  const http = new ConvexHttpClient(url, { logger: false });
  assert.equal(await http.query(api.who, {}), null);
  http.setAuth(token("ada", 3600));
  assert.equal((await http.query(api.who, {})).subject, "ada");
  assert.equal(await http.mutation(api.touch, { name: "http" }), "ada");
  http.setAuth(token("ada", -60));
  await assert.rejects(http.query(api.who, {}), (error) => JSON.parse(error.message).code === "Unauthenticated");
  http.setAuth(token("ada", 3600, { aud: "else" }));
  await assert.rejects(http.query(api.who, {}), (error) => JSON.parse(error.message).code === "NoAuthProvider");
  http.setAuth("not a token");
  await assert.rejects(http.query(api.who, {}), (error) => JSON.parse(error.message).code === "InvalidAuthHeader");
});

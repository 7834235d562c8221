// Signing in: who is sent when, what is asked of the application, and what it is told.

import assert from "node:assert/strict";
import { updated } from "./scripted_server.js";
import { recorder, withClient } from "./with_client.js";

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A token with a lifetime, which the client reads, and no signature, which it does not. */
function token(name, lifetime = 3600) {
  return `${part({ alg: "ES256" })}.${part({ sub: name, note: "für ÿ", iat: 1_000, exp: 1_000 + lifetime })}.c2ln`;
}

/** Signs the client in; the test answers what it is asked for, one question after the other. */
function signIn(client) {
  const asked = [];
  const arrived = [];
  const reports = recorder();
  client.setAuth(
    ({ forceRefreshToken }) =>
      new Promise((resolve, reject) => {
        const question = { forceRefreshToken, resolve, reject };
        const reader = arrived.shift();
        if (reader) reader(question);
        else asked.push(question);
      }),
    (isAuthenticated) => reports.onValue(isAuthenticated),
  );
  /** The next question, which must be for a fresh token or need not be. */
  const question = async (isForced) => {
    const next = asked.shift() ?? (await new Promise((resolve) => arrived.push(resolve)));
    assert.equal(next.forceRefreshToken, isForced);
    return next;
  };
  return { question, reports, asked };
}

async function readToken(connection) {
  const { type, ...rest } = await connection.read("Authenticate");
  return rest;
}

const user = (baseVersion, value) => ({ baseVersion, tokenType: "User", value });

/** A client that is signed in with a fresh token "b", on a socket at identity 2. */
async function signedIn({ server, client }) {
  const auth = signIn(client);
  const connection = await server.accept();
  await connection.read("Connect");
  (await auth.question(false)).resolve(token("a"));
  assert.deepEqual(await readToken(connection), user(0, token("a")));
  await connection.read("ModifyQuerySet");
  connection.transition(1, [], 1, 1);
  (await auth.question(true)).resolve(token("b"));
  assert.deepEqual(await readToken(connection), user(1, token("b")));
  connection.transition(2, [], 1, 2);
  assert.deepEqual(await connection.unread(), []);
  assert.deepEqual(auth.reports.told, [true]);
  return { ...auth, connection };
}

/** Let time pass, with a server that is heard all the while. */
async function pass(ms, { connection, tick }) {
  for (let passed = 0; passed < ms; passed += 50_000) {
    tick(Math.min(50_000, ms - passed));
    connection.send({ type: "Ping" });
    await connection.unread();
  }
}

withClient("nothing is sent before the token, and then the token first", async ({ server, client }) => {
  const { question } = signIn(client);
  client.subscribe("q:mine", {}, () => {});
  const connection = await server.accept();
  await connection.read("Connect");
  const call = client.mutation("m:add");
  client.action("a:go").catch(() => {});
  assert.deepEqual(await connection.unread(), []);
  (await question(false)).resolve(token("a"));
  assert.deepEqual(await readToken(connection), user(0, token("a")));
  assert.equal((await connection.read("ModifyQuerySet")).modifications.length, 1);
  await connection.read("Mutation");
  await connection.read("Action");
  connection.committed(0, 1, "done");
  connection.transition(1, [updated(0, "mine")], 1, 1);
  assert.equal(await call, "done");
});

withClient("on an open socket, what is called after setAuth waits for the token", async ({ server, client }) => {
  const { connection } = await server.greet();
  const { question } = signIn(client);
  client.subscribe("q:mine", {}, () => {});
  client.mutation("m:add").catch(() => {});
  assert.deepEqual(await connection.unread(), []);
  (await question(false)).resolve(token("a"));
  assert.deepEqual(await readToken(connection), user(0, token("a")));
  assert.deepEqual(await connection.read("ModifyQuerySet").then(({ baseVersion }) => baseVersion), 1);
  await connection.read("Mutation");
});

withClient("an accepted token is reported, and replaced by a fresh one at once", async ({ server, client }) => {
  await signedIn({ server, client });
});

withClient("a fresh token that is the same is not sent again, and is renewed in time", async ({ server, client, tick }) => {
  const { question, asked, reports } = signIn(client);
  const connection = await server.accept();
  await connection.read("Connect");
  (await question(false)).resolve(token("a"));
  await readToken(connection);
  await connection.read("ModifyQuerySet");
  connection.transition(1, [], 1, 1);
  (await question(true)).resolve(token("a"));
  assert.deepEqual(await connection.unread(), []);
  await pass(3_589_000, { connection, tick });
  assert.equal(asked.length, 0);
  assert.deepEqual(reports.told, [true]);
  tick(1_000);
  (await question(true)).resolve(token("c"));
  assert.deepEqual(await readToken(connection), user(1, token("c")));
});

withClient("a token is renewed ten seconds before its end, and sending goes on meanwhile", async (given) => {
  const { question, asked, connection } = await signedIn(given);
  await pass(3_589_000, { connection, tick: given.tick });
  assert.equal(asked.length, 0);
  given.tick(1_000);
  const asking = await question(true);
  given.client.mutation("m:meanwhile").catch(() => {});
  await connection.read("Mutation");
  asking.resolve(token("c"));
  assert.deepEqual(await readToken(connection), user(2, token("c")));
});

withClient("a refused token is replaced by a fresh one on a new socket", async ({ server, client, tick }) => {
  const { question, reports, connection } = await signedIn({ server, client });
  const call = client.mutation("m:add");
  await connection.read("Mutation");
  await connection.refuseToken(1, true);
  const asking = await question(true);
  const next = server.accept();
  tick(150);
  const second = await next;
  assert.equal((await second.read("Connect")).lastCloseReason, "AuthError");
  assert.deepEqual(await second.unread(), []);
  asking.resolve(token("c"));
  assert.deepEqual(await readToken(second), user(0, token("c")));
  await second.read("ModifyQuerySet");
  await second.read("Mutation");
  second.committed(0, 5, "done");
  second.transition(5, [], 1, 1);
  assert.equal(await call, "done");
  assert.deepEqual(reports.told, [true]);
});

withClient("three refused tokens are enough: the client goes on as nobody and says so", async ({ server, client, tick }) => {
  const { question, reports, asked } = signIn(client);
  let next = server.accept();
  (await question(false)).resolve(token("bad0"));
  for (const number of [0, 1, 2]) {
    const connection = await next;
    await connection.read("Connect");
    assert.deepEqual(await readToken(connection), user(0, token(`bad${number}`)));
    await connection.read("ModifyQuerySet");
    next = server.accept();
    const told = number === 2 ? reports.next() : undefined;
    await connection.refuseToken(0, true);
    if (told) assert.equal(await told, false);
    else (await question(true)).resolve(token(`bad${number + 1}`));
    tick(1_000);
  }
  const connection = await next;
  await connection.read("Connect");
  await connection.read("ModifyQuerySet");
  assert.deepEqual(await connection.unread(), []);
  assert.deepEqual(reports.told, [false]);
  assert.equal(asked.length, 0);
});

withClient("a token that expires in use is replaced, and nobody is told", async ({ server, client, tick }) => {
  const { question, reports, connection } = await signedIn({ server, client });
  const next = server.accept();
  await connection.refuseToken(2, false);
  (await question(true)).resolve(token("c"));
  tick(150);
  const second = await next;
  await second.read("Connect");
  assert.deepEqual(await readToken(second), user(0, token("c")));
  await second.read("ModifyQuerySet");
  assert.deepEqual(reports.told, [true]);
});

withClient("a new socket begins with the token that is in force", async ({ server, client, tick }) => {
  const { connection, asked } = await signedIn({ server, client });
  const next = server.accept();
  await connection.close(1012, "ServerShutdown");
  tick(1_500);
  const second = await next;
  await second.read("Connect");
  assert.deepEqual(await readToken(second), user(0, token("b")));
  await second.read("ModifyQuerySet");
  second.transition(3, [], 1, 1);
  assert.deepEqual(await second.unread(), []);
  assert.equal(asked.length, 0);
});

withClient("an application without a token is asked twice, and then served as nobody", async ({ server, client }) => {
  const { question, reports } = signIn(client);
  const connection = await server.accept();
  await connection.read("Connect");
  (await question(false)).resolve(null);
  const told = reports.next();
  (await question(true)).reject(new Error("offline"));
  assert.equal(await told, false);
  await connection.read("ModifyQuerySet");
});

withClient("signing out is told to the server, and what comes later is nobody's", async ({ server, client }) => {
  const { connection, asked } = await signedIn({ server, client });
  client.clearAuth();
  client.mutation("m:add").catch(() => {});
  assert.deepEqual(await readToken(connection), { baseVersion: 2, tokenType: "None" });
  await connection.read("Mutation");
  connection.transition(3, [], 1, 3);
  assert.deepEqual(await connection.unread(), []);
  assert.equal(asked.length, 0);
});

withClient("the answer for a user who was replaced is not used", async ({ server, client }) => {
  const ada = signIn(client);
  const late = await ada.question(false);
  const bob = signIn(client);
  const connection = await server.accept();
  await connection.read("Connect");
  late.resolve(token("ada"));
  assert.deepEqual(await connection.unread(), []);
  (await bob.question(false)).resolve(token("bob"));
  assert.deepEqual(await readToken(connection), user(0, token("bob")));
});

// A page on tidewell.js that signs users in, in a real browser: accepted, expired in use, refused, signed out.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { openBrowser, openWindow } from "./browser.js";
import { token } from "./tokens.js";

const url = process.env.TIDEWELL_URL;
const problems = [];
let browser, page;
let asked; // what the page was asked for: whether the token had to be a fresh one
let next; // gives the token

const who = (name) => page.locator(`#who:text-is("${name}")`).waitFor();
const authState = (state) => page.locator(`#auth:text-is("${state}")`).waitFor();
const signIn = () => page.evaluate(() => signIn());
const touch = (name) => page.evaluate((name) => client.mutation("me:touch", { name }), name);

before(async () => {
  browser = await openBrowser();
});
beforeEach(async () => {
  page = await openWindow(browser, url, problems);
  asked = [];
  await page.exposeFunction("fetchToken", (isForced) => {
    asked.push(isForced);
    return next(asked.length);
  });
  await who("nobody");
});
after(async () => {
  await browser.close();
  assert.deepEqual(problems, []);
});

test("who signs in is known to queries and mutations, and is nobody after signing out", async () => {
  next = () => token("ada", 3600);
  await signIn();
  assert.equal(await touch("page"), "ada", "called before the token was there");
  await who("ada");
  await authState("true");
  await page.evaluate(() => client.clearAuth());
  await who("nobody");
  assert.equal(await touch("page"), null);
  assert.deepEqual(asked, [false, true]);
});

test("a token that expires in use is replaced, and every mutation counts once", async () => {
  // Without `iat` the client does not know when to renew it. It expired just now, which is within the tolerance.
  const first = token("ada", -3, { iat: undefined });
  next = (count) => (count <= 2 ? first : token("ada", 3600));
  await signIn();
  await authState("true");
  let made = 0;
  while (asked.length < 3) {
    assert.equal(await touch("page expiring"), "ada");
    made += 1;
  }
  assert.equal(await page.evaluate(() => client.query("me:touches", { name: "page expiring" })), made);
  await authState("true");
});

test("a token of a stranger is refused, and the page goes on as nobody", async () => {
  next = () => token("ada", 3600, { iss: "https://evil.example" });
  await signIn();
  await authState("false");
  assert.equal(await touch("page"), null);
  assert.equal(asked.length, 3);
});

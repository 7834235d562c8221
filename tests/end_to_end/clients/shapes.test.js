// The shapes of the public quick starts, built by Vite, each in two windows of a real browser.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, test } from "node:test";
import { openBrowser, openWindow } from "./browser.js";
import { token } from "./tokens.js";

const url = process.env.TIDEWELL_URL;
const shapes = path.join(process.env.FUNCTIONS, "shapes.py");
const problems = [];
const ends = new Set(); // ends of pages that the clients have fixed, which they do when they split a page
let browser, ada, bob;

async function open(name, tokenFor = (person) => token(person, 3600)) {
  const page = await openWindow(browser, "about:blank", problems);
  await page.exposeFunction("tokenFor", tokenFor);
  page.on("websocket", (socket) =>
    socket.on("framesent", ({ payload }) => {
      for (const { args } of JSON.parse(payload).modifications ?? []) {
        if (args?.[0].paginationOpts?.endCursor) ends.add(args[0].paginationOpts.endCursor);
      }
    }),
  );
  await page.goto(`${url}/#${name}`);
  return page;
}

const rendered = (page, what) => page.evaluate((name) => window.rendered[name], what);
const mutate = (page, name, args) => page.evaluate(([name, args]) => window.mutation(name, args), [name, args]);
const shows = (page, place, text) => page.locator(`${place} output:text-is("${text}")`).waitFor();

before(async () => {
  browser = await openBrowser();
  [ada, bob] = await Promise.all([open("ada"), open("bob")]);
});
after(async () => {
  await browser.close();
  assert.deepEqual(problems, []);
});

test("a chat list: what one window sends is in both, in the same order", async () => {
  const said = ["ada: hello", "bob: hi", "ada: how are you?"];
  for (const line of said) {
    const [author, body] = line.split(": ");
    const page = author === "ada" ? ada : bob;
    await page.fill("#chat input", body);
    await page.press("#chat input", "Enter");
    for (const each of [ada, bob]) await each.locator("#chat li", { hasText: line }).waitFor();
  }
  for (const page of [ada, bob]) assert.deepEqual(await page.locator("#chat li").allTextContents(), said);
});

test("an infinite scroll: pages stay adjacent while rows come and go, and are split when they grow", async () => {
  const states = [[]]; // all that the table has ever held, in order
  const change = async (name, numbers) => {
    const before = states.at(-1).filter((number) => name === "add_rows" || !numbers.includes(number));
    states.push([...before, ...(name === "add_rows" ? numbers : [])].sort((a, b) => a - b));
    await mutate(bob, name, { numbers });
  };
  const both = async (numbers) => {
    for (const page of [ada, bob]) await shows(page, "#rows", numbers.join(" "));
  };
  const more = async () => {
    for (const page of [ada, bob]) await page.click('#rows button:text-is("CanLoadMore")');
  };
  const upTo = (most) => states.at(-1).filter((number) => number <= most);

  // What is added to the empty list belongs to its only page, which has no end. New windows begin anew.
  await change("add_rows", [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
  for (const page of [ada, bob]) await page.reload();
  await both(upTo(40));
  ends.clear();
  await more();
  await both(upTo(80));

  await change("add_rows", [15, 45, 85]); // in the first page, in the second, behind both
  await both(upTo(80));
  await change("add_rows", [41, 42]); // just behind the first page's end
  await both(upTo(80));
  await change("remove_rows", [40, 80]); // the rows at which the pages end
  await both(upTo(80));
  await change("remove_rows", [41, 45]); // the rows at which the second page began
  await both(upTo(80));
  assert.equal(ends.size, 0, "no page has been large enough for a split");

  await change("add_rows", [11, 12, 13, 14, 16, 17, 18, 19]);
  await both(upTo(80));
  await change("remove_rows", [12, 14, 17]);
  await change("add_rows", [12.5, 30.5]);
  await both(upTo(80));

  await more();
  await both(states.at(-1));
  await change("add_rows", [1000]); // the last page has no end
  await both(states.at(-1));

  assert.ok(ends.size > 0, "a page of more than twice its size was split");
  for (const page of [ada, bob]) {
    await page.locator('#rows button:text-is("Exhausted")').waitFor();
    const renders = await rendered(page, "rows");
    const known = new Set(states.flatMap((state) => state.map((_, i) => state.slice(0, i + 1).join())));
    for (const { numbers } of renders) {
      assert.ok(numbers.length === 0 || known.has(numbers.join()), `a gap or an overlap: ${numbers}`);
    }
    const statuses = renders.map(({ status }) => status).filter((status, i, all) => status !== all[i - 1]);
    const loads = ["CanLoadMore", "LoadingMore"];
    assert.deepEqual(statuses, ["LoadingFirstPage", ...loads, ...loads, "Exhausted"]);
  }
});

test("a page that must be split is shown once it is, and then without a gap", async () => {
  const received = [];
  const cleo = await open("cleo");
  cleo.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => received.push(payload)));
  await cleo.reload();
  await mutate(bob, "add_rows", { numbers: Array.from({ length: 60 }, (_, i) => 2000 + i) });
  const tens = [10, 20, 30, 50, 60, 70, 90, 100, 1000, 2000, 2010, 2020, 2030, 2040, 2050];
  const button = (status) => cleo.locator(`#tens button:text-is("${status}")`);
  for (;;) {
    await button("CanLoadMore").or(button("Exhausted")).waitFor();
    if (await button("Exhausted").isVisible()) break;
    await button("CanLoadMore")
      .click({ timeout: 1000 })
      .catch(() => {}); // the last page came meanwhile
  }
  await shows(cleo, "#tens", tens.join(" "));
  assert.ok(
    received.some((frame) => frame.includes('"SplitRequired"')),
    "a page was too large",
  );
  for (const { numbers } of await rendered(cleo, "tens")) {
    const inOrder = tens.filter((number) => numbers.includes(number));
    assert.deepEqual(numbers, inOrder);
    assert.ok(numbers.length === 0 || numbers.at(-1) === tens[numbers.length - 1], `a gap: ${numbers}`);
  }
  await cleo.close();
});

test("cursors of a query that was changed since: the list begins anew by itself", async () => {
  const dora = await open("dora");
  await dora.click('#rows button:text-is("CanLoadMore")');
  const two = dora.locator("#rows output");
  await dora.waitForFunction(() => document.querySelector("#rows output").textContent.split(" ").length >= 8);
  const forwards = (await two.textContent()).split(" ").map(Number);
  const source = await readFile(shapes, "utf8");
  const order = '.with_index("by_number").paginate(';
  assert.ok(source.includes(order));
  await writeFile(shapes, source.replace(order, '.with_index("by_number").order("desc").paginate('));
  await shows(dora, "#rows", "2059 2058 2057 2056");
  await dora.click('#rows button:text-is("CanLoadMore")');
  await shows(dora, "#rows", "2059 2058 2057 2056 2055 2054 2053 2052");
  await writeFile(shapes, source);
  await shows(dora, "#rows", forwards.slice(0, 4).join(" "));
  for (const { numbers } of await rendered(dora, "rows")) {
    const sorted = numbers.toSorted((a, b) => a - b);
    if (numbers[0] > numbers.at(-1)) sorted.reverse();
    assert.deepEqual(numbers, sorted, "pages of the two orders were mixed");
  }
  await dora.close();
});

test("a form with an optimistic update: every value once, and a refused one taken back", async () => {
  await shows(ada, "#counter", "0");
  await shows(bob, "#counter", "0");
  for (let count = 1; count <= 5; count++) {
    await ada.click('text="one more"');
    await shows(bob, "#counter", String(count));
  }
  await ada.evaluate(() => {
    const button = document.querySelector("#counter button");
    for (let i = 0; i < 20; i++) button.click();
  });
  await shows(bob, "#counter", "25");
  await ada.click('text="too much"');
  await ada.locator('[role="alert"]:text-is("TOO_MUCH")').waitFor();
  await shows(ada, "#counter", "25");

  const steps = async (page) => (await rendered(page, "counts")).filter((count, i, all) => count !== all[i - 1]);
  const [own, others] = [await steps(ada), await steps(bob)];
  const refused = own.indexOf(125);
  assert.deepEqual(own.slice(refused), [125, 25], "it was shown at once, and taken back");
  for (const counts of [own.slice(0, refused), others]) {
    assert.equal(counts[0], 0);
    assert.deepEqual(
      counts,
      [...new Set(counts)].sort((a, b) => a - b),
      "a value went back",
    );
    assert.equal(counts.at(-1), 25);
  }
});

test("a signed-in page: everyone sees what is theirs, and it is gone after signing out", async () => {
  for (const [page, name] of [
    [ada, "ada"],
    [bob, "bob"],
  ]) {
    await page.click('text="Sign in"');
    await shows(page, "#door", `${name}: `);
    await page.click('text="keep"');
    await shows(page, "#door", `${name}: of ${name}`);
  }
  await ada.click('text="Sign out"');
  await ada.locator('text="Sign in"').waitFor();
  await assert.rejects(mutate(ada, "keep_secret", { text: "nobody's" }), /SIGNED_OUT/);
  await bob.click('text="keep"');
  await shows(bob, "#door", "bob: of bob, of bob");

  await ada.click('text="Sign in"');
  await shows(ada, "#door", "ada: of ada");
  for (const [page, name] of [
    [ada, "ada"],
    [bob, "bob"],
  ]) {
    assert.deepEqual(new Set(await rendered(page, "secrets")), new Set([name]));
  }
  const changes = (await rendered(ada, "auth")).filter((state, i, all) => state !== all[i - 1]);
  assert.deepEqual(
    changes.filter((state) => state !== "loading"),
    ["out", "in", "out", "in"],
  );
});

test("a token that ends soon is renewed in the page, and nobody notices", async () => {
  const lifetime = 13; // seconds; the client renews 10 s before the end
  let asked = 0;
  let renewed;
  const third = new Promise((resolve) => (renewed = resolve)); // two for signing in, and a renewal
  const brief = await open("brief", (person) => {
    if (++asked === 3) renewed();
    return token(person, lifetime);
  });
  const identities = [];
  brief.on("websocket", (socket) =>
    socket.on("framereceived", ({ payload }) => {
      const { type, endVersion } = JSON.parse(payload);
      if (type === "Transition") identities.push(endVersion.identity);
    }),
  );
  await brief.reload();
  await brief.click('text="Sign in"');
  await shows(brief, "#door", "brief: ");
  await third;
  await brief.click('text="keep"');
  await shows(brief, "#door", "brief: of brief");
  assert.ok(Math.max(...identities) >= 3, `identities ${identities}`);
  const states = (await rendered(brief, "auth")).filter((state, i, all) => state !== all[i - 1]);
  assert.deepEqual(states.slice(states.indexOf("in")), ["in"]);
  await brief.close();
});

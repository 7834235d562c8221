// A growing list on tidewell.js in a real browser: pages, inserts and removals in each, cutting, other lists beside it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openBrowser, openWindow } from "./browser.js";

const problems = [];
let browser, page;

const fill = (...numbers) => page.evaluate((numbers) => client.mutation("rows:fill", { numbers }), numbers);
const remove = (number) => page.evaluate((number) => client.mutation("rows:remove", { number }), number);
const loadMore = () => page.evaluate(() => list.loadMore());
const shows = async (numbers, status) => {
  await page.locator(`#rows:text-is("${numbers.join(" ")}")`).waitFor({ state: "attached" });
  await page.locator(`#status:text-is("${status}")`).waitFor();
};

before(async () => {
  browser = await openBrowser();
  page = await openWindow(browser, process.env.TIDEWELL_URL, problems);
});
after(async () => {
  await browser.close();
  assert.deepEqual(problems, []);
});

test("an empty list is done, and its one page takes what is added", async () => {
  await shows([], "done");
  await fill(10, 20);
  await shows([10, 20], "done");
});

test("a list begins with one page and grows by another each time", async () => {
  await fill(30, 40, 50, 60, 70);
  await page.reload();
  await shows([10, 20, 30], "more");
  assert.equal(await loadMore(), true);
  await shows([10, 20, 30, 40, 50, 60], "more");
  assert.equal(await loadMore(), true);
  await shows([10, 20, 30, 40, 50, 60, 70], "done");
  assert.equal(await loadMore(), false);
});

test("rows come and go in every page, and none is shown twice or left out", async () => {
  const numbers = [10, 20, 30, 40, 50, 60, 70];
  for (const number of [5, 25, 35, 65, 80]) {
    await fill(number);
    numbers.push(number);
    numbers.sort((a, b) => a - b);
    await shows(numbers, "done");
  }
  for (const number of [30, 40, 10]) {
    await remove(number);
    numbers.splice(numbers.indexOf(number), 1);
    await shows(numbers, "done");
  }
});

test("a page that grows to more than twice its size is cut, and the list never shows it", async () => {
  const before = await page.evaluate(() => told.length);
  const added = [1, 2, 3, 4, 6, 7, 8, 9];
  await fill(...added);
  await fill(90);
  const whole = [1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 25, 35, 50, 60, 65, 70, 80, 90];
  await shows(whole, "done");
  await fill(0);
  await shows([0, ...whole], "done");
  for (const shown of (await page.evaluate(() => told)).slice(before)) {
    const numbers = shown.split(" ").map(Number);
    assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b));
    assert.ok(added.every((number) => numbers.includes(number)), "all of one commit, in every state");
  }
});
